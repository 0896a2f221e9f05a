"""Training on energies, forces, stresses and Hessian columns: steps over batches, a checkpoint, a table of epochs."""

from __future__ import annotations

import dataclasses
import math
import time
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
import optax

from ..._core.interrupts import before_the_end
from ..._core.temporaries import remove_forgotten
from ...errors import InputError
from ..train_state import (
    NO_CALLBACKS,
    Callbacks,
    TrainState,
    ema_decay,
    ema_update,
    initial_state,
    load_state,
    save_state,
    stale,
)
from .batches import Errors, batch_loss, errors, structure_losses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ..._core.pytree import Array
    from ..model import Model
    from .batches import Batch, Batches, SiteEnergies


HEADER = (
    f"{'':12}  {'loss':>21}  {'energy meV/atom':>15}  {'forces meV/Å':>15}  {'stress meV/Å³':>15}\n"
    f"{'epoch':>5} {'step':>6}  {'training':>10} {'validation':>10}" + 3 * f"  {'MAE':>7} {'RMSE':>7}" + f"  {'Φu %':>6}  {'s':>6}"
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """How long, and from which random numbers."""

    steps: int  # updates in all
    ema: float = 0.0  # decay of the moving average of weights; 0: none
    seed: int = 0  # of the order of structures and the choice of Hessian columns
    interval: float = 60.0  # seconds between checkpoints inside an epoch
    patience: int | None = None  # epochs without a better validation loss until it stops


def fit(
    model: Model,
    optimizer: optax.GradientTransformation,
    data: tuple[Batches, Batches],
    settings: TrainSettings,
    folder: Path | None = None,
    *,
    report: Callable[[str], None] = print,
    signature: Mapping[str, Any] = MappingProxyType({}),
    callbacks: Callbacks = NO_CALLBACKS,
) -> TrainState:
    """Minimise the mean of `structure_losses` over the training structures.

    Every epoch visits each structure once, in an order that is a function of (seed, epoch), as Hessian columns are of
    (seed, epoch, batch): a run that goes on from any checkpoint equals one that was not interrupted, bit for bit on the same CPU
    with as many devices.

    Args:
        model: its energy must have site energies (`Adapted`); trained and frozen numbers of the batches' precision.
        data: for training and for validation.
        folder: where checkpoint.npz is written after every epoch and every `interval` seconds, and read from at the start.
        signature: settings by name; a checkpoint with others is refused.
        callbacks: what the caller wants done after steps and epochs.

    Returns:
        the state; `state.best` are the numbers (their moving average, if there is one) with the lowest validation loss,
        `state.history` has the rows of `validate`, with the mean training loss of the epoch as `loss`.

    Raises:
        InputError: a loss that is not finite; the checkpoint stays what it was.
    """
    training, validation = data
    energy: Any = model.energy
    state = initial_state(model, optimizer)
    checkpoint = None if folder is None else folder / "checkpoint.npz"
    if folder is not None:
        remove_forgotten(folder)
    if checkpoint is not None and checkpoint.exists():
        state = load_state(checkpoint, state, signature)
        report(f"continued from {checkpoint}: epoch {state.epoch}, step {state.step}")
        callbacks.after_epoch(state)

    def keep(state: TrainState, losses: list[Array]) -> TrainState:
        """The state with the losses of the last steps, which have arrived by now."""
        values = [float(x) for x in losses]
        if not all(map(math.isfinite, values)):
            raise InputError(f"the loss is not finite before step {state.step}: lower learning_rate or clip")
        return state.replace(sums={"loss": [*state.sums.get("loss", []), *values]})

    report(HEADER)
    began = saved = time.monotonic()
    for row in state.history:
        report(line(row))
    with before_the_end() as ending:
        while (state.step < settings.steps or state.position) and not stale(state, settings.patience):
            pending: list[Array] = []
            for batch in training([settings.seed, state.epoch], state.position):
                if state.step >= settings.steps:
                    break
                params, average, moments, value = _step(
                    energy, optimizer, state.params, state.average, state.opt_state, model.frozen, batch,
                    ema_decay(settings.ema, state.step),
                )  # fmt: skip
                pending.append(value)
                state = state.replace(
                    params=params, average=average, opt_state=moments, step=state.step + 1, position=state.position + 1
                )
                last, due = ending(), time.monotonic() - saved >= settings.interval
                if checkpoint is not None and (due or last):
                    state, pending = keep(state, pending), []
                    save_state(checkpoint, state, signature)
                    saved = time.monotonic()
                callbacks.after_step(state)
                if last:
                    raise KeyboardInterrupt
            state = keep(state, pending)
            weights = state.average if settings.ema else state.params
            row = {"epoch": state.epoch, "step": state.step, "loss": float(np.mean(state.sums["loss"]))}
            row |= validate(partial(_evaluate, energy, weights, model.frozen), validation)
            if not math.isfinite(row["validation"]):
                raise InputError(
                    f"the validation loss is not finite after step {state.step}: lower learning_rate or clip"
                )
            better = row["validation"] < state.best_score
            state = state.replace(
                epoch=state.epoch + 1, position=0, sums={}, history=[*state.history, row],
                best=weights if better else state.best, best_score=row["validation"] if better else state.best_score,
                best_epoch=row["epoch"] if better else state.best_epoch,
            )  # fmt: skip
            report(line(row, time.monotonic() - began))
            if checkpoint is not None:
                save_state(checkpoint, state, signature)
                saved = time.monotonic()
            callbacks.after_epoch(state)
    return state


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    energy: SiteEnergies, optimizer: optax.GradientTransformation, params: Any, average: Any, state: Any, frozen: Any,
    batch: Batch, decay: float,
) -> tuple[Any, Any, Any, Array]:  # fmt: skip
    """One update: trained numbers, their moving average, the optimizer's state, and the loss before."""
    value, slope = jax.value_and_grad(lambda p: batch_loss(energy, (p, frozen), batch))(params)
    update, state = optimizer.update(slope, state, params)
    params = optax.apply_updates(params, update)
    return params, ema_update(average, params, decay), state, value


