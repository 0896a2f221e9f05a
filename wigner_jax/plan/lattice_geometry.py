"""Geometry of a lattice that depends on its points alone, not on the basis that describes them.

All of it rests on an obtuse superbase: four lattice vectors with v0 + v1 + v2 + v3 = 0 and v_i·v_j ≤ 0, any three of
them a basis (Selling 1874; Conway & Sloane, Proc. R. Soc. Lond. A 436, 55 (1992)). The 24 tetrahedra

    (0, v_i, v_i + v_j, v_i + v_j + v_k),   i, j, k different of 0…3,

surround the origin and belong to a Delaunay triangulation: no lattice point is inside their circumspheres. A lattice is
written as the rows of a (3, 3) matrix.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, permutations, product

import numpy as np

# Cosine below which an angle counts as a right one: structures symmetric within SYMPREC have them to some 1e-6.
RIGHT_ANGLE = 1e-5
_PATHS = np.array([np.cumsum(np.eye(4, dtype=int)[list(order)], axis=0)[:3] for order in permutations(range(4))])


def obtuse_superbase(lattice: np.ndarray) -> np.ndarray:
    """Four vectors that sum to zero and make no acute angle, in units of the rows of `lattice`. (4, 3) int

    Selling's step for v_i·v_j > 0 turns v_i round and adds it to the two others; Σ|v|² falls by 2 v_i·v_j.
    """
    base = np.concatenate([np.eye(3, dtype=int), -np.ones((1, 3), dtype=int)])
    while True:
        vectors = base @ lattice
        dots = vectors @ vectors.T
        i, j = np.unravel_index(np.argmax(dots - 2 * np.diag(np.diag(dots))), (4, 4))
        if dots[i, j] <= 1e-12 * np.trace(dots):
            return base
        others = [k for k in range(4) if k not in (i, j)]
        base[others] += base[i]
        base[i] *= -1


def _circumcentres(vertices: np.ndarray) -> np.ndarray:
    """Centres of the circles or spheres through the origin and Cartesian `vertices`, in their span. (..., k, 3) → (..., 3)"""
    gram = vertices @ np.swapaxes(vertices, -1, -2)
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    return np.einsum("...k,...kx->...x", np.linalg.solve(gram, squares[..., None] / 2)[..., 0], vertices)


def second_moment(lattice: np.ndarray) -> np.ndarray:
    """∫ x xᵀ dx / V over the Voronoi cell of the origin, the region closer to it than to other points. (3, 3)

    The cell is a sum of orthoschemes (0, c1, c2, c3): the circumcentres of an edge, a triangle and a tetrahedron of the
    Delaunay triangulation that contain the origin and each other, with the sign of their orientation against that of
    the tetrahedron, since a circumcentre may lie outside. A simplex with vertices x_n has ∫ x xᵀ = (V/20) (Σ x_n x_nᵀ + Σ x_n Σ x_nᵀ).
    """
    tetrahedra = _PATHS @ (obtuse_superbase(lattice) @ lattice)
    total, volume = np.zeros((3, 3)), 0.0
    for order in permutations(range(3)):
        flags = tetrahedra[:, list(order)]
        corners = np.stack([_circumcentres(flags[:, :k]) for k in (1, 2, 3)], axis=1)
        volumes = np.linalg.det(corners) * np.sign(np.linalg.det(flags)) / 6
        sums = corners.sum(axis=1)
        total += np.einsum("f,fkx,fky->xy", volumes, corners, corners) + np.einsum("f,fx,fy->xy", volumes, sums, sums)
        volume += volumes.sum()
    return total / 20 / volume


def delaunay_tetrahedra(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tetrahedra that touch the origin in the Delaunay cut of space, and the weight of each.

    A general lattice's Delaunay cells are tetrahedra. Right angles between superbase vectors join several into a pyramid,
    an octahedron, a prism or a box, which no choice of diagonals cuts symmetrically; such a cell is the average of all
    its divisions into the fewest tetrahedra (2, 3, 6, 2 divisions). The result is a property of the lattice, so that it
    has all its symmetry. 24 tetrahedra for body-centred cubic lattices (the q-points of face-centred crystals) and all
    general ones, 40 for primitive cubic, tetragonal and orthorhombic, 56 for face-centred cubic, 96 for hexagonal ones.

    Returns:
        (K, 3, 3) int, the three other vertices of each in units of the rows of `lattice`; (K,) volume in units of the
        primitive cell, times the share of the divisions that have it.
    """
    base = obtuse_superbase(lattice)
    vectors = base @ lattice
    lengths = np.linalg.norm(vectors, axis=1)
    conorms = -(vectors @ vectors.T)
    conorms[conorms < RIGHT_ANGLE * np.outer(lengths, lengths)] = 0  # the diagonal is negative
    metric = (np.diag(conorms.sum(axis=0)) - conorms)[:3, :3] / conorms.sum()  # right angles are exact in it
    root = np.linalg.cholesky(metric)
    superbase = np.concatenate([np.eye(3, dtype=int), -np.ones((1, 3), dtype=int)])
    points = np.array(list(product(range(-3, 4), repeat=3)))
    weights: dict[tuple[int, ...], float] = defaultdict(float)
    for centre in np.unique(np.round(_circumcentres(_PATHS @ superbase @ root), 9), axis=0):
        distances = np.linalg.norm(points @ root - centre, axis=1)
        cell = points[distances < distances.min() + 1e-6]
        origin = int(np.flatnonzero(~cell.any(axis=1))[0])
        divisions = _divisions(cell)
        for tetrahedron in (t for division in divisions for t in division if origin in t):
            others = cell[sorted(set(tetrahedron) - {origin})]
            weights[tuple(others.ravel())] += abs(round(np.linalg.det(others))) / 6 / len(divisions)
    tetrahedra = np.array(list(weights)).reshape(-1, 3, 3) @ base[:3]
    return tetrahedra, np.array(list(weights.values()))


