"""Crystals and supercells from ASE structures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..types import Supercell, Supercells
from .elements import masses_of
from .supercells import integer_matrix, make_supercell, nine_numbers, primitive_matrix_of, reduce_to_primitive
from .symmetry import SYMPREC, space_group, symmetrized
from .validity import require_structure

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ase


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

    Raises:
        InputError: what `require_structure` refuses, or matrices that do not fit.
    """
    atoms = require_structure(atoms)
    numbers = np.asarray(atoms.numbers)
    masses = np.asarray(atoms.get_masses()) if atoms.has("masses") else masses_of(numbers)
    lattice, positions = np.asarray(atoms.cell), np.asarray(atoms.get_scaled_positions(wrap=False))
    if primitive_matrix is None:
        types = np.unique(np.column_stack([numbers, masses]), axis=0, return_inverse=True)[1].ravel()
        primitive_matrix = primitive_matrix_of(lattice, positions, types, symprec)
    else:
        primitive_matrix = nine_numbers(primitive_matrix, "primitive_matrix")
    crystal, _, _ = reduce_to_primitive(lattice, positions, numbers, masses, primitive_matrix)
    crystal = symmetrized(crystal, space_group(crystal, symprec))

    def supercell(value: Sequence, name: str) -> Supercell:
        in_primitive = integer_matrix(value, name).T @ np.linalg.inv(primitive_matrix).T
        return make_supercell(crystal, np.rint(in_primitive).astype(int))

    return Supercells(crystal, supercell(fc2_supercell, "fc2_supercell"), supercell(fc3_supercell, "fc3_supercell"))


def in_units_of(atoms: ase.Atoms, supercells: Supercells) -> tuple[list[int], list[int]]:
    """The supercells of Φ2 and Φ3 as `supercells_from_atoms` takes them for these atoms, nine integers each.

    Raises:
        InputError: they are no multiples of the cell of `atoms`, which is larger than they are.
    """
    given = np.linalg.inv(atoms.cell.array)
    cells = (supercells.fc2_supercell, supercells.fc3_supercell)
    matrices = [cell.matrix @ np.asarray(supercells.crystal.lattice) @ given for cell in cells]
    if max(np.abs(m - np.rint(m)).max() for m in matrices) > 1e-4:
        raise InputError(
            "the supercells are no multiples of the given cell", "name them with fc2_supercell and fc3_supercell"
        )
    second, third = (np.rint(m).astype(int).T.ravel().tolist() for m in matrices)
    return second, third
