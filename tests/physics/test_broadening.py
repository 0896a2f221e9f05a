"""Energy conservation on a mesh: tetrahedron weights, the two Gaussians, and the densities of states they make."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from solved_problems import richardson

from wigner_jax._core.tiling import CPU
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian, Gaussian, normal
from wigner_jax.physics.broadening.tetrahedron_weights import integration_weight, vertex_slopes, vertex_weight
from wigner_jax.physics.mesh_index import neighbours
from wigner_jax.physics.pairs import Pairs, Strength
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.plan.tetrahedra import DIAGONALS, make_tetrahedra
from wigner_jax.types import Crystal, Tetrahedra

weigh = jax.jit(integration_weight, static_argnames="elastic")
vertex = jax.jit(vertex_weight, static_argnames="elastic")
CUBE = Crystal(2 * np.eye(3), np.zeros((1, 3)), np.ones(1), (14,))
FCC = Crystal(2.7 * (1 - np.eye(3)), np.zeros((1, 3)), np.ones(1), (14,))
TRICLINIC = Crystal(np.array([[3, 0, 0], [0.5, 2.8, 0], [-0.7, 0.4, 3.3]]), np.zeros((1, 3)), np.ones(1), (14,))


def density(values):
    """∫δ(x) over tetrahedra of volume 1 with x linear, from its four vertex values. (..., 4) → (...)"""
    v = np.sort(values, axis=-1)
    total = np.zeros(v.shape[:-1])
    for k in range(4):  # the B-spline of the values, at 0
        others = np.prod([v[..., k] - v[..., l] for l in range(4) if l != k], axis=0)
        total += 3 * np.where(v[..., k] > 0, v[..., k] ** 2, 0) / others
    return total


# ---------------------------------------------------------------- one tetrahedron


def test_the_vertices_share_the_density_of_the_tetrahedron():
    values = np.random.default_rng(0).normal(size=(4000, 4))
    shares = [vertex(values[:, k], *np.delete(values, k, axis=1).T) for k in range(4)]
    expected = density(values)
    assert np.mean(expected > 0) > 0.5
    assert np.min(shares) >= -1e-12
    np.testing.assert_allclose(np.sum(shares, axis=0), expected, rtol=1e-8, atol=1e-9)  # the B-spline cancels


def test_a_weight_is_the_integral_of_its_own_barycentric_coordinate():
    """By a Monte-Carlo-free route: λ_k is linear too, so that ∫λ_k δ(x - e) has its moments exactly."""
    values = np.random.default_rng(1).normal(size=4)
    for k in range(4):
        rest = np.delete(values, k)

        def weight(e, k=k, rest=rest):
            return float(vertex(values[k] - e, *(rest - e)))

        edges = np.sort(values)
        moments = [
            sum(quad(lambda e, n=n: weight(e) * e**n, a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(edges))
            for n in (0, 1)
        ]
        # mean of λ_k is 1/4; mean of λ_k x is (Σ x_l + x_k)/20
        np.testing.assert_allclose(moments, [1 / 4, (values.sum() + values[k]) / 20], rtol=1e-9)


def test_weights_scale_inversely_with_the_values():
    values = np.random.default_rng(2).normal(size=(4, 100))
    np.testing.assert_allclose(vertex(*(3 * values)), vertex(*values) / 3, rtol=1e-12)


def test_values_far_from_zero_and_flat_tetrahedra_carry_nothing():
    assert float(vertex(1.0, 2.0, 3.0, 4.0)) == 0
    assert float(vertex(-1.0, -2.0, -3.0, -4.0)) == 0
    assert float(vertex(0.0, 0.0, 0.0, 0.0)) == 0
    assert float(vertex(0.0, 1e-12, -1e-12, 0.0)) == 0


@pytest.mark.parametrize("zeros", [1, 2, 3])
def test_ties_are_finite_and_symmetric(zeros):
    """Vertices at exactly zero: the weight is finite, has finite slopes, and does not depend on the order."""
    others = np.array([0.7, -0.4, 0.3])[: 4 - zeros]
    values = np.concatenate([np.zeros(zeros), others])
    for k in range(4):
        rest = np.delete(values, k)
        results = [float(vertex(values[k], *rest[list(order)])) for order in itertools.permutations(range(3))]
        assert np.isfinite(results).all()
        np.testing.assert_allclose(results, results[0], rtol=1e-12)
        slopes = jax.grad(vertex_weight, argnums=(0, 1, 2, 3))(values[k], *rest)
        assert np.isfinite(slopes).all()


@pytest.mark.parametrize("elastic", [False, True])
def test_every_pattern_of_ties_has_its_slopes(elastic):
    """One, two or three values below zero, and all ways to be equal: the weight is smooth there."""
    levels = (-0.7, -0.4, 0.3, 0.8)
    values = np.array([v for v in itertools.product(levels, repeat=4) if min(v) < 0 < max(v)]).T
    one = Tetrahedra(np.zeros((4, 3), int), np.arange(4), np.array([[1, 2, 3]]), np.ones(1))
    slopes = np.array(vertex_slopes(*values, elastic=elastic))
    for tangent in np.random.default_rng(8).normal(size=(4, *values.shape)):
        function = partial(lambda t, h: weigh(values + h * t, one, elastic=elastic), tangent)
        expected = np.sum(slopes * tangent, axis=0)
        np.testing.assert_allclose(expected, richardson(function, 1e-3), rtol=0, atol=1e-8)
        _, slope = jax.jvp(function, (0.0,), (1.0,))  # in single precision
        np.testing.assert_allclose(slope, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


def test_slopes_with_gaps_of_rounding_are_finite_in_single_precision():
    """Three vertices within rounding of zero and the fourth not far: 1/gap³ would overflow, the slopes do not."""
    near = 1e-16 * np.array([1.0, -2.0, 3.0])
    for place in range(4):
        values = np.insert(near, place, 1e-9)
        for signed in (values, -values):
            slopes = vertex_slopes(*jnp.asarray(signed, jnp.float32))
            assert np.isfinite(slopes).all()
            expected = np.array(vertex_slopes(*signed))
            np.testing.assert_allclose(slopes, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("sign", [1, -1])
def test_a_whole_face_counts_half_in_elastic_scattering(sign):
    """Three of four values zero: the weight's one-sided limit is 3·share/|v|, and its mean over both sides half."""
    height = 0.8
    for k in range(4):
        values = np.array([0.0, 0, 0, sign * height])
        rest = np.delete(values, k)
        sides = [float(vertex(values[k] - e, *(rest - e))) for e in (1e-9, -1e-9)]
        exact = float(vertex(values[k], *rest, elastic=True))
        np.testing.assert_allclose(exact, np.mean(sides), rtol=0, atol=1e-7)
        assert (exact > 0.5) == (k < 3)


