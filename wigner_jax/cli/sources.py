"""Where force constants come from: SOURCE, and the options of the potential that makes them. Several commands have them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..crystal.prototypes import available_prototypes
from ..errors import InputError
from ..io.constants.formats import has_constants, read_force_constants
from ..io.structures import read_structure
from ..io.yaml_cells import holds_force_constants, is_yaml
from .checks import positive
from .options import add_processes

if TYPE_CHECKING:
    import ase

SOURCES = """\
SOURCE is one of
  a name       a built-in crystal, for example Si: see `wigner-jax prototypes`
  a structure  any file that ASE reads (POSCAR, cif, extxyz, ...)
  a yaml       phono3py.yaml with fc2.hdf5 and fc3.hdf5 beside it, phono3py_params.yaml[.xz] with forces,
               or phono3py_disp.yaml with FORCES_FC3 beside it; with --potential, one without force constants
               is a structure
  constants    the file that `kappa -o` kept beside its result, a folder that `fc` wrote, CONTROL of ShengBTE with the
               force constants beside it, or a .fcs of hiPhive
The force constants of a name or a structure come from a potential, by automatic differentiation."""


#: options that make no sense where force constants are given
OF_MODELS = (
    "potential", "fc2_supercell", "fc3_supercell", "relax", "derivatives", "index", "format", "processes", "pair_cutoff",
)  # fmt: skip


def add_source(parser: argparse.ArgumentParser, formats: bool = True) -> None:
    """SOURCE and --fc, and how a structure is read; `formats`: --format too, where it means nothing else."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        nargs="?",
        help="name of a crystal, structure file, or a file or folder of force constants",
    )
    parser.add_argument(
        "--fc",
        metavar="FILE",
        help="force constants instead of SOURCE: a file or folder that holds them, whatever its name",
    )
    parser.add_argument(
        "--index", metavar="i", help="which structure of a file with several, from 0 (default: -1, the last)"
    )
    if formats:
        parser.add_argument(
            "--format",
            metavar="NAME",
            help="ASE's name of the file's format, such as espresso-in (default: by its name)",
        )
    parser.add_argument(
        "--symprec",
        type=float,
        metavar="Å",
        help="snap the structure onto the space group that it has within this tolerance (default: 1e-5)",
    )


def add_model(parser: argparse.ArgumentParser, processes: bool = True) -> None:
    """The potential, and what it is asked for; `processes`: --processes too, where displaced supercells can be shared."""
    model = parser.add_argument_group("force constants (from a name or a structure)")
    model.add_argument(
        "--potential",
        metavar="NAME|FILE",
        help="default: a built-in one that is meant for the compound; ase:module:factory takes any ASE calculator, from a"
        " function or class of an installed module or of one in the current folder",
    )
    model.add_argument(
        "--derivatives",
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
    model.add_argument(
        "--pair-cutoff",
        type=float,
        metavar="Å",
        help="finite displacements: atoms further apart are not displaced together (default: all pairs are)",
    )
    if processes:
        add_processes(model)


def add_constraints(parser: argparse.ArgumentParser) -> None:
    """What is imposed on force constants, wherever they come from."""
    group = parser.add_argument_group("imposed on force constants")
    group.add_argument(
        "--fc3-cutoff", type=float, metavar="Å", help="leave out what Φ3 has between atoms further apart"
    )
    group.add_argument(
        "--rotational",
        action="store_true",
        help="rotational (Born-Huang) and Huang sum rules on Φ2: for layers and wires, without long-ranged dipoles",
    )


def constraints(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `prepare` is told of `add_constraints` and of --pair-cutoff."""
    positive(arguments.fc3_cutoff, "--fc3-cutoff")
    positive(arguments.pair_cutoff, "--pair-cutoff")
    return {
        "fc3_cutoff": arguments.fc3_cutoff, "rotational": arguments.rotational, "pair_cutoff": arguments.pair_cutoff
    }  # fmt: skip


def source_of(arguments: argparse.Namespace) -> tuple[str | ase.Atoms, str | None]:
    """The structure and the name of the model; a file or folder of force constants stands for itself.

    Raises:
        InputError: no source or two, or options that do not go with it.
    """
    positive(arguments.symprec, "--symprec")
    if (arguments.source is None) == (arguments.fc is None):
        what = "there is neither SOURCE nor --fc" if arguments.fc is None else "--fc stands instead of SOURCE"
        raise InputError(what, f"give one of them, see wigner-jax {arguments.command} --help")
    if arguments.fc is not None and not has_constants(arguments.fc):
        read_force_constants(arguments.fc)  # which says what it is not
    source, given = (
        str(arguments.fc if arguments.source is None else arguments.source),
        getattr(arguments, "format", None),
    )
    if arguments.fc is None and not has_constants(source, arguments.potential):
        if arguments.index is None and given is None:
            return source, arguments.potential
        if not Path(source).exists() and source in available_prototypes():
            name = "--format" if arguments.index is None else "--index"
            raise InputError(f"{name} is of a structure file, and {source} is a built-in crystal", "leave it out")
        return read_structure(source, arguments.index, given), arguments.potential
    if is_yaml(source) and Path(source).is_file() and not holds_force_constants(source):
        raise InputError(f"{source} has no force constants, nor are there any beside it", "name a --potential")
    for option in OF_MODELS:
        if getattr(arguments, option, None) is not None:
            name = "--no-relax" if option == "relax" and not arguments.relax else "--" + option.replace("_", "-")
            raise InputError(f"{name} does not go with {source}, which has force constants", "leave it out")
    return source, None


__all__ = ["SOURCES", "add_constraints", "add_model", "add_source", "constraints", "source_of"]
