"""What every structure must be, from any file and through the Python API; symmetry lost in noise; masses."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import TYPE_CHECKING

import ase.build
import ase.io
import numpy as np
import pytest
from ase import Atoms

from wigner_jax._core.as_numbers import as_numbers
from wigner_jax.crystal.defaults import default_supercells
from wigner_jax.crystal.elements import has_natural_mass, natural_isotopes
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.crystal.snapping import snapped
from wigner_jax.crystal.supercells import integer_matrix
from wigner_jax.crystal.symmetry import space_group
from wigner_jax.crystal.validity import require_cell, require_structure, right_handed
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.ifc.interaction import say_unusual
from wigner_jax.ifc.symmetry_basis import require_parameters, work_ahead
from wigner_jax.io.structures import read_structure
from wigner_jax.pipeline import prepare
from wigner_jax.relaxation.newton import relax
from wigner_jax.types import Crystal

if TYPE_CHECKING:
    from pathlib import Path

ONE = (1, 1, 1)


def silicon(**options) -> Atoms:
    return ase.build.bulk("Si", "diamond", a=5.43, **options)


def changed(**fields) -> Atoms:
    atoms = silicon()
    for name, value in fields.items():
        if name == "mass":
            atoms.set_masses([value, 28.0])
        elif name == "number":
            atoms.numbers[0] = value
        elif name == "position":
            atoms.positions[1] = value
        elif name == "cell":
            atoms.cell[:] = value
        elif name == "scale":
            atoms.set_cell(atoms.cell * value, scale_atoms=True)
        else:
            atoms.pbc = value
    return atoms


BAD = [
    (changed(mass=0.0), "atom 1 of the structure has the mass 0"),
    (changed(mass=-28.0), "atom 1 of the structure has the mass -28"),
    (changed(mass=np.nan), "atom 1 of the structure has the mass nan"),
    (changed(mass=np.inf), "has the mass inf"),
    (changed(number=0), "has the atomic number 0"),
    (changed(number=119), "has the atomic number 119"),
    (changed(position=[np.nan, 0, 0]), "atom 2 of the structure has the position"),
    (changed(position=[0, np.inf, 0]), "atom 2 of the structure has the position"),
    (changed(cell=np.nan), "lattice vector that is not finite"),
    (changed(cell=[[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 5.4]]), "span no volume"),
    (changed(cell=np.zeros((3, 3))), "not periodic in three directions"),
    (changed(pbc=(True, True, False)), "not periodic in three directions"),
    (changed(position=[0.05, 0, 0]), "atoms 1 and 2 of the structure are 0.050 Å apart"),
    (changed(position=[2.715, 2.715, 0.03]), "atoms 1 and 2 of the structure are 0.030 Å apart"),
    (changed(scale=0.1), "2 atoms in 0.04 Å³"),
    (Atoms(cell=np.eye(3), pbc=True), "holds no atoms"),
]


@pytest.mark.parametrize(("atoms", "says"), BAD, ids=[says[-24:] for _, says in BAD])
def test_what_no_crystal_is(atoms: Atoms, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        require_structure(atoms)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        supercells_from_atoms(atoms, ONE, ONE)
    with pytest.raises(InputError):
        prepare(atoms, "tersoff-1989")


@pytest.mark.parametrize(
    "atoms",
    [changed(mass=1e-3), changed(mass=300.0), changed(number=118), changed(position=[0.15, 0, 0]), changed(scale=0.3)],
    ids=["light", "heavy", "Og", "0.15 Å", "dense"],
)
def test_what_is_strange_but_possible(atoms: Atoms) -> None:
    assert require_structure(atoms) is atoms


@pytest.mark.parametrize("ending", ["traj", "json", "extxyz"])
def test_files_of_any_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"si.{ending}"
    ase.io.write(path, changed(mass=0.0))
    with pytest.raises(InputError, match=rf"atom 1 of .*si\.{ending} has the mass 0"):
        read_structure(path)
    ase.io.write(path, changed(mass=29.0))
    assert read_structure(path).get_masses()[0] == 29


def test_large_cells_are_checked_in_no_time() -> None:
    atoms = silicon(cubic=True).repeat(8)
    require_structure(atoms)
    atoms.positions[4000] = atoms.positions[77] + 0.05
    with pytest.raises(InputError, match="atoms 78 and 4001 of"):
        require_structure(atoms)


def test_left_handed_cells_are_the_same_crystal() -> None:
    right = ase.build.bulk("SiC", "wurtzite", a=3.08, c=5.05)
    left = right.copy()
    left.set_cell(right.cell.array[[1, 0, 2]])
    assert np.linalg.det(left.cell.array) < 0
    turned = require_structure(left)
    assert turned.cell.volume == pytest.approx(right.cell.volume)
    assert np.linalg.det(turned.cell.array) > 0
    np.testing.assert_array_equal(turned.positions, left.positions)
    assert require_structure(right) is right
    one, other = (supercells_from_atoms(a, (2, 2, 1), (2, 1, 1)) for a in (right, left))
    assert one.fc2_supercell.n_atoms == other.fc2_supercell.n_atoms == 16
    assert space_group(one.crystal).number == space_group(other.crystal).number == 186
    lattice, positions = right_handed(left.cell.array, left.get_scaled_positions())
    offset = np.linalg.solve(lattice.T, (positions @ lattice - left.positions).T)
    np.testing.assert_allclose(offset, np.rint(offset), atol=1e-9)


CIF = """data_x
_cell_length_a 5.5
_cell_length_b 5.5
_cell_length_c 5.5
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'F -4 3 m'
_symmetry_Int_Tables_number 216
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""


