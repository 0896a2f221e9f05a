"""Force constants changed as little as possible to obey more than they do: nothing beyond a cutoff, rotational sum rules.

The columns of the symmetric basis C are orthonormal (symmetry_basis), so that c = Cᵀ Φ are the parameters of the symmetric part
of Φ, and the nearest ones that obey B c = 0 are the residual of a least-squares problem,

    c − Bᵀ y,    y = argmin ‖Bᵀ y − c‖.

Rows of B, with R_iJ the mean over the equally near images of r_J − r_i and ⟨RR⟩_iJ that of their products:

    acoustic      Σ_J Φ2[i, J] = 0,    Σ_K Φ3[i, J, K] = 0
    rotational    Σ_J (Φ2[i, J]_ab R_iJ,c − Φ2[i, J]_ac R_iJ,b) = 0                      Born and Huang, Dynamical Theory of
    Huang         Σ_iJ (Φ2[i, J]_ab ⟨RR⟩_iJ,cd − Φ2[i, J]_cd ⟨RR⟩_iJ,ab) = 0             Crystal Lattices (1954), §§ 23, 27

A rigid rotation costs no energy, and a crystal without stress has elastic constants of their full symmetry. In layers and
wires they make the bending modes quadratic in q (Lin, Poncé, Marzari, npj Comput. Mater. 8, 236 (2022)). Forces between
dipoles reach further than any supercell and do not obey them as they stand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..crystal.low_dimensional import one_number
from ..crystal.supercells import shortest_vectors
from ..errors import InputError
from ..types import ForceConstants
from .symmetry_basis import columns_of, symmetric_basis, translation_table

if TYPE_CHECKING:
    from scipy import sparse

    from ..types import Crystal, Supercell, Supercells

OBEYED = 1e-9  # of ‖Φ‖, what is left of the rules
ROUNDING = 1e-10  # of the largest rule: what symmetry leaves of one that it implies


class Change(NamedTuple):
    """What force constants lost, as a share of their norm: ‖Φ − Φ'‖/‖Φ‖.

    Attributes:
        fc2, fc3: 0 where nothing was asked for.
    """

    fc2: float
    fc3: float


def with_cutoff(supercells: Supercells, fc: ForceConstants, fc3_cutoff: float) -> tuple[ForceConstants, Change]:
    """Φ3 without triplets of which two atoms are further apart than a cutoff; symmetry and acoustic sum rule are kept.

    What is beyond is zero, as phono3py's ``--cutoff-fc3`` has it, and what is within changes as little as possible (least
    squares over all elements) so that Σ_K Φ3[i, J, K] = 0, which phono3py leaves broken.

    Args:
        fc3_cutoff: Å, between nearest images.

    Returns:
        force constants, what they lost.

    Raises:
        InputError: a cutoff that is not above 0, or beyond which everything lies.
    """
    fc3_cutoff = one_number(fc3_cutoff, "the cutoff of Φ3")
    if not (np.isfinite(fc3_cutoff) and fc3_cutoff > 0):
        raise InputError(f"the cutoff of Φ3 is {fc3_cutoff:g} Å", "it must be above 0")
    crystal, supercell = supercells.crystal, supercells.fc3_supercell
    phi = np.asarray(fc.fc3)
    distances = pair_distances(crystal, supercell)
    home = distances[supercell.p2s_map]
    farthest = np.maximum(np.maximum(home[:, :, None], home[:, None, :]), distances[None])
    within = farthest < fc3_cutoff + 1e-5
    if within.all():
        return fc, Change(0.0, 0.0)
    if not np.any(phi[within & (farthest > 1e-5)]):
        nearest = float(distances[distances > 1e-5].min(initial=np.inf))
        raise InputError(
            f"nothing is left of Φ3 within {fc3_cutoff:g} Å: the nearest atoms are {nearest:.4g} Å apart",
            "take a larger cutoff",
        )
    found = nearest_that_obeys(crystal, supercell, phi, _acoustic(phi.shape), within.ravel())
    return ForceConstants(fc.fc2, found), Change(0.0, _share(phi, found))


def with_rotational_invariance(supercells: Supercells, fc: ForceConstants) -> tuple[ForceConstants, Change]:
    """Φ2 that obeys the rotational (Born-Huang) and Huang sum rules besides symmetry and acoustic sum rule.

    The nearest of all such Φ2 (least squares over all elements). For crystals without stress and without long-ranged
    dipoles; in layers and wires, bending modes become quadratic in q.

    Returns:
        force constants, what they changed by.
    """
    crystal, supercell = supercells.crystal, supercells.fc2_supercell
    phi = np.asarray(fc.fc2)
    from scipy import sparse

    rows = sparse.vstack([_acoustic(phi.shape), _rotational(crystal, supercell)]).tocsr()
    found = nearest_that_obeys(crystal, supercell, phi, rows)
    return ForceConstants(found, fc.fc3), Change(_share(phi, found), 0.0)


def nearest_that_obeys(
    crystal: Crystal, supercell: Supercell, phi: np.ndarray, rules: sparse.csr_array, within: np.ndarray | None = None
) -> np.ndarray:
    """The force constants nearest to the symmetric part of `phi` on which linear rules vanish.

    Args:
        phi: compact, (n, N, 3, 3) or (n, N, N, 3, 3, 3).
        rules: (rules, size of phi).
        within: (tuples of atoms,) bool, whole orbits of the symmetry: where they may differ from zero.
    """
    from scipy.sparse.linalg import lsmr

    basis = symmetric_basis(crystal, supercell, phi.ndim // 2)
    columns = columns_of(basis)
    if within is not None:
        orbits = np.zeros(len(basis.local), bool)
        orbits[np.asarray(basis.orbit)[within]] = True
        slots = np.unique(np.asarray(basis.slots)[orbits])
        columns = columns[:, slots[slots < basis.n_parameters]]
    c = columns.T @ phi.ravel()
    B = (rules @ columns).tocsr()
    norms = np.sqrt(np.asarray(B.multiply(B).sum(axis=1)).ravel())
    told = norms > ROUNDING * norms.max(initial=0.0)  # the others are obeyed by symmetry
    if told.any() and np.any(c):
        B = B[told].multiply(1 / norms[told, None]).tocsr()  # rules of one norm converge in fewer steps
        for _ in range(2):  # the second removes what rounding left of the first
            y = lsmr(B.T, c, atol=1e-15, btol=1e-15, conlim=0, maxiter=20 * min(B.shape) + 100)[0]
            c = c - B.T @ y
        if not np.linalg.norm(B @ c) <= OBEYED * np.linalg.norm(phi):
            raise AssertionError("the sum rules could not be imposed: the iteration did not converge")
    return np.asarray(columns @ c).reshape(phi.shape)


def pair_distances(crystal: Crystal, supercell: Supercell) -> np.ndarray:
    """Å between the nearest images of all atoms of a supercell. (N, N)"""
    nearest, positions = shortest_vectors(crystal, supercell), np.asarray(crystal.positions)
    kinds, lattice = supercell.primitive_index, np.asarray(crystal.lattice)
    home = np.array(
        [
            [np.linalg.norm((positions[kinds[J]] + R[0] - positions[i]) @ lattice) for J, R in enumerate(rows)]
            for i, rows in enumerate(nearest)
        ]
    )
    translations, homing = translation_table(crystal, supercell)
    return np.stack([home[kinds[J], translations[homing[J]]] for J in range(supercell.n_atoms)])


def _acoustic(shape: tuple[int, ...]) -> sparse.csr_array:
    """Sums over the last atom of compact force constants of this shape."""
    from scipy import sparse

    order = len(shape) // 2
    first, last, components = int(np.prod(shape[: order - 1])), shape[order - 1], 3**order
    ones = sparse.csr_array(np.ones((1, last)))
    return sparse.kron(sparse.kron(sparse.eye_array(first), ones), sparse.eye_array(components)).tocsr()


def _rotational(crystal: Crystal, supercell: Supercell) -> sparse.csr_array:
    """The rotational and Huang rules of Φ2, with lengths in units of the supercell's."""
    from scipy import sparse

    n, N = crystal.n_atoms, supercell.n_atoms
    positions, lattice, kinds = np.asarray(crystal.positions), np.asarray(crystal.lattice), supercell.primitive_index
    unit = abs(np.linalg.det(supercell.matrix @ lattice)) ** (1 / 3)
    first, second = np.empty((n, N, 3)), np.empty((n, N, 3, 3))
    for i, images in enumerate(shortest_vectors(crystal, supercell)):
        for J, R in enumerate(images):
            vectors = (positions[kinds[J]] + R - positions[i]) @ lattice / unit
            first[i, J], second[i, J] = vectors.mean(axis=0), vectors.T @ vectors / len(vectors)
    rules = np.zeros((n, 3, 3, 3, N, 3, 3))  # of atom i, component a, pair b c
    for a, b, c in np.ndindex(3, 3, 3):
        if b < c:
            rules[:, a, b, c, :, a, b] += first[:, :, c]
            rules[:, a, b, c, :, a, c] -= first[:, :, b]
    huang = np.zeros((3, 3, 3, 3, n, N, 3, 3))
    for a, b, c, d in np.ndindex(3, 3, 3, 3):
        huang[a, b, c, d, :, :, a, b] += second[:, :, c, d]
        huang[a, b, c, d, :, :, c, d] -= second[:, :, a, b]
    blocks = sparse.block_diag([sparse.csr_array(x.reshape(27, N * 9)) for x in rules])
    return sparse.vstack([blocks, sparse.csr_array(huang.reshape(81, -1))]).tocsr()


def _share(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.linalg.norm(before - after) / (np.linalg.norm(before) or 1.0))


__all__ = ["Change", "nearest_that_obeys", "pair_distances", "with_cutoff", "with_rotational_invariance"]
