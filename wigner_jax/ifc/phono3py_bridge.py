"""Force constants of a Phono3py object, and the order of its atoms."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..crystal.symmetry import SYMPREC, space_group, symmetrized
from ..crystal.validity import right_handed
from ..errors import InputError
from ..types import Crystal, ForceConstants, Supercell, Supercells


def make_supercell_map(crystal: Crystal, lattice: np.ndarray, positions: np.ndarray, numbers: np.ndarray) -> Supercell:
    """The integer description of a supercell given as a list of atoms; `p2s_map` names the first atom of each kind.

    Raises:
        InputError: the supercell is not a repetition of the primitive cell.
    """
    primitive = np.asarray(crystal.lattice)
    lattice, positions = right_handed(lattice, positions)
    exact = lattice @ np.linalg.inv(primitive)
    matrix = np.rint(exact).astype(int)
    n, copies = crystal.n_atoms, round(abs(np.linalg.det(matrix)))
    if np.abs(exact - matrix).max() > 1e-3 or n * copies != len(positions):
        raise InputError(
            f"a supercell of {len(positions)} atoms is no repetition of the primitive cell of {n}", "check the yaml"
        )
    offset = (positions @ exact)[:, None] - np.asarray(crystal.positions)[None]  # (N, n, 3)
    distance = np.linalg.norm((offset - np.rint(offset)) @ primitive, axis=-1)
    distance[numbers[:, None] != np.asarray(crystal.numbers)[None]] = np.inf
    atom = distance.argmin(axis=1)
    if distance.min(axis=1).max() > 0.01 or np.any(np.bincount(atom, minlength=n) != copies):
        raise InputError("the atoms of the supercell do not lie on those of the primitive cell", "check the yaml")
    cell = np.rint(offset[np.arange(len(atom)), atom]).astype(int)
    home = np.array([np.flatnonzero(atom == i)[0] for i in range(n)])
    return Supercell(matrix, atom, cell, home)


def _with_home(supercell: Supercell, rows: np.ndarray | None) -> Supercell:
    """The same supercell with `rows` (one supercell atom for each primitive atom, in any order) as home atoms."""
    if rows is None:
        return supercell
    kinds = supercell.primitive_index[rows]
    if sorted(kinds) != list(range(len(supercell.p2s_map))):
        raise InputError(
            "p2s_map of the force constants does not name one atom of each kind: it belongs to another supercell"
        )
    return Supercell(
        supercell.matrix, supercell.primitive_index, supercell.lattice_vector, np.asarray(rows)[np.argsort(kinds)]
    )


def peer_constants(peer: Any, length: float = 1.0, symprec: float = SYMPREC) -> tuple[Supercells, ForceConstants]:
    """What a Phono3py object holds as compact or full fc2 and fc3, with the crystal snapped onto its space group.

    Args:
        length: Å in the object's unit of length. Force constants stay in the object's units.
        symprec: Å, of the space group.
    """
    p, s2, s3 = peer.primitive, peer.phonon_supercell, peer.supercell
    lattice, positions = right_handed(p.cell * length, p.scaled_positions)
    crystal = Crystal(lattice, positions, p.masses, tuple(int(z) for z in p.numbers), p.magnetic_moments)
    map2, map3 = (make_supercell_map(crystal, s.cell * length, s.scaled_positions, s.numbers) for s in (s2, s3))
    rows2, rows3 = np.asarray(peer.phonon_primitive.p2s_map), np.asarray(p.p2s_map)
    constants = (_in_order(peer.fc2, map2, rows2), _in_order(peer.fc3, map3, rows3))
    snapped = symmetrized(crystal, space_group(crystal, symprec))
    return Supercells(snapped, _with_home(map2, rows2), _with_home(map3, rows3)), ForceConstants(*constants)


def _in_order(array: Any, supercell: Supercell, rows: np.ndarray) -> np.ndarray:
    """Compact force constants in the order of the primitive atoms, of compact ones (row k: atom rows[k]) or full ones."""
    array = np.asarray(array)
    array = array if len(array) == len(rows) else array[rows]
    return array[np.argsort(supercell.primitive_index[rows])]
