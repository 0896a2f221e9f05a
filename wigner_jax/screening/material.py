"""One material of a screening: from its structure to a record. Whatever goes wrong is a status and a reason."""

from __future__ import annotations

import dataclasses
import time
import traceback
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from .._solve import make_plan, phonons, solve
from ..checks import positive_integers, refuse_imaginary, require_finite
from ..crystal.symmetry import space_group_number, space_group_of_atoms
from ..crystal.validity import require_structure
from ..errors import AccuracyWarning, ImaginaryModes, InputError
from ..io.ase_files import MOST_ATOMS
from ..pipeline import model_of, prepare
from ..types import Crystal, ForceConstants, Scattering, Supercells
from .estimate import estimate, too_much

if TYPE_CHECKING:
    import ase
    from ase.calculators.calculator import Calculator

    from .._core.progress import Progress
    from .._core.pytree import Array
    from ..pipeline import Report
    from ..potentials.base import Potential
    from ..solution import Solution
    from ..types import Plan
    from .settings import ScreenSettings

DONE, IMAGINARY, FAILED, SKIPPED = "done", "imaginary modes", "failed", "skipped"
STATUSES = (DONE, IMAGINARY, FAILED, SKIPPED)


class Prepared(NamedTuple):
    """Force constants of a material, which a finer mesh uses again."""

    supercells: Supercells
    force_constants: ForceConstants
    mesh: tuple[int, ...] | None  #: what the structure names


class Outcome(NamedTuple):
    """What became of a material: the record (JSON values), and what it was made of, as far as it came."""

    record: dict[str, Any]
    solution: Solution | None = None
    prepared: Prepared | None = None


def screen_material(
    name: str,
    structure: ase.Atoms | str,
    model: Potential | Calculator,
    settings: ScreenSettings,
    stages: Progress,
    prepared: tuple[Prepared, dict[str, Any]] | None = None,
) -> Outcome:
    """Relax, force constants, phonons, κ of one material.

    Args:
        structure: or why there is none.
        model: any; what it does not know is a failure.
        prepared: force constants of an earlier stage, with its record.

    Returns:
        record: name, formula, status, reason, space_groups (before, after), atoms (primitive cell, supercells of Φ2 and Φ3),
        mesh, temperatures, kappa (a third of the trace), kappa_TOT, kappa_P, kappa_C (6 components each, W/(m K)),
        lowest_frequency (THz, on the mesh), volume (Å³ per atom, relaxed), lattice and positions of the primitive cell,
        notes, seconds by stage.
    """
    record: dict[str, Any] = {"name": name, "status": FAILED, "reason": "", "notes": []}
    outcome = Outcome(record)
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", AccuracyWarning)
        try:
            outcome = _solved(structure, model, settings, stages, record, prepared)
        except ImaginaryModes as error:
            record |= {"status": IMAGINARY, "reason": error.found}
        except InputError as error:
            record["reason"] = str(error)
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # one material does not stop the others
            where = traceback.extract_tb(error.__traceback__)[-1].name
            record["reason"] = f"{type(error).__name__} in {where}: {' '.join(str(error).split())[:300]}"
    record["notes"] += list(dict.fromkeys(str(w.message) for w in caught if issubclass(w.category, AccuracyWarning)))
    record["seconds"] = {k: round(v, 3) for k, v in stages.times.items()} | {
        "total": round(time.perf_counter() - started, 3)
    }
    return outcome._replace(record=record)


