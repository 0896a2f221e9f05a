"""The relaxed crystal as a differentiable function of the potential's parameters, and κ through it.

    θ ─relaxed─► lattice, positions ─┬─► supercells ─force constants─► Φ ─┐
                                     └─► volume, velocities, mesh ────────┴─► κ

The unknowns z are the amplitudes of the strains and displacements that the space group allows, as in newton.py, about a
reference crystal. The relaxed ones satisfy g(θ, z) = ∂E/∂z = 0, so that by the implicit function theorem

    dz/dθ = −H⁻¹ ∂g/∂θ,    H = ∂²E/∂z²,

whatever the way in which z was found: the steps of the relaxation are never differentiated. Allowed deformations commute
with the point group, hence bases, patterns, irreducible points and rotations of the plans stay what they are, and the rest
follows the crystal here.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from itertools import permutations
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from .._core.programs import program
from .._core.pytree import Array, pytree
from ..crystal.symmetry import space_group
from ..errors import InputError
from ..ifc.autodiff import ForceConstantsPlan, force_constants_at
from ..plan.lattice_geometry import obtuse_superbase
from ..potentials.graph import MARGIN_REACH, Graph
from ..potentials.neighbor_list import graph_of
from .newton import allowed_displacements, allowed_strains

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..potentials.base import Energy, Params, Potential
    from ..types import Crystal, Plan, Supercell, Supercells


TOLERANCE = 1e-9  # eV/Å, of the largest ∂E/∂z
MAX_STEP = 0.1  # Å, of one Newton step


@pytree()
class Freedom:
    """What may move, about a reference crystal. Made once on the host, an argument of jit."""

    crystal: Crystal  #: the reference
    strains: Array  #: (s, 3, 3) 1/Å: allowed strains for an amplitude of 1 Å
    modes: Array  #: (f, n, 3) allowed displacements, orthonormal
    graph: Graph  #: of the reference
    pairs: tuple[Array, Array, Array]  #: (P,) i, (P,) j, (P, 3) shifts of pairs near a distance where E is not smooth
    limits: Array  #: (P,) Å, that distance


@pytree()
class Geometry:
    """A relaxed crystal. If `valid` is False its lattice and positions are NaN: nothing follows from it unnoticed."""

    crystal: Crystal
    amplitudes: Array  #: (s + f,) Å
    slope: Array  #: () eV/Å, largest |∂E/∂z|
    curvature: Array  #: () eV/Å², lowest eigenvalue of H
    converged: Array  #: () bool: at a minimum of the energy
    crossed: Array  #: () bool: a pair crossed a cutoff, so that the reference's neighbour lists do not hold

    @property
    def valid(self) -> Array:
        return self.converged & ~self.crossed

    def require_valid(self) -> Geometry:
        """Itself; InputError that says what went wrong, outside of jit."""
        if not self.converged:
            raise InputError(
                f"the relaxation did not converge: largest slope {float(self.slope):.1e} eV/Å, lowest curvature"
                f" {float(self.curvature):.1e} eV/Å²; relax the reference with `relax` first, and look at its report"
            )
        if self.crossed:
            raise InputError(
                "the relaxation moved a pair of atoms across a cutoff of the potential",
                "make the plan for a structure relaxed with these parameters",
            )
        return self


def plan_relaxation(crystal: Crystal, potential: Potential, cell: bool = True) -> Freedom:
    """The allowed deformations of a crystal that obeys its space group to rounding (`Supercells.crystal` does).

    Args:
        cell: whether the cell relaxes too, or the atoms alone.
    """
    from ase.neighborlist import primitive_neighbor_list

    lattice, numbers = np.asarray(crystal.lattice), np.asarray(crystal.numbers)
    group = space_group(crystal)
    length = float(np.cbrt(abs(np.linalg.det(lattice)) / len(numbers)))
    strains = allowed_strains(group, lattice) / length if cell else np.zeros((0, 3, 3))
    positions = np.asarray(crystal.positions) @ lattice
    graph, _ = graph_of(lattice, positions, numbers, potential)
    pairs = primitive_neighbor_list("ijSd", (True,) * 3, lattice, positions, potential.cutoff + MARGIN_REACH)
    i, j, shifts, distances = (np.asarray(x) for x in pairs)
    kinds = np.array(potential.species_of(numbers))
    limits = [np.array([potential.pair_cutoff(s, t) for s, t in zip(kinds[i], kinds[j], strict=True)])]
    for s, t, kink in potential.nonsmooth_distances:
        of_these = (kinds[i] == s) & (kinds[j] == t) | (kinds[i] == t) & (kinds[j] == s)
        limits.append(np.where(of_these, kink, np.inf))
    if potential.bond_cutoff is not None:
        limits.append(np.full(len(i), potential.bond_cutoff))
    near = np.abs(np.array(limits) - distances) < MARGIN_REACH
    rows = np.nonzero(near)[1]
    modes = allowed_displacements(group, lattice)
    return Freedom(crystal, strains, modes, graph, (i[rows], j[rows], shifts[rows]), np.array(limits)[near])


def deformed(freedom: Freedom, z: Array) -> Crystal:
    """The reference with amplitudes z: x → (x + Σ z_f u_f)(1 + Σ z_s ε_s)."""
    s = len(freedom.strains)
    lattice = jnp.asarray(freedom.crystal.lattice)
    F = jnp.eye(3) + jnp.einsum("s,sab->ab", z[:s], freedom.strains)
    moved = jnp.einsum("f,fja->ja", z[s:], freedom.modes) @ jnp.linalg.inv(lattice)
    return dataclasses.replace(
        freedom.crystal, lattice=lattice @ F, positions=jnp.asarray(freedom.crystal.positions) + moved
    )


def relaxed(energy: Energy, params: Params, freedom: Freedom, max_steps: int = 30) -> Geometry:
    """The minimum next to the reference: a traceable function of the parameters, differentiable forwards and backwards.

    Newton's method with the absolute values of the curvatures and steps of at most 0.1 Å; start from a structure that
    `relax` made, and two or three steps follow small changes of θ. Its derivative is the one above.
    """
    size = len(freedom.strains) + len(freedom.modes)

    def slope(z: Array) -> Array:
        def along(z: Array) -> Array:
            crystal = deformed(freedom, z)
            lattice = crystal.lattice
            return energy(
                params, dataclasses.replace(freedom.graph, positions=crystal.positions @ lattice, cell=lattice)
            )

        return jax.grad(along)(z)

    def newton(g: Callable[[Array], Array], start: Array) -> Array:
        def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            z, gradient, count = state
            values, vectors = jnp.linalg.eigh(_matrix(partial(_tangent, g, z), size))
            values = jnp.maximum(jnp.abs(values), 1e-6 * jnp.max(jnp.abs(values)))
            move = -vectors @ ((vectors.T @ gradient) / values)
            move = move * jnp.minimum(1.0, MAX_STEP / jnp.maximum(jnp.linalg.norm(move), 1e-300))
            return z + move, g(z + move), count + 1

        def unfinished(state: tuple[Array, Array, Array]) -> Array:
            _, gradient, count = state
            return (jnp.max(jnp.abs(gradient)) > 1e-3 * TOLERANCE) & (count < max_steps)

        # a few steps beyond the tolerance cost little and leave the noise of rounding alone
        return jax.lax.while_loop(unfinished, step, (start, g(start), 0))[0]

    def tangent(g: Callable[[Array], Array], y: Array) -> Array:
        return jnp.linalg.solve(_matrix(g, size), y)

    z = jnp.zeros(size)
    if size:
        z = jax.lax.custom_root(slope, z, newton, tangent)
    # what is only reported is not differentiated
    fixed = jax.lax.stop_gradient(z)
    gradient, curvature = jnp.zeros(()), jnp.zeros(())
    if size:
        gradient = jnp.max(jnp.abs(jax.lax.stop_gradient(slope(z))))
        H = _matrix(partial(_tangent, slope, fixed), size)
        curvature = jnp.linalg.eigvalsh(jax.lax.stop_gradient(0.5 * (H + H.T)))[0]
    converged = (gradient < TOLERANCE) & (curvature >= 0.0)
    crossed = _crossed(freedom, fixed)
    crystal = deformed(freedom, jnp.where(converged & ~crossed, z, jnp.nan))
    return Geometry(crystal, z, gradient, curvature, converged, crossed)


def _tangent(g: Callable[[Array], Array], z: Array, direction: Array) -> Array:
    return jax.jvp(g, (z,), (direction,))[1]


def _matrix(linear: Callable[[Array], Array], size: int) -> Array:
    """Of a linear map, column by column: the memory of one product. (size, size)"""
    return jax.lax.map(linear, jnp.eye(size)).T


def _crossed(freedom: Freedom, z: Array) -> Array:
    i, j, shifts = freedom.pairs

    def distances(crystal: Crystal) -> Array:
        lattice = jnp.asarray(crystal.lattice)
        x = jnp.asarray(crystal.positions)
        return jnp.linalg.norm((x[j] + shifts - x[i]) @ lattice, axis=-1)

    before, after = distances(freedom.crystal), distances(deformed(freedom, z))
    return jnp.any((before < freedom.limits) != (after < freedom.limits))


@pytree()
class Sites:
    """Integer places of a supercell's atoms, and of the lattice points around a mesh point: what moving a plan needs."""

    second: tuple[Array, Array, Array]  #: matrix (3, 3), atom (N2,), cell (N2, 3)
    third: tuple[Array, Array, Array]
    paths: Array  #: (K, 3, 3) int: simplices (0, v1, v2, v3) around a mesh point, with their vertices in every order


