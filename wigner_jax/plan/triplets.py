"""Irreducible triplets q + q' + q'' = G of every irreducible q, laid out in rods for the separable Fourier transform.

The q' wanted for one q are covered by rods: all points of the first mesh axis at fixed (y, z). The representatives of
equivalent triplets are the lowest indices, first axis fastest, so that they crowd into few rods, most of them full.
Rods of several q are padded to the same number and stacked into buckets: shapes alone key compilation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..types import Mesh, TripletBucket
from .mesh import addresses, images, index_of, mesh_operations

if TYPE_CHECKING:
    from ..types import Crystal


ROD_CHUNK = 8  # rods are padded to a multiple of this; the kernel may process that many at once


def triplet_weights(q: int, address: np.ndarray, permutations: np.ndarray, dims: tuple[int, int, int]) -> np.ndarray:
    """How many triplets of the full mesh each q' stands for at this q; 0 for those represented by another. (Q,)

    q' is equivalent to S q' for S in the little group of q, and to q'' = -q - q'. The representative is the lowest index
    of the orbit: tetrahedra with one diagonal are not invariant under the little group, and this is phono3py's choice.
    The weights sum to the number of mesh points.
    """
    little = permutations[permutations[:, q] == q]
    partner = index_of(-address[q] - address, dims)
    first = np.minimum(little, partner[little]).min(axis=0)
    return np.bincount(first, minlength=len(address))


def triplet_buckets(crystal: Crystal, mesh: Mesh, symmetry: bool = True, buckets: int = 1) -> tuple[TripletBucket, ...]:
    """Rods and weights of all irreducible q, grouped by their number of rods.

    Args:
        buckets: at most this many groups, with the least padding. One compiles once; its padding is skipped at run time, chunk by
            chunk, and only costs memory. More pay where padding is computed, as under vmap.
    """
    dims = mesh.dims
    address = addresses(dims)
    operations = mesh_operations(crystal, dims, symmetry)
    permutations = images(address, operations, dims)
    rods, weights = [], []
    for q in np.asarray(mesh.irreducible):
        w = triplet_weights(int(q), address, permutations, dims).reshape(dims[1] * dims[2], dims[0])
        wanted = np.flatnonzero(w.any(axis=1))
        rods.append(wanted)
        weights.append(w[wanted])
    counts = np.array([-(-len(r) // ROD_CHUNK) * ROD_CHUNK for r in rods])
    result = []
    for size, members in _groups(counts, buckets):
        planes = max(len(np.unique(rods[p] // dims[1])) for p in members)
        shape = (len(members), size)
        yz, w = np.zeros((*shape, 2), np.int32), np.zeros((*shape, dims[0]), np.int32)
        zs = np.zeros((len(members), planes), np.int32)
        for row, p in enumerate(members):
            z, plane = np.unique(rods[p] // dims[1], return_inverse=True)
            zs[row, : len(z)] = z
            yz[row, : len(rods[p])] = np.column_stack([rods[p] % dims[1], plane])
            w[row, : len(rods[p])] = weights[p]
        result.append(TripletBucket(np.array(members, np.int32), zs, yz, w))
    return tuple(result)


def _groups(counts: np.ndarray, most: int) -> list[tuple[int, np.ndarray]]:
    """(padded size, members) of the partition into at most `most` groups with the least padding."""
    order = np.argsort(counts, kind="stable")
    sizes = np.unique(counts)
    below = np.searchsorted(counts[order], sizes, side="right")  # members with a count up to each size
    best: dict[tuple[int, int], tuple[int, list[int]]] = {}

    def cost(start: int, groups: int) -> tuple[int, list[int]]:
        """Least padded total for the sizes from `start` on, and the index of the size at which each group ends."""
        if (start, groups) in best:
            return best[start, groups]
        begun = int(below[start - 1]) if start else 0
        ends = [len(sizes) - 1] if groups == 1 else range(start, len(sizes))
        options = []
        for end in ends:
            here = int(sizes[end]) * (int(below[end]) - begun)
            rest = cost(end + 1, groups - 1) if end + 1 < len(sizes) else (0, [])
            options.append((here + rest[0], [end, *rest[1]]))
        best[start, groups] = min(options)
        return best[start, groups]

    groups, begun = [], 0
    for end in cost(0, most)[1]:
        groups.append((int(sizes[end]), order[begun : below[end]]))
        begun = int(below[end])
    return groups
