"""``wigner-jax fc``: force constants of a crystal, in files of this program or of others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.progress import Progress, progress_stream
from ..io.constants.formats import FILES, check_places, write_force_constants
from ..pipeline import prepare
from .checks import positive
from .options import add_precision, supercells
from .sources import SOURCES, add_constraints, add_model, add_source, constraints, source_of

if TYPE_CHECKING:
    import argparse

HELP = "force constants, for this program or others"
DESCRIPTION = (
    """\
Force constants of second and third order, made with a potential or read from files, written in the format of
  wigner-jax   force_constants.hdf5, for `kappa --fc`
  phono3py     phono3py.yaml, fc2.hdf5, fc3.hdf5
  phonopy      phonopy.yaml, FORCE_CONSTANTS (second order alone)
  shengbte     CONTROL, FORCE_CONSTANTS_2ND, FORCE_CONSTANTS_3RD
  hiphive      force_constants.fcs

"""
    + SOURCES
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    add_source(parser, formats=False)
    parser.add_argument(
        "-o", "--out", required=True, metavar="FOLDER", help="where the files go; made if it is not there"
    )
    parser.add_argument(
        "--format",
        dest="written",
        choices=tuple(FILES),
        default="wigner-jax",
        help="of the files (default: wigner-jax)",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="phono3py, phonopy: rows of all atoms of the supercell, not the primitive ones",
    )
    parser.add_argument(
        "--nac", metavar="BORN|none", help="BORN file of the charges to write along, or none (default: the source's)"
    )
    add_model(parser)
    add_constraints(parser)
    run = parser.add_argument_group("running")
    add_precision(run)
    run.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    run.add_argument("--quiet", action="store_true", help="print nothing but the names of the files")


def run(arguments: argparse.Namespace) -> int:
    """Make or read them, then write them."""
    second, third = supercells(arguments)
    positive(arguments.processes, "--processes")
    imposed = constraints(arguments)
    source, model = source_of(arguments)
    check_places(arguments.out, arguments.written)
    stages = Progress(progress_stream(arguments.quiet))
    problem = prepare(
        source, model, fc2_supercell=second, fc3_supercell=third, relax=arguments.relax is not False,
        derivatives=arguments.derivatives, symprec=arguments.symprec, processes=arguments.processes or 1,
        **imposed, born=None if arguments.nac == "none" else arguments.nac, precision=arguments.precision, progress=stages,
    )  # fmt: skip
    given = problem.given._replace(born=None) if arguments.nac == "none" else problem.given
    with stages("files"):
        files = write_force_constants(arguments.out, given, arguments.written, full=arguments.full)
    if not arguments.quiet:
        cells = problem.supercells
        atoms = f"{cells.fc2_supercell.n_atoms} (Φ2) and {cells.fc3_supercell.n_atoms} (Φ3) atoms"
        print(f"{given.origin}; supercells of {atoms}")
    print(f"written: {', '.join(map(str, files))}")
    return 0