def test_partly_occupied_sites(tmp_path: Path) -> None:
    path = tmp_path / "mixed.cif"
    path.write_text(CIF + "Si1 Si 0 0 0 0.7\nGe1 Ge 0 0 0 0.3\nC1 C 0.25 0.25 0.25 1\n")
    with pytest.raises(InputError, match=r"site 0 of .*mixed\.cif is partly occupied \(Si 0\.7, Ge 0\.3\)"):
        read_structure(path)
    path.write_text(CIF + "Si1 Si 0 0 0 0.9\nC1 C 0.25 0.25 0.25 1\n")
    with pytest.raises(InputError, match=r"\(Si 0\.9\)"):
        read_structure(path)
    path.write_text(CIF + "Si1 Si 0 0 0 1.0\nC1 C 0.25 0.25 0.25 1.0\n")
    assert len(read_structure(path)) == 8

    def with_info(occupancy: object) -> Atoms:
        atoms = silicon()
        atoms.info["occupancy"] = occupancy
        return atoms

    for bad in ({"0": {"Si": 0.5}}, json.dumps({"0": {"Si": 0.7, "Ge": 0.3}}), {"0": {"Si": "nan"}}, "half", [0.5, 1]):
        with pytest.raises(InputError, match=r"occup"):
            require_structure(with_info(bad))
    for good in ({"0": {"Si": 1.0}}, {"0": {"Si": 1, "Ge": 0}}, {"0": 1.0}, [1.0, 1.0]):
        require_structure(with_info(good))
    atoms = silicon()
    atoms.set_array("occupancies", np.array([1.0, 0.4]))
    with pytest.raises(InputError, match=r"site 2 of the structure is partly occupied \(Si 0\.4\)"):
        require_structure(atoms)


def test_supercells_as_text() -> None:
    for text in (
        "2 2 2",
        "[2,2,2]",
        "(2, 2, 2)",
        "2x2x2",
        "2",
        [2, 2, 2],
        2,
        "[[2,0,0],[0,2,0],[0,0,2]]",
        ["2", "2", "2"],
    ):
        assert np.array_equal(integer_matrix(text, "fc2_supercell"), 2 * np.eye(3))
    for bad in ("abc", "2 2", "2 2 nan", "2.5 2 2", "-2 2 2", "0 0 0", [[2, 2], [2]], None, "1e9 1 1", {"a": 2}):
        with pytest.raises(InputError, match="fc2_supercell"):
            integer_matrix(bad, "fc2_supercell")
    assert as_numbers(b"3;4").tolist() == [3, 4]
    for key, value in (
        ("fc2_supercell", "abc"),
        ("fc3_supercell", "1 2"),
        ("primitive_matrix", "x"),
        ("q_mesh", "foo"),
    ):
        atoms = silicon()
        atoms.info.update({"fc2_supercell": "[1,1,1]", "fc3_supercell": "2 2 2", key: value})
        with pytest.raises(InputError, match=key):
            prepare(atoms, "tersoff-1989", relax=False)
    atoms = silicon()
    atoms.info.update(fc2_supercell="[3,3,3]", fc3_supercell="2 2 2", primitive_matrix="1 0 0 0 1 0 0 0 1")
    assert default_supercells(atoms).fc2_supercell.n_atoms == 54


