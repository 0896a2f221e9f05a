"""Thermal expansion in the quasi-harmonic approximation, from Φ2, Φ3 and the elastic constants.

    γ_cd(T) = Σ C_qs(T) γ^{cd}_s(q) / Σ C_qs(T)                     mean Grüneisen tensor
    α_ab(T) = (C_V(T)/V) Σ_cd S_abcd γ_cd(T)                        thermal expansion, S = c⁻¹ elastic compliance
    C_P - C_V = T V α : c : α,      K = 1 / Σ S_aacc                (Reuss) bulk modulus

All of it belongs to the static crystal: no thermal or zero-point pressure. Source: Wallace, Thermodynamics of Crystals
(1972), sec. 17 and 20.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from .._core.programs import program
from .._core.pytree import pytree
from ..physics.conductivity import heat_capacity
from ..physics.taking_part import takes_part
from ..potentials.neighbor_list import graph_of
from .strain_derivatives import VOIGT, gruneisen, strain_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.pytree import Array
    from ..potentials.base import Potential
    from ..types import Crystal, ForceConstants, Phonons, Plan, Supercells


EV_A3_TO_GPA = 160.21766208


@pytree()
class Expansion:
    """Thermal expansion of a crystal. Voigt order xx, yy, zz, yz, xz, xy; strains and α carry 2ε_yz as usual.

    Attributes:
        temperatures: (T,) K.
        mode_gruneisen: (P, m, 6) at the irreducible points.
        gruneisen: (T, 6) weighted by heat capacity.
        heat_capacity: (T,) eV/K per primitive cell, at constant volume.
        heat_capacity_pressure: (T,) eV/K, at constant pressure.
        alpha: (T, 6) 1/K.
        bulk_modulus: () GPa, Reuss.
        elastic: (6, 6) GPa, relaxed ions.
    """

    temperatures: Array  #: (T,) K
    mode_gruneisen: Array  #: (P, m, 6) at the irreducible points
    gruneisen: Array  #: (T, 6) weighted by heat capacity
    heat_capacity: Array  #: (T,) eV/K per primitive cell, at constant volume
    heat_capacity_pressure: Array  #: (T,) eV/K, at constant pressure
    alpha: Array  #: (T, 6) 1/K
    bulk_modulus: Array  #: () GPa, Reuss
    elastic: Array  #: (6, 6) GPa, relaxed ions

    @property
    def gruneisen_volume(self) -> Array:
        """-∂ ln f/∂ ln V, weighted by heat capacity. (T,)"""
        return jnp.mean(self.gruneisen[:, :3], axis=1)

    @property
    def alpha_volume(self) -> Array:
        """∂ ln V/∂T. (T,) 1/K"""
        return jnp.sum(self.alpha[:, :3], axis=1)


def mean_gruneisen(modes: Array, capacity: Array) -> Array:
    """Σ w C γ / Σ w C. Args: modes (P, m, ...), capacity (T, P, m) with the weight of each star in it. (T, ...)"""
    return jnp.tensordot(capacity, modes, axes=2) / jnp.sum(capacity, axis=(1, 2)).reshape(-1, *[1] * (modes.ndim - 2))


def elastic_constants(crystal: Crystal, potential: Potential) -> np.ndarray:
    """Elastic constants of a relaxed crystal, ions relaxed, from second derivatives of the energy. (6, 6) eV/Å³

    With E(ε, u) of one cell, u the displacements: c = (1/V) [E_εε - E_εu (E_uu)⁺ E_uε], translations left out.
    """
    strain, mixed, response = _response(potential, crystal)
    return (strain + mixed @ response) / abs(np.linalg.det(np.asarray(crystal.lattice)))


def internal_response(crystal: Crystal, potential: Potential) -> np.ndarray:
    """How the atoms of a relaxed crystal move under strain, -(E_uu)⁺ E_uε, without translations. (n, 3, 6) Å, Voigt

    Of the potential itself; `physics.gruneisen.internal_strain` has the same from the Φ2 of a supercell.
    """
    return _response(potential, crystal)[2].reshape(crystal.n_atoms, 3, 6)


def _response(potential: Potential, crystal: Crystal) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E_εε (6, 6), E_εu (6, 3n) and u(ε) (3n, 6)."""
    lattice = np.asarray(crystal.lattice)
    graph, _ = graph_of(lattice, np.asarray(crystal.positions) @ lattice, np.asarray(crystal.numbers), potential)
    hessian = np.asarray(_energy_hessian(potential, graph))
    n = crystal.n_atoms
    strain, mixed, ions = hessian[:6, :6], hessian[:6, 6:], hessian[6:, 6:]
    translation = np.tile(np.eye(3), (n, 1)) / np.sqrt(n)
    # a single atom has nothing but translations: its matrix is zero
    lifted = ions + max(float(np.trace(ions)), 1.0) * translation @ translation.T
    forces = mixed.T - translation @ (translation.T @ mixed.T)
    return strain, mixed, -np.linalg.solve(lifted, forces)


