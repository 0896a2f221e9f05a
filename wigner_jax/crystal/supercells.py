"""Primitive cells, supercells and their shortest vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

from .._core.as_numbers import as_numbers
from ..errors import InputError
from ..types import Crystal, Supercell
from .symmetry import SYMPREC

if TYPE_CHECKING:
    from collections.abc import Sequence


CENTRING = {  # columns: primitive vectors in the standard conventional cell (Hinuma et al. 2017, phonopy's choice)
    "P": np.eye(3),
    "A": np.array([[1, 0, 0], [0, 0.5, -0.5], [0, 0.5, 0.5]]),
    "C": np.array([[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]]),
    "F": np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "I": np.array([[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]]),
    "R": np.array([[2, -1, -1], [1, 1, -2], [1, 1, 1]]) / 3,
}


MOMENT_TOLERANCE = 1e-3  # moments closer than this are equal
LARGEST_MULTIPLE = 1000  # a supercell matrix with larger elements is an error


def integer_matrix(value: Sequence, name: str) -> np.ndarray:
    """A supercell matrix from 1, 3 or 9 integers, also as text ("2 2 2", "[2, 2, 2]"); raises InputError otherwise. (3, 3)"""
    remedy = "give 1, 3 or 9 integers with a positive determinant, such as 2 2 2"
    try:
        array = as_numbers(value)
    except ValueError:
        raise InputError(f"{name} is {str(value)[:60]!r}", remedy) from None
    if array.size not in (1, 3, 9):
        raise InputError(f"{name} has {array.size} numbers", remedy)
    array = np.diag(array.ravel() * np.ones(3)) if array.size < 9 else array.reshape(3, 3)
    if np.isfinite(array).all() and not np.all(np.abs(array) < LARGEST_MULTIPLE):
        raise InputError(f"{name} is {array.tolist()}", f"its numbers must be below {LARGEST_MULTIPLE}")
    if not (np.isfinite(array).all() and np.all(array == np.rint(array))):
        raise InputError(f"{name} is {array.tolist()}", remedy)
    if round(np.linalg.det(array)) <= 0:
        raise InputError(f"{name} is {array.tolist()}, of determinant {np.linalg.det(array):.0f}", remedy)
    return array.astype(int)


def nine_numbers(value: Any, name: str) -> np.ndarray:
    """A (3, 3) matrix of finite numbers, also as text; raises InputError otherwise."""
    try:
        array = as_numbers(value)
    except ValueError:
        array = np.empty(0)
    if array.size != 9 or not np.isfinite(array).all():
        raise InputError(f"{name} is {str(value)[:60]!r}", "it must be 9 numbers, a 3×3 matrix")
    return array.reshape(3, 3)


def primitive_matrix_of(lattice: np.ndarray, positions: np.ndarray, types: np.ndarray, symprec: float) -> np.ndarray:
    """Columns: primitive vectors in units of the given cell's. The identity if the cell is primitive already. (3, 3)"""
    dataset = spglib.get_symmetry_dataset((lattice, positions, types), symprec=symprec)
    if dataset is None:
        raise ValueError(f"spglib finds no space group at symprec {symprec:g} Å: check the structure for doubled atoms")
    if np.sum(np.all(dataset.rotations == np.eye(3, dtype=int), axis=(1, 2))) == 1:
        return np.eye(3)
    matrix = np.linalg.inv(dataset.transformation_matrix) @ CENTRING[dataset.international[0]]
    return matrix if np.linalg.det(matrix) > 0 else -matrix