def test_symmetry_lost_in_noise() -> None:
    noisy = silicon(cubic=True)
    noisy.positions += 1e-4 * np.random.default_rng(0).normal(size=(8, 3))
    message = r"P1 within 1e-05 Å, but Fd-3m within 0\.001 Å \(192 operations instead of 1\).* symprec 0\.001"
    with pytest.warns(AccuracyWarning, match=message):
        assert snapped(noisy) is noisy
    with pytest.warns(AccuracyWarning, match=r"moved by up to 0\.000\d Å"):
        exact = snapped(noisy, 1e-3)
    assert space_group(supercells_from_atoms(exact, ONE, ONE).crystal, 1e-9).number == 227
    assert np.abs(exact.positions - noisy.positions).max() < 1e-3
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        assert snapped(silicon()).positions == pytest.approx(silicon().positions)
        snapped(silicon(), 1e-3)
    noisy_cells, cells = (supercells_from_atoms(a, (2, 2, 2), (2, 2, 2)) for a in (noisy, silicon(cubic=True)))
    assert "about 13 evaluations for Φ2 and 781 for Φ3" in work_ahead(noisy_cells)
    assert work_ahead(cells) == ""
    for symprec in (0, -1, np.nan, 1e-8, 3):
        with pytest.raises(InputError, match="symprec is"):
            snapped(noisy, symprec)


ESPRESSO = """&control
 calculation='scf'
/
&SYSTEM
 ibrav=0, nat=2, ntyp=2, ecutwfc=30
/
ATOMIC_SPECIES
 Si 27.9769 Si.UPF
 C1 {mass} C.UPF
CELL_PARAMETERS angstrom
 0 2.18 2.18
 2.18 0 2.18
 2.18 2.18 0
ATOMIC_POSITIONS crystal
 Si 0 0 0
 C1 0.25 0.25 0.25
"""


