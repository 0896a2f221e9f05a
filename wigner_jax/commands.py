"""What the subcommands do. Each takes the parsed arguments of cli.py and returns an exit code."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import (
    InputError,
    check_force_constants,
    positive_integers,
    require_finite,
    temperatures_above_zero,
)
from .io import read_born, read_kappa_hdf5, read_phono3py, read_structure, write_kappa_hdf5
from .physics.nac import GonzeLee, Wang
from .plan.defaults import default_cells, default_mesh
from .plan.nac import dipole_plan, symmetrized_charges
from .plan.symmetry import space_group
from .report import Stages, formula, kappa_table, progress_stream, times_table
from .solve import AdaptiveGaussian, Gaussian, Scattering, make_plan, natural_isotopes, solve, tetrahedron

if TYPE_CHECKING:
    import argparse

    import ase

    from .physics.broadening import Broadening
    from .physics.phonons import LongRange
    from .potentials import Potential
    from .types import BornCharges, Cells, ForceConstants, Plan

YAML_ENDINGS = (".yaml", ".yml", ".yaml.xz", ".yaml.gz", ".yaml.bz2", ".yaml.lzma")


class Problem(NamedTuple):
    """Everything left of the seam, with a line that says where it came from."""

    cells: Cells
    force_constants: ForceConstants
    born: BornCharges | None
    origin: str
    mesh: tuple[int, ...] | None = None  # the one that the structure file names


def kappa(arguments: argparse.Namespace) -> int:
    """``wigner-jax kappa``: from a source to a table, and a file if one is asked for."""
    temperatures = temperatures_above_zero(arguments.temperature)
    dims = None if arguments.mesh is None else positive_integers(arguments.mesh, "--mesh")
    output = _writable(arguments.output)
    _positive(arguments.boundary_mfp, "--boundary-mfp")
    _positive(arguments.sigma, "--sigma")
    if arguments.sigma is not None and arguments.broadening != "gaussian":
        raise InputError(f"--sigma belongs to --broadening gaussian, not {arguments.broadening}: leave one of them out")
    if arguments.symmetrized and arguments.broadening != "tetrahedron":
        raise InputError(
            f"--symmetrized belongs to --broadening tetrahedron, not {arguments.broadening}: leave one out"
        )
    if arguments.nac not in (None, "none") and not Path(arguments.nac).is_file():
        raise InputError(f"no BORN file {arguments.nac}: check the name, or give --nac none")
    stages = Stages(progress_stream(arguments.quiet))

    problem = _problem(arguments, stages)
    crystal = problem.cells.crystal
    with stages("plan"):
        plan = make_plan(problem.cells, dims or problem.mesh or default_mesh(crystal))
        nac = _nac(arguments, problem)
    if not arguments.quiet:
        print(_header(problem, plan, nac))
    with stages("conductivity"):
        solution = solve(
            plan,
            problem.force_constants,
            temperatures,
            _broadening(arguments, plan),
            Scattering(None if arguments.no_isotope else natural_isotopes(crystal), arguments.boundary_mfp),
            nac,
            allow_imaginary=arguments.allow_imaginary,
            progress=stages.progress if stages.stream else None,
        )
        require_finite(solution.conductivity.kappa_TOT, "κ")
    print(kappa_table(solution.conductivity))
    if output is not None:
        write_kappa_hdf5(output, crystal, plan.mesh, solution, arguments.boundary_mfp, _sigma(arguments))
    if not arguments.quiet:
        print(f"\n{times_table(stages.times)}")
        if output is not None:
            print(f"written: {output}")
    return 0


def plot(arguments: argparse.Namespace) -> int:
    """``wigner-jax plot``: a figure of a kappa HDF5 file."""
    from .plot import summary_figure

    output = _writable(arguments.output or Path(arguments.file).with_suffix(".png"))
    figure = summary_figure(read_kappa_hdf5(arguments.file), arguments.temperature)
    assert output is not None
    try:
        figure.savefig(output, dpi=150)
    except ValueError as error:  # an ending that matplotlib does not know
        raise InputError(f"cannot write {output}: {' '.join(str(error).split())}") from None
    print(f"written: {output}")
    return 0


def _problem(arguments: argparse.Namespace, stages: Stages) -> Problem:
    """Cells and force constants of the source, whatever it is."""
    source = str(arguments.source)
    if source.lower().endswith(YAML_ENDINGS):
        problem = _from_phono3py(arguments, stages)
    else:
        problem = _from_potential(arguments, stages)
    check_force_constants(problem.cells, problem.force_constants)
    if arguments.nac is None:
        return problem
    if arguments.nac == "none":
        return problem._replace(born=None)
    return problem._replace(born=read_born(arguments.nac, problem.cells.crystal))


def _from_phono3py(arguments: argparse.Namespace, stages: Stages) -> Problem:
    for option in ("potential", "fc2_supercell", "fc3_supercell", "relax"):
        if getattr(arguments, option) is not None:
            name = "--" + option.replace("_", "-")
            raise InputError(f"{name} does not go with {arguments.source}, which has force constants: leave it out")
    with stages("read"):
        data = read_phono3py(arguments.source)
    return Problem(*data, f"force constants of {arguments.source}")


def _from_potential(arguments: argparse.Namespace, stages: Stages) -> Problem:
    from .physics.force_constants import force_constants
    from .relax import relax

    fc2, fc3 = (
        None if value is None else positive_integers(value, name)
        for value, name in ((arguments.fc2_supercell, "--fc2-supercell"), (arguments.fc3_supercell, "--fc3-supercell"))
    )
    atoms = _structure(arguments.source)
    potential = _potential(arguments.potential, atoms)
    if arguments.relax in (None, True):
        with stages("relax"):
            atoms, relaxed = relax(atoms, potential)
        if relaxed.message:
            print(f"note: relaxation {relaxed.message}", file=sys.stderr)
    cells = default_cells(atoms, fc2, fc3)
    progress = None if stages.stream is None else lambda _, done, total: stages.progress(done, total)
    with stages("force constants"):
        constants, report = force_constants(potential, cells, progress=progress)
    for warning in report.warnings:
        print(f"note: {warning}", file=sys.stderr)
    origin = f"{potential.name}, {'not ' if arguments.relax is False else ''}relaxed"
    mesh = atoms.info.get("q_mesh")
    return Problem(cells, constants, None, origin, None if mesh is None else positive_integers(mesh, "q_mesh"))


def _structure(source: str) -> ase.Atoms:
    """A file if there is one of that name, else a prototype."""
    from .prototypes import available_prototypes, prototype

    if Path(source).exists():
        return read_structure(source)
    if source in available_prototypes():
        return prototype(source)
    known = f"{len(available_prototypes())} are built in, such as Si, LiBr, GaAs, AlN"
    raise InputError(f"{source!r} is neither a file nor a crystal with a prototype ({known}): give a structure file")


def _potential(name: str | None, atoms: ase.Atoms) -> Potential:
    """The potential of that name, or the first built-in one that knows the elements."""
    from .potentials import available_potentials, load_potential, restrict

    if name is not None:
        return restrict(load_potential(name), atoms.numbers)
    for candidate in map(load_potential, available_potentials()):
        if set(map(int, atoms.numbers)) <= set(candidate.species):
            return candidate
    raise InputError(
        f"no built-in potential knows all of {', '.join(sorted(set(atoms.get_chemical_symbols())))}:"
        f" name one with --potential (built in: {', '.join(available_potentials())})"
    )


def _writable(path: str | Path | None) -> Path | None:
    """The output path, refused now rather than after the work."""
    if path is None:
        return None
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}: name a file in a folder that exists and can be written to")
    return path


def _positive(value: float | None, name: str) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} must be above zero, got {value:g}")


def _sigma(arguments: argparse.Namespace) -> float | None:
    """Width of the plain Gaussian in THz; None for the other broadenings."""
    if arguments.broadening != "gaussian":
        return None
    return 0.1 if arguments.sigma is None else arguments.sigma


def _nac(arguments: argparse.Namespace, problem: Problem) -> LongRange | None:
    if problem.born is None:
        return None
    charges = symmetrized_charges(problem.born, problem.cells.crystal)
    if arguments.nac_method == "wang":
        return Wang(charges)
    return GonzeLee(charges, dipole_plan(problem.cells.crystal, problem.cells.fc2))


def _broadening(arguments: argparse.Namespace, plan: Plan) -> Broadening:
    if arguments.broadening == "gaussian":
        return Gaussian(_sigma(arguments))
    return AdaptiveGaussian() if arguments.broadening == "adaptive" else tetrahedron(plan, arguments.symmetrized)


def _header(problem: Problem, plan: Plan, nac: LongRange | None) -> str:
    """What is computed: the crystal, where its force constants come from, and the mesh."""
    cells, mesh = problem.cells, plan.mesh
    group = space_group(cells.crystal)
    atoms = f"supercells of {cells.fc2.n_atoms} (Φ2) and {cells.fc3.n_atoms} (Φ3) atoms"
    correction = (
        "" if nac is None else f"; non-analytic correction ({'Wang' if isinstance(nac, Wang) else 'Gonze-Lee'})"
    )
    points = f"{len(mesh.irreducible)} of {len(mesh.qpoints)} points irreducible"
    return (
        f"crystal  {formula(cells.crystal)}, {group.international} ({group.number})\n"
        f"forces   {problem.origin}; {atoms}{correction}\n"
        f"mesh     {'×'.join(map(str, mesh.dims))}, {points}\n"
    )
