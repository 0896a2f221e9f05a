"""The training loop: gradients of several materials and frames, one update, a checkpoint, a table of epochs."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..._core.temporaries import remove_forgotten
from ...checks import imaginary_modes
from ...errors import InputError
from ..frames import force_error, frame_value_and_grad
from ..train_state import (
    NO_CALLBACKS,
    Callbacks,
    TrainState,
    ema_decay,
    ema_update,
    initial_state,
    load_state,
    save_state,
    settled,
    stale,
)
from .gradient import EXACT, Sampling, value_and_grad

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..._core.pytree import Array
    from ...potentials.base import Params
    from ...solution import Solution
    from ..frames import Frame
    from ..model import Model
    from .material import Material


RECOVERY = 1.25  # factor by which the damping of updates relaxes after every accepted step


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A material, and what is asked of it."""

    material: Material
    loss: Callable[[Solution], tuple[Array, dict[str, Array]]]  # targets.make_loss
    train: bool = True  # else it is evaluated after every epoch, for validation


@dataclasses.dataclass(frozen=True)
class FinetuneSettings:
    """How to train."""

    epochs: int = 20
    steps: int | None = None  # updates in all; where given, `epochs` does not count
    accumulate: int = 1  # materials whose gradients are added up for one update
    replay: int = 1  # frames drawn for each update
    ema: float = 0.0  # decay of the moving average of weights; 0: none
    l2sp: float = 0.0  # weight of Σ(θ - θ₀)², which holds weights near those at the start
    sampling: Sampling = EXACT
    patience: int | None = None  # epochs without a better score until it stops
    max_rejections: int = 10  # of one step
    seed: int = 0


def finetune(
    model: Model,
    tasks: Sequence[Task],
    optimizer: optax.GradientTransformation,
    settings: FinetuneSettings,
    frames: tuple[Sequence[Frame], Sequence[Frame]] = ((), ()),
    folder: Path | None = None,
    *,
    report: Callable[[str], None] = print,
    signature: Mapping[str, Any] = MappingProxyType({}),
    callbacks: Callbacks = NO_CALLBACKS,
) -> TrainState:
    """Train until epochs or steps are over, or the score has not improved for `patience` epochs.

    The score is the mean validation SRME (the loss, of materials without a reference), or the epoch's loss if there is no
    validation. A step that makes modes imaginary where all were real, or a loss that is not finite, is taken back by halves.

    Args:
        frames: for training, and to report force errors of.
        folder: where checkpoint.npz is written after every step, and read from at the start.
        signature: settings by name; a checkpoint with others is refused.
        callbacks: what the caller wants done before materials, and after steps and epochs. Many materials of a large
            potential need `before_material=compile_cache.evict_compiled_programs`, since a process cannot hold the
            programs of all.

    Returns:
        the state; `state.best` are the trained numbers of the best epoch (their moving average, if there is one).

    Raises:
        InputError: no task to train on, or a loss that is not finite from the start.
    """
    training = [t for t in tasks if t.train]
    if not training:
        raise InputError("nothing to train on: give at least one material with split: train")
    runner = _Runner(model, training, optimizer, settings, frames[0], callbacks)
    state = runner.fresh()
    checkpoint = None if folder is None else Path(folder) / "checkpoint.npz"
    if folder is not None:
        remove_forgotten(Path(folder))
    if checkpoint is not None and checkpoint.exists():
        state = load_state(checkpoint, state, signature)
        report(f"continued from {checkpoint}: epoch {state.epoch}, step {state.step}")
        callbacks.after_epoch(state)
    report(header(tasks, bool(frames[1])))
    for row in state.history:
        report(line(row, tasks))
    batches = -(-len(training) // settings.accumulate)
    while _unfinished(state, settings) and not stale(state, settings.patience):
        order = np.random.default_rng([settings.seed, state.epoch]).permutation(len(training))
        while state.position < batches and (settings.steps is None or state.step < settings.steps):
            chosen = order[state.position :: batches]
            state = runner.step(state, chosen, report)
            if checkpoint is not None:
                save_state(checkpoint, state, signature)
            callbacks.after_step(state)
        state = _finish_epoch(runner, tasks, frames[1], state)
        report(line(state.history[-1], tasks))
        if checkpoint is not None:
            save_state(checkpoint, state, signature)
        callbacks.after_epoch(state)
    return state


def _unfinished(state: TrainState, settings: FinetuneSettings) -> bool:
    if settings.steps is None:
        return state.epoch < settings.epochs
    return state.step < settings.steps or state.position > 0


@dataclasses.dataclass(frozen=True, eq=False)
class _Runner:
    model: Model
    tasks: Sequence[Task]
    optimizer: optax.GradientTransformation
    settings: FinetuneSettings
    frames: Sequence[Frame]
    callbacks: Callbacks = NO_CALLBACKS

    def fresh(self) -> TrainState:
        return initial_state(self.model, self.optimizer, jax.tree.map(jnp.zeros_like, self.model.trained))

    def step(self, state: TrainState, chosen: np.ndarray, report: Callable[[str], None]) -> TrainState:
        """One update; takes back the one before, by halves, as long as it is not acceptable."""
        for _ in range(self.settings.max_rejections):
            value, slope, seen, real = self.evaluate(state, chosen)
            if math.isfinite(value) and (real or not state.stable):
                break
            if not any(np.any(np.asarray(x)) for x in jax.tree.leaves(state.update)):
                raise InputError("the loss is not finite at the starting weights: check structures and targets")
            half = jax.tree.map(lambda x: 0.5 * x, state.update)
            state = settled(
                state.replace(
                    params=jax.tree.map(jnp.subtract, state.params, half),
                    update=half,
                    damping=state.damping / 2,
                    rejected=state.rejected + 1,
                )
            )
            report(f"  step {state.step}: {'imaginary modes' if not real else 'loss not finite'}, update halved")
        else:
            raise InputError(
                f"step {state.step} was rejected {self.settings.max_rejections} times: lower learning_rate"
            )
        update, opt_state = self.optimizer.update(slope, state.opt_state, state.params)
        update = jax.tree.map(lambda x: state.damping * x, update)
        params = optax.apply_updates(state.params, update)
        average = ema_update(state.average, params, ema_decay(self.settings.ema, state.step))
        sums = {k: list(v) for k, v in state.sums.items()}
        for key, number in {"loss": value, **seen}.items():
            sums.setdefault(key, []).append(number)
        return settled(state.replace(
            params=params, opt_state=opt_state, average=average, update=update, step=state.step + 1,
            position=state.position + 1, damping=min(1.0, state.damping * RECOVERY), stable=state.stable or real,
            sums=sums,
        ))  # fmt: skip

    def evaluate(self, state: TrainState, chosen: np.ndarray) -> tuple[float, Params, dict[str, float], bool]:
        """Loss, gradient, metrics by material, and whether all modes are real."""
        settings, model, params = self.settings, self.model, state.params
        value, slope = 0.0, jax.tree.map(jnp.zeros_like, params)
        seen: dict[str, float] = {}
        real = True
        for k in chosen:
            task = self.tasks[k]
            self.callbacks.before_material()
            function = value_and_grad(task.material, model.energy, task.loss, settings.sampling)
            g = function(params, model.frozen, [settings.seed, state.step, int(k)])
            value += float(g.value) / len(chosen)
            slope = jax.tree.map(lambda a, b: a + b / len(chosen), slope, g.params)
            real &= len(imaginary_modes(task.material.plan.mesh, g.solution.phonons.frequencies)) == 0
            seen |= {f"{task.material.name}.{key}": float(np.mean(x)) for key, x in g.aux.items()}
        count = min(settings.replay, len(self.frames))
        if count:
            rng = np.random.default_rng([settings.seed, state.step, 1])
            for k in rng.choice(len(self.frames), count, replace=False):
                extra, more = frame_value_and_grad(model.energy, params, model.frozen, self.frames[k])
                value += float(extra) / count
                slope = jax.tree.map(lambda a, b: a + b / count, slope, more)
        if settings.l2sp:
            change = jax.tree.map(jnp.subtract, params, model.trained)
            value += settings.l2sp * float(sum(jnp.sum(x**2) for x in jax.tree.leaves(change)))
            slope = jax.tree.map(lambda a, x: a + 2 * settings.l2sp * x, slope, change)
        finite = all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(slope))
        return (value if finite else math.nan), slope, seen, real


