"""Units, moments, handedness and layouts of phono3py's yaml files; what of them is a mere structure."""

from __future__ import annotations

import re
from pathlib import Path

import ase.build
import h5py
import numpy as np
import phono3py
import pytest
from phono3py.file_IO import write_fc2_to_hdf5, write_fc3_to_hdf5
from phonopy.physical_units import get_calculator_physical_units
from phonopy.structure.atoms import PhonopyAtoms

from wigner_jax.crystal.symmetry import space_group
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.io.calculator_units import conversion, units_of
from wigner_jax.io.phono3py import read_phono3py
from wigner_jax.io.structures import read_structure
from wigner_jax.io.yaml_cells import has_constants, holds_force_constants
from wigner_jax.pipeline import prepare
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.types import Crystal
from wigner_jax.units import BOHR

NAC = {"born": np.array([np.eye(3), -np.eye(3)]), "dielectric": 10 * np.eye(3)}


def peer_of(calculator: str | None = None, cell: PhonopyAtoms | None = None, **options) -> phono3py.Phono3py:
    """Zincblende SiC in its conventional cell, in the units of a calculator."""
    if cell is None:
        atoms = ase.build.bulk("SiC", "zincblende", a=4.36, cubic=True)
        cell = PhonopyAtoms(symbols=atoms.get_chemical_symbols(), cell=atoms.cell, positions=atoms.positions)
    length = get_calculator_physical_units(calculator).distance_to_A
    cell = cell.copy()
    cell.cell = cell.cell / length
    return phono3py.Phono3py(
        cell, options.pop("matrix", np.eye(3, dtype=int)), primitive_matrix=options.pop("primitive", "F"),
        calculator=calculator, **options,
    )  # fmt: skip


def with_forces(calculator: str | None, path: Path, **options) -> Path:
    """A yaml with made-up forces, in the units of a calculator: the same physical ones for all of them."""
    units = get_calculator_physical_units(calculator)
    peer = peer_of(calculator, **options)
    peer.generate_displacements(distance=0.03 / units.distance_to_A)
    rng = np.random.default_rng(3)
    forces = rng.normal(size=(len(peer.supercells_with_displacements), len(peer.supercell), 3))
    peer.forces = (forces - forces.mean(axis=1, keepdims=True)) / units.force_to_eVperA
    if len(peer.primitive) == 2:
        peer.nac_params = {**NAC, "factor": units.nac_factor}
    peer.save(path)
    return path


def without(path: Path, block: str) -> None:
    """Takes one block out of a yaml, as older versions had none."""
    path.write_text(re.sub(rf"^{block}:\n(  .*\n)*", "", path.read_text(), flags=re.MULTILINE))


@pytest.fixture(scope="module")
def in_eV(tmp_path_factory) -> tuple:
    return read_phono3py(with_forces(None, tmp_path_factory.mktemp("eV") / "phono3py_params.yaml"))


@pytest.mark.parametrize("named", [True, False], ids=["physical_unit", "calculator"])
@pytest.mark.parametrize("calculator", ["qe", "wien2k", "abinit", "elk", "cp2k", "aims"])
def test_units_follow_the_calculator(tmp_path: Path, in_eV: tuple, calculator: str, named: bool) -> None:
    path = with_forces(calculator, tmp_path / "phono3py_params.yaml")
    if not named:
        without(path, "physical_unit")
    cells, fc, born = read_phono3py(path)
    expected, constants, charges = in_eV
    np.testing.assert_allclose(cells.crystal.lattice, expected.crystal.lattice, rtol=1e-9)
    np.testing.assert_allclose(fc.fc2, constants.fc2, rtol=1e-7, atol=1e-7 * np.abs(constants.fc2).max())
    np.testing.assert_allclose(fc.fc3, constants.fc3, rtol=1e-7, atol=1e-7 * np.abs(constants.fc3).max())
    assert float(born.factor) == pytest.approx(float(charges.factor), rel=1e-5)
    assert float(born.factor) == pytest.approx(14.39965, rel=1e-5)


def test_units_named_without_a_calculator(tmp_path: Path, in_eV: tuple) -> None:
    path = with_forces("qe", tmp_path / "phono3py_params.yaml")
    path.write_text(path.read_text().replace("  calculator: qe\n", ""))
    np.testing.assert_allclose(read_phono3py(path).force_constants.fc3, in_eV[1].fc3, rtol=1e-7, atol=1e-4)
    path.write_text(path.read_text().replace('"Ry/au"', '"calories"'))
    with pytest.raises(InputError, match=r"has the unit 'calories', which is not known"):
        read_phono3py(path)


