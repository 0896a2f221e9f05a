"""The state of a training run, and checkpoints that survive a kill: written aside, flushed, then renamed."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from .._core.pytree import Array


FORMAT = 1


@dataclasses.dataclass
class State:
    """Everything that a continuation needs. Random numbers are functions of (seed, step): nothing of theirs is kept."""

    trained: Any  # pytree of arrays: the numbers being trained
    optimizer: Any  # optax's state
    average: Any  # exponential moving average of `trained`
    best: Any  # `trained` (or its average) of the best epoch
    update: Any  # last update that was applied, in case it must be taken back
    step: int = 0  # updates tried
    epoch: int = 0
    position: int = 0  # batches of this epoch that are done
    best_score: float = float("inf")
    best_epoch: int = -1
    damping: float = 1.0  # factor on updates; halved when a step is rejected
    rejected: int = 0
    stable: bool = False  # whether the accepted parameters have had only real modes
    sums: dict[str, list[float]] = dataclasses.field(default_factory=dict)  # of the epoch under way
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)  # one row per epoch


def ema_decay(ema: float, step: int) -> float:
    """Decay of the moving average at a step: less at the beginning, so that the starting weights do not linger."""
    return min(ema, (1 + step) / (10 + step)) if ema else 0.0


def ema_update(average: Any, trained: Any, decay: float | Array) -> Any:
    """decay · average + (1 - decay) · trained."""
    return jax.tree.map(lambda a, x: decay * a + (1 - decay) * x, average, trained)


_ARRAYS = ("trained", "optimizer", "average", "best", "update")


def save_state(path: str | Path, state: State, signature: str) -> None:
    """Write a checkpoint. A reader sees the old file or the new one, never a part.

    Args:
        signature: what must be the same for a continuation.
    """
    path = Path(path)
    leaves: dict[str, Any] = {n: jax.tree.leaves(getattr(state, n)) for n in _ARRAYS}
    arrays: dict[str, Any] = {f"{name}.{k}": np.asarray(leaf) for name, x in leaves.items() for k, leaf in enumerate(x)}
    plain = {f.name: getattr(state, f.name) for f in dataclasses.fields(state) if f.name not in _ARRAYS}
    text = json.dumps({"format": FORMAT, "signature": signature, **plain})
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.savez(file, **{"_plain": np.array(text), **arrays})
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def load_state(path: str | Path, like: State, signature: str) -> State:
    """Read a checkpoint into the structure of a fresh state.

    Raises:
        InputError: a file that is damaged, or of a run with other settings.
    """
    path = Path(path)
    try:
        with path.open("rb") as opened, np.load(opened) as file:
            plain = json.loads(str(file["_plain"]))
            found: dict[str, Any] = {}
            for name in _ARRAYS:
                leaves, structure = jax.tree.flatten(getattr(like, name))
                stored = [file[f"{name}.{k}"] for k in range(len(leaves))]
                if any(np.shape(a) != np.shape(b) for a, b in zip(leaves, stored, strict=True)):
                    raise KeyError(name)
                # 0-dimensional numpy numbers would come back as other types than optax's
                found[name] = jax.tree.unflatten(structure, [jnp.asarray(x) for x in stored])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is not a checkpoint of this run ({error}): remove it to start anew") from None
    if plain.pop("format") != FORMAT or plain.pop("signature") != signature:
        raise InputError(f"{path} belongs to a run with other settings: remove it, or name another output folder")
    return State(**found, **plain)


__all__ = [
    "State",
    "ema_decay",
    "ema_update",
    "load_state",
    "save_state",
]
