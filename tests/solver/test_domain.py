"""What the solver refuses, what it says, and that nothing undefined ever becomes a number."""

from __future__ import annotations

import dataclasses
import re
import warnings

import ase.build
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_materials import load

import wigner_jax as wj
from wigner_jax._solve import linewidths, phonons
from wigner_jax.crystal.supercells import make_supercell
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.ifc.residuals import REFUSED, SAID, check_force_constants, residuals, star_residual
from wigner_jax.physics.phonons import frequencies_and_eigenvectors
from wigner_jax.pipeline import prepare
from wigner_jax.types import BornCharges, ForceConstants, Supercells

MESH = (3, 3, 3)


@pytest.fixture(scope="module")
def material():
    return load("si-tersoff")


@pytest.fixture(scope="module")
def plan(material):
    return wj.make_plan(material.cells, MESH)


@pytest.fixture(scope="module")
def fc(material) -> ForceConstants:
    return jax.tree.map(np.asarray, material.constants)


@pytest.fixture(scope="module")
def solution(plan, fc):
    return wj.solve(plan, fc)


# --- acoustic modes at Γ ----------------------------------------------------------------------------------------------


def with_self_term(fc: ForceConstants, plan, extra: float) -> ForceConstants:
    second = np.array(fc.fc2)
    home = plan.supercells.fc2_supercell.p2s_map
    second[np.arange(len(home)), home] += extra * np.eye(3)
    return dataclasses.replace(fc, fc2=second)


def test_rounding_of_force_constants_does_not_reach_kappa(plan, fc, solution):
    rounded = dataclasses.replace(fc, fc2=np.asarray(fc.fc2, np.float32).astype(float))
    for near in (rounded, with_self_term(fc, plan, 1e-9), with_self_term(fc, plan, -1e-6)):
        found = wj.solve(plan, near)
        assert found.residuals.sum_rules[0] > 1e-11
        np.testing.assert_allclose(found.conductivity.kappa_TOT, solution.conductivity.kappa_TOT, rtol=2e-5)
        np.testing.assert_allclose(found.linewidths.total, solution.linewidths.total, rtol=1e-4, atol=1e-9)


def test_acoustic_modes_at_gamma_are_rigid_shifts_whatever_the_force_constants(plan, fc):
    near = with_self_term(fc, plan, 1e-3)
    points = jnp.array([[0.0, 0.0, 0.0], [1e-9, 0.0, 0.0]])
    f, e = frequencies_and_eigenvectors(points, near.fc2, plan.crystal, plan.fc2_table)
    assert np.abs(f[0, :3]).max() < 1e-5 < 1e-2 < np.abs(f[1, :3]).min()
    np.testing.assert_allclose(f[0, 3:], f[1, 3:], rtol=1e-7)
    root = np.sqrt(np.asarray(plan.crystal.masses))
    shifts = np.kron((root / np.linalg.norm(root))[:, None], np.eye(3))
    np.testing.assert_allclose(np.linalg.norm(shifts.T @ e[0, :, :3]), np.sqrt(3), rtol=1e-12)
    np.testing.assert_allclose(shifts.T @ e[0, :, 3:], 0, atol=1e-12)


# --- NaN spreads, it never vanishes -----------------------------------------------------------------------------------


def test_nothing_undefined_becomes_a_number(plan, fc):
    """Under jit the numbers are unknown when the program is made: κ is NaN, not 0 and not that of the other modes."""
    sound = {
        "fc2": jnp.asarray(fc.fc2), "fc3": jnp.asarray(fc.fc3), "masses": jnp.asarray(plan.crystal.masses), "T": jnp.array([300.0, 500.0]),
        "variances": jnp.asarray(plan.mass_variances), "mfp": jnp.array(1.0), "sigma": jnp.array(0.5),
    }  # fmt: skip

    @jax.jit
    def kappa(x):
        crystal = dataclasses.replace(plan.crystal, masses=x["masses"])
        scattering = wj.Scattering(x["variances"], x["mfp"])
        found = wj.kappa(
            dataclasses.replace(plan, crystal=crystal), ForceConstants(x["fc2"], x["fc3"]), x["T"],
            broadening=wj.Gaussian(x["sigma"]), scattering=scattering,
        )  # fmt: skip
        return found.kappa_TOT

    assert np.isfinite(kappa(sound)).all()
    for name, places in (
        ("fc2", [(0, 0, 0, 0), (1, 3, 2, 1)]),
        ("fc3", [(0, 0, 0, 0, 0, 0)]),
        ("masses", [(1,)]),
        ("variances", [(0,)]),
        ("mfp", [()]),
        ("sigma", [()]),
        ("T", [(0,)]),
    ):
        for place in places:
            for bad in (np.nan,) if name.startswith("fc") else (np.nan, -1.0):
                found = np.asarray(kappa(sound | {name: sound[name].at[place].set(bad)}))
                assert np.isnan(found[0]).all(), (name, place, bad, found)
    assert np.isfinite(kappa(sound | {"T": jnp.array([np.nan, 300.0])})[1]).all()


