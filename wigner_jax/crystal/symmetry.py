"""Space groups of primitive cells, and structures snapped onto them."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import spglib

from .._core.as_numbers import real_numbers
from .._core.pytree import host_data
from ..errors import InputError
from ..types import Crystal
from .validity import require_cell

if TYPE_CHECKING:
    import ase

SYMPREC = 1e-5  # Å, phonopy's default


@host_data
class SpaceGroup:
    """Operations x → W x + w on fractional column vectors, and what each does to the atoms."""

    rotations: np.ndarray  #: (G, 3, 3) int, W
    translations: np.ndarray  #: (G, 3)
    permutations: np.ndarray  #: (G, n) int: operation g carries atom i onto atom permutations[g, i]
    number: int
    international: str

    def point_group(self) -> np.ndarray:
        """The distinct rotations, (R, 3, 3)."""
        return np.unique(self.rotations, axis=0)


def species(crystal: Crystal) -> np.ndarray:
    """One integer per atom; atoms of equal number *and* mass share it, so that isotopes break symmetry. (n,)"""
    keys = np.column_stack([np.asarray(crystal.numbers), np.asarray(crystal.masses)])
    return np.unique(keys, axis=0, return_inverse=True)[1].ravel() + 1


def space_group(crystal: Crystal, symprec: float = SYMPREC) -> SpaceGroup:
    """Symmetry operations of a cell (spglib), each with its permutation of the atoms.

    Magnetic moments lower the symmetry: operations are those of the magnetic space group, with time reversal or without,
    as phonopy takes them, since force constants do not see the sign of all moments. `number` and `international` are
    those of the group that the operations form on the atoms.
    """
    parts = {
        "cell": crystal.lattice,
        "positions": crystal.positions,
        "masses": crystal.masses,
        "moments": crystal.moments,
    }
    arrays = tuple(
        None if x is None else np.ascontiguousarray(real_numbers(x, f"the {name} of the crystal"))
        for name, x in parts.items()
    )
    key = tuple(None if x is None else (x.shape, x.tobytes()) for x in arrays)
    return _space_group(key, tuple(int(z) for z in crystal.numbers), float(symprec))


@functools.lru_cache(maxsize=64)
def _space_group(key: tuple[Any, ...], numbers: tuple[int, ...], symprec: float) -> SpaceGroup:
    """`space_group` by the bytes of its arrays: it is asked for a dozen times on the way to κ of one crystal."""
    arrays = [None if x is None else np.frombuffer(x[1]).reshape(x[0]) for x in key]
    lattice, positions, masses, moments = arrays
    assert lattice is not None
    assert positions is not None
    assert masses is not None
    require_cell(lattice, positions, numbers, masses, "the crystal")  # spglib crashes on NaN
    cell = (lattice, positions, species(Crystal(lattice, positions, masses, numbers)))
    magnetic = moments is not None and bool(np.any(moments))
    dataset = _magnetic_dataset(cell, moments, symprec) if magnetic else _dataset(cell, symprec)
    if dataset is None:
        raise InputError(
            f"spglib finds no space group at symprec {symprec:g} Å: two atoms may coincide, or the lattice be singular"
        )
    permutations = np.empty((len(dataset.rotations), len(numbers)), dtype=int)
    for g, (W, w) in enumerate(zip(dataset.rotations, dataset.translations, strict=True)):
        image = positions @ W.T + w
        difference = image[:, None] - positions[None]
        distance = np.linalg.norm((difference - np.rint(difference)) @ lattice, axis=-1)
        distance[cell[2][:, None] != cell[2][None]] = np.inf
        permutations[g] = distance.argmin(axis=1)
    found = (dataset.rotations, dataset.translations, permutations)
    for array in found:
        array.flags.writeable = False  # all who ask share them
    return SpaceGroup(*found, int(dataset.number), str(dataset.international))


def operations_found(crystal: Crystal, symprec: float) -> tuple[int, str]:
    """How many operations a cell without moments has within `symprec` Å, and the name of its group; 0 if none is found."""
    found = _dataset((np.asarray(crystal.lattice), np.asarray(crystal.positions), species(crystal)), symprec)
    return (0, "") if found is None else (len(found.rotations), found.international)


class _Operations(NamedTuple):
    rotations: np.ndarray
    translations: np.ndarray
    number: int
    international: str


def space_group_number(crystal: Crystal, symprec: float = SYMPREC) -> int:
    """The international number alone, without moments: of a large cell too; 0 if none is found."""
    found = _dataset((np.asarray(crystal.lattice), np.asarray(crystal.positions), species(crystal)), symprec)
    return 0 if found is None else int(found.number)


def space_group_of_atoms(atoms: ase.Atoms) -> int:
    """`space_group_number` of a structure as ASE holds it, whatever its masses."""
    found = _dataset((atoms.cell.array, atoms.get_scaled_positions(wrap=False), atoms.numbers), SYMPREC)
    return 0 if found is None else int(found.number)


def _dataset(cell: tuple[Any, ...], symprec: float) -> _Operations | None:
    found = spglib.get_symmetry_dataset(cell, symprec=symprec)
    if found is None:
        return None
    return _Operations(found.rotations, found.translations, found.number, found.international)


def _magnetic_dataset(cell: tuple[Any, ...], moments: Any, symprec: float) -> _Operations | None:
    found = spglib.get_magnetic_symmetry_dataset((*cell, np.asarray(moments, float)), symprec=symprec)
    if found is None:
        return None
    kind = spglib.get_spacegroup_type_from_symmetry(found.rotations, found.translations, cell[0], symprec=symprec)
    number, name = (0, "unknown") if kind is None else (kind.number, kind.international_short)
    return _Operations(found.rotations, found.translations, number, name)


def symmetrized(crystal: Crystal, group: SpaceGroup | None = None) -> Crystal:
    """The nearest crystal that obeys its space group to machine precision.

    A structure written with 8 decimals is asymmetric at 1e-9, which shows as 2e-7 in Φ3. The metric is averaged over the
    point group, and the change of lattice is a pure strain (no rotation). Positions are averaged relative to their
    centre: in that frame x_g(i) - W x_i is a multiple of 1/n, so its noise can be rounded away and one pass is exact.
    """
    group = space_group(crystal) if group is None else group
    lattice, positions = np.asarray(crystal.lattice, float), np.asarray(crystal.positions, float)
    W = group.rotations
    metric = np.mean(np.swapaxes(W, 1, 2) @ (lattice @ lattice.T) @ W, axis=0)
    inverse = np.linalg.inv(lattice)
    values, vectors = np.linalg.eigh(inverse @ metric @ inverse.T)
    strained = lattice @ (vectors * np.sqrt(values)) @ vectors.T

    n = crystal.n_atoms
    centre = positions.mean(axis=0)
    relative = positions - centre
    total = np.zeros_like(relative)
    for rotation, permutation in zip(W, group.permutations, strict=True):
        image = relative @ rotation.T
        shift = np.rint(n * (relative[permutation] - image)) / n
        total[permutation] += image + shift
    masses = np.asarray(crystal.masses, float)
    return dataclasses.replace(crystal, lattice=strained, positions=total / len(W) + centre, masses=masses)


def reciprocal_operations(group: SpaceGroup) -> np.ndarray:
    """Integer matrices acting on q (fractional, column): W^-T for each rotation, with time reversal. (R, 3, 3)"""
    rotations = np.rint(np.linalg.inv(group.point_group())).astype(int).swapaxes(1, 2)
    return np.unique(np.concatenate([rotations, -rotations]), axis=0)


def cartesian(operations: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Cartesian matrices of operations on fractional q: q_cart = B q with B = lattice^-1 (columns b_μ). (R, 3, 3)"""
    B = np.linalg.inv(np.asarray(lattice))
    return B @ operations @ np.linalg.inv(B)
