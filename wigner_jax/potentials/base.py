"""What a potential is: an energy function, its parameters, and what its neighbour graph must hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import numpy as np

from .._core.pytree import Array, pytree
from ..crystal.elements import SYMBOLS
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .graph import Graph


Params = Any  # a pytree of floating arrays
LONGEST = 50.0  # Å, of the edges of a model that is read from a file: more is damage, and would take any memory


class Energy(Protocol):
    """E(params, graph) in eV of one periodic cell: a pure function of its arguments, traceable and differentiable.

    It must be a module-level function or a hashable object that compares by value: it keys compilation. Weights come in
    through `params` and never through a closure, where XLA would fold them as constants (33 s at 512 atoms).

    An attribute `message_layers` says through how many neighbours the energy of an atom reaches (1 without it);
    `skips_padding`, that edges of padding cost it little (False without it), so that more crystals share a program.
    """

    def __call__(self, params: Params, graph: Graph, /) -> Array: ...


class Distances(NamedTuple):
    """What neighbour lists go by: `Potential`'s entries of the same names."""

    cutoff: float
    pair_cutoffs: tuple[tuple[float, ...], ...] | None = None
    nonsmooth_distances: tuple[tuple[int, int, float], ...] = ()


@pytree(
    "energy",
    "name",
    "species",
    "cutoff",
    "pair_cutoffs",
    "nonsmooth_distances",
    "needs_angles",
    "bond_cutoff",
    "parity",
    "distances",
)
class Potential:
    """An interatomic potential: E = energy(params, graph). A pytree whose leaves are the parameters.

    Every potential of the package has this form, whatever its architecture: the graph gives positions, cell, species
    indices, directed edges and (on demand) pairs of edges that share a centre, all padded and masked.

    Attributes:
        params: the parameters, a pytree of float64 arrays; a dictionary by name if they are to be trained or saved.
        energy: E(params, graph) in eV (`Energy`); static, it keys compilation.
        name: what the model is called.
        species: atomic numbers; `Graph.species` indexes this tuple, and so do per-species parameters.
        cutoff: Å, the longest edge that the graph lists.
        pair_cutoffs: Å per pair of species, where shorter than `cutoff`; symmetric.
        nonsmooth_distances: (species, species, Å), indices into `species`: further distances where a derivative of E
            jumps when a pair crosses them; a graph's margin says how near to one the nearest pair is.
        needs_angles: whether the graph lists angles.
        bond_cutoff: Å; the graph also lists, atom by atom, the edges shorter than this (`Graph.bonds`).
        parity: whether E is the same for mirror images; if not, force constants are averages over both.
        distances: params → `Distances`, where the cutoffs are parameters themselves. `with_params` then takes them from the
            new ones, and graphs say how far their lists are complete (`Graph.complete`), so that the energy can be NaN
            where traced parameters reach further.
    """

    #: pytree of float64 arrays
    params: Params
    #: E(params, graph), eV
    energy: Energy
    #: what the model is called
    name: str
    #: atomic numbers
    species: tuple[int, ...]
    #: Å, the longest edge
    cutoff: float
    #: Å per pair of species, where shorter than `cutoff`
    pair_cutoffs: tuple[tuple[float, ...], ...] | None = None
    #: (species, species, Å): further distances where E is not smooth
    nonsmooth_distances: tuple[tuple[int, int, float], ...] = ()
    #: whether the graph lists angles
    needs_angles: bool = False
    #: Å; the graph lists, atom by atom, the edges shorter than this (`Graph.bonds`)
    bond_cutoff: float | None = None
    #: whether E is the same for mirror images; else force constants are made of both
    parity: bool = True
    #: params → `Distances`, where the cutoffs are parameters themselves
    distances: Callable[[Params], Distances] | None = None

    def __repr__(self) -> str:
        numbers = sum(np.size(x) for x in jax.tree.leaves(self.params))
        known = (
            " ".join(SYMBOLS[z] for z in self.species) if len(self.species) < 20 else f"{len(self.species)} elements"
        )
        return f"Potential({self.name!r}, {known}, cutoff {self.cutoff:g} Å, {numbers:,} parameters)"

    @property
    def reach(self) -> float:
        """How far the energy of an atom sees: the cutoff times the number of message-passing layers, Å."""
        return self.cutoff * getattr(self.energy, "message_layers", 1)

    def pair_cutoff(self, first: int, second: int) -> float:
        """Longest edge between two species (indices into `species`), Å."""
        return self.cutoff if self.pair_cutoffs is None else self.pair_cutoffs[first][second]

    def with_params(self, params: Params) -> Potential:
        """The same model with other parameters (a fine-tuned one, say).

        Cutoffs that are functions of the parameters follow them (`distances`), unless a transformation such as jit or grad
        traces them: then neighbour lists stay as they are.

        Raises:
            InputError: parameters from which no cutoffs can be made.
        """
        changed = dataclasses.replace(self, params=params)
        if self.distances is None or any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(params)):
            return changed
        return dataclasses.replace(changed, **self.distances(params)._asdict())

    def species_of(self, numbers: Sequence[int] | np.ndarray) -> list[int]:
        """Indices into `species` of atomic numbers; InputError for an element the potential does not know."""
        unknown = sorted({int(z) for z in numbers} - set(self.species))
        if unknown:
            known = [SYMBOLS[z] for z in self.species]
            raise InputError(
                f"potential {self.name!r} does not know {', '.join(SYMBOLS.get(z, f'Z={z}') for z in unknown)}; "
                f"it covers {', '.join(known) if len(known) < 20 else f'{len(known)} elements'}"
            )
        index = {z: k for k, z in enumerate(self.species)}
        return [index[int(z)] for z in numbers]


def require_same_shapes(potential: Potential, found: dict[str, Any], file: Path) -> None:
    """Raises InputError unless a file has all of the potential's parameters in the same shapes."""
    for name, value in potential.params.items():
        if name not in found or np.shape(found[name]) != np.shape(value):
            shape = np.shape(found[name]) if name in found else "nothing"
            raise InputError(f"{file}: weight {name!r} should have shape {np.shape(value)}, found {shape}")