# --- numbers outside their domain, arrays that do not fit ---------------------------------------------------------------


def refused(plan, fc, match: str, **options) -> None:
    """By `solve`, `kappa` and `linewidths`, before anything is computed."""
    for call in (
        lambda: wj.solve(plan, fc, **options),
        lambda: wj.kappa(plan, fc, **{"broadening": wj.AdaptiveGaussian()} | options),
    ):
        with pytest.raises(InputError, match=match) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan, np.inf])
def test_numbers_outside_their_domain(plan, fc, bad):
    refused(plan, fc, "temperatures must be above 0 K", temperatures=(300.0, bad))
    refused(plan, fc, "boundary_mfp is", scattering=wj.Scattering(boundary_mfp=bad))
    refused(plan, fc, "sigma of the broadening is", broadening=wj.Gaussian(bad))
    if bad != 0:
        refused(plan, fc, "Scattering.isotope", scattering=wj.Scattering(np.array([bad, 1e-4])))
    crystal = dataclasses.replace(plan.crystal, masses=np.array([bad, 28.0]))
    if not np.isinf(bad):
        refused(dataclasses.replace(plan, crystal=crystal), fc, "a mass is not above 0")


def test_numbers_at_the_edge_of_their_domain_are_taken(plan, fc):
    found = wj.kappa(
        plan, fc, (0.1, 5e3), broadening=wj.Gaussian(0.3), scattering=wj.Scattering(np.zeros(2), boundary_mfp=1e-6)
    )
    assert np.isfinite(found.kappa_TOT).all()
    assert np.all(found.kappa_TOT[1, :3] > 0)


@pytest.mark.parametrize("traced", [False, True])
def test_arrays_that_do_not_fit_the_plan(plan, fc, traced):
    n = len(fc.fc2)
    smaller = (
        (dataclasses.replace(fc, fc2=fc.fc2[:, :-n]), "Φ2: shape"),
        (dataclasses.replace(fc, fc3=fc.fc3[:, :-n, :-n]), "Φ3: shape"),
    )
    for other, match in smaller:
        if traced:
            with pytest.raises(InputError, match=match):
                jax.jit(lambda x: wj.kappa(plan, x, broadening=wj.AdaptiveGaussian()))(other)
        else:
            refused(plan, other, match)
    refused(plan, fc, r"Scattering.isotope: shape \(3,\)", scattering=wj.Scattering(np.full(n + 1, 1e-4)))
    born = BornCharges(np.zeros((n + 1, 3, 3)), np.eye(3), np.array(14.4))
    refused(plan, fc, "Born charges: shape", nac=wj.Wang(born))


def test_linewidths_alone_are_checked_too(plan, fc):
    waves = phonons(plan, fc.fc2)
    with pytest.raises(InputError, match="boundary_mfp"):
        linewidths(
            plan, fc, waves, np.array([300.0]), broadening=wj.Gaussian(0.1), scattering=wj.Scattering(None, -1.0)
        )  # fmt: skip


def test_single_precision_is_refused_by_kappa(plan, fc):
    with jax.enable_x64(False), pytest.raises(ValueError, match="double precision is off"):
        wj.kappa(plan, fc, broadening=wj.AdaptiveGaussian())


def test_infinite_conductivity_is_an_error(plan, fc):
    with pytest.raises(InputError, match="κ is infinite"):
        wj.solve(
            plan, dataclasses.replace(fc, fc3=1e-12 * fc.fc3), broadening=wj.Gaussian(0.1), scattering=wj.Scattering(None)
        )  # fmt: skip