@pytest.mark.parametrize("name", ["sic.in", "sic.pwi", "sic.inp", "scf"])
def test_espresso_inputs_of_any_name_keep_their_masses(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(ESPRESSO.format(mass=12.011))
    crystal = supercells_from_atoms(read_structure(path), ONE, ONE).crystal
    np.testing.assert_array_equal(crystal.masses, [27.9769, 12.011])
    np.testing.assert_array_equal(has_natural_mass(crystal), [False, True])
    assert natural_isotopes(crystal)[0] == 0
    assert natural_isotopes(crystal)[1] > 7e-5
    path.write_text(ESPRESSO.format(mass=0))  # there, 0 is the standard mass
    assert read_structure(path).get_masses()[1] == pytest.approx(12.0107)
    path.write_text(ESPRESSO.format(mass=-3))
    with pytest.raises(InputError, match=r"atom 2 of .* has the mass -3"):
        read_structure(path)


def test_formats_by_name(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "odd.name", silicon(), format="vasp")
    assert len(read_structure(tmp_path / "odd.name", format="vasp")) == 2
    with pytest.raises(InputError, match="ASE knows no format 'vaasp'"):
        read_structure(tmp_path / "odd.name", format="vaasp")
    with pytest.raises(InputError, match="as cif"):
        read_structure(tmp_path / "odd.name", format="cif")


def test_natural_masses() -> None:
    def variance(symbol: str, mass: float) -> float:
        number = Atoms(symbol).numbers[0]
        return float(natural_isotopes(Crystal(np.eye(3), np.zeros((1, 3)), np.array([mass]), (int(number),)))[0])

    for symbol, mass in (("Si", 28.086), ("Se", 78.971), ("Li", 6.94), ("Zn", 65.39), ("C", 12.011), ("Si", 28.0855)):
        assert variance(symbol, mass) > 0
    for symbol, mass in (("Si", 27.977), ("C", 12.0), ("C", 13.003), ("H", 2.014), ("Ge", 71.92), ("Po", 209.0)):
        assert variance(symbol, mass) == 0


def test_atoms_out_of_range_of_each_other() -> None:
    far = ase.build.bulk("Si", "diamond", a=9.0)
    with pytest.warns(AccuracyWarning, match="nothing holds the crystal together"):
        assert not relax(far, _tersoff())[1].converged
    with pytest.raises(InputError, match=r"do not interact: the nearest are 3\.9 Å apart, and \S+ reaches 3"):
        prepare(far, "tersoff-1989", relax=False, fc2_supercell=(2, 2, 2), fc3_supercell=(2, 1, 1))


def _tersoff():
    from wigner_jax.potentials.registry import load_potential

    return load_potential("tersoff-1989")


def test_what_is_no_longer_the_crystal_is_said() -> None:
    near = silicon()
    near.positions[1] = [0.8, 0.8, 0.8]
    with pytest.warns(AccuracyWarning, match=r"Si and Si are 1\.39 Å apart, where covalent bonds have 2\.22"):
        say_unusual(near)
    grown = silicon()
    grown.set_cell(1.2 * grown.cell, scale_atoms=True)
    with pytest.warns(AccuracyWarning, match=r"from 40\.03 to 69\.16 Å³"):
        say_unusual(grown, silicon())
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        say_unusual(silicon(), silicon())
        say_unusual(Atoms("N2", cell=np.eye(3) * 4, positions=[[0, 0, 0], [0, 0, 1.1]], pbc=True))


def test_supercells_without_force_constants_are_refused_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    salt = ase.build.bulk("NaCl", "rocksalt", a=5.64)
    with pytest.raises(InputError, match=r"order 3 in a supercell of 2 atoms: choose a larger fc3_supercell"):
        require_parameters(supercells_from_atoms(salt, (2, 2, 2), ONE))
    require_parameters(supercells_from_atoms(salt, (2, 2, 2), (3, 1, 1)))
    silicon_in_rocksalt = ase.build.bulk("SiSi", "rocksalt", a=5.0)
    monkeypatch.setattr("wigner_jax.pipeline.relax_with", lambda *_: pytest.fail("it was relaxed first"))
    with pytest.raises(InputError, match="symmetry leaves no force constants of order 3"):
        prepare(silicon_in_rocksalt, "tersoff-1989", fc2_supercell=(2, 2, 2), fc3_supercell=ONE)


def test_moments_of_a_structure_are_ignored_with_a_word() -> None:
    atoms = silicon()
    atoms.set_initial_magnetic_moments([1, -1])
    atoms.info["q_mesh"] = "foo"  # ends it there
    with (
        pytest.warns(AccuracyWarning, match="magnetic moments, which no potential here knows"),
        pytest.raises(InputError),
    ):
        prepare(atoms, "tersoff-1989")


def test_crystals_made_by_hand() -> None:
    """spglib ends the process where a number is not finite."""
    good = supercells_from_atoms(silicon(), ONE, ONE).crystal
    bad = {"positions": good.positions * np.nan, "lattice": good.lattice + np.inf, "masses": good.masses * 0}
    for name, value in bad.items():
        with pytest.raises(InputError, match="the crystal has"):
            space_group(dataclasses.replace(good, **{name: value}))
    assert space_group(good).number == 227
    for name in ("positions", "lattice", "masses"):
        words = np.asarray(getattr(good, name)).astype(str)
        with pytest.raises(
            InputError, match=f"the {'cell' if name == 'lattice' else name} of the crystal: .* should be numbers"
        ):
            space_group(dataclasses.replace(good, **{name: words}))


def test_periodic_images_count_as_neighbours() -> None:
    with pytest.raises(InputError, match=r"are 0\.050 Å apart"):
        require_cell(np.diag([0.05, 9, 9]), np.zeros((1, 3)), [14])
    require_cell(np.diag([1.5, 9, 9]), np.zeros((1, 3)), [14])
