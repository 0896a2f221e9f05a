"""Distances to edge features: transforms, bases and cutoff; the ZBL repulsion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from ..layers.equivariant import bessel, polynomial_cutoff

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..layers.edge_blocks import EdgeBlocks
    from .config import MaceParams, Radial


Elements = tuple["Array", "Array"]  # atomic numbers of senders and receivers


def edge_features(
    radial: Radial, params: MaceParams, edges: EdgeBlocks, elements: Elements
) -> tuple[Array, Array | None]:
    """Radial basis of every edge, (S, K), zero where there is no edge; and the cutoff (S, 1) if it is to be applied later.

    With a transform T the basis sees T(r), the cutoff always r.
    """
    r = edges.lengths
    cutoff = jnp.where(edges.mask, polynomial_cutoff(r, radial.r_max, radial.p), 0.0)[:, None]
    x = _TRANSFORMS[radial.transform](radial, params, r, elements)
    basis = _BASES[radial.basis](radial, params, x)
    return (basis * cutoff, None) if radial.cutoff_on_basis else (basis, cutoff)


def repulsion(radial: Radial, params: MaceParams, edges: EdgeBlocks, elements: Elements) -> Array:
    """Ziegler–Biersack–Littmark energy of every atom, eV, cut off at the sum of the covalent radii. (N,)

        V = ½ Σ_j 14.3996 Z_i Z_j / r Σ_k c_k exp(−d_k r/a) f(r),   a = 0.529 a_pre / (Z_i^α + Z_j^α)

    with the code's own constants (0.529 Å, 14.3996 eV Å).
    """
    name = "pair_repulsion_fn."
    c, exponent = params[name + "c"], params[name + "a_exp"]
    Z_u, Z_v = (z.astype(edges.lengths.dtype) for z in elements)
    r_max = _radii(radial, edges.lengths, elements)
    inside = edges.mask & (edges.lengths < r_max)
    r = jnp.where(inside, edges.lengths, 1.0)
    scaled = r * (Z_u**exponent + Z_v**exponent) / (params[name + "a_prefactor"] * 0.529)
    screening = sum(c[k] * jnp.exp(-d * scaled) for k, d in enumerate((3.2, 0.9423, 0.4028, 0.2016)))
    energy = 14.3996 * Z_u * Z_v / r * screening * polynomial_cutoff(r, r_max, radial.repulsion)
    return edges.total(jnp.where(inside, 0.5 * energy, 0.0))


def _radii(radial: Radial, r: Array, elements: Elements) -> Array:
    assert radial.radii is not None
    radii = jnp.asarray(radial.radii.array, r.dtype)
    return radii[elements[0]] + radii[elements[1]]


def _agnesi(radial: Radial, params: MaceParams, r: Array, elements: Elements) -> Array:
    """1/(1 + a x^q/(1 + x^(q−p))), x = r/r0, r0 the mean covalent radius (Witt et al., JCP 159, 164101 (2023))."""
    a, q, p = (params[f"radial_embedding.distance_transform.{k}"] for k in "aqp")
    x = r / (0.5 * _radii(radial, r, elements))
    return 1 / (1 + a * x**q / (1 + x ** (q - p)))


def _soft(radial: Radial, params: MaceParams, r: Array, elements: Elements) -> Array:
    """p0 + (r − p0) ½[1 + tanh(α (r − m)/(p1 − p0))], p0 = ¾ r0, p1 = 4/3 r0, m their mean, r0 the sum of radii."""
    r_0 = _radii(radial, r, elements)
    low, high = 0.75 * r_0, 4 / 3 * r_0
    alpha = params["radial_embedding.distance_transform.alpha"] / (high - low)
    return low + (r - low) * 0.5 * (1 + jnp.tanh(alpha * (r - 0.5 * (low + high))))


def _bessel(radial: Radial, params: MaceParams, x: Array) -> Array:
    name = "radial_embedding.bessel_fn."
    return bessel(x, params[name + "bessel_weights"], params[name + "prefactor"])


def _gaussian(radial: Radial, params: MaceParams, x: Array) -> Array:
    """exp(−½ ((x − x_k)/Δ)²), Δ = r_max/(K − 1)."""
    centers = params["radial_embedding.bessel_fn.gaussian_weights"]
    return jnp.exp(-0.5 * ((radial.size - 1) / radial.r_max) ** 2 * (x[:, None] - centers) ** 2)


def _chebyshev(radial: Radial, params: MaceParams, x: Array) -> Array:
    """T_1 … T_K by their recursion."""
    values = [jnp.ones_like(x), x]
    for _ in range(radial.size - 1):
        values.append(2 * x * values[-1] - values[-2])
    return jnp.stack(values[1:], axis=-1)


_TRANSFORMS = {"": lambda radial, params, r, elements: r, "AgnesiTransform": _agnesi, "SoftTransform": _soft}
_BASES = {"BesselBasis": _bessel, "GaussianBasis": _gaussian, "ChebychevBasis": _chebyshev}
SUPPORTED_TRANSFORMS = frozenset(_TRANSFORMS) - {""}
SUPPORTED_BASES = frozenset(_BASES)
