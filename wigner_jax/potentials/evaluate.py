"""Energy, forces, stress and Hessian of one cell: the one place where they are derived from E(params, graph).

    F_i = −∂E/∂x_i,    σ = (1/V) ∂E/∂ε at the deformation x → x (1 + ε), symmetrised,    H = ∂²E/∂x∂x

The sign of the stress is ASE's: negative under compression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from .._core.pytree import Array
    from .base import Energy, Params, Potential
    from .graph import Graph


def energy_and_slopes(
    energy: Energy, params: Params, graph: Graph, strain: Array | None = None
) -> tuple[Array, Array, Array]:
    """E () eV, ∂E/∂x (N, 3) eV/Å and ∂E/∂ε (3, 3) eV, symmetrised: not compiled, to be part of other functions.

    Args:
        strain: (3, 3), where the derivatives are taken; none unless given.
    """

    def deformed(positions: Array, strain: Array) -> Array:
        return energy(params, graph.at(positions).strained(strain))

    value, (slope, virial) = jax.value_and_grad(deformed, argnums=(0, 1))(
        jnp.asarray(graph.positions), jnp.zeros((3, 3)) if strain is None else strain
    )
    return value, slope, 0.5 * (virial + virial.T)


def forces_and_stress(slope: Array, virial: Array, cell: Array) -> tuple[Array, Array]:
    """Forces (N, 3) eV/Å and stress (3, 3) eV/Å³ from the derivatives of the energy."""
    return -slope, virial / jnp.abs(jnp.linalg.det(jnp.asarray(cell)))


@jax.jit
def energy(potential: Potential, graph: Graph) -> Array:
    """E of one cell, () eV; compiled once per potential and shape of the graph."""
    return potential.energy(potential.params, graph)


@jax.jit
def energy_forces_stress(potential: Potential, graph: Graph) -> tuple[Array, Array, Array]:
    """E, forces and stress of one cell; compiled once per potential and shape of the graph.

    Returns:
        energy () eV, forces (N, 3) eV/Å, stress (3, 3) eV/Å³.
    """
    value, slope, virial = energy_and_slopes(potential.energy, potential.params, graph)
    return value, *forces_and_stress(slope, virial, graph.cell)


@jax.jit
def hessian(potential: Potential, graph: Graph) -> Array:
    """∂²E/∂x∂x of one cell, (N, 3, N, 3) eV/Å².

    Made column by column, in the memory of one product with a vector, whatever the number of atoms. Force constants of
    crystals need far fewer evaluations: `wigner_jax.force_constants`.
    """
    x = jnp.asarray(graph.positions)
    slope = jax.grad(lambda y: potential.energy(potential.params, graph.at(y)))
    columns = jax.lax.map(lambda u: jax.jvp(slope, (x,), (u,))[1], jnp.eye(x.size, dtype=x.dtype).reshape(-1, *x.shape))
    return columns.reshape(*x.shape, *x.shape)


__all__ = [
    "energy",
    "energy_and_slopes",
    "energy_forces_stress",
    "forces_and_stress",
    "hessian",
]
