"""Built-in crystals."""

import numpy as np
import pytest
import spglib
from ase.data import covalent_radii
from ase.formula import Formula

from wigner_jax import available_prototypes, prototype
from wigner_jax.crystal.prototypes import STRUCTURES

NEIGHBOURS = {227: 4, 216: 4, 186: 4, 225: 6}  # by space group


@pytest.mark.parametrize("name", available_prototypes())
def test_every_prototype_is_the_crystal_it_names(name):
    """Composition, space group, coordination, and a bond length of the order of the covalent one."""
    atoms = prototype(name)
    assert atoms.info["name"] == name
    assert atoms.symbols.formula.reduce()[0].count() == Formula(name).reduce()[0].count()
    cell = (atoms.cell[:], atoms.get_scaled_positions(), atoms.numbers)
    group = spglib.get_symmetry_dataset(cell, symprec=1e-5).number
    large = atoms.repeat(3)
    distances = large.get_all_distances(mic=True)[0]
    nearest = distances[distances > 0].min()
    neighbours = np.flatnonzero((distances > 0) & (distances < 1.1 * nearest))
    assert len(neighbours) == NEIGHBOURS[group]
    bond = covalent_radii[large.numbers[0]] + covalent_radii[large.numbers[neighbours[0]]]
    assert 0.8 * bond < nearest < 1.35 * bond


def test_supercells_are_those_of_the_structure():
    assert prototype("Si").info["fc3_supercell"] == [2, 2, 2]
    assert prototype("AlN").info["fc2_supercell"] == [5, 5, 3]


def test_a_prototype_is_a_copy():
    prototype("Si").info["fc2_supercell"][0] = 99
    assert prototype("Si").info["fc2_supercell"] == [4, 4, 4]


def test_unknown_name():
    with pytest.raises(ValueError, match="no built-in crystal 'Unobtainium': wigner-jax prototypes lists all"):
        prototype("Unobtainium")


def test_cells_are_those_of_ase():
    """Ours are made without ase.build, which takes long to import: the same numbers in the same order."""
    from ase.build import bulk

    for structure, names in STRUCTURES.items():
        for name, constants in names.items():
            options = (
                dict(zip("ac", constants, strict=False))
                if structure == "wurtzite"
                else {"a": constants[0], "cubic": True}
            )
            theirs, ours = bulk(name, structure, **options), prototype(name)
            assert ours.get_chemical_symbols() == theirs.get_chemical_symbols()
            np.testing.assert_array_equal(ours.cell.array, theirs.cell.array)
            np.testing.assert_allclose(ours.positions, theirs.positions, rtol=0, atol=1e-15)
            assert ours.pbc.all()
