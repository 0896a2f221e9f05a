"""Reading phono3py's files, BORN files and structures; writing and reading the kappa file."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ase.build
import numpy as np
import phono3py
import pytest
import reference_materials as reference
from phono3py.file_IO import write_fc2_to_hdf5, write_fc3_to_hdf5
from phonopy.file_IO import parse_BORN
from phonopy.structure.atoms import PhonopyAtoms

from wigner_jax.errors import InputError
from wigner_jax.io.born import read_born
from wigner_jax.io.kappa_hdf5 import (
    bz_grid_index,
    default_filename,
    kappa_datasets,
    read_kappa_hdf5,
    write_datasets,
    write_kappa_hdf5,
)
from wigner_jax.io.phono3py import read_phono3py
from wigner_jax.io.structures import read_structure
from wigner_jax.physics.bands import Bands
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian
from wigner_jax.physics.conductivity import conductivity
from wigner_jax.plan.band_path import high_symmetry_path
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.solution import Solution
from wigner_jax.types import Linewidths, Phonons, Plan, Scattering

NON_DIAGONAL = [[-1, 1, 1], [1, -1, 1], [1, 1, -1]]


def full_from_compact(compact: np.ndarray, cell) -> np.ndarray:
    """(n, N, ...) → (N, N, ...): row J is the row of its home atom, columns shifted by J's lattice vector."""
    order = compact.ndim // 2
    inverse = np.linalg.inv(cell.matrix)
    key = {}
    for K in range(cell.n_atoms):
        key[(cell.primitive_index[K], *np.round(np.mod(np.round(cell.lattice_vector[K] @ inverse, 6), 1), 4) % 1)] = K
    rows = []
    for J in range(cell.n_atoms):
        i = cell.primitive_index[J]
        back = cell.lattice_vector - cell.lattice_vector[J] + cell.lattice_vector[cell.p2s_map[i]]
        shifted = [
            key[(cell.primitive_index[K], *np.round(np.mod(np.round(back[K] @ inverse, 6), 1), 4) % 1)]
            for K in range(cell.n_atoms)
        ]
        row = compact[i]
        for axis in range(order - 1):
            row = np.take(row, shifted, axis=axis)
        rows.append(row)
    return np.array(rows)


@pytest.fixture(scope="module", params=[(np.eye(3), None), (NON_DIAGONAL, None), (NON_DIAGONAL, 2 * np.eye(3))])
def written(request, tmp_path_factory) -> tuple[Path, Path, object]:
    """Folders of one made-up calculation, compact and full, written by phono3py; and the peer object."""
    matrix, fc2_matrix = request.param
    silicon = ase.build.bulk("Si", cubic=True)
    cell = PhonopyAtoms(
        symbols=silicon.get_chemical_symbols(), cell=silicon.cell, scaled_positions=silicon.get_scaled_positions()
    )
    peer = phono3py.Phono3py(cell, matrix, primitive_matrix="F", phonon_supercell_matrix=fc2_matrix)
    rng = np.random.default_rng(7)
    N2, N3 = len(peer.phonon_supercell), len(peer.supercell)
    second, third = rng.normal(size=(2, N2, 3, 3)), rng.normal(size=(2, N3, N3, 3, 3, 3))
    second -= second.mean(axis=1, keepdims=True)
    third -= third.mean(axis=2, keepdims=True)
    compact, full = tmp_path_factory.mktemp("compact"), tmp_path_factory.mktemp("full")
    for folder in (compact, full):
        peer.save(folder / "phono3py.yaml")
    write_fc2_to_hdf5(second, filename=compact / "fc2.hdf5", p2s_map=peer.phonon_primitive.p2s_map)
    write_fc3_to_hdf5(third, filename=compact / "fc3.hdf5", p2s_map=peer.primitive.p2s_map)
    maps = [
        reference.supercell_of(p, s)
        for p, s in ((peer.phonon_primitive, peer.phonon_supercell), (peer.primitive, peer.supercell))
    ]
    write_fc2_to_hdf5(full_from_compact(second, maps[0]), filename=full / "fc2.hdf5")
    write_fc3_to_hdf5(full_from_compact(third, maps[1]), filename=full / "fc3.hdf5")
    peer.fc2, peer.fc3 = second, third
    return compact, full, peer