@partial(jax.jit, static_argnums=0)
def _evaluate(energy: SiteEnergies, params: Any, frozen: Any, batch: Batch) -> tuple[Errors, Array]:
    found = errors(energy, (params, frozen), batch)
    return found, structure_losses(found, batch)


def validate(evaluate: Callable[[Batch], tuple[Errors, Array]], batches: Batches) -> dict[str, float]:
    """The loss over all structures, and mean absolute and root mean square errors over those that have the target.

    Args:
        evaluate: errors and losses of a batch.

    Returns:
        validation; energy_mae, energy_rmse (meV per atom, over structures); forces_mae, forces_rmse (meV/Å, over all
        components of all atoms); stress_mae, stress_rmse (meV/Å³, over components); hessian (% of the norm of a column,
        root mean square). What no structure has is left out.
    """
    rows = []
    for batch in batches():
        found, losses = evaluate(batch)
        there = np.asarray(batch.atoms) > 0
        rows.append([np.asarray(x, float)[there] for x in (losses, batch.weights, batch.atoms, *found)])
    losses, weights, atoms, *rest = (np.concatenate(x) for x in zip(*rows, strict=True))
    found = Errors(*rest)
    each = {
        "energy": (np.abs(found.energy), found.energy**2, None),
        "forces": (found.force_absolute, found.force_square, atoms),
        "stress": (np.abs(found.stress).mean(axis=(1, 2)), (found.stress**2).mean(axis=(1, 2)), None),
    }
    row = {"validation": float(losses.mean())}
    for (name, (absolute, square, w)), chosen in zip(each.items(), (weights[:, :3] > 0).T, strict=True):
        if chosen.any():
            w = None if w is None else w[chosen]
            row[f"{name}_mae"] = 1e3 * float(np.average(absolute[chosen], weights=w))
            row[f"{name}_rmse"] = 1e3 * float(np.sqrt(np.average(square[chosen], weights=w)))
    if (chosen := weights[:, 3] > 0).any():
        row["hessian"] = 100 * float(np.sqrt(found.hessian[chosen].mean()))
    return row


def line(row: dict[str, Any], seconds: float | None = None) -> str:
    """One row of the table; the time is that since this run was started."""
    parts = [f"{row['epoch']:5d} {row['step']:6d}", f"{row['loss']:10.5f} {row['validation']:10.5f}"]
    parts += [f"{_number(row, f'{x}_mae')} {_number(row, f'{x}_rmse')}" for x in ("energy", "forces", "stress")]
    return "  ".join([*parts, _number(row, "hessian", 6), "" if seconds is None else f"{seconds:6.0f}"]).rstrip()


def _number(row: dict[str, Any], key: str, width: int = 7) -> str:
    return f"{row[key]:{width}.2f}" if key in row else f"{'-':>{width}}"


__all__ = [
    "HEADER",
    "TrainSettings",
    "fit",
    "line",
    "validate",
]
