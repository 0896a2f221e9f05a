"""The linearised three-phonon collision operator on the irreducible points of a mesh.

With x = hf/kT, sh = sinh(x/2) and deviations F of the populations, n = n⁰ + n⁰(n⁰ + 1) φ, F = φ/(2 sh), a process in which the
modes 0, 1, 2 take part relaxes F_0 with the half width W sh_0/(2 sh_1 sh_2), and couples it to the two others:

    (Ω F)_0 = γ_0 F_0 + (1/N) Σ w |V|² {δ(f0 - f1 - f2) + δ(f0 + f1 - f2) + δ(f0 - f1 + f2)} [F_1/(2 sh_2) + F_2/(2 sh_1)]

in the unit of γ (half widths, THz; rates are 4π times them), for q + q' + q'' = G and F(-q) = -F(q): what carries heat.
(L. Chaput, Phys. Rev. Lett. 110, 265506 (2013); phono3py's "direct solution". γ holds the occupations as n_1 + n_2 + 1 and n_1 - n_2,
which on shell are sh_0/(2 sh_1 sh_2).) Isotopes and boundaries enter γ alone.

F is a vector for each mode, F(R q) = R F(q) for every operation R. On an irreducible point it lies in the space that the
point's little group leaves alone, of 0 to 3 dimensions, spanned by the columns of a basis B, F = B y. The operator on all y is

    O[(q s i), (p t j)] = Σ_{q' in the star of p} K[s, q', t] (B_qᵀ R_{q'} B_p)_ij,

K the scalar couplings of q s to q' t. Both sides are averaged over degenerate blocks: traces alone are coupled, and neither the
gauge of eigenvectors nor the mode that a program calls first matters.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.chunking import map_nonempty
from .._core.devices import dealt_out
from .._core.programs import program
from .._core.pytree import pytree
from ..crystal.symmetry import cartesian
from ..plan.mesh import addresses, images, mesh_operations
from ..units import INTERACTION, K_B, LINEWIDTH, THZ_TO_EV
from .dealt_buckets import bucket_effort
from .degeneracy import degenerate_averages
from .linewidths import Leg, divisor, grouped, interaction, isotope, legs, rods_at_once
from .matrix_elements import contract_over_R2
from .pairs import Broadening, Deviations, Pairs, State
from .taking_part import is_scattered, takes_part

if TYPE_CHECKING:
    from .._core.pytree import Array
    from ..types import Crystal, Mesh, Plan, TripletBucket


@pytree("width")
class Stars:
    """Where the points of the mesh lie among the stars of the irreducible ones.

    Attributes:
        width: W, points of the largest star.
        slot: (Q,) int, p W + k for the k-th point of the star of p.
        turned: (P, W, 3, 3) R B of every slot, columns beyond the dimension and slots without a point zero.
        basis: (P, 3, 3) B, likewise.
    """

    slot: Array
    turned: Array
    basis: Array
    width: int


def make_stars(crystal: Crystal, mesh: Mesh) -> Stars:
    """On the host, with symmetry if the mesh has it."""
    dims = mesh.dims
    operations = mesh_operations(crystal, dims, len(mesh.rotations) > 1)
    lattice = np.asarray(crystal.lattice)
    rotations = cartesian(operations, lattice)
    to = images(addresses(dims), operations, dims)  # (R, Q)
    irreducible, star = np.asarray(mesh.irreducible), np.asarray(mesh.star)
    P, Q = len(irreducible), len(star)
    width = int(np.asarray(mesh.weights).max())
    slot, turned, basis = np.empty(Q, np.int32), np.zeros((P, width, 3, 3)), np.zeros((P, 3, 3))
    for p, q in enumerate(irreducible):
        little = rotations[to[:, q] == q].mean(axis=0)
        values, vectors = np.linalg.eigh((little + little.T) / 2)
        kept = vectors[:, values > 0.5]
        basis[p, :, : kept.shape[1]] = kept
        members = np.flatnonzero(star == p)
        for k, member in enumerate(members):
            slot[member] = p * width + k
            turned[p, k] = rotations[np.argmax(to[:, q] == member)] @ basis[p]
    return Stars(slot, turned, basis, width)


def scalar_stars(stars: Stars) -> Stars:
    """For fields of one number for each mode, the same over a star, in the place of the first component of vectors."""
    used = np.zeros(len(stars.basis) * stars.width, bool)
    used[np.asarray(stars.slot)] = True
    turned, basis = np.zeros_like(stars.turned), np.zeros_like(stars.basis)
    turned[..., 0, 0], basis[:, 0, 0] = used.reshape(len(stars.basis), stars.width), 1.0
    return Stars(stars.slot, turned, basis, stars.width)


def inverse_sinh(frequencies: Array, temperatures: Array) -> Array:
    """1/(2 sinh(hf/2kT)), 0 for modes that take no part. (Q, m) and (T,) → (Q, m, T)"""
    alive = takes_part(frequencies)[..., None]
    half = jnp.where(alive, frequencies[..., None] * (0.5 * THZ_TO_EV / K_B) / temperatures, 1.0)
    # not sinh, which overflows: e^-x/2 / (1 - e^-x)
    return jnp.where(alive, jnp.exp(-half) / -jnp.expm1(-2 * half), 0.0)


def one_point(
    bucket: TripletBucket, leg: Leg, cells: Array, state: State, plan: Plan, broadening: Broadening, share: Array,
    stars: Stars, even: bool,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """γ (T, m) of one q, its rows of O (T, m, 3, P, m, 3), and overflow. Args: bucket of one member."""
    dims, tiling = plan.mesh.dims, state.tiling
    m, P = len(leg.frequencies), len(stars.basis)
    R, X = bucket.weights.shape
    S = divisor(m, tiling.strength_bytes / (8 * R * X * m**2))
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    triplets = legs(bucket, q, dims, rods_at_once(bucket, m, tiling))
    pairs = Pairs(*triplets, state.occupation)
    slots = jnp.asarray(stars.slot)
    own = jnp.asarray(stars.basis)[bucket.members]
    joint = jnp.einsum("ai,pkaj->pkij", own, jnp.asarray(stars.turned))  # B_qᵀ R B_p

    def some_modes(items: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
        e0, f0 = items
        strength = interaction(bucket, e0, cells, state, plan, triplets)
        gamma, couplings, overflow = broadening.couplings(
            state.broadening, pairs, f0, strength, share, slots, P * stars.width, even
        )
        T = couplings.shape[-1]
        K = couplings.reshape(P, stars.width, m * len(f0) * T)  # t, s, T
        rows = jnp.einsum("pkx,pkij->pxij", K, joint).reshape(P, m, len(f0), T, 3, 3)
        return (gamma, rows.transpose(3, 4, 0, 1, 5, 2)), overflow  # T i p t j s

    e0 = leg.rotation.reshape(2, m, 2 * m)[:, :, :m]
    groups = (e0.reshape(2, m // S, S, m).swapaxes(0, 1), leg.frequencies.reshape(-1, S))
    if m == S:
        (gamma, rows), overflow = some_modes(jax.tree.map(lambda x: x[0], groups))
    else:
        (gammas, parts), overflows = jax.lax.map(some_modes, groups)
        gamma, rows = (jnp.moveaxis(x, 0, -2).reshape(*x.shape[1:-1], m) for x in (gammas, parts))
        overflow = jnp.any(overflows)
    unit = INTERACTION * LINEWIDTH / (dims[0] * dims[1] * dims[2])
    average = degenerate_averages(leg.frequencies)
    others = degenerate_averages(state.frequencies[jnp.asarray(plan.mesh.irreducible)])  # (P, m, m)
    rows = jnp.einsum("Tiptjs,ptu,sv->Tvipuj", rows * unit, others, average)
    return (gamma * unit) @ average, rows, overflow


@program(static=7, effort=bucket_effort)
def collisions_of(
    bucket: TripletBucket, state: State, plan: Plan, variances: Array | None, broadening: Broadening, share: Array,
    stars: Stars, even: bool = False,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Of all members of a piece of a bucket: γ by three phonons (B, T, m) and by isotopes (B, m), overflow (B,), and rows of
    O (B, T, m, 3, P, m, 3).

    Args:
        even: for deviations F(-q) = F(q), with `scalar_stars`.
    """
    run = partial(_collisions, even=even)
    return dealt_out(run, jax.device_count(), bucket, state, plan, variances, broadening, share, stars)


