"""κ is a property of the crystal: nothing that merely describes it, and nothing about the computation, may change it.

The force constants are made exactly symmetric (automatic differentiation of an analytic potential), so that 1e-8 can be
asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest
from ase.build import bulk
from scipy.spatial.transform import Rotation
from solved_problems import analytic

from wigner_jax._core.tiling import ACCELERATOR, Tiling
from wigner_jax._solve import kappa, make_plan, solve
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from wigner_jax.physics.broadening.tetrahedron import Tetrahedron
from wigner_jax.plan import triplets
from wigner_jax.types import ForceConstants, Supercells

TOLERANCE = 1e-8
ROTATION = Rotation.from_euler("xyz", (17, 41, -63), degrees=True).as_matrix()
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
BROADENING = {
    "gaussian": lambda plan: Gaussian(0.3),
    "adaptive": lambda plan: AdaptiveGaussian(),
    "tetrahedron": Tetrahedron.for_plan,
    "symmetrized": lambda plan: Tetrahedron.for_plan(plan, symmetrized=True),
}
STRUCTURES = {
    "zincblende": (lambda: bulk("SiC", "zincblende", a=4.32), (3, 3, 3), (2, 2, 2)),
    "wurtzite": (lambda: bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (3, 3, 2), (2, 2, 1)),
}


@functools.cache
def crystal(name):
    structure, fc2, fc3 = STRUCTURES[name]
    return analytic(structure(), fc2, fc3)


def conductivity(cells, fc, dims, broadening, symmetry=True, tiling=None) -> np.ndarray:
    """κ_TOT (3, 3) at 300 K"""
    plan = make_plan(cells, dims, symmetry)
    solution = solve(plan, fc, (300.0,), broadening=BROADENING[broadening](plan), tiling=tiling)
    return np.asarray(solution.conductivity.kappa_TOT[0])[VOIGT]


@functools.cache
def expected(name, dims, broadening):
    return conductivity(*crystal(name), dims, broadening)


def error(actual, reference) -> float:
    return float(np.abs(actual - reference).max() / np.abs(reference).max())


# ---------------------------------------------------------------- descriptions of the same crystal


def rotated(cells, fc):
    """The same crystal turned in space."""
    crystal = dataclasses.replace(cells.crystal, lattice=np.asarray(cells.crystal.lattice) @ ROTATION.T)
    R = ROTATION
    second = np.einsum("ax,by,ijxy->ijab", R, R, fc.fc2)
    third = np.einsum("ax,by,cz,ijkxyz->ijkabc", R, R, R, fc.fc3)
    return Supercells(crystal, cells.fc2_supercell, cells.fc3_supercell), ForceConstants(second, third)


def shifted(cells, fc):
    """Another origin."""
    positions = np.asarray(cells.crystal.positions) + np.array([0.123, -0.31, 0.27])
    return Supercells(
        dataclasses.replace(cells.crystal, positions=positions), cells.fc2_supercell, cells.fc3_supercell
    ), fc


def other_images(cells, fc):
    """The second atom of the primitive cell replaced by one of its periodic images, and the home cell by another."""
    move = np.zeros((cells.crystal.n_atoms, 3), int)
    move[1] = (1, 0, -1)

    def moved(supercell):
        return dataclasses.replace(
            supercell, lattice_vector=supercell.lattice_vector - move[supercell.primitive_index] + [2, -1, 0]
        )

    positions = np.asarray(cells.crystal.positions) + move
    crystal = dataclasses.replace(cells.crystal, positions=positions)
    return Supercells(crystal, moved(cells.fc2_supercell), moved(cells.fc3_supercell)), fc


def reordered(cells, fc):
    """Atoms of the primitive cell and of both supercells in another order."""
    rng = np.random.default_rng(1)
    old = np.arange(cells.crystal.n_atoms)[::-1]

    def shuffled(supercell):
        order = rng.permutation(supercell.n_atoms)
        return order, dataclasses.replace(
            supercell,
            primitive_index=np.argsort(old)[supercell.primitive_index[order]],
            lattice_vector=supercell.lattice_vector[order],
            p2s_map=np.argsort(order)[supercell.p2s_map[old]],
        )

    (order2, fc2), (order3, fc3) = shuffled(cells.fc2_supercell), shuffled(cells.fc3_supercell)
    crystal = dataclasses.replace(
        cells.crystal,
        positions=np.asarray(cells.crystal.positions)[old],
        masses=np.asarray(cells.crystal.masses)[old],
        numbers=tuple(cells.crystal.numbers[i] for i in old),
    )
    second = fc.fc2[old][:, order2]
    third = fc.fc3[old][:, order3][:, :, order3]
    return Supercells(crystal, fc2, fc3), ForceConstants(second, third)


def other_basis(cells, fc, matrix):
    """Other primitive vectors of the same lattice, and thus of the reciprocal one."""
    inverse = np.rint(np.linalg.inv(matrix)).astype(int)

    def changed(supercell):
        return dataclasses.replace(
            supercell, matrix=supercell.matrix @ inverse, lattice_vector=supercell.lattice_vector @ inverse
        )

    crystal = dataclasses.replace(
        cells.crystal,
        lattice=matrix @ np.asarray(cells.crystal.lattice),
        positions=np.asarray(cells.crystal.positions) @ inverse,
    )
    return Supercells(crystal, changed(cells.fc2_supercell), changed(cells.fc3_supercell)), fc


BASES = {  # unimodular
    "obtuse": np.array([[1, 0, 0], [0, 1, 0], [-1, -1, -1]]),
    "sheared": np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]]),
    "long": np.array([[2, 1, 0], [1, 1, 0], [0, -1, 1]]),
}


def all_at_once(cells, fc):
    return rotated(*reordered(*other_images(*shifted(cells, fc))))


DESCRIPTIONS = {f.__name__: f for f in (rotated, shifted, other_images, reordered, all_at_once)}


@pytest.mark.parametrize("broadening", BROADENING)
@pytest.mark.parametrize(
    ("name", "dims", "describe"),
    [
        ("zincblende", (4, 4, 4), "all_at_once"),
        *[pytest.param("zincblende", (4, 4, 4), d, marks=pytest.mark.slow) for d in DESCRIPTIONS if d != "all_at_once"],
        pytest.param("zincblende", (3, 4, 5), "all_at_once", marks=pytest.mark.slow),
        pytest.param("wurtzite", (3, 3, 2), "all_at_once", marks=pytest.mark.slow),
    ],
)
def test_description_of_the_crystal(name, dims, describe, broadening):
    """Orientation, origin, images and order of the atoms."""
    actual = conductivity(*DESCRIPTIONS[describe](*crystal(name)), dims, broadening)
    if describe in ("rotated", "all_at_once"):
        actual = ROTATION.T @ actual @ ROTATION
    assert error(actual, expected(name, dims, broadening)) < TOLERANCE


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


ONE_DIAGONAL = pytest.mark.xfail(strict=True, reason="phono3py's choice: one diagonal of a given micro-cell")


@pytest.mark.parametrize(
    ("basis", "broadening"),
    [
        *itertools.product(BASES, ["gaussian", "adaptive"]),
        ("long", "symmetrized"),
        slow("obtuse", "symmetrized"),
        slow("sheared", "symmetrized"),
        pytest.param("sheared", "tetrahedron", marks=[ONE_DIAGONAL, pytest.mark.slow]),
    ],
)
def test_choice_of_the_primitive_vectors(basis, broadening):
    """N × N × N points are the same set in every basis."""
    dims = (4, 4, 4)
    actual = conductivity(*other_basis(*crystal("zincblende"), BASES[basis]), dims, broadening)
    assert error(actual, expected("zincblende", dims, broadening)) < TOLERANCE


# ---------------------------------------------------------------- symmetry


@pytest.mark.parametrize(
    ("name", "dims", "broadening"),
    [
        *[("zincblende", (4, 4, 4), b) for b in BROADENING],
        # a mesh less symmetric than the crystal: only the operations that keep it are used
        *[slow("zincblende", (3, 4, 5), b) for b in BROADENING],
        slow("zincblende", (5, 5, 5), "gaussian"),
        slow("zincblende", (5, 5, 5), "tetrahedron"),
        slow("wurtzite", (3, 3, 2), "gaussian"),
        slow("wurtzite", (3, 3, 2), "adaptive"),
        slow("wurtzite", (3, 3, 2), "symmetrized"),
        pytest.param("wurtzite", (3, 3, 2), "tetrahedron", marks=[ONE_DIAGONAL, pytest.mark.slow]),
    ],
)
def test_symmetry_reduction(name, dims, broadening):
    """Every point and every triplet alone, against irreducible ones."""
    actual = conductivity(*crystal(name), dims, broadening, symmetry=False)
    assert error(actual, expected(name, dims, broadening)) < TOLERANCE


def test_the_mesh_breaks_the_symmetry_that_it_lacks():
    """κ of a cubic crystal is isotropic on a cubic mesh; on 3 × 4 × 5 points it cannot be, and is not forced to."""
    cubic = expected("zincblende", (4, 4, 4), "gaussian")
    np.testing.assert_allclose(cubic, cubic[0, 0] * np.eye(3), rtol=0, atol=1e-10 * cubic[0, 0])
    assert len(make_plan(crystal("zincblende")[0], (3, 4, 5)).mesh.rotations) < 48


def test_rounding_of_the_force_constants():
    """Noise of 1e-7 eV/Å² splits the frequencies of a star by 1e-6 THz, and moved κ by up to 12 % through elastic
    scattering in tetrahedra of nothing but the star's points."""
    cells, fc = analytic(bulk("Si"), (2, 2, 2), (2, 2, 2))
    exact = conductivity(cells, fc, (3, 3, 3), "tetrahedron")
    random = np.random.default_rng(0)
    fc2 = np.asarray(fc.fc2)
    for _ in range(4):
        noisy = dataclasses.replace(fc, fc2=fc2 + 1e-7 * random.normal(size=fc2.shape))
        assert error(conductivity(cells, noisy, (3, 3, 3), "tetrahedron"), exact) < 2e-5


