"""Options that several commands have."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from ..checks import positive_integers
from ..types import Precision

if TYPE_CHECKING:
    import argparse


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


def mesh_and_supercells(arguments: argparse.Namespace) -> tuple[tuple[int, ...] | None, ...]:
    """--mesh, --fc2-supercell and --fc3-supercell, None where they are not given; raises InputError."""
    return (_integers(arguments, "--mesh"), *supercells(arguments))


def supercells(arguments: argparse.Namespace) -> tuple[tuple[int, ...] | None, ...]:
    """--fc2-supercell and --fc3-supercell, None where they are not given; raises InputError."""
    return _integers(arguments, "--fc2-supercell"), _integers(arguments, "--fc3-supercell")


def _integers(arguments: argparse.Namespace, name: str) -> tuple[int, ...] | None:
    value = getattr(arguments, name[2:].replace("-", "_"))
    return None if value is None else positive_integers(value, name)


__all__ = ["add_precision", "add_processes", "mesh_and_supercells", "supercells"]
