"""The state of a training run, and checkpoints that survive a kill.

The state is Flax's `TrainState` with what our loops need beside it. A checkpoint is one NumPy archive with the arrays and
the numbers of a state: written beside the file, flushed to the disk, then renamed onto it. A reader finds the old checkpoint
or the new one, complete.

Why not orbax-checkpoint (0.12.8, whose CheckpointManager was tried in its place; ``benchmarks/checkpoints.py``, record in
benchmarks/results/checkpoints.json): both came through kill -9 at random moments of saving (30 kills each: a complete checkpoint
every time, never older than the last one that was said to be saved), and both kept the last checkpoint on a full disk. But

- one changed bit in the arrays is noticed here, by the checksums of the archive; orbax loads wrong numbers in silence;
- a save of Adam's state of 10⁴, 3·10⁵ and 2·10⁶ parameters takes 0.02, 0.07 and 0.30 s here, 0.15, 0.22 and 0.75 s with orbax, and
  no less in the background, since the next step saves again (a busy machine with two cores, both in one process);
- importing orbax takes 1.1 s more, after jax, optax and Flax (0.6 s);
- what a kill leaves is one file beside the checkpoint, which the next run removes (_core/temporaries.py).
"""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from flax.training import train_state

from .._core.arrays_in import read_npz
from .._core.atomic_write import write_bytes
from .._core.fingerprint import FINGERPRINT
from .._core.reading import positive_number, reading, whole_number
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import optax

    from .._core.pytree import Array
    from .model import Model


FORMAT = 2


class TrainState(train_state.TrainState):
    """Everything that a continuation needs.

    Flax's own fields are `step` (updates tried), `apply_fn` (the energy of trained and frozen parameters), `params` (the
    parameters being trained), `tx` (the optimizer) and `opt_state`. Random numbers are functions of seed and step: nothing of
    theirs is kept.
    """

    step: int
    average: Any = None  #: exponential moving average of `params`
    best: Any = None  #: `params` (or their average) of the best epoch
    update: Any = ()  #: the last update that was applied, in case it must be taken back
    epoch: int = struct.field(pytree_node=False, default=0)  #: epochs that are done
    position: int = struct.field(pytree_node=False, default=0)  #: steps of the present epoch that are done
    best_score: float = struct.field(pytree_node=False, default=float("inf"))  #: of the best epoch
    best_epoch: int = struct.field(pytree_node=False, default=-1)  #: its number; -1: none yet
    damping: float = struct.field(pytree_node=False, default=1.0)  #: factor on updates, halved when a step is rejected
    rejected: int = struct.field(pytree_node=False, default=0)  #: updates that were halved
    stable: bool = struct.field(pytree_node=False, default=False)  #: whether all modes have been real
    sums: dict[str, list[float]] = struct.field(pytree_node=False, default_factory=dict)  #: of the present epoch
    history: list[dict[str, Any]] = struct.field(pytree_node=False, default_factory=list)  #: one row per epoch

    def __repr__(self) -> str:
        count = sum(np.size(x) for x in jax.tree.leaves(self.params))
        best = f", best epoch {self.best_epoch} (score {self.best_score:.6g})" if self.best_epoch >= 0 else ""
        return f"TrainState(step {int(self.step)}, {self.epoch} epochs done{best}, {count} numbers are trained)"


def initial_state(model: Model, optimizer: optax.GradientTransformation, update: Any = ()) -> TrainState:
    """The state before the first step."""
    start = model.trained
    return settled(
        TrainState.create(apply_fn=model.energy, params=start, tx=optimizer, average=start, best=start, update=update)
    )


def settled(state: TrainState) -> TrainState:
    """The same numbers as arrays of the default device alone, as `load_state` gives them.

    A gradient comes out of the solver copied to all devices. Programs that take such arrays are compiled for all devices too,
    and round differently from those that take the numbers of a checkpoint: with a MACE and two devices the first loss after a
    continuation differed in the last digits. Steps that begin with settled states are the same programs on the same numbers,
    whether there was an interruption or not.
    """
    return state.replace(**{name: _settled(getattr(state, name)) for name in _ARRAYS})


def _settled(tree: Any) -> Any:
    # 0-dimensional numpy numbers would come back as other types than optax's
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), tree)


@dataclasses.dataclass(frozen=True)
class Callbacks:
    """What a caller wants done during a run; the loops themselves write nothing but the checkpoint."""

    before_material: Callable[[], None] = lambda: None  #: before each evaluation of a material, in `finetune`
    after_step: Callable[[TrainState], None] = lambda state: (
        None
    )  #: after an update (and its checkpoint, if there is one)
    after_epoch: Callable[[TrainState], None] = lambda state: (
        None
    )  #: the same after an epoch, and when a run is continued


NO_CALLBACKS = Callbacks()


def ema_decay(ema: float, step: int) -> float:
    """Decay of the moving average at a step: less at the beginning, so that the starting weights do not linger."""
    return min(ema, (1 + step) / (10 + step)) if ema else 0.0


