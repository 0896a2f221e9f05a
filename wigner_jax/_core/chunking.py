"""Maps in chunks of bounded memory. Results do not depend on the chunk."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pytree import Array


BYTES = 64 * 2**20  # of temporaries that one chunk may hold: out of cache anyway, small beside any machine's memory


def chunk_size(bytes_per_item: int, limit: int = BYTES) -> int:
    """Number of items, at least one, whose temporaries fit into `limit` bytes."""
    return max(1, limit // max(1, bytes_per_item))


# A map over chunks that looks its own items up in a table streams less memory, but its backward pass would add up one
# cotangent of the whole table for every chunk. So the value is computed the one way and differentiated the other: where
# f = g, ḟ = ġ, and that is the rule.
@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def with_derivative_of(value: Callable[..., Any], differentiated: Callable[..., Any], *arguments: Any) -> Any:
    """``value(*arguments)``, with the derivatives of `differentiated`: the same function, written differently.

    Neither may close over traced arrays.
    """
    return value(*arguments)


@with_derivative_of.defjvp
def _other_way(
    value: Callable[..., Any], differentiated: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    return jax.jvp(differentiated, primals, tangents)


def map_chunks(function: Callable[[Any], Any], items: Any, chunk: int, live: Array | None = None) -> Any:
    """``function(items)`` for a function that treats every item alone, `chunk` items at a time.

    The backward pass recomputes a chunk's temporaries instead of keeping them (jax.checkpoint). The last chunk is
    filled up with copies of the first item, whose results are dropped: padding never brings a singular input.

    Args:
        function: pytree of arrays (c, ...) -> pytree of arrays (c, ...), for any c.
        items: pytree of arrays (N, ...).
        live: (N,) bool; a chunk without any costs nothing, and its results are zero. All unless given.

    Returns:
        pytree of arrays (N, ...).
    """
    count = jax.tree.leaves(items)[0].shape[0]
    if count <= chunk:
        return jax.checkpoint(function)(items)
    chunks = -(-count // chunk)
    padding = chunks * chunk - count

    def split(x: Any) -> Any:
        x = jnp.asarray(x)
        filled = jnp.concatenate([x, jnp.broadcast_to(x[:1], (padding, *x.shape[1:]))])
        return filled.reshape(chunks, chunk, *x.shape[1:])

    split_items = jax.tree.map(split, items)
    if live is None:
        results = jax.lax.map(jax.checkpoint(function), split_items)
    else:
        some = jnp.any(jnp.pad(live, (0, padding)).reshape(chunks, chunk), axis=1)
        results = map_nonempty(function, some, (split_items,))
    return jax.tree.map(lambda x: x.reshape(chunks * chunk, *x.shape[2:])[:count], results)


def map_nonempty(
    function: Callable[..., Any], live: Array, items: tuple[Any, ...], remat: bool = True, vectorised: bool = False
) -> Any:
    """``function(*item)`` for every item that is `live`, zeros for the others, which cost nothing.

    Static shapes are padded to the largest case, so that one compilation serves all; the padding is skipped here, one
    chunk at a time.

    Args:
        function: arrays of one item -> pytree of arrays.
        live: (N,) bool.
        items: pytrees of arrays (N, ...), the arguments of `function`.
        remat: the backward pass recomputes an item's temporaries (jax.checkpoint) instead of keeping them.
        vectorised: a single item is computed whether it is live or not (`Tiling.vectorised`).

    Returns:
        pytree of arrays (N, ...).
    """
    if vectorised and len(live) == 1:
        result = (jax.checkpoint(function) if remat else function)(*jax.tree.map(lambda x: x[0], items))
        return jax.tree.map(lambda x: x[None], result)
    shapes = jax.eval_shape(function, *jax.tree.map(lambda x: x[0], items))
    nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def one(item: tuple[Array, tuple[Any, ...]]) -> Any:
        alive, arguments = item
        return jax.lax.cond(alive, function, lambda *_: nothing, *arguments)

    # checkpoint around the branch, not inside it: a cond's residuals are all that its branches use, closed-over tables
    # included, and the scan would stack a copy of them for every item
    return jax.lax.map(jax.checkpoint(one) if remat else one, (live, items))
