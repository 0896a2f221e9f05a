"""Elastic scattering by the linear tetrahedron method: the items of one q and their widths."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from ..._core.chunking import map_nonempty
from .tetrahedron_values import TetrahedronTables, elastic_values
from .tetrahedron_weights import weighted
from .windows import Fields, Windows, in_blocks

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ...types import Tetrahedra

TIE = 1e-7  # THz: frequencies closer than this are the same by symmetry
Items = tuple["Array", Windows]  # label of each, and the windows


class ElasticParts(NamedTuple):
    """What γ of one q by isotopes is made of."""

    power: Array  #: (s t Q,)
    f0: Array  #: (s,) THz
    tables: TetrahedronTables
    tetrahedra: Tetrahedra

    @property
    def fields(self) -> Fields:
        """Of the windows: t."""
        m, Q = self.tables.low.shape
        return Fields((m,), Q)

    def at(self, t: Array, q: Array, mode: Array, valid: Array) -> Array:
        """Strength of items."""
        m, Q = self.tables.low.shape
        return jnp.where(valid, self.power[mode * (m * Q) + t * Q + q], 0.0)

    def weigh(self, power: Array, t: Array, q: Array, mode: Array) -> Array:
        """γ (s,) of items."""
        x = elastic_values(self.tables.levels, self.f0[mode], self.tables, q, t)
        gamma = weighted(power[:, None], jnp.where(jnp.abs(x) < TIE, 0.0, x), self.tetrahedra, elastic=True)
        return gamma[:, 0] @ jax.nn.one_hot(mode, len(self.f0), dtype=gamma.dtype)


def elastic_item_by_item(parts: ElasticParts, items: Items) -> Array:
    """γ (s,) of the items, each block of them looked up by itself."""
    (label, windows), tiling = items, parts.tables.tiling
    blocks = in_blocks((label, jnp.arange(len(label), dtype=jnp.int32)), tiling)

    def weigh(*block: Array) -> Array:
        (t,), q, mode, valid = windows.at(parts.fields, *block)
        return parts.weigh(parts.at(t, q, mode, valid), t, q, mode)

    return jnp.sum(map_nonempty(weigh, blocks[1][:, 0] < windows.total, blocks, vectorised=tiling.vectorised), axis=0)


def elastic_table_by_table(parts: ElasticParts, items: Items) -> Array:
    """The same, all items looked up at once."""
    (label, windows), tiling = items, parts.tables.tiling
    (t,), q, mode, valid = windows.at(parts.fields, label, jnp.arange(len(label), dtype=jnp.int32))
    *blocks, valid = in_blocks((parts.at(t, q, mode, valid), t, q, mode, valid), tiling)
    return jnp.sum(map_nonempty(parts.weigh, valid[:, 0], tuple(blocks), vectorised=tiling.vectorised), axis=0)


__all__ = ["TIE", "ElasticParts", "elastic_item_by_item", "elastic_table_by_table"]
