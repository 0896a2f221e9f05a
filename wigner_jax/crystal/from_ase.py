"""Crystals and supercells from ASE structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..types import Supercell, Supercells
from .elements import ELEMENTS, SYMBOLS
from .supercells import integer_matrix, make_supercell, primitive_matrix_of, reduce_to_primitive
from .symmetry import SYMPREC, space_group, symmetrized

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ase


def masses_of(numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Standard masses in amu, phonopy's table. (n,)"""
    masses = [ELEMENTS[SYMBOLS[int(z)]][1] for z in numbers]
    if missing := [SYMBOLS[int(z)] for z, m in zip(numbers, masses, strict=True) if m is None]:
        raise ValueError(f"no standard mass for {', '.join(missing)}: give the masses explicitly")
    return np.array(masses, dtype=float)


def supercells_from_atoms(
    atoms: ase.Atoms,
    fc2_supercell: Sequence,
    fc3_supercell: Sequence,
    primitive_matrix: np.ndarray | None = None,
    symprec: float = SYMPREC,
) -> Supercells:
    """Primitive crystal (snapped onto its space group) and supercells of any ASE structure.

    Args:
        atoms: periodic structure, primitive or not. Masses are the standard ones unless `atoms` carries its own.
        fc2_supercell, fc3_supercell: 1, 3 or 9 integers, in units of the cell of `atoms` (phonopy's columns convention).
        primitive_matrix: columns are primitive vectors in units of the cell of `atoms`; found with spglib if None.
    """
    if not np.all(atoms.pbc) or abs(atoms.cell.volume) < 1e-6:
        raise ValueError("the structure must be periodic in three directions: set atoms.pbc and a cell")
    numbers = np.asarray(atoms.numbers)
    masses = np.asarray(atoms.get_masses()) if atoms.has("masses") else masses_of(numbers)
    lattice, positions = np.asarray(atoms.cell), np.asarray(atoms.get_scaled_positions(wrap=False))
    if not (np.isfinite(lattice).all() and np.isfinite(positions).all()):
        raise ValueError("the structure holds non-finite numbers: check its file")
    if np.linalg.det(lattice) < 0:
        raise ValueError("the cell is left-handed: swap two lattice vectors")
    if primitive_matrix is None:
        types = np.unique(np.column_stack([numbers, masses]), axis=0, return_inverse=True)[1].ravel()
        primitive_matrix = primitive_matrix_of(lattice, positions, types, symprec)
    crystal, _, _ = reduce_to_primitive(lattice, positions, numbers, masses, np.asarray(primitive_matrix, float))
    crystal = symmetrized(crystal, space_group(crystal, symprec))

    def supercell(value: Sequence, name: str) -> Supercell:
        in_primitive = integer_matrix(value, name).T @ np.linalg.inv(np.asarray(primitive_matrix)).T
        return make_supercell(crystal, np.rint(in_primitive).astype(int))

    return Supercells(crystal, supercell(fc2_supercell, "fc2 supercell"), supercell(fc3_supercell, "fc3 supercell"))
