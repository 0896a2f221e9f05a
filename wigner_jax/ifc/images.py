"""Folded force constants taken apart into images, and folded into another supercell.

A supercell holds the sum over images of what couples two or three atoms; a Fourier sum gives each entry to its nearest images,
to equal parts where several are equally near (`shortest_vectors`), for each of the other atoms by itself. Written out,

    Φ2: (i, 0) (j, R) with Φ_iJ / m(i, J)        Φ3: (i, 0) (j, R) (k, S) with Φ_iJK / (m(i, J) m(i, K))

m the number of equally near images, are force constants that need no supercell: what codes without one write down, and what is
folded into any supercell that is large enough to hold every image at its nearest place. The images of Φ3 depend on which of the
three atoms the others are near to; matrix elements take the mean of the three choices (plan/fc3_table.py), and so does the list,
which is symmetric under exchange of atoms then, as Φ3 is. The Fourier sums are the same.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import spglib

from ..crystal.supercells import shortest_vectors
from ..crystal.symmetry import SYMPREC
from ..errors import InputError
from ..types import Supercell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Crystal

TOLERANCE = SYMPREC  # Å: two images are equally near (`shortest_vectors`)
FREE, RATIO = 2**26, 300  # bytes of an array that a list may be folded into, and times its own
LARGEST_MULTIPLE = 12  # of a primitive vector, in a supercell that is looked for
SAME = 1e-9  # of the largest force constant: two lists that differ by no more are the same


class Images(NamedTuple):
    """Force constants of one order without a supercell, home atoms in cell 0.

    Attributes:
        atoms: (E, order) int, atoms of the primitive cell.
        cells: (E, order - 1, 3) int, lattice vectors of the second (and third).
        values: (E, 3, 3) eV/Å² or (E, 3, 3, 3) eV/Å³.
    """

    atoms: np.ndarray
    cells: np.ndarray
    values: np.ndarray

    @property
    def order(self) -> int:
        return self.atoms.shape[1]


def unfolded(crystal: Crystal, supercell: Supercell, array: np.ndarray) -> Images:
    """The images of compact force constants, those that vanish left out. (n, N, 3, 3) or (n, N, N, 3, 3, 3)"""
    images = _seen_from_the_first(crystal, supercell, array)
    return images if images.order == 2 else _mean_of_anchors(images)


def _seen_from_the_first(crystal: Crystal, supercell: Supercell, array: np.ndarray) -> Images:
    array, order = np.asarray(array), np.asarray(array).ndim // 2
    nearest, kinds = shortest_vectors(crystal, supercell), supercell.primitive_index
    atoms: list[np.ndarray] = []
    cells: list[np.ndarray] = []
    values: list[np.ndarray] = []
    for i in range(crystal.n_atoms):
        owner = np.repeat(np.arange(len(kinds)), [len(r) for r in nearest[i]])
        vectors = np.concatenate(nearest[i])
        share = 1 / np.bincount(owner)[owner]
        if order == 2:
            kept = np.flatnonzero(np.any(array[i, owner] != 0, axis=(1, 2)))
            atoms.append(np.stack([np.full(len(kept), i), kinds[owner[kept]]], 1))
            cells.append(vectors[kept][:, None])
            values.append(array[i, owner[kept]] * share[kept, None, None])
            continue
        there = np.any(array[i] != 0, axis=(2, 3, 4))
        for a, J in enumerate(owner):
            b = np.flatnonzero(there[J, owner])
            atoms.append(np.stack([np.full(len(b), i), np.full(len(b), kinds[J]), kinds[owner[b]]], 1))
            cells.append(np.stack([np.broadcast_to(vectors[a], (len(b), 3)), vectors[b]], 1))
            values.append(array[i, J, owner[b]] * (share[a] * share[b])[:, None, None, None])
    return Images(np.concatenate(atoms), np.concatenate(cells), np.concatenate(values))


def _mean_of_anchors(images: Images) -> Images:
    """Of Φ3: with the two other atoms near the first, near the second, and near the third, to a third each."""
    (i, j, k), (R, S) = images.atoms.T, np.swapaxes(images.cells, 0, 1)
    seen = (
        (np.stack([i, j, k], 1), np.stack([R, S], 1), images.values),
        (np.stack([j, i, k], 1), np.stack([-R, S - R], 1), images.values.transpose(0, 2, 1, 3)),
        (np.stack([k, j, i], 1), np.stack([R - S, -S], 1), images.values.transpose(0, 3, 2, 1)),
    )
    atoms, cells, values = (np.concatenate(x) for x in zip(*seen, strict=True))
    return _merged(Images(atoms, cells, values / 3))


def _merged(images: Images) -> Images:
    """Each group of atoms once."""
    keys = np.concatenate([images.atoms, images.cells.reshape(len(images.cells), -1)], axis=1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    sums = np.zeros((len(unique), *images.values.shape[1:]))
    np.add.at(sums, inverse.ravel(), images.values)
    return Images(unique[:, : images.order], unique[:, images.order :].reshape(len(unique), -1, 3), sums)


def folded(images: Images, supercell: Supercell) -> np.ndarray:
    """The sum over images, in a supercell. (n, N, 3, 3) or (n, N, N, 3, 3, 3)"""
    n, N = len(supercell.p2s_map), supercell.n_atoms
    array = np.zeros((n,) + (N,) * (images.order - 1) + (3,) * images.order)
    home = images.atoms[:, 0]
    others = [atom_at(supercell, home, images.atoms[:, k], images.cells[:, k - 1]) for k in range(1, images.order)]
    np.add.at(array, (home, *others), images.values)
    return array


def atom_at(supercell: Supercell, home: np.ndarray, atoms: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The supercell atoms at lattice vectors `cells` seen from the home atoms of `home`. (E,)"""
    matrix = supercell.matrix
    adjugate = np.rint(np.linalg.inv(matrix) * np.linalg.det(matrix)).astype(int)
    period = round(abs(np.linalg.det(matrix)))

    def key(kind: np.ndarray, cell: np.ndarray) -> np.ndarray:
        a, b, c = np.moveaxis((cell @ adjugate) % period, -1, 0)
        return ((kind * period + a) * period + b) * period + c

    keys = key(supercell.primitive_index, supercell.lattice_vector)
    order = np.argsort(keys)
    wanted = key(atoms, cells + supercell.lattice_vector[supercell.p2s_map[home]])
    return order[np.searchsorted(keys[order], wanted)]


