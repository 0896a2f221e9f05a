"""Every public pure function under every transform of JAX: jit, vmap, jvp, vjp and jvp of vjp.

    jit          equals the function called eagerly
    vmap         equals a loop
    jvp          equals central differences
    vjp          is the transpose of jvp (of differences where there is no jvp)
    jvp of vjp   equals central differences of vjp

Directions keep the crystal's symmetry: along others a degenerate mode has no derivative of its own (physics/eigh.py).
Where a function documents that a transform is not defined, the test asks for the error.
"""

from __future__ import annotations

import functools
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from original_programs import jit  # without optimised machine code, whose compilation would be most of the time
from solved_problems import analytic, contract, richardson, stepped, symmetric_direction, tersoff

import wigner_jax as wj
from wigner_jax import metrics
from wigner_jax._solve import kappa, linewidths, make_plan, phonons
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from wigner_jax.physics.broadening.tetrahedron import Tetrahedron
from wigner_jax.physics.conductivity import (
    boundary_linewidth,
    conductivity,
    green_kubo_heat_capacity,
    heat_capacity,
    kappa_tensors,
    mode_kappa_total,
    wigner_heat_capacity,
)
from wigner_jax.physics.degeneracy import same_degenerate_set
from wigner_jax.physics.spectra import spectrum
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.thermodynamics.expansion import mean_gruneisen
from wigner_jax.thermodynamics.gruneisen import ModeGruneisen
from wigner_jax.thermodynamics.quasi_harmonic import mode_entropy, mode_free_energy
from wigner_jax.training import losses
from wigner_jax.types import Phonons, Scattering
from wigner_jax.units import K_B, THZ_TO_EV

if TYPE_CHECKING:
    from collections.abc import Callable

TEMPERATURES = jnp.array([150.0, 300.0])
SCATTERING = Scattering("natural", jnp.asarray(1.0))


class Case(NamedTuple):
    """A function of one pytree of floats, a point, a direction, and how closely each transform is asked to agree."""

    function: Callable[[Any], Any]
    x: Any
    direction: Any
    step: float = 1e-3  # of differences, in units of the direction
    same: float = 1e-12  # jit and vmap, of the largest value
    close: float = 1e-8  # derivatives against differences, of the largest value
    forward: bool = True  # whether jvp is defined
    jit: Callable[..., Any] = jit


# ---------------------------------------------------------------- functions of arrays


def draws(*shapes: tuple[int, ...], low: float = 0.5, high: float = 1.5, seed: int = 0) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.uniform(low, high, shape)) for shape in shapes)


def of_arrays(function: Callable[..., Any], *x: jax.Array, **options: Any) -> Case:
    """Along a change of every argument in proportion to itself, each element by its own factor."""
    direction = jax.tree.map(lambda a, b: a * b, x, draws(*[a.shape for a in x], low=-1, high=1, seed=9))
    return Case(lambda y: function(*y), x, direction, **options)


FREQUENCIES, T = jnp.array([[2.0, 3.5, 3.6, 8.0], [1.0, 1.5, 6.0, 9.0]]), jnp.array([120.0, 300.0])
WEIGHTS = jnp.arange(1.0, 6)


def thermodynamics(f, t, modes):
    """Functions of frequencies (P, m), temperatures (T,) and mode Grüneisen parameters (P, m)."""
    return {
        "heat_capacity": heat_capacity(f, t),
        "wigner_heat_capacity": wigner_heat_capacity(f, t[0]),
        "green_kubo_heat_capacity": green_kubo_heat_capacity(f, t[0]),
        "mode_free_energy": mode_free_energy(f, t),
        "mode_entropy": mode_entropy(f, t),
        "mean_gruneisen": mean_gruneisen(modes, heat_capacity(f, t)),
        "average": ModeGruneisen(jnp.full((2, 3), 0.25), jnp.array([1, 3]), f, modes).average(t),
        "spectrum": spectrum(f, modes, 8, jnp.linspace(0, 10, 7), 0.5),
    }


