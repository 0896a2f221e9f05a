"""Directional derivatives of a potential's energy: the evaluations that force constants are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._core.devices import dealt_out
from .._core.programs import program
from .._core.taylor_mode import second_derivative
from ..plan.memory import physical_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.pytree import Array
    from ..potentials.base import Energy, Params
    from ..potentials.graph import Graph

DEVICE_BYTES, ATOM_BYTES = 0.3e9, 3e6  # of one evaluation, and for each atom, at most: 1.8 GB for 512 atoms


def directional_forces(energy: Energy, params: Params, graph: Graph, directions: Array, order: int) -> Array:
    """∂/∂ε₁ … ∂/∂ε_(m−1) ∇E(x + Σ ε_k d_k) at 0, for order m = 2 or 3: forward over reverse. (N, 3)

    Args:
        directions: (m-1, N, 3), or (1, N, 3): the same every time, in Taylor mode.
    """

    def gradient(x: Array) -> Array:
        return jax.grad(lambda y: energy(params, graph.at(y)))(x)

    return _differentiate(gradient, directions, order - 1)(graph.positions)


def directional_energy(
    energy: Energy, params: Params, graph: Graph, weight: Array, directions: Array, order: int
) -> Array:
    """∂^m E[w, u, …] at the graph's positions: ⟨w, directional_forces⟩ without the gradient, for reverse mode on top."""

    def along(x: Array) -> Array:
        return _differentiate(lambda y: energy(params, graph.at(y)), directions, order - 1)(x)

    return jax.jvp(along, (graph.positions,), (weight,))[1]


def _differentiate(f: Callable[[Array], Array], directions: Array, times: int) -> Callable[[Array], Array]:
    """x → ∂^times f(x)[d₁, d₂, …], once or twice."""
    if times == 1:
        return lambda x: jax.jvp(f, (x,), (directions[0],))[1]
    if len(directions) == 1:
        return lambda x: second_derivative(f, x, directions[0])
    return _differentiate(_differentiate(f, directions[:1], 1), directions[1:], times - 1)


def evaluate(energy: Energy, params: Params, graph: Graph, patterns: Array, order: int) -> Array:
    """`directional_forces` of each of a fit's patterns, one after the other: all at once is slower. (K, N, 3)"""
    return jax.lax.map(lambda directions: directional_forces(energy, params, graph, directions, order), patterns)


@program(static=(0, 4, 5))
def evaluate_dealt(
    energy: Energy, params: Params, graph: Graph, patterns: Array, order: int, devices: int = 1
) -> Array:
    """`evaluate`, the patterns dealt out to `devices`, which divide their number."""

    def some(patterns: Array, params: Params, graph: Graph) -> Array:
        return evaluate(energy, params, graph, patterns, order)

    return dealt_out(some, devices, patterns, params, graph)


def devices_for(patterns: int, atoms: int) -> int:
    """How many devices share the evaluations of a fit: no more than there are patterns, or than CPU devices have memory for."""
    devices = jax.device_count()
    if jax.default_backend() == "cpu":
        most = 0.5 * physical_memory() / (DEVICE_BYTES + ATOM_BYTES * atoms)
        devices = int(min(devices, max(1.0, most)))
    return min(devices, patterns)


def evaluate_single(
    energy: Energy, params: Params, graph: Graph, patterns: Array, order: int, devices: int = 1
) -> np.ndarray:
    """`evaluate` in single precision throughout, constants of the model included."""

    def rounded(x: Any) -> np.ndarray:
        x = np.asarray(x)
        return x.astype(np.float32) if np.issubdtype(x.dtype, np.floating) else x

    with jax.enable_x64(False):
        values = evaluate_dealt(energy, *jax.tree.map(rounded, (params, graph, patterns)), order, devices)
    return np.asarray(values, np.float64)


__all__ = ["devices_for", "directional_energy", "directional_forces", "evaluate", "evaluate_dealt", "evaluate_single"]