def test_unit_words() -> None:
    assert conversion("eV/angstrom^2", 2, "x") == 1
    assert conversion("mRy/au^2", 2, "x") == pytest.approx(13.605699e-3 / 0.5291772**2, rel=1e-6)
    assert conversion("hartree/angstrom.au", 2, "x") == pytest.approx(27.211398 / 0.5291772, rel=1e-6)
    for unit, power in (("eV/angstrom", 2), ("eV", 1), ("eV/parsec", 1), ("J/angstrom", 1)):
        with pytest.raises(InputError, match="not known"):
            conversion(unit, power, "x")
    here = Path("phono3py.yaml")
    assert units_of({}, here) == units_of({"phono3py": {"calculator": "vasp"}}, here) == (1, 1)
    assert units_of({"physical_unit": {"length": "bohr", "force": "eV/bohr"}}, here).length == BOHR
    for data, says in (
        ({"physical_unit": {"length": "cubit"}}, "length unit 'cubit'"),
        ({"physical_unit": {"length": "au"}}, "names no unit of force"),
        ({"physical_unit": {"atomic_mass": "me"}}, "masses in 'me'"),
        ({"phono3py": {"calculator": "abacist"}}, "calculator 'abacist', whose units phonopy does not know"),
    ):
        with pytest.raises(InputError, match=says):
            units_of(data, here)


def written(folder: Path, peer: phono3py.Phono3py, unit: tuple[float, float] = (1, 1), full: bool = False) -> Path:
    """yaml, fc2.hdf5 and fc3.hdf5 without p2s_map, of pair springs between all atoms: exact sum rules and symmetry."""
    second, third = springs(peer.supercell.positions * peer_length(peer), peer.supercell.cell * peer_length(peer))
    rows = slice(None) if full else peer.primitive.p2s_map
    write_fc2_to_hdf5(second[rows] / unit[0], filename=folder / "fc2.hdf5")
    write_fc3_to_hdf5(third[rows] / unit[1], filename=folder / "fc3.hdf5")
    peer.save(folder / "phono3py.yaml")
    return folder / "phono3py.yaml"


def peer_length(peer: phono3py.Phono3py) -> float:
    return get_calculator_physical_units(peer.calculator).distance_to_A