def measures(a, b, scale):
    """Losses and metrics of predictions and references, both (T, P, m) and positive; `scale` () is an error bar."""
    kappa = [jnp.sum(x * WEIGHTS[:, None], (1, 2)) for x in (a, b)]
    tensors = [x[..., 0, :1] * jnp.arange(1.0, 7) for x in (a, b)]  # (T, 6)
    return {
        "average": metrics.average(tensors[0]),
        "sre": metrics.sre(*kappa),
        "srme": metrics.srme(a, b, WEIGHTS, *kappa),
        "gamma_sre": metrics.gamma_sre(*kappa),
        "log_loss": losses.log_loss(a, b),
        "relative_loss": losses.relative_loss(a, b),
        "tensor_loss": losses.tensor_loss(*tensors),
        "experiment_loss": losses.experiment_loss(*kappa, scale),
        "smooth_sre": losses.smooth_sre(a, b),
        "smooth_srme": losses.smooth_srme(a, b, WEIGHTS),
        "frequency_loss": losses.frequency_loss(a[0], b[0], WEIGHTS),
        "imaginary_penalty": losses.imaginary_penalty(a - 1.0, 0.2),
        "linewidth_loss": losses.linewidth_loss(a, b, WEIGHTS),
        "heat_capacity_loss": losses.heat_capacity_loss(a, b, WEIGHTS),
        "gruneisen_loss": losses.gruneisen_loss(a, b),
        "energy_loss": losses.energy_loss(a[0, 0, 0], b[0, 0, 0], 2, scale),
        "force_loss": losses.force_loss(a[0, :, :3], b[0, :, :3], scale),
        "stress_loss": losses.stress_loss(a[0, :3, :3], b[0, :3, :3], scale),
        "hessian_column_loss": losses.hessian_column_loss(a[0, :, :3], b[0, :, :3]),
    }


ARRAYS = {
    "thermodynamics": lambda: of_arrays(thermodynamics, FREQUENCIES, T, *draws((2, 4)), step=3e-4),
    "measures": lambda: of_arrays(measures, *draws((2, 5, 4), (2, 5, 4), ()), step=1e-4, close=1e-7),
}


# ---------------------------------------------------------------- the solver


@functools.cache
def silicon():
    """Supercells, plan of a 3 × 3 × 3 mesh, force constants and a change of them that keeps the symmetry."""
    cells, fc = analytic(bulk("Si", a=5.432), (2, 2, 2), (2, 2, 2))
    return cells, make_plan(cells, (3, 3, 3)), jax.tree.map(jnp.asarray, fc), symmetric_direction(cells, fc, 1)


def of_force_constants(function: Callable[..., Any], **options: Any) -> Case:
    _, plan, fc, direction = silicon()
    return Case(functools.partial(function, plan), fc, direction, **options)


def harmonic(plan, fc):
    """What does not depend on the gauge inside degenerate sets: f|f|, and |V|² of pairs weighted smoothly.

    Not f itself, which at Γ is the root of a rounding error.
    """
    waves = phonons(plan, fc.fc2)
    f = waves.frequencies[plan.mesh.irreducible]
    weight = 1 / (1 + (f[:, :, None] - f[:, None, :]) ** 2)
    V = waves.velocity_operator
    return {
        "eigenvalues": waves.frequencies * jnp.abs(waves.frequencies),
        "velocities": jnp.sum(weight[..., None] * (jnp.real(V) ** 2 + jnp.imag(V) ** 2), axis=(1, 2)),
    }


def steps(plan, fc):
    """Linewidths by a Gaussian, and κ from them."""
    waves = phonons(plan, fc.fc2)
    gamma = linewidths(plan, fc, waves, TEMPERATURES, broadening=Gaussian(0.5), scattering=SCATTERING)
    return {
        "three-phonon": gamma.three_phonon,
        "isotope": gamma.isotope,
        "boundary": gamma.boundary,
        "kappa": sum(kappa_tensors(waves, gamma.total, plan.mesh, plan.crystal, TEMPERATURES)),
    }


def kappa_with(broadening, plan, fc):
    return kappa(plan, fc, TEMPERATURES, broadening=broadening, scattering=SCATTERING).kappa_TOT


