"""Edges in blocks of one receiver: the geometry of a graph, and sums over neighbours as small matrix products."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ..._core.prefix_sum import prefix_sum
from ..._core.pytree import Array, pytree

if TYPE_CHECKING:
    from ..graph import Graph


@pytree("width", "atoms", "chunk_bytes")
class EdgeBlocks:
    """The edges of a graph, sorted into B blocks of `width` slots; all edges of a block have the same receiver.

    A sum over the neighbours of an atom, Σ_e a_e ⊗ b_e, is then a matrix product inside every block and a sum over few
    blocks, instead of one outer product in memory for every edge. Slots without an edge have `mask` False and a
    harmless unit vector. S = B · width.
    """

    edges: Array  # (S,) int, the edge of each slot; any where there is none
    senders: Array  # (S,) int
    receivers: Array  # (S,) int
    owners: Array  # (B,) int, receiver of each block, ascending
    mask: Array  # (S,) bool
    lengths: Array  # (S,) Å; 1 where the mask is False
    units: Array  # (S, 3) from the sender to the receiver
    width: int
    atoms: int
    chunk_bytes: int  # `Graph.chunk_bytes`

    def grouped(self, values: Array) -> Array:
        """Values of the slots, block by block. (S, ...) -> (B, width, ...)"""
        return values.reshape(-1, self.width, *values.shape[1:])

    def repeated(self, values: Array) -> Array:
        """Every receiver's values in all of its slots. (N, C) -> (S, C)"""
        rows = values[self.owners]
        return jnp.broadcast_to(rows[:, None, :], (rows.shape[0], self.width, rows.shape[1])).reshape(-1, rows.shape[1])

    def scatter(self, values: Array) -> Array:
        """Sums over the blocks of every receiver. (B, ...) -> (N, ...)"""
        return jax.ops.segment_sum(values, self.owners, self.atoms, indices_are_sorted=True)

    def total(self, values: Array) -> Array:
        """out[n] = Σ_{e → n} values[e]. (S, ...) -> (N, ...)"""
        return self.scatter(self.grouped(values).sum(axis=1))


def contract_blocks(first: Array, second: Array) -> Array:
    """Σ over the slots of a block and over x of first ⊗ second. (b, width, X, Y), (b, width, X, C) -> (b, Y, C)

    For Y = 1 it is a sum of products and not a matrix product: XLA (jaxlib 0.10.2, CPU) compiles third derivatives of
    batches of products of a row with a matrix to wrong numbers, 9 % off in the last layer of SevenNet-0.
    """
    b, width, X, Y = first.shape
    first, second = first.reshape(b, width * X, Y), second.reshape(b, width * X, -1)
    return jnp.sum(first * second, axis=1, keepdims=True) if Y == 1 else jnp.einsum("bxy,bxc->byc", first, second)


def edge_blocks(graph: Graph, width: int | None = None) -> EdgeBlocks:
    """The edges of a graph in blocks, with their geometry.

    The number of blocks, E/width + N, bounds what any distribution of the edges over the atoms needs, so that shapes
    depend on the graph's shapes alone. Two atoms in the same place give finite numbers without meaning, not NaN.

    Args:
        width: slots of a block; by default about a sixth of the mean number of neighbours, at most 8: of wider blocks
            too many slots stay empty.
    """
    E, N = graph.edge_mask.shape[0], graph.n_atoms
    if width is None:
        width = min(8, max(1, E // max(1, 6 * N)))
    B = -(-E // width) + N
    mask, receivers = jnp.asarray(graph.edge_mask), jnp.asarray(graph.receivers)
    # edges are sorted by receiver, padding comes last
    count = jnp.zeros(N, jnp.int32).at[receivers].add(mask.astype(jnp.int32))
    first = prefix_sum(count) - count
    last = first + count
    needed = jax.lax.div(count + (width - 1), jnp.int32(width))
    stop = prefix_sum(needed)
    block = jnp.arange(B, dtype=jnp.int32)
    owners = jnp.minimum(jnp.sum(stop[None, :] <= block[:, None], axis=1, dtype=jnp.int32), N - 1)
    rank = (block - (stop - needed)[owners])[:, None] * width + jnp.arange(width, dtype=jnp.int32)
    order = (first[owners][:, None] + rank).reshape(-1)
    filled = order < jnp.repeat(last[owners], width)
    order = jnp.minimum(order, E - 1)

    ordered = dataclasses.replace(
        graph,
        senders=jnp.asarray(graph.senders)[order],
        receivers=jnp.repeat(owners, width),
        shifts=jnp.asarray(graph.shifts)[order],
    )
    vectors = -ordered.vectors()
    square = jnp.sum(vectors**2, axis=-1)
    usable = filled & (square > 0)
    vectors = jnp.where(usable[:, None], vectors, jnp.array([1.0, 0.0, 0.0], vectors.dtype))
    lengths = jnp.sqrt(jnp.where(usable, square, 1.0))
    units = vectors / lengths[:, None]
    return EdgeBlocks(
        order, ordered.senders, ordered.receivers, owners, filled, lengths, units, width, N, graph.chunk_bytes
    )
