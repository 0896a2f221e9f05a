"""Half widths of all irreducible modes: three-phonon, isotope and boundary scattering.

    γ_s(q) = (1/N) Σ_triplets w |V|² {…}     three phonons, averaged over degenerate blocks (Laurent Chaput's and Atsushi
                                             Togo's conventions: phono3py, PRB 91, 094306 (2015), eq. 11)
    γ_s(q) = (π/4) f_s² (1/N) Σ_{q' t} Σ_j g_j |Σ_a e*_{ja}(q s) e_{ja}(q' t)|² δ(f_s - f_t)   isotopes (Tamura,
                                             PRB 27, 858 (1983)), g_j the mass variance of site j

One irreducible q is one item of a map; what it holds at a time is bounded by STRENGTH_BYTES, and the backward pass
recomputes it. Kernels that treat a few q share the pass over Φ3's entries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..types import Linewidths, Plan, TripletBucket, pytree
from ..units import CUTOFF_FREQUENCY, INTERACTION, K_B, LINEWIDTH, THZ_TO_EV
from .blocks import degenerate_blocks
from .broadening import Broadening, Pairs
from .chunking import map_live
from .meshes import third_point
from .onshell import ITEM_CHUNK, Room, Tetrahedron
from .scattering import (
    ModeTables,
    collapse,
    gather_third,
    mode_tables,
    pick_rods,
    planes_to_rods,
    rotate_first_leg,
    strengths,
)

if TYPE_CHECKING:
    from ..types import Array, Phonons

STRENGTH_BYTES = 32 * 2**20  # |V|² of one q held at once; leg-0 modes are split to stay below
ROD_BYTES = 2**19  # matrix elements rotated at once: half a megabyte stays in cache
GROUP = 8  # q-points that share one pass over the entries of Φ3


@pytree()
class State:
    """What every q-point looks up."""

    frequencies: Array  # (Q, m) THz
    modes: ModeTables
    sites: Array  # (n, 6, m Q) real and imaginary parts of e/√M at each site: columns of all modes
    masses2: Array  # (n,) amu²
    entries: tuple[Array, ...]  # Φ3 by cells
    occupation: Array  # (Q, m, T)
    broadening: Any  # the broadening's tables


def bose_einstein(frequencies: Array, temperatures: Array) -> Array:
    """n = 1/(exp(hf/kT) - 1), 0 for modes below the cut-off. (..., m) and (T,) → (..., m, T)"""
    alive = (frequencies > CUTOFF_FREQUENCY)[..., None]
    x = jnp.where(alive, frequencies[..., None] * (THZ_TO_EV / K_B) / temperatures, 1.0)
    return jnp.where(alive, 1 / jnp.expm1(x), 0.0)


def prepare(
    phonons: Phonons, third: Array, plan: Plan, temperatures: Array, broadening: Broadening, velocities: Array | None
) -> State:
    """Tables for all q-points; differentiable in phonons and third."""
    f = phonons.frequencies
    modes, masses = mode_tables(f, phonons.eigenvectors, plan.mesh, plan.crystal), jnp.asarray(plan.crystal.masses)
    Q, m = f.shape
    # rotation (Q, (re, im) of modes, (re, im) of components): its first columns are the real and imaginary parts
    sites = modes.rotation[:, :, :m].reshape(Q, 2, m, m // 3, 3).transpose(3, 1, 4, 2, 0).reshape(m // 3, 6, m * Q)
    return State(
        f,
        modes,
        sites,
        masses**2,
        gather_third(third, plan.third),
        bose_einstein(f, jnp.asarray(temperatures)),
        broadening.prepare(f, velocities, plan.mesh),
    )


def divisor(n: int, most: float) -> int:
    """The largest divisor of n that is at most `most` (at least 1)."""
    return max(d for d in range(1, n + 1) if n % d == 0 and d <= max(1, most))


def legs(bucket: TripletBucket, q: Array, dims: tuple[int, int, int], chunk: int) -> tuple[Array, Array, Array]:
    """q', q'' and the weights of one q, ordered (rod chunk, x, rod of the chunk). (rods · X,) each

    Args:
        bucket: of one member (no leading axis).
        q: () index of leg 0.
    """
    y, z = bucket.rods[:, 0], bucket.planes[bucket.rods[:, 1]]
    first = dims[0] * (y + dims[1] * z)[:, None] + jnp.arange(dims[0])

    def order(a: Array) -> Array:
        return a.reshape(-1, chunk, dims[0]).swapaxes(1, 2).ravel()

    first = order(first)
    return first, third_point(q, first, dims), order(bucket.weights)


def three_phonon(bucket: TripletBucket, cells: Array, state: State, plan: Plan, broadening: Broadening) -> Any:
    """γ of one q. Args: bucket of one member; cells from `collapse`. Returns (T, m), overflow."""
    dims = plan.mesh.dims
    m = state.frequencies.shape[1]
    R, X = bucket.weights.shape
    chunk = divisor(R, min(8, ROD_BYTES / (16 * X * m**3)))
    S = divisor(m, STRENGTH_BYTES / (8 * R * X * m**2))
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    first, second, weight = legs(bucket, q, dims, chunk)
    pairs = Pairs(first, second, weight, state.occupation)
    f0 = state.frequencies[q]
    rotation, inverse = state.modes.rotation, state.modes.inverse
    e0 = rotation[q].reshape(2, m, 2 * m)[:, :, :m]  # (re, im), mode, component

    def some_modes(items: tuple[Array, ...]) -> tuple[Array, Array]:
        e, f, scale = items
        spectra = planes_to_rods(rotate_first_leg(cells, e, plan.third), bucket.planes, plan.third, dims)

        def rods(picked: Array, e1: Array, e2: Array, f1: Array, f2: Array) -> Array:
            power = strengths(picked, e1, e2, plan.third, dims)
            return power * (f2[:, :, None, None] * f1[:, None, :, None] * scale)

        # every table is looked up here, once per q: inside the map, the backward pass would add up a cotangent of the
        # whole table for every chunk
        tables = (pick_rods(spectra, bucket.rods), rotation[first], rotation[second], inverse[first], inverse[second])
        by_chunk = tuple(x.reshape(R // chunk, -1, *x.shape[1:]) for x in tables)
        live = jnp.any(weight.reshape(-1, chunk * X) > 0, axis=1)
        power = map_live(rods, live, by_chunk).reshape(R * X, m, m, S)
        return broadening.three_phonon(state.broadening, pairs, f, power)

    factor = inverse[q] * (INTERACTION * LINEWIDTH / (dims[0] * dims[1] * dims[2]))
    groups = (
        e0.reshape(2, m // S, S, m).swapaxes(0, 1),
        f0.reshape(-1, S),
        factor.reshape(-1, S),
    )
    if m == S:
        gamma, overflow = some_modes(tuple(x[0] for x in groups))
    else:
        parts, overflows = jax.lax.map(jax.checkpoint(some_modes), groups)
        gamma, overflow = jnp.moveaxis(parts, 0, 1).reshape(-1, m), jnp.any(overflows)
    return gamma @ degenerate_blocks(f0), overflow


def isotope(q: Array, state: State, variances: Array, broadening: Broadening) -> tuple[Array, Array]:
    """γ of one q by mass disorder. Returns (m,), overflow."""
    Q, m = state.frequencies.shape
    f0, n = state.frequencies[q], m // 3
    S = divisor(m, STRENGTH_BYTES / (8 * Q * m))
    # the rotation's rows (re, im) of e/√M in the periodic gauge: |overlap|² at one site is M² that of eigenvectors
    e0 = state.modes.rotation[q].reshape(2, m, 2 * m)[:, :, :m].reshape(2, m // S, S, n, 3)

    def some_modes(items: tuple[Array, Array]) -> tuple[Array, Array]:
        (re, im), f = items  # (S, n, 3) each, (S,)
        strength = jnp.zeros((S, m, Q))
        for j in range(n):
            a, b = re[:, j], im[:, j]
            bra = jnp.concatenate([jnp.concatenate([a, b], 1), jnp.concatenate([-b, a], 1)])  # (re, im) of ⟨e0|
            overlap = (bra @ state.sites[j]).reshape(2, S, m, Q)
            strength = strength + (overlap[0] ** 2 + overlap[1] ** 2) * (variances[j] * state.masses2[j])
        return broadening.one_phonon(state.broadening, f, strength)

    modes = (jnp.moveaxis(e0, 1, 0), f0.reshape(-1, S))
    if m == S:
        gamma, overflow = some_modes(tuple(x[0] for x in modes))  # type: ignore[arg-type]
    else:
        gamma, overflows = jax.lax.map(jax.checkpoint(some_modes), modes)
        gamma, overflow = gamma.ravel(), jnp.any(overflows)
    alive = jnp.where(f0 > CUTOFF_FREQUENCY, f0, 0.0)
    return (jnp.pi / 4 / Q * alive**2 * gamma) @ degenerate_blocks(f0), overflow


def bucket_linewidths(
    bucket: TripletBucket, state: State, plan: Plan, variances: Array | None, broadening: Broadening
) -> tuple[Array, Array, Array]:
    """γ of all members of a bucket: three-phonon (B, T, m), isotope (B, m), overflow (B,).

    Members without any weight are padding: they cost nothing and return 0.
    """

    def one(member: TripletBucket, cells: Array) -> tuple[Array, Array, Array]:
        gamma, overflow = three_phonon(member, cells, state, plan, broadening)
        if variances is None:
            return gamma, jnp.zeros_like(state.frequencies[0]), overflow
        q = jnp.asarray(plan.mesh.irreducible)[member.members]
        disorder, too_many = isotope(q, state, variances, broadening)
        return gamma, disorder, overflow | too_many

    def group(members: TripletBucket) -> tuple[Array, Array, Array]:
        q = jnp.asarray(plan.mesh.qpoints)[jnp.asarray(plan.mesh.irreducible)[members.members]]
        cells = collapse(q, state.entries, plan.third)
        cells = jnp.moveaxis(cells.reshape(cells.shape[0], len(q), 2, 27), 1, 0)
        return map_live(one, jnp.any(members.weights > 0, axis=(1, 2)), (members, cells))

    size = divisor(len(bucket.members), GROUP)
    grouped = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, size, *x.shape[1:]), bucket)
    results = map_live(group, jnp.any(grouped.weights > 0, axis=(1, 2, 3)), (grouped,))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)


def needed_room(bucket: TripletBucket, state: State, plan: Plan, broadening: Tetrahedron) -> tuple[Array, ...]:
    """Largest numbers of three-phonon items, degenerate triplets and isotope items at any q of a bucket."""

    def one(member: TripletBucket) -> tuple[Array, ...]:
        q = jnp.asarray(plan.mesh.irreducible)[member.members]
        f0 = state.frequencies[q]
        pairs = Pairs(*legs(member, q, plan.mesh.dims, 1), state.occupation)
        isotope_items = jnp.sum(broadening.one_window(state.broadening, f0)[1])
        return (*broadening.count(state.broadening, pairs, f0), isotope_items)

    return tuple(x.max() for x in jax.lax.map(one, bucket))


def rounded_room(needed: tuple[int, ...], margin: float) -> Room:
    """Static sizes for measured needs: with a margin, up to the next 2^k or 1.5·2^k, so that compounds share compilations.

    Room that is not needed costs next to nothing: items are weighted chunk by chunk, and empty chunks are skipped.
    """

    def up(count: int, least: int) -> int:
        size = least
        while size < count * (1 + margin):
            size = size * 3 // 2 if size & (size - 1) == 0 else size * 4 // 3
        return size

    three, degenerate, one = needed
    return up(three, 2 * ITEM_CHUNK), up(degenerate, 64), up(one, 2 * ITEM_CHUNK)


__all__ = ["Linewidths", "bucket_linewidths", "needed_room", "prepare", "rounded_room"]
