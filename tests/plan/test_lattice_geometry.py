"""Voronoi cells and Delaunay cuts of lattices: properties of the points, whatever basis describes them."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.spatial import ConvexHull, Voronoi
from scipy.spatial.transform import Rotation

from wigner_jax._core.tiling import CPU
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian
from wigner_jax.plan.lattice_geometry import delaunay_tetrahedra, obtuse_superbase, second_moment
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.types import Crystal

BOX = np.array(list(product(range(-3, 4), repeat=3)))
BODY = 1 - 2 * np.eye(3)
HEXAGON = np.array([[1, 0, 0], [-0.5, np.sqrt(3) / 2, 0], [0, 0, 1.6]])
LATTICES = {  # and the distinct tetrahedra around a point
    "cubic": (np.eye(3), 40),
    "orthorhombic": (np.diag([1, 1.3, 2.1]), 40),
    "face-centred": (1 - np.eye(3), 56),
    "body-centred": (BODY, 24),
    "hexagonal": (HEXAGON, 96),
    "acute rhombohedral": (np.array([[1, 0, 0.9], [-0.5, 0.75**0.5, 0.9], [-0.5, -(0.75**0.5), 0.9]]), 56),
    "long tetragonal": (BODY * [1, 1, 3], 40),
    "short tetragonal": (BODY * [1, 1, 0.5], 24),
    "monoclinic": (np.array([[1, 0, 0], [0.3, 1.2, 0], [0, 0, 1]]), 96),
    "triclinic": (np.array([[3, 0, 0], [0.5, 2.8, 0], [-0.7, 0.4, 3.3]]), 24),
}
every = pytest.mark.parametrize("name", LATTICES)


def bases(name):
    """A lattice and other bases of it, some far from reduced."""
    rng = np.random.default_rng(len(name))
    lattice = LATTICES[name][0]
    yield lattice
    for _ in range(4):
        change = np.eye(3, dtype=int)
        for _ in range(6):
            i, j = rng.permutation(3)[:2]
            change[i] += rng.choice([-1, 1]) * change[j]
        yield change @ lattice


def symmetry(lattice):
    """Isometries of a lattice, (R, 3, 3): row vectors x → x @ R."""
    lattice = obtuse_superbase(lattice)[:3] @ lattice
    points = BOX @ lattice
    choices = [points[np.isclose(np.linalg.norm(points, axis=1), np.linalg.norm(v))] for v in lattice]
    maps = [np.linalg.solve(lattice, np.array(images)) for images in product(*choices)]
    return [R for R in maps if np.allclose(R @ R.T, np.eye(3), atol=1e-9)]


def canonical(tetrahedra, weights):
    """Sorted rows (coordinates of three vertices in a fixed order, weight)."""
    vertices = np.round(tetrahedra, 6) + 0.0
    order = np.lexsort(np.moveaxis(vertices, -1, 0), axis=-1)
    rows = np.take_along_axis(vertices, order[..., None], axis=1).reshape(len(vertices), -1)
    rows = np.column_stack([rows, np.round(weights, 9)])
    return rows[np.lexsort(rows.T)]


@every
def test_superbase(name):
    for lattice in bases(name):
        base = obtuse_superbase(lattice)
        assert not base.sum(axis=0).any()
        assert abs(round(np.linalg.det(base[:3]))) == 1
        dots = (base @ lattice) @ (base @ lattice).T
        assert np.max(dots - np.diag(np.diag(dots))) < 1e-9 * np.trace(dots)


# ---------------------------------------------------------------- the Voronoi cell


def literature():
    """Normalised second moments of Voronoi cells (Conway & Sloane, Sphere Packings, Lattices and Groups, chapter 21)."""
    c, area = HEXAGON[2, 2], np.sqrt(0.75)
    return {
        "cubic": np.eye(3) / 12,
        "orthorhombic": LATTICES["orthorhombic"][0] ** 2 / 12,
        "face-centred": 0.0787450656184296 * 2 ** (2 / 3) * np.eye(3),  # rhombic dodecahedron
        "body-centred": 0.0785432812171766 * 4 ** (2 / 3) * np.eye(3),  # truncated octahedron, 19/(192·2^(1/3))
        "hexagonal": np.diag([5 / 36 / np.sqrt(3) * area] * 2 + [c**2 / 12]),
    }


@pytest.mark.parametrize("name", literature())
def test_second_moments_of_the_literature(name):
    for lattice in bases(name):
        np.testing.assert_allclose(second_moment(lattice), literature()[name], rtol=0, atol=1e-13)


@every
def test_second_moment_of_the_cell_that_qhull_finds(name):
    lattice = LATTICES[name][0]
    points = BOX @ (obtuse_superbase(lattice)[:3] @ lattice)
    origin = int(np.flatnonzero(~points.any(axis=1))[0])
    cells = Voronoi(points)
    corners = cells.vertices[cells.regions[cells.point_region[origin]]]
    moment, volume = np.zeros((3, 3)), 0.0
    for face in ConvexHull(corners).simplices:
        x = corners[face]
        v = abs(np.linalg.det(x)) / 6
        moment += v / 20 * (x.T @ x + np.outer(x.sum(axis=0), x.sum(axis=0)))
        volume += v
    np.testing.assert_allclose(volume, abs(np.linalg.det(lattice)), rtol=1e-10)
    for basis in bases(name):
        np.testing.assert_allclose(second_moment(basis), moment / volume, rtol=0, atol=1e-12 * np.trace(moment))


@every
def test_second_moment_has_the_symmetry_of_the_lattice(name):
    lattice = LATTICES[name][0]
    moment, operations = second_moment(lattice), symmetry(lattice)
    assert len(operations) >= 2
    for R in operations:
        np.testing.assert_allclose(R.T @ moment @ R, moment, rtol=0, atol=1e-13 * np.trace(moment))
    turn = Rotation.from_euler("xyz", (17, 41, -63), degrees=True).as_matrix()
    np.testing.assert_allclose(second_moment(lattice @ turn), turn.T @ moment @ turn, rtol=0, atol=1e-13)


# ---------------------------------------------------------------- the Delaunay cut


@every
def test_tetrahedra_cover_space_once(name):
    """Counted with their weights, and once for each of their four vertices."""
    lattice, count = LATTICES[name]
    tetrahedra, weights = delaunay_tetrahedra(lattice)
    assert len(tetrahedra) == count
    assert len(np.unique(canonical(tetrahedra, 0 * weights), axis=0)) == count
    volumes = np.abs(np.linalg.det(tetrahedra)) / 6
    np.testing.assert_allclose(weights.sum(), 4, rtol=1e-12)
    for x in np.random.default_rng(0).uniform(size=(5, 3)):
        first = (x - BOX)[:, None, None] @ np.linalg.inv(tetrahedra)  # of every tetrahedron, moved to every point
        inside = np.all(first > 0, axis=(-1, -2)) & (first.sum(axis=(-1, -2)) < 1)
        np.testing.assert_allclose(np.sum(inside * (weights / volumes)), 4, rtol=1e-12)


@every
def test_tetrahedra_are_a_property_of_the_lattice(name):
    """The same in every basis, and mapped onto themselves by its symmetry."""
    lattice = LATTICES[name][0]
    tetrahedra, weights = delaunay_tetrahedra(lattice)
    expected = canonical(tetrahedra @ lattice, weights)
    for basis in bases(name):
        other, others = delaunay_tetrahedra(basis)
        np.testing.assert_allclose(canonical(other @ basis, others), expected, rtol=0, atol=1e-5)
    for R in symmetry(lattice):
        np.testing.assert_allclose(canonical(tetrahedra @ lattice @ R, weights), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["cubic", "face-centred", "hexagonal", "long tetragonal"])
def test_right_angles_are_recognised_within_the_precision_of_structures(name):
    lattice, count = LATTICES[name]
    noise = np.random.default_rng(1).normal(size=(3, 3))
    assert len(delaunay_tetrahedra(lattice + 1e-7 * noise)[0]) == count
    assert len(delaunay_tetrahedra(lattice + 1e-2 * noise)[0]) == 24


@every
def test_circumspheres_are_empty(name):
    lattice = obtuse_superbase(LATTICES[name][0])[:3] @ LATTICES[name][0]
    points = BOX @ lattice
    for vertices in delaunay_tetrahedra(lattice)[0] @ lattice:
        centre = np.linalg.solve(2 * vertices, np.sum(vertices**2, axis=1))
        assert np.linalg.norm(points - centre, axis=1).min() > np.linalg.norm(centre) - 1e-9


# ---------------------------------------------------------------- what the adaptive Gaussian makes of it


def width(crystal, dims, velocity, floor=0.0):
    """σ of one mode, from δ(0) = 1/(√(2π) σ). THz"""
    method = AdaptiveGaussian(floor=floor)
    tables = method.prepare(
        np.ones((1, 1)), np.ones((1, 1)), np.asarray(velocity)[None, None], make_mesh(crystal, dims), CPU
    )
    delta, _ = method.one_phonon(tables, np.ones(1), np.ones((1, 1)))
    return 1 / (np.sqrt(2 * np.pi) * float(delta[0]))


def crystal(lattice):
    return Crystal(lattice, np.zeros((1, 3)), np.ones(1), (14,))


VELOCITY = np.array([3.0, -7.0, 11.0])  # THz Å


def test_adaptive_width_is_the_spread_over_the_region_of_a_point():
    """σ² = floor² + a² ⟨(v·q)²⟩, the variance of a linear function over the region next to one mesh point."""
    lattice, dims = LATTICES["triclinic"][0], (5, 4, 3)
    micro = np.linalg.inv(lattice).T / np.array(dims)[:, None]
    q = np.random.default_rng(7).uniform(-0.5, 0.5, (50000, 3)) @ micro
    images = q + (BOX[np.abs(BOX).max(axis=1) < 2] @ micro)[:, None]
    q = images[np.linalg.norm(images, axis=-1).argmin(axis=0), np.arange(len(q))]
    np.testing.assert_allclose(width(crystal(lattice), dims, VELOCITY), np.std(q @ VELOCITY), rtol=5e-3)
    np.testing.assert_allclose(width(crystal(lattice), dims, np.zeros(3), 0.25), 0.25, rtol=1e-14)


def test_adaptive_width_is_that_of_shengbte_where_the_micro_cell_is_rectangular():
    """Li, Carrete, Katcho & Mingo (2014): σ² = Σ_μ (v·b_μ/N_μ)²/12."""
    lattice, dims = np.diag([3.0, 4.0, 5.5]), np.array([5, 4, 3])
    slopes = VELOCITY / np.diag(lattice) / dims
    np.testing.assert_allclose(
        width(crystal(lattice), dims, VELOCITY), np.linalg.norm(slopes) / np.sqrt(12), rtol=1e-12
    )


def test_adaptive_width_does_not_depend_on_the_description_of_the_lattice():
    """The same lattice of mesh points in another basis, and a velocity turned by a symmetry operation."""
    lattice = 2.7 * LATTICES["face-centred"][0]
    other = np.array([[1, 0, 0], [0, 1, 0], [-1, -1, -1]]) @ lattice
    turned = VELOCITY[[1, 0, 2]] * [1, -1, 1]
    cases = ((lattice, VELOCITY), (other, VELOCITY), (lattice, turned))
    results = [width(crystal(cell), (4, 4, 4), v) for cell, v in cases]
    np.testing.assert_allclose(results, results[0], rtol=1e-12)