def refolded(images: Images, crystal: Crystal, supercell: Supercell) -> np.ndarray | None:
    """`folded`, or None if the supercell is too small: its own images would not be those that were given."""
    found = folded(images, supercell)
    return found if _equal(unfolded(crystal, supercell, found), images) else None


def _equal(one: Images, other: Images) -> bool:
    difference = _merged(
        Images(*(np.concatenate(x) for x in zip(one, other._replace(values=-other.values), strict=True)))
    )
    most = SAME * float(np.abs(_merged(other).values).max(initial=0.0))
    return bool(np.abs(difference.values).max(initial=0.0) <= most)


def diagonal_supercell(crystal: Crystal, dims: Sequence[int]) -> Supercell:
    """n1×n2×n3 primitive cells, first atom slowest, then n3, n2, n1: phonopy's and ShengBTE's order."""
    cells = np.array([(x, y, z) for z, y, x in product(*(range(k) for k in reversed(list(dims))))])
    n = crystal.n_atoms
    return Supercell(
        np.diag(list(dims)), np.repeat(np.arange(n), len(cells)), np.tile(cells, (n, 1)), np.arange(n) * len(cells)
    )


def enough(images: Images, crystal: Crystal, least: Sequence[int] = (1, 1, 1)) -> tuple[Supercell, np.ndarray]:
    """The smallest supercell of multiples of the primitive vectors that holds all images, and the folded array.

    Raises:
        InputError: there is none of at most twelve cells along each vector, or the array would be out of proportion.
    """
    reach = np.abs(images.cells).reshape(-1, 3).max(axis=0, initial=0)
    remedy = "check the lattice vectors, or make them anew with a cutoff"
    dims = np.maximum(least, 1)
    while np.all(dims <= LARGEST_MULTIPLE):
        room = _room(images, crystal, dims)
        if room > -TOLERANCE:
            size = crystal.n_atoms * (crystal.n_atoms * int(np.prod(dims))) ** (images.order - 1) * 8 * 3**images.order
            if size > max(FREE, RATIO * images.values.nbytes):
                raise InputError(
                    f"the force constants reach {reach.tolist()} cells far, {size / 1e9:.1f} GB as an array", remedy
                )
            supercell = diagonal_supercell(crystal, tuple(int(x) for x in dims))
            if room > TOLERANCE:  # no image has another that is as near
                return supercell, folded(images, supercell)
            if (array := refolded(images, crystal, supercell)) is not None:
                return supercell, array
        dims[int(np.argmin(dims * np.linalg.norm(np.asarray(crystal.lattice), axis=1)))] += 1  # the shortest edge
    raise InputError(
        f"the force constants reach {reach.tolist()} cells far, which no supercell of {LARGEST_MULTIPLE} cells holds",
        remedy,
    )


def _room(images: Images, crystal: Crystal, dims: np.ndarray) -> float:
    """By how much the images are nearer than their repetitions in a supercell, at the least; below 0 if one is not. Å"""
    lattice, positions = np.asarray(crystal.lattice), np.asarray(crystal.positions)
    pairs = np.concatenate(
        [np.concatenate([images.atoms[:, [0, k]], images.cells[:, k - 1]], axis=1) for k in range(1, images.order)]
    )
    pairs = np.unique(pairs, axis=0)
    vectors = (positions[pairs[:, 1]] + pairs[:, 2:] - positions[pairs[:, 0]]) @ lattice
    basis = spglib.delaunay_reduce(np.diag(dims) @ lattice)
    steps = np.array([s for s in product(range(-2, 3), repeat=3) if any(s)]) @ basis
    others = np.linalg.norm(vectors[:, None] + steps[None], axis=-1).min(axis=1)
    return float((others - np.linalg.norm(vectors, axis=1)).min(initial=np.inf))


__all__ = ["Images", "atom_at", "diagonal_supercell", "enough", "folded", "refolded", "unfolded"]
