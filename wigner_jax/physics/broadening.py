"""Energy conservation: what replaces δ(f) on a finite mesh.

A broadening is a small object handed to the linewidth kernels. It offers

    prepare(frequencies, velocities, mesh) → tables                       per mesh
    three_phonon(tables, pairs, f0, strength) → (T, s), overflow          per irreducible q
    one_phonon(tables, f0, strength) → (s,), overflow                     per irreducible q: isotope scattering

with the half width of leg-0 modes, summed over q' and both other modes,

    γ_s = Σ w |V|²_{uts} {(n_t + n_u + 1) δ(f0 - f_t - f_u) + (n_t - n_u) [δ(f0 + f_t - f_u) - δ(f0 - f_t + f_u)]}.

The linear tetrahedron method (physics/onshell.py) is the default for numbers; the Gaussians here are smooth in the
frequencies, and the choice for gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import jax.numpy as jnp

from ..types import pytree
from .chunking import map_live

if TYPE_CHECKING:
    from ..types import Array, Mesh

TRIPLET_CHUNK = 512  # triplets broadened at once: bounded by cache


@pytree()
class Pairs:
    """The two other legs of one q's triplets."""

    first: Array  # (t,) int, q'
    second: Array  # (t,) int, q''
    weight: Array  # (t,) number of triplets each stands for; 0 for padding
    occupation: Array  # (Q, m, T) Bose-Einstein, 0 for modes below the cut-off


class Broadening(Protocol):
    """See the module's docstring."""

    @property
    def needs_velocities(self) -> bool: ...

    def reserved(self, bucket: int) -> Broadening: ...

    def prepare(self, frequencies: Array, velocities: Array | None, mesh: Mesh) -> Any: ...

    def three_phonon(self, tables: Any, pairs: Pairs, f0: Array, strength: Array) -> tuple[Array, Array]: ...

    def one_phonon(self, tables: Any, f0: Array, strength: Array) -> tuple[Array, Array]: ...


def in_chunks(pairs: Pairs, size: int, *arrays: Array) -> tuple[Array, ...]:
    """first, second, weight and `arrays` (t, ...), padded with weight 0 and reshaped to (chunks, size, ...)."""
    padding = -len(pairs.first) % size

    def split(x: Array) -> Array:
        return jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(-1, size, *x.shape[1:])

    return tuple(split(x) for x in (pairs.first, pairs.second, pairs.weight, *arrays))


@pytree()
class GaussianTables:
    """Per mesh point, for the Gaussian broadenings."""

    frequencies: Array  # (Q, m) THz
    slopes: Array | None  # (Q, m, 3) THz, v·b_μ/N_μ: change of the frequency from one mesh point to the next


def normal(x: Array, sigma: Array) -> Array:
    """exp(-x²/2σ²)/(√(2π) σ)."""
    return jnp.exp(-0.5 * (x / sigma) ** 2) / (jnp.sqrt(2 * jnp.pi) * sigma)


class _Smooth:
    """The sums that both Gaussians share; they differ in σ."""

    def reserved(self, bucket: int) -> Any:
        return self

    def sigmas(self, slopes: tuple[Array, Array] | None) -> tuple[Array, Array]:
        raise NotImplementedError

    def sigma_one(self, slopes: Array | None) -> Array:
        raise NotImplementedError

    def three_phonon(self, tables: GaussianTables, pairs: Pairs, f0: Array, strength: Array) -> tuple[Array, Array]:
        """γ of the leg-0 modes `f0` (s,) from `strength` (t, u, t, s). (T, s), and False: nothing can overflow."""

        def chunk(_: Array, __: Array, weight: Array, *looked_up: Array) -> Array:
            power, ft, fu, nt, nu, *slopes = looked_up
            ft, fu = ft[:, None, :, None], fu[:, :, None, None]
            nt, nu = nt[:, None, :], nu[:, :, None]
            both, one = self.sigmas((slopes[0][:, None, :], slopes[1][:, :, None]) if slopes else None)
            w = power * weight[:, None, None, None]
            decay = w * normal(f0 - ft - fu, both)
            absorb = w * (normal(f0 + ft - fu, one) - normal(f0 - ft + fu, one))
            return jnp.einsum("iutT,iuts->Ts", nt + nu + 1, decay) + jnp.einsum("iutT,iuts->Ts", nt - nu, absorb)

        looked_up = [x[q] for x in (tables.frequencies, pairs.occupation) for q in (pairs.first, pairs.second)]
        if tables.slopes is not None:
            looked_up += [tables.slopes[pairs.first], tables.slopes[pairs.second]]
        chunks = in_chunks(pairs, TRIPLET_CHUNK, strength, *looked_up)
        parts = map_live(chunk, jnp.any(chunks[2] > 0, axis=1), chunks)
        return jnp.sum(parts, axis=0), jnp.zeros((), bool)

    def one_phonon(self, tables: GaussianTables, f0: Array, strength: Array) -> tuple[Array, Array]:
        """Σ_{q' t} strength δ(f0 - f_t). Args: strength (s, t, Q). Returns (s,), and False."""
        delta = normal(f0[:, None, None] - tables.frequencies.T, self.sigma_one(tables.slopes))
        return jnp.sum(strength * delta, axis=(1, 2)), jnp.zeros((), bool)


@pytree()
class Gaussian(_Smooth):
    """δ(x) → exp(-x²/2σ²)/(√(2π) σ) with one σ for all, no cut-off (phono3py's ``--sigma``)."""

    sigma: Array = 0.1  # () THz

    needs_velocities = False

    def prepare(self, frequencies: Array, velocities: Array | None, mesh: Mesh) -> GaussianTables:
        return GaussianTables(frequencies, None)

    def sigmas(self, slopes: tuple[Array, Array] | None) -> tuple[Array, Array]:
        return jnp.asarray(self.sigma), jnp.asarray(self.sigma)

    def sigma_one(self, slopes: Array | None) -> Array:
        return jnp.asarray(self.sigma)


@pytree()
class AdaptiveGaussian(_Smooth):
    """A Gaussian as wide as the mesh is coarse (Yates et al. 2007; Li et al. 2014, ShengBTE).

    σ² = floor² + (scale²/12) Σ_μ (∂x/∂q'_μ / N_μ)², where x is the argument of δ as a function of q' at fixed q. Because
    q'' = -q - q' moves against q', ∂x/∂q' is ∓(v_t - v_u) for f0 - f_t - f_u and ±(v_t + v_u) for f0 ± f_t ∓ f_u; ShengBTE,
    which writes the latter with -q'', has a difference there too. Velocities are block averages. σ's own derivative is
    kept: the value differentiated is the value reported.
    """

    scale: Array = 1.0  # () dimensionless
    floor: Array = 0.01  # () THz, where both velocities vanish

    needs_velocities = True

    def prepare(self, frequencies: Array, velocities: Array | None, mesh: Mesh) -> GaussianTables:
        assert velocities is not None
        step = jnp.asarray(mesh.steps)
        return GaussianTables(frequencies, velocities @ step.T)

    def _sigma(self, slope: Array) -> Array:
        return jnp.sqrt(jnp.asarray(self.floor) ** 2 + jnp.asarray(self.scale) ** 2 / 12 * jnp.sum(slope**2, axis=-1))

    def sigmas(self, slopes: tuple[Array, Array] | None) -> tuple[Array, Array]:
        assert slopes is not None
        first, second = slopes
        return self._sigma(first - second)[..., None], self._sigma(first + second)[..., None]

    def sigma_one(self, slopes: Array | None) -> Array:
        assert slopes is not None
        return self._sigma(slopes).T
