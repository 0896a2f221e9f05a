"""Where each entry of the folded Φ3 goes in its double lattice sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..crystal.supercells import shortest_vectors
from ..types import FC3Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Crystal, Supercell


BUCKET_SIZES = (8, 16, 32, 64, 128)  # entries of a cell are padded to the next of these, then to multiples of the last


def make_fc3_table(crystal: Crystal, supercell: Supercell, dims: Sequence[int]) -> FC3Table:
    """Entries, cells and buckets of the third-order Fourier sum.

    With R(J) the nearest images of J seen from the anchor (each weighted by 1/images), folded Φ3[a, J, K] stands for an
    atom in the home cell at one leg and R', R'' at the two others. The anchor is taken at each of the three legs in turn
    with weight 1/3 (phono3py's r0 average), because folding breaks the symmetry between them; the two other legs are
    then seen from leg 0:

        anchor at leg 0: (i, j, k, R', R'') = (a, J, K, R_J, R_K)
        anchor at leg 1:                      (J, a, K, -R_J, R_K - R_J)
        anchor at leg 2:                      (K, J, a, R_J - R_K, -R_K)

    D and R'' only meet phases of mesh points: where the range of D along an axis exceeds the mesh, D is folded into it.
    """
    n, N = crystal.n_atoms, supercell.n_atoms
    near = shortest_vectors(crystal, supercell)
    keys, sources, legs, scales = [], [], [], []
    for a in range(n):
        J = np.repeat(np.arange(N), [len(r) for r in near[a]])
        R = np.concatenate(near[a])
        share = np.repeat([1 / len(r) for r in near[a]], [len(r) for r in near[a]])
        first, second = (x.ravel() for x in np.meshgrid(np.arange(len(J)), np.arange(len(J)), indexing="ij"))
        j, k = supercell.primitive_index[J[first]], supercell.primitive_index[J[second]]
        anchor = np.full_like(j, a)
        RJ, RK = R[first], R[second]
        keys += [
            np.column_stack([anchor, j, k, RJ - RK, RK]),
            np.column_stack([j, anchor, k, -RK, RK - RJ]),
            np.column_stack([k, j, anchor, RJ, -RK]),
        ]
        sources += [(a * N + J[first]) * N + J[second]] * 3
        scales += [share[first] * share[second] / 3] * 3
        legs += [np.full_like(j, leg) for leg in range(3)]
    key, source, leg, scale = (np.concatenate(x) for x in (keys, sources, legs, scales))

    corner = key[:, 3:6].min(axis=0)
    folded = np.minimum(key[:, 3:6].max(axis=0) - corner + 1, np.asarray(dims))
    key[:, 3:6] = (
        corner + (key[:, 3:6] - corner) % folded * (folded == dims) + (key[:, 3:6] - corner) * (folded != dims)
    )
    low, high = key.min(axis=0), key.max(axis=0)
    radix = np.cumprod(np.concatenate([[1], (high - low + 1)[:0:-1]]))[::-1]
    rank = (key - low) @ radix  # lexicographic order of (i, j, k, D, R'')
    unique, first_of, entry = np.unique(rank, return_index=True, return_inverse=True)
    entries = key[first_of]
    _, cell_start, cell_of = np.unique((entries[:, :6] - low[:6]) @ radix[:6], return_index=True, return_inverse=True)
    sizes = np.bincount(cell_of)
    vectors, vector_of = np.unique(entries[:, 6:], axis=0, return_inverse=True)
    position = np.arange(len(unique)) - cell_start[cell_of]  # of an entry in its cell

    padded = _bucket_size(sizes)
    row, slot_of_entry = np.empty(len(sizes), int), np.empty(len(unique), int)
    buckets, rows, slots = [], 0, 0
    for size in np.unique(padded):
        members = np.flatnonzero(padded == size)
        row[members] = rows + np.arange(len(members))
        local = np.full(len(sizes), -1)
        local[members] = np.arange(len(members))
        chosen = np.flatnonzero(local[cell_of] >= 0)
        flat = local[cell_of[chosen]] * size + position[chosen]
        table = np.zeros(len(members) * size, np.int32)
        table[flat] = vector_of.ravel()[chosen]
        buckets.append(table.reshape(len(members), size))
        slot_of_entry[chosen] = slots + flat
        rows, slots = rows + len(members), slots + len(members) * size

    head = entries[cell_start]
    place, starts = _sheared_box(head[:, 3:6])
    box = (int(place[:, 0].max()) + 1, int(place[:, 1].max()) + 1, int(place[:, 2].max()) + 1)
    cells = np.full((n, n, n, *box), rows, np.int32)  # one row beyond the last is zero
    cells[head[:, 0], head[:, 1], head[:, 2], *place.T] = row
    slot = slot_of_entry[entry.ravel()]
    order = np.argsort(slot, kind="stable")
    return FC3Table(
        source[order].astype(np.int32),
        leg[order].astype(np.int32),
        scale[order],
        slot[order].astype(np.int32),
        vectors.astype(np.int32),
        tuple(buckets),
        cells,
        starts[0],
        starts[1],
        starts[2],
        box,
        N,
    )


def _sheared_box(D: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """The least box that holds D when every x has its own least y, and every (x, y) its own least z.

    In the skew axes of an fcc cell a straight box is four times larger than the ball of D inside it; a shifted column
    costs one phase.

    Returns:
        place of each D in the box (cells, 3), and (x_start (), y_start (X,), z_start (X, Y)).
    """
    x_start = D[:, 0].min()
    x = D[:, 0] - x_start
    y_start = np.full(x.max() + 1, np.iinfo(np.int32).max)
    np.minimum.at(y_start, x, D[:, 1])
    y = D[:, 1] - y_start[x]
    z_start = np.full((x.max() + 1, y.max() + 1), np.iinfo(np.int32).max)
    np.minimum.at(z_start, (x, y), D[:, 2])
    z = D[:, 2] - z_start[x, y]
    empty = np.iinfo(np.int32).max
    starts = (np.asarray(x_start), np.where(y_start == empty, 0, y_start), np.where(z_start == empty, 0, z_start))
    return np.column_stack([x, y, z]), tuple(v.astype(np.int32) for v in starts)


def _bucket_size(sizes: np.ndarray) -> np.ndarray:
    last = BUCKET_SIZES[-1]
    return np.where(
        sizes <= last,
        np.array(BUCKET_SIZES)[np.minimum(np.searchsorted(BUCKET_SIZES, sizes), len(BUCKET_SIZES) - 1)],
        -(-sizes // last) * last,
    )
