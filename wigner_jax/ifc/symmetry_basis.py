"""The symmetry-adapted basis of force constants: orbits of atom pairs and triplets, and the free parameters of each.

Compact force constants of order m (2 or 3) are a list of tensors Φ[x], one per tuple x = (i, J) or (i, J, K) whose
first atom is a home atom. The group S = (space group) × (permutations of the m legs) carries tuples onto tuples,

    Φ[(g, σ) x] = σ (R_g ⊗ … ⊗ R_g) Φ[x],

followed by the lattice translation that brings the first atom home. Each orbit therefore has one free tensor, that of
its representative, and that tensor is invariant under the stabiliser: it lies in the range of the projector
P = mean over the stabiliser of σ (R_g ⊗ … ⊗ R_g), whose rank is the number of parameters of the orbit (at most 9, 27).
With an orthonormal basis of each range divided by √(orbit size), the columns of the whole basis C are orthonormal.

No acoustic sum rule is imposed: derivatives of an energy obey it by themselves.
Memory is O(n N^(m−1)), where a basis built in the full space of N^m tuples (symfc) needs all of them.
"""

from __future__ import annotations

from itertools import permutations
from math import ceil, factorial
from typing import TYPE_CHECKING

import numpy as np

from .._core.pytree import Array, pytree
from ..crystal.symmetry import space_group
from ..errors import InputError

if TYPE_CHECKING:
    from scipy import sparse

    from ..types import Crystal, Supercell, Supercells

#: elements of rotations: axes along x, y, z, hexagonal ones, and those of cubes that stand on a corner
USUAL = np.array([s * x for x in (0.0, 1.0, 1 / 2, 3**0.5 / 2, 1 / 3, 2 / 3, 2**0.5 / 3, 8**0.5 / 3, 1 / 3**0.5, (2 / 3) ** 0.5, 0.5**0.5)
                  for s in (1, -1)])  # fmt: skip
MUCH_WORK = 100  # evaluations that are worth a word beforehand
FEW_TUPLES = 20_000  # more of them than this always leave parameters


@pytree("n_parameters")
class Basis:
    """Φ = C c without C: from which orbit, by which operation. X = n N^(m−1) tuples, O orbits, r parameters at most."""

    orbit: Array  #: (X,) int
    rotation: Array  #: (X, 3, 3) Cartesian, takes the representative's tensor to this tuple's ...
    legs: Array  #: (X, 3^m) int: ... and then component k of the result is component legs[x, k]
    local: Array  #: (O, 3^m, r) orthonormal columns / √(orbit size), zero-padded
    slots: Array  #: (O, r) int, which parameter; n_parameters for padding
    translations: Array  #: (L, N) int, where each atom goes under each lattice translation of the supercell
    p2s_map: Array  #: (n,) int
    n_parameters: int

    @property
    def order(self) -> int:
        return 2 if self.local.shape[1] == 9 else 3


def translation_table(crystal: Crystal, supercell: Supercell) -> tuple[np.ndarray, np.ndarray]:
    """Lattice translations of the supercell as permutations of its atoms.

    Returns:
        translations: (L, N), L = N/n; row 0 is the identity.
        homing: (N,) the row that carries atom J onto ``home[atom[J]]``.
    """
    n, N = crystal.n_atoms, supercell.n_atoms
    lookup = Lookup(supercell)
    points = supercell.lattice_vector[supercell.primitive_index == 0]
    points = points - points[0]
    translations = np.stack([lookup(supercell.primitive_index, supercell.lattice_vector + point) for point in points])
    homing = np.argmax(translations == supercell.p2s_map[supercell.primitive_index], axis=0)
    if N % n or len(translations) * n != N:
        raise ValueError(f"a supercell of {N} atoms cannot hold whole copies of a cell of {n}")
    return translations, homing


