"""Meshes that no multiples of the primitive reciprocal vectors make: all q that repeat in a given supercell.

q (fractional) repeats in the supercell of an integer matrix S if S q is an integer vector. With D = P S Q diagonal and P, Q
unimodular,

    S q ∈ Z³  ⇔  D (Q⁻¹ q) ∈ Z³,

so that such q are the regular mesh D_1 × D_2 × D_3 along the reciprocal vectors of the basis Q⁻¹ A: the same crystal, with
another choice of primitive vectors. Force constants are the same arrays; cells are named by other integers.

(generalised regular grids: P. Wisesa, K. A. McGill, T. Mueller, Phys. Rev. B 93, 155109 (2016); phono3py's ``--grg``.)
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ..crystal.defaults import conventional_matrix, default_mesh
from ..crystal.supercells import integer_matrix
from ..errors import InputError
from ..types import Supercells
from .mesh import mesh_dims

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Supercell


MOST = 10_000  # cells along a vector


def generalized_mesh(
    supercells: Supercells, mesh: float | Sequence[int] | np.ndarray
) -> tuple[Supercells, tuple[int, int, int]]:
    """The crystal in primitive vectors along which a mesh of all q that repeat in a supercell is a regular one.

        cells, dims = generalized_mesh(supercells, 40.0)
        solution = solve(make_plan(cells, dims), fc)

    A body-centred or face-centred crystal has meshes with its own symmetry between those of its primitive reciprocal vectors;
    a rhombohedral or base-centred one has meshes as dense in all directions. The micro-cell of such a mesh may be skew: take
    ``Tetrahedron.for_plan(plan, symmetrized=True)``, whose tetrahedra do not depend on the primitive vectors, or a Gaussian.

    Args:
        mesh: a length in Å: the conventional cell, repeated as `default_mesh` does for that length; three integers: the
            conventional cell repeated so often; nine: the supercell in units of the primitive vectors (rows).

    Returns:
        supercells for the same force constants, subdivisions for `make_plan`.

    Raises:
        InputError: a length not above 0, or no such integers.
    """
    matrix = _matrix(supercells, mesh)
    diagonal, Q = diagonalized(matrix)
    inverse = np.rint(np.linalg.inv(Q)).astype(int)
    crystal = supercells.crystal
    turned = dataclasses.replace(
        crystal, lattice=inverse @ np.asarray(crystal.lattice), positions=np.asarray(crystal.positions) @ Q
    )

    def renamed(cell: Supercell) -> Supercell:
        return dataclasses.replace(cell, matrix=cell.matrix @ Q, lattice_vector=cell.lattice_vector @ Q)

    mesh_dims(diagonal.tolist())  # not too many to be numbered
    cells = Supercells(turned, renamed(supercells.fc2_supercell), renamed(supercells.fc3_supercell))
    return cells, (int(diagonal[0]), int(diagonal[1]), int(diagonal[2]))


def _matrix(supercells: Supercells, mesh: float | Sequence[int] | np.ndarray) -> np.ndarray:
    """The supercell in which all q of the mesh repeat, rows in units of the primitive vectors. (3, 3) int"""
    conventional = conventional_matrix(supercells.crystal)
    if np.ndim(mesh) == 0:
        if isinstance(mesh, bool) or not (isinstance(mesh, (int, float, np.number)) and 0 < float(mesh) < np.inf):
            raise InputError(f"the length of a mesh is {mesh!r}", "give Å above 0")
        lattice = conventional @ np.asarray(supercells.crystal.lattice)
        larger = dataclasses.replace(supercells.crystal, lattice=lattice)
        return np.diag(default_mesh(larger, float(mesh))) @ conventional
    if np.size(mesh) == 3:
        repeat = integer_matrix(np.ravel(mesh).tolist(), "mesh")
        if not np.all(np.diag(repeat) > 0):
            raise InputError(f"mesh is {np.diag(repeat).tolist()}", "give positive integers")
        return repeat @ conventional
    if np.size(mesh) != 9:
        raise InputError(f"mesh has {np.size(mesh)} numbers", "give a length in Å, three integers, or nine")
    array = np.asarray(mesh)
    rows = array.reshape(3, 3)
    if (
        array.dtype.kind not in "iuf"
        or not np.all(np.abs(rows) < MOST)
        or np.any(rows != np.rint(rows))
        or round(np.linalg.det(rows)) == 0
    ):
        raise InputError("mesh is no integer matrix of three vectors that span a volume", "give rows of a supercell")
    return np.rint(rows).astype(int)


def diagonalized(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """D and Q of D = P S Q, P and Q unimodular, det Q = 1, D positive. (3,) int, (3, 3) int"""
    S, Q = matrix.astype(object).copy(), np.eye(3, dtype=object)  # Python's integers do not overflow
    for k in range(3):
        while True:
            rest = [(abs(S[i, j]), i, j) for i in range(k, 3) for j in range(k, 3) if S[i, j]]
            _, i, j = min(rest)
            S[[k, i]] = S[[i, k]]
            S[:, [k, j]], Q[:, [k, j]] = S[:, [j, k]], Q[:, [j, k]]
            for other in range(k + 1, 3):
                S[other] -= (S[other, k] // S[k, k]) * S[k]
                factor = S[k, other] // S[k, k]
                S[:, other], Q[:, other] = S[:, other] - factor * S[:, k], Q[:, other] - factor * Q[:, k]
            if not any(S[k, k + 1 :]) and not any(S[k + 1 :, k]):
                break
    unimodular = Q.astype(int)
    if round(np.linalg.det(unimodular)) < 0:
        unimodular[:, 0] *= -1  # with the sign of a row of P, which nothing depends on
    return np.abs(np.diag(S).astype(int)), unimodular


__all__ = ["diagonalized", "generalized_mesh"]
