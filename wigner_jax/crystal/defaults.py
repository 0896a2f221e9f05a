"""What is chosen where the user names nothing: supercells by thickness, a q-mesh by length."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import spglib

from .from_ase import supercells_from_atoms
from .supercells import make_supercell
from .symmetry import species

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ase

    from ..types import Crystal, Supercells


THICKNESS_FC2 = 10.0  # Å between opposite faces; Si, NaCl: 2×2×2 conventional cells (64 atoms)
THICKNESS_FC3 = 8.0  # Å; the same for Si and NaCl, 3×3×2 for a wurtzite like AlN
MESH_LENGTH = 35.0  # Å; 11×11×11 for Si


def thickness(lattice: np.ndarray) -> np.ndarray:
    """Distances between opposite faces of a cell. (3,) Å"""
    return 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)


def conventional_matrix(crystal: Crystal) -> np.ndarray:
    """The conventional cell of a primitive crystal, rows in units of its lattice vectors. (3, 3) int"""
    cell = (np.asarray(crystal.lattice), np.asarray(crystal.positions), species(crystal))
    dataset = spglib.get_symmetry_dataset(cell, symprec=1e-5)
    if dataset is None:
        return np.eye(3, dtype=int)
    matrix = np.linalg.inv(dataset.transformation_matrix).T
    rounded = np.rint(matrix).astype(int)
    if np.abs(matrix - rounded).max() > 1e-6:
        return np.eye(3, dtype=int)
    return rounded if np.linalg.det(rounded) > 0 else -rounded


def default_supercell(crystal: Crystal, minimum: float) -> np.ndarray:
    """The smallest multiple of the conventional cell whose opposite faces are `minimum` Å apart or more. (3, 3) int"""
    conventional = conventional_matrix(crystal)
    repeat = np.ceil(np.round(minimum / thickness(conventional @ np.asarray(crystal.lattice)), 6)).astype(int)
    return repeat[:, None] * conventional


def default_supercells(
    atoms: ase.Atoms, fc2_supercell: Sequence | None = None, fc3_supercell: Sequence | None = None
) -> Supercells:
    """`supercells_from_atoms` with supercells chosen where None is given.

    That is ``atoms.info["fc2_supercell"]`` and ``["fc3_supercell"]`` where the structure carries them (prototypes and
    the files of benchmark sets do, with their ``primitive_matrix``), else the smallest multiples of the conventional
    cell whose opposite faces are 10 Å (Φ2) and 8 Å (Φ3) apart or more.

    Args:
        fc2_supercell, fc3_supercell: 1, 3 or 9 integers, in units of the cell of `atoms`.
    """
    fc2_supercell = atoms.info.get("fc2_supercell") if fc2_supercell is None else fc2_supercell
    fc3_supercell = atoms.info.get("fc3_supercell") if fc3_supercell is None else fc3_supercell
    one = (1, 1, 1)
    cells = supercells_from_atoms(
        atoms,
        one if fc2_supercell is None else fc2_supercell,
        one if fc3_supercell is None else fc3_supercell,
        atoms.info.get("primitive_matrix"),
    )
    crystal = cells.crystal
    if fc2_supercell is None:
        cells = dataclasses.replace(
            cells, fc2_supercell=make_supercell(crystal, default_supercell(crystal, THICKNESS_FC2))
        )
    if fc3_supercell is None:
        cells = dataclasses.replace(
            cells, fc3_supercell=make_supercell(crystal, default_supercell(crystal, THICKNESS_FC3))
        )
    return cells


def default_mesh(crystal: Crystal, length: float = MESH_LENGTH) -> tuple[int, int, int]:
    """N_μ = max(1, round(length |b_μ|)), b_μ the reciprocal vectors without 2π (phonopy's mesh by length)."""
    norms = np.linalg.norm(np.linalg.inv(np.asarray(crystal.lattice)), axis=0)
    # rounded first, so that axes that are equal by symmetry stay equal at a tie
    N = np.maximum(1, np.rint(np.round(length * norms, 6))).astype(int)
    return int(N[0]), int(N[1]), int(N[2])


def mesh_of_points(crystal: Crystal, points: float) -> tuple[int, int, int]:
    """N_μ = max(1, round(x |b_μ|)) with N_1 N_2 N_3 ≈ `points`: the same mesh for all crystals with one shape of cell."""
    norms = np.linalg.norm(np.linalg.inv(np.asarray(crystal.lattice)), axis=0)
    N = np.rint(np.round(norms * np.cbrt(points / np.prod(norms)), 6))
    a, b, c = (max(1, int(n)) for n in N)
    return a, b, c
