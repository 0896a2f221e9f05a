"""Weights of the linear tetrahedron method for δ(x), at the vertices of the tetrahedra around one mesh point."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ...types import Tetrahedra


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
    z0, z1 = jnp.where(mirror, -v3, v0), jnp.where(mirror, -v2, v1)
    z2, z3 = jnp.where(mirror, -v1, v2), jnp.where(mirror, -v0, v3)
    x = jnp.where(mirror, -e, e)
    one = mirror | (z1 > 0)  # a single vertex below zero; mirrored ties at zero too, so that v21 is never 0/0
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
    weight = jnp.where(inside, jnp.where(one, single, double) * d30, 0.0)
    return weight - 0.5 * _whole_face(e, a, b, c) if elastic else weight


def _whole_face(e: Array, a: Array, b: Array, c: Array) -> Array:
    """1/v where e and two others are exactly 0 and v is the fourth value, else 0.

    The jump of e's weight there: 0 when the face is left towards v, 1/|v| when the plane is about to enter.
    """
    others = a + b + c  # two of them 0: the fourth value
    zeros = (a == 0).astype(jnp.int32) + (b == 0) + (c == 0)
    face = (e == 0) & (zeros == 2) & (jnp.abs(others) > FLAT)
    return jnp.where(face, 1 / jnp.where(face, others, 1.0), 0.0)


class _Sides(NamedTuple):
    """The three other vertices by the side of 0 they lie on; nothing is sorted.

    d is the one whose side differs from that of the two others, x and y (any of them where all three agree). So the
    plane x = 0 cuts off e alone (d, x, y opposite), or d alone (x, y with e), or separates {e, d} from {x, y}.
    """

    first: Array  #: bool, (x, y, d) = (a, b, c)
    middle: Array  #: bool, if not `first`: (x, d, y) = (a, b, c); else (d, x, y) = (a, b, c)
    alone: Array  #: bool, d is cut off alone
    double: Array  #: bool, {e, d} against {x, y}
    inside: Array  #: bool, the plane cuts the tetrahedron at all
    d: Array
    lone: Array  #: the value cut off alone; e if double
    x: Array
    y: Array
    to_x: Array  #: 1/(lone - x)
    to_y: Array  #: 1/(lone - y)
    third: Array  #: 1/(d - x) if double, else 1/(lone - the one of e, d that is not alone)
    fourth: Array  #: 1/(d - y) if double


def _sides(e: Array, a: Array, b: Array, c: Array) -> _Sides:
    up_a = a > 0
    first, middle = up_a == (b > 0), up_a == (c > 0)
    d = jnp.where(first, c, jnp.where(middle, b, a))
    x = jnp.where(first | middle, a, b)
    y = jnp.where(first, b, c)
    up = e > 0
    with_x, with_d = (x > 0) == up, (d > 0) == up
    double = with_d & ~with_x
    lone, other = jnp.where(with_x, d, e), jnp.where(with_x, e, d)
    gap_x, gap_y, gap = lone - x, lone - y, jnp.where(double, d - x, lone - other)
    inside = ~(with_x & with_d) & (jnp.abs(gap_x) + jnp.abs(gap_y) + jnp.abs(gap) > FLAT)
    # opposite sides: no gap is 0 where `inside`
    return _Sides(
        first,
        middle,
        with_x,
        double,
        inside,
        d,
        lone,
        x,
        y,
        1 / jnp.where(inside, gap_x, 1.0),
        1 / jnp.where(inside, gap_y, 1.0),
        1 / jnp.where(inside, gap, 1.0),
        1 / jnp.where(inside & double, d - y, 1.0),
    )


def vertex_slopes(e: Array, a: Array, b: Array, c: Array, elastic: bool = False) -> tuple[Array, Array, Array, Array]:
    """Derivatives of `vertex_weight` by e, a, b and c, 1/THz².

    x = 0 cuts the edge from i to j at the fraction λ_ij = i/(i - j). Written with these, the weight depends on the order
    of the values only through the sides of 0 they lie on, and ties of one side are nothing special:

        l alone on its side:   h = l² / |l-i| |l-j| |l-k| = λ_li λ_lj / |l-k|,   w_l = h T,  T = 3 - λ_li - λ_lj - λ_lk,   w_i = h λ_li
        {e, d} against {x, y}: α = λ_ex (1 - λ_dx), β = λ_dx (1 - λ_dy),
                               w_e = [(1 - λ_ey)(α + β) + (1 - λ_ex) α] / |e - y|

    and with ∂λ_ij/∂i = (1 - λ_ij)/(i - j), ∂λ_ij/∂j = λ_ij/(i - j), r_i = 1/(l - i):

        ∂h/∂i = h r_i,   ∂h/∂l = 2 l |r_i r_j r_k| - h Σ r_i,   ∂T/∂i = -r_i λ_li,   ∂T/∂l = -Σ r_i (1 - λ_li)

    Where a vertex lies on 0 the weight has a kink (a jump for a whole face): the slopes of the piece it belongs to.
    """
    s = _sides(e, a, b, c)
    rx, ry, ro, rd = s.to_x, s.to_y, s.third, s.fourth
    lx, ly, lo = s.lone * rx, s.lone * ry, s.lone * ro
    # one vertex alone
    h = lx * ly * jnp.abs(ro)  # never r r r: gaps as small as rounding would overflow in single precision
    h_lone = 2 * lx * ry * jnp.abs(ro) - h * (rx + ry + ro)
    total = 3 - lx - ly - lo
    by_lone = jnp.where(
        s.alone,
        h_lone * lo + h * ro * (1 - lo),
        h_lone * total - h * (rx * (1 - lx) + ry * (1 - ly) + ro * (1 - lo)),
    )
    by_other = h * ro * jnp.where(s.alone, 2 * lo, total - lo)
    by_x, by_y = h * rx * jnp.where(s.alone, lo, total - lx), h * ry * jnp.where(s.alone, lo, total - ly)
    # two against two
    dx, dy = s.d * ro, s.d * rd
    alpha, both = lx * (1 - dx), lx * (1 - dx) + dx * (1 - dy)
    area = (1 - ly) * both + (1 - lx) * alpha
    n_ex = (1 - dx) * (2 - ly - lx) - alpha
    n_dx = (1 - ly) * (1 - dy - lx) - (1 - lx) * lx
    n_dy = -(1 - ly) * dx
    scale = jnp.abs(ry)
    two_e = scale * (n_ex * rx * (1 - lx) - both * ry * (1 - ly) - area * ry)
    two_d = scale * (n_dx * ro * (1 - dx) + n_dy * rd * (1 - dy))
    two_x = scale * (n_ex * rx * lx + n_dx * ro * dx)
    two_y = scale * (-both * ry * ly + n_dy * rd * dy + area * ry)

    def choose(double: Array, single: Array) -> Array:
        return jnp.where(s.inside, jnp.where(s.double, double, single), 0.0)

    slope_e = choose(two_e, jnp.where(s.alone, by_other, by_lone))
    slope_d = choose(two_d, jnp.where(s.alone, by_lone, by_other))
    slope_x, slope_y = choose(two_x, by_x), choose(two_y, by_y)
    by_a = jnp.where(s.first | s.middle, slope_x, slope_d)
    by_b = jnp.where(s.first, slope_y, jnp.where(s.middle, slope_d, slope_x))
    by_c = jnp.where(s.first, slope_d, slope_y)
    if elastic:
        jump = 0.5 * _whole_face(e, a, b, c) ** 2  # belongs to the one of a, b, c that is not 0
        by_a, by_b, by_c = (y + jnp.where(v == 0, 0.0, jump) for y, v in ((by_a, a), (by_b, b), (by_c, c)))
    return slope_e, by_a, by_b, by_c


def integration_weight(values: Array, tetrahedra: Tetrahedra, elastic: bool = False) -> Array:
    """∫δ(x) attributed to the central point, from x at it and its neighbours.

    Args:
        values: (V, ...) x in THz at `tetrahedra.neighbours`.
        elastic: see vertex_weight.

    Returns:
        (...) 1/THz; summed over a mesh and divided by its number of points it is the density of x at 0.
    """
    return weighted(jnp.ones((*values.shape[1:], 1)), values, tetrahedra, elastic)[..., 0]


def weighted(amplitude: Array, values: Array, tetrahedra: Tetrahedra, elastic: bool = False) -> Array:
    """amplitude · ∫δ(x), with amplitude (..., k) and the arguments of `integration_weight`. (..., k)"""
    return _weighted(amplitude, values, jnp.asarray(tetrahedra.vertices), jnp.asarray(tetrahedra.share), elastic)


def _weight(values: Array, vertices: Array, share: Array, elastic: bool) -> Array:
    def add(total: Array, tetrahedron: tuple[Array, Array]) -> tuple[Array, None]:
        vertex, part = tetrahedron
        a, b, c = (values[vertex[l]] for l in range(3))
        return total + part * vertex_weight(values[0], a, b, c, elastic), None

    return jax.lax.scan(add, jnp.zeros_like(values[0]), (vertices, share))[0]


# The weight w is piecewise rational in x. Its derivative is written out (`vertex_slopes`): reverse mode through the
# sorted form takes three times as long and gets ties wrong. It is summed tetrahedron by tetrahedron inside a scan: with
# w = Σ_k share_k W(x_0, x_a, x_b, x_c),
#     ∂w/∂x_v = Σ_k share_k [v is vertex l of k] ∂W/∂(argument l)
# and the rule below is linear in the tangents, so that JAX transposes it: jvp and vjp both come from it. Because
# w(λx) = w(x)/λ, Euler's theorem gives the factor of the amplitude's tangent from the slopes,
#     w = -Σ_v x_v ∂w/∂x_v
# so that a backward pass that recomputes needs the slopes alone. (FLAT breaks the scaling where both are 0.)
# The slopes are computed in single precision, in half the time: x is rounded only after its large terms were subtracted
# in double precision, and `vertex_slopes` subtracts nothing but values on opposite sides of 0, so that no digits cancel.
# Gradients through the tetrahedra are right to about 1e-6 of their size.
@partial(jax.custom_jvp, nondiff_argnums=(4,))
def _weighted(amplitude: Array, values: Array, vertices: Array, share: Array, elastic: bool) -> Array:
    return amplitude * _weight(values, vertices, share, elastic)[..., None]


@_weighted.defjvp
def _weighted_jvp(elastic: bool, primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    amplitude, values, vertices, share = primals
    x, share = values.astype(jnp.float32), share.astype(jnp.float32)

    def add(slopes: tuple[Array, Array], tetrahedron: tuple[Array, Array]) -> tuple[tuple[Array, Array], None]:
        centre, others = slopes
        vertex, part = tetrahedron
        a, b, c = (x[vertex[l]] for l in range(3))
        change = vertex_slopes(x[0], a, b, c, elastic)
        for l in range(3):  # slices: a scatter would be a loop of its own
            old = jax.lax.dynamic_index_in_dim(others, vertex[l], 0)
            others = jax.lax.dynamic_update_index_in_dim(others, old + part * change[l + 1], vertex[l], 0)
        return (centre + part * change[0], others), None

    zero = (jnp.zeros_like(x[0]), jnp.zeros_like(x))
    (centre, others), _ = jax.lax.scan(add, zero, (vertices, share))
    slopes = others.at[0].set(centre)
    weight, change = -jnp.sum(slopes * x, axis=0), jnp.sum(slopes * tangents[1], axis=0)
    return _weighted(*primals, elastic), tangents[0] * weight.astype(values.dtype)[..., None] + amplitude * change[
        ..., None
    ]