def springs(positions: np.ndarray, lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    N = len(positions)
    second, third = np.zeros((N, N, 3, 3)), np.zeros((N, N, N, 3, 3, 3))
    images = np.array(list(np.ndindex(3, 3, 3))) - 1
    for i in range(N):
        for j in range(i):
            vectors = positions[j] - positions[i] + images @ lattice
            for v in vectors[np.linalg.norm(vectors, axis=1) < 3.2]:
                K, G = 3 * np.outer(v, v) / (v @ v), -9 * np.einsum("a,b,c->abc", v, v, v) / (v @ v) ** 1.5
                for x in (i, j):
                    for y in (i, j):
                        second[x, y] += K if x == y else -K
                        for z in (i, j):
                            third[x, y, z] += (-1) ** ((x == i) + (y == i) + (z == i) + 1) * G
    return second, third


def test_hdf5_in_other_units_and_layouts(tmp_path: Path) -> None:
    (tmp_path / "eV").mkdir()
    (tmp_path / "qe").mkdir()
    expected = read_phono3py(written(tmp_path / "eV", peer_of()))
    peer = peer_of("qe")
    ry = get_calculator_physical_units("qe").energy_to_eV
    path = written(tmp_path / "qe", peer, (ry / BOHR**2, ry / BOHR**3), full=True)
    found = read_phono3py(path)
    np.testing.assert_allclose(found.force_constants.fc2, expected.force_constants.fc2, atol=1e-9)
    np.testing.assert_allclose(found.force_constants.fc3, expected.force_constants.fc3, atol=1e-9)
    with h5py.File(tmp_path / "qe" / "fc2.hdf5", "a") as file:  # a file's own unit wins
        file["force_constants"][...] *= ry / BOHR**2
        file["physical_unit"] = np.array([b"eV/angstrom^2"])
    np.testing.assert_allclose(read_phono3py(path).force_constants.fc2, expected.force_constants.fc2, atol=1e-9)


def test_moments_lower_the_symmetry(tmp_path: Path) -> None:
    atoms = ase.build.bulk("Si", "diamond", a=5.43)
    for moments, count in (([1.0, 1.0], 48), ([1.0, -1.0], 48), ([1.0, 0.0], 24), ([[0, 0, 1.0], [0, 0, 1.0]], 16)):
        crystal = Crystal(
            atoms.cell.array, atoms.get_scaled_positions(), np.full(2, 28.0855), (14, 14), np.array(moments, float)
        )
        assert len(space_group(crystal).rotations) == count
    cell = PhonopyAtoms(
        symbols=["Mn"] * 4, cell=3.9 * np.eye(3), magnetic_moments=[0.0, 3.0, -3.0, 0.0],
        scaled_positions=[[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    )  # fmt: skip
    path = written(tmp_path, peer_of(cell=cell, primitive="P", matrix=2 * np.eye(3, dtype=int)))
    magnetic = read_phono3py(path).supercells.crystal
    path.write_text(re.sub(r" *magnetic_moment: .*\n", "", path.read_text()))
    plain = read_phono3py(path).supercells.crystal
    assert plain.moments is None
    assert (space_group(plain).number, len(space_group(plain).point_group())) == (225, 48)
    assert (space_group(magnetic).number, len(space_group(magnetic).point_group())) == (123, 16)
    assert len(make_mesh(magnetic, (4, 4, 4)).irreducible) > len(make_mesh(plain, (4, 4, 4)).irreducible)
    zero = Crystal(plain.lattice, plain.positions, plain.masses, plain.numbers, np.zeros(4))
    assert len(space_group(zero).rotations) == len(space_group(plain).rotations)


def test_left_handed_yaml_gives_the_same_crystal(tmp_path: Path) -> None:
    (tmp_path / "right").mkdir()
    (tmp_path / "left").mkdir()
    atoms = ase.build.bulk("SiC", "wurtzite", a=3.08, c=5.05)
    cells = []
    for folder, lattice in (("right", atoms.cell.array), ("left", atoms.cell.array[[1, 0, 2]])):
        cell = PhonopyAtoms(symbols=atoms.get_chemical_symbols(), cell=lattice, positions=atoms.positions)
        peer = peer_of(cell=cell, primitive="P", matrix=np.diag([2, 2, 1]))
        cells.append(read_phono3py(written(tmp_path / folder, peer)))
    right, left = cells
    assert np.linalg.det(left.supercells.crystal.lattice) > 0
    assert np.linalg.det(left.supercells.fc3_supercell.matrix) > 0
    for a, b in zip(right.force_constants.__dict__.values(), left.force_constants.__dict__.values(), strict=True):
        # rows of equal primitive atoms hold the same tensors, in another order of columns
        np.testing.assert_allclose(np.sort(np.abs(a).ravel()), np.sort(np.abs(b).ravel()), atol=1e-9)
    crystal = left.supercells.crystal
    place = left.supercells.fc3_supercell.positions_in(crystal)[left.supercells.fc3_supercell.p2s_map]
    apart = (place - right.supercells.crystal.positions @ right.supercells.crystal.lattice) @ np.linalg.inv(
        crystal.lattice
    )
    np.testing.assert_allclose(apart, np.rint(apart), atol=1e-9)


@pytest.mark.parametrize("name", ["SiC", "doubled"])
def test_forces_of_a_cell_that_is_not_primitive(tmp_path: Path, name: str) -> None:
    """phono3py's projection of compact force constants fails where the primitive cell holds smaller ones."""
    path = with_forces(None, tmp_path / "phono3py_params.yaml", primitive="F" if name == "SiC" else "P")
    cells, fc, _ = read_phono3py(path)
    n = 2 if name == "SiC" else 8
    assert fc.fc2.shape == (n, 8, 3, 3)
    assert fc.fc3.shape == (n, 8, 8, 3, 3, 3)
    np.testing.assert_array_equal(cells.fc3_supercell.primitive_index[cells.fc3_supercell.p2s_map], np.arange(n))


def test_a_position_that_is_not_finite(tmp_path: Path) -> None:
    path = written(tmp_path, peer_of())
    text = path.read_text()
    path.write_text(text.replace("coordinates: [  0.000000000000000", "coordinates: [  .nan", 1))
    with pytest.raises(InputError, match=r"atom 1 of the \w+ of .*phono3py\.yaml has the position nan 0 0"):
        read_phono3py(path)
    path.write_text(text.replace("mass: 28.085500", "mass: -28.0", 1))
    with pytest.raises(InputError, match="has the mass -28"):
        read_phono3py(path)
    path.write_text(text)
    read_phono3py(path)


def test_a_yaml_without_forces_is_a_structure(tmp_path: Path) -> None:
    path = tmp_path / "phono3py_disp.yaml"
    peer = peer_of("qe", matrix=2 * np.eye(3, dtype=int))
    peer.generate_displacements()
    peer.save(path)
    assert not holds_force_constants(path)
    assert not has_constants(path, "tersoff-1989")
    assert has_constants(path)
    atoms = read_structure(path)
    assert atoms.get_chemical_formula() == "C4Si4"
    assert atoms.cell.lengths() == pytest.approx([4.36] * 3)
    assert np.array_equal(atoms.info["fc3_supercell"], 2 * np.eye(3))
    bare = tmp_path / "cell.yaml"
    bare.write_text(
        "lattice:\n- [0, 2.7, 2.7]\n- [2.7, 0, 2.7]\n- [2.7, 2.7, 0]\npoints:\n- symbol: Si\n  coordinates: [0, 0, 0]\n"
    )
    assert read_structure(bare).get_chemical_formula() == "Si"
    (tmp_path / "with").mkdir()
    forces = with_forces(None, tmp_path / "with" / "phono3py_params.yaml")
    with pytest.raises(InputError, match="has force constants"):
        prepare(forces, "tersoff-1989")
    path = tmp_path / "with" / "phono3py_disp.yaml"
    peer.save(path)
    (tmp_path / "with" / "FORCES_FC3").touch()
    assert has_constants(path, "tersoff-1989")


def test_unit_factor_of_charges_is_said(tmp_path: Path) -> None:
    path = with_forces(None, tmp_path / "phono3py_params.yaml")
    path.write_text(re.sub(r"unit_conversion_factor: .*", "unit_conversion_factor: 2.0", path.read_text()))
    with pytest.warns(AccuracyWarning, match=r"unit factor of 2 eV Å .* 0\.139 times"):
        read_phono3py(path)


@pytest.mark.parametrize(("primitive", "copies"), [(np.eye(3), 4), ("F", 1)])
def test_a_cell_of_several_primitive_ones_is_named(tmp_path, primitive, copies, recwarn):
    path = with_forces(None, tmp_path / "phono3py.yaml", primitive=primitive)
    assert read_phono3py(path).supercells.crystal.n_atoms == 2 * copies
    notes = [str(w.message) for w in recwarn if "smaller ones" in str(w.message)]
    assert len(notes) == (copies > 1)
    assert all(f"holds {copies} smaller ones" in note for note in notes)


# --- masses -------------------------------------------------------------------------------------------------------------


MASSES = """\
{name}:
  lattice: [[2.715, 2.715, 0], [2.715, 0, 2.715], [0, 2.715, 2.715]]
  points:
  - {{symbol: Si, coordinates: [0, 0, 0]{first}}}
  - {{symbol: Si, coordinates: [0.25, 0.25, 0.25]{second}}}
"""


def cell(name: str, first: object = 28.0855, second: object = 28.0855) -> str:
    return MASSES.format(
        name=name, **{k: f", mass: {v}" if v is not None else "" for k, v in (("first", first), ("second", second))}
    )


@pytest.mark.parametrize("bad", ["[1, 2]", "true", '""', "many", "null", "{a: 1}"])
@pytest.mark.parametrize("reader", [read_structure, read_phono3py])
def test_masses_that_are_no_numbers(tmp_path: Path, bad: str, reader) -> None:
    (path := tmp_path / "si.yaml").write_text(cell("unit_cell", second=bad))
    with pytest.raises(
        InputError, match=r"atom 2 of the unit_cell of .*si.yaml has the mass .*: a mass is one number in amu"
    ):
        reader(path)


@pytest.mark.parametrize(
    ("unit", "primitive"),
    [((28.0855, 28.0855), (30.0, 30.0)), ((28.0855, 30.0), (28.0855, 28.0855)), ((30.0, 30.0), (None, None))],
    ids=["other", "one site", "unnamed"],
)
def test_cells_whose_masses_contradict_each_other(tmp_path: Path, unit: tuple, primitive: tuple) -> None:
    (path := tmp_path / "si.yaml").write_text(cell("unit_cell", *unit) + cell("primitive_cell", *primitive))
    for reader in (read_structure, read_phono3py):
        with pytest.raises(
            InputError, match=r"si.yaml contradicts itself: Si has the mass .* in its unit_cell and .* primitive_cell"
        ):
            reader(path)


@pytest.mark.parametrize(
    "text",
    [
        cell("unit_cell", 30.0, 28.0855),
        cell("primitive_cell", 30.0, 28.0855),
        cell("unit_cell", 28.0855, 30.0) + cell("primitive_cell", 30.0, 28.0855),
        cell("unit_cell", 28.0855, 28.0855) + cell("primitive_cell", 28.087, 28.0855),
        cell("unit_cell", 28.085, 28.085) + cell("primitive_cell", None, None),
        cell("unit_cell", '"28.0855"'),
    ],
    ids=["unit cell", "primitive cell", "order", "rounding", "unnamed", "text"],
)
def test_masses_that_agree(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "si.yaml").write_text(text)
    assert read_structure(path).get_masses()[1] > 28