def _collisions(
    bucket: TripletBucket, state: State, plan: Plan, variances: Array | None, broadening: Broadening, share: Array,
    stars: Stars, even: bool,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    def one(member: TripletBucket, leg: Leg, cells: Array) -> tuple[Array, Array, Array, Array]:
        gamma, rows, overflow = one_point(member, leg, cells, state, plan, broadening, share, stars, even)
        if variances is None:
            return gamma, jnp.zeros_like(leg.frequencies), overflow, rows
        disorder, too_many = isotope(leg, state, variances, broadening)
        return gamma, disorder, overflow | too_many, rows

    def group(members: TripletBucket, legs_: Leg) -> tuple[Array, Array, Array, Array]:
        q = jnp.asarray(plan.mesh.qpoints)[jnp.asarray(plan.mesh.irreducible)[members.members]]
        cells = contract_over_R2(q, state.entries, plan.fc3_table)
        if state.tiling.vectorised:
            return jax.vmap(one)(members, legs_, cells)
        return map_nonempty(one, jnp.any(members.weights > 0, axis=(1, 2)), (members, legs_, cells), remat=False)

    return grouped(group, bucket, state, plan, remat=False)


# ---------------------------------------------------------------- the value and its derivative
#
# κ = ½ Z·Ω⁻¹Z is the maximum of L(F) = ½ (2 F·Z - F·ΩF) at F = Ω⁻¹Z. So ∂κ/∂θ = ∂L/∂θ at fixed F: no derivative of F is needed,
# none goes through the iteration, and an error ε of F changes κ by ε². For two directions a and b, F^a·Z^b + Z^a·F^b -
# F^a·ΩF^b in the place of 2 F·Z - F·ΩF. What is differentiated is one pass over the triplets, as for γ.
#
# The search for F has the values of that pass in hand: γ, and F·OF from the rows. `values_of` takes them from there and the
# derivative from the pass, whose own values nobody uses then: a compiler leaves their computation out.


@jax.custom_jvp
def values_of(values: Any, source: Any) -> Any:
    """`values`, with the derivative of `source`, which is the same computed another way."""
    return values


@values_of.defjvp
def _values_of_jvp(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[Any, Any]:
    return primals[0], tangents[1]


class Found(NamedTuple):
    """What the search for the deviations gives."""

    deviations: Array  #: (T, P, m, 3), 0 for modes that nothing scatters
    three: Array  #: (P, T, m) γ by three phonons
    isotope: Array  #: (P, m)
    sums: Array  #: (P, T, r) F·E_r O F
    overflow: Array


def deviations_of(
    plan: Plan, state: State, boundary: Array, Z: Array, frequencies: Array, variances: Array | None,
    broadening: Broadening, share: Array, stars: Stars, tensors: Array, tolerance: float, most: int,
) -> Found:  # fmt: skip
    """F of Ω F = Z at every temperature, by conjugate gradients on the assembled operator; for use inside transformations.

    Args:
        boundary: (P, m) THz, half widths by boundaries.
        Z: (T, P, m, 3), 0 for modes that take no part.
        frequencies: (P, m) THz.
        tensors: (r, 3, 3) E_r, invariant under the point group.
    """
    parts = []
    for number, bucket in enumerate(plan.triplets):
        found = collisions_of(bucket, state, plan, variances, broadening.for_bucket(number), share, stars)
        parts.append((bucket.members, found))
    order = jnp.argsort(jnp.concatenate([jnp.asarray(members) for members, _ in parts]))
    three, isotope, overflow, rows = (
        jnp.concatenate([x[k] for _, x in parts])[order] for k in range(4)
    )  # rows: P T m 3 P m 3
    P, m = frequencies.shape
    gamma = jnp.moveaxis(three, 1, 0) + isotope + boundary
    alive = takes_part(frequencies) & is_scattered(gamma)
    root, basis = jnp.sqrt(jnp.asarray(plan.mesh.weights, Z.dtype)), jnp.asarray(stars.basis)

    def at(item: tuple[Array, Array, Array, Array]) -> Array:
        rows, gamma, Z, alive = item
        left = (root[:, None] * alive)[:, :, None, None, None, None]
        right = (alive / root[:, None])[:, :, None]
        O = (rows * left * right).reshape(P * m * 3, P * m * 3)
        O = 0.5 * (O + O.T)
        b = (jnp.einsum("pai,psa->psi", basis, jnp.where(alive[..., None], Z, 0.0)) * root[:, None, None]).ravel()
        diagonal = jnp.repeat(jnp.where(alive, gamma, 1.0), 3, axis=-1).ravel()
        y = _conjugate_gradients(lambda x: diagonal * x + O @ x, b, diagonal, tolerance, most)
        return jnp.einsum("pai,psi->psa", basis, y.reshape(P, m, 3) / root[:, None, None])

    F = jax.lax.map(at, (jnp.moveaxis(rows, 1, 0), gamma, Z, alive))
    y = jnp.einsum("pai,Tpsa->Tpsi", basis, F)
    OF = jnp.einsum("pai,pTsi->pTsa", basis, jnp.einsum("pTsiqtj,Tqtj->pTsi", rows, y))
    sums = jnp.einsum("rab,Tpsa,pTsb->pTr", tensors, F, OF)
    return Found(F, three, isotope, sums, overflow)


def _conjugate_gradients(apply: Any, b: Array, diagonal: Array, tolerance: float, most: int) -> Array:
    """A x = b; stops where it has converged, at negative curvature, or after `most` steps."""
    z = b / diagonal
    start = b @ z

    def going(state: tuple[Array, ...]) -> Array:
        _, _, _, rho, step, good = state
        return (rho > tolerance**2 * start) & (step < most) & good

    def step(state: tuple[Array, ...]) -> tuple[Array, ...]:
        x, r, p, rho, count, _ = state
        Ap = apply(p)
        curvature = p @ Ap
        good = curvature > 0
        alpha = jnp.where(good, rho / jnp.where(good, curvature, 1.0), 0.0)
        x, r = x + alpha * p, r - alpha * Ap
        z = r / diagonal
        new = r @ z
        return x, r, z + (new / rho) * p, new, count + 1, good

    return jax.lax.while_loop(going, step, (jnp.zeros_like(b), b, z, start, 0, jnp.array(True)))[0]


@program()
def bilinear_of(
    bucket: TripletBucket, state: State, plan: Plan, variances: Array | None, broadening: Broadening, fields: Array,
    own: Array,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Of all members of a bucket: γ by three phonons (B, T, m) and isotopes (B, m), F·E_r O F (B, T, r), overflow (B,).

    Args:
        fields: (Q, m, T, 3) F of all points.
        own: (P, m, T, r, 3) F of the irreducible ones, contracted with r tensors.
    """
    dims, tiling = plan.mesh.dims, state.tiling
    unit = INTERACTION * LINEWIDTH / (dims[0] * dims[1] * dims[2])

    def one(member: TripletBucket, leg: Leg, cells: Array) -> tuple[Array, Array, Array, Array]:
        m = len(leg.frequencies)
        R, X = member.weights.shape
        S = divisor(m, tiling.strength_bytes / (8 * R * X * m**2))
        q = jnp.asarray(plan.mesh.irreducible)[member.members]
        triplets = legs(member, q, dims, rods_at_once(member, m, tiling))
        pairs = Pairs(*triplets, state.occupation)

        def some_modes(items: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            e0, f0, own = items
            strength = interaction(member, e0, cells, state, plan, triplets)
            products = jax.lax.stop_gradient(jnp.einsum("sTrc,QmTc->sQmTr", own, fields))
            return broadening.bilinear(state.broadening, pairs, f0, strength, Deviations(products))

        e0 = leg.rotation.reshape(2, m, 2 * m)[:, :, :m].reshape(2, m // S, S, m).swapaxes(0, 1)
        mine = own[member.members].reshape(m // S, S, *own.shape[2:])
        gammas, sums, overflows = jax.lax.map(jax.checkpoint(some_modes), (e0, leg.frequencies.reshape(-1, S), mine))
        gamma = jnp.moveaxis(gammas, 0, -2).reshape(gammas.shape[1], m) * unit
        gamma, sums, overflow = (
            gamma @ degenerate_averages(leg.frequencies),
            jnp.sum(sums, axis=0) * unit,
            jnp.any(overflows),
        )
        if variances is None:
            return gamma, jnp.zeros_like(leg.frequencies), sums, overflow
        disorder, too_many = isotope(leg, state, variances, broadening)
        return gamma, disorder, sums, overflow | too_many

    def group(members: TripletBucket, legs_: Leg) -> tuple[Array, ...]:
        q = jnp.asarray(plan.mesh.qpoints)[jnp.asarray(plan.mesh.irreducible)[members.members]]
        cells = contract_over_R2(q, state.entries, plan.fc3_table)
        if tiling.vectorised:
            return jax.vmap(one)(members, legs_, cells)
        return map_nonempty(one, jnp.any(members.weights > 0, axis=(1, 2)), (members, legs_, cells))

    return grouped(group, bucket, state, plan)


__all__ = [
    "Found",
    "Stars",
    "bilinear_of",
    "collisions_of",
    "deviations_of",
    "inverse_sinh",
    "make_stars",
    "scalar_stars",
    "values_of",
]
