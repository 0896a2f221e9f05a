"""``wigner-jax kappa``: from a structure or force constants to the table of conductivities.

More than 350 lines, half of them the options and what they mean.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._core.progress import Progress, progress_stream
from .._solve import make_plan, solve, with_boundary
from ..checks import temperatures_above_zero
from ..crystal.defaults import MESH_LENGTH, default_supercells
from ..crystal.elements import SYMBOLS, formula, has_natural_mass, natural_isotopes
from ..crystal.isotopes import mixtures, require_elements, with_isotopes
from ..crystal.snapping import snapped
from ..crystal.symmetry import space_group
from ..errors import InputError
from ..io.constants.formats import has_constants, read_force_constants
from ..io.constants.own import write_own
from ..io.kappa_hdf5 import rough_size
from ..io.structures import structure_of
from ..physics.boltzmann import LIMIT
from ..physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from ..physics.broadening.tetrahedron import Tetrahedron
from ..physics.nac import Wang, make_nac
from ..physics.path_spectra import path_spectra
from ..physics.self_energy import averaged_interaction, normal_share, normal_umklapp
from ..pipeline import low_dimensional, mesh_for, model_of, prepare
from ..plan.band_path import has_seekpath
from ..plan.generalized_mesh import generalized_mesh
from ..plan.mesh import mesh_dims
from ..types import Scattering
from .checks import CONSTANTS, kappa_file, positive, writable
from .options import add_precision, mesh_and_supercells, mesh_by_length
from .phono3py_defaults import peer_table, refuse_others
from .report import full_table, kappa_table, times_table
from .sources import SOURCES, add_constraints, add_model, add_source, constraints, source_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    import ase

    from .._core.pytree import Array
    from ..physics.pairs import Broadening
    from ..physics.path_spectra import PathSpectra
    from ..physics.phonons import LongRange
    from ..pipeline import Problem
    from ..solution import Solution
    from ..types import Crystal, Plan

NO_SEEKPATH = "seekpath is not installed (python -m pip install seekpath, or the extra plot)"
NORMAL = 0.6  # share of normal processes from which on the relaxation-time approximation is doubted in words
LONGEST = 100  # bytes of a name that is made here
HELP = "thermal conductivity of a crystal"
DESCRIPTION = (
    """\
Thermal conductivity of a crystal by the Wigner transport equation: populations (κ_P, the Boltzmann value) and coherences (κ_C), in
the relaxation-time approximation, or with κ_P by the full linearised equation (--transport lbte).

