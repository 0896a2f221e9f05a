"""From a structure and a potential to the Wigner conductivity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

from ._solve import Scattering, kappa, make_plan
from .ifc.autodiff import plan_force_constants, require_float64
from .relaxation.implicit import (
    Geometry,
    _force_constants,
    _relaxed,
    moved_constants,
    moved_plan,
    plan_relaxation,
    plan_sites,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._core.pytree import Array
    from .physics.broadening.base import Broadening
    from .physics.phonons import LongRange
    from .potentials.base import Params, Potential
    from .types import Supercells


def kappa_fn(
    potential: Potential,
    cells: Supercells,
    mesh: Sequence[int],
    temperatures: Sequence[float] = (300.0,),
    *,
    relax: bool = True,
    cell: bool = True,
    broadening: Broadening | None = None,
    scattering: Scattering | None = None,
    nac: LongRange | None = None,
    **options: Any,
) -> Callable[[Params], tuple[Array, Geometry | None]]:
    """params → (κ_TOT (T, 6) in W/(m K), the geometry), the whole chain as one function for jax.grad.

    Args:
        cells: of a structure relaxed with the potential's own parameters or ones near them.
        relax: whether the geometry follows the parameters; if not it stays that of `cells` (and None is returned): the
            derivative at fixed geometry, which lacks the part of thermal expansion and bond lengths.
        cell: whether the cell relaxes, or the atoms alone.
        broadening, scattering, nac: those of `solve.kappa`; the adaptive Gaussian unless given.
        **options: those of `plan_force_constants`.

    The space group cannot fall in an allowed relaxation; whether the structure is stable against what breaks it is a
    question to the phonons. An invalid geometry (`Geometry.require_valid`) makes κ NaN.
    """
    require_float64()
    plan = make_plan(cells, mesh)
    constants, _, _ = plan_force_constants(potential, cells, **options)
    freedom, sites = plan_relaxation(potential, cells.crystal, cell), plan_sites(cells, plan)
    plan, constants, freedom, sites = jax.device_put((plan, constants, freedom, sites))

    def function(params: Params) -> tuple[Array, Geometry | None]:
        geometry, at, here = None, constants, plan
        if relax:
            geometry = _relaxed(potential.energy, params, freedom)
            at = moved_constants(constants, sites, geometry.crystal)
            here = moved_plan(plan, sites, geometry.crystal)
        fc = _force_constants(potential.energy, params, at)
        populations, coherences = kappa(here, fc, temperatures, broadening, scattering, nac)
        return populations + coherences, geometry

    return function


__all__ = [
    "kappa_fn",
]
