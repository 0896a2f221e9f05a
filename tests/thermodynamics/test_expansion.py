"""Grüneisen parameters from Φ3 against strained crystals, elastic constants, thermal expansion."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from ase.build import bulk

from wigner_jax import default_supercells, force_constants, load_potential, make_plan, relax
from wigner_jax._solve import phonons
from wigner_jax.crystal.supercells import shortest_vectors
from wigner_jax.ifc.autodiff import fitted
from wigner_jax.ifc.displacement_patterns import plan_fit
from wigner_jax.physics.conductivity import heat_capacity
from wigner_jax.potentials.neighbor_list import graph_of
from wigner_jax.thermodynamics.expansion import elastic_constants, mean_gruneisen, thermal_expansion
from wigner_jax.thermodynamics.strain_derivatives import internal_strain, mean_separations

MESH = (3, 3, 2)
STRAIN = 1e-4


@pytest.fixture(scope="module")
def tersoff():
    return load_potential("tersoff-1989")


def crystal_of(name):
    if name == "diamond":
        return bulk("Si", a=5.43), (3, 3, 3)
    if name == "zincblende":
        return bulk("SiC", "zincblende", a=4.32), (3, 3, 3)
    return bulk("SiC", "wurtzite", a=3.08, c=5.04, u=0.376), (3, 3, 2)


def harmonic(atoms, supercell, potential, mesh=MESH):
    """Supercells, plan, force constants and phonons; both supercells are the same, as the comparison needs."""
    cells = default_supercells(atoms, supercell, supercell)
    plan = make_plan(cells, mesh)
    fc, _ = force_constants(cells, potential)
    return cells, plan, fc, phonons(plan, fc.fc2)


def strained_frequencies(atoms, supercell, potential, plan):
    """Frequencies of another geometry of the same crystal, from Φ2 alone."""
    cells = default_supercells(atoms, supercell, supercell)
    fit, _ = plan_fit(cells.crystal, cells.fc2_supercell, 2)
    lattice = cells.crystal.lattice
    positions = (
        cells.crystal.positions[cells.fc2_supercell.primitive_index] + cells.fc2_supercell.lattice_vector
    ) @ lattice
    numbers = np.asarray(cells.crystal.numbers)[cells.fc2_supercell.primitive_index]
    graph, _ = graph_of(cells.fc2_supercell.matrix @ lattice, positions, numbers, potential)
    second = jax.jit(fitted, static_argnums=0)(potential.energy, potential.params, graph, fit)
    moved = dataclasses.replace(plan, crystal=cells.crystal)
    return np.asarray(phonons(moved, second).frequencies)[np.asarray(plan.mesh.irreducible)]


@pytest.mark.parametrize(
    ("name", "relaxed_ions"),
    [
        ("diamond", True),
        pytest.param("zincblende", True, marks=pytest.mark.slow),
        pytest.param("wurtzite", True, marks=pytest.mark.slow),
        pytest.param("wurtzite", False, marks=pytest.mark.slow),
    ],
)
def test_against_strained_crystals(tersoff, name, relaxed_ions):
    """-d ln f/dε by central differences of the whole calculation, for strains that keep the symmetry."""
    atoms, supercell = crystal_of(name)
    atoms, _ = relax(atoms, tersoff)
    cells, plan, fc, waves = harmonic(atoms, supercell, tersoff)
    ours = thermal_expansion(cells, tersoff, plan, fc, waves, (300.0,), relaxed_ions)
    moving = np.asarray(waves.frequencies)[np.asarray(plan.mesh.irreducible)] > 0.1
    strains = {"xx+yy": np.diag([1.0, 1.0, 0.0]), "zz": np.diag([0.0, 0.0, 1.0])}
    if name != "wurtzite":
        strains = {"all": np.eye(3)}
    for which, strain in strains.items():
        logs = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.set_cell(atoms.cell[:] @ (np.eye(3) + sign * STRAIN * strain), scale_atoms=True)
            if relaxed_ions and name == "wurtzite":
                moved, _ = relax(moved, tersoff, cell=False)
            f = strained_frequencies(moved, supercell, tersoff, plan)
            logs.append(np.log(np.where(moving, f, 1.0)))
        expected = -(logs[0] - logs[1]) / (2 * STRAIN)
        weights = {"all": [1, 1, 1], "xx+yy": [1, 1, 0], "zz": [0, 0, 1]}[which]
        found = np.where(moving, np.asarray(ours.mode_gruneisen)[..., :3] @ weights, 0.0)
        # modes that cross or touch have no slope of their own: compare sums over the point instead of single modes
        np.testing.assert_allclose(found.sum(axis=1), expected.sum(axis=1), rtol=1e-5, atol=1e-5)
        close = np.abs(found - expected) < 1e-5 * np.abs(expected).max()
        assert close.mean() > 0.9


def test_elastic_constants_of_silicon(tersoff):
    """c11, c12, c44 of Tersoff's potential as published: 143, 75, 69 GPa (Tersoff, PRB 39, 5566 (1989), Si(C): table)."""
    atoms, _ = relax(bulk("Si", a=5.43), load_potential("tersoff-1988-si"))
    cells = default_supercells(atoms, (2, 2, 2), (2, 2, 2))
    c = elastic_constants(cells.crystal, load_potential("tersoff-1988-si")) * 160.21766208
    cubic = [c[0, 0], c[0, 1], c[3, 3]]
    np.testing.assert_allclose(cubic, [142.5, 75.4, 69.0], rtol=5e-3)
    np.testing.assert_allclose(c, c.T, atol=1e-8)
    expected = np.zeros((6, 6))
    expected[:3, :3] = c[0, 1]
    expected[np.arange(6), np.arange(6)] = [c[0, 0]] * 3 + [c[3, 3]] * 3
    np.testing.assert_allclose(c, expected, atol=1e-6)