def plan_sites(supercells: Supercells, plan: Plan) -> Sites:
    """For `moved_constants` and `moved_plan`. Host."""

    def of(cell: Supercell) -> tuple[Array, Array, Array]:
        return cell.matrix, cell.primitive_index, cell.lattice_vector

    steps = np.linalg.inv(np.asarray(supercells.crystal.lattice)).T / np.array(plan.mesh.dims)[:, None]
    base = obtuse_superbase(steps)
    # all orders of the superbase, and of the vertices of each simplex: see plan.lattices.second_moment
    paths = np.array([np.cumsum(base[list(order)], axis=0)[:3] for order in permutations(range(4))])
    orders = np.concatenate([paths[:, list(order)] for order in permutations(range(3))])
    return Sites(of(supercells.fc2_supercell), of(supercells.fc3_supercell), orders)


def moved_constants(plan: ForceConstantsPlan, sites: Sites, crystal: Crystal) -> ForceConstantsPlan:
    """The same plan for a deformed crystal of the same symmetry; traceable."""

    def moved(graph: Graph, places: tuple[Array, Array, Array]) -> Graph:
        matrix, atom, cell = places
        lattice = jnp.asarray(crystal.lattice)
        positions = (jnp.asarray(crystal.positions)[atom] + cell) @ lattice
        return dataclasses.replace(graph, positions=positions, cell=jnp.asarray(matrix) @ lattice)

    return dataclasses.replace(plan, graph2=moved(plan.graph2, sites.second), graph3=moved(plan.graph3, sites.third))