@pytest.mark.parametrize("name", ["fc2", "fc3"])
def test_force_constants_that_are_zero(plan, fc, name):
    refused(plan, dataclasses.replace(fc, **{name: 0 * getattr(fc, name)}), f"Φ{name[2]} is zero everywhere")


def coarse(scattering: wj.Scattering, temperatures: tuple[float, ...]):
    """Silicon whose Φ2 sees one primitive cell: a sixfold optic mode, whose linewidth at 300 K is rounding. So are its
    velocities, once the last digits of Φ2 are noise.
    """
    atoms, cells = ase.build.bulk("Si"), {"fc2_supercell": (1, 1, 1), "fc3_supercell": (2, 2, 2)}
    problem = prepare(atoms, "tersoff-1989", relax=False, **cells)
    fc = problem.force_constants
    noise = 1 + 1e-14 * np.random.default_rng(0).standard_normal(np.shape(fc.fc2))
    fc = dataclasses.replace(fc, fc2=np.asarray(fc.fc2) * noise)
    return wj.solve(wj.make_plan(problem.supercells, (4, 4, 4)), fc, temperatures, scattering=scattering)


def test_modes_that_nothing_limits():
    """κ was 3.8e17 W/(m K) without a word; where boundaries limit them, or rounding is left out, it is a number."""
    with warnings.catch_warnings(record=True) as caught:  # rounding decides which of the two it is
        warnings.simplefilter("always")
        try:
            coarse(wj.Scattering(), (300.0,))
            words = [str(w.message) for w in caught]
        except InputError as error:
            words = [str(error)]
    assert any(
        re.search(
            r"300 K leaves out \d+ modes of the mesh that move and that nothing scatters|100 % of κ_P at 300 K is carried",
            w,
        )
        for w in words
    )
    with pytest.raises(InputError, match=r"100 % of κ_P at 300 K is carried by \d+ modes .* above 1 m: .*boundary_mfp"):
        coarse(wj.Scattering(boundary_mfp=1e6), (300.0,))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "(?s).*above 1 m")
        κ = coarse(wj.Scattering(boundary_mfp=10.0), (300.0,)).conductivity.kappa_TOT
    assert np.isfinite(κ).all()


def test_cold_crystals_without_isotopes_are_said_not_refused(plan, fc, solution):
    """What scatters at 10 K is frozen out: the mean free path is long in truth. At 300 K there is nothing to say."""
    free = wj.Scattering(isotope=None)
    with pytest.warns(AccuracyWarning, match=r"% of κ_P at 10 K is carried by \d+ modes .* above 1 m"):
        cold = wj.solve(plan, fc, (10.0, 300.0), scattering=free)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        warm = wj.solve(plan, fc, (300.0,), scattering=free)
    np.testing.assert_allclose(cold.conductivity.kappa_TOT[1], warm.conductivity.kappa_TOT[0], rtol=1e-9)
    with pytest.warns(AccuracyWarning, match="κ is zero at 1 K"):
        wj.solve(plan, fc, (1.0,), scattering=free)


@pytest.mark.parametrize(
    "bad",
    ["300", ["300"], [[300.0]], [300.0, [1.0]], None, {300.0}, True, iter((300.0,))],
    ids=lambda bad: type(bad).__name__,
)
def test_temperatures_that_are_none(plan, fc, bad):
    refused(plan, fc, "temperatures are", temperatures=bad)


