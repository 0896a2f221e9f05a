"""One material of a campaign: relax, force constants, Wigner conductivity, scores.

The gates are κ_SRME's: a space group that changed in the relaxation, or an imaginary mode anywhere on the mesh (but for
acoustic ones at Γ above -0.01 THz), scores 2 and has no conductivity. Anything that goes wrong is a reason in the
record, never an exception: one material does not stop a campaign.
"""

from __future__ import annotations

import traceback
import warnings
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._solve import make_plan, phonons, solve
from ..checks import imaginary_modes
from ..crystal.symmetry import space_group_of_atoms
from ..errors import AccuracyWarning, ImaginaryModes, InputError
from ..ifc.autodiff import ForceConstantsReport
from ..metrics import WORST, average, frequency_distance, mode_kappa, sre, srme
from ..physics.broadening.gaussian import AdaptiveGaussian
from ..physics.broadening.tetrahedron import Tetrahedron
from ..physics.spectra import beyond_limits
from ..physics.taking_part import takes_part
from ..pipeline import make_force_constants
from ..potentials.base import Potential
from ..relaxation.ase_protocols import relax_k_srme
from ..types import Scattering
from .gruneisen import gamma_of, gamma_start
from .records import plain

if TYPE_CHECKING:
    import ase
    from ase.calculators.calculator import Calculator

    from .._core.progress import Progress
    from ..reference import Reference
    from ..solution import Solution
    from ..types import Conductivity, ForceConstants, Supercells
    from .records import Result
    from .settings import EvaluationSettings


def run_material(
    atoms: ase.Atoms,
    potential: Potential | Calculator,
    reference: Reference,
    settings: EvaluationSettings,
    stages: Progress,
) -> tuple[dict[str, Any], Result | None]:
    """Scores and facts of one material as JSON values, and the solution if there is one.

    Args:
        atoms: structure with fc2_supercell, fc3_supercell and q_mesh in its info.
        potential: a JAX potential, or any ASE calculator (finite displacements then).
        reference: with the same mesh.
        stages: takes the times.

    Returns:
        record, result. In the record: mp_id, name, failure (a line, or None), space_groups (before, after),
        converged, imaginary, and by temperature kappa_TOT, kappa_P, kappa_C (6 components), kappa (a third of the
        trace), kappa_DFT, SRD, SRE, SRME, beyond_wigner, beyond_ioffe_regel (shares of the modes); heat_capacity_error (relative, of the total), frequency_error and
        frequency_error_high (Wasserstein-1 distances in THz of all modes and of the highest third); with a route to γ
        in the settings gamma, gamma_reference, gamma_SRE by temperature, gamma_protocol, gamma_failure.
    """
    count = len(settings.temperatures)
    record: dict[str, Any] = {
        "mp_id": reference.mp_id,
        "name": reference.name,
        "space_group": reference.space_group,
        "failure": None,
        "temperatures": list(settings.temperatures),
        "kappa_DFT": [reference.kappa[reference.at(t)] for t in settings.temperatures],
        "SRD": [-WORST] * count,
        "SRE": [WORST] * count,
        "SRME": [WORST] * count,
        **gamma_start(settings, reference.mp_id),
    }
    result = None
    try:
        result = _solve(atoms, potential, reference, settings, stages, record)
    except ImaginaryModes as error:
        record |= {"imaginary": True, "failure": error.found}
    except (InputError, ValueError, ArithmeticError, RuntimeError, MemoryError, OSError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1].name
        record["failure"] = f"{type(error).__name__} in {where}: {' '.join(str(error).split())[:300]}"
    return plain(record), result


def _solve(
    atoms: ase.Atoms, potential: Potential | Calculator, reference: Reference, settings: EvaluationSettings, stages: Progress,
    record: dict[str, Any],
) -> Result | None:  # fmt: skip
    """Fills the record as far as it gets."""
    with stages("relax"):
        relaxed = relax_by(settings, atoms, potential, record)
    groups = record["space_groups"]
    if groups[0] != groups[1]:
        record["failure"] = f"the space group changed from {groups[0]} to {groups[1]} in the relaxation"
        return None
    with stages("force constants"):
        cells, constants = _constants(relaxed, potential, settings, record)
    with stages("plan"):
        plan = make_plan(cells, [int(n) for n in np.ravel(atoms.info["q_mesh"])])
        reference.require_mesh(plan.mesh)
    with stages("phonons"):
        frequencies = np.asarray(phonons(plan, jax.numpy.asarray(constants.fc2), None).frequencies)
        _compare_frequencies(frequencies[np.asarray(plan.mesh.irreducible)], reference, record)
        record["lowest_frequency"] = float(frequencies.min())
        record["imaginary"] = bool(len(imaginary_modes(plan.mesh, frequencies)))
    if settings.gruneisen is not None:
        with stages("gruneisen"):
            gamma_of(relaxed, potential, (cells, constants), settings, record)
    with stages("conductivity"):
        broadening = AdaptiveGaussian() if settings.broadening == "adaptive" else Tetrahedron.for_plan(plan)
        scattering = Scattering(boundary_mfp=settings.boundary_mfp)
        solution = solve(plan, constants, settings.temperatures, broadening=broadening, scattering=scattering)
        jax.block_until_ready(solution.conductivity.kappa_P)
    _score(solution.conductivity, reference, record)
    _regimes(solution, record)
    with stages("bands"):
        return solution, solution.bands()


