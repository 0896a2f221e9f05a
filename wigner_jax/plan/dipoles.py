"""What the non-analytic term correction needs beforehand: reciprocal vectors, commensurate points, charges."""

from __future__ import annotations

from math import pi

import numpy as np

from .._core.pytree import Array, pytree
from ..crystal.symmetry import SYMPREC, space_group
from ..errors import InputError
from ..types import BornCharges, Crystal, Supercell
from .mesh import first_zone

G_POINTS = 300  # phonopy's default: reciprocal vectors in the sphere of the Gonze-Lee sum


@pytree("count")
class DipolePlan:
    """Where the dipole-dipole sum of Gonze and Lee is evaluated."""

    reciprocal: Array  #: (G, 3) int, reciprocal vectors of the sum, closed under negation
    commensurate: Array  #: (C, 3) fractional, the q-points that the supercell holds, in the first Brillouin zone
    weights: Array  #: (C,) share of each; equivalent points on the zone boundary share 1/N in equal parts
    count: int  #: fixes the cut-off, see reciprocal_vectors


def dipole_plan(crystal: Crystal, supercell: Supercell, count: int = G_POINTS) -> DipolePlan:
    """The plan of physics/nac.GonzeLee for force constants made in `supercell`."""
    reciprocal = reciprocal_vectors(crystal, count)
    points, weights = [], []
    for q in commensurate_points(crystal, supercell):
        # The truncated sum is not quite periodic (1e-10): taking one of several equivalent points, as phonopy does,
        # would break the crystal's symmetry at that level.
        images = q + reciprocal
        length = np.linalg.norm(images @ np.linalg.inv(crystal.lattice).T, axis=1)
        images = images[length < length.min() + 1e-5]
        points.append(images)
        weights.append(np.full(len(images), 1 / len(images)))
    return DipolePlan(reciprocal, np.concatenate(points), np.concatenate(weights) / len(points), count)


def reciprocal_vectors(crystal: Crystal, count: int = G_POINTS) -> np.ndarray:
    """All reciprocal vectors shorter than the cut-off G_c = (3 count / 4πV)^(1/3): about `count` of them. (G, 3) int

    The inequality is strict, as in phonopy: a shell that lies on the sphere stays out.
    """
    lattice = np.asarray(crystal.lattice)
    cutoff = (3 * count / (4 * pi) / abs(np.linalg.det(lattice))) ** (1 / 3)
    # |G_μ| = |G · a_μ| ≤ |G| |a_μ|
    reach = np.floor(cutoff * np.linalg.norm(lattice, axis=1)).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    length2 = np.sum((grid @ np.linalg.inv(lattice).T) ** 2, axis=1)
    return grid[length2 < cutoff**2]


def commensurate_points(crystal: Crystal, supercell: Supercell) -> np.ndarray:
    """The q at which a supercell's force constants are exact: matrix @ q integer. (N, 3) fractional, first zone."""
    matrix = np.asarray(supercell.matrix)
    corners = np.array(list(np.ndindex(2, 2, 2))) @ matrix.T
    axes = [np.arange(a, b + 1) for a, b in zip(corners.min(0), corners.max(0), strict=True)]
    integers = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    qpoints = integers @ np.linalg.inv(matrix).T
    qpoints = qpoints[np.all((qpoints > -1e-9) & (qpoints < 1 - 1e-9), axis=1)]
    if len(qpoints) != round(abs(np.linalg.det(matrix))):
        raise AssertionError("enumeration of commensurate points failed")
    return first_zone(qpoints, np.asarray(crystal.lattice))


def symmetrized_charges(born: BornCharges, crystal: Crystal, symprec: float = SYMPREC) -> BornCharges:
    """Born charges and dielectric tensor averaged over the space group, and charges that sum to zero over the cell.

    Operation {R|w} that carries atom i onto j carries Z_i onto R Z_i R^T; ε onto R ε R^T. The acoustic sum rule is
    imposed by subtracting the mean charge from every atom, as phonopy does. A linear projection: applying it twice
    changes nothing.
    """
    group = space_group(crystal, symprec)
    A = np.asarray(crystal.lattice).T
    R = A @ group.rotations @ np.linalg.inv(A)
    charges, dielectric = np.asarray(born.charges, float), np.asarray(born.dielectric, float)
    if charges.shape != (crystal.n_atoms, 3, 3) or dielectric.shape != (3, 3):
        raise InputError(
            f"Born charges {charges.shape} and dielectric tensor {dielectric.shape} do not fit {crystal.n_atoms} "
            "primitive atoms",
            "give one 3x3 tensor for every atom of the primitive cell",
        )
    total = np.zeros_like(charges)
    for rotation, permutation in zip(R, group.permutations, strict=True):
        total[permutation] += rotation @ charges @ rotation.T
    total /= len(R)
    return BornCharges(total - total.mean(axis=0), np.mean(R @ dielectric @ np.swapaxes(R, 1, 2), axis=0), born.factor)