def _divisions(cell: np.ndarray) -> list[list[tuple[int, ...]]]:
    """All divisions of a Delaunay cell into the fewest tetrahedra.

    Args:
        cell: (n, 3) int, its vertices in lexicographic order, so that parallel edges point the same way.

    Returns:
        for each division its tetrahedra, as indices of four vertices.
    """
    n = len(cell)
    if n == 4:
        return [[(0, 1, 2, 3)]]
    by_centre, by_difference = defaultdict(list), defaultdict(list)
    for i, j in combinations(range(n), 2):
        by_centre[tuple(cell[i] + cell[j])].append((i, j))
        by_difference[tuple(cell[j] - cell[i])].append((i, j))
    diagonals, parallels = (max(groups.values(), key=len) for groups in (by_centre, by_difference))
    if n == 8:  # a box: the tetrahedron of every other corner, and the four corners that it cuts off
        return [
            [inner, *[(outer, *(set(inner) - {i})) for i, outer in _across(inner, diagonals)]]
            for inner in product(*diagonals)
            if abs(round(np.linalg.det(cell[list(inner[1:])] - cell[inner[0]]))) == 2
        ]
    if len(parallels) == 3:  # a prism: stairs from one triangle, x, to the other, y
        return [
            [(x1, x2, x3, y3), (x1, x2, y2, y3), (x1, y1, y2, y3)]
            for (x1, y1), (x2, y2), (x3, y3) in permutations(parallels)
        ]
    # a pyramid (two diagonals) or an octahedron (three): the tetrahedra share one diagonal
    return [
        [(*d, *pair) for pair in combinations(sorted(set(range(n)) - set(d)), 2) if pair not in diagonals]
        for d in diagonals
    ]


def _across(ends: tuple[int, ...], diagonals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """(end, other end) of the diagonals, the first of each given."""
    return [(end, sum(d) - end) for end, d in zip(ends, diagonals, strict=True)]