def tetrahedra() -> Case:
    _, plan, fc, _ = silicon()
    method = Tetrahedron.for_plan(plan).with_capacity(plan, fc)
    return of_force_constants(functools.partial(kappa_with, method), step=1e-4, same=1e-8, close=1e-4)


def transport(function: Callable[..., Any]) -> Case:
    """By frequencies, velocity operator, linewidths and temperatures, as far as `function` takes them."""
    _, plan, fc, _ = silicon()
    waves = phonons(plan, fc.fc2)
    f = waves.frequencies
    gamma = 0.01 + 1e-3 * f[plan.mesh.irreducible] ** 2
    x = (f, jnp.real(waves.velocity_operator), jnp.stack([gamma, 2 * gamma]), TEMPERATURES)
    direction = (0.1 * f * jnp.sin(f), 0.3 * x[1], x[2] * 0.4, jnp.array([30.0, -20.0]))
    return Case(lambda y: function(plan, Phonons(y[0], None, y[1] + 0j), *y[2:]), x, direction)


def of_parameters() -> Case:
    """κ by the potential's parameters at fixed geometry; its force constants define reverse mode only."""
    cells, plan, *_ = silicon()
    potential = wj.restrict(tersoff(), [14])
    at = wj.force_constants_fn(cells, potential)
    rng = np.random.default_rng(3)
    direction = jax.tree.map(lambda p: 0.1 * np.asarray(p) * rng.uniform(0, 1, np.shape(p)), potential.params)
    x = jax.tree.map(jnp.asarray, potential.params)
    return Case(lambda p: kappa_with(AdaptiveGaussian(), plan, at(p)), x, direction, same=1e-9, forward=False)


def of_positions() -> Case:
    """The energy of a distorted crystal by positions and parameters together."""
    potential = tersoff()
    atoms = bulk("SiC", "zincblende", a=4.32)
    atoms.rattle(0.05, seed=1)
    graph, _ = build_graph(atoms, potential)
    rng = np.random.default_rng(4)
    x = (jnp.asarray(graph.positions), jax.tree.map(jnp.asarray, potential.params))
    change = jax.tree.map(lambda p: 0.1 * p * rng.uniform(-1, 1, p.shape), x[1])
    direction = (0.1 * jnp.asarray(rng.uniform(-1, 1, x[0].shape)), change)
    return Case(lambda y: potential.energy(y[1], graph.at(y[0])), x, direction, close=1e-7)


SOLVER = {
    "potential energy": of_positions,
    "phonons": lambda: of_force_constants(harmonic, close=1e-7),
    "linewidths": lambda: of_force_constants(steps, step=1e-4, close=1e-6, same=1e-10),
    "kappa_tensors": lambda: transport(
        lambda plan, waves, gamma, t: sum(kappa_tensors(waves, gamma, plan.mesh, plan.crystal, t))
    ),
    "kappa_tensors, Green-Kubo": lambda: transport(
        lambda plan, waves, gamma, t: sum(
            kappa_tensors(waves, gamma, plan.mesh, plan.crystal, t, green_kubo_heat_capacity)
        )
    ),
    "conductivity": lambda: transport(
        lambda plan, waves, gamma, t: [
            g(conductivity(waves, gamma, plan.mesh, plan.crystal, t)) for g in (lambda c: c.kappa_TOT, mode_kappa_total)
        ]
    ),
    "boundary_linewidth": lambda: transport(
        lambda plan, waves, gamma, t: boundary_linewidth(
            waves.velocity_operator, waves.frequencies[plan.mesh.irreducible], t[0] / 100
        )
    ),
    "kappa, adaptive Gaussian": lambda: of_force_constants(
        functools.partial(kappa_with, AdaptiveGaussian()), step=1e-4, close=1e-6, same=1e-10
    ),
    "kappa, tetrahedra": tetrahedra,
    "kappa of force_constants_fn": of_parameters,
}
CASES = {**ARRAYS, **SOLVER}


# ---------------------------------------------------------------- transforms


