"""The public surface: one call is the steps by hand, defaults mean what they say, and a solution keeps what it is of."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from ase.build import bulk

import wigner_jax as wj
from wigner_jax._core.tiling import Tiling
from wigner_jax._solve import linewidths, phonons

T = (300.0, 500.0)
OPTIONS = {"mesh": (3, 3, 3), "fc2_supercell": (1, 1, 1), "fc3_supercell": (1, 1, 1), "temperatures": T}


@pytest.fixture(scope="module")
def potential():
    return wj.load_potential("tersoff-1989")


@pytest.fixture(scope="module")
def solution(potential):
    return wj.conductivity("Si", potential, **OPTIONS)


def close(a, b, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def test_one_call_is_the_steps(solution, potential):
    silicon = wj.restrict(potential, [14])
    atoms, relaxation = wj.relax(wj.prototype("Si"), silicon)
    supercells = wj.default_supercells(atoms, (1, 1, 1), (1, 1, 1))
    fc, report = wj.force_constants(supercells, silicon)
    plan = wj.make_plan(supercells, (3, 3, 3))
    steps = wj.solve(plan, fc, T)
    for field in ("fc2", "fc3"):
        close(getattr(solution.force_constants, field), getattr(fc, field))
    for field in ("kappa_P", "kappa_C", "mode_kappa_P", "heat_capacity"):
        close(getattr(solution.conductivity, field), getattr(steps.conductivity, field))
    close(solution.linewidths.total, steps.linewidths.total)
    assert solution.report.relaxation.message == relaxation.message
    assert solution.report.force_constants.evaluations == report.evaluations
    assert solution.report.derivatives == "ad"
    assert set(solution.report.seconds) >= {"relax", "force constants", "plan", "conductivity"}


@pytest.mark.parametrize("how", ["name", "atoms", "file"])
def test_the_structure_may_be_a_name_atoms_or_a_file(solution, potential, tmp_path, how):
    atoms = wj.prototype("Si")
    atoms.write(tmp_path / "si.vasp", format="vasp", direct=True)
    structure = {"name": "Si", "atoms": atoms, "file": tmp_path / "si.vasp"}[how]
    again = wj.conductivity(structure, "tersoff-1989", **OPTIONS)
    close(again.conductivity.kappa_TOT, solution.conductivity.kappa_TOT, 1e-6 if how == "file" else 1e-12)


def test_a_solution_knows_what_it_is_of(solution):
    assert solution.crystal is solution.plan.crystal
    assert solution.mesh is solution.plan.mesh
    assert solution.mesh.dims == (3, 3, 3)
    assert solution.crystal.numbers == (14, 14)
    assert solution.nac is None
    assert isinstance(solution.broadening, wj.Tetrahedron)
    assert solution.broadening.has_capacity
    assert (solution.scattering.isotope, solution.scattering.boundary_mfp) == ("natural", None)


def test_saved_and_read(solution, tmp_path):
    solution.save(tmp_path / "kappa.hdf5", bands=False)
    data = wj.read_kappa_hdf5(tmp_path / "kappa.hdf5")
    expected = solution.datasets(bands=False)
    assert data.pop("attributes") == expected.pop("attributes")
    for name, value in expected.items():
        group, _, member = name.rpartition("/")
        np.testing.assert_array_equal(data[group][member] if group else data[name], value, err_msg=name)
    assert set(data) == {name.partition("/")[0] for name in expected}
    np.testing.assert_array_equal(data["temperature"], T)
    np.testing.assert_array_equal(data["mesh"], solution.mesh.dims)
    np.testing.assert_array_equal(data["kappa_TOT_RTA"], solution.conductivity.kappa_TOT)
    np.testing.assert_array_equal(data["weight"], solution.mesh.weights)
    np.testing.assert_array_equal(data["crystal"]["numbers"], solution.crystal.numbers)


def test_attributes_say_what_the_numbers_rest_on(solution, tmp_path):
    solution.save(tmp_path / "kappa.hdf5", bands=False)
    found = wj.read_kappa_hdf5(tmp_path / "kappa.hdf5")["attributes"]
    assert found["program"] == "wigner-jax"
    assert found["program_version"] == wj.__version__
    assert found["broadening"] == "Tetrahedron"
    assert found["isotope_scattering"] == "natural"
    assert "tersoff-1989" in " ".join(map(str, found.values()))


def test_a_solution_is_a_pytree(solution):
    doubled = jax.tree.map(lambda x: 2 * x, solution)
    close(doubled.conductivity.kappa_P, 2 * solution.conductivity.kappa_P)
    assert doubled.report is solution.report


# ---------------------------------------------------------------- scattering


def solved(solution, scattering) -> wj.Solution:
    return wj.solve(
        solution.plan, solution.force_constants, (300.0,), broadening=wj.Gaussian(0.5), scattering=scattering
    )


def test_isotopes_are_natural_unless_told(solution):
    natural = wj.natural_isotopes(solution.crystal)
    assert np.all(natural > 0)
    told = solved(solution, wj.Scattering(natural)).linewidths.isotope
    np.testing.assert_array_equal(solved(solution, wj.Scattering()).linewidths.isotope, told)
    np.testing.assert_array_equal(
        wj.solve(solution.plan, solution.force_constants, (300.0,), broadening=wj.Gaussian(0.5)).linewidths.isotope,
        told,
    )
    assert np.max(told) > 0
    np.testing.assert_array_equal(solved(solution, wj.Scattering(None)).linewidths.isotope, 0)


def test_boundaries_alone_keep_the_isotopes(solution):
    without, with_walls = (solved(solution, wj.Scattering(boundary_mfp=mfp)).linewidths for mfp in (None, 1.0))
    np.testing.assert_array_equal(with_walls.isotope, without.isotope)
    assert np.max(with_walls.isotope) > 0
    np.testing.assert_array_equal(without.boundary, 0)
    assert np.max(with_walls.boundary) > 0
    assert wj.Scattering(boundary_mfp=1.0).isotope == "natural"


def test_an_unknown_word_for_isotopes_is_refused(solution):
    with pytest.raises(wj.InputError, match="enriched"):
        solved(solution, wj.Scattering("enriched"))


# ---------------------------------------------------------------- broadening, tiling, warnings


def test_kappa_must_be_told_its_broadening(solution):
    with pytest.raises(TypeError, match="broadening"):
        wj.kappa(solution.plan, solution.force_constants)


def test_kappa_with_the_solvers_broadening_is_the_solvers(solution):
    """The tetrahedra that `solve` took by default, their capacity included."""
    tensors = wj.kappa(solution.plan, solution.force_constants, T, broadening=solution.broadening)
    close(tensors.kappa_P, solution.conductivity.kappa_P, 1e-9)
    close(tensors.kappa_TOT, solution.conductivity.kappa_TOT, 1e-9)
    assert isinstance(tensors, wj.KappaTensors)


def test_other_heat_capacities_make_another_theory(solution):
    """Populations are the same, coherences are not: C_ss is C_s in both."""
    plan, fc = solution.plan, solution.force_constants
    wigner, green_kubo = (
        wj.kappa(plan, fc, T, broadening=wj.Gaussian(0.5), heat_capacity_matrix=matrix)
        for matrix in (wj.wigner_heat_capacity, wj.green_kubo_heat_capacity)
    )
    close(green_kubo.kappa_P, wigner.kappa_P, 1e-9)
    ratio = green_kubo.kappa_C[:, 0] / wigner.kappa_C[:, 0]
    assert np.all(np.abs(ratio - 1) > 1e-4)
    assert np.all(np.abs(ratio - 1) < 0.5)


def test_pieces_do_not_show(solution):
    """Sizes of pieces that do not divide the work."""
    plan, fc = solution.plan, solution.force_constants
    small = Tiling(
        group=3, vectorised=False, strength_bytes=2**14, rod_bytes=2**15, rods=4, triplets=56, items=256, least_bytes=0
    )
    results = []
    for tiling in (None, small):
        waves = phonons(plan, fc.fc2, tiling=tiling)
        gamma = linewidths(plan, fc, waves, np.array(T), broadening=wj.Gaussian(0.5), tiling=tiling)
        results.append((waves.frequencies**2, gamma.three_phonon, gamma.isotope))
    for a, b in zip(*results, strict=True):
        close(a, b, 1e-10)


def test_folded_interactions_are_a_warning(potential):
    """A supercell of one primitive cell, where atoms see their own images."""
    supercells = wj.supercells_from_atoms(bulk("Si", a=5.432), (1, 1, 1), (1, 1, 1))
    with pytest.warns(wj.AccuracyWarning, match="folded"):
        _, report = wj.force_constants(supercells, wj.restrict(potential, [14]))
    assert any("folded" in line for line in report.warnings)
    assert issubclass(wj.AccuracyWarning, UserWarning)


def test_imaginary_modes_are_an_error_unless_allowed(solution):
    soft = dataclasses.replace(solution.force_constants, fc2=-solution.force_constants.fc2)
    with pytest.raises(wj.ImaginaryModes) as error:
        wj.solve(solution.plan, soft, broadening=wj.Gaussian(0.5))
    assert isinstance(error.value, wj.InputError)
    assert "--" not in str(error.value)  # the command line has its own words
    allowed = wj.solve(solution.plan, soft, broadening=wj.Gaussian(0.5), allow_imaginary=True)
    np.testing.assert_array_equal(allowed.conductivity.kappa_TOT, 0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *(({"nac": bad}, 'give "source", BornCharges, a correction') for bad in ("none", "off", "wang", True)),
        *(({"derivatives": bad}, 'give "ad", "finite-displacement" or None') for bad in ("AD", "fd", True, 3)),
        ({"symprec": "x"}, "symprec is 'x': give a tolerance from"),
        ({"mesh": "3 3 3"}, "a mesh needs three positive integers, got '3 3 3'"),
        ({"temperatures": "300"}, "temperatures are '300'"),
        ({"broadening": "tetrahedron"}, "broadening is 'tetrahedron'"),
        ({"scattering": None}, "scattering is None"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(f"{k} {v}" for k, v in value.items()),
)
def test_options_are_refused_before_the_work(potential, monkeypatch, options, says):
    monkeypatch.setattr("wigner_jax.pipeline.relax_with", lambda *_: pytest.fail("it was relaxed first"))
    with pytest.raises(wj.InputError, match=says):
        wj.conductivity("Si", potential, **OPTIONS | options)


def test_options_may_be_arrays(solution, potential):
    arrays = {name: np.array(value) for name, value in OPTIONS.items()}
    again = wj.conductivity("Si", potential, nac=None, derivatives="ad", **arrays)
    np.testing.assert_array_equal(again.conductivity.kappa_TOT, solution.conductivity.kappa_TOT)
    one = wj.conductivity("Si", potential, **OPTIONS | {"temperatures": 300})
    close(one.conductivity.kappa_TOT[0], solution.conductivity.kappa_TOT[0])


@pytest.mark.parametrize("compiled", [False, True])
def test_kappa_fn_is_nan_where_it_is_undefined(potential, compiled):
    """As its docstring says, whether its numbers are known or not; bad options are refused when it is made."""
    silicon = wj.restrict(potential, [14])
    cells = wj.default_supercells(wj.relax(wj.prototype("Si"), silicon)[0], (1, 1, 1), (1, 1, 1))
    smooth = {"broadening": wj.AdaptiveGaussian()}
    function = wj.kappa_fn(cells, silicon, (2, 2, 2), 300, relax=False, **smooth)
    function = jax.jit(function) if compiled else function
    params = jax.tree.map(np.asarray, silicon.params)
    κ, _ = function(params)
    assert κ.shape == (1, 6)
    assert np.isfinite(κ).all()
    assert np.isnan(function({**params, "A": np.nan * params["A"]})[0]).all()
    for options, says in (({"nac": True}, "nac is True"), ({"scattering": None}, "scattering is None")):
        with pytest.raises(wj.InputError, match=says):
            wj.kappa_fn(cells, silicon, (2, 2, 2), **smooth | options)
    with pytest.raises(wj.InputError, match="temperatures are '300'"):
        wj.kappa_fn(cells, silicon, (2, 2, 2), "300", **smooth)
