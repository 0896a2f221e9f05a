"""Generalised regular meshes: all q that repeat in a supercell, the same crystal, and phono3py's numbers on them."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

import wigner_jax as wj
from wigner_jax.crystal.defaults import conventional_matrix
from wigner_jax.errors import InputError
from wigner_jax.plan.generalized_mesh import diagonalized, generalized_mesh


@pytest.mark.parametrize("seed", range(20))
def test_diagonal(seed):
    S = np.random.default_rng(seed).integers(-6, 7, (3, 3))
    S[0, 0] += round(np.linalg.det(S)) == 0
    if round(np.linalg.det(S)) == 0:
        S += np.eye(3, dtype=int)
    D, Q = diagonalized(S)
    assert np.all(D > 0)
    assert round(np.linalg.det(Q)) == 1
    assert np.prod(D) == abs(round(np.linalg.det(S)))
    # P = D Q⁻¹ S⁻¹ is unimodular
    P = np.diag(D) @ np.linalg.inv(Q) @ np.linalg.inv(S)
    np.testing.assert_allclose(P, np.rint(P), atol=1e-8)


@pytest.fixture(scope="module")
def silicon():
    return wj.supercells_from_atoms(bulk("Si", a=5.43), (2, 2, 2), (1, 1, 1))


def cartesian(plan) -> np.ndarray:
    return np.asarray(plan.mesh.qpoints) @ np.linalg.inv(np.asarray(plan.crystal.lattice)).T


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 2, 2), (3, 3, 3)])
def test_points_are_those_that_repeat_in_the_supercell(silicon, repeat):
    cells, dims = generalized_mesh(silicon, repeat)
    plan = wj.make_plan(cells, dims)
    conventional = np.diag(repeat) @ conventional_matrix(silicon.crystal) @ np.asarray(silicon.crystal.lattice)
    turns = cartesian(plan) @ conventional.T
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-9)
    assert len(plan.mesh.qpoints) == 4 * np.prod(repeat)
    assert len(plan.mesh.rotations) == 48
    # the same crystal in other vectors
    before, after = (np.sort(c.fc2_supercell.positions_in(c.crystal), axis=0) for c in (silicon, cells))
    np.testing.assert_allclose(before, after, atol=1e-9)


def test_a_regular_mesh_is_one_of_them(silicon):
    """κ of 4×4×4, and of the same points by a supercell matrix of the primitive cell, in vectors of its own."""
    fc, _ = wj.force_constants(silicon, wj.load_potential("tersoff-1988-si"))
    broadening, found = wj.Gaussian(0.4), []
    for cells, dims in (
        (silicon, (4, 4, 4)),
        generalized_mesh(silicon, 4 * np.array([[1, 1, 0], [0, 1, 0], [2, 1, 1]])),
    ):
        plan = wj.make_plan(cells, dims)
        found.append(wj.solve(plan, fc, broadening=broadening).conductivity.kappa_TOT[0])
    assert dims == (4, 4, 4)
    assert not np.allclose(cells.crystal.lattice, silicon.crystal.lattice)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize("length", [12.0, 17.0])
def test_phono3py(length):
    """Linewidths on the grids of phono3py's own --grg, point by point."""
    phono3py = pytest.importorskip("phono3py")
    cells = wj.supercells_from_atoms(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (1, 1, 1))
    fc, _ = wj.force_constants(cells, wj.load_potential("tersoff-1989"))
    plan = wj.make_plan(*generalized_mesh(cells, length))
    ours = wj.solve(plan, fc, broadening=wj.Gaussian(0.5), scattering=wj.Scattering(None))
    peer = wj.to_phono3py(wj.GivenConstants(cells, fc))
    assert isinstance(peer, phono3py.Phono3py)
    peer = phono3py.Phono3py(
        peer.unitcell, supercell_matrix=peer.supercell_matrix, primitive_matrix=peer.primitive_matrix,
        phonon_supercell_matrix=peer.phonon_supercell_matrix, use_grg=True, log_level=0,
    )  # fmt: skip
    source = wj.to_phono3py(wj.GivenConstants(cells, fc))
    peer.fc2, peer.fc3 = source.fc2, source.fc3
    peer.sigmas, peer.mesh_numbers = [0.5], length
    peer.init_phph_interaction()
    assert np.prod(peer.grid.D_diag) == np.prod(plan.mesh.dims)
    peer.run_thermal_conductivity(temperatures=[300.0])
    theirs = peer.thermal_conductivity
    points = np.asarray(theirs.qpoints) @ np.linalg.inv(np.asarray(peer.primitive.cell)).T
    lattice, rotations = np.asarray(plan.crystal.lattice), np.asarray(plan.mesh.rotations)
    irreducible = cartesian(plan)[np.asarray(plan.mesh.irreducible)]
    assert len(points) == len(irreducible)
    for point, gamma in zip(points, np.asarray(theirs.gamma)[0, 0], strict=True):
        images = np.array([R @ point for R in rotations])
        difference = (images[:, None] - irreducible[None]) @ lattice.T
        row = np.abs(difference - np.rint(difference)).max(axis=-1).min(axis=0).argmin()
        width = np.asarray(ours.linewidths.three_phonon)[0, row]
        np.testing.assert_allclose(np.sort(width), np.sort(gamma), atol=1e-6 * width.max())


def test_what_is_no_mesh(silicon):
    for bad, message in (
        (0.0, "length of a mesh"), (-3.0, "length of a mesh"), (np.nan, "length of a mesh"), ("12", "length of a mesh"),
        ((2, 2), "has 2 numbers"), (np.zeros((3, 3)), "span a volume"), (0.5 * np.eye(3), "integer matrix"),
        ((2, 2, -2), "positive"), (True, "length of a mesh"), (1e30 * np.eye(3), "integer matrix"),
        (9999 * np.eye(3), "can be numbered"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            generalized_mesh(silicon, bad)