@program()
def _energy_hessian(potential: Potential, graph: Array) -> Array:
    """Second derivatives of E by (6 strains, 3n displacements) at none, eV."""
    import dataclasses

    positions, cell = jnp.asarray(graph.positions), jnp.asarray(graph.cell)

    def energy(x: Array) -> Array:
        strain = jnp.zeros((3, 3))
        for k, (a, b) in enumerate(VOIGT):
            strain = strain.at[a, b].add(x[k] / 2).at[b, a].add(x[k] / 2)
        F = jnp.eye(3) + strain
        moved = positions @ F + x[6:].reshape(positions.shape)
        return potential.energy(potential.params, dataclasses.replace(graph, positions=moved, cell=cell @ F))

    return jax.hessian(energy)(jnp.zeros(6 + positions.size))


def thermal_expansion(
    supercells: Supercells, potential: Potential, plan: Plan, fc: ForceConstants, phonons: Phonons,
    temperatures: Sequence[float], relaxed_ions: bool = True,
) -> Expansion:  # fmt: skip
    """Grüneisen parameters and thermal expansion of a relaxed crystal.

    Args:
        fc: of `supercells`.
        phonons: on the plan's mesh, from fc.fc2.
        relaxed_ions: False keeps the fractional coordinates in the derivative of Φ2 (not in the elastic constants).
    """
    crystal, T = supercells.crystal, jnp.asarray(temperatures, float)
    tables = strain_tables(supercells)
    modes = gruneisen(phonons, (plan.mesh.qpoints, plan.mesh.irreducible), fc, tables, crystal, relaxed_ions)
    modes = _symmetrized(modes, np.asarray(plan.mesh.rotations))
    f = phonons.frequencies[jnp.asarray(plan.mesh.irreducible)]
    capacity = heat_capacity(jnp.where(takes_part(f), f, 0.0), T) * jnp.asarray(plan.mesh.weights)[:, None]
    total = jnp.sum(capacity, axis=(1, 2)) / len(plan.mesh.qpoints)
    gamma = mean_gruneisen(modes, capacity)
    elastic = elastic_constants(crystal, potential)
    compliance = np.linalg.inv(elastic)
    volume = abs(np.linalg.det(np.asarray(crystal.lattice)))
    alpha = gamma @ compliance * total[:, None] / volume
    difference = T * volume * jnp.einsum("ta,ab,tb->t", alpha, elastic, alpha)
    bulk = 1 / compliance[:3, :3].sum()
    return Expansion(
        T, modes, gamma, total, total + difference, alpha, jnp.asarray(bulk * EV_A3_TO_GPA), elastic * EV_A3_TO_GPA
    )


def _symmetrized(modes: Array, rotations: np.ndarray) -> Array:
    """Average over the point group, so that irreducible points stand for their stars. (P, m, 6) → (P, m, 6)"""
    full = np.zeros((3, 3, 6))
    for k, (a, b) in enumerate(VOIGT):
        full[a, b, k] = full[b, a, k] = 1.0
    turned = np.einsum("rac,rbd,cdk->abk", rotations, rotations, full) / len(rotations)
    return modes @ np.stack([turned[a, b] for a, b in VOIGT]).T


__all__ = [
    "Expansion",
    "elastic_constants",
    "internal_response",
    "mean_gruneisen",
    "thermal_expansion",
]
