"""Index arithmetic on the mesh, inside traced code; the order is plan/mesh.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from .._core.pytree import Array


def address_of(index: Array, dims: tuple[int, int, int]) -> Array:
    """Integer coordinates of mesh points. (...) → (..., 3)"""
    rest = index // dims[0]
    return jnp.stack([index % dims[0], rest % dims[1], rest // dims[1]], axis=-1)


def index_of(address: Array, dims: tuple[int, int, int]) -> Array:
    """Index of integer coordinates, folded into the mesh. (..., 3) → (...)"""
    x, y, z = (jnp.mod(address[..., i], dims[i]) for i in range(3))
    return x + dims[0] * (y + dims[1] * z)


def third_point(q: Array, q1: Array, dims: tuple[int, int, int]) -> Array:
    """Index of q'' = -q - q'."""
    return index_of(-address_of(q, dims) - address_of(q1, dims), dims)


def neighbours(q: Array, offsets: Array, dims: tuple[int, int, int]) -> Array:
    """Indices of the points at integer `offsets` (V, 3) from q (...). (V, ...)"""
    return index_of(address_of(q, dims)[None] + offsets.reshape(-1, *[1] * q.ndim, 3), dims)