@pytest.mark.parametrize("layout", [0, 1], ids=["compact", "full"])
def test_hdf5_of_any_supercell(written, layout: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that tell every place from every other, so no crystal's: the check of symmetry stands aside."""
    monkeypatch.setattr("wigner_jax.io.phono3py.check_force_constants", lambda *_: None)
    peer = written[2]
    cells, fc, born = read_phono3py(written[layout] / "phono3py.yaml")
    assert born is None
    np.testing.assert_array_equal(fc.fc2, peer.fc2)
    np.testing.assert_array_equal(fc.fc3, peer.fc3)
    np.testing.assert_allclose(cells.crystal.lattice, peer.primitive.cell, atol=1e-12)
    for ours, p, s in (
        (cells.fc2_supercell, peer.phonon_primitive, peer.phonon_supercell),
        (cells.fc3_supercell, peer.primitive, peer.supercell),
    ):
        np.testing.assert_array_equal(ours.p2s_map, p.p2s_map)
        sites = np.asarray(cells.crystal.positions)[ours.primitive_index] + ours.lattice_vector
        np.testing.assert_allclose(sites @ cells.crystal.lattice, s.positions, atol=1e-10)


@pytest.mark.parametrize("name", ["Si", "NaCl", "ZnTe"])
def test_reference_files(shared: Path, name: str) -> None:
    expected = reference.load(name)
    cells, fc, born = read_phono3py(shared / "data/reference" / reference.YAML[name] / "phono3py.yaml")
    np.testing.assert_array_equal(fc.fc2, expected.constants.fc2)
    np.testing.assert_array_equal(fc.fc3, expected.constants.fc3)
    for field in ("matrix", "primitive_index", "lattice_vector", "p2s_map"):
        np.testing.assert_array_equal(getattr(cells.fc3_supercell, field), getattr(expected.cells.fc3_supercell, field))
    np.testing.assert_allclose(cells.crystal.masses, expected.cells.crystal.masses, rtol=1e-12)
    assert cells.crystal.numbers == expected.cells.crystal.numbers
    if name == "ZnTe":
        assert born is not None
        np.testing.assert_allclose(born.charges, expected.born.charges, atol=1e-12)
        np.testing.assert_allclose(born.dielectric, expected.born.dielectric, atol=1e-12)
        assert float(born.factor) == pytest.approx(14.399652)


def test_forces_become_the_peers_force_constants(shared: Path) -> None:
    path = shared / "data/phono3py/phono3py_params_NaCl222.yaml.xz"
    cells, fc, born = read_phono3py(path)
    peer = phono3py.load(path, log_level=0)
    np.testing.assert_array_equal(cells.fc3_supercell.p2s_map, peer.primitive.p2s_map)
    np.testing.assert_allclose(fc.fc2, peer.fc2, atol=1e-12)
    np.testing.assert_allclose(fc.fc3, peer.fc3, atol=1e-12)
    assert born is not None
    np.testing.assert_allclose(born.charges, peer.nac_params["born"], atol=1e-12)


def test_forces_fc3_beside_the_yaml(shared: Path, tmp_path: Path) -> None:
    source = shared / "data/phono3py"
    shutil.copy(source / "phono3py_si_pbesol.yaml", tmp_path / "phono3py_disp.yaml")
    with pytest.raises(InputError, match=r"FORCES_FC3 are not beside it"):
        read_phono3py(tmp_path / "phono3py_disp.yaml")
    shutil.copy(source / "FORCES_FC3_si_pbesol", tmp_path / "FORCES_FC3")
    fc = read_phono3py(tmp_path / "phono3py_disp.yaml").force_constants
    peer = phono3py.load(tmp_path / "phono3py_disp.yaml", forces_fc3_filename=tmp_path / "FORCES_FC3", log_level=0)
    np.testing.assert_allclose(fc.fc2, peer.fc2, atol=1e-12)
    np.testing.assert_allclose(fc.fc3, peer.fc3, atol=1e-12)


def test_born_file_is_expanded_by_symmetry(shared: Path, tmp_path: Path) -> None:
    material = reference.load("La2Zr2O7")
    crystal = material.cells.crystal
    path = shared / "data/reference/La2Zr2O7/BORN"
    born = read_born(path, crystal)
    peer = parse_BORN(material.peer.primitive, filename=path)
    np.testing.assert_allclose(born.charges, peer["born"], atol=1e-10)
    np.testing.assert_allclose(born.dielectric, peer["dielectric"])
    assert float(born.factor) == 14.4
    (tmp_path / "BORN").write_text("\n".join(path.read_text().splitlines()[:-1]))
    with pytest.raises(InputError, match="has Born charges of 3 atoms where the primitive cell has 4"):
        read_born(tmp_path / "BORN", crystal)
    (tmp_path / "BORN").write_text("14.4\n1 2 3\n")
    with pytest.raises(InputError, match="not a BORN file"):
        read_born(tmp_path / "BORN", crystal)


def test_structures(tmp_path: Path) -> None:
    ase.build.bulk("NaCl", "rocksalt", a=5.64).write(tmp_path / "POSCAR", format="vasp")
    assert read_structure(tmp_path / "POSCAR").get_chemical_symbols() == ["Na", "Cl"]
    molecule = ase.build.molecule("H2O")
    molecule.write(tmp_path / "water.xyz")
    with pytest.raises(InputError, match="not periodic"):
        read_structure(tmp_path / "water.xyz")
    double = ase.Atoms("Si2", scaled_positions=[[0, 0, 0], [0.001, 0, 0]], cell=[4, 4, 4], pbc=True)
    double.write(tmp_path / "double.extxyz")
    with pytest.raises(InputError, match="atoms 1 and 2"):
        read_structure(tmp_path / "double.extxyz")
    (tmp_path / "broken.cif").write_text("not a cif")
    with pytest.raises(InputError, match="ASE cannot read"):
        read_structure(tmp_path / "broken.cif")


# --- the kappa file ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made_up():
    """A crystal, a mesh and a solution of the right shapes and symmetry of nothing in particular."""
    from wigner_jax.crystal.from_ase import supercells_from_atoms

    crystal = supercells_from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64), (1, 1, 1), (1, 1, 1)).crystal
    mesh = make_mesh(crystal, (4, 4, 4))
    Q, P, m, T = 64, len(mesh.irreducible), 6, 2
    rng = np.random.default_rng(3)
    frequencies = np.sort(rng.uniform(1, 8, (Q, m)), axis=1)
    frequencies[0, :3] = 0  # the rigid shifts at Γ
    V = rng.normal(size=(P, m, m, 3)) + 1j * rng.normal(size=(P, m, m, 3))
    V = V + V.conj().swapaxes(1, 2)
    phonons = Phonons(frequencies, np.zeros((Q, m, m), complex), V)
    widths = Linewidths(
        rng.uniform(0.01, 0.1, (T, P, m)), rng.uniform(0, 0.01, (P, m)), np.zeros((P, m)), np.array(False)
    )
    result = conductivity(phonons, widths.total, mesh, crystal, np.array([300.0, 600.0]))
    plan = Plan(crystal, np.zeros(crystal.n_atoms), mesh, None, None, ())
    return Solution(phonons, widths, result, plan, None, Scattering(None), AdaptiveGaussian())


