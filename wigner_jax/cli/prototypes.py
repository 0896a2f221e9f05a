"""``wigner-jax prototypes``: the crystals that `kappa` takes by name."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from ..crystal.prototypes import STRUCTURES, available_prototypes, prototype

if TYPE_CHECKING:
    import argparse


HELP = "the crystals that go by name"
DESCRIPTION = """\
The crystals that `wigner-jax kappa` takes by name, by their structure. They start from measured lattice constants; a
relaxation takes them to the potential's own."""
WIDTH = 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(arguments: argparse.Namespace) -> int:
    """Print the names, and those that need no potential to be named."""
    from ..potentials.registry import default_potential_name

    for structure, names in STRUCTURES.items():
        print(_line(structure, list(names)))
    chosen = {name: default_potential_name(prototype(name).numbers) for name in available_prototypes()}
    print("\nwith a built-in potential, where no other is named:")
    for potential in dict.fromkeys(filter(None, chosen.values())):
        print(_line(potential, [name for name, found in chosen.items() if found == potential]))
    return 0


def _line(head: str, names: list[str]) -> str:
    return textwrap.fill(", ".join(names), WIDTH, initial_indent=f"{head:20}", subsequent_indent=" " * 20)
