"""Options that several commands have."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

from ..checks import positive_integers
from ..errors import InputError
from ..types import Precision

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def add_precision(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--precision",
        choices=get_args(Precision),
        default="double",
        help="mixed: third derivatives of the potential and matrix elements in single precision (default: double)",
    )


def add_processes(group: argparse._ActionsContainer) -> None:
    group.add_argument(
        "--processes",
        type=int,
        metavar="n",
        help="of an ASE calculator, which share the displaced supercells (default: this one)",
    )


def mesh_by_length(values: Sequence[str] | None) -> float | None:
    """The length in Å that one value of --mesh is; None for three values or none. Raises InputError."""
    if values is None or len(values) != 1:
        return None
    try:
        length = float(values[0])
    except ValueError:
        length = math.nan
    if not 0 < length < math.inf:
        raise InputError(f"--mesh {values[0]}: not a length in Å", "give a number such as 35, or three integers")
    return length


def mesh_and_supercells(arguments: argparse.Namespace) -> tuple[tuple[int, ...] | None, ...]:
    """--mesh, --fc2-supercell and --fc3-supercell, None where they are not given or a length; raises InputError."""
    by_length = mesh_by_length(arguments.mesh) is not None
    return (None if by_length else _integers(arguments, "--mesh"), *supercells(arguments))


def supercells(arguments: argparse.Namespace) -> tuple[tuple[int, ...] | None, ...]:
    """--fc2-supercell and --fc3-supercell, None where they are not given; raises InputError."""
    return _integers(arguments, "--fc2-supercell"), _integers(arguments, "--fc3-supercell")


def _integers(arguments: argparse.Namespace, name: str) -> tuple[int, ...] | None:
    value = getattr(arguments, name[2:].replace("-", "_"))
    return None if value is None else positive_integers(value, name)


__all__ = ["add_precision", "add_processes", "mesh_and_supercells", "mesh_by_length", "supercells"]
