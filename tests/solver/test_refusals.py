"""Inputs that once gave a number or a wrong word: each kind, and the near miss that is accepted."""

from __future__ import annotations

import dataclasses
import warnings

import ase.build
import jax
import numpy as np
import pytest
from ase.build import bulk

import wigner_jax as wj
from wigner_jax._core.as_numbers import as_numbers
from wigner_jax.cli.app import main
from wigner_jax.crystal.supercells import make_supercell
from wigner_jax.crystal.validity import require_structure
from wigner_jax.errors import AccuracyWarning, InputError


@pytest.fixture(scope="module")
def problem():
    cells = wj.default_supercells(wj.prototype("SiC"), (1, 1, 1), (1, 1, 1))
    fc, _ = wj.force_constants(cells, wj.load_potential("tersoff-1989"))
    return wj.make_plan(cells, (3, 3, 3)), fc


def test_where_no_mode_takes_part_kappa_is_nan(problem):
    """Every mode imaginary, or without frequency: 0 W/(m K) would look like a result."""
    plan, fc = problem
    broadening = wj.AdaptiveGaussian()

    def kappa(fc2):
        return wj.kappa(plan, dataclasses.replace(fc, fc2=fc2), (300.0,), broadening=broadening).kappa_TOT

    assert np.isfinite(kappa(fc.fc2)).all()
    for constants in (-fc.fc2, fc.fc2 * 1e-30):
        assert np.isnan(kappa(constants)).all()
        assert np.isnan(jax.jit(kappa)(constants)).all()


@pytest.mark.parametrize("bad", [-1.0, 0.0, float("nan"), float("inf"), None])
@pytest.mark.parametrize("name", ["scale", "floor"])
def test_numbers_of_the_adaptive_gaussian(problem, name, bad):
    plan, fc = problem
    for call in (wj.kappa, wj.solve):
        with pytest.raises(InputError, match=f"{name} of the broadening is"):
            call(plan, fc, (300.0,), broadening=wj.AdaptiveGaussian(**{name: bad}))


def test_a_dielectric_tensor_that_breaks_the_symmetry_is_said(problem):
    cells = wj.default_supercells(wj.prototype("SiC"), (1, 1, 1), (1, 1, 1))
    charges = np.stack([np.eye(3) * 2.7, np.eye(3) * -2.7])
    for middle, said in ((9.5, True), (6.55, False)):
        born = wj.BornCharges(charges, np.diag([6.5, middle, 6.5]), np.array(14.399652))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wj.make_nac(cells, born)
        words = [str(w.message) for w in caught if w.category is AccuracyWarning]
        assert any("dielectric tensor breaks the symmetry" in w for w in words) == said


def test_truth_values_are_no_numbers():
    for value in (True, [True, False, True], np.array([True])):
        with pytest.raises(ValueError, match="truth values"):
            as_numbers(value)
    assert as_numbers([1, 2, 3]).tolist() == [1, 2, 3]


def test_positions_far_from_the_cell():
    atoms = bulk("Si", a=5.43)
    atoms.positions[1] += 1000 * atoms.cell[0]  # a lattice vector: the same crystal
    require_structure(atoms)
    atoms.positions[1, 0] = 1e300
    with pytest.raises(InputError, match="no atom is so many cells away"):
        require_structure(atoms)


def test_what_the_command_line_says(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phono3py_unitcell.yaml").write_text(
        "unit_cell:\n  lattice: [[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]\n  points:\n"
        "  - {symbol: Si, coordinates: [0, 0, 0]}\n  - {symbol: Si, coordinates: [0.25, 0.25, 0.25]}\n"
    )
    (tmp_path / "si-fc.hdf5").write_bytes(b"\x89HDF broken")
    frame = '2\nLattice="0 2.7 2.7 2.7 0 2.7 2.7 2.7 0" Properties=species:S:1:pos:R:3:{}:R:1 pbc="T T T"\n'
    for name in ("mass", "masses"):
        (tmp_path / f"{name}.extxyz").write_text(frame.format(name) + "Si 0 0 0 30\nSi 1.35 1.35 1.35 30\n")
    for command, message in (
        (
            ["kappa", "phono3py_unitcell.yaml", "--no-relax"],
            "has no force constants, nor are there any beside it: name a --potential",
        ),
        (["kappa", "--fc", "si-fc.hdf5"], "si-fc.hdf5: not a file of force constants"),
        (["kappa", "mass.extxyz", "--potential", "tersoff-1989", "--dry-run"], "has a column mass"),
        (["plot", "."], "gives the figure no name: name it with -o"),
        (["plot", "/"], "gives the figure no name: name it with -o"),
    ):
        assert main(command) == 2
        assert message in capsys.readouterr().err
    assert main(["kappa", "masses.extxyz", "--potential", "tersoff-1989", "--dry-run"]) == 0


