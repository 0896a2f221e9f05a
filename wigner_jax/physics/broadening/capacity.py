"""Static sizes for the lists of on-shell processes: measured once, with a margin, rounded so that compounds share programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...types import TripletBucket

#: largest numbers of (three-phonon items, triplets with degenerate modes, isotope items) at any one q of a bucket
Capacity = tuple[int, int, int]

SHARED = 4  # steps between the sizes for values
LEAST_CAPACITY = 4096  # every one is this or larger by powers of two and three: pieces of items and LANES divide it


def measured(
    buckets: Sequence[TripletBucket],
    needs: Callable[[TripletBucket], Capacity],
    margin: float,
    sample: int | None = None,
    steps: int = 1,
) -> tuple[Capacity, ...]:
    """Capacities from the needs of all q-points, or of `sample` q-points of every bucket, evenly spread.

    Args:
        needs: the largest needs among the members of a bucket.
        margin: extra share.
        steps: see `rounded_capacity`.
    """
    found = []
    for bucket in buckets:
        count = len(bucket.members)
        chosen = np.arange(count) if sample is None else np.unique(np.linspace(0, count - 1, sample).astype(int))
        some = jax.tree.map(lambda x: x[chosen], bucket)  # noqa: B023
        found.append(rounded_capacity(needs(some), margin, steps))
    return tuple(found)


def rounded_capacity(needed: Capacity, margin: float, steps: int = 1) -> Capacity:
    """Static sizes for measured needs: with a margin, up to the next 2^k or 1.5·2^k, so that compounds share compilations.

    Capacity for items that is not needed costs a value next to nothing: they are looked up and weighted chunk by chunk, and
    empty chunks are skipped. (Reverse mode keeps what it looked up, and capacity for degenerate triplets is work.)

    Args:
        steps: of √2 each for the two numbers of items; 4 serves most compounds of one structure with one size: 16,000 to
            32,000 three-phonon items for six rocksalts on 11×11×11 points.
    """

    def up(count: int, least: int, steps: int) -> int:
        size = least
        while size < count * (1 + margin):
            for _ in range(steps):
                size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
        return size

    three, degenerate, one = needed
    return up(three, LEAST_CAPACITY, steps), up(degenerate, 64, 1), up(one, LEAST_CAPACITY, steps)


__all__ = ["SHARED", "Capacity", "measured", "rounded_capacity"]
