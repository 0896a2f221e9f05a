"""``wigner-jax kappa``: from a structure or force constants to the table of conductivities."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._core.progress import Stages, progress_stream
from .._solve import Scattering, make_plan, natural_isotopes, solve, tetrahedron
from ..checks import check_force_constants, positive_integers, require_finite, temperatures_above_zero
from ..crystal.defaults import default_mesh, default_supercells
from ..crystal.symmetry import space_group
from ..errors import InputError
from ..ifc.autodiff import force_constants
from ..ifc.finite_displacement import DISTANCE, calculator_of, finite_displacements
from ..io.born import read_born
from ..io.kappa_hdf5 import kappa_datasets, write_datasets
from ..io.phono3py import read_phono3py
from ..io.structures import read_structure
from ..physics.bands import phonon_bands
from ..physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from ..physics.nac import GonzeLee, Wang
from ..plan.dipoles import dipole_plan, symmetrized_charges
from ..potentials.base import Potential
from ..potentials.cards import recommended_route
from .checks import positive, writable
from .report import formula, kappa_table, times_table

if TYPE_CHECKING:
    import ase
    from ase.calculators.calculator import Calculator

    from ..physics.broadening.base import Broadening
    from ..physics.phonons import LongRange
    from ..types import BornCharges, ForceConstants, Plan, Supercells


HELP = "thermal conductivity of a crystal"
DESCRIPTION = """\
Thermal conductivity of a crystal in the relaxation-time approximation of the Wigner transport equation: populations
(κ_P, the Boltzmann value) and coherences (κ_C).

SOURCE is one of
  a name       a crystal with a built-in prototype, for example Si
  a structure  any file that ASE reads (POSCAR, cif, extxyz, ...)
  a yaml       phono3py.yaml with fc2.hdf5 and fc3.hdf5 beside it, phono3py_params.yaml[.xz] with forces,
               or phono3py_disp.yaml with FORCES_FC3 beside it
