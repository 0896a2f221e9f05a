"""Half widths of all irreducible modes: three-phonon, isotope and boundary scattering.

    γ_s(q) = (1/N) Σ_triplets w |V|² {…}     three phonons, averaged over degenerate blocks (Laurent Chaput's and Atsushi
                                             Togo's conventions: phono3py, PRB 91, 094306 (2015), eq. 11)
    γ_s(q) = (π/4) f_s² (1/N) Σ_{q' t} Σ_j g_j |Σ_a e*_{ja}(q s) e_{ja}(q' t)|² δ(f_s - f_t)   isotopes (Tamura,
                                             PRB 27, 858 (1983)), g_j the mass variance of site j

One irreducible q is one item of a map, or a few are treated side by side (_core/tiling.py); what is held at a time is
bounded, and the backward pass recomputes it. Kernels that treat a few q share the pass over Φ3's entries.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from .._core.chunking import BYTES, map_nonempty
from .._core.programs import program
from .._core.pytree import pytree
from .._core.tiling import tiling_for
from ..units import INTERACTION, K_B, LINEWIDTH, THZ_TO_EV
from .degeneracy import degenerate_averages, levels
from .matrix_elements import (
    contract_over_R2,
    gather_third,
    interaction_strength,
    mode_transforms,
    pick_rods,
    planes_to_rods,
)
from .mesh_index import third_point
from .pairs import Broadening, Pairs, State, Strength
from .phonons import compiled_phonons, group_velocities
from .taking_part import takes_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.pytree import Array
    from .._core.tiling import Tiling
    from ..types import ForceConstants, Phonons, Plan, Precision, TripletBucket
    from .phonons import LongRange


@pytree()
class Leg:
    """A phonon whose linewidths are wanted: all modes at one q (a leading axis for several)."""

    frequencies: Array  #: (m,) THz
    levels: Array  #: (m,) THz, see State
    rotation: Array  #: (2m, 2m)
    projectors: Array  #: (9 n, m)


def site_projectors(eigenvectors: Array) -> Array:
    """e e† of every mode at every site, as nine real numbers whose scalar products are |⟨e|e'⟩|² at that site.

    With p = (|e_a|², √2 Re e_a e_b*, √2 Im e_a e_b*) over a and a < b: |Σ_a e_a* e'_a|² = p · p'.

    Args:
        eigenvectors: (Q, m, m) complex, columns are modes.

    Returns:
        (n, 9, m, Q)
    """
    Q, m, _ = eigenvectors.shape
    e = eigenvectors.reshape(Q, m // 3, 3, m).transpose(1, 2, 3, 0)
    off = e * jnp.conj(jnp.roll(e, -1, axis=1)) * math.sqrt(2)
    return jnp.concatenate([e.real**2 + e.imag**2, off.real, off.imag], axis=1)


def bose_einstein(frequencies: Array, temperatures: Array) -> Array:
    """n = 1/(exp(hf/kT) - 1), 0 for modes below the cut-off. (..., m) and (T,) → (..., m, T)"""
    alive = takes_part(frequencies)[..., None]
    x = jnp.where(alive, frequencies[..., None] * (THZ_TO_EV / K_B) / temperatures, 1.0)
    return jnp.where(alive, 1 / jnp.expm1(x), 0.0)


def prepare(
    phonons: Phonons,
    third: Array,
    plan: Plan,
    temperatures: Array,
    broadening: Broadening,
    velocities: Array | None,
    tiling: Tiling,
    precision: Precision = "double",
) -> State:
    """Tables for all q-points; differentiable in phonons and third.

    Args:
        precision: "mixed" has the matrix elements in single precision: entries of Φ3 and rotations, and what is made of them.
    """
    f = phonons.frequencies
    dtype = jnp.float32 if precision == "mixed" else jnp.float64
    projectors = jnp.where(takes_part(f).T, site_projectors(phonons.eigenvectors), 0.0)
    if broadening.averages:
        projectors = jnp.einsum("qst,jptq->jpsq", degenerate_averages(f), projectors)
    energies = levels(f, plan.mesh) if broadening.averages else f
    return State(
        f,
        energies,
        mode_transforms(f, phonons.eigenvectors, plan.mesh, plan.crystal).astype(dtype),
        projectors.reshape(-1, f.size),
        gather_third(third, plan.fc3_table, dtype),
        bose_einstein(f, jnp.asarray(temperatures)),
        broadening.prepare(f, energies, velocities, plan.mesh, tiling),
        tiling,
    )


compiled_prepare = program(static=(6, 7))(prepare)


@program(static=4)
def _velocities(plan: Plan, modes: tuple[Array, Array], fc2: Array, nac: LongRange | None, chunk_bytes: int) -> Array:
    points, table = plan.mesh.qpoints, plan.fc2_table
    return group_velocities(points, modes, fc2, plan.crystal, table, nac, chunk_bytes=chunk_bytes)


def state_for(
    plan: Plan, fc: ForceConstants, phonons: Phonons, temperatures: Array, broadening: Broadening,
    nac: LongRange | None, tiling: Tiling, precision: Precision = "double",
) -> State:  # fmt: skip
    """`prepare` with the velocities that the broadening needs."""
    velocities = None
    if broadening.needs_velocities:
        modes = (phonons.frequencies, phonons.eigenvectors)
        velocities = _velocities(plan, modes, fc.fc2, nac, max(BYTES, tiling.least_bytes))
    return compiled_prepare(phonons, fc.fc3, plan, temperatures, broadening, velocities, tiling, precision)


def state_of(
    plan: Plan, fc: ForceConstants, broadening: Broadening, nac: LongRange | None, tiling: Tiling | None = None
) -> State:
    """`prepare` from force constants, where occupations do not matter (at 1 K)."""
    tiling = tiling_for() if tiling is None else tiling
    waves = compiled_phonons(plan, fc.fc2, nac, max(BYTES, tiling.least_bytes))
    return compiled_prepare(waves, fc.fc3, plan, jnp.ones(1), broadening, None, tiling=tiling)


def divisor(n: int, most: float) -> int:
    """The largest divisor of n that is at most `most` (at least 1)."""
    return max(d for d in range(1, n + 1) if n % d == 0 and d <= max(1, most))


def group_size(bucket: TripletBucket, modes: int, tiling: Tiling) -> int:
    """q-points of a bucket that are treated as one group: a power of two."""
    if not tiling.vectorised:
        return tiling.group
    count, R, X = bucket.weights.shape
    most = min(tiling.group, tiling.strength_bytes // (8 * R * X * modes**3), 2 ** (count - 1).bit_length())
    return 2 ** max(0, most.bit_length() - 1)


def legs(bucket: TripletBucket, q: Array, dims: tuple[int, int, int], chunk: int) -> tuple[Array, Array, Array]:
    """q', q'' and the weights of one q, ordered (rod chunk, x, rod of the chunk). (rods · X,) each

    Args:
        bucket: of one member (no leading axis).
        q: () index of leg 0.
    """
    y, z = bucket.rods[:, 0], bucket.planes[bucket.rods[:, 1]]
    first = dims[0] * (y + dims[1] * z)[:, None] + jnp.arange(dims[0], dtype=jnp.int32)

    def order(a: Array) -> Array:
        return a.reshape(-1, chunk, dims[0]).swapaxes(1, 2).ravel()

    first = order(first)
    return first, third_point(q, first, dims), order(bucket.weights)


def rods_at_once(bucket: TripletBucket, modes: int, tiling: Tiling) -> int:
    """Rods whose matrix elements are computed together."""
    R, X = bucket.weights.shape
    return divisor(R, min(tiling.rods, tiling.rod_bytes / (16 * X * modes**3)))


def interaction(
    bucket: TripletBucket, e0: Array, cells: Array, state: State, plan: Plan, triplets: tuple[Array, Array, Array]
) -> Strength:
    """|V|² of some modes of leg 0 with all pairs of the other legs.

    Args:
        bucket: of one member (no leading axis).
        e0: (2, s, m) real and imaginary part of the modes, rotated as in `mode_transforms`.
        cells: from `contract_over_R2`.
        triplets: from `legs`, in chunks of `rods_at_once`.
    """
    dims, tiling, table = plan.mesh.dims, state.tiling, plan.fc3_table
    first, second, weight = triplets
    R, X = bucket.weights.shape
    chunk = rods_at_once(bucket, state.frequencies.shape[1], tiling)
    live = jnp.any(weight.reshape(-1, chunk * X) > 0, axis=1)
    spectra = planes_to_rods(cells, e0, bucket.planes, table, dims, tiling)
    places = tuple(x.reshape(R // chunk, -1, *x.shape[1:]) for x in (bucket.rods, first, second))
    compute = partial(interaction_strength, dims)
    return Strength(look_up, compute, tiling.vectorised, live, table, (spectra, state.rotation), places)


def three_phonon(
    bucket: TripletBucket, leg: Leg, cells: Array, state: State, plan: Plan, broadening: Broadening
) -> tuple[Array, Array]:
    """γ of one q. Args: bucket of one member; cells from `contract_over_R2`. Returns (T, m), overflow."""
    dims, tiling = plan.mesh.dims, state.tiling
    m = len(leg.frequencies)
    R, X = bucket.weights.shape
    S = divisor(m, tiling.strength_bytes / (8 * R * X * m**2))
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    triplets = legs(bucket, q, dims, rods_at_once(bucket, m, tiling))
    pairs = Pairs(*triplets, state.occupation)

    def some_modes(items: tuple[Array, Array]) -> tuple[Array, Array]:
        e0, f0 = items
        strength = interaction(bucket, e0, cells, state, plan, triplets)
        return broadening.three_phonon(state.broadening, pairs, f0, strength)

    e0 = leg.rotation.reshape(2, m, 2 * m)[:, :, :m]  # (re, im), mode, component
    gamma, overflow = mode_groups(
        some_modes, (e0.reshape(2, m // S, S, m).swapaxes(0, 1), leg.frequencies.reshape(-1, S))
    )
    gamma = gamma * (INTERACTION * LINEWIDTH / (dims[0] * dims[1] * dims[2]))
    return gamma @ degenerate_averages(leg.frequencies), overflow


def look_up(tables: tuple[Array, Array], places: tuple[Array, ...]) -> tuple[Array, Array, Array]:
    """Spectra and rotations of some rods. Args: planes_to_rods' spectra and State.rotation; rods, q' and q''."""
    (spectra, rotation), (rods, first, second) = tables, places
    return pick_rods(spectra, rods), rotation[first], rotation[second]


def mode_groups(some_modes: Callable[[Any], tuple[Array, Array]], groups: Any) -> tuple[Array, Array]:
    """γ (..., modes) of all groups of leg-0 modes, one group at a time, and whether any overflowed."""
    if len(groups[0]) == 1:
        return some_modes(jax.tree.map(lambda x: x[0], groups))
    parts, overflows = jax.lax.map(jax.checkpoint(some_modes), groups)
    parts = jnp.moveaxis(parts, 0, -2)
    return parts.reshape(*parts.shape[:-2], -1), jnp.any(overflows)


def isotope(leg: Leg, state: State, variances: Array, broadening: Broadening) -> tuple[Array, Array]:
    """γ of one q by mass disorder. Returns (m,), overflow."""
    (Q, m), f0 = state.frequencies.shape, leg.frequencies
    S = divisor(m, state.tiling.strength_bytes / (8 * Q * m))
    # factors of f0 are applied here: outside the sum, its derivative would need the sum itself
    alive = jnp.where(takes_part(f0), f0, 0.0)
    bra = (leg.projectors * jnp.repeat(jnp.asarray(variances), 9)[:, None] * (jnp.pi / 4 / Q * alive**2)).T

    def some_modes(items: tuple[Array, Array]) -> tuple[Array, Array]:
        bra, f = items
        return broadening.one_phonon(state.broadening, f, bra @ state.projectors)

    gamma, overflow = mode_groups(some_modes, (bra.reshape(m // S, S, -1), leg.levels.reshape(-1, S)))
    return gamma @ degenerate_averages(f0), overflow


def bucket_linewidths(
    bucket: TripletBucket, state: State, plan: Plan, variances: Array | None, broadening: Broadening
) -> tuple[Array, Array, Array]:
    """γ of all members of a bucket: three-phonon (B, T, m), isotope (B, m), overflow (B,).

    Members without any weight are padding: they cost nothing and return 0.
    """

    def one(member: TripletBucket, leg: Leg, cells: Array) -> tuple[Array, Array, Array]:
        gamma, overflow = three_phonon(member, leg, cells, state, plan, broadening)
        if variances is None:
            return gamma, jnp.zeros_like(leg.frequencies), overflow
        disorder, too_many = isotope(leg, state, variances, broadening)
        return gamma, disorder, overflow | too_many

    def group(members: TripletBucket, legs: Leg) -> tuple[Array, Array, Array]:
        q = jnp.asarray(plan.mesh.qpoints)[jnp.asarray(plan.mesh.irreducible)[members.members]]
        cells = contract_over_R2(q, state.entries, plan.fc3_table)
        if state.tiling.vectorised:
            return jax.vmap(one)(members, legs, cells)
        live = jnp.any(members.weights > 0, axis=(1, 2))
        return map_nonempty(one, live, (members, legs, cells))

    return grouped(group, bucket, state, plan)


def grouped(
    group: Callable[[TripletBucket, Leg], Any], bucket: TripletBucket, state: State, plan: Plan, remat: bool = True
) -> Any:
    """`group` of groups of a bucket's members and their legs, one after the other; groups of padding are skipped."""
    size = divisor(len(bucket.members), group_size(bucket, state.frequencies.shape[1], state.tiling))
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    projectors = state.projectors.reshape(len(state.projectors), -1, len(state.frequencies))[:, :, q]
    members = (bucket, Leg(state.frequencies[q], state.levels[q], state.rotation[q], jnp.moveaxis(projectors, -1, 0)))
    parts = jax.tree.map(lambda x: jnp.asarray(x).reshape(-1, size, *x.shape[1:]), members)
    live = jnp.any(parts[0].weights > 0, axis=(1, 2, 3))
    results = map_nonempty(group, live, parts, remat, vectorised=state.tiling.vectorised)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), results)


__all__ = [
    "bucket_linewidths",
    "prepare",
]