"""
    + SOURCES
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    add_source(parser)
    add_model(parser)
    add_constraints(parser)
    physics = parser.add_argument_group("scattering and transport")
    physics.add_argument(
        "--mesh",
        nargs="+",
        metavar="N",
        help="q-mesh of the primitive cell: three integers, or a length in Å, times that of each reciprocal vector without 2π"
        " (default: 35, 11 11 11 for Si: coarser than that of `screen`, so that a first look is quick)",
    )
    physics.add_argument(
        "--grg",
        action="store_true",
        help="generalised regular mesh: --mesh repeats the conventional cell; with --symmetrized tetrahedra",
    )
    physics.add_argument(
        "-T", "--temperatures", nargs="+", type=float, default=[300.0], metavar="K", help="default: 300"
    )
    physics.add_argument(
        "--transport",
        choices=("rta", "lbte"),
        default="rta",
        help="relaxation-time approximation, or the linearised Boltzmann equation with the full collision operator (default: rta)",
    )
    physics.add_argument(
        "--memory",
        type=float,
        metavar="GB",
        help="that the collision operator of --transport lbte may take (default: 4.3)",
    )
    physics.add_argument(
        "--broadening",
        choices=("tetrahedron", "gaussian", "adaptive"),
        default="tetrahedron",
        help="how energy conservation is integrated (default: tetrahedron)",
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
    physics.add_argument(
        "--q-direction",
        nargs=3,
        type=float,
        metavar=("a", "b", "c"),
        help="direction in which Γ is approached, of --nac",
    )
    size = physics.add_mutually_exclusive_group()
    size.add_argument(
        "--layer",
        nargs="?",
        type=float,
        const=True,
        metavar="Å",
        help="a layer in a cell with vacuum: κ of this thickness (default: of the atoms with their van der Waals radii)",
    )
    size.add_argument("--wire", type=float, metavar="Å²", help="a wire in a cell with vacuum: κ of this cross-section")
    physics.add_argument("--no-isotope", action="store_true", help="leave out scattering by natural isotopes")
    physics.add_argument(
        "--isotopes",
        nargs="+",
        metavar="EL=M:C,..",
        help="masses and shares of isotopes, such as Si=27.9769:0.95,28.9765:0.05 or C=12 (default: natural abundances)",
    )
    physics.add_argument(
        "--boundary-mfp",
        nargs="+",
        type=float,
        metavar="µm",
        help="add boundary scattering of this length, or a table of several",
    )
    physics.add_argument(
        "--allow-imaginary", action="store_true", help="go on with imaginary modes (they do not scatter)"
    )

    run = parser.add_argument_group("running")
    run.add_argument(
        "-o",
        "--out",
        metavar="FILE.hdf5",
        help="write everything, in phono3py's kappa HDF5 schema; force constants that a"
        " potential made are kept in FILE-fc.hdf5 beside it, for --fc",
    )
    run.add_argument(
        "--spectra",
        nargs="?",
        type=int,
        const=201,
        metavar="N",
        help="into FILE.hdf5: self-energies, spectral functions and joint densities of states where the mesh meets the"
        " high-symmetry path, at N frequencies up to twice the highest (default: 201)",
    )
    run.add_argument(
        "--nu", action="store_true", help="into FILE.hdf5: normal and umklapp linewidths, gamma_N and gamma_U"
    )
    run.add_argument("--ave-pp", action="store_true", help="into FILE.hdf5: averaged interaction strengths, ave_pp")
    run.add_argument(
        "--dry-run", action="store_true", help="print supercells, mesh, evaluations and memory, and do nothing"
    )
    run.add_argument(
        "--phono3py-defaults",
        action="store_true",
        help="for the reproduction of an old number: phono3py itself computes κ with its default flags (extra phono3py)",
    )
    add_precision(run)
    run.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    run.add_argument("--quiet", action="store_true", help="print nothing but the table of results")


def run(arguments: argparse.Namespace) -> int:
    """From a source to a table, and a file if one is asked for."""
    temperatures = temperatures_above_zero(arguments.temperatures)
    dims, fc2, fc3 = mesh_and_supercells(arguments)
    output = writable(arguments.out, "a kappa file", inputs=(arguments.source, arguments.potential, arguments.nac))
    kappa_file(output)
    kept = None if output is None else writable(_beside(output), CONSTANTS)
    lengths = arguments.boundary_mfp or [None]
    for length in lengths:
        positive(length, "--boundary-mfp")
    if output is not None and len(lengths) > 1:
        raise InputError(f"-o takes one --boundary-mfp, not {len(lengths)}", "leave out -o, or give one length")
    for name in ("spectra", "nu", "ave_pp"):
        if getattr(arguments, name) and output is None:
            raise InputError(f"--{name.replace('_', '-')} is kept in a file, and there is none", "give -o FILE.hdf5")
    if arguments.spectra is not None and not 20 <= arguments.spectra <= 20_000:
        raise InputError(f"--spectra {arguments.spectra}", "give a number of frequencies from 20 to 20000")
    if arguments.spectra is not None and not has_seekpath():
        raise InputError(f"--spectra needs a path, and {NO_SEEKPATH}")
    by_length, isotopes = mesh_by_length(arguments.mesh), mixtures(arguments.isotopes or [])
    if isotopes and arguments.no_isotope:
        raise InputError("--isotopes and --no-isotope", "leave one out")
    positive(arguments.sigma, "--sigma")
    positive(arguments.memory, "--memory")
    if arguments.memory is not None and arguments.transport != "lbte":
        raise InputError("--memory belongs to --transport lbte", "leave it out")
    if arguments.transport == "lbte" and len(lengths) > 1:
        raise InputError("--transport lbte takes one --boundary-mfp", "run it for each length, with --fc")
    positive(None if arguments.layer is True else arguments.layer, "--layer")
    positive(arguments.wire, "--wire")
    positive(arguments.processes, "--processes")
    imposed = constraints(arguments)
    if arguments.sigma is not None and arguments.broadening != "gaussian":
        raise InputError(
            f"--sigma belongs to --broadening gaussian, not {arguments.broadening}", "leave one of them out"
        )
    if arguments.symmetrized and arguments.broadening != "tetrahedron":
        raise InputError(
            f"--symmetrized belongs to --broadening tetrahedron, not {arguments.broadening}", "leave one out"
        )
    if arguments.nac not in (None, "none") and not Path(arguments.nac).is_file():
        raise InputError(f"no BORN file {arguments.nac}", "check the name, or give --nac none")
    if arguments.phono3py_defaults:
        refuse_others(arguments)
    stages = Progress(progress_stream(arguments.quiet))

    source, model = source_of(arguments)
    if isotopes and not has_constants(source, model):
        require_elements(isotopes, structure_of(source).numbers)
    if arguments.dry_run:
        print(_ahead(source, model, arguments, dims or by_length, fc2, fc3))
        return 0
    problem = prepare(
        source, model, fc2_supercell=fc2, fc3_supercell=fc3, relax=arguments.relax is not False,
        derivatives=arguments.derivatives, symprec=arguments.symprec, processes=arguments.processes or 1,
        **imposed, layer=arguments.layer, wire=arguments.wire, born=None if arguments.nac == "none" else arguments.nac, precision=arguments.precision, progress=stages,
    )  # fmt: skip
    crystal, variances = with_isotopes(
        problem.supercells.crystal, natural_isotopes(problem.supercells.crystal), isotopes
    )
    made = problem.report.derivatives != "given"
    if kept is not None and made:  # at once: a run that is killed has them
        write_own(kept, problem.given)
    with stages("plan"):
        cells = dataclasses.replace(problem.supercells, crystal=crystal)
        mesh = _mesh_of(dims or by_length, crystal) or problem.mesh or mesh_for(crystal)
        if arguments.grg:
            cells, mesh = generalized_mesh(cells, dims or by_length or MESH_LENGTH)
        plan = make_plan(cells, mesh)
        born = None if arguments.nac == "none" else problem.born
        if born is None and arguments.q_direction is not None:
            raise InputError("--q-direction belongs to a non-analytic correction, and there is none", "give --nac BORN")
        towards = arguments.q_direction and _in_other_vectors(arguments.q_direction, crystal, plan.crystal)
        nac = None if born is None else make_nac(cells, born, arguments.nac_method, towards)
    if output is not None:
        size = rough_size(len(plan.mesh.irreducible), 3 * len(crystal.numbers), len(temperatures))
        writable(output, "a kappa file", need=size)
    if not arguments.quiet:
        print(_header(problem, plan, nac, isotopes))
    if arguments.phono3py_defaults:
        if problem.supercells.crystal.occupied is not None:
            raise InputError("--phono3py-defaults does not know layers and wires, and this is one", "leave it out")
        with stages("phono3py"):
            given = problem.given._replace(born=born)
            found = peer_table(given, source, plan.mesh.dims, temperatures, arguments)
        print(found)
        return 0
    with stages("conductivity"):
        solution = solve(
            plan,
            problem.force_constants,
            temperatures,
            broadening=_broadening(arguments, plan),
            scattering=Scattering(None if arguments.no_isotope else variances if isotopes else "natural", lengths[0]),
            nac=nac,
            allow_imaginary=arguments.allow_imaginary,
            progress=stages.progress if stages.stream else None,
            precision=arguments.precision,
            transport=arguments.transport,
            memory=LIMIT if arguments.memory is None else 1e9 * arguments.memory,
        )
    solution = dataclasses.replace(solution, report=problem.report)
    for length in lengths:
        if len(lengths) > 1:
            print(f"{'' if length == lengths[0] else chr(10)}boundaries {length:g} µm apart")
            solution = with_boundary(solution, length)
        print(kappa_table(solution) if solution.full is None else full_table(solution))
    if output is not None:
        bands = has_seekpath()
        spectra, more = _beside_kappa(solution, arguments, stages)
        with stages("bands" if bands else "file"):
            solution.save(output, bands, spectra=spectra, more=more)
        if not bands:
            stages.say(f"note: {output} has no bands: {NO_SEEKPATH}")
    if not arguments.quiet:
        if solution.full is None and (share := normal_share(solution, listened=stages.stream is not None)) > NORMAL:
            print(
                f"\nnormal processes make up {100 * share:.0f} % of the linewidths: the relaxation-time approximation may be"
                " low, see --transport lbte"
            )
        print(
            "\n"
            + "\n".join(f"{'rests on' if i == 0 else '':8} {x}" for i, x in enumerate(solution.diagnostics().lines()))
        )
        print(f"\n{times_table(stages.times)}")
        if output is not None:
            print(f"written: {output}" + (f", and force constants for --fc: {kept}" if made else ""))
    return 0


def _beside_kappa(
    solution: Solution, arguments: argparse.Namespace, stages: Progress
) -> tuple[PathSpectra | None, dict[str, Array]]:
    """What --spectra, --nu and --ave-pp put into the file."""
    spectra, more = None, {}
    if arguments.spectra is not None:
        highest = float(np.max(solution.phonons.frequencies))
        with stages("spectra"):
            spectra = path_spectra(solution, np.linspace(0, 2 * highest, arguments.spectra).tolist())
    if arguments.nu:
        with stages("normal and umklapp"):
            more["gamma_N"], more["gamma_U"] = normal_umklapp(solution)
    if arguments.ave_pp:
        with stages("interaction"):
            more["ave_pp"] = averaged_interaction(solution)
    return spectra, more


def _beside(output: Path) -> Path:
    """The file of the force constants: NAME-fc.hdf5, of a long name the beginning."""
    stem, end = output.stem, "-fc.hdf5"
    while len(os.fsencode(stem + end)) > max(LONGEST, len(os.fsencode(output.name))):
        stem = stem[:-1]
    return output.with_name(stem + end)


def _in_other_vectors(direction: Sequence[float], crystal: Crystal, turned: Crystal) -> Sequence[float]:
    """A direction in units of reciprocal vectors, in those of other vectors of the same lattice."""
    change = np.asarray(turned.lattice) @ np.linalg.inv(np.asarray(crystal.lattice))
    return (np.rint(change) @ np.asarray(direction)).tolist()


def _mesh_of(wanted: tuple[int, ...] | float | None, crystal: Crystal) -> tuple[int, ...] | None:
    """--mesh as integers, where it is a length too."""
    return mesh_for(crystal, wanted) if isinstance(wanted, float) else wanted


def _ahead(
    source: str | ase.Atoms, model: str | None, arguments: argparse.Namespace, wanted: tuple[int, ...] | float | None,
    fc2: tuple[int, ...] | None, fc3: tuple[int, ...] | None,
) -> str:  # fmt: skip
    """What would be done, in a line."""
    from ..screening.estimate import estimate, memory_of_solver
    from ..screening.settings import ScreenSettings

    if has_constants(source, model):
        given = read_force_constants(str(source), symprec=arguments.symprec)
        cells = low_dimensional(given.supercells, arguments.layer, arguments.wire)
        crystal = cells.crystal
        mesh = mesh_dims(_mesh_of(wanted, crystal) or given.mesh or mesh_for(crystal))
        mesh = generalized_mesh(cells, wanted or MESH_LENGTH)[1] if arguments.grg else mesh
        memory = memory_of_solver(crystal, mesh) / 1e9
        return f"{formula(crystal)}: {given.origin}, mesh {'×'.join(map(str, mesh))}, about {memory:.1f} GB"
    atoms = snapped(structure_of(source), arguments.symprec)
    found = model_of(model, atoms, arguments.processes or 1)
    cells = low_dimensional(default_supercells(atoms, fc2, fc3), arguments.layer, arguments.wire)
    crystal = cells.crystal
    chosen = _mesh_of(wanted, crystal) or (None if "q_mesh" in atoms.info else mesh_for(crystal))
    chosen = generalized_mesh(cells, wanted or MESH_LENGTH)[1] if arguments.grg else chosen
    settings = ScreenSettings(mesh=chosen, fc2_supercell=fc2, fc3_supercell=fc3, derivatives=arguments.derivatives)
    return f"{formula(crystal)}: {estimate(atoms, found, settings, arguments.pair_cutoff).line().strip()}"


def _broadening(arguments: argparse.Namespace, plan: Plan) -> Broadening:
    if arguments.broadening == "gaussian":
        return Gaussian(0.1 if arguments.sigma is None else arguments.sigma)
    if arguments.broadening == "adaptive":
        return AdaptiveGaussian()
    return Tetrahedron.for_plan(plan, arguments.symmetrized or arguments.grg)


def _header(problem: Problem, plan: Plan, nac: LongRange | None, isotopes: dict[str, tuple[float, float]]) -> str:
    """What is computed: the crystal, where its force constants come from, and the mesh."""
    cells, mesh, report = problem.supercells, plan.mesh, problem.report
    group = space_group(cells.crystal)
    masses = _given_masses(cells.crystal, isotopes)
    moments = "" if cells.crystal.moments is None else ", with magnetic moments"
    atoms = f"supercells of {cells.fc2_supercell.n_atoms} (Φ2) and {cells.fc3_supercell.n_atoms} (Φ3) atoms"
    correction = (
        "" if nac is None else f"; non-analytic correction ({'Wang' if isinstance(nac, Wang) else 'Gonze-Lee'})"
    )
    triplets = sum(int(np.count_nonzero(np.asarray(bucket.weights))) for bucket in plan.triplets)
    points = f"{len(mesh.irreducible)} of {len(mesh.qpoints)} points irreducible, {triplets} triplets"
    return (
        f"crystal  {formula(cells.crystal)}, {group.international} ({group.number}){moments}\n"
        f"{masses}"
        f"forces   {report.origin}; {atoms}{correction}\n"
        f"mesh     {'×'.join(map(str, mesh.dims))}, {points}\n"
    )


def _given_masses(crystal: Crystal, isotopes: dict[str, tuple[float, float]]) -> str:
    """A line on masses that are not the natural ones, or nothing."""
    if isotopes:
        mixed = [f"{symbol} {mass:.6g} amu, mass variance {g:.3g}" for symbol, (mass, g) in isotopes.items()]
        return f"isotopes {'; '.join(mixed)}\n"
    unnatural = np.flatnonzero(~has_natural_mass(crystal))
    if not len(unnatural):
        return ""
    words = {f"{SYMBOLS[int(crystal.numbers[k])]} {float(crystal.masses[k]):.6g}" for k in unnatural}
    return f"masses   {', '.join(sorted(words))} amu as given, not the natural ones: no isotope scattering there\n"
