"""κ as one differentiable function of a potential's parameters, through the relaxed geometry.

params ─relaxation─► lattice, positions ─► Φ2, Φ3 ─kappa─► κ
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._solve import SCATTERING, _kappa, make_plan
from .checks import require_double_precision
from .ifc.autodiff import plan_force_constants
from .physics.domain import check_problem, temperature_array
from .relaxation.implicit import (
    Geometry,
    _force_constants,
    _relaxed,
    moved_constants,
    moved_plan,
    plan_relaxation,
    plan_sites,
)
from .types import ForceConstants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._core.pytree import Array
    from .physics.pairs import Broadening
    from .physics.phonons import LongRange
    from .potentials.base import Params, Potential
    from .types import Scattering, Supercells


def kappa_fn(
    supercells: Supercells,
    potential: Potential,
    mesh: Sequence[int],
    temperatures: Sequence[float] = (300.0,),
    *,
    broadening: Broadening,
    relax: bool = True,
    cell: bool = True,
    scattering: Scattering = SCATTERING,
    nac: LongRange | None = None,
    **options: Any,
) -> Callable[[Params], tuple[Array, Geometry | None]]:
    """params → (κ_TOT (T, 6) in W/(m K), the geometry), the whole chain as one function for jax.grad.

    Args:
        supercells: of a structure relaxed with the potential's own parameters or ones near them.
        broadening, scattering, nac: those of `kappa`.
        relax: whether the geometry follows the parameters; if not it stays that of `supercells` (and None is returned):
            the derivative at fixed geometry, which lacks the part of thermal expansion and bond lengths.
        cell: whether the cell relaxes, or the atoms alone.
        **options: those of `plan_force_constants`.

    The space group cannot fall in an allowed relaxation; whether the structure is stable against what breaks it is a
    question to the phonons. An invalid geometry (`Geometry.require_valid`), and parameters that give undefined force
    constants, make κ NaN, compiled or not: the function itself raises nothing. Force constants are not checked against the
    crystal, as `solve` and `kappa` do it.

    Raises:
        InputError: bad options, here and not in the function.
    """
    require_double_precision()
    T = temperature_array(temperatures)
    plan = make_plan(supercells, mesh)
    n, N2, N3 = plan.crystal.n_atoms, plan.fc2_table.supercell_atoms, plan.fc3_table.supercell_atoms
    some = ForceConstants(np.broadcast_to(0.0, (n, N2, 3, 3)), np.broadcast_to(0.0, (n, N3, N3, 3, 3, 3)))
    check_problem(plan, some, temperatures, broadening, scattering, nac)
    constants, _ = plan_force_constants(supercells, potential, **options)
    freedom, sites = plan_relaxation(supercells.crystal, potential, cell), plan_sites(supercells, plan)
    plan, constants, freedom, sites = jax.device_put((plan, constants, freedom, sites))

    def function(params: Params) -> tuple[Array, Geometry | None]:
        geometry, at, here = None, constants, plan
        if relax:
            geometry = _relaxed(potential.energy, params, freedom)
            at = moved_constants(constants, sites, geometry.crystal)
            here = moved_plan(plan, sites, geometry.crystal)
        fc = _force_constants(potential.energy, params, at)
        return _kappa(here, fc, T, broadening, scattering, nac).kappa_TOT, geometry

    return function


__all__ = ["kappa_fn"]