# ---------------------------------------------------------------- tiling

SMALL = Tiling(
    group=3, vectorised=False, strength_bytes=2**14, rod_bytes=2**15, rods=4, triplets=56, items=256, least_bytes=0
)
PAIRS = ACCELERATOR._replace(group=2)  # of eight q-points
SPLIT = ACCELERATOR._replace(strength_bytes=2**15)  # every q-point alone, and one mode of leg 0 at a time
TILED = pytest.mark.parametrize(
    ("tiling", "broadening"),
    [
        pytest.param(SMALL, "gaussian", id="small-gaussian"),
        pytest.param(SMALL, "tetrahedron", id="small-tetrahedron"),
        pytest.param(ACCELERATOR, "tetrahedron", id="accelerator-tetrahedron"),
        pytest.param(ACCELERATOR, "adaptive", id="accelerator-adaptive"),
        pytest.param(PAIRS, "gaussian", id="pairs-gaussian"),
        pytest.param(SPLIT, "tetrahedron", id="split-tetrahedron"),
    ],
)


@TILED
def test_tiling(monkeypatch, broadening, tiling):
    """Nothing depends on how much is held at a time; sizes that do not divide the work included."""
    reference = expected("zincblende", (4, 4, 4), broadening)
    if tiling is SMALL:
        monkeypatch.setattr(triplets, "ROD_CHUNK", 3)
    actual = conductivity(*crystal("zincblende"), (4, 4, 4), broadening, tiling=tiling)
    assert error(actual, reference) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("broadening", ["tetrahedron", "adaptive"])
def test_tiling_of_gradients(broadening):
    """An accelerator's backward pass is a CPU's."""
    cells, fc = crystal("zincblende")
    plan = make_plan(cells, (4, 4, 4))
    method = (
        Tetrahedron.for_plan(plan).with_capacity(plan, fc)
        if broadening == "tetrahedron"
        else BROADENING[broadening](plan)
    )

    def slope(tiling=None):
        total = lambda x: sum(k[0, :3].sum() for k in kappa(plan, x, broadening=method, tiling=tiling))  # noqa: E731
        return jax.tree.map(np.asarray, jax.grad(total)(fc))

    reference = slope()
    for a, b in zip(jax.tree.leaves(slope(ACCELERATOR)), jax.tree.leaves(reference), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())  # single precision: tetrahedra's slopes
