"""Neighbour graphs of crystals: edges, angles and bonds, padded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from ..errors import InputError
from .graph import ACCELERATOR_CHUNK, MARGIN_REACH, OVERLAP, Bonds, Graph

if TYPE_CHECKING:
    import ase

    from ..types import Crystal, Supercell
    from .base import Potential


def padded_size(count: int) -> int:
    """The next size of the form {4, 5, 6, 7} · 2^k: few shapes, so few compilations, at most 25 % padding."""
    if count <= 4:
        return 4
    step = 2 ** (int(count - 1).bit_length() - 3)
    return -(-count // step) * step


def power_of_two(count: int) -> int:
    """The next one, at least 4: fewer shapes than `padded_size` gives, where padding costs little."""
    return 2 ** max(2, int(count - 1).bit_length())


def shared_size(edges: int, atoms: int, potential: Potential) -> int:
    """A number of edges that most crystals with as many atoms share: 24 for an atom, or four times more or less.

    Within 6 Å an atom of a rocksalt or zincblende has 18 to 92 neighbours. Only for potentials whose layers skip what is
    empty (`Energy.skips_padding`): third derivatives of Nequix in 64 atoms of NaCl, with 32 neighbours each, take a fifth
    longer with lists for 96, where a program for another size takes half a minute to compile. Else `padded_size`.
    """
    if not getattr(potential.energy, "skips_padding", False):
        return padded_size(edges)
    size = 6 * atoms
    while size < edges:
        size *= 4
    return size


class Room:
    """Lengths of the lists of small graphs, with some to spare, so that a relaxation and many crystals share programs."""

    def __init__(self, spare: float, potential: Potential) -> None:
        self.spare, self.potential = spare, potential
        self.edges = self.angles = 0

    def filled(self, graph: Graph) -> Graph:
        """The graph with lists at least as long as those of the first one, and a share more."""
        edges, angles = int(np.sum(graph.edge_mask)), int(np.sum(graph.angle_mask))
        if edges > self.edges or angles > self.angles:
            # angles grow with the square of the edges
            shared = shared_size(edges, graph.n_atoms, self.potential)
            self.edges = max(self.edges, power_of_two(int((1 + self.spare) * shared)))
            self.angles = max(self.angles, power_of_two(int((1 + self.spare) ** 2 * angles)) if angles else 0)
        return graph.padded(self.edges, self.angles)


def graph_of(
    lattice: np.ndarray, positions: np.ndarray, numbers: np.ndarray, potential: Potential
) -> tuple[Graph, float]:
    """The neighbour graph of one cell.

    Args:
        lattice: (3, 3) Å, rows.
        positions: (N, 3) Å, inside the cell or not.
        numbers: (N,) atomic numbers.

    Returns:
        graph: numpy leaves; its `chunk_bytes` suits JAX's default backend.
        margin: Å; no pair of atoms is closer than this to a distance at which the potential is not smooth (a cutoff,
            `potential.bond_cutoff` or one of `potential.nonsmooth_distances`); infinite if there is none within 0.5 Å of a cutoff.

    Raises:
        InputError: two atoms closer than 0.3 Å.
    """
    from ase.neighborlist import primitive_neighbor_list

    lattice, positions = np.asarray(lattice, float), np.asarray(positions, float)
    kinds = np.array(potential.species_of(numbers), int)
    i, j, distance, shift = primitive_neighbor_list(
        "ijdS", (True, True, True), lattice, positions, potential.cutoff + MARGIN_REACH, self_interaction=False
    )
    if len(distance) and distance.min() < OVERLAP:
        k = int(distance.argmin())
        raise InputError(
            f"atoms {i[k]} and {j[k]} (counted from 0) overlap: they are {distance[k]:.3g} Å apart; check the structure for"
            " duplicates and its units"
        )
    size = len(potential.species)
    cutoffs = np.array([[potential.pair_cutoff(s, t) for t in range(size)] for s in range(size)])
    reach = cutoffs[kinds[i], kinds[j]]
    margin = float(np.min(np.abs(distance - reach), initial=np.inf))
    present = set(kinds.tolist())
    for s, t, length in potential.nonsmooth_distances:
        if s not in present or t not in present:
            continue
        pairs = (kinds[i] == s) & (kinds[j] == t) | (kinds[i] == t) & (kinds[j] == s)
        margin = min(margin, float(np.min(np.abs(distance[pairs] - length), initial=np.inf)))

    keep = np.flatnonzero(distance < reach)
    keep = keep[np.argsort(i[keep], kind="stable")]
    receivers, senders, shifts = i[keep], j[keep], shift[keep]
    angles = _pairs_of_edges(receivers) if potential.needs_angles else np.empty((0, 2), int)
    bonds = None
    if potential.bond_cutoff is not None:
        margin = min(margin, float(np.min(np.abs(distance - potential.bond_cutoff), initial=np.inf)))
        bonds = _bonds(lattice, positions, receivers, senders, shifts, potential.bond_cutoff)
    graph = Graph(
        positions,
        lattice,
        kinds.astype(np.int32),
        np.asarray(numbers, np.int32),
        senders=senders.astype(np.int32),
        receivers=receivers.astype(np.int32),
        shifts=shifts.astype(np.int32),
        edge_mask=np.ones(len(keep), bool),
        angles=angles.astype(np.int32),
        angle_mask=np.ones(len(angles), bool),
        bonds=bonds,
        chunk_bytes=0 if jax.default_backend() == "cpu" else ACCELERATOR_CHUNK,
        complete=None if potential.distances is None else _complete(kinds, i, j, distance, cutoffs),
    )
    return graph.padded(padded_size(len(keep)), padded_size(len(angles)) if potential.needs_angles else 0), margin


def _complete(kinds: np.ndarray, i: np.ndarray, j: np.ndarray, distance: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
    """The shortest pair of each two species that is not listed, Å; where none was found, how far they were looked for."""
    there = np.isin(np.arange(len(cutoffs)), kinds)
    nearest = np.where(there[:, None] & there, cutoffs.max() + MARGIN_REACH, np.inf)
    first, second = kinds[i], kinds[j]
    beyond = distance >= cutoffs[first, second]
    np.minimum.at(nearest, (first[beyond], second[beyond]), distance[beyond])
    return nearest


def supercell_graph(crystal: Crystal, supercell: Supercell, potential: Potential) -> tuple[Graph, float]:
    """`graph_of` a supercell of a crystal, its lists of a length that other crystals share."""
    numbers = np.asarray(crystal.numbers)[supercell.primitive_index]
    lattice = supercell.matrix @ np.asarray(crystal.lattice)
    graph, margin = graph_of(lattice, supercell.positions_in(crystal), numbers, potential)
    return graph.padded(shared_size(int(np.sum(graph.edge_mask)), graph.n_atoms, potential), 0), margin


def build_graph(atoms: ase.Atoms, potential: Potential) -> tuple[Graph, float]:
    """`graph_of` for an ASE structure, which must be periodic in three directions."""
    if not np.all(atoms.pbc):
        raise ValueError("the structure must be periodic in three directions: set atoms.pbc and a cell")
    return graph_of(np.asarray(atoms.cell), atoms.positions, atoms.numbers, potential)


def _pairs_of_edges(receivers: np.ndarray) -> np.ndarray:
    """All ordered pairs of different edges with a common receiver; `receivers` is sorted. (T, 2)"""
    counts = np.bincount(receivers)
    starts = np.cumsum(counts) - counts
    pairs = [
        start + np.argwhere(~np.eye(count, dtype=bool))
        for start, count in zip(starts, counts, strict=True)
        if count > 1
    ]
    return np.concatenate(pairs) if pairs else np.empty((0, 2), int)


def _bonds(
    lattice: np.ndarray, positions: np.ndarray, i: np.ndarray, j: np.ndarray, shift: np.ndarray, cutoff: float
) -> Bonds:
    """Slots of the edges (i, j, shift) shorter than `cutoff`; `i` is sorted."""
    # the same numbers for both directions of an edge: rounding could put them on different sides of the cutoff
    first = np.take_along_axis(shift, (shift != 0).argmax(axis=1)[:, None], axis=1)[:, 0]
    turned = (i > j) | (i == j) & (first < 0)
    start, end, lattice_vector = (
        np.where(turned, j, i),
        np.where(turned, i, j),
        np.where(turned[:, None], -shift, shift),
    )
    length = np.linalg.norm(positions[end] + lattice_vector @ lattice - positions[start], axis=1)
    short = np.flatnonzero(length < cutoff)
    i, j, shift = i[short], j[short], shift[short]
    forth, back = np.lexsort((*shift.T, j, i)), np.lexsort((*-shift.T, i, j))
    reverse = np.empty(len(short), int)
    reverse[back] = forth

    counts = np.bincount(i, minlength=len(positions))
    K = max(2, int(counts.max() + 1) // 2 * 2)  # few shapes
    slot = i * K + np.arange(len(i)) - np.repeat(np.cumsum(counts) - counts, counts)
    table = np.zeros((3, len(positions) * K), np.int32)
    table[:, slot] = short, slot[reverse], np.ones(len(i))
    edges, ends, mask = table.reshape(3, len(positions), K)
    return Bonds(edges, ends, mask.astype(bool))
