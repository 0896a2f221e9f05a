"""What the linewidth kernels hand to a broadening, and what a broadening is.

A broadening replaces δ(f) on a finite mesh. It is a small object that offers

    prepare(frequencies, velocities, mesh, tiling) → tables               per mesh
    three_phonon(tables, pairs, f0, strength) → (T, s), overflow          per irreducible q; strength by chunks
    one_phonon(tables, f0, strength) → (s,), overflow                     per irreducible q: isotope scattering
    bilinear(tables, pairs, f0, strength, deviations) → (T, s), (T, r), overflow    γ and F·OF, differentiable
    couplings(tables, pairs, f0, strength, share, slots, count, even) → (T, s), (count, t, s, T), overflow     γ and what the
                                                                          collision operator couples (physics/collisions.py)
    delta(tables, first, second, at) → three of (c, u, t, F)              some triplets, at given frequencies
    sized(plan, state, margin) → itself                                   with capacity for the lists that it needs

and says whether it needs velocities, and whether isotope strengths come averaged over degenerate sets of the other leg.
three_phonon returns the half width of leg-0 modes, summed over q' and both other modes,

    γ_s = Σ w |V|²_{uts} {(n_t + n_u + 1) δ(f0 - f_t - f_u) + (n_t - n_u) [δ(f0 + f_t - f_u) - δ(f0 - f_t + f_u)]}.

The linear tetrahedron method (broadening/tetrahedron.py) is the default for numbers; the Gaussians (broadening/gaussian.py)
are smooth in the frequencies, and the choice for gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from .._core.chunking import map_nonempty, with_derivative_of
from .._core.pytree import pytree

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.pytree import Array
    from .._core.tiling import Tiling
    from ..types import ForceConstants, Mesh, Plan
    from .phonons import LongRange


@pytree()
class Pairs:
    """The two other legs of one q's triplets."""

    first: Array  #: (t,) int, q'
    second: Array  #: (t,) int, q''
    weight: Array  #: (t,) number of triplets each stands for; 0 for padding
    occupation: Array  #: (Q, m, T) Bose-Einstein, 0 for modes below the cut-off


@pytree()
class Deviations:
    """Products of deviations of the populations, for sums of `bilinear`: see physics/collisions.py. They carry no derivative.

    Attributes:
        products: (s, Q, m, T, r) F_s · E_r F(q', t) of the leg-0 modes s with all others, E_r symmetric tensors.
    """

    products: Array


def inverse_sinh_of(occupation: Array) -> Array:
    """1/(2 sinh(x/2)) = √(n(n + 1)), 0 where n is."""
    some = occupation > 0
    n = jnp.where(some, occupation, 1.0)
    return jnp.where(some, jnp.sqrt(n * (n + 1)), 0.0)


class Strength(NamedTuple):
    """|V|² of one q, computed chunk by chunk of its triplets."""

    look_up: Callable[..., tuple[Array, ...]]  #: tables and the places of one chunk -> its items
    compute: Callable[..., Array]  #: constants and the items of one chunk -> (c, u, t, s)
    vectorised: bool  #: whether chunks are taken side by side (Tiling)
    live: Array  #: (chunks,) bool
    constants: Any
    tables: tuple[Array, ...]
    places: tuple[Array, ...]  #: (chunks, ...) each

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
        look_up, compute, vectorised = self[:3]

        def value(live: Array, constants: Any, tables: tuple[Array, ...], places: tuple[Array, ...]) -> Array:
            return map_nonempty(lambda *p: compute(constants, *look_up(tables, p)), live, places, vectorised=vectorised)

        def differentiated(*parts: Any) -> Array:
            strength = Strength(look_up, compute, vectorised, *parts)
            return map_nonempty(strength.power, strength.live, strength.items, vectorised=vectorised)

        constants = jax.lax.stop_gradient(self.constants)
        power = with_derivative_of(value, differentiated, self.live, constants, self.tables, self.places)
        return power.reshape(-1, *power.shape[2:])


