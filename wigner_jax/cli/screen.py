"""``wigner-jax screen``: κ of many crystals with one potential. See screening/ for what is kept."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._core.progress import Progress, duration, progress_stream
from ..checks import temperatures_above_zero
from ..crystal.validity import require_structure
from ..errors import InputError
from ..pipeline import any_model, model_of
from ..screening.estimate import estimate, too_much
from ..screening.material import DONE, IMAGINARY
from ..screening.run import screen
from ..screening.settings import BROADENINGS, POINTS, ScreenSettings
from ..screening.sources import structures_from
from .benchmark import shard_of
from .checks import positive
from .options import add_precision, mesh_and_supercells

if TYPE_CHECKING:
    from ..screening.job import Screening

HELP = "many crystals with one potential, in one table"
DESCRIPTION = """\
κ of many crystals with one potential: each is relaxed, its force constants are made, and the Wigner conductivity is
computed, without any reference data. Supercells and meshes are chosen by rules (below), unless a structure's info names them.

INPUT is a folder of structure files, a file of many structures (extxyz, cif, traj), or an ASE database.

In the folder of -o: table.csv and screen.db (an ASE database), and materials/NAME.hdf5 for each material. The same command
continues an interrupted screening. A material that fails is a row with its status and reason, and nothing to the others."""
CODE = 4  # some materials have no κ for another reason than imaginary modes
UNFINISHED = 5  # the time was over before the last


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    parser.add_argument("input", metavar="INPUT", help="folder, file of structures, or ASE database")
    parser.add_argument("--potential", required=True, metavar="NAME|FILE|ase:module:factory")
    parser.add_argument(
        "-o", "--out", metavar="FOLDER", help="made if it is not there, continued if it is; required unless --dry-run"
    )

    rules = parser.add_argument_group("rules")
    rules.add_argument(
        "--mesh", nargs=3, metavar=("a", "b", "c"), help="the same q-mesh for all (default: by --mesh-points)"
    )
    rules.add_argument(
        "--mesh-points", type=int, default=POINTS, metavar="N",
        help=f"q-points times atoms of the primitive cell (default: {POINTS}, 19×19×19 for two atoms: finer than that of"
        " `kappa`, for a table whose numbers can be compared)",
    )  # fmt: skip
    supercell = "in units of the given cells (default: what the info says, else conventional cells to a thickness of"
    rules.add_argument("--fc2-supercell", nargs=3, metavar=("a", "b", "c"), help=f"{supercell} 10 Å)")
    rules.add_argument("--fc3-supercell", nargs=3, metavar=("a", "b", "c"), help=f"{supercell} 8 Å)")
    rules.add_argument("--symprec", type=float, metavar="Å", help="snap structures onto their space group within this")
    rules.add_argument(
        "--derivatives", choices=("ad", "finite-displacement"),
        help="automatic differentiation, or displacements of 0.03 Å (default: as `wigner-jax models` says)",
    )  # fmt: skip
    rules.add_argument(
        "--relax", action=argparse.BooleanOptionalAction, default=True, help="cell and atoms first (default)"
    )
    rules.add_argument("-T", "--temperatures", nargs="+", type=float, default=[300.0], metavar="K", help="default: 300")
    rules.add_argument(
        "--broadening",
        choices=BROADENINGS,
        default="tetrahedron",
        help="how energy conservation is integrated (default: tetrahedron)",
    )
    add_precision(rules)
    rules.add_argument("--boundary-mfp", type=float, metavar="µm", help="add boundary scattering of this length")

    work = parser.add_argument_group("running")
    work.add_argument(
        "--coarse", type=int, metavar="n",
        help="two stages: all on a mesh with sixteen times fewer points, then the first n on the whole one",
    )  # fmt: skip
    work.add_argument(
        "--lowest", action="store_true", help="with --coarse: those of the lowest κ (default: the highest)"
    )
    work.add_argument("--shard", default="1/1", metavar="i/n", help="every n-th structure, beginning with the i-th")
    work.add_argument("--processes", type=int, metavar="n", help="processes that share the cores (default: this one)")
    work.add_argument("--ray", type=int, metavar="n", help="actors on a Ray cluster instead, which share the folder")
    work.add_argument("--max-time", type=float, metavar="h", help="begin no material that would end later")
    work.add_argument(
        "--max-memory", type=float, metavar="GB", help="leave out what needs more (default: this machine's)"
    )
    work.add_argument("--dry-run", action="store_true", help="print what each material would take, and do nothing")
    work.add_argument(
        "--restart", action="store_true", help="make records of other settings or another potential again"
    )
    work.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    work.add_argument("--quiet", action="store_true", help="print nothing but the summary")


def run(arguments: argparse.Namespace) -> int:
    """Do what is missing, then print the table."""
    mesh, fc2, fc3 = mesh_and_supercells(arguments)
    for name in ("boundary_mfp", "symprec", "max_time", "max_memory", "mesh_points"):
        positive(getattr(arguments, name), f"--{name.replace('_', '-')}")
    if arguments.coarse is not None and arguments.coarse < 1:
        raise InputError(f"--coarse must be at least 1, got {arguments.coarse}")
    if arguments.lowest and arguments.coarse is None:
        raise InputError("--lowest belongs to --coarse", "give both, or neither")
    settings = ScreenSettings(
        temperatures=temperatures_above_zero(arguments.temperatures), mesh=mesh, mesh_points=arguments.mesh_points,
        fc2_supercell=fc2, fc3_supercell=fc3, relax=arguments.relax, derivatives=arguments.derivatives,
        symprec=arguments.symprec, broadening=arguments.broadening, boundary_mfp=arguments.boundary_mfp,
        precision=arguments.precision, max_memory=arguments.max_memory,
    )  # fmt: skip
    shard = shard_of(arguments.shard)
    if arguments.dry_run:
        return _dry_run(arguments, settings, shard)
    if arguments.out is None:
        raise InputError("where to? there is no -o", "name a folder with -o, or give --dry-run")
    result = screen(
        arguments.input, arguments.potential, out=arguments.out, settings=settings, coarse=arguments.coarse,
        highest=not arguments.lowest, shard=shard, processes=arguments.processes, ray=arguments.ray,
        max_time=None if arguments.max_time is None else 3600 * arguments.max_time, restart=arguments.restart,
        progress=Progress(progress_stream(arguments.quiet)),
        on_record=None if arguments.quiet else lambda *found: print(line_of(*found), flush=True),
    )  # fmt: skip
    print(summary(result, Path(arguments.out), not arguments.lowest))
    if not result.complete:
        return UNFINISHED
    return CODE if any(r["status"] not in (DONE, IMAGINARY) for r in result.records) else 0


def _dry_run(arguments: argparse.Namespace, settings: ScreenSettings, shard: tuple[int, int]) -> int:
    """What each material would take."""
    potential = any_model(arguments.potential)
    code = 0
    found = structures_from(arguments.input)
    for name in list(found)[shard[0] - 1 :: shard[1]]:
        try:
            structure = found[name]
            if isinstance(structure, str):
                raise InputError(structure)
            atoms = require_structure(structure)
            about = estimate(atoms, model_of(potential, atoms), settings)
            reason = too_much(about, settings)
            print(f"{name}: {about.line()}" + (f": left out, {reason}" if reason else ""))
        except (ValueError, OSError) as error:
            reason = " ".join(str(error).split())
            print(f"{name}: {reason}")
        code = CODE if reason else code
    return code


def line_of(record: dict[str, Any], number: int, total: int, left: str) -> str:
    """One line for a finished material."""
    took = duration(record["seconds"]["total"])
    name = f"[{number}/{total}] {record['name']:<14} {record.get('formula', ''):<8}"
    rest = f"({took}{left and f', {left} left'})"
    if record["status"] == DONE:
        return f"{name} κ {record['kappa'][0]:9.3f} W/(m K) at {record['temperatures'][0]:g} K  {rest}"
    reason = record["reason"].removeprefix(f"{record['status']}: ")
    return f"{name} {record['status']}: {reason}  {rest}"


def summary(result: Screening, folder: Path, highest: bool, most: int = 10) -> str:
    """What came out, in a few lines."""
    counts: dict[str, int] = {}
    for record in result.records:
        counts[record["status"]] = counts.get(record["status"], 0) + 1
    ranked = result.ranked(highest)
    lines = [f"{len(result.records)} materials: " + ", ".join(f"{n} {status}" for status, n in counts.items())]
    if result.missing:
        lines.append(f"{len(result.missing)} have no record yet: the same command goes on")
    if ranked:
        lines.append(f"{'highest' if highest else 'lowest'} κ at {ranked[0]['temperatures'][0]:g} K, W/(m K):")
    for record in ranked[:most]:
        stage = " (coarse mesh)" if record.get("stage") == "coarse" else ""
        lines.append(f"  {record['name']:<16} {record['formula']:<8} {record['kappa'][0]:10.3f}{stage}")
    lines.append(f"written: {folder / 'table.csv'}, {folder / 'screen.db'}")
    return "\n".join(lines)
