"""Degenerate blocks: sets of modes between which the eigenvector gauge is free."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ..units import DEGENERACY
from .taking_part import takes_part

if TYPE_CHECKING:
    from .._core.pytree import Array
    from ..types import Mesh


def same_degenerate_set(frequencies: Array, tolerance: float = DEGENERACY) -> Array:
    """True where two modes belong to one degenerate block.

    Modes in ascending order whose neighbours are closer than `tolerance` (THz) form one block: the relation is chained,
    so that it is an equivalence and a block is a window of consecutive modes.

    Args:
        frequencies: (..., m) THz, ascending.

    Returns:
        (..., m, m) bool.
    """
    xp = _module_of(frequencies)
    gap = xp.diff(frequencies, axis=-1) >= tolerance
    label = xp.cumsum(xp.pad(gap, [(0, 0)] * (gap.ndim - 1) + [(1, 0)]), axis=-1)
    return label[..., :, None] == label[..., None, :]


def degenerate_averages(frequencies: Array, tolerance: float = DEGENERACY) -> Array:
    """The projection A that averages over degenerate blocks: A = A², A_ss' = 1/d inside a block of d modes, else 0.

    ``jnp.einsum("...st,...t->...s", A, x)`` replaces every mode's x by the average of its block. A is a
    piecewise constant function of the frequencies: its derivative is zero.

    Args:
        frequencies: (..., m) THz, ascending.

    Returns:
        (..., m, m), symmetric, rows sum to 1.
    """
    same = same_degenerate_set(frequencies, tolerance).astype(jnp.result_type(frequencies))
    return same / same.sum(axis=-1, keepdims=True)


def _module_of(array: Array) -> Any:
    """NumPy for its own arrays, on the host: each operation of JAX there is a program."""
    return np if isinstance(array, np.ndarray) else jnp


def levels(frequencies: Array, mesh: Mesh) -> Array:
    """Frequencies that are equal by symmetry, equal to all digits: averaged over degenerate blocks and over the star.

    Modes that take no part are at 0.

    Args:
        frequencies: (Q, m) THz, ascending.

    Returns:
        (Q, m) THz.
    """
    taking_part = jnp.where(takes_part(frequencies), frequencies, 0.0)
    blocks = jnp.einsum("qst,qt->qs", degenerate_averages(frequencies), taking_part)
    star, weights = jnp.asarray(mesh.star), jnp.asarray(mesh.weights)
    total = jnp.zeros((len(weights), blocks.shape[1]), blocks.dtype).at[star].add(blocks)
    return (total / weights[:, None])[star]
