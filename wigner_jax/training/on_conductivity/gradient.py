"""A function of the solution and its derivative by the parameters of the potential, split at the force constants.

    θ ─force constants─► Φ ─solver─► solution ─loss─► L

    forward:   Φ(θ), one pattern after the other; L and its cotangent Φ̄ = ∂L/∂Φ from the solver alone
    backward:  ∂L/∂θ = ∂⟨Φ̄, Φ(θ)⟩/∂θ = Σ_k ∂/∂θ ∂^m E(θ)[w_k, u_k, ...]     (ifc/autodiff.py)

Neither tape knows of the other: the solver's is that of one group of q-points, the potential's that of one pattern, however
many there are of either.

Sampling. Both sums may be sampled, with an expectation that is the exact gradient. The linewidths' sum over irreducible
points p is, at fixed cotangents γ̄ = ∂L/∂γ (from an exact forward pass, so that L may be any function),

    Φ̄ = Φ̄|_γ + Σ_p ⟨γ̄_p, ∂γ_p/∂Φ⟩  ≈  Φ̄|_γ + Σ_{p drawn} (1/π_p) ⟨γ̄_p, ∂γ_p/∂Φ⟩,

where π_p ∝ |γ̄_p|·γ_p (capped at 1) is the probability that p is drawn in a systematic sample of fixed size (Madow's; its
mean is exact, Horvitz and Thompson 1952). Only the harmonic part and the forward pass see all points. The sum over the
patterns k is drawn in the same way with π_k ∝ |w_k|. Independent draws give the variance of their mean.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.programs import program
from ..._core.pytree import pytree
from ..._solve import linewidths, phonons_of
from ...errors import InputError
from ...ifc.autodiff import summed_gradient
from ...ifc.evaluations import directional_energy
from ...ifc.least_squares import pattern_weights
from ...solution import Solution
from ...types import ForceConstants, Linewidths, Scattering
from .material import Conditions, Material, conductivity, subset

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.pytree import Array
    from ...ifc.autodiff import ForceConstantsPlan
    from ...ifc.displacement_patterns import Fit
    from ...potentials.base import Energy, Params
    from ...potentials.graph import Graph

    Loss = Callable[[Solution], tuple[Array, Any]]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How many terms of the two sums are drawn. None takes all of them: exact."""

    points: int | None = None  # irreducible q-points in a draw; 16 share one pass over Φ3
    draws: int = 2  # independent draws of points, averaged; from two on their spread is known
    patterns: int | None = None  # patterns of Φ3


EXACT = Sampling()


@pytree()
class Gradient:
    """What one evaluation gives."""

    value: Array  # ()
    aux: Any  # what the loss returned beside its value
    params: Any  # ∂L/∂θ, like the parameters
    constants: ForceConstants  # Φ̄ = ∂L/∂Φ
    conditions: Conditions  # ∂L/∂(temperatures, masses, isotope variances, ...) at fixed Φ
    solution: Solution
    noise: tuple[Array, Array]  # standard error over norm, of Φ̄ (points) and of ∂L/∂θ (patterns); 0 exact, NaN unknown


def value_and_grad(
    material: Material, energy: Energy, loss: Loss, sampling: Sampling = EXACT
) -> Callable[..., Gradient]:
    """(params, frozen=None, seed=0) → `Gradient` of loss(solution) → (value, aux).

    Args:
        energy: of the potential the material was made for, `potential.energy`; or `Adapted`, which takes (params, frozen).
        loss: traced by JAX, sees phonons, linewidths and conductivity of the material.

    The result's function takes the parameters to differentiate by, those that are not, and a seed for draws.
    """

    def evaluate(params: Params, frozen: Params = None, seed: Any = 0) -> Gradient:
        rng = np.random.default_rng(seed)
        fc = material.force_constants(energy, params if frozen is None else (params, frozen))
        value, aux, solution, bars, q_noise = value_and_fc_cotangent(material, fc, loss, sampling, rng)
        slopes, p_noise = pullback_to_params(
            energy, params, frozen, material.constants, bars[0], sampling.patterns, rng
        )
        return Gradient(value, aux, slopes, *bars, solution, (q_noise, p_noise))

    return evaluate


