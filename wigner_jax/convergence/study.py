"""`converge`: κ against one parameter, from coarse to fine, until the tolerance is reached.

Mesh, linear tetrahedra: the points nearest to Γ carry a share of κ that falls as the volume that they stand for times the
number of modes with their frequencies, so that

    κ(N) = κ_∞ + a/N,      N³ = N_1 N_2 N_3 points,

to leading order. It is fitted to the last three meshes by least squares; κ_∞ is the value, and its distance from the last
computed one is the uncertainty. Supercells and other broadenings follow no law that would hold for all crystals: the value is
the last one, and the uncertainty what the last step changed.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._core.as_numbers import as_numbers
from .._core.progress import Progress
from .._solve import SCATTERING, make_plan, solve
from ..checks import require_double_precision
from ..crystal.defaults import default_mesh, default_supercell, default_supercells
from ..crystal.snapping import snapped
from ..crystal.supercells import integer_matrix
from ..errors import AccuracyWarning, InputError
from ..ifc.constraints import pair_distances, with_cutoff
from ..io.constants.formats import has_constants
from ..io.structures import structure_of
from ..physics.broadening.tetrahedron import Tetrahedron
from ..physics.domain import temperature_array
from ..physics.nac import make_nac
from ..pipeline import model_of, prepare, relax_with
from ..plan.mesh import mesh_dims

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import ase

    from ..physics.pairs import Broadening
    from ..pipeline import Derivatives, Model, Problem
    from ..types import BornCharges, Scattering, Supercells

    Over = Literal["mesh", "fc2", "fc3", "cutoff"]

LENGTHS = tuple(15.0 * 1.25**k for k in range(9))  # Å, of meshes: 5×5×5 to 28×28×28 for Si
THICKNESSES = tuple(5.0 + 2.0 * k for k in range(7))  # Å, of supercells
FITTED = 3  # values at the end that the law is fitted to
OVER = ("mesh", "fc2", "fc3", "cutoff")
SHELLS = 1.1  # of an interatomic distance: the cutoffs that are tried lie so far beyond the last


@dataclasses.dataclass(frozen=True)
class Step:
    """One value of a study.

    Attributes:
        label: the mesh, the number of atoms of the supercell, or the cutoff of Φ3.
        size: N of the law for a mesh, (N_1 N_2 N_3)^(1/3); atoms of a supercell; Å of a cutoff.
        kappa: (6,) W/(m K), populations and coherences, Voigt order.
        seconds: wall time.
        next_to_gamma: share of κ from the points next to Γ.
    """

    label: str
    size: float
    kappa: np.ndarray
    seconds: float
    next_to_gamma: float

    @property
    def average(self) -> float:
        """A third of the trace, W/(m K)."""
        return float(np.mean(self.kappa[:3]))


@dataclasses.dataclass(frozen=True)
class Convergence:
    """What came out of a study.

    Attributes:
        over: "mesh", "fc2", "fc3" or "cutoff".
        temperature: K.
        steps: from coarse to fine.
        kappa: (6,) W/(m K): extrapolated by the law, or the last value where there is none.
        uncertainty: of the average, W/(m K): its distance from the last computed value, or what the last step changed.
        tolerance: relative, that was asked for.
        law: in words.
    """

    over: Over
    temperature: float
    steps: list[Step]
    kappa: np.ndarray
    uncertainty: float
    tolerance: float
    law: str

    @property
    def average(self) -> float:
        """A third of the trace of `kappa`, W/(m K)."""
        return float(np.mean(self.kappa[:3]))

    @property
    def converged(self) -> bool:
        """Whether the uncertainty is within the tolerance. Never before three meshes, or two supercells or cutoffs."""
        enough = len(self.steps) >= (FITTED if self.over == "mesh" else 2)
        return bool(enough and self.uncertainty <= self.tolerance * abs(self.average))


def converge(
    structure: str | Path | ase.Atoms,
    model: Model | None = None,
    *,
    over: Over = "mesh",
    values: Sequence[Any] | None = None,
    tolerance: float = 0.02,
    temperature: float = 300.0,
    mesh: Sequence[int] | None = None,
    fc2_supercell: Sequence[int] | None = None,
    fc3_supercell: Sequence[int] | None = None,
    relax: bool = True,
    derivatives: Derivatives | None = None,
    broadening: Broadening | None = None,
    scattering: Scattering = SCATTERING,
    nac: BornCharges | Literal["source"] | None = "source",
    symprec: float | None = None,
    on_step: Callable[[Step], None] | None = None,
    after_constants: Callable[[Problem], None] | None = None,
    progress: Progress | None = None,
) -> Convergence:
    """κ against the q-mesh, the supercell of Φ2 or Φ3 or the cutoff of Φ3, from coarse to fine, until the tolerance is reached.

        study = converge("Si", "tersoff-1989", over="mesh", tolerance=0.01)
        print(study.average, "±", study.uncertainty, study.converged)

    The crystal is relaxed once. Over the mesh or the cutoff, force constants are made once; over a supercell, those of the
    other order are.

    Args:
        structure, model: as `conductivity` takes them; over a supercell the source cannot be force constants.
        over: "mesh", "fc2", "fc3" or "cutoff" (`with_cutoff`).
        values: meshes (three integers), supercells (1, 3 or 9 integers) or cutoffs (Å), from coarse to fine; by default
            meshes of 15 Å, each a quarter longer, supercells of multiples of the conventional cell, from 5 Å thick on, 2 Å
            thicker each, or one shell of atoms more each, up to all that the supercell of Φ3 has.
        tolerance: relative; no further value is computed once the uncertainty is below.
        temperature: K.
        mesh: over a supercell or a cutoff; by default that of `conductivity`.
        fc2_supercell, fc3_supercell, relax, derivatives, scattering, nac, symprec: see `conductivity`.
        broadening: linear tetrahedra unless given.
        on_step: called after each value.
        after_constants: called with the force constants, once, where they are made once.
        progress: shows what is being done.

    Returns:
        all values, the extrapolated one with its uncertainty, and whether it is within the tolerance.

    Raises:
        InputError: bad input, imaginary modes, or values that do not grow; ValueError: double precision is off.
    """
    require_double_precision()
    T = temperature_array([temperature])
    if over not in OVER:
        raise InputError(f"over is {over!r}", f"choose from {', '.join(OVER)}")
    if not (np.isfinite(tolerance) and tolerance > 0):
        raise InputError(f"the tolerance is {tolerance}", "give a share above zero, such as 0.01")
    if over in ("fc2", "fc3") and has_constants(structure, model):
        raise InputError(
            f"{structure} has force constants of one supercell", "give a structure and a model, or over mesh or cutoff"
        )
    if over == "mesh" and mesh is not None:
        raise InputError("mesh is what is varied", "give values instead, or leave it out")
    if values is not None and len(values) < 2:
        raise InputError(f"values has {len(values)} of them", "give at least two, or leave it out")
    stages = Progress(None) if progress is None else progress
    options: dict[str, Any] = {
        "relax": relax, "derivatives": derivatives, "symprec": symprec, "progress": stages,
    }  # fmt: skip

    def value(problem: Problem, dims: tuple[int, ...], label: str, size: float, begun: float) -> Step:
        plan = make_plan(problem.supercells, dims)
        charges = problem.born if isinstance(nac, str) else nac
        correction = None if charges is None else make_nac(problem.supercells, charges)
        with stages("conductivity"):
            solution = solve(
                plan, problem.force_constants, T, broadening=broadening, scattering=scattering, nac=correction,
                progress=stages.progress if stages.stream else None,
            )  # fmt: skip
        kappa = np.asarray(solution.conductivity.kappa_TOT)[0]
        share = float(np.max(solution.diagnostics().next_to_gamma))
        return Step(label, size, kappa, time.perf_counter() - begun, share)

    def steps() -> Iterator[Step]:
        if over == "mesh":
            begun = time.perf_counter()
            problem = prepare(structure, model, fc2_supercell=fc2_supercell, fc3_supercell=fc3_supercell, **options)
            if after_constants is not None:
                after_constants(problem)
            for dims in _meshes(problem, values):
                yield value(problem, dims, "×".join(map(str, dims)), float(np.cbrt(np.prod(dims))), begun)
                begun = time.perf_counter()
            return
        begun = time.perf_counter()
        if over == "cutoff":
            problem = prepare(structure, model, fc2_supercell=fc2_supercell, fc3_supercell=fc3_supercell, **options)
            if after_constants is not None:
                after_constants(problem)
            problems = _by_cutoff(problem, values)
        else:
            problems = _by_supercell(structure, model, over, values, fc2_supercell, fc3_supercell, options)
        for label, size, problem in problems:
            dims = mesh_dims(mesh) if mesh is not None else problem.mesh or default_mesh(problem.supercells.crystal)
            yield value(problem, tuple(dims), label, size, begun)
            begun = time.perf_counter()

    lawful = over == "mesh" and (broadening is None or isinstance(broadening, Tetrahedron))
    found: list[Step] = []
    for step in steps():
        found.append(step)
        if on_step is not None:
            on_step(step)
        study = _study(over, float(temperature), found, tolerance, lawful)
        if study.converged:
            break
    return study


def _meshes(problem: Problem, values: Sequence[Any] | None) -> list[tuple[int, ...]]:
    crystal = problem.supercells.crystal
    given = [mesh_dims(v) for v in values] if values is not None else [default_mesh(crystal, x) for x in LENGTHS]
    meshes = list(dict.fromkeys((a, b, c) for a, b, c in given))
    if values is not None and any(np.prod(a) >= np.prod(b) for a, b in pairwise(meshes)):
        raise InputError("the meshes do not grow", "give them from coarse to fine")
    return list(meshes)


def _by_cutoff(problem: Problem, values: Sequence[Any] | None) -> Iterator[tuple[str, float, Problem]]:
    """(label, Å, force constants) with one cutoff of Φ3 after the other."""
    cells = problem.supercells
    cutoffs = _shells(cells) if values is None else [_length(v) for v in values]
    if any(not a < b for a, b in pairwise(cutoffs)):
        raise InputError("the cutoffs do not grow", "give them from small to large")
    for cutoff in cutoffs:
        fc, _ = with_cutoff(cells, problem.force_constants, cutoff)
        yield f"{cutoff:.4g} Å", cutoff, problem._replace(force_constants=fc)


def _length(value: Any) -> float:
    found = as_numbers(value).ravel()
    if len(found) != 1:
        raise InputError(f"a cutoff is {value!r}", "give one length in Å")
    return float(found[0])


def _shells(cells: Supercells) -> list[float]:
    """Cutoffs in the gaps between the distances of atoms in the supercell of Φ3, and one beyond all."""
    distances = np.unique(np.round(pair_distances(cells.crystal, cells.fc3_supercell), 4))[1:]
    gaps = [float(a + b) / 2 for a, b in pairwise(distances) if b - a > 0.05]
    return [*gaps, float(distances[-1]) * SHELLS]


def _by_supercell(
    structure: Any, model: Any, over: Over, values: Sequence[Any] | None, second: Any, third: Any, options: dict[str, Any]
) -> Iterator[tuple[str, float, Problem]]:  # fmt: skip
    """(label, atoms, force constants) with one supercell after the other. The relaxed crystal and the other order are the first's."""
    atoms = snapped(structure_of(structure), options["symprec"])
    found = model_of(model, atoms)
    if options["relax"]:
        with options["progress"]("relax"):
            atoms, _ = relax_with(atoms, found)
    options = options | {"relax": False, "symprec": None}
    given = {"fc2": second, "fc3": third}
    if given[over] is not None:
        raise InputError(f"{over}_supercell is what is varied", "give values instead, or leave it out")
    cells = default_supercells(atoms, second, third)
    matrices = values if values is not None else _supercells_of(atoms, cells.crystal)
    other = "fc3" if over == "fc2" else "fc2"
    kept, before = None, 0
    for matrix in matrices:
        chosen: dict[str, Any] = {
            f"{over}_supercell": matrix,
            f"{other}_supercell": given[other] if kept is None else (1, 1, 1),
        }
        with warnings.catch_warnings():
            if kept is not None:  # of the smallest supercell, whose other order is not used
                warnings.simplefilter("ignore", AccuracyWarning)
            problem = prepare(atoms, found, **chosen, **options)
        if kept is None:
            kept = problem
        else:
            problem = problem._replace(
                supercells=dataclasses.replace(
                    problem.supercells, **{f"{other}_supercell": getattr(kept.supercells, f"{other}_supercell")}
                ),
                force_constants=dataclasses.replace(
                    problem.force_constants, **{other: getattr(kept.force_constants, other)}
                ),
            )  # fmt: skip
        count = getattr(problem.supercells, f"{over}_supercell").n_atoms
        if count <= before:
            raise InputError("the supercells do not grow", "give them from small to large")
        before = count
        yield f"{count} atoms", float(count), problem