class Programs(NamedTuple):
    """A case, its value at its point, and its compiled transforms."""

    case: Case
    value: Any  # at the point, called eagerly
    weights: Any  # a random cotangent
    function: Callable[[Any], Any]
    pull: Callable[[Any], Any]  # x → gradient of ⟨weights, f(x)⟩


@functools.cache
def programs(name: str) -> Programs:
    case = CASES[name]()
    value, rng = case.function(case.x), np.random.default_rng(5)
    weights = jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape)), value)
    pull = case.jit(lambda x: jax.vjp(case.function, x)[1](weights)[0])
    return Programs(case, value, weights, case.jit(case.function), pull)


@pytest.fixture
def problem(name) -> Programs:
    return programs(name)


def close(actual, expected, tolerance: float) -> None:
    """Every leaf, relative to its largest value."""
    for (path, a), b in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        where = jax.tree_util.keystr(path)
        assert np.isfinite(a).all(), where
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max() + 1e-300, err_msg=where)


#: each compiles a program of its own for half a minute; tests/solver/test_gradients.py has more of the same
SLOW = {
    "vmap": ("kappa, adaptive Gaussian", "kappa, tetrahedra", "kappa of force_constants_fn"),
    "jvp": ("kappa, adaptive Gaussian", "kappa, tetrahedra"),
    "vjp": ("kappa, tetrahedra", "kappa of force_constants_fn"),
    "jvp of vjp": ("kappa, adaptive Gaussian", "kappa, tetrahedra"),
}


def every(transform: str):
    return pytest.mark.parametrize(
        "name", [pytest.param(n, marks=pytest.mark.slow if n in SLOW.get(transform, ()) else ()) for n in CASES]
    )


@every("jit")
def test_jit(problem):
    close(problem.function(problem.case.x), problem.value, problem.case.same)


@every("vmap")
def test_vmap(problem):
    case = problem.case
    points = [stepped(case.x, case.direction, k * case.step) for k in (-1, 0, 1)]
    mapped = case.jit(jax.vmap(case.function))(jax.tree.map(lambda *x: jnp.stack(x), *points))
    for k, point in enumerate(points):
        close(jax.tree.map(lambda x, k=k: x[k], mapped), problem.function(point), case.same)


@every("jvp")
def test_jvp(problem):
    case, forward = problem.case, problem.case.jit(lambda x, d: jax.jvp(case.function, (x,), (d,))[1])
    if not case.forward:
        with pytest.raises(TypeError, match="custom_vjp"):
            forward(case.x, case.direction)
        return
    tangent = forward(case.x, case.direction)
    close(tangent, richardson(lambda h: problem.function(stepped(case.x, case.direction, h)), case.step), case.close)
    # and the transpose
    pulled = contract(problem.pull(case.x), case.direction)
    size = sum(
        float(jnp.sum(jnp.abs(w * t))) for w, t in zip(*map(jax.tree.leaves, (problem.weights, tangent)), strict=True)
    )
    assert abs(pulled - contract(problem.weights, tangent)) < 1e-11 * size


@every("vjp")
def test_vjp(problem):
    case = problem.case
    pulled = problem.pull(case.x)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pulled))
    numeric = richardson(lambda h: problem.function(stepped(case.x, case.direction, h)), case.step)
    terms = [
        jnp.abs(w) * jnp.abs(t).max() for w, t in zip(*map(jax.tree.leaves, (problem.weights, numeric)), strict=True)
    ]
    size = sum(float(jnp.sum(t)) for t in terms)
    assert abs(contract(pulled, case.direction) - contract(problem.weights, numeric)) < case.close * size


@every("jvp of vjp")
def test_jvp_of_vjp(problem):
    """d/dh of the gradient along a direction, taken along the same direction."""
    case = problem.case
    second = case.jit(lambda x, d: jax.jvp(lambda y: jax.vjp(case.function, y)[1](problem.weights)[0], (x,), (d,))[1])
    if not case.forward:
        with pytest.raises(TypeError, match="custom_vjp"):
            second(case.x, case.direction)
        return
    found = contract(second(case.x, case.direction), case.direction)

    def slope(h: float):
        return contract(problem.pull(stepped(case.x, case.direction, h)), case.direction)

    numeric, size = richardson(slope, case.step), abs(slope(0.0))
    assert abs(found - numeric) < 10 * case.close * (abs(numeric) + size)


