"""Static sizes for the lists of on-shell processes."""

from __future__ import annotations


def rounded_capacity(needed: tuple[int, ...], margin: float) -> Capacity:
    """Static sizes for measured needs: with a margin, up to the next 2^k or 1.5·2^k, so that compounds share compilations.

    Room that is not needed costs next to nothing: items are weighted chunk by chunk, and empty chunks are skipped.
    """

    def up(count: int, least: int) -> int:
        size = least
        while size < count * (1 + margin):
            size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
        return size

    three, degenerate, one = needed
    return up(three, LEAST_CAPACITY), up(degenerate, 64), up(one, LEAST_CAPACITY)


LEAST_CAPACITY = 4096  # every room is this or larger by powers of two and three: pieces of items and LANES divide it
#: room for (three-phonon items, triplets with degenerate modes, isotope items) at any one q of a bucket
Capacity = tuple[int, int, int]


__all__ = [
    "rounded_capacity",
]
