from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ..._core.chunking import map_nonempty, with_derivative_of
from ..._core.pytree import pytree

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..._core.pytree import Array
    from ...types import Mesh


@pytree()
class Pairs:
    """The two other legs of one q's triplets."""

    first: Array  # (t,) int, q'
    second: Array  # (t,) int, q''
    weight: Array  # (t,) number of triplets each stands for; 0 for padding
    occupation: Array  # (Q, m, T) Bose-Einstein, 0 for modes below the cut-off


class Strength(NamedTuple):
    """|V|² of one q, computed chunk by chunk of its triplets."""

    look_up: Callable[..., tuple[Array, ...]]  # tables and the places of one chunk -> its items
    compute: Callable[..., Array]  # constants and the items of one chunk -> (c, u, t, s)
    live: Array  # (chunks,) bool
    constants: Any
    tables: tuple[Array, ...]
    places: tuple[Array, ...]  # (chunks, ...) each

    def split(self, x: Array) -> Array:
        """(t, ...) of all triplets → (chunks, c, ...)."""
        return x.reshape(len(self.live), -1, *x.shape[1:])

    @property
    def items(self) -> tuple[Array, ...]:
        """(chunks, ...) each."""
        places = tuple(x.reshape(-1, *x.shape[2:]) for x in self.places)
        return tuple(self.split(x) for x in self.look_up(self.tables, places))

    def power(self, *items: Array) -> Array:
        """(c, u, t, s) of one chunk."""
        return self.compute(self.constants, *items)

    def all(self) -> Array:
        """(t, u, t, s) of all triplets, 0 for those of dead chunks."""
        look_up, compute = self[:2]

        def value(live: Array, constants: Any, tables: tuple[Array, ...], places: tuple[Array, ...]) -> Array:
            return map_nonempty(lambda *p: compute(constants, *look_up(tables, p)), live, places)

        def differentiated(*parts: Any) -> Array:
            strength = Strength(look_up, compute, *parts)
            return map_nonempty(strength.power, strength.live, strength.items)

        constants = jax.lax.stop_gradient(self.constants)
        power = with_derivative_of(value, differentiated, self.live, constants, self.tables, self.places)
        return power.reshape(-1, *power.shape[2:])


class Broadening(Protocol):
    """See the module's docstring."""

    @property
    def needs_velocities(self) -> bool: ...

    @property
    def averages(self) -> bool: ...

    def reserved(self, bucket: int) -> Broadening: ...

    def prepare(self, frequencies: Array, velocities: Array | None, mesh: Mesh) -> Any: ...

    def three_phonon(self, tables: Any, pairs: Pairs, f0: Array, strength: Strength) -> tuple[Array, Array]: ...

    def one_phonon(self, tables: Any, f0: Array, strength: Array) -> tuple[Array, Array]: ...


def in_chunks(pairs: Pairs, size: int, *arrays: Array) -> tuple[Array, ...]:
    """first, second, weight and `arrays` (t, ...), padded with weight 0 and reshaped to (chunks, size, ...)."""
    padding = -len(pairs.first) % size

    def split(x: Array) -> Array:
        return jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, size, *x.shape[1:])

    return tuple(split(x) for x in (pairs.first, pairs.second, pairs.weight, *arrays))