The force constants of a name or a structure come from a potential, by automatic differentiation."""

YAML_ENDINGS = (".yaml", ".yml", ".yaml.xz", ".yaml.gz", ".yaml.bz2", ".yaml.lzma")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    parser.add_argument("source", metavar="SOURCE", help="prototype name, structure file, or phono3py yaml")

    model = parser.add_argument_group("force constants (from a name or a structure)")
    model.add_argument(
        "--potential",
        metavar="NAME|FILE",
        help="default: a built-in one that is meant for the compound; ase:module:factory takes any ASE calculator",
    )
    model.add_argument(
        "--force-constants",
        choices=("ad", "finite-displacement"),
        help="automatic differentiation, or phono3py's displacements of 0.03 Å (default: as `wigner-jax models` says)",
    )
    supercell = "in units of the given cell (default: what the file says, else conventional cells to a thickness of"
    model.add_argument("--fc2-supercell", nargs=3, metavar=("a", "b", "c"), help=f"{supercell} 10 Å)")
    model.add_argument("--fc3-supercell", nargs=3, metavar=("a", "b", "c"), help=f"{supercell} 8 Å)")
    model.add_argument(
        "--relax",
        action=argparse.BooleanOptionalAction,
        help="relax cell and atoms within the symmetry first (default)",
    )

    physics = parser.add_argument_group("scattering and transport")
    physics.add_argument(
        "--mesh",
        nargs=3,
        metavar=("a", "b", "c"),
        help="q-mesh of the primitive cell (default: 35 Å long, 11 11 11 for Si)",
    )
    physics.add_argument(
        "-T", "--temperature", nargs="+", type=float, default=[300.0], metavar="K", help="default: 300"
    )
    physics.add_argument(
        "--broadening",
        choices=("tetrahedron", "gaussian", "adaptive"),
        default="tetrahedron",
        help="of energy conservation",
    )
    physics.add_argument(
        "--symmetrized",
        action="store_true",
        help="tetrahedra with the mesh's own symmetry, whatever the primitive cell; face-centred crystals have them anyway",
    )
    physics.add_argument("--sigma", type=float, metavar="THz", help="width of --broadening gaussian (default: 0.1)")
    physics.add_argument(
        "--nac",
        metavar="BORN|none",
        help="BORN file for the non-analytic correction, or none (default: what the source has)",
    )
    physics.add_argument(
        "--nac-method",
        choices=("gonze", "wang"),
        default="gonze",
        help="Gonze and Lee (default), or Wang's interpolation",
    )
    physics.add_argument("--no-isotope", action="store_true", help="leave out scattering by natural isotopes")
    physics.add_argument("--boundary-mfp", type=float, metavar="µm", help="add boundary scattering of this length")
    physics.add_argument(
        "--allow-imaginary", action="store_true", help="go on with imaginary modes (they do not scatter)"
    )

    run = parser.add_argument_group("running")
    run.add_argument("-o", "--output", metavar="FILE.hdf5", help="write everything, in phono3py's kappa HDF5 schema")
    run.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    run.add_argument("--quiet", action="store_true", help="print nothing but the table of results")


class Problem(NamedTuple):
    """Everything left of the seam, with a line that says where it came from."""

    cells: Supercells
    force_constants: ForceConstants
    born: BornCharges | None
    origin: str
    mesh: tuple[int, ...] | None = None  # the one that the structure file names


def run(arguments: argparse.Namespace) -> int:
    """``wigner-jax kappa``: from a source to a table, and a file if one is asked for."""
    temperatures = temperatures_above_zero(arguments.temperature)
    dims = None if arguments.mesh is None else positive_integers(arguments.mesh, "--mesh")
    output = writable(arguments.output)
    positive(arguments.boundary_mfp, "--boundary-mfp")
    positive(arguments.sigma, "--sigma")
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
        with stages("bands"):
            bands = phonon_bands(plan, problem.force_constants.fc2, nac)
        write_datasets(
            output, kappa_datasets(crystal, plan.mesh, solution, arguments.boundary_mfp, _sigma(arguments), bands)
        )
    if not arguments.quiet:
        print(f"\n{times_table(stages.times)}")
        if output is not None:
            print(f"written: {output}")
    return 0


def _problem(arguments: argparse.Namespace, stages: Stages) -> Problem:
    """Supercells and force constants of the source, whatever it is."""
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
    for option in ("potential", "fc2_supercell", "fc3_supercell", "relax", "force_constants"):
        if getattr(arguments, option) is not None:
            name = "--" + option.replace("_", "-")
            raise InputError(f"{name} does not go with {arguments.source}, which has force constants: leave it out")
    with stages("read"):
        data = read_phono3py(arguments.source)
    return Problem(*data, f"force constants of {arguments.source}")


def _from_potential(arguments: argparse.Namespace, stages: Stages) -> Problem:
    fc2, fc3 = (
        None if value is None else positive_integers(value, name)
        for value, name in ((arguments.fc2_supercell, "--fc2-supercell"), (arguments.fc3_supercell, "--fc3-supercell"))
    )
    atoms = _structure(arguments.source)
    name = arguments.potential
    potential: Potential | Calculator
    if name is not None and name.startswith("ase:"):
        potential, route = calculator_of(name[4:]), "finite-displacement"
        if arguments.force_constants == "ad":
            raise InputError(
                "--force-constants ad needs a JAX potential: an ASE calculator has finite displacements only"
            )
    else:
        model = _potential(name, atoms)
        potential, route = model, arguments.force_constants or recommended_route(model)
    if arguments.relax in (None, True):
        with stages("relax"):
            atoms, message = _relaxed(atoms, potential)
        if message:
            print(f"note: relaxation {message}", file=sys.stderr)
    progress = None if stages.stream is None else lambda _, done, total: stages.progress(done, total)
    with stages("force constants"):
        cells, constants, notes, how = _constants(atoms, potential, route, (fc2, fc3), progress)
    for warning in notes:
        print(f"note: {warning}", file=sys.stderr)
    label = potential.name if isinstance(potential, Potential) else name
    origin = f"{label}, {'not ' if arguments.relax is False else ''}relaxed{how}"
    mesh = atoms.info.get("q_mesh")
    return Problem(cells, constants, None, origin, None if mesh is None else positive_integers(mesh, "q_mesh"))


def _relaxed(atoms: ase.Atoms, potential: Potential | Calculator) -> tuple[ase.Atoms, str]:
    """Newton's method where there are derivatives, else FIRE; and a line if something is to be said."""
    if isinstance(potential, Potential):
        from ..relaxation.newton import relax

        relaxed, report = relax(atoms, potential)
        return relaxed, report.message
    from ..relaxation.ase_protocols import relax_k_srme

    relaxed, fire = relax_k_srme(atoms, potential)
    relaxed.info = dict(atoms.info)
    return relaxed, fire.message