def value_and_fc_cotangent(
    material: Material, fc: ForceConstants, loss: Loss, sampling: Sampling, rng: np.random.Generator
) -> tuple[Array, Any, Solution, tuple[ForceConstants, Conditions], Array]:
    """L, aux, solution, (Φ̄, ∂L/∂conditions) and the relative standard error of Φ̄."""
    inputs = (fc, material.conditions)
    if sampling.points is None:

        def whole(inputs: Any) -> tuple[Array, Any]:
            solution = material.solution(*inputs)
            value, aux = loss(solution)
            return value, (aux, solution)

        (value, (aux, solution)), bars = jax.value_and_grad(whole, has_aux=True)(inputs)
        return value, aux, solution, bars, jnp.zeros(())

    if material.stars is not None:
        raise InputError("q-points cannot be drawn with transport: lbte", "leave sampling.points out")
    waves = phonons_of(material.plan, fc.fc2, material.nac)
    T, scattering = material.conditions.temperatures, material.conditions.scattering
    gamma = linewidths(
        material.plan, fc, waves, T, broadening=material.broadening, scattering=scattering, nac=material.nac
    )

    def rest(inputs: tuple[ForceConstants, Conditions], three: Array, isotope: Array) -> tuple[Array, Any]:
        solution = _harmonic(material, inputs[0], inputs[1], three, isotope)
        value, aux = loss(solution)
        return value, (aux, solution)

    (value, (aux, solution)), (bars, *gamma_bars) = jax.value_and_grad(rest, argnums=(0, 1, 2), has_aux=True)(
        inputs, gamma.three_phonon, gamma.isotope
    )
    share = jnp.sum(jnp.abs(gamma_bars[0] * gamma.three_phonon), axis=(0, 2))
    weight = np.asarray(share + jnp.sum(jnp.abs(gamma_bars[1] * gamma.isotope), axis=1))
    drawn = []
    for _ in range(sampling.draws):
        points, scale = systematic(weight, sampling.points, rng)
        drawn.append(_part(material, inputs, points, [b[..., points, :] * scale[:, None] for b in gamma_bars]))
    mean = jax.tree.map(lambda *x: sum(x) / len(x), *drawn)
    total = jax.tree.map(jnp.add, bars, mean)
    spread = _norm2(*(jax.tree.map(jnp.subtract, d[0], mean[0]) for d in drawn))
    n = len(drawn)
    error = jnp.sqrt(spread / (n * (n - 1)) / _norm2(total[0])) if n > 1 else jnp.array(jnp.nan)
    return value, aux, solution, total, error


def _harmonic(material: Material, fc: ForceConstants, conditions: Conditions, three: Array, isotope: Array) -> Solution:
    """The solution with given linewidths of three phonons and isotopes."""
    from ...physics.conductivity import boundary_linewidth

    plan = conditions.plan(material.plan)
    waves = phonons_of(plan, fc.fc2, material.nac)
    boundary = jnp.zeros_like(isotope)
    if conditions.scattering.boundary_mfp is not None:
        f = waves.frequencies[jnp.asarray(plan.mesh.irreducible)]
        boundary = boundary_linewidth(waves.velocity_operator, f, conditions.scattering.boundary_mfp)
    gamma = Linewidths(three, isotope, boundary, jnp.zeros((), bool))
    T = conditions.temperatures
    found = conductivity(waves, gamma.total, plan.mesh, plan.crystal, T)
    return Solution(waves, gamma, found, plan, fc, conditions.scattering, material.broadening, material.nac)


def _part(material: Material, inputs: Any, points: np.ndarray, bars: list[Array]) -> Any:
    """Σ over some points of ⟨γ̄, ∂γ/∂(Φ, conditions)⟩."""
    some = subset(material.plan, points)

    def projected(inputs: Any) -> Array:
        fc, conditions = inputs
        plan = conditions.plan(some)
        waves = phonons_of(plan, fc.fc2, material.nac)
        scattering = Scattering(conditions.scattering.isotope)
        gamma = linewidths(
            plan,
            fc,
            waves,
            conditions.temperatures,
            broadening=material.broadening,
            scattering=scattering,
            nac=material.nac,
        )
        return jnp.vdot(bars[0], gamma.three_phonon) + jnp.vdot(bars[1], gamma.isotope)

    return jax.grad(projected)(inputs)


