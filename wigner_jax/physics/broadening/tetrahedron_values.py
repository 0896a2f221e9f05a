"""Arguments of δ at the vertices around a point of the mesh, looked up in tables, and their derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..._core.pytree import pytree

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..._core.tiling import Tiling


@pytree("tiling")
class TetrahedronTables:
    """Frequencies (of modes that take no part: 0), those of the neighbours of every mesh point, and blocks."""

    frequencies: Array  #: (Q m,) THz
    levels: Array  #: (Q m,) THz, of elastic scattering
    elastic: Array  #: (V, Q m) THz, the levels of the neighbours; carries no derivative
    neighbours: tuple[Array, Array]  #: (V, Q) int, of every mesh point, and opposite to each
    around: Array  #: (V, Q m) THz, carries no derivative: see `on_shell_values`
    opposite: Array  #: (V, Q m) THz, the same at the vertices opposite to each
    single: tuple[Array, Array]  #: (V, Q m) both in single precision, for `windows`
    low: Array  #: (m, Q) least level of the neighbourhood
    high: Array  #: (m, Q)
    blocks: Array  #: (Q, m, m) averaging over degenerate blocks
    degenerate: Array  #: (Q,) bool, has a block of several modes
    tiling: Tiling


# The values of δ's argument at the vertices around (q', q''), looked up in the table of neighbours: with F the clamped
# frequencies, n_v the neighbours, and v̄ the vertex opposite to v (q'' moves against q')
#     x_v = ± F[n_v(q'), t] ± F[n_v̄(q''), u] - f
# The table is V times as large as F. Reverse mode through it would add up cotangents of that size for every chunk; the
# rules below take the derivative where it belongs, at F itself, and are linear in it:
#     ẋ_v = ± Ḟ[n_v(q'), t] ± Ḟ[n_v̄(q''), u] - ḟ
#
# On an accelerator Ḟ goes through a table of all triplets' neighbourhoods first, from which the items read: transposed, items
# meet at addresses of their own triplet, and only the sums meet at those of F. Directly there are 47 million atomic additions
# onto 8000 addresses (NaCl 11³), where a gradient on an H200 took 8.5 times the value. On a CPU that table does not fit into
# the cache, and F does.
@jax.custom_jvp
def on_shell_values(
    frequencies: Array, f: Array, tables: TetrahedronTables, legs: tuple[Array, Array], places: tuple[Array, ...]
) -> Array:
    """Arguments of δ in three-phonon scattering. (V, items) THz

    Args:
        frequencies: (Q m,) clamped.
        f: (items,) of leg 0.
        legs: q' and q'' of the triplets, (t,) each.
        places: q', t, q'', u (int), the signs of both legs, and the triplet, (items,) each.
    """
    first, t, second, u, sign_t, sign_u, _ = places
    m = len(tables.low)
    return sign_t * tables.around[:, first * m + t] + sign_u * tables.opposite[:, second * m + u] - f


@on_shell_values.defjvp
def _on_shell_values_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    _, _, tables, legs, (first, t, second, u, sign_t, sign_u, triplet) = primals
    change, shift = tangents[:2]
    m, (near, far) = len(tables.low), tables.neighbours
    if tables.tiling.vectorised:
        rows = change.reshape(-1, m)
        around, opposite = (jnp.moveaxis(rows[index[:, q]], 0, -1) for index, q in zip((near, far), legs, strict=True))
        moved = sign_t * around[triplet, t].T + sign_u * opposite[triplet, u].T
    else:
        moved = sign_t * change[near[:, first] * m + t] + sign_u * change[far[:, second] * m + u]
    return on_shell_values(*primals), moved - shift


@jax.custom_jvp
def elastic_values(levels: Array, f: Array, tables: TetrahedronTables, q: Array, t: Array) -> Array:
    """Arguments of δ in elastic scattering, F[n_v(q'), t] - f, of levels F. Args as above. (V, items) THz"""
    return tables.elastic[:, q * len(tables.low) + t] - f


@elastic_values.defjvp
def _elastic_values_jvp(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Array, Array]:
    _, _, tables, q, t = primals
    return elastic_values(*primals), tangents[0][tables.neighbours[0][:, q] * len(tables.low) + t] - tangents[1]


__all__ = ["TetrahedronTables", "elastic_values", "on_shell_values"]