def _constants(
    atoms: ase.Atoms, potential: Potential | Calculator, route: str, supercells: tuple[Any, Any], progress: Any
) -> tuple[Supercells, ForceConstants, tuple[str, ...], str]:
    """Supercells, force constants, what a user should know of them, and a word for the header."""
    cells = default_supercells(atoms, *supercells)
    if route == "ad":
        assert isinstance(potential, Potential)
        constants, report = force_constants(potential, cells, progress=progress)
        return cells, constants, report.warnings, ""
    from ..potentials.calculator import WignerCalculator

    calculator = WignerCalculator(potential) if isinstance(potential, Potential) else potential
    # the same supercells, in units of the given cell: whole numbers of it unless that is larger than they are
    given = np.linalg.inv(atoms.cell.array)
    matrices = [
        cell.matrix @ np.asarray(cells.crystal.lattice) @ given for cell in (cells.fc2_supercell, cells.fc3_supercell)
    ]
    if max(np.abs(m - np.rint(m)).max() for m in matrices) > 1e-4:
        raise InputError(
            "the supercells are no multiples of the given cell: name them with --fc2-supercell and --fc3-supercell"
        )
    second, third = (np.rint(m).astype(int).T for m in matrices)
    cells, constants, _ = finite_displacements(
        atoms, calculator, fc2_supercell=second.ravel(), fc3_supercell=third.ravel(), progress=progress
    )
    return cells, constants, (), f", finite displacements of {DISTANCE:g} Å"


def _structure(source: str) -> ase.Atoms:
    """A file if there is one of that name, else a prototype."""
    from ..crystal.prototypes import available_prototypes, prototype

    if Path(source).exists():
        return read_structure(source)
    if source in available_prototypes():
        return prototype(source)
    known = f"{len(available_prototypes())} are built in, such as Si, LiBr, GaAs, AlN"
    raise InputError(f"{source!r} is neither a file nor a crystal with a prototype ({known}): give a structure file")


def _potential(name: str | None, atoms: ase.Atoms) -> Potential:
    """The potential of that name, or a built-in one that is good for these atoms."""
    from ..potentials.registry import available_potentials, default_potential, load_potential, restrict

    if name is not None:
        return restrict(load_potential(name), atoms.numbers)
    if (found := default_potential(atoms.numbers)) is not None:
        return found
    raise InputError(
        f"no built-in potential is meant for {atoms.get_chemical_formula('reduce')}:"
        f" name one with --potential (built in: {', '.join(available_potentials())}; all: wigner-jax models)"
    )


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
    return GonzeLee(charges, dipole_plan(problem.cells.crystal, problem.cells.fc2_supercell))


def _broadening(arguments: argparse.Namespace, plan: Plan) -> Broadening:
    if arguments.broadening == "gaussian":
        return Gaussian(_sigma(arguments))
    return AdaptiveGaussian() if arguments.broadening == "adaptive" else tetrahedron(plan, arguments.symmetrized)


def _header(problem: Problem, plan: Plan, nac: LongRange | None) -> str:
    """What is computed: the crystal, where its force constants come from, and the mesh."""
    cells, mesh = problem.cells, plan.mesh
    group = space_group(cells.crystal)
    atoms = f"supercells of {cells.fc2_supercell.n_atoms} (Φ2) and {cells.fc3_supercell.n_atoms} (Φ3) atoms"
    correction = (
        "" if nac is None else f"; non-analytic correction ({'Wang' if isinstance(nac, Wang) else 'Gonze-Lee'})"
    )
    points = f"{len(mesh.irreducible)} of {len(mesh.qpoints)} points irreducible"
    return (
        f"crystal  {formula(cells.crystal)}, {group.international} ({group.number})\n"
        f"forces   {problem.origin}; {atoms}{correction}\n"
        f"mesh     {'×'.join(map(str, mesh.dims))}, {points}\n"
    )
