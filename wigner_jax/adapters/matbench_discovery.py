"""The conductivity step of matbench-discovery's κ pipeline, without phono3py's Wigner solver.

Its `phonons.thermal_conductivity.calculate_conductivity` asks phono3py for ``conductivity_type="wigner"``, which is the reason why it is
bound to phono3py 3.30. The function here has its arguments and results, and takes objects of any phono3py from 3.30 on:

    from matbench_discovery.phonons import thermal_conductivity
    from wigner_jax.adapters import matbench_discovery

    thermal_conductivity.calculate_conductivity = matbench_discovery.calculate_conductivity

Numbers are of the published equation, the same whatever the eigenvector gauge (docs: reproducibility).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..physics.conductivity import mode_kappa_total
from ..types import Scattering
from .phono3py_object import solve_phono3py

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..solution import Solution


def calculate_conductivity(
    ph3: Any,
    temperatures: Sequence[float],
    boundary_mfp: float | None = 1e6,
    mode_kappa_thresh: float = 1e-6,
    **options: Any,
) -> tuple[Any, dict[str, np.ndarray], Solution]:
    """Populations and coherences of a Phono3py object on its own mesh, under matbench-discovery's names.

    Args:
        ph3: with force constants and `mesh_numbers`.
        temperatures: K.
        boundary_mfp: µm; their default of a metre. None: no boundaries.
        mode_kappa_thresh: theirs, of a check that the sums of modes hold here to rounding; not used.
        **options: of `solve_phono3py`: broadening, scattering, nac, allow_imaginary, precision, progress. There is no charge
            correction unless `nac` asks for one, as in their protocol.

    Returns:
        ph3, as it was given; conductivities by name: kappa_tot_rta, kappa_p_rta, kappa_c (T, 6) and mode_kappa_tot_rta
        (T, P, m, 6) in W/(m K), mode_weights (P,), q_points (P, 3), ph_freqs (P, m) THz, heat_capacity (T, P, m) eV/K;
        and the `Solution`.

    Raises:
        InputError: no mesh, or what `solve_phono3py` refuses.
    """
    if getattr(ph3, "mesh_numbers", None) is None:
        raise InputError("the object has no mesh", "set its mesh_numbers")
    options.setdefault("scattering", Scattering("natural", boundary_mfp))
    options.setdefault("nac", None)
    solution = solve_phono3py(ph3, temperatures, **options)
    return ph3, kappa_dict(solution), solution


def kappa_dict(solution: Solution) -> dict[str, np.ndarray]:
    """A solution under matbench-discovery's names; see `calculate_conductivity`."""
    conductivity, mesh = solution.conductivity, solution.plan.mesh
    at = np.asarray(mesh.irreducible)
    return {
        "kappa_tot_rta": np.asarray(conductivity.kappa_TOT),
        "kappa_p_rta": np.asarray(conductivity.kappa_P),
        "kappa_c": np.asarray(conductivity.kappa_C),
        "mode_kappa_tot_rta": np.asarray(mode_kappa_total(conductivity)),
        "mode_weights": np.asarray(mesh.weights),
        "q_points": np.asarray(mesh.qpoints)[at],
        "ph_freqs": np.asarray(solution.phonons.frequencies)[at],
        "heat_capacity": np.asarray(conductivity.heat_capacity),
    }


__all__ = ["calculate_conductivity", "kappa_dict"]
