"""A large symmetric matrix of rows that come in any order: half of it is kept, in blocks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 512  # rows of a block, about: wide enough for BLAS, and for what its square on the diagonal keeps twice


class SymmetricMatrix:
    """(O + Oᵀ)/2 of the rows of O; of a block of rows the columns from its first row on.

    n²/2 numbers. Of each pair O_ij, O_ji the first that comes is kept until the second does.

    Attributes:
        size: n.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        """Args: counts: rows of each group that comes at once (`put`); they add up to n."""
        ends = np.cumsum(counts)
        self.size = int(ends[-1])
        edges = [0]
        for end in ends:
            if end - edges[-1] >= BLOCK or (end == self.size and end > edges[-1]):
                edges.append(int(end))
        self._edges = np.array(edges)
        self._blocks = [np.zeros((b - a, self.size - a)) for a, b in pairwise(edges)]
        self._done = np.zeros(self.size, bool)
        self._differences = self._squares = 0.0

    @classmethod
    def of(cls, matrix: np.ndarray) -> SymmetricMatrix:
        """(O + Oᵀ)/2 of a matrix that is there."""
        found = cls([1] * len(matrix))
        for k, row in enumerate(matrix):
            found.put(k, row[None])
        return found

    def put(self, first: int, rows: np.ndarray) -> None:
        """The rows of one group, (k, n), the first of which has this number."""
        k = len(rows)
        if not k:
            return
        last = first + k
        number = int(np.searchsorted(self._edges, first, "right")) - 1
        start, end = self._edges[number], self._edges[number + 1]
        self._squares += float(np.einsum("ij,ij->", rows, rows))
        block, mine = self._blocks[number], slice(first - start, last - start)
        own = rows[:, first:last]
        self._differences += float(np.sum((own - own.T) ** 2))
        new = self._mean(block[mine].T, rows[:, start:].T, self._done[start:]).T
        new[:, mine] = 0.5 * (own + own.T)
        block[mine] = new
        block[: end - start, mine] = new[:, : end - start].T
        for a, b, above in zip(self._edges[:number], self._edges[1:], self._blocks, strict=False):
            part = above[:, first - a : last - a]
            part[...] = self._mean(part, rows[:, a:b].T, self._done[a:b])
        self._done[first:last] = True

    def _mean(self, old: np.ndarray, new: np.ndarray, done: np.ndarray) -> np.ndarray:
        """What is to be kept where `new` comes, whose rows met their partners where they are done."""
        result = new.copy()
        if done.any():
            self._differences += 2 * float(np.sum((new[done] - old[done]) ** 2))
            result[done] = 0.5 * (new[done] + old[done])
        return result

    @property
    def asymmetry(self) -> float:
        """‖O - Oᵀ‖/‖O‖."""
        return float(np.sqrt(self._differences / self._squares)) if self._squares else 0.0

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        out = np.zeros(self.size)
        for a, b, block in zip(self._edges, self._edges[1:], self._blocks, strict=False):
            out[a:b] += block @ x[a:]
            out[b:] += block[:, b - a :].T @ x[a:b]
        return out

    def dense(self) -> np.ndarray:
        """All of it. (n, n)"""
        full = np.empty((self.size, self.size))
        for a, b, block in zip(self._edges, self._edges[1:], self._blocks, strict=False):
            full[a:b, a:] = block
            full[b:, a:b] = block[:, b - a :].T
        return full


__all__ = ["SymmetricMatrix"]
