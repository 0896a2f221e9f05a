"""Neighbour graphs of periodic structures: built on the host, padded and masked, passed to kernels as an argument.

The list of edges is fixed inside every derivative. That is exact as long as no pair sits on a distance where the
potential is not smooth, so the distance to the nearest such pair (the margin) is reported with each graph.
"""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from .._core.pytree import Array, pytree

OVERLAP = 0.3  # Å: no potential means anything for atoms closer than this, and most divide by the distance
# A chunk of less does not pay on an accelerator, where every step costs the launches of its kernels.
ACCELERATOR_CHUNK = 2**28  # bytes
MARGIN_REACH = 0.5  # Å beyond the cutoff within which the margin is looked for


@pytree()
class Bonds:
    """The short edges of a graph, atom by atom: slot (n, k) holds the k-th edge with receiver n, or nothing.

    Pairs of bonds with a common atom are then pairs of slots of one row, and need no list.
    """

    #: (N, K) int, numbers of edges; 0 in empty slots
    edges: Array
    #: (N, K) int, the same bond seen from its other end, as an index into the N K slots in a row
    reverse: Array
    #: (N, K) bool, False in empty slots
    mask: Array


@pytree("chunk_bytes")
class Graph:
    """A periodic structure as a potential sees it.

    Edge e points from its centre `receivers[e]` to the neighbour `senders[e]`; every pair appears in both directions.
    Real edges are sorted by receiver. Padding edges join atom 0 to its own image along the first lattice vector, so
    that their length, and every derivative of it, is finite; `edge_mask` and `angle_mask` are False there. A function
    of the distance that is singular somewhere must guard its input (double `where`), not mask its output.

    Attributes:
        positions: (N, 3) Å.
        cell: (3, 3) Å, the lattice vectors are its rows.
        species: (N,) int, which entry of `Potential.species` each atom is.
        numbers: (N,) int, atomic numbers.
        senders: (E,) int, the neighbour that each edge points to.
        receivers: (E,) int, the atom that each edge starts from.
        shifts: (E, 3) int, lattice vector of the neighbour, in units of the rows of `cell`.
        edge_mask: (E,) bool, False for padding.
        angles: (T, 2) int, ordered pairs (e, e') of different edges with the same receiver; none unless
            `Potential.needs_angles`.
        angle_mask: (T,) bool, False for padding.
        bonds: the short edges, atom by atom; None unless the potential has a `bond_cutoff`.
        chunk_bytes: static; how many bytes of temporaries one chunk of a layer of message passing takes at least: 0 on
            a CPU, where a layer's own limit keeps a chunk in the cache.
        complete: per pair of species, how far at least all pairs are listed; None unless the potential's cutoffs are
            parameters (`Potential.distances`).
    """

    #: (N, 3) Å
    positions: Array
    #: (3, 3) Å, rows
    cell: Array
    #: (N,) int, index into Potential.species
    species: Array
    #: (N,) int, atomic numbers
    numbers: Array
    #: (E,) int
    senders: Array
    #: (E,) int
    receivers: Array
    #: (E, 3) int, lattice vector of the neighbour, in units of the rows of `cell`
    shifts: Array
    #: (E,) bool
    edge_mask: Array
    #: (T, 2) int, ordered pairs (e, e') of different edges with the same receiver
    angles: Array
    #: (T,) bool
    angle_mask: Array
    #: where the potential has a `bond_cutoff`
    bonds: Bonds | None = None
    #: bytes of temporaries that one chunk of a layer takes at least; keys compilation
    chunk_bytes: int = 0
    #: (S, S) Å, the shortest pair of these species that is not listed; None unless `Potential.distances` is given
    complete: Array | None = None

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[0]

    def vectors(self) -> Array:
        """r_e = x[sender] + shift · cell − x[receiver], Å. (E, 3)"""
        positions, shifts = jnp.asarray(self.positions), jnp.asarray(self.shifts)
        return positions[self.senders] + shifts.astype(positions.dtype) @ self.cell - positions[self.receivers]

    def at(self, positions: Array) -> Graph:
        """The same edges at other positions (Å), close enough for the list to hold."""
        return dataclasses.replace(self, positions=positions)

    def strained(self, strain: Array) -> Graph:
        """Positions and cell under the deformation 1 + ε, ε (3, 3): x → x (1 + ε)."""
        F = jnp.eye(3, dtype=self.positions.dtype) + strain
        return dataclasses.replace(self, positions=self.positions @ F, cell=self.cell @ F)

    def padded(self, edges: int, angles: int) -> Graph:
        """The same graph with its lists filled up to at least these lengths: few shapes, so few compilations."""
        e, t = max(0, edges - len(self.senders)), max(0, angles - len(self.angles))
        if e == t == 0:
            return self
        return dataclasses.replace(
            self,
            senders=np.pad(self.senders, (0, e)),
            receivers=np.pad(self.receivers, (0, e)),
            shifts=np.concatenate([self.shifts, np.tile(np.array([1, 0, 0], self.shifts.dtype), (e, 1))]),
            edge_mask=np.pad(self.edge_mask, (0, e)),
            angles=np.pad(self.angles, ((0, t), (0, 0))),
            angle_mask=np.pad(self.angle_mask, (0, t)),
        )
