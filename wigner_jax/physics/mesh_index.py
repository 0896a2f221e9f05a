"""Index arithmetic on the mesh, inside traced code; the order is plan/mesh.py's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from .._core.pytree import Array


def address_of(index: Array, dims: tuple[int, int, int]) -> Array:
    """Integer coordinates of mesh points. (...) → (..., 3)"""
    return jnp.stack(_address(index, dims), axis=-1)


def index_of(address: Array, dims: tuple[int, int, int]) -> Array:
    """Index of integer coordinates, folded into the mesh. (..., 3) → (...)"""
    x, y, z = (jnp.mod(address[..., i], dims[i]) for i in range(3))
    return x + dims[0] * (y + dims[1] * z)


def third_point(q: Array, q1: Array, dims: tuple[int, int, int]) -> Array:
    """Index of q'' = -q - q'."""
    address = zip(_address(q, dims), _address(q1, dims), dims, strict=True)
    x, y, z = (jnp.where(a + b > n, 2 * n, n) - a - b for a, b, n in address)
    x, y, z = (jnp.where(i == n, 0, i) for i, n in zip((x, y, z), dims, strict=True))
    return x + dims[0] * (y + dims[1] * z)


def _address(index: Array, dims: tuple[int, int, int]) -> tuple[Array, Array, Array]:
    """Coordinates of indices ≥ 0: jnp's division also rounds negative numbers, which makes three kernels of one."""
    index = jnp.asarray(index)
    rest = jax.lax.div(index, jnp.asarray(dims[0], index.dtype))
    z = jax.lax.div(rest, jnp.asarray(dims[1], index.dtype))
    return index - dims[0] * rest, rest - dims[1] * z, z


def neighbours(q: Array, offsets: Array, dims: tuple[int, int, int]) -> Array:
    """Indices of the points at integer `offsets` (V, 3) from q (...). (V, ...)"""
    return index_of(address_of(q, dims)[None] + offsets.reshape(-1, *[1] * q.ndim, 3), dims)
