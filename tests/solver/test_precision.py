"""Mixed precision: what is single is single, κ hardly moves, and a result says so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solved_problems import problem

import wigner_jax as wj
from wigner_jax._core.tiling import CPU
from wigner_jax.errors import InputError
from wigner_jax.physics.linewidths import prepare

BROADENINGS = {
    "tetrahedron": lambda plan: None,
    "adaptive": lambda plan: wj.AdaptiveGaussian(),
}


def kappa_of(solution: wj.Solution) -> float:
    return float(np.asarray(solution.conductivity.kappa_TOT)[0, :3].mean())


@pytest.mark.parametrize(
    ("name", "broadening"),
    [
        ("si-tersoff_m5", "tetrahedron"), ("nacl-mace_nac_m4", "adaptive"),
        pytest.param("si-tersoff_m5", "adaptive", marks=pytest.mark.slow),
        pytest.param("nacl-mace_nac_m4", "tetrahedron", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_kappa_of_both(name, broadening):
    plan, material, nac, _ = problem(name)
    double, mixed = (
        wj.solve(plan, material.constants, broadening=BROADENINGS[broadening](plan), nac=nac, precision=p)
        for p in ("double", "mixed")
    )
    np.testing.assert_array_equal(mixed.phonons.frequencies, double.phonons.frequencies)
    np.testing.assert_array_equal(mixed.linewidths.isotope, double.linewidths.isotope)
    three, reference = (np.asarray(s.linewidths.three_phonon) for s in (mixed, double))
    assert three.dtype == np.float64
    difference = np.abs(three - reference).max() / reference.max()
    assert 1e-10 < difference < 1e-5  # not the same numbers, which would be double precision twice
    assert kappa_of(mixed) == pytest.approx(kappa_of(double), rel=1e-5)
    assert "single precision" in mixed.diagnostics().lines()[0]
    assert "single precision" not in double.diagnostics().lines()[0]


def test_what_is_single():
    plan, material, _, _ = problem("si-tersoff_m5")
    waves = wj.phonons(plan, material.constants.fc2)
    state = prepare(
        waves, material.constants.fc3, plan, jnp.array([300.0]), wj.Tetrahedron.for_plan(plan), None, CPU, "mixed"
    )
    assert {x.dtype for x in (state.rotation, *state.entries)} == {jnp.dtype("float32")}
    assert {x.dtype for x in (state.frequencies, state.projectors, state.occupation)} == {jnp.dtype("float64")}


def test_gradient():
    """By Φ3, along Φ3: κ ∝ 1/Φ3² where nothing but three phonons scatters."""
    plan, material, _, _ = problem("si-tersoff_m5")
    fc = material.constants

    def kappa(scale):
        found = wj.kappa(
            plan, wj.ForceConstants(fc.fc2, scale * fc.fc3), broadening=wj.AdaptiveGaussian(),
            scattering=wj.Scattering(isotope=None), precision="mixed",
        )  # fmt: skip
        return found.kappa_P[0, :3].sum()

    value, slope = jax.value_and_grad(kappa)(1.0)
    assert slope == pytest.approx(-2 * float(value), rel=1e-4)


def test_force_constants_of_a_potential():
    atoms = wj.prototype("Si")
    cells = wj.default_supercells(atoms, (1, 1, 1), (1, 1, 1))
    potential = wj.restrict(wj.load_potential("mace-bundled"), [14])
    double, mixed = (wj.force_constants(cells, potential, precision=p) for p in ("double", "mixed"))
    np.testing.assert_array_equal(mixed[0].fc2, double[0].fc2)
    third, reference = np.asarray(mixed[0].fc3), np.asarray(double[0].fc3)
    assert third.dtype == np.float64
    assert 1e-9 < np.abs(third - reference).max() / np.abs(reference).max() < 1e-4
    assert double[1].residual[1] < 1e-10 < mixed[1].residual[1] < 1e-4
    assert not any("fc3: residual" in line for line in mixed[1].warnings)
    # the fit is in double precision, and so is symmetry; sum rules are as good as the evaluations
    np.testing.assert_allclose(third, third.transpose(0, 2, 1, 3, 5, 4), rtol=0, atol=1e-12)
    assert 1e-10 < np.abs(third.sum(axis=1)).max() / np.abs(third).max() < 1e-4


@pytest.mark.parametrize("wrong", ["single", "", None, "Mixed"])
def test_other_words(wrong):
    plan, material, _, _ = problem("si-tersoff_m5")
    with pytest.raises(InputError, match="precision is"):
        wj.solve(plan, material.constants, precision=wrong)
    with pytest.raises(InputError, match="precision is"):
        wj.conductivity("Si", "tersoff-1989", precision=wrong)
