"""Which force constant goes with which lattice vector in the Fourier sum of the dynamical matrix."""

from __future__ import annotations

import numpy as np

from ..crystal.supercells import shortest_vectors
from ..crystal.symmetry import SYMPREC
from ..types import Crystal, FC2Table, Supercell


def make_fc2_table(crystal: Crystal, supercell: Supercell, tolerance: float = SYMPREC) -> FC2Table:
    """Unfolds compact force constants of a supercell onto the shortest images of its atoms.

    A supercell atom J stands for all its periodic images. The m images that lie nearest to primitive atom i (within
    `tolerance` Å of the shortest distance) share Φ(i, J) in equal parts 1/m: phonopy's convention (Parlinski et al.,
    PRL 78, 4063 (1997)), which keeps the crystal's symmetry.

    Returns:
        the table; Σ_l weight[i, j, l] is the number of primitive cells in the supercell, for every i and j.
    """
    n = crystal.n_atoms
    images = shortest_vectors(crystal, supercell, tolerance)
    entries: list[list[list[tuple[int, np.ndarray, float]]]] = [[[] for _ in range(n)] for _ in range(n)]
    for i in range(n):
        for J, shifts in enumerate(images[i]):
            entries[i][supercell.primitive_index[J]] += [(J, R, 1 / len(shifts)) for R in shifts]
    length = max(len(pair) for row in entries for pair in row)

    atom, weight = np.zeros((n, n, length), int), np.zeros((n, n, length))
    cell = np.zeros((n, n, length, 3), int)
    for i, row in enumerate(entries):
        for j, pair in enumerate(row):
            atom[i, j, : len(pair)] = [J for J, _, _ in pair]
            cell[i, j, : len(pair)] = [R for _, R, _ in pair]
            weight[i, j, : len(pair)] = [w for _, _, w in pair]
    vectors, slot = np.unique(cell.reshape(-1, 3), axis=0, return_inverse=True)
    return FC2Table(atom, slot.reshape(n, n, length), weight, vectors, supercell.n_atoms)
