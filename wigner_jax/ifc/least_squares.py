"""The linear algebra between directional derivatives G and force constants Φ: Φ = C c, G = A c (`plan.patterns`).

C and A are never formed: C is an expansion of orbits, A c is Φ applied to the patterns, transposes are JAX's.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from .._core.pytree import Array
    from .displacement_patterns import Fit


def expand(fit: Fit, c: Array) -> Array:
    """Φ = C c, compact: (n, N, 3, 3) or (n, N, N, 3, 3, 3) from the parameters (n_b,)."""
    basis = fit.basis
    m, n, N = basis.order, basis.p2s_map.shape[0], basis.translations.shape[1]
    padded = jnp.concatenate([c, jnp.zeros(1, c.dtype)])
    tensor = jnp.einsum("odr,or->od", basis.local, padded[basis.slots])[basis.orbit].reshape((-1,) + (3,) * m)
    rotate = {2: "xab,xcd,xbd->xac", 3: "xab,xcd,xef,xbdf->xace"}
    tensor = jnp.einsum(rotate[m], *[basis.rotation] * m, tensor, optimize="optimal")
    flat = jnp.take_along_axis(tensor.reshape(-1, 3**m), basis.legs, axis=1)
    return flat.reshape((n,) + (N,) * (m - 1) + (3,) * m)


def apply(fit: Fit, phi: Array) -> Array:
    """A c, given Φ = C c: G[k, J, α] = Σ Φ[J α, K β, L γ] u_k[K, β] v_k[L, γ]. (K, N, 3)"""
    basis = fit.basis
    rows = basis.translations[:, basis.p2s_map]  # (L, n): the atoms these equations are about

    def one(pattern: Array) -> Array:
        legs = pattern[:, basis.translations]  # (m-1 or 1, L, N, 3)
        if basis.order == 2:
            values = jnp.einsum("iKab,lKb->lia", phi, legs[0])
        else:
            values = jnp.einsum("iKLabc,lLc->liKab", phi, legs[-1])
            values = jnp.einsum("liKab,lKb->lia", values, legs[0])
        return jnp.zeros(pattern.shape[1:], phi.dtype).at[rows].set(values, unique_indices=True)

    return jax.lax.map(one, fit.patterns)


def design(fit: Fit, c: Array) -> Array:
    """A c. (K, N, 3)"""
    return apply(fit, expand(fit, c))


def zero_parameters(fit: Fit) -> Array:
    """c = 0. (n_b,)"""
    return jnp.zeros(fit.basis.n_parameters, fit.patterns.dtype)


def expand_transpose(fit: Fit, W: Array) -> Array:
    """Cᵀ W for W of the shape of Φ. (n_b,)"""
    return jax.linear_transpose(partial(expand, fit), zero_parameters(fit))(W)[0]


def design_transpose(fit: Fit, G: Array) -> Array:
    """Aᵀ G. (n_b,)"""
    return jax.linear_transpose(partial(design, fit), zero_parameters(fit))(G)[0]


def normal_solve(fit: Fit, b: Array) -> Array:
    """(AᵀA)⁻¹ b: two triangular solves, or one small matrix per orbit in the column scheme. (n_b,)"""
    if fit.factor.ndim == 2:
        return jax.scipy.linalg.cho_solve((fit.factor, True), b)
    slots = fit.basis.slots
    blocks = jnp.einsum("ors,os->or", fit.factor, jnp.concatenate([b, jnp.zeros(1, b.dtype)])[slots])
    return jnp.zeros(b.shape[0] + 1, b.dtype).at[slots].set(blocks)[:-1]


def pattern_weights(fit: Fit, W: Array) -> Array:
    """w = A M⁻¹ Cᵀ W: ⟨W, Φ⟩ = ⟨w, G⟩ for every G. (K, N, 3)"""
    return design(fit, normal_solve(fit, expand_transpose(fit, W)))


def recover(fit: Fit, G: Array) -> tuple[Array, Array]:
    """Least squares with one refinement step.

    Returns:
        Φ, compact.
        residual: ‖A c − G‖/‖G‖; of ½ (G(u) + S⁻¹ G(Su)) if the fit has mirror images. Rounding (1e-14) if the potential
            is equivariant, the neighbour list complete and the structure exactly symmetric: a structure written with 8
            decimals shows 1e-9.
    """
    # a loop of two steps from 0 rather than two copies of the solution
    c = jax.lax.fori_loop(
        0, 2, lambda _, c: c + normal_solve(fit, design_transpose(fit, G - design(fit, c))), zero_parameters(fit)
    )
    phi = expand(fit, c)
    misfit = apply(fit, phi) - G
    if fit.mirror is not None:
        permutation, rotation = fit.mirror
        own, images = jnp.split(misfit, 2)
        misfit = (own + images[:, permutation] @ rotation) / math.sqrt(2)
    return phi, jnp.linalg.norm(misfit) / jnp.linalg.norm(G)