CELL = """unit_cell:
  lattice: [[0, 2.7, 2.7], [2.7, 0, 2.7], [2.7, 2.7, 0]]
  points:
  - {symbol: Si, coordinates: [0, 0, 0]}
  - {symbol: Si, coordinates: [0.25, 0.25, 0.25]}
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("symbol: Si", "symbol: Xx", "has an atom 'Xx', which is no element"),
        ("symbol: Si", "magnetic_moment: up, symbol: Si", "magnetic moments that are not one finite number, or three"),
        ("symbol: Si", "magnetic_moment: [0, 1], symbol: Si", "magnetic moments"),
        ("symbol: Si", "magnetic_moment: .nan, symbol: Si", "magnetic moments"),
        (
            "  points:\n  - {symbol: Si, coordinates: [0, 0, 0]}\n  - {symbol: Si, coordinates: [0.25, 0.25, 0.25]}\n",
            "  points: []\n",
            "holds no atoms",
        ),
        ("symbol: Si", "magnetic_moment: 1, symbol: Si", ""),
        ("symbol: Si", "magnetic_moment: [0, 0, 1], symbol: Si", ""),
    ],
)
def test_atoms_of_a_yaml(old, new, message, tmp_path):
    (tmp_path / "phonopy.yaml").write_text(CELL.replace(old, new, 1))
    if not message:
        assert wj.read_structure(tmp_path / "phonopy.yaml").get_initial_magnetic_moments().any()
        return
    with pytest.raises(InputError, match=message) as caught:
        wj.read_structure(tmp_path / "phonopy.yaml")
    assert "\n" not in str(caught.value)


def test_moments_of_both_kinds(tmp_path):
    text = CELL.replace("symbol: Si", "magnetic_moment: 1, symbol: Si", 1)
    (tmp_path / "phonopy.yaml").write_text(
        text[::-1].replace("iS :lobmys", "iS :lobmys ,]1 ,0 ,0[ :tnemom_citengam", 1)[::-1]
    )
    with pytest.raises(InputError, match="magnetic moments that are not one"):
        wj.read_structure(tmp_path / "phonopy.yaml")


def test_a_mesh_on_which_no_mode_moves(problem):
    """2×2×2 points of a cubic crystal have no velocities by symmetry: κ_P of 0 beside a coherence is said."""
    cells = wj.default_supercells(wj.prototype("SiC"), (1, 1, 1), (1, 1, 1))
    for mesh, said in ((2, True), (3, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wj.solve(wj.make_plan(cells, (mesh,) * 3), problem[1], (300.0,), broadening=wj.Gaussian(1.0))
        words = [str(w.message) for w in caught if w.category is AccuracyWarning]
        assert any(w.startswith("κ_P is zero at 300 K, κ_C is not") for w in words) == said


def test_tersoff_parameters_of_a_file(tmp_path):
    """A cut-off that ends before it begins gave energies with a jump."""
    potential = wj.load_potential("tersoff-1989")
    params = {k: np.array(v) for k, v in potential.params.items()}
    for change, message in ((1.1, "R must be below S"), (-1.0, "R and S must be above 0"), (0.9, None)):
        path = tmp_path / "changed.json"
        changed = params | {"R": params["S"] * change}
        wj.save_potential(dataclasses.replace(potential, params=changed), path)
        if message is None:
            assert wj.load_potential(path).cutoff == potential.cutoff
            continue
        with pytest.raises(InputError, match=message):
            wj.load_potential(path)
        with pytest.raises(InputError, match=message):
            potential.with_params(changed)


def test_models_of_a_file(tmp_path, capsys):
    """A damaged file is called so, and not an unknown potential."""
    path = tmp_path / "mine.json"
    wj.save_potential(wj.load_potential("tersoff-1989"), path)
    assert main(["models", str(path)]) == 0
    assert "C, Si, Ge" in capsys.readouterr().out
    path.write_text(path.read_text()[:40])
    assert main(["models", str(path)]) == 2
    assert f"cannot read {path}" in capsys.readouterr().err


def words_of(call, *arguments, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments, **options)
    return [str(w.message) for w in caught if w.category is AccuracyWarning]


def test_a_correction_of_another_supercell(problem):
    """The dipole sum is taken out of the supercell that it was made for: κ of NaCl was twice what it is."""
    plan, fc = problem
    cells = plan.supercells
    charges = np.stack([np.eye(3) * 2.7, np.eye(3) * -2.7])
    born = wj.BornCharges(charges, 6.5 * np.eye(3), np.array(14.399652))
    primitive = 3 * np.eye(3, dtype=int)
    other = dataclasses.replace(cells, fc2_supercell=make_supercell(cells.crystal, primitive))
    same_size = dataclasses.replace(cells, fc2_supercell=make_supercell(cells.crystal, np.diag([4, 1, 1])))
    assert np.linalg.det(cells.fc2_supercell.matrix) == 4
    for wrong, message in ((other, "27 primitive cells, Φ2 is of 4"), (same_size, "Φ2 is of another of 4")):
        for call in (wj.solve, wj.kappa):
            with pytest.raises(InputError, match=message):
                call(plan, fc, (300.0,), broadening=wj.AdaptiveGaussian(), nac=wj.make_nac(wrong, born))
    nac = wj.make_nac(cells, born)
    wj.kappa(plan, fc, (300.0,), broadening=wj.AdaptiveGaussian(), nac=nac)


def test_ways_that_are_none(problem):
    smooth = {"broadening": wj.AdaptiveGaussian()}
    for call in (wj.solve, wj.kappa):
        for options, message in (({"tiling": 0}, "tiling is 0"), ({"heat_capacity_matrix": None}, "matrix is None")):
            with pytest.raises(InputError, match=message):
                call(*problem, (300.0,), **smooth, **options)


def test_a_plan_that_has_lost_its_supercells(problem):
    plan, fc = problem
    for lost in (jax.device_put(plan), jax.tree.map(lambda x: x, plan)):
        words = words_of(wj.solve, lost, fc, (300.0,), broadening=wj.AdaptiveGaussian())
        assert any("has lost its supercells" in w for w in words)
    assert not any("lost" in w for w in words_of(wj.solve, plan, fc, (300.0,), broadening=wj.AdaptiveGaussian()))


def test_a_mesh_that_breaks_the_symmetry(problem):
    cells = problem[0].supercells
    assert any("keeps 4 of the crystal's 48" in w for w in words_of(wj.make_plan, cells, (3, 5, 3)))
    assert words_of(wj.make_plan, cells, (3, 3, 3)) == []
    assert words_of(wj.make_plan, cells, (3, 5, 3), symmetry=False) == []


def test_widths_that_a_mesh_does_not_fit(problem):
    for broadening, said in (
        (wj.Gaussian(0.01), "is chance"), (wj.Gaussian(100.0), "not conserved"), (wj.Gaussian(1.0), None),
        (wj.AdaptiveGaussian(), None), (wj.AdaptiveGaussian(scale=1e6), "not conserved"),
        (wj.AdaptiveGaussian(scale=1e-3, floor=1e-3), "is chance"), (None, None),
    ):  # fmt: skip
        words = words_of(wj.solve, *problem, (300.0,), broadening=broadening)
        found = [w for w in words if "is chance" in w or "not conserved" in w]
        assert len(found) == (said is not None), (broadening, words)
        assert said is None or said in found[0]


def test_places_and_sources_that_are_none(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fc2.hdf5").write_bytes(b"")
    (tmp_path / "dangling.hdf5").symlink_to(tmp_path / "nowhere.hdf5")
    (tmp_path / "POSCAR_huge").write_text("Si\n1e10\n0 .5 .5\n.5 0 .5\n.5 .5 0\nSi\n2\ndirect\n0 0 0\n.25 .25 .25\n")
    for command, message in (
        (["kappa", "fc2.hdf5"], "fc2.hdf5 says nothing of its cells"),
        (["kappa", ""], "no structure file"),
        (["kappa", "Si", "-o", "dangling.hdf5"], "a link that leads nowhere"),
        (["kappa", "POSCAR_huge"], "has a lattice vector of 7.07e+09 Å"),
    ):
        assert main(command) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "nowhere.hdf5").exists()


def test_a_full_standard_output(capsys, monkeypatch):
    monkeypatch.setattr("builtins.print", _no_room)
    assert main(["prototypes"]) == 2
    assert "cannot write the output (No space left on device)" in capsys.readouterr().err


def _no_room(*words, file=None, **_):
    if file is None:
        raise OSError(28, "No space left on device")
    file.write(" ".join(map(str, words)) + "\n")


def test_frequencies_beyond_nature(problem):
    """Of masses in kg: the remedy is their unit, not a relaxation."""
    plan, fc = problem
    crystal = dataclasses.replace(plan.crystal, masses=1.66e-27 * np.asarray(plan.crystal.masses))
    noisy = dataclasses.replace(fc, fc2=fc.fc2 - 1e-6)
    with pytest.raises(InputError, match="check the units of masses"):
        wj.solve(dataclasses.replace(plan, crystal=crystal), noisy, (300.0,), broadening=wj.AdaptiveGaussian())


def test_objects_of_another_kind(problem):
    """They left as AttributeErrors from the depths."""
    plan, fc = problem
    smooth = wj.AdaptiveGaussian()
    for call in (wj.solve, wj.kappa):
        for arguments, message in (
            ((plan, (fc.fc2, fc.fc3)), "there is no Φ2"), ((plan, None), "there is no Φ2"), ((None, fc), "the plan is None"),
        ):  # fmt: skip
            with pytest.raises(InputError, match=message):
                call(*arguments, broadening=smooth)
    with pytest.raises(InputError, match="broadening is None: name it"):
        wj.kappa(plan, fc, broadening=None)
    with pytest.raises(InputError, match="progress is 3"):
        wj.solve(plan, fc, progress=3)
    with pytest.raises(InputError, match="the mesh is traced"):
        jax.jit(lambda n: wj.make_plan(plan.supercells, n).mesh.qpoints)(np.array([3, 3, 3]))


def test_phonons_look_at_what_they_are_given(problem):
    """Φ2 of other shapes gave other frequencies, or the right ones of a tiled array; NaN gave NaN."""
    plan, fc = problem
    fc2 = np.asarray(fc.fc2)
    bad = {
        "Φ2: shape": (fc2[:, :4], fc2[:1], np.concatenate([fc2] * 4)), "Φ2 holds 144 non-finite": (fc2 * np.nan,),
        "numbers of the type complex128": (fc2 * 1j,),
    }  # fmt: skip
    for call in (wj.phonons, wj.phonon_bands):
        assert call(plan, fc2) is not None
        for message, arrays in bad.items():
            for array in arrays:
                with pytest.raises(InputError, match=message):
                    call(plan, array)
        crystal = dataclasses.replace(plan.crystal, masses=-np.asarray(plan.crystal.masses))
        with pytest.raises(InputError, match="a mass is not above 0"):
            call(dataclasses.replace(plan, crystal=crystal), fc2)
        jax.config.update("jax_enable_x64", False)
        try:
            with pytest.raises(ValueError, match="double precision is off"):
                call(plan, fc2)
        finally:
            jax.config.update("jax_enable_x64", True)


@pytest.mark.parametrize("method", ["gonze", "wang"])
def test_charges_that_only_a_transformation_knows(problem, method):
    """A negative dielectric constant or factor gave a number under jit, where nothing can be refused."""
    plan, fc = problem
    charges = np.stack([np.eye(3) * 2.7, np.eye(3) * -2.7])
    made = wj.make_nac(plan.supercells, wj.BornCharges(charges, 6.5 * np.eye(3), np.array(14.4)), method=method)

    @jax.jit
    def kappa(dielectric, factor):
        nac = dataclasses.replace(made, born=wj.BornCharges(charges, dielectric, factor))
        return wj.kappa(plan, fc, broadening=wj.AdaptiveGaussian(), nac=nac).kappa_P[0, 0]

    skew = np.eye(3) + 0.1 * np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert np.isfinite(kappa(6.5 * np.eye(3), 14.4))
    assert np.isfinite(kappa(6.5 * skew, 14.4))
    for dielectric, factor in (
        (-6.5 * np.eye(3), 14.4), (0 * np.eye(3), 14.4), (np.diag([6.5, 6.5, -6.5]), 14.4), (6.5 * np.eye(3), -14.4),
        (6.5 * np.eye(3), 0.0), (np.nan * np.eye(3), 14.4), (6.5 * np.array([[1, 2, 0], [2, 1, 0], [0, 0, 1]]), 14.4),
    ):  # fmt: skip
        assert np.isnan(kappa(dielectric, factor))


def test_long_primitive_vectors_are_said(problem):
    """Tetrahedra follow them: κ of SiC moved by a quarter on the same points."""
    plan, _ = problem
    for change, said in (([[0, 1, 0], [0, 0, 1], [1, 0, 0]], False), ([[1, 3, -2], [0, 1, 5], [0, 0, 1]], True)):
        atoms = bulk("SiC", "zincblende", a=4.36)
        atoms = ase.build.make_supercell(atoms, change)
        plan = wj.make_plan(wj.supercells_from_atoms(atoms, (1, 1, 1), (1, 1, 1)), (3, 3, 3))
        for symmetrized in (False, True):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                wj.Tetrahedron.for_plan(plan, symmetrized)
            words = [str(w.message) for w in caught if "primitive vectors are long" in str(w.message)]
            assert bool(words) == (said and not symmetrized)