def moved_plan(plan: Plan, sites: Sites, crystal: Crystal) -> Plan:
    """The same plan for a deformed crystal of the same symmetry; traceable.

    Lattice and positions enter volume, velocities and phases. `Mesh.steps` follows the Voronoi cell of the mesh: by any
    square root of its second moment, since only Σ_μ (v·s_μ)² is used.
    """
    lattice = jnp.asarray(crystal.lattice)
    steps = jnp.linalg.inv(lattice).T / jnp.asarray(plan.mesh.dims)[:, None]
    root = jnp.linalg.cholesky(12 * _second_moment(jnp.asarray(sites.paths) @ steps)).T
    return dataclasses.replace(plan, crystal=crystal, mesh=dataclasses.replace(plan.mesh, steps=root))


def _second_moment(flags: Array) -> Array:
    """plan.lattices.second_moment for given simplices, traceable. (K, 3, 3) → (3, 3)"""
    corners = []
    for k in (1, 2, 3):
        vertices = flags[:, :k]
        gram = vertices @ jnp.swapaxes(vertices, -1, -2)
        squares = jnp.diagonal(gram, axis1=-2, axis2=-1)
        corners.append(jnp.einsum("fk,fkx->fx", jnp.linalg.solve(gram, squares[..., None] / 2)[..., 0], vertices))
    c = jnp.stack(corners, axis=1)
    volumes = jnp.linalg.det(c) * jnp.sign(jax.lax.stop_gradient(jnp.linalg.det(flags))) / 6
    sums = c.sum(axis=1)
    total = jnp.einsum("f,fkx,fky->xy", volumes, c, c) + jnp.einsum("f,fx,fy->xy", volumes, sums, sums)
    return total / 20 / jnp.sum(volumes)


_relaxed = program(static=(0, 3))(relaxed)
_force_constants = program(static=0)(force_constants_at)


__all__ = [
    "Freedom",
    "Geometry",
    "Sites",
    "deformed",
    "moved_constants",
    "moved_plan",
    "plan_relaxation",
    "plan_sites",
    "relaxed",
]
