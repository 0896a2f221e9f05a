"""Windows of modes on shell, expanded into lists of static length."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.prefix_sum import prefix_sum

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..._core.tiling import Tiling

LANES = 256  # pieces of a running maximum


def running_maximum(x: Array, tiling: Tiling) -> Array:
    """Of integers ≥ 0, in pieces side by side: five times faster on a CPU than jax.lax.cummax, which is logarithmic."""
    if tiling.vectorised:
        return jax.lax.cummax(x)
    pieces = x.reshape(LANES, -1).T

    def step(most: Array, row: Array) -> tuple[Array, Array]:
        most = jnp.maximum(most, row)
        return most, most

    ends, inside = jax.lax.scan(step, jnp.zeros(LANES, x.dtype), pieces)
    earlier = jnp.where(np.tri(LANES, k=-1, dtype=bool), ends, 0)
    before = jnp.max(earlier, axis=1)
    return jnp.maximum(inside, before).T.ravel()


class Fields(NamedTuple):
    """Sizes of the indices that make up a row, and the number of lanes: packed into the bits of a label, lane highest.

    Shifts are cheap enough to be repeated wherever an index is used; integer division is a kernel of its own.
    """

    sizes: tuple[int, ...]  #: slowest first
    lanes: int

    @property
    def widths(self) -> list[int]:
        """Bits of every index, the lane's first."""
        return [max(1, (n - 1).bit_length()) for n in (self.lanes, *self.sizes)]

    def labels(self) -> Array:
        """The label of every window. (rows, lanes) int32, or int64 where that is too short."""
        dtype = np.int32 if sum(self.widths) < 32 else np.int64
        *indices, label = jnp.meshgrid(
            *(jnp.arange(n, dtype=dtype) for n in self.sizes), jnp.arange(self.lanes, dtype=dtype), indexing="ij"
        )
        for index, width in zip(indices, self.widths[1:], strict=True):
            label = (label << width) | index
        return label.reshape(-1, self.lanes)

    def unpack(self, label: Array) -> tuple[tuple[Array, ...], Array, Array]:
        """The indices, the row, and the lane of labels. int32"""
        indices, row, stride = [], 0, 1
        for size, width in zip(self.sizes[::-1], self.widths[:0:-1], strict=True):
            index = (label & ((1 << width) - 1)).astype(jnp.int32)
            label = label >> width
            indices.append(index)
            row, stride = row + stride * index, stride * size
        return tuple(indices[::-1]), row, label.astype(jnp.int32)


class Windows(NamedTuple):
    """Consecutive modes on shell, for every row and lane."""

    start: Array  #: (rows, lanes) int, first mode
    place: Array  #: (rows, lanes) int, where the items of a window begin in the list
    total: Array  #: () int, items in all

    def at(self, fields: Fields, label: Array, item: Array) -> tuple[tuple[Array, ...], Array, Array, Array]:
        """Indices of the row, lane, mode and whether there is such an item, for some items and their labels from `expand`;
        else 0."""
        valid = item < self.total
        indices, row, lane = fields.unpack(jnp.where(valid, label, 0))
        mode = self.start[row, lane] + item - self.place[row, lane]
        return indices, lane, jnp.where(valid, mode, 0), valid


def expand(start: Array, count: Array, fields: Fields, length: int, tiling: Tiling) -> tuple[Array, Windows]:
    """A list of the items of windows; lanes slowest, so that one triplet's items are neighbours.

    A running sum over the rows with all lanes at once, one scatter and one running maximum: on a CPU, where both are
    loops, three times faster than jnp.repeat, whose prefix sums are logarithmic. What an item is, is looked up where it
    is needed (`Windows.at`), so that room to spare costs little.

    Args:
        start, count: (rows, lanes) int, first mode and number of modes.
        fields: what a row is made of.

    Returns:
        label (length,) of the window of each item; the windows.
    """
    lanes = count.shape[1]

    def step(total: Array, c: Array) -> tuple[Array, Array]:
        return total + c, total

    if tiling.vectorised:
        after = jnp.cumsum(count, axis=0, dtype=count.dtype)
        totals, before = after[-1], after - count
    else:
        totals, before = jax.lax.scan(step, jnp.zeros(lanes, count.dtype), count)
    place = before + (prefix_sum(totals) - totals)  # of a window's first item
    # an empty window shares its place with the next one, whose label is larger
    label = fields.labels()
    label = jnp.zeros(length, label.dtype).at[place].max(label, mode="drop")
    return running_maximum(label, tiling), Windows(start, place, jnp.sum(totals))


def in_blocks(items: tuple[Array, ...], tiling: Tiling) -> tuple[Array, ...]:
    """Items (n, ...) as blocks (n/size, size, ...)."""
    size = tiling.pieces(len(items[0]), tiling.items)
    return tuple(x.reshape(-1, size, *x.shape[1:]) for x in items)


__all__ = ["Fields", "Windows", "expand", "in_blocks", "running_maximum"]