# ---------------------------------------------------------------- the neighbourhood of a point


@pytest.mark.parametrize("crystal", [CUBE, FCC, TRICLINIC], ids=["cube", "fcc", "triclinic"])
@pytest.mark.parametrize("symmetrized", [False, True])
def test_tetrahedra_fill_the_neighbourhood(crystal, symmetrized):
    """A point is the first vertex of 24 tetrahedra, more where several cuts are averaged (test_lattices.py)."""
    cut = make_tetrahedra(crystal, (4, 5, 6), symmetrized)
    assert len(cut.vertices) == (40 if symmetrized and crystal is CUBE else 24)
    assert not cut.neighbours[0].any()
    np.testing.assert_array_equal(cut.neighbours[cut.opposite], -cut.neighbours)
    volumes = np.abs(np.linalg.det(cut.neighbours[cut.vertices].astype(float))) / 6
    if not symmetrized:
        np.testing.assert_allclose(volumes, 1 / 6, rtol=1e-12)
        np.testing.assert_allclose(cut.share, volumes, rtol=1e-12)
    # four vertices share a tetrahedron: a quarter of the volume around a point is its micro-cell
    np.testing.assert_allclose(cut.share.sum() / 4, 1, rtol=1e-12)


def test_usual_meshes_of_face_centred_crystals_have_one_cut():
    """Their points are body-centred: the shortest diagonal gives the Delaunay tetrahedra, symmetric as they are."""
    cuts = []
    for symmetrized in (False, True):
        cut = make_tetrahedra(FCC, (4, 4, 4), symmetrized)
        cuts.append({frozenset(map(tuple, cut.neighbours[v])) for v in cut.vertices})
    assert len(cuts[0]) == 24
    assert cuts[0] == cuts[1]


