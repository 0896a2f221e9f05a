"""From named targets to the loss of one material: a weighted sum of the functions in losses.py, with metrics beside it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ... import metrics
from ...errors import InputError
from ...thermodynamics.gruneisen import gruneisen_of
from ...thermodynamics.strain_derivatives import strain_tables
from .. import losses

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._core.pytree import Array
    from ...reference import Reference
    from ...solution import Solution
    from .material import Material


KINDS = ("kappa", "srme", "frequencies", "heat_capacity", "gruneisen", "experiment", "imaginary")
MODES = ("srme", "frequencies", "heat_capacity")  # those that compare modes, and need the reference's mesh


@dataclasses.dataclass(frozen=True, eq=False)
class Target:
    """One term of a loss."""

    kind: str  # one of KINDS
    weight: float = 1.0
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def make_loss(material: Material, targets: Sequence[Target]) -> Callable[[Solution], tuple[Array, dict[str, Array]]]:
    """loss(solution) → (value, metrics): κ at every temperature, SRE where there is a reference, SRME if it has this mesh.

    Raises:
        InputError: a target that needs a reference, a temperature, or the reference's mesh, and the material does not have it.
    """
    T = np.asarray(material.conditions.temperatures)
    reference = material.reference
    terms = [(t.weight, _term(t, T, material)) for t in targets]
    rows = [] if reference is None else [reference.at(float(t)) for t in T]
    by_mode = (
        reference is not None and tuple(reference.mesh) == tuple(material.plan.mesh.dims) and material.stars is None
    )
    if by_mode and reference is not None:
        reference.require_mesh(material.plan.mesh)  # its irreducible points too

    def loss(solution: Solution) -> tuple[Array, dict[str, Array]]:
        value = jnp.zeros(())
        for weight, term in terms:
            value = value + weight * term(solution)
        kappa = metrics.average(solution.conductivity.kappa_TOT)
        found = {"kappa": kappa}
        if reference is not None:
            found["sre"] = metrics.sre(kappa, reference.kappa[rows])
            if by_mode:
                modes = metrics.mode_kappa(solution.conductivity)
                found["srme"] = metrics.srme(modes, reference.mode_kappa[rows], reference.weights)
        return value, found

    return loss


def _term(target: Target, T: np.ndarray, material: Material) -> Callable[[Solution], Array]:
    options, name, reference, plan = target.options, material.name, material.reference, material.plan

    def needed() -> Reference:
        if reference is None:
            raise InputError(f"{name}: target {target.kind} needs a reference")
        if target.kind in MODES:
            reference.require_mesh(plan.mesh)
        return reference

    if target.kind == "kappa":
        forms = {"log": losses.log_loss, "relative": losses.relative_loss, "sre": losses.smooth_sre}
        form = options.get("form", "log")
        if form not in forms:
            raise InputError(f"{name}: form of target kappa must be one of {', '.join(forms)}, got {form!r}")
        value = options.get("value")
        if value is None:
            value = needed().kappa[[needed().at(float(t)) for t in T]]
        value = np.broadcast_to(np.asarray(value, float), T.shape)
        if not np.all(value > 0):
            raise InputError(f"{name}: value of target kappa must be above 0")
        return lambda s: forms[form](metrics.average(s.conductivity.kappa_TOT), value)
    if target.kind == "srme":
        if material.stars is not None:
            raise InputError(
                f"{name}: target srme is of modes in the relaxation-time approximation, not of transport: lbte"
            )
        modes = needed().mode_kappa[[needed().at(float(t)) for t in T]]
        weights, smooth = needed().weights, float(options.get("smooth", 0.05))
        return lambda s: losses.smooth_srme(metrics.mode_kappa(s.conductivity), modes, weights, smooth)
    if target.kind == "frequencies":
        f, w = needed().frequencies, needed().weights
        chosen = jnp.asarray(plan.mesh.irreducible)
        return lambda s: losses.frequency_loss(s.phonons.frequencies[chosen], f, w)
    if target.kind == "heat_capacity":
        C, w = needed().heat_capacity[[needed().at(float(t)) for t in T]], needed().weights
        return lambda s: losses.heat_capacity_loss(s.conductivity.heat_capacity, C, w)
    if target.kind == "gruneisen":
        if options.get("value") is None:
            raise InputError(f"{name}: target gruneisen needs a value, γ at every temperature")
        if material.nac is not None:
            raise InputError(f"{name}: target gruneisen knows no non-analytic correction")
        value, tables = (
            np.broadcast_to(np.asarray(options["value"], float), T.shape),
            strain_tables(material.supercells),
        )
        if not np.any(value):
            raise InputError(f"{name}: value of target gruneisen must not be 0")

        def gamma_loss(s: Solution) -> Array:
            return losses.gruneisen_loss(gruneisen_of(s, tables).average(T), value)

        return gamma_loss
    if target.kind == "experiment":
        points = np.asarray(options.get("points", ()), float)
        if points.ndim != 2 or points.shape[1] != 3 or not np.all(points > 0):
            raise InputError(f"{name}: points of target experiment must be rows of T, κ and σ, all above 0")
        index = [np.flatnonzero(np.abs(T - t) < 1e-6) for t in points[:, 0]]
        if any(len(i) == 0 for i in index):
            missing = next(t for t, i in zip(points[:, 0], index, strict=True) if len(i) == 0)
            raise InputError(f"{name}: target experiment has {missing:g} K, which is not in temperatures")
        rows = np.array([i[0] for i in index])
        return lambda s: losses.experiment_loss(
            metrics.average(s.conductivity.kappa_TOT)[rows], points[:, 1], points[:, 2]
        )
    if target.kind == "imaginary":
        floor = float(options.get("floor", 0.0))
        return lambda s: losses.imaginary_penalty(s.phonons.frequencies, floor)
    raise InputError(f"{name}: unknown target {target.kind!r}: choose from {', '.join(KINDS)}")


__all__ = [
    "KINDS",
    "MODES",
    "Target",
    "make_loss",
]
