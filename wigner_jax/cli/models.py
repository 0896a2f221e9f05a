"""``wigner-jax models``: the potentials that `--potential` takes by name, and what is known of each."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from ..crystal.elements import SYMBOLS

if TYPE_CHECKING:
    import argparse

    from ..potentials.base import Potential
    from ..potentials.cards import Card


HELP = "the potentials that go by name"
DESCRIPTION = """\
The models that --potential takes by name: elements, cutoff, number of parameters, licence of the weights, smoothness
(the highest derivative of the energy that is continuous where a neighbour enters or leaves), how force constants are
made by default (AD: automatic differentiation; FD: finite displacements), and whether the weights are on this machine.

Weights are looked for in the folder that WIGNER_JAX_MODELS names, in the user's cache, in an installed package that
comes with them (sevenn), and in the original program's cache; else they are downloaded when a model is first used."""
ROUTES = {"ad": "AD", "finite-displacement": "FD"}
HEADER = ("model", "elements", "cutoff", "parameters", "licence", "smooth", "route", "weights")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        help="a name, for all that is known of that model in words, or a model's file",
    )


def run(arguments: argparse.Namespace) -> int:
    """The table of all models, or the card of one."""
    from ..potentials.cards import CARDS
    from ..potentials.registry import canonical_name, load_potential, path_of

    if arguments.model is not None and path_of(arguments.model) is not None:
        print(contents(load_potential(arguments.model)))
    elif arguments.model is None:
        print(table([_row(card) for card in CARDS.values()]))
        print("\nelements: number; cutoff in Å; – : only the file says. One model: wigner-jax models NAME")
    else:
        print(description(CARDS[canonical_name(arguments.model)]))
    return 0


def table(rows: list[tuple[str, ...]]) -> str:
    """Columns as wide as their content; numbers to the right."""
    lines = [HEADER, *rows]
    widths = [max(len(line[k]) for line in lines) for k in range(len(HEADER))]
    right = {"elements", "cutoff", "parameters"}
    return "\n".join(
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(HEADER, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def description(card: Card) -> str:
    """A card in full."""
    from ..potentials.registry import locate_model

    path = locate_model(card.name)
    elements = ", ".join(SYMBOLS[z] for z in card.elements)
    facts = {
        "model": f"{card.name} ({card.family})",
        "source": card.source,
        "elements": f"{len(card.elements)}: {elements}",
        "cutoff": "as the file says" if card.cutoff is None else f"{card.cutoff:g} Å",
        "parameters": "as the file says" if card.parameters is None else f"{card.parameters:,}",
        "licence": card.licence,
        "smoothness": f"{card.smooth}: {card.smoothness}",
        "route": "automatic differentiation" if card.route == "ad" else "finite displacements",
        "weights": _state(card) if path is None else str(path),
    }
    return _filled(facts)


def _filled(facts: dict[str, str]) -> str:
    indent = " " * 12
    return "\n".join(
        textwrap.fill(text, 110, initial_indent=f"{name:12}", subsequent_indent=indent) for name, text in facts.items()
    )


def contents(potential: Potential) -> str:
    """What the file of a model says of it."""
    import jax
    import numpy as np

    facts = {
        "model": potential.name,
        "elements": f"{len(potential.species)}: {', '.join(SYMBOLS[z] for z in potential.species)}",
        "cutoff": f"{potential.cutoff:g} Å",
        "sees": f"{potential.reach:g} Å",
        "parameters": f"{sum(np.size(x) for x in jax.tree.leaves(potential.params)):,}",
    }
    return _filled(facts)


def _row(card: Card) -> tuple[str, ...]:
    return (
        card.name,
        str(len(card.elements)),
        "–" if card.cutoff is None else f"{card.cutoff:.2f}",
        "–" if card.parameters is None else f"{card.parameters:,}",
        card.licence,
        card.smooth,
        ROUTES[card.route],
        _state(card),
    )


def _state(card: Card) -> str:
    from ..potentials.registry import available_potentials, locate_model

    if card.name in available_potentials():
        return "built in"
    return "to download" if locate_model(card.name) is None else "here"