# ---------------------------------------------------------------- heat capacities of pairs


def exact_green_kubo(f: float, g: float, t: float) -> Decimal:
    """k_B x y (n(x) - n(y)) / (y - x) with 50 digits."""
    with localcontext() as context:
        context.prec = 50
        x, y = (Decimal(v) * Decimal(THZ_TO_EV) / Decimal(K_B) / Decimal(t) for v in (f, g))
        n, m = (1 / (v.exp() - 1) for v in (x, y))
        return Decimal(K_B) * x * y * (n - m) / (y - x)


@pytest.mark.parametrize("t", [5.0, 300.0, 3000.0])
def test_green_kubo_heat_capacity_is_its_formula(t):
    f = np.array([0.5, 1.0, 1.0 + 1e-3, 7.0, 15.0])
    matrix = np.asarray(green_kubo_heat_capacity(jnp.asarray(f), jnp.asarray(t)))
    np.testing.assert_allclose(matrix, matrix.T, rtol=1e-15)
    for s, u in zip(*np.triu_indices(len(f), 1), strict=True):
        np.testing.assert_allclose(matrix[s, u], float(exact_green_kubo(f[s], f[u], t)), rtol=2e-8, atol=1e-300)


@pytest.mark.parametrize("matrix", [green_kubo_heat_capacity, wigner_heat_capacity])
def test_diagonal_is_the_heat_capacity(matrix):
    f, t = jnp.array([0.1, 1.0, 7.0, 15.0]), jnp.asarray(300.0)
    np.testing.assert_allclose(jnp.diagonal(matrix(f, t)), heat_capacity(f, t)[0], rtol=1e-13)


def test_theories_meet_where_frequencies_meet():
    """C_ss' of both differ by the square of the distance."""
    t = jnp.asarray(300.0)

    def gap(h: float) -> float:
        f = jnp.array([5.0, 5.0 + h])
        return float((green_kubo_heat_capacity(f, t) - wigner_heat_capacity(f, t))[0, 1] / K_B)

    assert abs(gap(0.0)) < 1e-15
    assert gap(0.2) / gap(0.1) == pytest.approx(4, rel=0.05)
    assert abs(gap(0.1)) > 1e-7


def test_green_kubo_heat_capacity_is_smooth_where_frequencies_meet():
    """Along f - h, f + h it is even in h: no slope, and the curvature of its formula."""

    def along(h):
        return green_kubo_heat_capacity(jnp.stack([5.0 - h, 5.0 + h]), jnp.asarray(300.0))[0, 1] / K_B

    slope = jax.grad(along)
    values = [float(exact_green_kubo(5.0 - h, 5.0 + h, 300.0)) / K_B for h in (0.05, 0.1)]
    curvature = 2 * (4 * (values[0] - float(along(0.0))) / 0.05**2 - (values[1] - float(along(0.0))) / 0.1**2) / 3
    assert abs(slope(0.0)) < 1e-12
    np.testing.assert_allclose([jax.grad(slope)(h) for h in (0.0, 2e-4)], curvature, rtol=1e-4)


def test_green_kubo_heat_capacity_far_above_the_temperature():
    """Where sinh would overflow."""
    matrix = green_kubo_heat_capacity(jnp.array([1.0, 30.0, 31.0]), jnp.asarray(1.0))
    assert np.isfinite(matrix).all()
    assert np.all(np.asarray(matrix) >= 0)


def test_degenerate_pairs_are_what_the_solver_calls_degenerate():
    """The crystal of these tests has degenerate sets at most of its points: the transforms above went through them."""
    _, plan, fc, _ = silicon()
    f = phonons(plan, fc.fc2).frequencies[plan.mesh.irreducible]
    sizes = np.asarray(same_degenerate_set(f)).sum(-1)
    assert np.mean(sizes > 1) > 0.3
