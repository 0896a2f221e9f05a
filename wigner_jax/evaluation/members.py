"""Several force constants of one plan, solved side by side."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from .._core.tiling import Tiling, tiling_for
from .._solve import (
    CAPACITY_MARGIN,
    CAPACITY_SAMPLE,
    SCATTERING,
    _check_constants,
    _judged_conductivity,
    _judged_phonons,
    _linewidths,
    phonons,
    solve,
)
from ..checks import check_precision
from ..physics import linewidths as widths
from ..physics.broadening.tetrahedron import Tetrahedron
from ..physics.conductivity import wigner_heat_capacity
from ..physics.diagnostics import say_if_width_is_off
from ..physics.domain import check_problem, temperature_array
from ..solution import Solution
from ..types import Scattering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.pytree import Array
    from ..physics.pairs import Broadening
    from ..physics.phonons import LongRange
    from ..types import ForceConstants, Linewidths, Phonons, Plan, Precision


def solve_members(
    plan: Plan,
    members: Sequence[ForceConstants],
    temperatures: Sequence[float] = (300.0,),
    *,
    broadening: Broadening | None = None,
    scattering: Scattering = SCATTERING,
    nac: LongRange | None = None,
    allow_imaginary: bool = False,
    tiling: Tiling | None = None,
    precision: Precision = "double",
) -> list[Solution]:
    """`solve` of several force constants of one plan, side by side in one program (`jax.vmap`).

    For accelerators, which a small crystal does not fill; memory grows with the number of members. Arguments and errors
    are those of `solve`. Members that need longer lists than the first, whose processes are counted, are solved alone.
    """
    check_problem(plan, members[0], temperatures, broadening, scattering, nac)
    check_precision(precision)
    T = temperature_array(temperatures)
    tiling = tiling_for() if tiling is None else tiling
    residuals = [_check_constants(plan, fc) for fc in members]
    asked, broadening = broadening, Tetrahedron.for_plan(plan) if broadening is None else broadening
    if not broadening.has_capacity:
        waves = phonons(plan, members[0].fc2, nac, tiling=tiling)
        state = widths.state_for(plan, members[0], waves, T, broadening, nac, tiling, precision)
        broadening = broadening.sized(plan, state, CAPACITY_MARGIN, CAPACITY_SAMPLE)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *members)
    variances = scattering.variances(plan)
    given = Scattering(None if variances is None else jnp.asarray(variances), scattering.boundary_mfp)
    waves, gamma = _members(plan, stacked, T, broadening, given, nac, tiling, precision)
    found = []
    for k, fc in enumerate(members):
        if gamma.overflow[k]:
            alone = partial(solve, scattering=scattering, nac=nac, tiling=tiling, precision=precision)
            found.append(alone(plan, fc, temperatures, broadening=asked, allow_imaginary=allow_imaginary))
            continue
        own, widths_of_member = jax.tree.map(lambda x, k=k: x[k], (waves, gamma))
        measured = _judged_phonons(plan, own, residuals[k], allow_imaginary)
        conductivity = _judged_conductivity(plan, own, widths_of_member, T, wigner_heat_capacity)
        say_if_width_is_off(broadening, own, plan.mesh)
        solution = Solution(own, widths_of_member, conductivity, plan, fc, scattering, broadening, nac)
        found.append(dataclasses.replace(solution, residuals=measured, precision=precision))
    return found


@partial(jax.jit, static_argnums=(6, 7))
def _members(
    plan: Plan, stacked: ForceConstants, T: Array, broadening: Broadening, scattering: Scattering,
    nac: LongRange | None, tiling: Tiling, precision: Precision,
) -> tuple[Phonons, Linewidths]:  # fmt: skip
    """Phonons and linewidths of all members, with a leading axis."""

    def one(fc: ForceConstants) -> tuple[Phonons, Linewidths]:
        waves = phonons(plan, fc.fc2, nac, tiling=tiling)
        state = widths.state_for(plan, fc, waves, T, broadening, nac, tiling, precision)
        return waves, _linewidths(plan, state, waves, broadening, scattering, None)

    return jax.vmap(one)(stacked)


__all__ = ["solve_members"]
