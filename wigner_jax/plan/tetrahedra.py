"""The linear tetrahedron method's cut of a mesh."""

from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from ..types import Crystal, Tetrahedra
from .lattice_geometry import delaunay_tetrahedra

if TYPE_CHECKING:
    from collections.abc import Sequence


DIAGONALS = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])


def _around_point(diagonal: np.ndarray) -> np.ndarray:
    """The 24 tetrahedra that touch the origin: each cube is cut into six along `diagonal`. (24, 3, 3) other vertices

    The six tetrahedra of a cube are the monotone paths of unit steps from one end of the diagonal to the other.
    """
    result = []
    for order in permutations(range(3)):
        steps = np.diag(diagonal)[list(order)]
        path = np.concatenate([np.zeros((1, 3), int), np.cumsum(steps, axis=0)])
        result += [np.delete(path, v, axis=0) - path[v] for v in range(4)]
    return np.array(result)


def make_tetrahedra(crystal: Crystal, dims: Sequence[int], symmetrized: bool = False) -> Tetrahedra:
    """Tetrahedra of the micro-cell b_μ/N_μ.

    Args:
        symmetrized: cut the mesh into its Delaunay cells and average over the ways to cut those: a property of the
            points alone, invariant under the point group and the choice of the primitive cell. Otherwise the
            micro-cell is cut along its shortest diagonal (the first of equals: Blöchl's choice as phonopy makes it),
            which depends on the primitive cell, and for equal diagonals breaks the crystal's symmetry. The two are the
            same for the usual cell of a face-centred crystal and N × N × N points.
    """
    micro = np.linalg.inv(np.asarray(crystal.lattice)).T / np.asarray(dims)[:, None]
    if symmetrized:
        cut, share = delaunay_tetrahedra(micro)
    else:
        lengths = np.linalg.norm(DIAGONALS @ micro, axis=1)
        cut = _around_point(DIAGONALS[int(np.argmin(np.rint(lengths / lengths.min() * 1e8)))])
        share = np.full(len(cut), 1 / 6)
    offsets, index = np.unique(np.concatenate([np.zeros((1, 3), int), cut.reshape(-1, 3)]), axis=0, return_inverse=True)
    order = np.argsort(np.abs(offsets).any(axis=1), kind="stable")  # the point itself first
    rank = np.argsort(order)
    offsets = offsets[order]
    opposite = np.array([int(np.flatnonzero((offsets == -o).all(axis=1))[0]) for o in offsets])
    vertices = rank[index.ravel()[1:]].reshape(-1, 3)
    return Tetrahedra(offsets.astype(np.int32), opposite.astype(np.int32), vertices.astype(np.int32), share)
