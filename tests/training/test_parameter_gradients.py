"""dκ/dθ through the force constants, against central differences; sampled gradients; temperature and masses."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from wigner_jax import metrics
from wigner_jax._solve import kappa, solve
from wigner_jax.crystal.elements import natural_isotopes
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.errors import InputError
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian
from wigner_jax.potentials.registry import load_potential
from wigner_jax.relaxation.newton import relax
from wigner_jax.thermodynamics.gruneisen import gruneisen_by_third_order
from wigner_jax.training.on_conductivity.gradient import Sampling, systematic, value_and_grad
from wigner_jax.training.on_conductivity.material import make_material, pad_to_common_shapes, solution_of, subset
from wigner_jax.training.on_conductivity.targets import Target, make_loss
from wigner_jax.training.parameters import adapt
from wigner_jax.types import Scattering


def log_kappa(solution):
    k = metrics.average(solution.conductivity.kappa_TOT)
    return jnp.mean(jnp.log(k)), k


def tersoff_case(name: str):
    potential = load_potential("tersoff-1989")
    atoms = bulk("Si", a=5.432) if name == "Si" else bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378)
    cells = supercells_from_atoms(atoms, *(((2, 2, 2), (2, 2, 2)) if name == "Si" else ((2, 2, 2), (2, 2, 1))))
    mesh = (3, 3, 3) if name == "Si" else (3, 3, 2)
    return potential, make_material(name, cells, potential, mesh, (300.0,))


@pytest.fixture(scope="module")
def silicon():
    return tersoff_case("Si")


def directions(params, count: int, seed: int = 0, skip=()):
    """Random changes of all parameters, each as large as the parameter itself."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield {k: (k not in skip) * np.abs(v) * rng.standard_normal(np.shape(v)) for k, v in params.items()}


def check(potential, material, count: int, h: float, skip=(), tolerance: float = 1e-5, loss=log_kappa) -> None:
    """Central differences of fourth order in random directions of all parameters at once.

    The step must be short: κ has small jumps where an accidental degeneracy opens or closes (linewidths are averaged over
    blocks of modes closer than 1e-4 THz), and the narrowest Gaussians are 0.01 THz wide.
    """
    gradient = value_and_grad(material, potential.energy, loss)(potential.params)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient.params))
    assert gradient.noise == (0, 0)

    def at(x, direction):
        params = {k: v + x * direction[k] for k, v in potential.params.items()}
        solution = material.solution(material.force_constants(potential.energy, params))
        return float(loss(solution)[0])

    assert at(0, dict.fromkeys(potential.params, 0.0)) == pytest.approx(float(gradient.value), rel=1e-12)
    for direction in directions(potential.params, count, skip=skip):
        slope = sum(float(np.vdot(gradient.params[k], d)) for k, d in direction.items())
        f = {k: at(k * h, direction) for k in (-2, -1, 1, 2)}
        expected = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
        np.testing.assert_allclose(slope, expected, rtol=tolerance)


CUTOFFS = ("R", "S")  # no atom is near them: no derivative


@pytest.mark.as_shipped
def test_tersoff_silicon(silicon):
    """20 random directions, 1e-5 relative."""
    check(*silicon, 20, 2e-6, CUTOFFS)


def test_beyond_the_relaxation_time_approximation():
    """κ by the full linearised equation as a target: its value is that of `solve`, its gradient that of differences."""
    potential = load_potential("tersoff-1989")
    cells = supercells_from_atoms(bulk("SiC", "zincblende", a=4.32), (1, 1, 1), (1, 1, 1))
    material = make_material("SiC", cells, potential, (3, 3, 3), (300.0,), transport="lbte")
    fc = material.force_constants(potential.energy, potential.params)
    solved = solve(material.plan, fc, (300.0,), broadening=material.broadening, transport="lbte", allow_imaginary=True)
    np.testing.assert_allclose(material.solution(fc).conductivity.kappa_P, solved.full.kappa_P, rtol=1e-9, atol=1e-9)
    assert abs(solved.full.kappa_P[0, 0] / solved.conductivity.kappa_P[0, 0] - 1) > 1e-3
    check(potential, material, 2, 2e-6, CUTOFFS)
    loss = make_loss(material, [Target("kappa", 1.0, {"value": 200.0})])
    assert loss(material.solution(fc))[1]["kappa"][0] == pytest.approx(solved.kappa[0, :3].mean(), rel=1e-9)
    with pytest.raises(InputError, match="target srme is of modes"):
        make_loss(material, [Target("srme", 1.0)])
    with pytest.raises(InputError, match="q-points cannot be drawn"):
        value_and_grad(material, potential.energy, log_kappa, Sampling(points=2))(potential.params)