def test_one_diagonal_is_the_shortest():
    dims = (4, 5, 6)
    cut = make_tetrahedra(TRICLINIC, dims)
    micro = np.linalg.inv(TRICLINIC.lattice) / np.array(dims)
    used = {tuple(o) for o in cut.neighbours if np.all(np.abs(o) == 1)}
    shortest = DIAGONALS[np.argmin(np.linalg.norm(DIAGONALS @ micro.T, axis=1))]
    assert used == {tuple(shortest), tuple(-shortest)}


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("crystal", [CUBE, FCC, TRICLINIC], ids=["cube", "fcc", "triclinic"])
def test_weights_agree_with_phonopy(crystal, tied):
    methods = pytest.importorskip("phonopy.phonon.tetrahedron_method")
    dims = (4, 5, 6)
    peer = methods.TetrahedronMethod(np.linalg.inv(crystal.lattice), mesh=dims)
    cut = make_tetrahedra(crystal, dims)
    rows = {tuple(o): v for v, o in enumerate(cut.neighbours)}
    where = np.array([[rows[tuple(o)] for o in tetrahedron] for tetrahedron in peer.tetrahedra])
    rng = np.random.default_rng(3)
    for _ in range(20):
        values = rng.normal(size=len(rows))
        if tied:
            values = np.round(values * 2) / 2 + 0.25  # many equal values, none at 0
        peer.set_tetrahedra_omegas(values[where])
        peer.run(np.array([0.0]), value="I")
        expected = np.ravel(peer.get_integration_weight())[0]
        np.testing.assert_allclose(weigh(values, cut), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("elastic", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_derivatives_of_the_weights(tied, elastic):
    """Away from zero, where the kinks are. Equal values are no kink: each keeps a slope of its own."""
    cut = make_tetrahedra(FCC, (4, 4, 4))
    rng = np.random.default_rng(4)
    values = rng.normal(size=(len(cut.neighbours), 50))
    values = np.round(2 * values) / 2 + 0.25 if tied else np.where(np.abs(values) < 0.02, values + 0.05, values)
    tangent, h = rng.normal(size=values.shape), 1e-4

    def function(x):
        return weigh(x, cut, elastic=elastic)

    value, slope = jax.jvp(function, (values,), (tangent,))
    numeric = richardson(lambda step: function(values + step * tangent), h)
    assert np.abs(numeric).max() > 1
    np.testing.assert_allclose(slope, numeric, rtol=0, atol=1e-6 * np.abs(numeric).max())
    cotangent = rng.normal(size=value.shape)
    pulled = jax.vjp(function, values)[1](cotangent)[0]
    np.testing.assert_allclose(np.vdot(pulled, tangent), np.vdot(cotangent, slope), rtol=1e-7)


# ---------------------------------------------------------------- densities of states


def cosine_band(mesh):
    """f = 3 + Σ cos 2πq_a: a simple cubic band, at mesh points. (Q,)"""
    return 3 + np.sum(np.cos(2 * np.pi * mesh.qpoints), axis=1)


def density_of_states(dims, energies, symmetrized=False):
    mesh = make_mesh(CUBE, dims, symmetry=False)
    cut = make_tetrahedra(CUBE, dims, symmetrized)
    f = cosine_band(mesh)
    around = f[np.asarray(neighbours(np.arange(len(f)), cut.neighbours, mesh.dims))]
    return np.array([np.mean(weigh(around - e, cut)) for e in energies])


@pytest.mark.parametrize("symmetrized", [False, True])
def test_density_of_states_is_normalised(symmetrized):
    """The density is piecewise cubic between the band's mesh values; a fine midpoint rule is exact enough."""
    energies = (np.arange(3000) + 0.5) * 6 / 3000
    density = density_of_states((4, 4, 4), energies, symmetrized)
    np.testing.assert_allclose(np.sum(density) * 6 / 3000, 1, rtol=1e-5)
    # ⟨f⟩ is the mean over the mesh, since every vertex has the same share of volume
    np.testing.assert_allclose(np.sum(density * energies) * 6 / 3000, 3, rtol=1e-5)


def test_density_of_states_converges_with_the_square_of_the_mesh():
    from scipy.special import j0

    def exact(e):  # (1/π) ∫ cos((e - 3) t) J0(t)³ dt, the classic lattice Green function
        return quad(lambda t: np.cos((e - 3) * t) * j0(t) ** 3 / np.pi, 0, 400, limit=4000)[0]

    energies = np.array([0.9, 1.4, 2.6, 3.0, 4.5])
    truth = np.array([exact(e) for e in energies])
    errors = [np.abs(density_of_states((n, n, n), energies) / truth - 1).max() for n in (8, 16, 32)]
    assert errors[2] < 0.01
    assert errors[2] < errors[1] / 2.5 < errors[0] / 6


# ---------------------------------------------------------------- Gaussians


def test_gaussians_are_normalised():
    for sigma in (0.03, 1.7):
        x = np.linspace(-10 * sigma, 10 * sigma, 20001)
        density = normal(x, 1 / sigma) / (np.sqrt(2 * np.pi) * sigma)
        np.testing.assert_allclose(np.sum(density) * (x[1] - x[0]), 1, rtol=1e-12)
        np.testing.assert_allclose(np.sum(density * x**2) * (x[1] - x[0]), sigma**2, rtol=1e-10)


def sums(broadening, mesh, f, velocities, q, strength, occupation):
    """γ of the modes at q by brute force, for one broadening's σ as functions of the two other legs."""
    dims = np.array(mesh.dims)
    address = np.rint(np.asarray(mesh.qpoints) * dims).astype(int)
    place = {tuple(a % dims): i for i, a in enumerate(address)}
    slopes = None if velocities is None else velocities @ np.asarray(mesh.steps).T
    total = np.zeros((occupation.shape[-1], f.shape[1]))
    for q1 in range(len(f)):
        q2 = place[tuple((-address[q] - address[q1]) % dims)]
        for s, t, u in np.ndindex(*[f.shape[1]] * 3):
            if slopes is None:
                both = one = float(broadening.sigma)
            else:
                a, floor = float(broadening.scale), float(broadening.floor)
                both = np.sqrt(floor**2 + a**2 / 12 * np.sum((slopes[q1, t] - slopes[q2, u]) ** 2))
                one = np.sqrt(floor**2 + a**2 / 12 * np.sum((slopes[q1, t] + slopes[q2, u]) ** 2))

            def δ(x, σ):
                return np.exp(-((x / σ) ** 2) / 2) / np.sqrt(2 * np.pi) / σ

            n1, n2 = occupation[q1, t], occupation[q2, u]
            f0, f1, f2 = f[q, s], f[q1, t], f[q2, u]
            decay, absorb = δ(f0 - f1 - f2, both), δ(f0 + f1 - f2, one) - δ(f0 - f1 + f2, one)
            total[:, s] += strength[q1, u, t, s] * ((n1 + n2 + 1) * decay + (n1 - n2) * absorb)
    return total


@pytest.mark.parametrize("broadening", [Gaussian(0.4), AdaptiveGaussian(), AdaptiveGaussian(0.5, 0.2)])
def test_sums_over_triplets(broadening):
    """Both Gaussians against the formula in their docstrings, loop by loop, on random phonons."""
    rng = np.random.default_rng(6)
    mesh = make_mesh(TRICLINIC, (3, 2, 2), symmetry=False)
    Q, m, q = 12, 3, 5
    f, velocities = np.sort(rng.uniform(0.5, 4, (Q, m))), rng.normal(size=(Q, m, 3)) * 10
    strength, occupation = rng.uniform(size=(Q, m, m, m)), rng.uniform(size=(Q, m, 2))
    address = np.rint(np.asarray(mesh.qpoints) * mesh.dims).astype(int)
    second = np.array([np.flatnonzero(((address + a + address[q]) % mesh.dims == 0).all(1))[0] for a in address])
    pairs = Pairs(jnp.arange(Q), jnp.asarray(second), jnp.ones(Q), jnp.asarray(occupation))
    velocities = velocities if broadening.needs_velocities else None
    tables = jax.tree.map(jnp.asarray, broadening.prepare(f, f, velocities, mesh, CPU))
    look_up, compute = lambda tables, places: (tables[0][places[0]],), lambda _, x: x
    places = (jnp.arange(Q).reshape(2, -1),)
    power = Strength(look_up, compute, False, jnp.ones(2, bool), None, (jnp.asarray(strength),), places)
    gamma, overflow = jax.jit(lambda: broadening.three_phonon(tables, pairs, f[q], power))()
    assert not overflow
    expected = sums(broadening, mesh, f, velocities, q, strength, occupation)
    np.testing.assert_allclose(gamma, expected, rtol=1e-10)