@pytest.mark.parametrize("good", [300, np.array(300.0), jnp.array(300.0), range(300, 301), [np.float32(300)]], ids=str)
def test_one_temperature_however_it_is_given(plan, fc, solution, good):
    found = wj.solve(plan, fc, good)
    assert found.conductivity.temperatures.shape == (1,)
    np.testing.assert_array_equal(found.conductivity.kappa_TOT, solution.conductivity.kappa_TOT)
    smooth = {"broadening": wj.AdaptiveGaussian()}
    one = jax.jit(lambda T: wj.kappa(plan, fc, T, **smooth).kappa_TOT)(jnp.array(300.0))
    np.testing.assert_allclose(one, wj.kappa(plan, fc, good, **smooth).kappa_TOT, rtol=1e-9)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"nac": True}, "nac is True: give a correction that make_nac has made, or None"),
        ({"nac": "none"}, "nac is 'none': give a correction"),
        ({"nac": BornCharges(np.zeros((2, 3, 3)), np.eye(3), 14.4)}, r"make_nac\(supercells, charges\)"),
        ({"nac": wj.Wang(BornCharges(np.zeros((2, 3, 3)), 0.5 * np.eye(3), 14.4))}, "the eigenvalue 0.5"),
        ({"broadening": "tetrahedron"}, r"broadening is 'tetrahedron': give Tetrahedron.for_plan\(plan\)"),
        ({"broadening": wj.AdaptiveGaussian}, "broadening is AdaptiveGaussian: give"),
        ({"broadening": wj.Gaussian("0.1")}, "sigma of the broadening is '0.1': give one positive number"),
        ({"scattering": None}, r"scattering is None: give Scattering\(\), or Scattering\(isotope=None\)"),
        ({"scattering": wj.Scattering(boundary_mfp="1")}, "boundary_mfp is '1': give one positive number"),
        ({"scattering": wj.Scattering(boundary_mfp=True)}, "boundary_mfp is True: give one positive number"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_options_of_another_kind(plan, fc, options, says):
    refused(plan, fc, says, **options)


@pytest.mark.parametrize("kind", [complex, object, ">f8", "U"])
def test_force_constants_of_no_real_numbers(plan, fc, kind):
    for name in ("fc2", "fc3"):
        other = dataclasses.replace(fc, **{name: np.asarray(getattr(fc, name)).astype(kind)})
        refused(plan, other, r"give real ones: np.asarray\(x, float\)")


def test_kappa_refuses_what_solve_refuses_where_numbers_are_known(plan, fc):
    order = np.random.default_rng(1).permutation(fc.fc3.shape[1])
    shuffled = dataclasses.replace(fc, fc3=fc.fc3[:, order][:, :, order])
    refused(plan, shuffled, "Φ3 breaks")
    traced = jax.jit(lambda x: wj.kappa(plan, x, broadening=wj.AdaptiveGaussian()).kappa_TOT)
    assert np.isfinite(traced(shuffled)).all()  # nobody knows there


# --- force constants of another crystal, cell or order --------------------------------------------------------------------


def test_exact_force_constants_have_no_residual(material, fc):
    found = residuals(material.cells, fc)
    assert max(*found.sum_rules, *found.symmetry) < 1e-9


def test_the_same_number_of_atoms_in_another_supercell_is_refused(material, fc):
    """What the shapes do not show: Φ of one supercell given for another with as many atoms."""
    cells = material.cells
    copies = round(abs(np.linalg.det(cells.fc2_supercell.matrix)))
    other = make_supercell(cells.crystal, np.diag([copies, 1, 1]))
    assert other.n_atoms == cells.fc2_supercell.n_atoms
    with pytest.raises(InputError, match="Φ2 breaks the symmetry"):
        check_force_constants(Supercells(cells.crystal, other, cells.fc3_supercell), fc)
    copies = round(abs(np.linalg.det(cells.fc3_supercell.matrix)))
    third = make_supercell(cells.crystal, np.diag([copies, 1, 1]))
    with pytest.raises(InputError, match="Φ3 breaks the symmetry"):
        check_force_constants(Supercells(cells.crystal, cells.fc2_supercell, third), fc)


def test_another_order_of_atoms_is_refused(plan, fc):
    order = np.random.default_rng(1).permutation(fc.fc2.shape[1])
    with pytest.raises(InputError, match="Φ2 breaks"):
        wj.solve(plan, dataclasses.replace(fc, fc2=fc.fc2[:, order]))
    order = np.random.default_rng(1).permutation(fc.fc3.shape[1])
    with pytest.raises(InputError, match="Φ3 breaks"):
        wj.solve(plan, dataclasses.replace(fc, fc3=fc.fc3[:, order][:, :, order]))


def uniaxial(fc: ForceConstants, share: float) -> ForceConstants:
    """Φ2 and Φ3 stiffer along z: index permutations and sum rules hold, the cubic group does not."""
    scale = np.array([1.0, 1.0, 1.0 + share])
    second = fc.fc2 * scale[:, None] * scale
    return ForceConstants(second, fc.fc3 * scale[:, None, None] * scale[:, None] * scale)


def test_a_broken_symmetry_is_refused_a_small_residual_is_said(material, plan, fc, solution):
    with pytest.raises(InputError, match=r"Φ2 breaks the symmetry of its indices or of the crystal by \d+ %") as error:
        wj.solve(plan, uniaxial(fc, 0.2))
    assert "\n" not in str(error.value)
    free = wj.make_plan(material.cells, MESH, symmetry=False)
    κ = np.asarray(wj.solve(free, uniaxial(fc, 0.2), broadening=wj.Gaussian(0.5)).conductivity.kappa_TOT)[0]
    assert abs(κ[0] - κ[1]) < 1e-6 * κ[0] < 1e-2 * κ[0] < abs(κ[0] - κ[2])
    with pytest.warns(AccuracyWarning, match="Φ2 breaks the symmetry"):
        near = wj.solve(plan, uniaxial(fc, 0.01))
    assert SAID < near.residuals.symmetry[0] < REFUSED
    np.testing.assert_allclose(near.conductivity.kappa_TOT[0, 0], solution.conductivity.kappa_TOT[0, 0], rtol=0.15)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        assert 0 < wj.solve(plan, uniaxial(fc, 1e-5)).residuals.symmetry[1] < SAID


def test_stars_are_compared_where_the_supercell_is_less_symmetric_than_the_crystal(plan, fc):
    """The residual in real space knows the operations of the supercell alone; frequencies know those of the mesh."""
    assert star_residual(plan.crystal, plan.mesh, phonons(plan, fc.fc2)) < 1e-9
    with pytest.raises(InputError, match="equivalent q-points differ"):
        star_residual(plan.crystal, plan.mesh, phonons(plan, uniaxial(fc, 0.2).fc2))


# --- what a number rests on ---------------------------------------------------------------------------------------------


def test_diagnostics(solution, tmp_path):
    found = solution.diagnostics()
    lines = found.lines()
    assert 1 <= len(lines) <= 4
    assert all("nan" not in line for line in lines)
    assert lines[0].startswith("relaxation-time approximation: three phonons, isotopes; tetrahedron")
    conductivity, mesh = solution.conductivity, solution.mesh
    modes = np.asarray(conductivity.mode_kappa_P.sum(2) + conductivity.mode_kappa_C.sum((2, 3)))[0, :, :3].sum(1)
    length = np.linalg.norm(np.asarray(mesh.qpoints) @ np.linalg.inv(np.asarray(solution.crystal.lattice)).T, axis=1)
    star = np.asarray(mesh.irreducible)
    near = np.isclose(length[star], length[length > 0].min())
    share = modes[near].sum() / modes.sum()
    assert 0 < share < 1
    np.testing.assert_allclose(found.next_to_gamma, [share], rtol=1e-12)
    assert found.imaginary == found.without_linewidth == 0
    assert np.isnan(found.reach)
    wj.write_kappa_hdf5(tmp_path / "kappa.hdf5", solution)
    written = wj.read_kappa_hdf5(tmp_path / "kappa.hdf5")["attributes"]
    assert written["star_residual"] == found.residuals.stars
    assert written["symmetry_residual_fc3"] == found.residuals.symmetry[1]
    np.testing.assert_array_equal(written["kappa_share_next_to_gamma"], found.next_to_gamma)
    assert written["half_width_fc2_supercell"] == found.half_widths[0]
    assert found.half_widths[0] > 2


def test_modes_left_out_are_counted_and_said(solution):
    at, weights = np.asarray(solution.mesh.irreducible), np.asarray(solution.mesh.weights)
    frequencies, widths = np.array(solution.phonons.frequencies), np.array(solution.linewidths.three_phonon)
    frequencies[at[1], 0] = -2.0
    widths[0, 2, 4] = 0.0
    widths[0, 0, :3] = 0.0  # the rigid shifts at Γ are left out for what they are, and not counted
    spoilt = dataclasses.replace(
        solution,
        phonons=dataclasses.replace(solution.phonons, frequencies=frequencies),
        linewidths=dataclasses.replace(
            solution.linewidths, three_phonon=widths, isotope=0 * solution.linewidths.isotope
        ),
    )
    found = spoilt.diagnostics()
    assert (found.imaginary, found.without_linewidth) == (weights[1], weights[2])
    assert f"left out: {weights[1]} imaginary modes, {weights[2]} modes that nothing scatters" in found.lines()[0]
