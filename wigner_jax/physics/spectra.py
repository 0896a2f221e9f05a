"""Conductivity by frequency, by mean free path and by pairs of frequencies; and the regimes of transport.

Mode values K hold the star of their q-point, as everywhere: Σ_ps K / Q = κ, with Q mesh points.

Regimes (Simoncelli, Marzari, Mauri, PRX 12, 041011 (2022), sec. IV). A phonon lives τ = 1/(4πγ). Heat is carried by

    populations, as in the Boltzmann equation   where 1/τ < Δω_avg = ω_max / (3 N_atoms)   (above: the Wigner limit)
    coherences as well                          where 1/τ > Δω_avg, the average spacing of the bands
    no quasiparticle at all                     where 1/τ > ω                              (the Ioffe-Regel limit)

With f = ω/2π these are 2γ > f_max / 3N and 2γ > f.
"""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING

import jax.numpy as jnp

from .degeneracy import degenerate_averages
from .taking_part import is_scattered

if TYPE_CHECKING:
    from .._core.pytree import Array


BINS = 40  # of a coherence map, along each frequency


def spectrum(frequencies: Array, modes: Array, points: int | Array, at: Array, width: float | Array) -> Array:
    """κ(f) = (1/Q) Σ_ps K_ps g(f - f_ps), g a normalised Gaussian: its integral over all f is κ.

    With K the weights of the q-points it is the density of states.

    Args:
        frequencies, modes: (P, m) THz, and anything.
        points: Q.
        at: (F,) THz.
        width: standard deviation of g, THz.

    Returns:
        (F,), unit of `modes` per THz.
    """
    x = (jnp.asarray(at)[:, None] - jnp.ravel(frequencies)) / width
    return jnp.exp(-(x**2) / 2) @ jnp.ravel(modes) / (jnp.sqrt(2 * pi) * width * points)


def cumulative(x: Array, modes: Array, points: int | Array) -> tuple[Array, Array]:
    """κ of the modes with a property up to x: (x in ascending order, (1/Q) Σ K of those), (P m,) each."""
    order = jnp.argsort(jnp.ravel(x))
    return jnp.ravel(x)[order], jnp.cumsum(jnp.ravel(modes)[order]) / points


def mean_free_path(gv_by_gv: Array, weights: Array, frequencies: Array, linewidths: Array) -> Array:
    """Λ = |v| τ, with |v|² the average over the degenerate block of Σ_a Σ_s' |V^a_ss'|². Inf for modes without width.

    Args:
        gv_by_gv: (P, m, 6) (THz Å)², Voigt order, summed over star and block (phono3py's dataset).
        weights: (P,) sizes of the stars.
        frequencies: (P, m) THz.
        linewidths: (P, m) THz.

    Returns:
        (P, m) nm.
    """
    squared = jnp.sum(jnp.asarray(gv_by_gv)[..., :3], axis=-1) / jnp.asarray(weights)[:, None]
    squared = jnp.einsum("pst,pt->ps", degenerate_averages(jnp.asarray(frequencies)), squared)
    scatters = is_scattered(jnp.asarray(linewidths))
    lifetime = 1 / (4 * pi * jnp.where(scatters, linewidths, 1.0))
    return jnp.where(scatters, jnp.sqrt(jnp.maximum(squared, 0.0)) * lifetime * 0.1, jnp.inf)


def bin_edges(frequencies: Array, bins: int = BINS) -> Array:
    """Equal bins from 0 to the highest frequency. (bins + 1,) THz"""
    return jnp.linspace(0.0, jnp.max(jnp.asarray(frequencies)), bins + 1)


def coherence_map(frequencies: Array, coherences: Array, points: int | Array, edges: Array) -> Array:
    """κ_C by the frequencies of the two modes of a pair: M_ab = (1/Q) Σ κ_C,ss' over pairs with f_s in bin a, f_s' in b.

    Symmetric, and Σ_ab M_ab = κ_C. Frequencies outside the bins count in the first or last one (imaginary modes carry
    nothing).

    Args:
        frequencies: (P, m) THz.
        coherences: (T, P, m, m) W/(m K), stars in them: a third of the trace of `Conductivity.mode_kappa_C`.
        edges: (B + 1,) THz, ascending.

    Returns:
        (T, B, B) W/(m K).
    """
    bins = jnp.shape(edges)[0] - 1
    row = jnp.clip(jnp.searchsorted(jnp.asarray(edges), jnp.asarray(frequencies), side="right") - 1, 0, bins - 1)
    cell = (row[:, :, None] * bins + row[:, None, :]).ravel()
    coherences = jnp.asarray(coherences)
    values = coherences.reshape(coherences.shape[0], -1)
    flat = jnp.zeros((values.shape[0], bins * bins), values.dtype).at[:, cell].add(values)
    return flat.reshape(-1, bins, bins) / points


def band_spacing(frequencies: Array) -> Array:
    """f_max / 3N, THz: the average spacing of the bands without 2π, Δω_avg / 2π. () from (P, m)"""
    return jnp.max(jnp.asarray(frequencies)) / jnp.shape(frequencies)[-1]


def beyond_limits(frequencies: Array, linewidths: Array, weights: Array, carries: Array) -> tuple[Array, Array]:
    """Share of the modes beyond the Wigner limit (2γ > f_max/3N) and beyond the Ioffe-Regel limit (2γ > f). (T,) each

    Args:
        frequencies: (P, m) THz.
        linewidths: (T, P, m) THz, total half widths.
        weights: (P,) sizes of the stars.
        carries: (P, m) bool, the modes that count (`taking_part.takes_part`).
    """
    share = jnp.where(carries, jnp.asarray(weights)[:, None], 0)
    share = share / jnp.sum(share)
    width = 2 * jnp.asarray(linewidths)

    def beyond(limit: Array) -> Array:
        return jnp.sum(jnp.where(width > limit, share, 0.0), axis=(1, 2))

    return beyond(band_spacing(frequencies)), beyond(jnp.asarray(frequencies))


__all__ = [
    "BINS",
    "band_spacing",
    "beyond_limits",
    "bin_edges",
    "coherence_map",
    "cumulative",
    "mean_free_path",
    "spectrum",
]