def reduce_to_primitive(
    lattice: np.ndarray,
    positions: np.ndarray,
    numbers: np.ndarray,
    masses: np.ndarray,
    matrix: np.ndarray,
    moments: np.ndarray | None = None,
) -> tuple[Crystal, np.ndarray, np.ndarray]:
    """The primitive crystal of a cell, with each atom's primitive atom and lattice vector.

    Args:
        matrix: columns are the primitive vectors in units of `lattice`'s.
        moments: (N,) or (N, 3); atoms of different moments are different.

    Returns:
        crystal, atom (N,) and cell (N, 3) with r_J = (positions[atom[J]] + cell[J]) @ crystal.lattice.
    """
    primitive = matrix.T @ lattice
    if np.linalg.det(primitive) * np.linalg.det(lattice) <= 0:
        raise ValueError(f"primitive matrix {matrix.tolist()} is singular or turns the cell left-handed")
    fractional = positions @ lattice @ np.linalg.inv(primitive)
    kept: list[int] = []
    atom, cell = np.empty(len(fractional), int), np.empty((len(fractional), 3), int)
    for J, x in enumerate(fractional):
        for k, I in enumerate(kept):
            if numbers[I] != numbers[J] or abs(masses[I] - masses[J]) > 1e-9:
                continue
            if moments is not None and np.abs(moments[I] - moments[J]).max() > MOMENT_TOLERANCE:
                continue
            offset = x - fractional[I]
            if np.linalg.norm((offset - np.rint(offset)) @ primitive) < 1e-3:
                atom[J], cell[J] = k, np.rint(offset)
                break
        else:
            atom[J], cell[J] = len(kept), 0
            kept.append(J)
    if len(kept) * round(np.linalg.det(lattice) / np.linalg.det(primitive)) != len(fractional):
        raise ValueError(
            "the primitive matrix is not a lattice translation of this structure: check it, or leave it out"
        )
    kinds, spins = tuple(int(z) for z in numbers[kept]), None if moments is None else moments[kept]
    crystal = Crystal(primitive, fractional[kept], masses[kept], kinds, spins)
    return crystal, atom, cell


def make_supercell(crystal: Crystal, matrix: np.ndarray) -> Supercell:
    """All atoms of the supercell ``matrix @ crystal.lattice`` (any integer matrix), primitive atoms slowest."""
    matrix = np.asarray(matrix, int)
    corners = np.array(list(np.ndindex(2, 2, 2))) @ matrix
    low, high = corners.min(0), corners.max(0)
    points = np.stack(np.meshgrid(*[np.arange(a, b + 1) for a, b in zip(low, high, strict=True)], indexing="ij"), -1)
    points = points.reshape(-1, 3)
    inside = points @ np.linalg.inv(matrix)
    points = points[np.all((inside > -1e-9) & (inside < 1 - 1e-9), axis=1)]
    cells = len(points)
    if cells != round(abs(np.linalg.det(matrix))):
        raise AssertionError("supercell enumeration lost lattice points")
    n = crystal.n_atoms
    origin = int(np.flatnonzero(~points.any(axis=1))[0])
    return Supercell(matrix, np.repeat(np.arange(n), cells), np.tile(points, (n, 1)), np.arange(n) * cells + origin)


def shortest_vectors(crystal: Crystal, supercell: Supercell, tolerance: float = SYMPREC) -> list[list[np.ndarray]]:
    """Lattice vectors of all equidistant nearest images of atom J seen from primitive atom i.

    Returns:
        R[i][J]: (images, 3) int, relative to the home atom of i: the vector between the two atoms is
        (positions[atom[J]] + R - positions[i]) @ lattice. Images within `tolerance` Å of the shortest are kept
        (phonopy's convention), each to be weighted by 1/images.
    """
    lattice, positions = np.asarray(crystal.lattice), np.asarray(crystal.positions)
    # images of a reduced basis of the supercell: the 27 neighbours of the wrapped vector hold every shortest one
    reduced = spglib.delaunay_reduce(supercell.matrix @ lattice)
    basis = np.rint(reduced @ np.linalg.inv(lattice)).astype(int)
    steps = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    # a Delaunay basis is obtuse: two steps along one vector are needed in flat cells
    steps = np.unique(np.concatenate([steps, 2 * np.eye(3, dtype=int), -2 * np.eye(3, dtype=int)]), axis=0)
    result = []
    for i in range(crystal.n_atoms):
        R = supercell.lattice_vector - supercell.lattice_vector[supercell.p2s_map[i]]
        vector = positions[supercell.primitive_index] + R - positions[i]
        wrap = np.rint(vector @ np.linalg.inv(basis)).astype(int)
        candidates = (R - wrap @ basis)[:, None] + (steps @ basis)[None]
        length = np.linalg.norm(
            (positions[supercell.primitive_index][:, None] + candidates - positions[i]) @ lattice, axis=-1
        )
        keep = length < length.min(axis=1, keepdims=True) + tolerance
        result.append([candidates[J][keep[J]] for J in range(supercell.n_atoms)])
    return result