def relax_by(
    settings: EvaluationSettings, atoms: ase.Atoms, potential: Potential | Calculator, record: dict[str, Any]
) -> ase.Atoms:
    """The relaxed structure; space groups (before, after) and convergence go into the record."""
    from ..relaxation.newton import relax

    if settings.protocol == "newton":
        if not isinstance(potential, Potential):
            raise InputError("the newton protocol needs derivatives, which an ASE calculator has not", "use k_srme")
        relaxed, newton = relax(atoms, potential)
        record |= {"converged": newton.converged, "max_force": newton.max_force, "steps": newton.steps}
    else:
        relaxed, report = relax_k_srme(atoms, potential, free=settings.protocol == "k_srme", fmax=settings.fmax)
        record |= {
            "converged": all(report.converged),
            "max_force": report.max_force,
            "steps": sum(report.steps),
            "reverted": report.reverted,
        }
    record["space_groups"] = [space_group_of_atoms(atoms), space_group_of_atoms(relaxed)]
    record["lattice"] = relaxed.cell.array
    relaxed.info = dict(atoms.info)
    return relaxed


def _constants(
    atoms: ase.Atoms, potential: Potential | Calculator, settings: EvaluationSettings, record: dict[str, Any]
) -> tuple[Supercells, ForceConstants]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # they are notes of the record
        made, report = make_force_constants(atoms, potential, settings.derivatives, distance=settings.distance)
    if isinstance(report, ForceConstantsReport):
        record |= {"evaluations": report.evaluations, "residual": report.residual, "notes": list(report.warnings)}
    else:
        record |= {"evaluations": report.calls, "notes": []}
    return made


def _compare_frequencies(frequencies: np.ndarray, reference: Reference, record: dict[str, Any]) -> None:
    """Wasserstein-1 distances in THz: all modes, and the highest third of the bands at every point."""
    high = -(-frequencies.shape[1] // 3)
    for name, part in (("frequency_error", slice(None)), ("frequency_error_high", slice(-high, None))):
        record[name] = frequency_distance(
            frequencies[:, part], reference.frequencies[:, part], reference.weights, reference.weights
        )
    weights = reference.weights / reference.weights.sum()
    shift = (frequencies - reference.frequencies)[:, -high:].mean(axis=1)
    record["frequency_shift_high"] = float(shift @ weights)  # negative: softened


def _score(result: Conductivity, reference: Reference, record: dict[str, Any]) -> None:
    rows = [reference.at(float(t)) for t in np.asarray(result.temperatures)]
    kappa, expected = np.asarray(average(result.kappa_TOT)), reference.kappa[rows]
    capacity = np.einsum("tps,p->t", np.asarray(result.heat_capacity), reference.weights)
    expected_capacity = np.einsum("tps,p->t", reference.heat_capacity[rows], reference.weights)
    record |= {
        "kappa_TOT": result.kappa_TOT,
        "kappa_P": result.kappa_P,
        "kappa_C": result.kappa_C,
        "kappa": kappa,
        "SRD": 2 * (kappa - expected) / (kappa + expected),
        "SRE": sre(kappa, expected),
        "SRME": srme(mode_kappa(result), reference.mode_kappa[rows], reference.weights, kappa, expected),
        "heat_capacity_error": capacity / expected_capacity - 1,
    }


def _regimes(solution: Solution, record: dict[str, Any]) -> None:
    """Shares of the modes beyond the Wigner and the Ioffe-Regel limit, at every temperature (physics/spectra.py)."""
    mesh = solution.mesh
    frequencies = solution.phonons.frequencies[mesh.irreducible]
    counted = takes_part(frequencies)
    wigner, ioffe_regel = beyond_limits(frequencies, solution.linewidths.total, mesh.weights, counted)
    record |= {"beyond_wigner": wigner, "beyond_ioffe_regel": ioffe_regel}


__all__ = [
    "relax_by",
    "run_material",
]
