"""Wigner thermal conductivity in the relaxation-time approximation.

κ_ab = (1/N V) Σ_q Σ_ss' C_ss' Re(V^a_ss' V^b_ss'*) Γ_ss' / [(f_s - f_s')² + Γ_ss'²] × units.KAPPA

with Γ_ss' = γ_s + γ_s' (half widths) and C_ss' = ¼ (f_s + f_s') (C_s/f_s + C_s'/f_s'): the Wigner conductivity of
Simoncelli, Marzari, Mauri, Nat. Phys. 15, 809 (2019) and PRX 12, 041011 (2022), in THz without 2π. Pairs inside one
degenerate block are populations, the rest coherences: the eigenvector gauge inside a block mixes s = s' with s ≠ s', so
that only their sum is physical. The split is a step function of the frequencies; derivatives are those of the total
(kappa_TOT), which is smooth.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ..types import Conductivity, Crystal, Mesh, Phonons
from ..units import K_B, KAPPA, THZ_TO_EV
from .degeneracy import same_degenerate_set
from .taking_part import is_scattered, takes_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.pytree import Array

    #: frequencies (P, m) THz, all above 0, and a temperature () K → (P, m, m) eV/K, symmetric
    HeatCapacityMatrix = Callable[[Array, Array], Array]

VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))  # xx, yy, zz, yz, xz, xy


def heat_capacity(frequencies: Array, temperatures: Array) -> Array:
    """C_s = k_B x² e^-x / (1 - e^-x)², x = h f / k_B T. 0 for modes below CUTOFF_FREQUENCY.

    Args:
        frequencies: (..., m) THz.
        temperatures: (T,) K.

    Returns:
        (T, ..., m) eV/K.
    """
    moves = takes_part(frequencies)
    temperatures = jnp.reshape(jnp.asarray(temperatures), (-1,) + (1,) * frequencies.ndim)
    x = THZ_TO_EV * jnp.where(moves, frequencies, 1.0) / (K_B * temperatures)
    return jnp.where(moves, K_B * x**2 * jnp.exp(-x) / jnp.expm1(-x) ** 2, 0.0)


def wigner_heat_capacity(frequencies: Array, temperature: Array) -> Array:
    """The heat-capacity matrix of the Wigner equation, C_ss' = ¼ (f_s + f_s') (C_s/f_s + C_s'/f_s').

    Simoncelli, Marzari, Mauri, PRX 12, 041011 (2022), eq. 49. Its diagonal is C_s.

    Args:
        frequencies: (..., m) THz, all above 0.
        temperature: () K.

    Returns:
        (..., m, m) eV/K, symmetric.
    """
    f = frequencies
    C = heat_capacity(f, temperature)[0] / f
    return (f[..., :, None] + f[..., None, :]) * (C[..., :, None] + C[..., None, :]) / 4


def green_kubo_heat_capacity(frequencies: Array, temperature: Array) -> Array:
    """The heat-capacity matrix of the quasi-harmonic Green–Kubo theory, C_ss' = (h² f_s f_s'/T) (n_s - n_s')/(h f_s' - h f_s).

    Isaeva, Barbalinardo, Donadio, Baroni, Nat. Commun. 10, 3853 (2019), eq. 7. With x = hf/k_B T and d = (x_s' - x_s)/2 it is
    k_B x_s x_s' (sinh d / d) / (4 sinh(x_s/2) sinh(x_s'/2)), which is regular where two frequencies meet: there it is C_s.

    Args:
        frequencies: (..., m) THz, all above 0.
        temperature: () K.

    Returns:
        (..., m, m) eV/K, symmetric.
    """
    x = frequencies * (THZ_TO_EV / K_B) / temperature
    a, b = x[..., :, None], x[..., None, :]
    half = (b - a) / 2
    apart = jnp.abs(half) > 1e-2
    d = jnp.abs(jnp.where(apart, half, 1.0))
    # (1 - e^-2d)/2d and (1 - e^-x) instead of sinh, which overflows: e^d e^-a/2 e^-b/2 = e^-min(a, b)
    far = -jnp.expm1(-2 * d) / (2 * d) * jnp.exp(-jnp.minimum(a, b))
    h2 = jnp.where(apart, 0.0, half) ** 2
    near = jnp.exp(-(a + b) / 2) * (1 + h2 / 6 * (1 + h2 / 20))  # sinh d / d to 2e-16 below d = 1e-2
    return K_B * a * b * jnp.where(apart, far, near) / (jnp.expm1(-a) * jnp.expm1(-b))


def _pairs(frequencies: Array, linewidths: Array, temperature: Array, matrix: HeatCapacityMatrix) -> Array:
    """C_ss' Γ_ss' / [(f_s - f_s')² + Γ_ss'²] at one temperature, 0 where a mode carries no heat. (P, m, m) eV/K/THz"""
    live = takes_part(frequencies) & is_scattered(linewidths)
    f = jnp.where(live, frequencies, 1.0)
    γ = jnp.where(live, linewidths, 1.0)
    pair = live[:, :, None] & live[:, None, :]
    Γ = γ[:, :, None] + γ[:, None, :]
    C_pair = matrix(f, temperature)
    return jnp.where(pair, C_pair * Γ / ((f[:, :, None] - f[:, None, :]) ** 2 + Γ**2), 0.0)


def _where_defined(kappa: Array, phonons: Phonons, linewidths: Array, temperatures: Array) -> Array:
    """κ (T, ...), NaN where a frequency or a linewidth is not finite or the temperature not above 0: never a number
    from the modes that happen to be left."""
    finite = jnp.all(jnp.isfinite(phonons.frequencies)) & jnp.all(jnp.isfinite(linewidths), axis=(1, 2))
    defined = finite & (temperatures > 0)
    return jnp.where(defined.reshape(-1, *(1,) * (kappa.ndim - 1)), kappa, jnp.nan)


def velocity_squared(velocity_operator: Array) -> Array:
    """Re(V^a_ss' V^b_ss'*), Voigt order. (P, m, m, 6) (THz Å)²"""
    a, b = (velocity_operator[..., index] for index in map(jnp.array, VOIGT))
    return jnp.real(a) * jnp.real(b) + jnp.imag(a) * jnp.imag(b)


def star_average(rotations: Array) -> Array:
    """The projection of a symmetric tensor onto the point group, K → (1/R) Σ_R R K R^T, in Voigt order.

    Args:
        rotations: (R, 3, 3) Cartesian.

    Returns:
        (6, 6): averaged_u = Σ_v result[u, v] K_v.
    """
    a, b = map(jnp.array, VOIGT)
    rotations = jnp.asarray(rotations)
    products = rotations[:, a][:, :, a] * rotations[:, b][:, :, b] + rotations[:, a][:, :, b] * rotations[:, b][:, :, a]
    return jnp.mean(products, axis=0) * jnp.where(a == b, 0.5, 1.0)


def _prefactor(mesh: Mesh, crystal: Crystal) -> tuple[Array, Array]:
    """Per irreducible point the star size times units.KAPPA / V (V of what is material) (P,), and the star projection (6, 6)."""
    volume = jnp.abs(jnp.linalg.det(jnp.asarray(crystal.lattice)))
    if crystal.occupied is not None:
        volume = volume * crystal.occupied
    return jnp.asarray(mesh.weights) * (KAPPA / volume), star_average(mesh.rotations)


def conductivity(
    phonons: Phonons,
    linewidths: Array,
    mesh: Mesh,
    crystal: Crystal,
    temperatures: Array,
    heat_capacity_matrix: HeatCapacityMatrix = wigner_heat_capacity,
) -> Conductivity:
    """κ and its resolution by modes and pairs of modes, at every temperature.

    Modes below CUTOFF_FREQUENCY (the acoustic ones at Γ) and modes without any linewidth contribute nothing.

    Args:
        phonons: on the mesh, velocity operator at its irreducible points.
        linewidths: (T, P, m) THz, total half widths; equal inside degenerate blocks.
        temperatures: (T,) K, those of the linewidths.
        heat_capacity_matrix: C_ss' of frequencies (P, m) THz and one temperature; another one makes another theory of transport.

    Returns:
        mode arrays hold the sum over the star of each irreducible point: Σ over (p, s) of mode_kappa_P[t], and over
        (p, s, s') of mode_kappa_C[t], divided by the number of mesh points, are kappa_P[t] and kappa_C[t].
    """
    frequencies = phonons.frequencies[mesh.irreducible]
    scale, average = _prefactor(mesh, crystal)
    tensors = velocity_squared(phonons.velocity_operator) @ average.T * scale[:, None, None, None]
    same = same_degenerate_set(frequencies)[..., None]

    def at(item: tuple[Array, Array]) -> tuple[Array, Array]:
        temperature, widths = item
        mode_kappa = _pairs(frequencies, widths, temperature, heat_capacity_matrix)[..., None] * tensors
        return jnp.sum(jnp.where(same, mode_kappa, 0.0), axis=-2), jnp.where(same, 0.0, mode_kappa)

    temperatures = jnp.asarray(temperatures)
    populations, coherences = (
        _where_defined(x, phonons, linewidths, temperatures) for x in jax.lax.map(at, (temperatures, linewidths))
    )
    points = mesh.qpoints.shape[0]
    return Conductivity(
        temperatures=temperatures,
        kappa_P=jnp.sum(populations, axis=(1, 2)) / points,
        kappa_C=jnp.sum(coherences, axis=(1, 2, 3)) / points,
        mode_kappa_P=populations,
        mode_kappa_C=coherences,
        heat_capacity=heat_capacity(frequencies, temperatures),
    )


def kappa_tensors(
    phonons: Phonons,
    linewidths: Array,
    mesh: Mesh,
    crystal: Crystal,
    temperatures: Array,
    heat_capacity_matrix: HeatCapacityMatrix = wigner_heat_capacity,
) -> tuple[Array, Array]:
    """κ_P and κ_C alone, (T, 6) each: `conductivity` without its mode-resolved arrays, one temperature at a time.

    NaN where no mode takes part, all of them imaginary or at zero frequency: there is no crystal to conduct.
    """
    frequencies = phonons.frequencies[mesh.irreducible]
    scale, average = _prefactor(mesh, crystal)
    tensors = velocity_squared(phonons.velocity_operator)
    same = same_degenerate_set(frequencies)

    @jax.checkpoint
    def at(item: tuple[Array, Array]) -> tuple[Array, Array]:
        temperature, widths = item
        pairs = _pairs(frequencies, widths, temperature, heat_capacity_matrix) * scale[:, None, None]
        split = jnp.stack([jnp.where(same, pairs, 0.0), jnp.where(same, 0.0, pairs)])
        κ = jnp.einsum("xpst,pstv->xv", split, tensors) @ average.T / mesh.qpoints.shape[0]
        return κ[0], κ[1]

    temperatures = jnp.asarray(temperatures)
    alive = jnp.any(takes_part(frequencies))
    populations, coherences = (
        jnp.where(alive, _where_defined(x, phonons, linewidths, temperatures), jnp.nan)
        for x in jax.lax.map(at, (temperatures, linewidths))
    )
    return populations, coherences


def mode_kappa_total(result: Conductivity) -> Array:
    """Every mode's share of κ_TOT: K_s = κ_P,s + 2 Σ_s' C_s / (C_s + C_s') κ_C,ss'.

    The heat that a pair of modes carries is divided in proportion to their heat capacities (the k_SRME convention,
    Póta, Ahlawat, Csányi, Simoncelli, arXiv:2408.00755). The share is a partition: Σ_ps K / Q = κ_TOT exactly.

    Returns:
        (T, P, m, 6); the scalar that k_SRME uses is the mean over the first three components.
    """
    C = result.heat_capacity
    total = C[..., :, None] + C[..., None, :]
    share = jnp.where(total > 0, C[..., :, None] / jnp.where(total > 0, total, 1.0), 0.0)
    return result.mode_kappa_P + 2 * jnp.einsum("tpsu,tpsuv->tpsv", share, result.mode_kappa_C)


def boundary_linewidth(velocity_operator: Array, frequencies: Array, mfp_um: float | Array) -> Array:
    """Half width of scattering at boundaries a mean free path apart, γ = |v| / (4π L).

    |v|² = (1/d) Σ_ss' Σ_a |V^a_ss'|² over the block of d degenerate modes: it does not depend on the gauge inside the
    block, and is the squared group velocity where d = 1.

    Args:
        velocity_operator: (P, m, m, 3) THz Å.
        frequencies: (P, m) THz, ascending.
        mfp_um: L in µm.

    Returns:
        (P, m) THz.
    """
    same = same_degenerate_set(frequencies)
    squared = jnp.sum(jnp.real(velocity_operator) ** 2 + jnp.imag(velocity_operator) ** 2, axis=-1)
    block_sum = jnp.einsum("pst,ptu,psu->ps", same.astype(squared.dtype), squared, same.astype(squared.dtype))
    speed2 = block_sum / jnp.sum(same, axis=-1)
    moving = speed2 > 0
    speed = jnp.where(moving, jnp.sqrt(jnp.where(moving, speed2, 1.0)), 0.0)
    return speed * (1e-10 * 1e6 / (4 * pi)) / jnp.where(jnp.asarray(mfp_um) > 0, mfp_um, jnp.nan)