def test_kappa_file_round_trip(made_up, tmp_path: Path) -> None:
    solution = dataclasses.replace(made_up, scattering=Scattering(None, 10.0))
    path = tmp_path / default_filename(solution.mesh.dims)
    assert path.name == "kappa-m444.hdf5"
    write_kappa_hdf5(path, solution)
    data = read_kappa_hdf5(path)
    assert data["boundary_mfp"] == 10.0
    for name, value in kappa_datasets(solution).items():
        if name == "attributes":
            assert data[name].keys() == value.keys()
            for key, expected in value.items():
                np.testing.assert_array_equal(data[name][key], expected)
        elif "/" not in name:
            np.testing.assert_array_equal(data[name], value)
    np.testing.assert_allclose(data["mode_kappa_TOT"].sum((1, 2)) / 64, data["kappa_TOT_RTA"], rtol=1e-10)
    np.testing.assert_allclose(data["kappa_P_RTA"] + data["kappa_C"], data["kappa_TOT_RTA"], rtol=1e-12)
    assert list(tmp_path.iterdir()) == [path]


def test_gv_by_gv_gives_mode_kappa_of_populations(made_up) -> None:
    """phono3py's own formula from the datasets of the file: κ_s = C_s (v ⊗ v)_s / (2 γ_s) × kappa_unit_conversion."""
    solution = made_up
    data = kappa_datasets(solution)
    gamma = data["gamma"] + data["gamma_isotope"] + data["gamma_boundary"]
    expected = (data["heat_capacity"] / (2 * gamma))[..., None] * data["gv_by_gv"] * data["kappa_unit_conversion"]
    acoustic = (slice(None), 0, slice(0, 3))  # at Γ they carry nothing
    expected[acoustic] = 0
    np.testing.assert_allclose(data["mode_kappa_P_RTA"], expected, rtol=1e-10, atol=1e-12)


def test_a_failed_write_leaves_the_old_file(made_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    solution = made_up
    path = tmp_path / "kappa.hdf5"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="No space left"):
        write_kappa_hdf5(path, solution)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


LATTICES = {
    "fcc": [[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]],
    "bcc": [[-2, 2, 2.5], [2, -2, 2.5], [2, 2, -2.5]],
    "hexagonal": [[3, 0, 0], [-1.5, 1.5 * 3**0.5, 0], [0, 0, 5.0]],
    "rhombohedral": [[2, 0, 1], [-1, 3**0.5, 1], [-1, -(3**0.5), 1]],
    "triclinic": [[3, 0.1, 0.2], [0.4, 3.5, 0.6], [-1.0, 0.4, 5]],
}