def evaluate(model: Model, task: Task, trained: Params) -> dict[str, float]:
    """Metrics of one material at given weights; SRE and SRME are 2 with imaginary modes."""
    fc = task.material.force_constants(model.energy, (trained, model.frozen))
    solution = task.material.solution(fc)
    value, found = task.loss(solution)
    result = {"loss": float(value), **{key: float(np.mean(x)) for key, x in found.items()}}
    if len(imaginary_modes(task.material.plan.mesh, solution.phonons.frequencies)):
        result |= {key: 2.0 for key in ("sre", "srme") if key in result}
    return result


def _finish_epoch(runner: _Runner, tasks: Sequence[Task], frames: Sequence[Frame], state: TrainState) -> TrainState:
    """The row of the table, the score, the best weights."""
    row: dict[str, Any] = {"epoch": state.epoch, "step": state.step}
    row |= {key: float(np.mean(values)) for key, values in state.sums.items()}
    model = runner.model
    weights = state.average if runner.settings.ema else state.params
    scores = []
    for task in tasks:
        if not task.train:
            runner.callbacks.before_material()
            found = evaluate(model, task, weights)
            row |= {f"{task.material.name}.{key}": x for key, x in found.items()}
            scores.append(found.get("srme", found["loss"]))
    if frames:
        row["force_error"] = force_error(model.energy, weights, model.frozen, frames)
    row["rejected"] = state.rejected
    score = float(np.mean(scores)) if scores else row["loss"]
    better = score < state.best_score
    return state.replace(
        epoch=state.epoch + 1, position=0, sums={}, history=[*state.history, row],
        best=weights if better else state.best, best_score=min(score, state.best_score),
        best_epoch=row["epoch"] if better else state.best_epoch,
    )  # fmt: skip


def header(tasks: Sequence[Task], frames: bool) -> str:
    """Names of the columns of the table."""
    names = [f"{t.material.name}{'' if t.train else ' (val)'}" for t in tasks]
    ends = ["   F rms"] if frames else []
    return "  ".join([f"{'epoch':>5} {'loss':>10}", *(f"{name + ': κ':>14} {'SRME':>6}" for name in names), *ends])


def line(row: dict[str, Any], tasks: Sequence[Task]) -> str:
    """One row of the table."""
    names = [t.material.name for t in tasks]
    parts = [f"{row['epoch']:5d} {row['loss']:10.5f}"]
    parts += [f"{row.get(n + '.kappa', math.nan):14.4f} {row.get(n + '.srme', math.nan):6.3f}" for n in names]
    parts += [f"{row['force_error']:8.4f}"] if "force_error" in row else []
    return "  ".join(parts)


__all__ = [
    "FinetuneSettings",
    "Task",
    "evaluate",
    "finetune",
]