@pytest.mark.slow
def test_tersoff_wurtzite():
    check(*tersoff_case("wurtzite"), 20, 2e-6, CUTOFFS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Si", pytest.param("wurtzite", marks=pytest.mark.slow)])
def test_gruneisen_target(name):
    """γ(T) of the loss is that of the same force constants by the usual route, and has its gradient by θ and masses."""
    potential, material = tersoff_case(name)
    fc = material.force_constants(potential.energy, potential.params)
    gamma = float(gruneisen_by_third_order(material.supercells, fc, material.plan.mesh.dims).average((300.0,))[0])
    loss = make_loss(material, [Target("gruneisen", 2.0, {"value": 0.5 * gamma})])
    value, _ = loss(material.solution(fc))
    np.testing.assert_allclose(value, 2.0, rtol=1e-9)  # (γ - γ/2)²/(γ/2)² = 1
    check(potential, material, 4, 1e-5, CUTOFFS, loss=loss)

    masses, h = material.conditions.masses, 1e-4
    at = [
        float(loss(material.solution(fc, dataclasses.replace(material.conditions, masses=masses * x)))[0])
        for x in (1 + h, 1 - h)
    ]
    slope = value_and_grad(material, potential.energy, loss)(potential.params).conditions.masses
    np.testing.assert_allclose(np.vdot(slope, masses), (at[0] - at[1]) / (2 * h), rtol=1e-5)


def test_a_gruneisen_target_needs_a_value(silicon):
    for options, text in (({}, "needs a value"), ({"value": 0.0}, "must not be 0")):
        with pytest.raises(InputError, match=text):
            make_loss(silicon[1], [Target("gruneisen", 1.0, options)])


CRYSTALS = {  # structure, supercells of Φ2 and Φ3, mesh
    "Si": (bulk("Si", a=5.432), (2, 2, 2), (2, 2, 2), (3, 3, 3)),
    "LiBr": (bulk("LiBr", "rocksalt", a=5.51), (2, 2, 2), (2, 2, 2), (3, 3, 3)),
    "NaCl wurtzite": (bulk("NaCl", "wurtzite", a=5.0, c=6.4), (2, 2, 2), (2, 2, 1), (3, 3, 2)),
    "BeO wurtzite": (bulk("BeO", "wurtzite", a=2.70, c=4.38, u=0.378), (2, 2, 2), (2, 2, 1), (3, 3, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Si", "LiBr", "NaCl wurtzite"])
def test_bundled_mace(name):
    """20 directions in all its parameters."""
    neural_case(load_potential("mace-bundled"), name, 3e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Si", "LiBr", "BeO wurtzite"])
def test_nequix(shared, name):
    """Weights of a published model. 20 directions in all 707,658 parameters."""
    path = shared / "weights/nequix-mp-1.nqx"
    if not path.is_file():
        pytest.skip(f"weights not found: {path}")
    neural_case(load_potential(path), name, 1e-5)


def neural_case(potential, name: str, h: float) -> None:
    atoms, fc2, fc3, mesh = CRYSTALS[name]
    if "wurtzite" in name:  # stable at the model's own internal coordinate
        atoms, _ = relax(atoms, potential)
    material = make_material(name, supercells_from_atoms(atoms, fc2, fc3), potential, mesh, (300.0,))
    solution = material.solution(material.force_constants(potential.energy, potential.params))
    assert (
        np.sort(np.asarray(solution.phonons.frequencies), axis=None)[3:].min() > 0.1
    )  # THz, but for Γ's acoustic modes
    check(potential, material, 20, h)


# --- other derivatives -----------------------------------------------------------------------------------------------


def test_temperature_masses_and_isotopes(silicon):
    potential, material = silicon
    gradient = value_and_grad(material, potential.energy, log_kappa)(potential.params)
    fc = material.force_constants(potential.energy, potential.params)
    bars = gradient.conditions

    def at(**changes):
        conditions = dataclasses.replace(material.conditions, **changes)
        return float(log_kappa(solution_of(material.plan, fc, conditions, material.broadening, None))[0])

    start, h = material.conditions, 1e-4
    T = start.temperatures
    slope = (at(temperatures=T * (1 + h)) - at(temperatures=T * (1 - h))) / (2 * h * 300)
    np.testing.assert_allclose(bars.temperatures[0], slope, rtol=1e-6)
    # both masses at once: one alone would break the symmetry of diamond
    slope = (at(masses=start.masses * (1 + h)) - at(masses=start.masses * (1 - h))) / (2 * h)
    np.testing.assert_allclose(np.vdot(bars.masses, start.masses), slope, rtol=1e-5)
    g = start.scattering.isotope
    slope = (at(scattering=Scattering(g * (1 + h))) - at(scattering=Scattering(g * (1 - h)))) / (2 * h)
    np.testing.assert_allclose(np.vdot(bars.scattering.isotope, g), slope, rtol=1e-6)


@pytest.mark.slow
def test_materials_share_shapes():
    """A denser silicon has its second neighbours within the cutoff. Padding to its lengths changes no result."""
    potential = load_potential("stillinger-weber-si")
    cells = [supercells_from_atoms(bulk("Si", a=a), (2, 2, 2), (2, 2, 2)) for a in (5.431, 5.30)]
    alone = [make_material(f"Si {k}", c, potential, (3, 3, 3)) for k, c in enumerate(cells)]
    edges = [len(m.constants.graph2.senders) for m in alone]
    assert edges[0] < edges[1]
    assert [len(m.constants.graph3.senders) for m in pad_to_common_shapes(alone, 2.0)] == edges  # too different
    shared = pad_to_common_shapes(alone, 100.0)
    assert [len(m.constants.graph2.senders) for m in shared] == [edges[1]] * 2
    assert len({jax.tree.structure(m.constants) for m in shared}) == 1
    assert len({str(jax.tree.map(jnp.shape, m.constants)) for m in shared}) == 1
    expected, found = (value_and_grad(m[0], potential.energy, log_kappa)(potential.params) for m in (alone, shared))
    for a, b in zip(jax.tree.leaves(expected.params), jax.tree.leaves(found.params), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
    with pytest.raises(InputError, match="ratio must be at least 1"):
        pad_to_common_shapes(alone, 0.5)


def test_conditions_given_as_integers(silicon):
    """Elements of one isotope have no variance, whatever the type of the zeros; both have a derivative."""
    potential, material = silicon
    both = [
        make_material("Si", material.supercells, potential, (3, 3, 3), (T,), scattering=Scattering(g, mfp))
        for T, g, mfp in ((300.0, np.zeros(2), 10.0), (300, np.zeros(2, int), 10))
    ]
    expected, found = (value_and_grad(m, potential.energy, log_kappa)(potential.params) for m in both)
    leaves = [jax.tree.leaves((gradient.value, gradient.conditions)) for gradient in (expected, found)]
    for a, b in zip(*leaves, strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(found.conditions.scattering.boundary_mfp) > 0


def test_elements_of_one_isotope():
    assert (
        natural_isotopes(supercells_from_atoms(bulk("NaF", "rocksalt", a=4.63), (1, 1, 1), (1, 1, 1)).crystal).dtype
        == float
    )


@pytest.mark.slow
def test_the_split_gradient_is_jax_grad_of_the_whole(silicon):
    potential, material = silicon

    def whole(params):
        fc = material.force_constants(potential.energy, params)
        return jnp.log(sum(kappa(material.plan, fc, broadening=AdaptiveGaussian()))[0, :3].mean())

    expected = jax.grad(whole)(potential.params)
    found = value_and_grad(material, potential.energy, log_kappa)(potential.params).params
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-12 * np.abs(value).max() + 1e-300)


def test_frozen_parameters_change_nothing(silicon):
    potential, material = silicon
    energy, trained, frozen = adapt(potential, train=["A", "B"], freeze=["B"])
    assert set(trained) == {"A"}
    part = value_and_grad(material, energy, log_kappa)(trained, frozen)
    whole = value_and_grad(material, potential.energy, log_kappa)(potential.params)
    np.testing.assert_allclose(part.params["A"], whole.params["A"], rtol=1e-10)
    assert part.value == pytest.approx(float(whole.value), rel=1e-13)


# --- sampling --------------------------------------------------------------------------------------------------------


def test_a_subset_of_points_has_their_linewidths(silicon):
    potential, material = silicon
    fc = material.force_constants(potential.energy, potential.params)
    whole = material.solution(fc)
    points = np.array([3, 0, 3, 2])
    part = solution_of(subset(material.plan, points), fc, material.conditions, material.broadening, None)
    np.testing.assert_allclose(part.linewidths.total, whole.linewidths.total[:, points], rtol=1e-11, atol=1e-15)
    np.testing.assert_allclose(
        part.conductivity.mode_kappa_P, whole.conductivity.mode_kappa_P[:, points], rtol=1e-11, atol=1e-12
    )


def test_systematic_samples_have_their_probabilities():
    weight = np.array([5.0, 0.0, 1.0, 1.0, 2.0, 0.3])
    counts, inverse = np.zeros(6), np.zeros(6)
    for seed in range(4000):
        drawn, scale = systematic(weight, 3, np.random.default_rng(seed))
        assert len(set(drawn)) == 3
        counts[drawn] += 1
        inverse[drawn] += scale
    np.testing.assert_allclose(inverse / 4000, 1.0, atol=0.15)  # E[1/π] = 1 for every item: no bias
    assert counts[0] == 4000  # capped at certainty
    assert counts[1] > 0  # out of no one's reach


def test_sampled_gradients_are_unbiased_and_say_how_noisy_they_are(silicon):
    """At the force constants, where the draws are: the mean of many is the exact cotangent, within its own standard error."""
    from wigner_jax.training.on_conductivity.gradient import EXACT, value_and_fc_cotangent

    potential, material = silicon
    fc = material.force_constants(potential.energy, potential.params)
    _, _, _, (exact, _), noise = value_and_fc_cotangent(material, fc, log_kappa, EXACT, np.random.default_rng(0))
    assert noise == 0
    mean, squares, errors, n = 0.0, 0.0, [], 12
    for seed in range(n):
        bars, error = value_and_fc_cotangent(
            material, fc, log_kappa, Sampling(points=3, draws=2), np.random.default_rng(seed)
        )[3:]
        x = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(bars[0])])
        mean, squares = mean + x / n, squares + x**2 / n
        errors.append(float(error))
    spread = np.sqrt(np.maximum(squares - mean**2, 0).sum())
    exact = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(exact)])
    size = np.linalg.norm(exact)
    assert 0.02 < spread / size < 2  # it is a sample
    assert np.linalg.norm(mean - exact) < 2.5 * spread / np.sqrt(n)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread / size, rel=0.5)


def test_all_points_drawn_is_exact(silicon):
    potential, material = silicon
    exact = value_and_grad(material, potential.energy, log_kappa)(potential.params)
    P = len(material.plan.mesh.irreducible)
    drawn = value_and_grad(material, potential.energy, log_kappa, Sampling(P, 1, 99))(potential.params, None, 3)
    for name, value in exact.params.items():
        np.testing.assert_allclose(drawn.params[name], value, rtol=1e-8, atol=1e-12)
    assert np.isnan(drawn.noise[0])  # one draw does not know its error


def test_sampled_patterns_are_unbiased(silicon):
    from wigner_jax.training.on_conductivity.gradient import pullback_to_params

    potential, material = silicon
    rng = np.random.default_rng(1)
    fc = material.force_constants(potential.energy, potential.params)
    bars = jax.tree.map(lambda x: x * 0.01, fc)
    exact, _ = pullback_to_params(potential.energy, potential.params, None, material.constants, bars)
    assert material.constants.fit3.n_evaluations == 2
    draws = [
        pullback_to_params(potential.energy, potential.params, None, material.constants, bars, 1, rng)
        for _ in range(40)
    ]
    a = np.array([float(d[0]["A"][1]) for d in draws])
    assert a.std() > 0
    assert abs(a.mean() - float(exact["A"][1])) < 3 * a.std() / np.sqrt(len(a))
    assert all(np.isnan(float(d[1])) for d in draws)  # one pattern does not know its error