def test_thermal_expansion_of_a_cubic_crystal(tersoff):
    """α = γ C_V/(3 K V) and C_P - C_V = T V K (3α)², the scalar forms."""
    atoms, _ = relax(bulk("SiC", "zincblende", a=4.32), tersoff)
    cells, plan, fc, waves = harmonic(atoms, (2, 2, 2), tersoff, (3, 3, 3))
    T = (100.0, 300.0, 1500.0)
    found = thermal_expansion(cells, tersoff, plan, fc, waves, T)
    f = np.asarray(waves.frequencies)[np.asarray(plan.mesh.irreducible)]
    C = np.asarray(heat_capacity(f, np.array(T))) * np.asarray(plan.mesh.weights)[:, None]
    gamma = np.asarray(mean_gruneisen(np.asarray(found.mode_gruneisen), C))
    volume = abs(np.linalg.det(cells.crystal.lattice))
    per_cell = C.sum(axis=(1, 2)) / len(plan.mesh.qpoints)
    bulk_modulus = float(found.bulk_modulus) / 160.21766208
    expected = gamma[:, :3].mean(axis=1) * per_cell / (bulk_modulus * volume)
    np.testing.assert_allclose(found.alpha_volume, expected, rtol=1e-9)
    np.testing.assert_allclose(found.alpha[:, 0], found.alpha[:, 2], rtol=1e-9)
    np.testing.assert_allclose(found.alpha[:, 3:], 0.0, atol=1e-12)
    np.testing.assert_allclose(
        found.heat_capacity_pressure - found.heat_capacity,
        np.array(T) * volume * bulk_modulus * np.asarray(found.alpha_volume) ** 2,
        rtol=1e-9,
    )
    assert np.all(np.diff(found.heat_capacity) > 0)
    assert found.heat_capacity[-1] < 6 * 8.617338256808316e-5


def test_a_single_atom_has_no_internal_strain():
    """One atom in the cell has nothing but translations, which the response leaves out."""
    cells = default_supercells(bulk("Si", "fcc", a=3.9), (2, 2, 2), (2, 2, 2))
    second = np.random.default_rng(0).normal(size=(1, 8, 3, 3))
    second -= second.mean(axis=1, keepdims=True)
    response = internal_strain(
        second, mean_separations(cells.crystal, cells.fc2_supercell), cells.fc2_supercell.primitive_index
    )
    np.testing.assert_allclose(response, 0.0, atol=1e-12)


