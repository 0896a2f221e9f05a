"""Whether given force constants can be what they claim: their crystal, its masses and distances, Φ3 beside Φ2.

The orders are linked by rotational invariance. A rotation of the whole crystal by A (antisymmetric), u_k = A r_k, turns Φ2 with it (G. Leibfried and W. Ludwig, Solid State
Physics 12, 275 (1961)):

    Σ_kγδ Φ3[i, j, k]_αβγ A_γδ (r_k - r_i)_δ = Σ_α' A_αα' Φ2[i, j]_α'β + Σ_β' A_ββ' Φ2[i, j]_αβ'

The left side has the unit of Φ3 times a length. Over the pairs of nearest neighbours it is compared with the right: the factor
λ = L·R / L·L that Φ3 would need is 1 for short-ranged forces (0.95 for silicon by DFT in 64 atoms, 0.62 for NaCl, whose
Coulomb forces the supercell cuts), if L and R are parallel; where they are not (their cosine is below 0.8), λ says
nothing: supercells within the range of the forces, strongly ionic crystals. Then the sizes alone are compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..crystal.distances import nearest_share, shortest_distance
from ..crystal.elements import ELEMENTS, SYMBOLS
from ..crystal.snapping import say_lost
from ..errors import say
from .images import atom_at

if TYPE_CHECKING:
    from ..types import Crystal, ForceConstants, Supercell, Supercells

NEIGHBOURS = 1.15  # times the shortest distance of an atom: its nearest neighbours
PARALLEL = 0.8  # cosine from which λ means something
FACTOR = 4.0  # λ outside 1/4 to 4 is said
SIZES = (0.3, 60.0)  # of max |Φ3| d / max |Φ2|, where λ is not known: 4.3 (LiBr) to 5.9 (silicon) by DFT
NEAREST = (0.6, 1.7)  # of the sum of covalent radii: crystals but those of noble gases have 0.7 to 1.5
MASSES = (0.5, 3.1)  # of the natural mass: tritium has 3.0
NOBLE = (2, 10, 18, 36, 54, 86)
TIE = 1e-3  # Å: images of an atom that are as near as this to the nearest one are as near


def say_implausible(supercells: Supercells, fc: ForceConstants) -> None:
    """Warns of what force constants from a file rarely are when they are right; nothing is refused.

    Warns:
        AccuracyWarning: more symmetry at a looser tolerance; masses or distances that no element has; Φ3 out of proportion to Φ2.
    """
    crystal = supercells.crystal
    say_lost(crystal)
    for z, mass in zip(crystal.numbers, np.asarray(crystal.masses), strict=True):
        natural = ELEMENTS[SYMBOLS[int(z)]][1]
        if natural is not None and not MASSES[0] < mass / natural < MASSES[1]:
            say(f"the mass of {SYMBOLS[int(z)]} is {mass:.4g} amu, where the element has {natural:.4g}: check its unit")
            break
    share = nearest_share(crystal)
    if not NEAREST[0] < share < NEAREST[1] and not set(crystal.numbers) & set(NOBLE):
        say(f"the nearest atoms are {share:.2g} times the sum of their covalent radii apart: check the unit of length")
    factor = third_over_second(supercells, fc)
    size = _size_of_third(crystal, fc) if np.isnan(factor) else np.nan
    if size < SIZES[0] or size > SIZES[1]:
        say(
            f"the largest Φ3 times the shortest distance is {size:.2g} times the largest Φ2, where crystals have about 5: check the"
            " units of both"
        )
    if factor < 1 / FACTOR or factor > FACTOR:
        say(
            f"Φ3 is {1 / factor:.2g} times what rotational invariance demands of it beside Φ2: check the units of both, and"
            " whether they are of one crystal"
        )


def _size_of_third(crystal: Crystal, fc: ForceConstants) -> float:
    """max |Φ3| d / max |Φ2| with the shortest distance d; NaN without Φ2."""
    largest = float(np.abs(fc.fc2).max())
    return float(np.abs(fc.fc3).max()) * shortest_distance(crystal) / largest if largest > 0 else np.nan


def third_over_second(supercells: Supercells, fc: ForceConstants) -> float:
    """λ of the module's docstring; NaN where nothing can be said."""
    crystal, third = supercells.crystal, supercells.fc3_supercell
    lattice = np.asarray(crystal.lattice)
    fc2, fc3 = np.asarray(fc.fc2), np.asarray(fc.fc3)
    left, right = [], []
    for i in range(crystal.n_atoms):
        offsets = _offsets(crystal, third, i)  # images of every atom, seen from i
        mean = np.array([np.mean(x @ lattice, axis=0) for x, _ in offsets])
        distance = np.array([np.linalg.norm(x[0] @ lattice) for x, _ in offsets])
        distance[third.p2s_map[i]] = np.inf
        for j in np.flatnonzero(distance < NEIGHBOURS * distance.min()):
            vectors, cells = offsets[j]
            if len(vectors) > 1:
                continue
            kind = np.array([third.primitive_index[j]])
            J = int(atom_at(supercells.fc2_supercell, np.array([i]), kind, cells[:1])[0])
            second = fc2[i, J]
            torque = np.einsum("kabc,kd->abcd", fc3[i, j], mean)
            left.append((torque - torque.swapaxes(2, 3))[..., [0, 0, 1], [1, 2, 2]])
            right.append(np.stack([_turned(second, c, d) for c, d in ((0, 1), (0, 2), (1, 2))], axis=-1))
    L, R = np.ravel(left), np.ravel(right)
    scale = np.abs(L).max(initial=0.0)
    if not scale > 0 or not np.any(R):
        return float("nan")
    L = L / scale  # no square of a number that is small already
    if not PARALLEL * np.linalg.norm(L) * np.linalg.norm(R) <= L @ R:
        return float("nan")
    return float(L @ R / (L @ L) / scale)


def _turned(second: np.ndarray, c: int, d: int) -> np.ndarray:
    """A Φ2 + Φ2 Aᵀ for the A with A_cd = 1 = -A_dc."""
    A = np.zeros((3, 3))
    A[c, d], A[d, c] = 1, -1
    return A @ second + second @ A.T


def _offsets(crystal: Crystal, supercell: Supercell, i: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of every supercell atom the nearest images seen from home atom i: (fractional offsets, lattice vectors)."""
    lattice, x = np.asarray(crystal.lattice), np.asarray(crystal.positions)
    home = supercell.lattice_vector[supercell.p2s_map[i]]
    base = supercell.lattice_vector - home
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3) @ supercell.matrix
    found = []
    for kind, cell in zip(supercell.primitive_index, base, strict=True):
        cells = cell + steps
        vectors = x[kind] + cells - x[i]
        length = np.linalg.norm(vectors @ lattice, axis=1)
        near = length < length.min() + TIE
        found.append((vectors[near], cells[near]))
    return found


__all__ = ["say_implausible", "third_over_second"]
