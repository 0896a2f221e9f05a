"""Weights of the linear tetrahedron method for δ(x), at the vertices of the tetrahedra around one mesh point."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from ..types import Array, Tetrahedra

# A tetrahedron whose values spread less than this (THz) carries no weight: Γ's acoustic modes need the guard.
FLAT = 1e-10


def _least(a: Array, b: Array) -> Array:
    return jnp.where(a < b, a, b)  # jnp.minimum propagates NaN, at twice the price


def _most(a: Array, b: Array) -> Array:
    return jnp.where(b < a, a, b)


def vertex_weight(e: Array, a: Array, b: Array, c: Array, elastic: bool = False) -> Array:
    """Weight that vertex e receives from ∫δ(x) over the tetrahedron (e, a, b, c) of linear x; 1/THz, per unit volume.

    With the values sorted, v0 ≤ v1 ≤ v2 ≤ v3 and 0 between v0 and v3 (else 0), the case v2 ≤ 0 is mirrored onto
    v1 > 0; with v_ij = v_i - v_j, u = -v0/v30, p = -v0/v20, r = v3/v31:

        v1 > 0:       y = -v0/v10, g = p y,             weights g (3 - y - p - u | y | p | u) / v30
        v1 ≤ 0 < v2:  y = v2/v21, α = y p, β = (1-y) r, g = α + β,
                      weights [(1-u) g + (1-p) α | y g + r β | (1-y) g + p α | u g + (1-r) β] / v30

    (Lehmann & Taut 1972 in the normalisation of phonopy; each integrates to three times g/v30.) The position of e among
    the sorted values is found by value, so ties share nothing and need no index.

    On a whole face at 0 (three of four values) the weight jumps from its one-sided limit to 0. `elastic` gives half of
    the limit there, on either side; otherwise the limit from the side of v3 > 0 is taken.
    """
    # three comparators sort a, b, c; e is inserted with minima and maxima
    a, b = _least(a, b), _most(a, b)
    b, c = _least(b, c), _most(b, c)
    a, b = _least(a, b), _most(a, b)
    v0, v1, v2, v3 = _least(a, e), _least(b, _most(a, e)), _most(b, _least(c, e)), _most(c, e)
    inside = (v0 <= 0) & (v3 > 0) & (v3 - v0 > FLAT)
    mirror = v2 <= 0
    if elastic:
        top = (v1 == 0) & (v3 == 0)
        inside, mirror = inside | (top & (v0 < -FLAT)), mirror & ~top
    z0, z1 = jnp.where(mirror, -v3, v0), jnp.where(mirror, -v2, v1)
    z2, z3 = jnp.where(mirror, -v1, v2), jnp.where(mirror, -v0, v3)
    x = jnp.where(mirror, -e, e)
    one = (
        mirror | (z1 > 0) | (top if elastic else False)
    )  # a single vertex below zero; mirrored ties at zero too, so that v21 is never 0/0
    # four divisions: sharing one makes XLA split the fusion, twice the time
    d30 = 1 / jnp.where(inside, z3 - z0, 1.0)
    d20 = 1 / jnp.where(inside, z2 - z0, 1.0)
    d31 = 1 / jnp.where(one | ~inside, 1.0, z3 - z1)
    dy = 1 / jnp.where(inside, jnp.where(one, z1 - z0, z2 - z1), 1.0)
    u, p, r, y = -z0 * d30, -z0 * d20, z3 * d31, jnp.where(one, -z0, z2) * dy
    first, last, second = x <= z0, x >= z3, x <= z1
    g = p * y
    single = g * jnp.where(first, 3 - y - p - u, jnp.where(last, u, jnp.where(second, y, p)))
    alpha, beta = y * p, (1 - y) * r
    g = alpha + beta
    double = jnp.where(
        first,
        (1 - u) * g + (1 - p) * alpha,
        jnp.where(last, u * g + (1 - r) * beta, jnp.where(second, y * g + r * beta, (1 - y) * g + p * alpha)),
    )
    if elastic:
        d30 = d30 * jnp.where((v0 == 0) | top, 0.5, 1.0)
    return jnp.where(inside, jnp.where(one, single, double) * d30, 0.0)


def integration_weight(values: Array, tetrahedra: Tetrahedra, elastic: bool = False) -> Array:
    """∫δ(x) attributed to the central point, from x at it and its neighbours.

    Args:
        values: (V, ...) x in THz at `tetrahedra.neighbours`.
        elastic: see vertex_weight.

    Returns:
        (...) 1/THz; summed over a mesh and divided by its number of points it is the density of x at 0.
    """
    return _weight(values, tetrahedra.vertices, elastic) * tetrahedra.share


# The weight is piecewise rational in x. Its derivative is taken tetrahedron by tetrahedron inside a scan: reverse mode
# through the unrolled sum of 24 tetrahedra compiles for a minute and keeps 24 tapes. With w = Σ_k W(x_0, x_a, x_b, x_c):
#     ∂w/∂x_v = Σ_k [v is vertex l of k] ∂W/∂(argument l)
# and the rule below is linear in the tangent, so that JAX transposes it: jvp and vjp both come from it. W has kinks
# where a vertex crosses 0 or another vertex: there the one-sided derivative of the chosen branch is returned.
@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _weight(values: Array, vertices: Array, elastic: bool) -> Array:
    def add(total: Array, vertex: Array) -> tuple[Array, None]:
        a, b, c = (values[vertex[l]] for l in range(3))
        return total + vertex_weight(values[0], a, b, c, elastic), None

    return jax.lax.scan(add, jnp.zeros_like(values[0]), vertices)[0]


@_weight.defjvp
def _weight_jvp(elastic: bool, primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    values, vertices = primals
    function = partial(vertex_weight, elastic=elastic)

    def add(carry: tuple[Array, Array], vertex: Array) -> tuple[tuple[Array, Array], None]:
        total, slope = carry
        corner = (values[0], *(values[vertex[l]] for l in range(3)))
        weight, pull = jax.vjp(function, *corner)
        d = pull(jnp.ones_like(weight))
        slope = slope.at[0].add(d[0])
        for l in range(3):
            slope = slope.at[vertex[l]].add(d[l + 1])
        return (total + weight, slope), None

    (total, slope), _ = jax.lax.scan(add, (jnp.zeros_like(values[0]), jnp.zeros_like(values)), vertices)
    return total, jnp.sum(slope * tangents[0], axis=0)
