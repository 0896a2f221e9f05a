"""Custom derivative rules of the harmonic problem.

Eigenvectors at a degeneracy
----------------------------
D e_s = λ_s e_s with Hermitian D. To first order in dD, with M = E† dD E,

    dλ_s = M_ss,        dE = E K,   K_ts = M_ts / (λ_s - λ_t)   (t ≠ s),

which is singular where λ_s = λ_t: every symmetric q-point. The rule below sets K_ts = 0 for all pairs inside one
degenerate block, and keeps dλ_s = M_ss.

Claim: for a function f(λ, E) that does not change under unitary rotations inside blocks (a function of block sums
and of the projectors onto blocks), the rule is exact if the perturbed matrix is degenerate in the same blocks.
Proof: D(t) has a smooth block-diagonalisation; its Sylvester equation fixes K between blocks as above, and leaves the
anti-Hermitian part inside a block free. Such f does not see that part, so zero is as good as any choice. The blocks
stay degenerate, hence M inside a block is a multiple of 1 and dλ_s = M_ss in every gauge.

When it holds: D(t) keeps the symmetry that enforces the degeneracy. Parameters of a potential do: inside one
irreducible representation M is a multiple of 1 by Schur's lemma. A strain, or a change of q, that splits the block does
not: its modes have no single-valued derivative one by one, and only sums over the block are differentiated correctly.

Two modes of different representations that come closer than the block's tolerance by accident are treated as
degenerate: f then must be invariant under their mixing, which all linewidths and conductivities of this package are by
averaging over the same blocks.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ..units import CUTOFF_FREQUENCY, SQRT_EV_A2_AMU_TO_THZ
from .degeneracy import same_degenerate_set

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.pytree import Array


def frequencies_of(eigenvalues: Array) -> Array:
    """f = sign(λ) √|λ| in THz, from eigenvalues of the dynamical matrix in eV/Å²/amu; same shape.

    Modes below CUTOFF_FREQUENCY (the acoustic ones at Γ) contribute to nothing, and √|λ| has no derivative at 0: theirs
    is set to 0. The input of the square root is guarded, so that no infinity arises on the way.
    """
    floor = (CUTOFF_FREQUENCY / SQRT_EV_A2_AMU_TO_THZ) ** 2
    regular = jnp.abs(eigenvalues) > floor
    guarded = jnp.sqrt(jnp.where(regular, jnp.abs(eigenvalues), floor))
    constant = jnp.sqrt(jnp.abs(jax.lax.stop_gradient(eigenvalues)))
    return SQRT_EV_A2_AMU_TO_THZ * jnp.sign(eigenvalues) * jnp.where(regular, guarded, constant)


def phonon_blocks(eigenvalues: Array) -> Array:
    """Degenerate blocks (same_block) of the modes with these eigenvalues of the dynamical matrix. (..., m, m) bool"""
    return same_degenerate_set(frequencies_of(eigenvalues))


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def eigh(matrix: Array, blocks: Callable[[Array], Array] = phonon_blocks) -> tuple[Array, Array]:
    """Eigenvalues (ascending) and eigenvectors (columns) of Hermitian matrices, differentiable at degeneracies.

    Derivation and validity of the derivative stand at the top of this module. Never put this inside jax.checkpoint: the
    recomputed matrix differs in its last bit, the recomputed eigenvectors then differ by a finite rotation inside
    degenerate blocks, and the backward pass would combine cotangents of one gauge with eigenvectors of another
    (measured on silicon: gradients wrong by 20 %). The eigenvectors are a result anyway, so keeping them costs nothing.

    Args:
        matrix: (..., m, m) Hermitian; only its Hermitian part is used.
        blocks: eigenvalues (..., m) -> (..., m, m) bool, True for pairs inside one degenerate block, an equivalence
            relation. Equal eigenvalues must share a block.

    Returns:
        eigenvalues (..., m), eigenvectors (..., m, m).
    """
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=True)
    return values, vectors


@eigh.defjvp
def _eigh_jvp(blocks, primals, tangents):
    (matrix,), (tangent,) = primals, tangents
    values, vectors = eigh(matrix, blocks)
    tangent = (tangent + jnp.conj(jnp.swapaxes(tangent, -1, -2))) / 2
    M = jnp.conj(jnp.swapaxes(vectors, -1, -2)) @ tangent @ vectors
    gap = values[..., None, :] - values[..., :, None]  # [t, s]: λ_s - λ_t
    apart = ~blocks(values) & (gap != 0)
    K = jnp.where(apart, M / jnp.where(apart, gap, 1.0), 0.0)
    d_values = jnp.real(jnp.diagonal(M, axis1=-2, axis2=-1))
    return (values, vectors), (d_values, vectors @ K)
