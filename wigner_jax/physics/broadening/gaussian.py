"""Gaussian broadenings, of one width or of one that follows the velocities: smooth in the frequencies."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from ..._core.chunking import map_nonempty
from ..._core.pytree import pytree
from ..pairs import coupling_signs, inverse_sinh_of
from ..taking_part import takes_part

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..._core.tiling import Tiling
    from ...types import ForceConstants, Mesh, Plan
    from ..pairs import Deviations, Pairs, State, Strength
    from ..phonons import LongRange


@pytree("tiling")
class GaussianTables:
    """Per mesh point, for the Gaussian broadenings."""

    frequencies: Array  #: (Q, m) THz
    slopes: Array | None  #: (Q, m, 3) THz, v·s_μ (Mesh.steps): change of the frequency from one mesh point to the next
    tiling: Tiling


def normal(x: Array, inverse: Array) -> Array:
    """√(2π) σ times the Gaussian: exp(-x²/2σ²) from 1/σ."""
    y = x * inverse
    return jnp.exp(-0.5 * (y * y))


class _Smooth:
    """The sums that both Gaussians share; they differ in σ."""

    has_capacity = True

    def for_bucket(self, bucket: int) -> Any:
        return self

    def with_capacity(self, plan: Plan, fc: ForceConstants, nac: LongRange | None = None, margin: float = 0.25) -> Any:
        """Itself: there are no lists."""
        return self

    def sized(self, plan: Plan, state: State, margin: float, sample: int | None = None) -> Any:
        """Itself: there are no lists."""
        return self

    def inverse(self, slopes: tuple[Array, Array] | None) -> tuple[Array, Array]:
        """1/σ of the arguments f0 - f_t - f_u and f0 ± (f_t - f_u)."""
        raise NotImplementedError

    def inverse_one(self, slopes: Array | None) -> Array:
        """1/σ of f0 - f_t."""
        raise NotImplementedError

    def three_phonon(self, tables: GaussianTables, pairs: Pairs, f0: Array, strength: Strength) -> tuple[Array, Array]:
        """γ of the leg-0 modes `f0` (s,) from |V|². (T, s), and False: nothing can overflow."""

        def chunk(items: tuple[Array, ...], weight: Array, *looked_up: Array) -> Array:
            ft, fu, nt, nu, *slopes = looked_up

            # rows (i, u, t) against the modes of leg 0: XLA vectorises two axes, not four
            def rows(x: Array) -> Array:
                trailing = x.shape[3:] or (1,)
                return jnp.broadcast_to(x.reshape(*x.shape[:3], *trailing), (*shape, *trailing)).reshape(-1, *trailing)

            shape = (len(weight), fu.shape[1], ft.shape[1])
            ft, fu, nt, nu = ft[:, None], fu[:, :, None], nt[:, None], nu[:, :, None]
            total, difference = rows(ft + fu), rows(ft - fu)
            widths = self.inverse((slopes[0][:, None], slopes[1][:, :, None]) if slopes else None)
            both, one = (x if x.ndim == 0 else rows(x) for x in widths)
            power = strength.power(*items).reshape(-1, len(f0)) * rows(weight[:, None, None] / math.sqrt(2 * math.pi))
            decay = power * (normal(f0 - total, both) * both)
            absorb = power * ((normal(f0 + difference, one) - normal(f0 - difference, one)) * one)
            return rows(nt + nu + 1).T @ decay + rows(nt - nu).T @ absorb

        looked_up = [x[q] for x in (tables.frequencies, pairs.occupation) for q in (pairs.first, pairs.second)]
        if tables.slopes is not None:
            looked_up += [tables.slopes[pairs.first], tables.slopes[pairs.second]]
        items = (strength.items, *(strength.split(x) for x in (pairs.weight, *looked_up)))
        parts = map_nonempty(chunk, strength.live, items, vectorised=strength.vectorised)
        return jnp.sum(parts, axis=0), jnp.zeros((), bool)

    def bilinear(
        self, tables: GaussianTables, pairs: Pairs, f0: Array, strength: Strength, deviations: Deviations
    ) -> tuple[Array, Array, Array]:
        """See physics/pairs.py."""

        def chunk(items: tuple[Array, ...], weight: Array, first: Array, second: Array) -> tuple[Array, Array]:
            power = strength.power(*items) * weight[:, None, None, None]  # i u t s
            decay, absorb, emit = self.delta(tables, first, second, f0)
            nt, nu = pairs.occupation[first][:, None], pairs.occupation[second][:, :, None]  # i u t T
            gamma = jnp.einsum("iuts,iutT->Ts", power * decay, nt + nu + 1)
            gamma += jnp.einsum("iuts,iutT->Ts", power * (absorb - emit), nt - nu)
            on_shell = power * (decay + absorb + emit)
            one, two = (deviations.products[:, q] for q in (first, second))  # s i m T r
            sums = jnp.einsum("iuts,sitTr,iuT->Tr", on_shell, one, inverse_sinh_of(nu[:, :, 0]))
            return gamma, sums + jnp.einsum("iuts,siuTr,itT->Tr", on_shell, two, inverse_sinh_of(nt[:, 0]))

        items = (strength.items, *(strength.split(x) for x in (pairs.weight, pairs.first, pairs.second)))
        gamma, sums = map_nonempty(chunk, strength.live, items, vectorised=strength.vectorised)
        return jnp.sum(gamma, axis=0), jnp.sum(sums, axis=0), jnp.zeros((), bool)

    def couplings(
        self,
        tables: GaussianTables,
        pairs: Pairs,
        f0: Array,
        strength: Strength,
        share: Array,
        slots: Array,
        count: int,
        even: bool,
    ) -> tuple[Array, Array, Array]:
        """See physics/pairs.py."""
        m, T = tables.frequencies.shape[1], share.shape[-1]
        S = len(f0)

        def add(sums: tuple[Array, Array], items: tuple[Array, ...]) -> tuple[tuple[Array, Array], None]:
            gamma, couplings = sums
            live, weight, first, second, *looked_up = items

            def some() -> tuple[Array, Array]:
                power = strength.power(*looked_up) * weight[:, None, None, None]  # i u t s
                decay, absorb, emit = self.delta(tables, first, second, f0)
                nt, nu = pairs.occupation[first][:, None], pairs.occupation[second][:, :, None]  # i u t T
                added = jnp.einsum("iuts,iuts,iutT->Ts", power, decay, nt + nu + 1)
                added += jnp.einsum("iuts,iuts,iutT->Ts", power, absorb - emit, nt - nu)
                channels = (decay, absorb, emit)
                on_shell = [
                    power * sum(x * d for x, d in zip(signs, channels, strict=True)) for signs in coupling_signs(even)
                ]
                one = jnp.einsum("iuts,iuT->itsT", on_shell[0], share[second]).reshape(len(first), -1)
                two = jnp.einsum("iuts,itT->iusT", on_shell[1], share[first]).reshape(len(first), -1)
                return gamma + added, couplings.at[slots[first]].add(one).at[slots[second]].add(two)

            return jax.lax.cond(live, some, lambda: sums), None

        split = (strength.split(x) for x in (pairs.weight, pairs.first, pairs.second))
        start = (jnp.zeros((T, S)), jnp.zeros((count, m * S * T)))
        (gamma, couplings), _ = jax.lax.scan(add, start, (strength.live, *split, *strength.items))
        return gamma, couplings.reshape(count, m, S, T), jnp.zeros((), bool)

    def delta(self, tables: GaussianTables, first: Array, second: Array, at: Array) -> tuple[Array, Array, Array]:
        """See physics/pairs.py."""
        # what takes no part is at zero: the acoustic modes at Γ are rounding errors, and their derivatives too
        f = jnp.where(takes_part(tables.frequencies), tables.frequencies, 0.0)
        ft, fu = f[first][:, None, :, None], f[second][:, :, None, None]
        slopes = None
        if tables.slopes is not None:
            slopes = (tables.slopes[first][:, None], tables.slopes[second][:, :, None])
        both, one = (x if x.ndim == 0 else x[..., None] for x in self.inverse(slopes))

        def weights(x: Array, inverse: Array) -> Array:
            return normal(x - at, inverse) * (inverse / math.sqrt(2 * math.pi))

        return weights(ft + fu, both), weights(fu - ft, one), weights(ft - fu, one)

    def one_phonon(self, tables: GaussianTables, f0: Array, strength: Array) -> tuple[Array, Array]:
        """Σ_{q' t} strength δ(f0 - f_t). Args: strength (s, t Q). Returns (s,), and False."""
        inverse = self.inverse_one(tables.slopes)
        delta = normal(f0[:, None] - tables.frequencies.T.ravel(), inverse) * (inverse / math.sqrt(2 * math.pi))
        return jnp.einsum("sx,sx->s", strength, delta), jnp.zeros((), bool)


@pytree()
class Gaussian(_Smooth):
    """δ(x) → exp(-x²/2σ²)/(√(2π) σ) with one σ for all, no cut-off (phono3py's ``--sigma``).

    Attributes:
        sigma: () THz.
    """

    sigma: Array = 0.1  #: () THz

    needs_velocities = False
    averages = False

    def prepare(
        self, frequencies: Array, levels: Array, velocities: Array | None, mesh: Mesh, tiling: Tiling
    ) -> GaussianTables:
        return GaussianTables(frequencies, None, tiling)

    def inverse(self, slopes: tuple[Array, Array] | None) -> tuple[Array, Array]:
        return self.inverse_one(slopes), self.inverse_one(slopes)

    def inverse_one(self, slopes: Array | None) -> Array:
        sigma = jnp.asarray(self.sigma)
        return 1 / jnp.where(sigma > 0, sigma, jnp.nan)


@pytree()
class AdaptiveGaussian(_Smooth):
    """A Gaussian as wide as the mesh is coarse (Yates et al. 2007; Li et al. 2014, ShengBTE).

    σ² = floor² + scale² gᵀ M g,   M = ∫ q qᵀ dq / ∫ dq = (1/12) Σ_μ s_μ s_μᵀ over the Voronoi cell of one mesh point,

    with g = ∂x/∂q', x the argument of δ as a function of q' at fixed q: the variance of the linearised x over the region
    that the point stands for. Because q'' = -q - q' moves against q', g is ∓(v_t - v_u) for f0 - f_t - f_u and
    ±(v_t + v_u) for f0 ± f_t ∓ f_u; ShengBTE, which writes the latter with -q'', has a difference there too. It also takes
    s_μ = b_μ/N_μ: the same for a rectangular micro-cell, but else not invariant under the choice of the reciprocal
    vectors, nor under the point group. Velocities are block averages. σ's own derivative is kept: the value
    differentiated is the value reported.

    Attributes:
        scale: () dimensionless.
        floor: () THz, where both velocities vanish.
    """

    scale: Array = 1.0  #: () dimensionless
    floor: Array = 0.01  #: () THz, where both velocities vanish

    needs_velocities = True
    averages = False

    def prepare(
        self, frequencies: Array, levels: Array, velocities: Array | None, mesh: Mesh, tiling: Tiling
    ) -> GaussianTables:
        assert velocities is not None
        step = jnp.asarray(mesh.steps)
        return GaussianTables(frequencies, velocities @ step.T, tiling)

    def _inverse(self, slope: Array) -> Array:
        width = jnp.asarray(self.floor) ** 2 + jnp.asarray(self.scale) ** 2 / 12 * jnp.sum(slope**2, axis=-1)
        return jax.lax.rsqrt(width)

    def inverse(self, slopes: tuple[Array, Array] | None) -> tuple[Array, Array]:
        assert slopes is not None
        first, second = slopes
        return self._inverse(first - second), self._inverse(first + second)

    def inverse_one(self, slopes: Array | None) -> Array:
        assert slopes is not None
        return self._inverse(slopes).T.ravel()