@pytest.mark.slow
def test_thermal_expansion_of_a_hexagonal_crystal(tersoff):
    """Wurtzite: α is a tensor of its symmetry, and balances the thermal stress c α = C_V γ/V component by component."""
    atoms, _ = relax(crystal_of("wurtzite")[0], tersoff)
    cells, plan, fc, waves = harmonic(atoms, (2, 2, 1), tersoff, (3, 3, 2))
    T = (300.0, 1000.0)
    found = thermal_expansion(cells, tersoff, plan, fc, waves, T)
    np.testing.assert_allclose(found.alpha[:, 0], found.alpha[:, 1], rtol=1e-9)
    np.testing.assert_allclose(found.alpha[:, 3:], 0.0, atol=1e-11)
    assert np.abs(found.alpha[:, 2] / found.alpha[:, 0] - 1).min() > 1e-3
    volume = abs(np.linalg.det(cells.crystal.lattice))
    stress = np.asarray(found.alpha) @ (found.elastic / 160.21766208)
    np.testing.assert_allclose(stress, found.gruneisen * found.heat_capacity[:, None] / volume, atol=1e-12)
    compliance = np.linalg.inv(found.elastic)
    np.testing.assert_allclose(found.bulk_modulus, 1 / compliance[:3, :3].sum(), rtol=1e-9)
    # the two-by-two problem of a hexagonal crystal: pressures along a (twice) and c
    c = found.elastic
    a_and_c = np.linalg.solve(
        [[c[0, 0] + c[0, 1], c[0, 2]], [2 * c[0, 2], c[2, 2]]], 160.21766208 * stress[:, [0, 2]].T
    )
    np.testing.assert_allclose(np.asarray(found.alpha)[:, [0, 2]], a_and_c.T, rtol=1e-6)


@pytest.mark.slow
def test_entropy_under_strain_of_a_hexagonal_crystal(tersoff):
    """∂S/∂ε_zz and ∂S/∂(ε_xx + ε_yy) are C_V γ: by differences of the whole calculation, atoms relaxed."""
    from wigner_jax.thermodynamics.quasi_harmonic import mode_entropy

    atoms, _ = relax(crystal_of("wurtzite")[0], tersoff)
    cells, plan, fc, waves = harmonic(atoms, (3, 3, 2), tersoff)
    found = thermal_expansion(cells, tersoff, plan, fc, waves, (300.0,))
    share = np.asarray(plan.mesh.weights)[:, None] / len(plan.mesh.qpoints)
    for strain, weights in (([1.0, 1.0, 0.0], [1, 1, 0]), ([0.0, 0.0, 1.0], [0, 0, 1])):
        entropies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.set_cell(atoms.cell[:] @ (np.eye(3) + sign * STRAIN * np.diag(strain)), scale_atoms=True)
            moved, _ = relax(moved, tersoff, cell=False)
            f = strained_frequencies(moved, (3, 3, 2), tersoff, plan)
            entropies.append(np.sum(np.asarray(mode_entropy(f, np.array([300.0])))[0] * share))
        slope = (entropies[0] - entropies[1]) / (2 * STRAIN)
        expected = found.heat_capacity[0] * (np.asarray(found.gruneisen)[0, :3] @ weights)
        np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_separations():
    cells = default_supercells(bulk("Si", a=5.43), (3, 3, 3), (3, 3, 3))
    r = mean_separations(cells.crystal, cells.fc3_supercell)
    assert r.shape == (2, 54, 3)
    np.testing.assert_allclose(r[[0, 1], cells.fc3_supercell.p2s_map], 0.0, atol=1e-12)
    images = shortest_vectors(cells.crystal, cells.fc3_supercell)[0]
    bonds = np.isclose(np.linalg.norm(r[0], axis=1), 5.43 * np.sqrt(3) / 4, rtol=1e-9)
    bonds &= np.array([len(shifts) == 1 for shifts in images])
    assert bonds.sum() == 4
    np.testing.assert_allclose(r[0][bonds].sum(axis=0), 0.0, atol=1e-9)
    # an atom as far on one side as on the other lies in the middle on average
    many = [J for J, shifts in enumerate(images) if len(shifts) > 1]
    assert many
    positions = cells.crystal.positions
    for J in many:
        at = (
            positions[cells.fc3_supercell.primitive_index[J]] + np.array(images[J]) - positions[0]
        ) @ cells.crystal.lattice
        np.testing.assert_allclose(np.linalg.norm(at, axis=1), np.linalg.norm(at[0]), rtol=1e-6)
        np.testing.assert_allclose(r[0, J], at.mean(axis=0), atol=1e-12)