def _solved(
    structure: ase.Atoms | str, model: Potential | Calculator, settings: ScreenSettings, stages: Progress, record: dict[str, Any],
    prepared: tuple[Prepared, dict[str, Any]] | None,
) -> Outcome:  # fmt: skip
    """Fills the record as far as it gets."""
    if isinstance(structure, str):
        raise InputError(structure)
    if len(structure) > MOST_ATOMS:
        raise InputError(f"it has {len(structure)} atoms: cells of at most {MOST_ATOMS} are computed")
    atoms = require_structure(structure)
    record |= {
        "formula": atoms.get_chemical_formula("metal", empirical=True),
        "temperatures": list(settings.temperatures),
    }
    report: Report | None = None
    plan: Plan | None = None
    if prepared is None:
        record["space_groups"] = [space_group_of_atoms(atoms), None]
        fitting = model_of(model, atoms)
        with stages("estimate"):
            about = estimate(atoms, fitting, settings)
        record |= {
            "atoms": list(about.atoms),
            "mesh": list(about.mesh),
            "memory_estimate": round(about.memory / 1e9, 2),
        }
        if reason := too_much(about, settings):
            record |= {"status": SKIPPED, "reason": reason}
            return Outcome(record)
        found, report, plan = _prepared(atoms, fitting, settings, stages, record)
        if report.relaxation is not None and not _converged(report.relaxation):
            raise InputError("the relaxation did not converge", "see the notes")
        record |= {"derivatives": report.derivatives, "model": report.model}
    else:
        found, before = prepared
        kept = ("space_groups", "atoms", "volume", "lattice", "positions", "numbers", "derivatives", "model", "notes")
        record |= {k: before[k] for k in kept if k in before}
    outcome = Outcome(record, None, found)
    if plan is None:
        plan = _plan(found.supercells, found.force_constants.fc2, found.mesh, settings, stages, record)
    with stages("conductivity"):
        solution = solve(
            plan, found.force_constants, settings.temperatures, broadening=settings.broadening_for(plan),
            scattering=Scattering(boundary_mfp=settings.boundary_mfp), precision=settings.precision,
        )  # fmt: skip
        jax.block_until_ready(solution.conductivity.kappa_P)
    for key in ("kappa_TOT", "kappa_P", "kappa_C"):
        record[key] = np.asarray(getattr(solution.conductivity, key)).tolist()
    record |= {"kappa": np.asarray(solution.conductivity.kappa_TOT)[:, :3].mean(axis=1).tolist(), "status": DONE}
    return outcome._replace(solution=dataclasses.replace(solution, report=report))


def _prepared(
    atoms: ase.Atoms, model: Potential | Calculator, settings: ScreenSettings, stages: Progress, record: dict[str, Any]
) -> tuple[Prepared, Report, Plan | None]:
    """Force constants; Φ3, which takes most of the time, only where Φ2 has no imaginary modes on the mesh."""
    given = positive_integers(atoms.info["q_mesh"], "q_mesh") if "q_mesh" in atoms.info else None
    made: list[Plan] = []

    def stable(cells: Supercells, fc2: Array) -> None:
        _describe(cells.crystal, record)
        made.append(_plan(cells, fc2, given, settings, stages, record))

    problem = prepare(
        atoms, model, fc2_supercell=settings.fc2_supercell, fc3_supercell=settings.fc3_supercell, relax=settings.relax,
        derivatives=settings.derivatives, symprec=settings.symprec, precision=settings.precision, progress=stages,
        after_fc2=stable,
    )  # fmt: skip
    _describe(problem.supercells.crystal, record)
    prepared = Prepared(problem.supercells, problem.force_constants, problem.mesh)
    return prepared, problem.report, made[0] if made else None


def _describe(crystal: Crystal, record: dict[str, Any]) -> None:
    """What became of the structure."""
    record["space_groups"][1] = space_group_number(crystal)
    record["volume"] = abs(float(np.linalg.det(np.asarray(crystal.lattice)))) / crystal.n_atoms
    record |= {"lattice": np.asarray(crystal.lattice).tolist(), "positions": np.asarray(crystal.positions).tolist()}
    record["numbers"] = [int(z) for z in crystal.numbers]


def _plan(
    cells: Supercells, fc2: Array, given: tuple[int, ...] | None, settings: ScreenSettings, stages: Progress,
    record: dict[str, Any],
) -> Plan:  # fmt: skip
    """The plan of a stable crystal.

    Raises:
        ImaginaryModes: it is not.
    """
    mesh = settings.mesh_of(cells.crystal, given)
    record["mesh"] = list(mesh)
    started = time.perf_counter()
    plan = make_plan(cells, mesh)
    frequencies = np.asarray(phonons(plan, fc2, None).frequencies)
    stages.times["phonons"] = time.perf_counter() - started
    record["lowest_frequency"] = float(frequencies.min())
    require_finite(frequencies, "frequencies of the phonons")
    refuse_imaginary(plan.mesh, frequencies)
    return plan


def _converged(report: Any) -> bool:
    return bool(np.all(report.converged))


__all__ = [
    "DONE",
    "FAILED",
    "IMAGINARY",
    "SKIPPED",
    "STATUSES",
    "Outcome",
    "Prepared",
    "screen_material",
]