def ema_update(average: Any, params: Any, decay: float | Array) -> Any:
    """decay · average + (1 - decay) · params."""
    return jax.tree.map(lambda a, x: decay * a + (1 - decay) * x, average, params)


def stale(state: TrainState, patience: int | None) -> bool:
    """Whether the score has not become better for `patience` epochs."""
    return patience is not None and state.epoch - 1 - state.best_epoch >= patience > 0


# --- checkpoints -----------------------------------------------------------------------------------------------------

_ARRAYS = ("params", "opt_state", "average", "best", "update")
_PLAIN = ("step", "epoch", "position", "best_score", "best_epoch", "damping", "rejected", "stable", "sums", "history")


def save_state(path: str | Path, state: TrainState, signature: Mapping[str, Any]) -> None:
    """Write a checkpoint. Readers see the old file or the new one, never a part.

    Args:
        signature: what must be the same for a continuation: names and values that JSON can hold.

    Raises:
        InputError: it cannot be written (a full disk, for instance); the old checkpoint is still there.
    """
    path = Path(path)
    leaves: dict[str, Any] = {n: jax.tree.leaves(getattr(state, n)) for n in _ARRAYS}
    arrays: dict[str, Any] = {f"{name}.{k}": np.asarray(leaf) for name, x in leaves.items() for k, leaf in enumerate(x)}
    plain = {name: getattr(state, name) for name in _PLAIN} | {"step": int(state.step)}
    text = json.dumps({"format": FORMAT, "signature": _json(signature), **plain})
    content = io.BytesIO()
    np.savez(content, **{"_plain": np.array(text), **arrays})
    write_bytes(path, content.getvalue(), "the last checkpoint is still whole; free some space and go on")


def load_state(path: str | Path, like: TrainState, signature: Mapping[str, Any]) -> TrainState:
    """Read a checkpoint into the structure of a fresh state.

    Raises:
        InputError: a file that is damaged, or one of a run with other settings, with what changed.
    """
    path = Path(path)
    with reading(path, "a checkpoint of this run", "remove it to begin anew"):
        file = read_npz(path)
        plain = json.loads(str(file["_plain"]))
        if plain.pop("format") != FORMAT:
            raise KeyError("format")
        if changed := changes(plain.pop("signature"), signature):
            raise InputError(
                f"{path} belongs to a run with other settings: {changed}: set it back, name another output, or begin anew"
            )
        found: dict[str, Any] = {}
        for name in _ARRAYS:
            leaves, structure = jax.tree.flatten(getattr(like, name))
            stored = [file[f"{name}.{k}"] for k in range(len(leaves))]
            if any(not _alike(a, b) for a, b in zip(leaves, stored, strict=True)):
                raise KeyError(name)
            found[name] = _settled(jax.tree.unflatten(structure, stored))
        return like.replace(**found, **_checked(plain))


def _alike(a: Any, b: np.ndarray) -> bool:
    """Whether a stored array is of the shape and kind of a fresh one."""
    return np.shape(a) == np.shape(b) and np.asarray(a).dtype.kind == b.dtype.kind


def _checked(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of a checkpoint, if they are those of a run; KeyError or InputError otherwise."""
    for name in ("step", "epoch", "position", "rejected"):
        whole_number(plain[name], name, 0, 2**62)
    whole_number(plain["best_epoch"], "best_epoch", -1, plain["epoch"])
    positive_number(plain["damping"], "damping")
    rows = all(isinstance(row, dict) for row in plain["history"]) and isinstance(plain["history"], list)
    sums = isinstance(plain["sums"], dict) and all(isinstance(x, list) for x in plain["sums"].values())
    if not (rows and sums and isinstance(plain["stable"], bool) and isinstance(plain["best_score"], float | int)):
        raise InputError("its history, sums or scores are damaged")
    if np.isnan(plain["best_score"]):
        raise InputError("its best score is no number")
    return {name: plain[name] for name in _PLAIN}


def changes(before: Mapping[str, Any], now: Mapping[str, Any], most: int = 4) -> str:
    """What differs between two signatures, in words; empty if nothing does."""
    now = _json(now)
    found = []
    for name in [*before, *(n for n in now if n not in before)]:
        old, new = before.get(name), now.get(name)
        if old != new:
            found.append(f"{name} changed" if _fingerprint(old, new) else f"{name} was {_word(old)}, now {_word(new)}")
    return ", ".join(found[:most] + ([f"and {len(found) - most} more"] if len(found) > most else []))


def _fingerprint(*values: Any) -> bool:
    return any(isinstance(v, str) and v.startswith(FINGERPRINT) for v in values)


def _word(value: Any) -> str:
    return "not given" if value is None else json.dumps(value, ensure_ascii=False)


def _json(signature: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(signature), default=str))


__all__ = [
    "NO_CALLBACKS",
    "Callbacks",
    "TrainState",
    "changes",
    "ema_decay",
    "ema_update",
    "initial_state",
    "load_state",
    "save_state",
    "settled",
    "stale",
]