def _supercells_of(atoms: ase.Atoms, crystal: Any) -> list[list[int]]:
    """Multiples of the conventional cell, in units of the given cell as `default_supercells` takes them."""
    to_given = np.asarray(crystal.lattice) @ np.linalg.inv(atoms.cell.array)
    found: dict[int, list[int]] = {}
    for thickness in THICKNESSES:
        matrix = default_supercell(crystal, thickness) @ to_given
        if np.abs(matrix - np.rint(matrix)).max() > 1e-6:
            raise InputError("the conventional cell is no multiple of the given one", "give values")
        whole = integer_matrix(np.rint(matrix).astype(int).T.ravel().tolist(), "values")
        found.setdefault(round(np.linalg.det(whole)), whole.ravel().tolist())
    return list(found.values())


def _study(over: Over, temperature: float, steps: list[Step], tolerance: float, lawful: bool) -> Convergence:
    last = steps[-1].kappa
    if lawful and len(steps) >= FITTED:
        x = np.array([1 / s.size for s in steps[-FITTED:]])
        y = np.array([s.kappa for s in steps[-FITTED:]])
        kappa = np.linalg.lstsq(np.stack([np.ones_like(x), x], 1), y, rcond=None)[0][0]
        law = f"κ linear in 1/N, fitted to the last {FITTED}"
        uncertainty = abs(float(np.mean(kappa[:3] - last[:3])))
    else:
        kappa = last
        law = "no law: the last value, and what the last step changed"
        uncertainty = float("inf") if len(steps) < 2 else abs(steps[-1].average - steps[-2].average)
    return Convergence(over, temperature, list(steps), kappa, uncertainty, tolerance, law)


__all__ = ["Convergence", "Step", "converge"]
