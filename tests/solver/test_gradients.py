"""Derivatives of the conductivity and of every linewidth, jvp and vjp, against central differences.

All directions keep the crystal's symmetry: along others a degenerate mode has no derivative of its own.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from reference_materials import load
from solved_problems import analytic, contract, richardson, stepped, symmetric_direction

from wigner_jax._solve import kappa, linewidths, make_plan, phonons
from wigner_jax.crystal.elements import natural_isotopes
from wigner_jax.physics.broadening.capacity import LEAST_CAPACITY
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from wigner_jax.physics.broadening.tetrahedron import Tetrahedron
from wigner_jax.physics.conductivity import kappa_tensors
from wigner_jax.physics.mesh_index import third_point
from wigner_jax.physics.nac import GonzeLee
from wigner_jax.plan.dipoles import dipole_plan
from wigner_jax.types import Scattering

tensors = jax.jit(kappa_tensors)
TEMPERATURES = jnp.array([100.0, 300.0])
SHARED = [pytest.mark.slow, pytest.mark.shared]
SMOOTH = {"gaussian": Gaussian(0.3), "adaptive": AdaptiveGaussian()}


@functools.cache
def wurtzite():
    return analytic(bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (3, 3, 2), (2, 2, 1))


def material(name: str):
    """cells, force constants"""
    if name == "wurtzite":
        return wurtzite()
    data = load(name)
    return data.cells, jax.tree.map(jnp.asarray, data.constants)


def everything(plan, fc, broadening, scattering, nac=None):
    """κ_TOT at every temperature, and the three kinds of linewidth of every irreducible mode."""
    waves = phonons(plan, fc.fc2, nac)
    gamma = linewidths(plan, fc, waves, TEMPERATURES, broadening=broadening, scattering=scattering, nac=nac)
    parts = tensors(waves, gamma.total, plan.mesh, plan.crystal, TEMPERATURES)
    return {
        "kappa": parts[0] + parts[1],
        "three_phonon": gamma.three_phonon,
        "isotope": gamma.isotope,
        "boundary": gamma.boundary,
    }


def scattering_of(plan) -> Scattering:
    return Scattering(jnp.asarray(natural_isotopes(plan.crystal)), jnp.asarray(1.0))


def check(function, x, direction, h: float, tolerance: float, forward: bool = True):
    """vjp against differences, and jvp, each output relative to its largest value; vjp is the transpose of jvp.

    The values for the differences are those that come with vjp: one compilation less.
    """
    numeric = richardson(lambda step: jax.vjp(function, stepped(x, direction, step))[0], h)
    value, pull = jax.vjp(function, x)
    rng = np.random.default_rng(0)
    for name in value:
        scale = np.abs(numeric[name]).max()
        weights = jax.tree.map(jnp.zeros_like, value)
        weights[name] = jnp.asarray(rng.normal(size=value[name].shape))
        pulled = pull(weights)[0]
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pulled))
        norm = float(np.linalg.norm(weights[name]))
        expected = contract(weights[name], numeric[name])
        np.testing.assert_allclose(
            contract(pulled, direction), expected, rtol=0, atol=tolerance * scale * norm, err_msg=name
        )
    if forward:
        tangent = jax.jvp(function, (x,), (direction,))[1]
        for name in value:
            scale = np.abs(numeric[name]).max()
            np.testing.assert_allclose(tangent[name], numeric[name], rtol=0, atol=tolerance * scale, err_msg=name)
        np.testing.assert_allclose(contract(pulled, direction), contract(weights, tangent), rtol=1e-9, atol=1e-300)


# ---------------------------------------------------------------- force constants


@pytest.mark.parametrize(
    ("name", "dims", "broadening"),
    [
        ("nacl-mace", (4, 4, 4), "adaptive"),
        pytest.param("si-tersoff", (4, 4, 4), "gaussian", marks=pytest.mark.slow),
        pytest.param("Si", (5, 5, 5), "adaptive", marks=SHARED),
        pytest.param("NaCl", (5, 5, 5), "gaussian", marks=SHARED),
        pytest.param("wurtzite", (3, 3, 2), "gaussian", marks=pytest.mark.slow),
        pytest.param("wurtzite", (4, 4, 3), "adaptive", marks=pytest.mark.slow),
    ],
)
@pytest.mark.as_shipped
def test_smooth_broadenings(name, dims, broadening):
    """Every mode of Γ, of the zone boundary and in between, along changes of Φ2 and of Φ3, one after the other."""
    cells, fc = material(name)
    plan = make_plan(cells, dims)
    function = functools.partial(everything, plan, broadening=SMOOTH[broadening], scattering=scattering_of(plan))
    for seed in range(2):
        direction = symmetric_direction(cells, fc, seed)
        zero = jax.tree.map(np.zeros_like, direction)
        parts = [
            dataclasses.replace(zero, fc2=direction.fc2),
            dataclasses.replace(zero, fc3=direction.fc3),
            direction,
        ]
        for part in parts[seed : 2 + seed]:
            check(function, fc, part, 1e-5, 1e-6)


# ---------------------------------------------------------------- charges, scattering terms


def test_born_charges_and_isotopes():
    """κ of NaCl by its charges, dielectric constant, mass variances and mean free path, all in one direction."""
    data = load("nacl-mace")
    plan, fc = make_plan(data.cells, (3, 3, 3)), data.constants
    dipoles = dipole_plan(data.cells.crystal, data.cells.fc2_supercell)

    def function(x):
        born, scattering = x
        return {
            "kappa": sum(
                kappa(
                    plan, fc, TEMPERATURES, broadening=Gaussian(0.3), scattering=scattering, nac=GonzeLee(born, dipoles)
                )
            )[:, :3]
        }

    born = jax.tree.map(jnp.asarray, data.born)
    x = (born, scattering_of(plan))
    zero = jax.tree.map(jnp.zeros_like, x)
    charges = (dataclasses.replace(zero[0], charges=born.charges, dielectric=-0.3 * born.dielectric), zero[1])
    terms = (zero[0], jax.tree.map(lambda v: 0.7 * v, x[1]))
    check(function, x, charges, 1e-3, 1e-6, forward=False)
    check(function, x, terms, 1e-3, 1e-6, forward=False)


# ---------------------------------------------------------------- tracing


@pytest.fixture(scope="module")
def silicon():
    cells, fc = analytic(bulk("Si", a=5.432), (2, 2, 2), (2, 2, 2))
    return cells, jax.tree.map(jnp.asarray, fc)


def test_tetrahedra_under_tracing_need_their_capacity(silicon):
    """How many processes are on shell is a number that tracing cannot know."""
    cells, fc = silicon
    plan = make_plan(cells, (2, 2, 2))
    with pytest.raises(ValueError, match="capacity"):
        jax.jit(lambda x: kappa(plan, x, broadening=Tetrahedron.for_plan(plan)))(fc)


def test_a_capacity_outgrown_is_reported(silicon):
    """Too many processes on shell for the reserved room: NaN and a flag, never a wrong number."""
    cells, fc = silicon
    plan = make_plan(cells, (7, 7, 7))
    method = Tetrahedron.for_plan(plan).with_capacity(plan, fc)
    assert method.capacity is not None
    assert method.capacity[0][0] > LEAST_CAPACITY
    small = dataclasses.replace(method, capacity=tuple((LEAST_CAPACITY // 2, *r[1:]) for r in method.capacity))
    waves = phonons(plan, fc.fc2)
    for broadening, fits in ((method, True), (small, False)):
        gamma = linewidths(plan, fc, waves, TEMPERATURES, broadening=broadening, scattering=scattering_of(plan))
        assert bool(gamma.overflow) != fits
        assert bool(np.isfinite(gamma.three_phonon).all()) == fits
        found = kappa(plan, fc, TEMPERATURES, broadening=broadening, scattering=scattering_of(plan)).kappa_TOT
        assert np.isfinite(found).all() if fits else np.isnan(found).all()


@pytest.mark.parametrize("broadening", ["gaussian", pytest.param("adaptive", marks=pytest.mark.slow)])
def test_memory_of_the_backward_pass_is_that_of_one_group(silicon, broadening):
    """Eight times as many groups of irreducible points, each as costly as before: the same temporary memory."""
    cells, fc = silicon
    plan = make_plan(cells, (4, 4, 4))
    sizes = []
    for copies in (4, 32):
        bucket = jax.tree.map(lambda x, k=copies: np.concatenate([x] * k), plan.triplets[0])
        many = dataclasses.replace(plan, triplets=(bucket,))

        @jax.jit
        @jax.value_and_grad
        def total(fc, many=many):
            waves = phonons(many, fc.fc2)
            gamma = linewidths(
                many, fc, waves, TEMPERATURES, broadening=SMOOTH[broadening], scattering=Scattering(jnp.ones(2))
            )
            return jnp.sum(gamma.three_phonon) + jnp.sum(gamma.isotope)

        sizes.append(total.lower(fc).compile().memory_analysis().temp_size_in_bytes)
    assert sizes[1] < 1.1 * sizes[0]


# ---------------------------------------------------------------- tetrahedra


def sign_changes(plan, before, after) -> int:
    """Values f0 ± f1 ± f2 at vertices that change sign: the kinks of the weights between two sets of phonons."""
    dims, m = plan.mesh.dims, before.frequencies.shape[1]
    Q, count = len(plan.mesh.qpoints), 0
    for q in np.asarray(plan.mesh.irreducible):
        partner = third_point(q, np.arange(Q), dims)
        signs = []
        for waves in (before, after):
            f = np.asarray(waves.frequencies)
            f0, f1, f2 = f[q][:, None, None], f[:, None, :, None], f[partner][:, None, None, :]
            signs.append(np.stack([np.sign(f0 - a * f1 - b * f2) for a, b in ((1, 1), (-1, 1), (1, -1))]))
        count += int(np.sum(signs[0] != signs[1]))
    assert signs[0].shape == (3, Q, m, m, m)
    return count


@pytest.mark.parametrize(
    ("name", "dims"),
    [("si-tersoff", (4, 4, 4)), pytest.param("NaCl", (5, 5, 5), marks=SHARED),
     pytest.param("wurtzite", (4, 4, 3), marks=pytest.mark.slow)],
)  # fmt: skip
@pytest.mark.as_shipped
def test_tetrahedra(record_property, name, dims):
    """Along 20 directions, kinks or not: the weights are continuous, so that a kink inside the step costs little.

    κ itself jumps by some 1e-9 of its value where an exact tie of frequencies at a vertex is decided by rounding. Such a
    jump spoils a difference, but not those of two steps at once.
    """
    cells, fc = material(name)
    plan = make_plan(cells, dims)
    function = functools.partial(
        everything, plan, broadening=Tetrahedron.for_plan(plan).with_capacity(plan, fc), scattering=scattering_of(plan)
    )
    steps, crossing = (1e-4, 3e-5), []
    for seed in range(20):
        direction = symmetric_direction(cells, fc, seed)
        value, tangent = jax.jvp(function, (fc,), (direction,))
        waves = [phonons(plan, stepped(fc, direction, s * steps[0]).fc2) for s in (-1, 1)]
        crossing.append(sign_changes(plan, *waves))
        errors = {key: [] for key in value}
        for h in steps:
            down, up = (function(stepped(fc, direction, s * h)) for s in (-1, 1))
            for key in value:
                numeric = (up[key] - down[key]) / (2 * h)
                errors[key].append(np.abs(tangent[key] - numeric).max() / np.abs(numeric).max())
        assert {key: min(e) for key, e in errors.items() if not min(e) < 1e-4} == {}, f"direction {seed}"
    share = np.mean(np.array(crossing) > 0)
    print(f"{100 * share:.0f} % of the directions cross a kink within the step, {np.mean(crossing):.0f} kinks each")
    record_property("share_of_directions_that_cross_a_kink", float(share))
    # reverse mode once, along the last direction
    pulled = jax.vjp(function, fc)[1](jax.tree.map(jnp.ones_like, value))[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pulled))
    np.testing.assert_allclose(contract(pulled, direction), sum(map(jnp.sum, tangent.values())), rtol=1e-9)