def systematic(weight: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Madow's sample of fixed size: item i is drawn with probability π_i, proportional to its weight but at most 1.

    A tenth of the weight is spread evenly, so that no item with a derivative is out of reach.

    Returns:
        the drawn items, ascending, and 1/π of each.
    """
    N = len(weight)
    count = min(count, N)
    share = 0.9 * weight / max(weight.sum(), 1e-300) + 0.1 / N
    π = np.minimum(1.0, count * share)
    while (short := count - π.sum()) > 1e-9:  # what the capped items cannot take goes to the others
        free = π < 1.0
        if not free.any():
            break
        π[free] = np.minimum(1.0, π[free] * (1 + short / π[free].sum()))
    order = rng.permutation(N)
    edges = np.concatenate([[0.0], np.cumsum(π[order])])
    edges[-1] = count
    ticks = rng.uniform() + np.arange(count)
    drawn = np.sort(order[np.searchsorted(edges, ticks, side="right") - 1])
    return drawn, 1 / π[drawn]


def _norm2(*trees: Any) -> Array:
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(trees))


def pullback_to_params(
    energy: Energy,
    params: Params,
    frozen: Params,
    plan: ForceConstantsPlan,
    bars: ForceConstants,
    patterns: int | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[Params, Array]:
    """∂⟨Φ̄, Φ(θ)⟩/∂θ by `params` (not by `frozen`), pattern by pattern, and its relative standard error if only some of Φ3's `patterns` are drawn.

    The error is that of draws with replacement, which a systematic sample does not exceed in practice.
    """
    second = _one_order(energy, params, frozen, plan.graph2, plan.fit2, bars.fc2)
    K = plan.fit3.n_evaluations
    if patterns is None or patterns >= K:
        third = _one_order(energy, params, frozen, plan.graph3, plan.fit3, bars.fc3)
        return jax.tree.map(jnp.add, second, third), jnp.zeros(())
    assert rng is not None
    w = _weights(plan.fit3, bars.fc3)
    drawn, scale = systematic(np.asarray(jnp.linalg.norm(w, axis=(1, 2))), patterns, rng)
    parts = [
        _term(energy, 3, params, frozen, plan.graph3, w[k] * s, plan.fit3.patterns[k])
        for k, s in zip(drawn, scale, strict=True)
    ]
    total = jax.tree.map(lambda *x: sum(x), second, *parts)
    n = len(parts)
    mean = jax.tree.map(lambda *x: sum(x) / n, *parts)
    spread = _norm2(*(jax.tree.map(jnp.subtract, p, mean) for p in parts))
    error = jnp.sqrt(n / (n - 1) * spread / _norm2(total)) if n > 1 else jnp.array(jnp.nan)
    return total, error


_weights = program()(pattern_weights)


def _contracted(
    energy: Energy, order: int, params: Params, frozen: Params, graph: Graph, weight: Array, pattern: Array
) -> Array:
    """∂^m E(θ)[w, u, ...] at the graph's positions."""
    return directional_energy(energy, params if frozen is None else (params, frozen), graph, weight, pattern, order)


@program(static=(0, 1))
def _term(
    energy: Energy, order: int, params: Params, frozen: Params, graph: Graph, weight: Array, pattern: Array
) -> Params:
    return jax.grad(partial(_contracted, energy, order))(params, frozen, graph, weight, pattern)


@program(static=0)
def _one_order(energy: Energy, params: Params, frozen: Params, graph: Graph, fit: Fit, W: Array) -> Params:
    """The sum of all patterns."""

    def contracted(params: Params, weight: Array, pattern: Array) -> Array:
        return _contracted(energy, fit.basis.order, params, frozen, graph, weight, pattern)

    return summed_gradient(contracted, params, pattern_weights(fit, W), fit.patterns)


__all__ = [
    "EXACT",
    "Gradient",
    "Sampling",
    "pullback_to_params",
    "systematic",
    "value_and_fc_cotangent",
    "value_and_grad",
]