class Lookup:
    """Atom index from (primitive atom, lattice vector modulo the supercell), in integer arithmetic."""

    def __init__(self, supercell: Supercell) -> None:
        matrix = supercell.matrix
        self.volume = round(abs(np.linalg.det(matrix)))
        self.adjugate = np.rint(np.linalg.inv(matrix) * self.volume).astype(int)
        self.keys = self._key(supercell.primitive_index, supercell.lattice_vector)
        self.order = np.argsort(self.keys)

    def _key(self, atom: np.ndarray, cell: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis((cell @ self.adjugate) % self.volume, -1, 0)
        return ((atom * self.volume + x) * self.volume + y) * self.volume + z

    def __call__(self, atom: np.ndarray, cell: np.ndarray) -> np.ndarray:
        return self.order[np.searchsorted(self.keys[self.order], self._key(atom, cell))]


def operations_on(crystal: Crystal, supercell: Supercell) -> tuple[np.ndarray, np.ndarray]:
    """Space-group operations that keep the supercell's lattice, modulo its lattice translations.

    Returns:
        rotations: (G, 3, 3) Cartesian, orthogonal to 1e-13.
        permutations: (G, N) int, operation g carries atom J onto atom permutations[g, J].
    """
    group = space_group(crystal)
    lattice, positions = np.asarray(crystal.lattice), np.asarray(crystal.positions)
    lookup = Lookup(supercell)
    inverse = np.linalg.inv(supercell.matrix)
    rotations, images = [], []
    for W, w, permutation in zip(group.rotations, group.translations, group.permutations, strict=True):
        moved = supercell.matrix @ W.T @ inverse
        if np.abs(moved - np.rint(moved)).max() > 1e-6:
            continue
        offset = np.rint(positions @ W.T + w - positions[permutation]).astype(int)
        images.append(
            lookup(
                permutation[supercell.primitive_index],
                offset[supercell.primitive_index] + supercell.lattice_vector @ W.T,
            )
        )
        left, _, right = np.linalg.svd(lattice.T @ W @ np.linalg.inv(lattice.T))
        rotations.append(left @ right)
    return _to_the_digit(np.array(rotations)), np.array(images)


def _to_the_digit(rotations: np.ndarray) -> np.ndarray:
    """The same numbers whatever the lattice constant: elements as they are in the usual orientations exactly, others to 13
    decimals, 0 without a sign.

    Plans of derivatives are shared by the compounds of a structure. With rotations that differ in their last bits it would
    decide over the last bits of all results which compound came first, and a campaign that was killed would not go on to the
    same numbers.
    """
    nearest = USUAL[np.abs(rotations[..., None] - USUAL).argmin(axis=-1)]
    return np.where(np.abs(rotations - nearest) < 1e-12, nearest, np.round(rotations, 13)) + 0.0


def symmetric_basis(crystal: Crystal, supercell: Supercell, order: int) -> Basis:
    """The basis of compact force constants of order 2 or 3 in a supercell."""
    translations, homing = translation_table(crystal, supercell)
    rotations, images = operations_on(crystal, supercell)
    n, N = crystal.n_atoms, supercell.n_atoms
    shape = (n,) + (N,) * (order - 1)
    X = int(np.prod(shape))
    tuples = np.stack(np.unravel_index(np.arange(X), shape))
    tuples[0] = supercell.p2s_map[tuples[0]]
    legs = list(permutations(range(order)))

    def image(g: int, legs_of: tuple[int, ...], x: np.ndarray) -> np.ndarray:
        moved = images[g][x[list(legs_of)]]
        moved = translations[homing[moved[0]], moved]
        return np.ravel_multi_index((supercell.primitive_index[moved[0]], *moved[1:]), shape)

    every = [(g, k) for g in range(len(rotations)) for k in range(len(legs))]
    smallest = np.arange(X)
    for g, k in every:
        np.minimum(smallest, image(g, legs[k], tuples), out=smallest)
    representatives, orbit, sizes = np.unique(smallest, return_inverse=True, return_counts=True)

    representative_tuples = tuples[:, representatives]
    projector = np.zeros((len(representatives), 3**order, 3**order))
    by = np.full(X, -1)
    for index, (g, k) in enumerate(every):
        target = image(g, legs[k], representative_tuples)
        by[target] = index
        fixed = target == representatives
        if fixed.any():
            projector[fixed] += representation(rotations[g], legs[k])
    if (by < 0).any():
        raise AssertionError("an orbit was not reached from its representative: the operations do not form a group")
    projector *= (sizes / len(every))[:, None, None]
    local, ranks = _ranges(projector)
    local /= np.sqrt(sizes)[:, None, None]
    ends = np.cumsum(ranks)
    column = np.arange(local.shape[2])
    slots = np.where(column < ranks[:, None], ends[:, None] - ranks[:, None] + column, ends[-1])
    leg_tables = np.array([_leg_table(order, sigma) for sigma in legs])
    return Basis(
        orbit.astype(np.int32),
        rotations[by // len(legs)],
        leg_tables[by % len(legs)].astype(np.int32),
        local,
        slots.astype(np.int32),
        translations.astype(np.int32),
        supercell.p2s_map.astype(np.int32),
        int(ends[-1]),
    )


def require_parameters(supercells: Supercells) -> None:
    """Raises InputError if symmetry leaves nothing of the force constants in a supercell; only small ones can be so."""
    for order, supercell in ((2, supercells.fc2_supercell), (3, supercells.fc3_supercell)):
        tuples = supercells.crystal.n_atoms * supercell.n_atoms ** (order - 1)
        if tuples <= FEW_TUPLES and symmetric_basis(supercells.crystal, supercell, order).n_parameters == 0:
            raise InputError(
                f"symmetry leaves no force constants of order {order} in a supercell of {supercell.n_atoms} atoms",
                f"choose a larger fc{order}_supercell",
            )


def work_ahead(supercells: Supercells, least: int = MUCH_WORK) -> str:
    """A line on the evaluations that Φ2 and Φ3 need, or nothing if they are fewer than `least`.

    About parameters over equations of each, with as many parameters as there are if no operation leaves a tuple in place.
    """
    counts, operations = [], 0
    for order, supercell in ((2, supercells.fc2_supercell), (3, supercells.fc3_supercell)):
        N, operations = supercell.n_atoms, len(operations_on(supercells.crystal, supercell)[0])
        parameters = supercells.crystal.n_atoms * N ** (order - 1) * 3**order / (operations * factorial(order))
        counts.append(max(1, ceil(parameters / max(3 * N - 3, 3))))
    if sum(counts) < least:
        return ""
    return (
        f"force constants: about {counts[0]} evaluations for Φ2 and {counts[1]} for Φ3 in supercells of"
        f" {supercells.fc2_supercell.n_atoms} and {supercells.fc3_supercell.n_atoms} atoms, with {operations} symmetry"
        f" operation{'' if operations == 1 else 's'}"
    )


def _leg_table(order: int, sigma: tuple[int, ...]) -> np.ndarray:
    """Flat components of a tensor whose leg k is leg sigma[k] of the old one. (3^m,)"""
    return np.arange(3**order).reshape((3,) * order).transpose(sigma).ravel()


def representation(rotation: np.ndarray, sigma: tuple[int, ...]) -> np.ndarray:
    """σ (R ⊗ … ⊗ R) as a matrix on flat tensors. (3^m, 3^m)"""
    product = rotation
    for _ in sigma[1:]:
        product = np.kron(product, rotation)
    return product[_leg_table(len(sigma), sigma)]


def _ranges(projector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal bases of the ranges of orthogonal projectors, by pivoted Cholesky factorisation.

    P = B Bᵀ with B of full column rank and P² = P give BᵀB = 1, so that the factor is orthonormal as it stands. Unlike
    eigenvectors, which are arbitrary inside the eigenvalue 1, it is sparse and reproducible.

    Returns:
        bases (O, d, r) zero-padded, ranks (O,).
    """
    O, d, _ = projector.shape
    ranks = np.rint(np.trace(projector, axis1=1, axis2=2)).astype(int)
    bases = np.zeros((O, d, max(int(ranks.max()), 1)))
    rest = projector.copy()
    for step in range(bases.shape[2]):
        todo = np.flatnonzero(ranks > step)
        diagonal = np.round(np.diagonal(rest[todo], axis1=1, axis2=2), 9)  # ties go to the first component
        pivot = diagonal.argmax(axis=1)
        column = rest[todo, :, pivot] / np.sqrt(rest[todo, pivot, pivot])[:, None]
        bases[todo, :, step] = column
        rest[todo] -= column[:, :, None] * column[:, None, :]
    # pivots below 1 lose digits; one Newton–Schulz step restores orthonormality to rounding
    gram = np.swapaxes(bases, 1, 2) @ bases
    bases = bases @ (1.5 * np.eye(gram.shape[1]) - 0.5 * gram)
    return bases, ranks


def tuple_blocks(basis: Basis, x: np.ndarray) -> np.ndarray:
    """Rows of C for some tuples, restricted to the columns of their orbits. (len(x), 3^m, r)"""
    local = np.asarray(basis.local)[basis.orbit[x]]
    count, d, r = local.shape
    local = local.reshape((count,) + (3,) * basis.order + (r,))
    for axis in range(1, basis.order + 1):
        turned = np.einsum("xab,xb...->xa...", basis.rotation[x], np.moveaxis(local, axis, 1))
        local = np.moveaxis(turned, 1, axis)
    return np.take_along_axis(local.reshape(count, d, r), np.asarray(basis.legs)[x][:, :, None], axis=1)


def columns_of(basis: Basis) -> sparse.csr_array:
    """C as a sparse matrix, rows (x, component). (X 3^m, n_parameters)"""
    from scipy import sparse

    X, d = np.asarray(basis.legs).shape
    rows, columns, values = [], [], []
    for start in range(0, X, 8192):  # 27 x 27 doubles a tuple: 48 MB at a time
        x = np.arange(start, min(start + 8192, X))
        blocks = tuple_blocks(basis, x)
        slots = np.broadcast_to(np.asarray(basis.slots)[basis.orbit[x]][:, None, :], blocks.shape)
        keep = (np.abs(blocks) > 1e-13) & (slots < basis.n_parameters)
        rows.append(np.broadcast_to((x[:, None] * d + np.arange(d))[:, :, None], blocks.shape)[keep])
        columns.append(slots[keep])
        values.append(blocks[keep])
    entries = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array((np.concatenate(values), entries), shape=(X * d, basis.n_parameters))