@pytree("tiling")
class State:
    """What every q-point looks up."""

    frequencies: Array  #: (Q, m) THz
    levels: Array  #: (Q, m) THz, of elastic scattering: see degeneracy.levels; the frequencies unless the broadening averages
    rotation: Array  #: (Q, 2m, 2m), see matrix_elements.mode_transforms
    projectors: Array  # (9 n, m Q), see linewidths.site_projectors; 0 for modes below the cut-off, averaged if the broadening wants
    entries: tuple[Array, ...]  #: Φ3 by cells
    occupation: Array  #: (Q, m, T)
    broadening: Any  #: the broadening's tables
    tiling: Tiling


class Broadening(Protocol):
    """See the module's docstring."""

    @property
    def needs_velocities(self) -> bool: ...

    @property
    def averages(self) -> bool: ...

    @property
    def has_capacity(self) -> bool: ...

    def for_bucket(self, bucket: int) -> Broadening:
        """The same with what one bucket of q-points needs of it."""
        ...

    def with_capacity(
        self, plan: Plan, fc: ForceConstants, nac: LongRange | None = None, margin: float = 0.25
    ) -> Broadening:
        """The same with capacity for these force constants, for use under jit and grad."""
        ...

    def sized(self, plan: Plan, state: State, margin: float, sample: int | None = None) -> Broadening:
        """The same with capacity for the processes of these phonons: measured at every q-point, or at `sample` of each
        bucket, with a margin. Broadenings without lists return themselves."""
        ...

    def prepare(
        self, frequencies: Array, levels: Array, velocities: Array | None, mesh: Mesh, tiling: Tiling
    ) -> Any: ...

    def three_phonon(self, tables: Any, pairs: Pairs, f0: Array, strength: Strength) -> tuple[Array, Array]: ...

    def one_phonon(self, tables: Any, f0: Array, strength: Array) -> tuple[Array, Array]: ...

    def couplings(
        self,
        tables: Any,
        pairs: Pairs,
        f0: Array,
        strength: Strength,
        share: Array,
        slots: Array,
        count: int,
        even: bool,
    ) -> tuple[Array, Array, Array]:
        """Besides γ, what couples the modes of leg 0 to those of the other legs, by the slots of their points:
        Σ w |V|² [the three δ with `coupling_signs`] times `share` (Q, m, T) of the third leg. Not differentiable."""
        ...

    def bilinear(
        self, tables: Any, pairs: Pairs, f0: Array, strength: Strength, deviations: Deviations
    ) -> tuple[Array, Array, Array]:
        """γ (T, s) of `three_phonon`, and F_0 · E_r (O F)_0 summed over the leg-0 modes, (T, r), as a differentiable function;
        overflow."""
        ...

    def delta(self, tables: Any, first: Array, second: Array, at: Array) -> tuple[Array, Array, Array]:
        """δ(f - f_t - f_u), δ(f + f_t - f_u) and δ(f - f_t + f_u) at frequencies f. Args: q' and q'' (c,), f (F,).
        (c, u, t, F) 1/THz each."""
        ...


def coupling_signs(even: bool) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Of legs 1 and 2 in the channels f0 = f1 + f2, f0 + f1 = f2, f0 + f2 = f1, for deviations that are even in q (energy) or
    odd (heat currents), with q + q' + q'' = G."""
    return ((-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0)) if even else ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0))


def in_chunks(pairs: Pairs, size: int, *arrays: Array) -> tuple[Array, ...]:
    """first, second, weight and `arrays` (t, ...), padded with weight 0 and reshaped to (chunks, size, ...)."""
    padding = -len(pairs.first) % size

    def split(x: Array) -> Array:
        return jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, size, *x.shape[1:])

    return tuple(split(x) for x in (pairs.first, pairs.second, pairs.weight, *arrays))