@pytest.mark.parametrize("lattice", LATTICES.values(), ids=LATTICES.keys())
@pytest.mark.parametrize("dims", [(5, 5, 5), (4, 4, 4), (6, 4, 5)])
def test_grid_points_are_the_peers(lattice, dims) -> None:
    from phonopy.phonon.grid import BZGrid

    lattice = np.array(lattice, float)
    peer = BZGrid(dims, lattice=lattice, store_dense_gp_map=True)
    np.testing.assert_array_equal(bz_grid_index(lattice, dims), peer.gp_map[:-1])


@pytest.mark.slow
def test_phono3py_kdeplot_reads_the_file(made_up, tmp_path: Path) -> None:
    """Its density of lifetimes against frequency."""
    write_datasets(tmp_path / "kappa-m444.hdf5", kappa_datasets(made_up, None))
    program = "import matplotlib; matplotlib.use('agg'); from phono3py.cui.kdeplot_script import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", program, "--temperature", "300", "--nbins", "20", "-o", "lifetime.png", "kappa-m444.hdf5"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "lifetime.png").stat().st_size > 1000


@pytest.mark.parametrize("flag", [[], ["--mfp"], ["--gv"], ["--tau"], ["--cv"]], ids=lambda f: " ".join(f) or "kappa")
def test_phono3py_kaccum_reads_the_file(made_up, tmp_path: Path, flag: list[str]) -> None:
    solution = made_up
    crystal = solution.crystal
    bands = Bands(high_symmetry_path(crystal), np.zeros((240, 6)))
    write_datasets(tmp_path / "kappa-m444.hdf5", kappa_datasets(solution, bands))
    cell = PhonopyAtoms(
        numbers=crystal.numbers, cell=crystal.lattice, scaled_positions=crystal.positions, masses=crystal.masses
    )
    phono3py.Phono3py(cell, np.eye(3), primitive_matrix="P").save(tmp_path / "phono3py.yaml")
    program = "from phono3py.cui.kaccum_script import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", program, *flag, "--average", "kappa-m444.hdf5"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    rows = [line.split() for line in run.stdout.splitlines() if line and not line.startswith("#")]
    assert len(rows) >= 100
    if not flag:  # the last cumulative value of the second temperature is its κ, of populations as phono3py's own
        kappa = np.asarray(solution.conductivity.kappa_P)[1, :3].mean()
        assert float(rows[-1][1]) == pytest.approx(kappa, rel=1e-3)


def test_the_peer_reads_our_gamma(made_up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from phono3py.file_IO import read_gamma_from_hdf5

    solution = made_up
    monkeypatch.chdir(tmp_path)
    write_kappa_hdf5("kappa-m444.hdf5", solution)
    data, _ = read_gamma_from_hdf5((4, 4, 4))
    assert data is not None
    np.testing.assert_array_equal(data["gamma"], solution.linewidths.three_phonon)
    np.testing.assert_array_equal(data["gamma_isotope"], solution.linewidths.isotope)


@pytest.fixture(scope="module")
def peer_file(tmp_path_factory) -> Path:
    """A kappa file of phono3py: NaCl 5³ with isotope scattering."""
    peer = reference.load("nacl-mace").peer
    peer.mesh_numbers, peer.sigmas = [5, 5, 5], None
    peer.init_phph_interaction()
    target = tmp_path_factory.mktemp("peer")
    here = Path.cwd()
    os.chdir(target)
    try:
        peer.run_thermal_conductivity(temperatures=[300, 500], is_isotope=True, boundary_mfp=1e6, write_kappa=True)
    finally:
        os.chdir(here)
    return target / "kappa-m555.hdf5"


def test_schema_is_the_peers(made_up, peer_file: Path) -> None:
    """Every dataset that phono3py writes is there, with the same number of axes and the same kind of number."""
    solution = dataclasses.replace(made_up, scattering=Scattering(None, 1e6))
    ours = kappa_datasets(solution)
    theirs = read_kappa_hdf5(peer_file)
    assert set(theirs) - set(ours) == set()
    for name, value in theirs.items():
        assert np.ndim(ours[name]) == np.ndim(value), name
        assert np.asarray(ours[name]).dtype.kind == np.asarray(value).dtype.kind, name


def test_mesh_datasets_are_the_peers(peer_file: Path) -> None:
    theirs = read_kappa_hdf5(peer_file)
    cells = reference.load("nacl-mace").cells
    mesh = make_mesh(cells.crystal, (5, 5, 5))
    np.testing.assert_array_equal(mesh.weights, theirs["weight"])
    np.testing.assert_array_equal(
        bz_grid_index(np.asarray(cells.crystal.lattice), mesh.dims)[mesh.irreducible], theirs["grid_point"]
    )
    difference = np.asarray(mesh.qpoints)[mesh.irreducible] - theirs["qpoint"]
    np.testing.assert_allclose(difference, np.rint(difference), atol=1e-12)
