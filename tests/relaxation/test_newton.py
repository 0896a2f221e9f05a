"""Relaxation inside the symmetry: minima, what is kept, and what is reported."""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from wigner_jax.crystal.prototypes import prototype
from wigner_jax.crystal.symmetry import space_group
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.registry import load_potential
from wigner_jax.relaxation.newton import _newton_step, _State, allowed_displacements, allowed_strains, relax
from wigner_jax.types import Crystal


@pytest.fixture(scope="module")
def tersoff():
    return load_potential("tersoff-1989")


def wurtzite() -> Atoms:
    return bulk("SiC", "wurtzite", a=3.10, c=4.90, u=0.370)


def forces_and_stress(atoms, potential):
    graph, _ = build_graph(atoms, potential)

    @jax.jit
    @partial(jax.grad, argnums=(0, 1))
    def slopes(x, strain):
        return potential.energy(potential.params, graph.at(x).strained(strain))

    forces, virial = slopes(graph.positions, jnp.zeros((3, 3)))
    return np.abs(forces).max(), np.abs(virial).max() / atoms.get_volume()


@pytest.mark.parametrize(("name", "constant"), [("Si", 5.432), ("C", 3.566), ("Ge", 5.657), ("SiC", 4.321)])
def test_published_lattice_constants(tersoff, name, constant):
    relaxed, report = relax(prototype(name), tersoff)
    assert report.converged
    assert report.message == ""
    assert report.degrees_of_freedom == (1, 0)
    np.testing.assert_allclose(relaxed.cell.lengths(), constant, atol=6e-4, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 31.0])
def test_wurtzite(tersoff, angle):
    """Two strains and one displacement, from 2 % away; the orientation, the order and the input stay as they were."""
    atoms = wurtzite()[[2, 0, 3, 1]]
    atoms.rotate(angle, (1, 2, 3), rotate_cell=True)
    before = atoms.copy()
    relaxed, report = relax(atoms, tersoff)
    assert report.converged
    assert report.degrees_of_freedom == (2, 1)
    assert report.space_group == ("P6_3mc", "P6_3mc")
    assert report.steps < 8
    assert relaxed.numbers.tolist() == atoms.numbers.tolist()
    assert atoms == before

    force, stress = forces_and_stress(relaxed, tersoff)
    assert force < 1e-8
    assert stress < 1e-9
    np.testing.assert_allclose(report.energy / 4, -6.16467, atol=1e-5)

    F = np.linalg.inv(np.asarray(atoms.cell)) @ np.asarray(relaxed.cell)
    assert np.abs(F - np.eye(3)).max() > 1e-3
    np.testing.assert_allclose(F, F.T, atol=1e-12)


def test_cell_may_be_held(tersoff):
    atoms = wurtzite()
    relaxed, report = relax(atoms, tersoff, cell=False)
    np.testing.assert_allclose(np.asarray(relaxed.cell), np.asarray(atoms.cell), rtol=0, atol=1e-13)
    assert report.converged
    assert report.degrees_of_freedom == (0, 1)
    assert report.max_force < 1e-8
    assert report.max_stress > 1e-3
    assert np.abs(relaxed.positions - atoms.positions).max() > 1e-3


def test_any_cell_gives_the_same_crystal(tersoff):
    small, one = relax(wurtzite(), tersoff)
    large, eight = relax(wurtzite().repeat((2, 2, 2)), tersoff)
    np.testing.assert_allclose(eight.energy, 8 * one.energy, rtol=1e-12)
    np.testing.assert_allclose(large.cell.lengths(), 2 * small.cell.lengths(), rtol=1e-8)


def test_low_symmetry_and_a_rise_of_symmetry(tersoff):
    """A rattled Si5Ge3 cell without any symmetry falls into a structure that has some; the report says so."""
    atoms = bulk("Si", cubic=True, a=5.5)
    atoms.symbols[[1, 4, 6]] = "Ge"
    shear = np.array([[0, 0.07, 0], [0, 0, 0], [-0.04, 0, 0]])
    atoms.set_cell(np.asarray(atoms.cell) + shear, scale_atoms=True)
    atoms.rattle(0.02, seed=1)
    relaxed, report = relax(atoms, tersoff)
    assert report.converged
    assert report.degrees_of_freedom == (6, 21)
    force, stress = forces_and_stress(relaxed, tersoff)
    assert force < 1e-8
    assert stress < 1e-9
    assert report.space_group[0] == "P1"
    assert report.space_group_changed
    assert "space group changed" in report.message
    F = np.linalg.inv(np.asarray(atoms.cell)) @ np.asarray(relaxed.cell)
    np.testing.assert_allclose(F, F.T, atol=1e-6)  # the first snap onto P1 is exact, so this is the strain itself


def test_failure_is_a_value(tersoff):
    _, report = relax(bulk("Si", a=5.6), tersoff, max_steps=1)
    assert not report.converged
    assert "not converged after 1 steps" in report.message
    assert report.max_stress > 1e-9


def test_newton_step_goes_downhill_at_a_saddle():
    gradient, hessian = np.array([0.3, -0.2]), np.array([[-4.0, 1.0], [1.0, 2.0]])
    state = _State(np.eye(3), np.zeros((1, 3)), 0.0, gradient, hessian, 0.0, 0.0)
    step, predicted = _newton_step(state, 1e3)
    assert gradient @ step < -0.01
    assert predicted < 0
    short, _ = _newton_step(state, 1e-3)
    np.testing.assert_allclose(short, 1e-3 * step / np.linalg.norm(step), rtol=1e-12)
    convex = dataclasses.replace(state, hessian=hessian @ hessian)
    np.testing.assert_allclose(_newton_step(convex, 1e3)[0], -np.linalg.solve(hessian @ hessian, gradient), rtol=1e-12)


@pytest.mark.parametrize(
    ("atoms", "strains", "displacements"),
    [
        (bulk("Si", a=5.43), 1, 0),
        (bulk("SiC", "zincblende", a=4.3, cubic=True), 1, 0),
        (bulk("SiC", "wurtzite", a=3.1, c=4.9, u=0.37), 2, 1),
        (bulk("Ti", "hcp", a=2.9, c=4.6), 2, 0),
        (Atoms("SiGeC", [[0, 0, 0], [1.1, 1.5, 0.3], [2.2, 0.4, 2.1]], cell=[3, 4, 5], pbc=True), 6, 6),
    ],
)
def test_counts_of_allowed_degrees_of_freedom(atoms, strains, displacements):
    crystal = Crystal(np.asarray(atoms.cell), atoms.get_scaled_positions(), np.ones(len(atoms)), tuple(atoms.numbers))
    group = space_group(crystal)
    allowed = allowed_strains(group, crystal.lattice)
    modes = allowed_displacements(group, crystal.lattice)
    assert (len(allowed), len(modes)) == (strains, displacements)
    for basis in (allowed, modes):
        flat = basis.reshape(len(basis), basis[0].size if len(basis) else 0)
        np.testing.assert_allclose(flat @ flat.T, np.eye(len(flat)), atol=1e-12)
    np.testing.assert_allclose(allowed, allowed.transpose(0, 2, 1), atol=1e-13)
    np.testing.assert_allclose(modes.sum(axis=1), 0.0, atol=1e-12)


def test_misuse(tersoff):
    with pytest.raises(ValueError, match="periodic"):
        relax(Atoms("Si", cell=[5, 5, 5]), tersoff)
    with pytest.raises(ValueError, match="does not know Al"):
        relax(bulk("Al"), tersoff)
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        relax(bulk("Si"), tersoff)
