"""Grüneisen parameters by Φ3, by strain and by volumes: they agree where they must, and converge where they differ."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from wigner_jax import WignerCalculator, default_supercells, force_constants, load_potential, relax
from wigner_jax.crystal.symmetry import space_group
from wigner_jax.errors import InputError
from wigner_jax.metrics import gamma_sre, gamma_srme
from wigner_jax.plan.band_path import high_symmetry_path, mesh_points_on_path
from wigner_jax.potentials.base import Potential
from wigner_jax.relaxation.ase_protocols import relax_at_volume
from wigner_jax.thermodynamics.gruneisen import (
    GAMMA_CUTOFF,
    ModeGruneisen,
    VolumeSteps,
    gruneisen_along_path,
    gruneisen_by_strain,
    gruneisen_by_third_order,
    gruneisen_by_volumes,
)
from wigner_jax.types import Crystal, ForceConstants

MESH = (3, 3, 3)


@pytest.fixture(scope="module")
def tersoff():
    return load_potential("tersoff-1989")


def crystal_of(name):
    """Structure, and a supercell that is larger than twice the potential's range."""
    if name == "Si":
        return bulk("Si", a=5.43), (3, 3, 3)
    if name == "zincblende":
        return bulk("SiC", "zincblende", a=4.32), (3, 3, 3)
    return bulk("SiC", "wurtzite", a=3.08, c=5.04, u=0.376), (4, 4, 3)


def morse(params, graph):
    """Bonds of nearest neighbours with a smooth end: ½ Σ (1 - exp(-a(r - r0)))² (1 - r²/r_c²)⁴."""
    r = jnp.linalg.norm(graph.vectors(), axis=-1)
    inside = graph.edge_mask & (r < params["reach"])
    r = jnp.where(inside, r, params["r0"])
    bond = params["depth"] * (1 - jnp.exp(-params["a"] * (r - params["r0"]))) ** 2
    return jnp.sum(jnp.where(inside, (bond - params["depth"]) * (1 - (r / params["reach"]) ** 2) ** 4, 0.0)) / 2


@pytest.fixture(scope="module")
def bonds():
    """A potential of pairs, so cheap that every route can be gone; aluminium at its minimum in 27 atoms."""
    params = {"depth": jnp.array(0.5), "a": jnp.array(1.3), "r0": jnp.array(2.9), "reach": jnp.array(4.0)}
    potential = Potential(params, morse, "bonds", (13,), 4.0)
    atoms, report = relax(bulk("Al", a=4.0), potential)
    assert report.converged
    atoms.info |= {"fc2_supercell": (3, 3, 3), "fc3_supercell": (3, 3, 3)}
    return potential, atoms, gruneisen_by_strain(default_supercells(atoms), potential, MESH)[0]


def test_bonds_by_third_order_and_by_strain(bonds):
    """In a supercell larger than twice the range they are the same number, mode by mode."""
    potential, atoms, ours = bonds
    cells = default_supercells(atoms)
    other = gruneisen_by_third_order(cells, force_constants(cells, potential)[0], MESH)
    np.testing.assert_allclose(other.modes, ours.modes, atol=1e-8)
    assert np.abs(ours.modes).max() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Si", "zincblende", "wurtzite"])
def test_third_order_and_strain_agree(tersoff, name):
    """With angles, in compounds; atoms clamped, and following the strain."""
    atoms, supercell = crystal_of(name)
    atoms, _ = relax(atoms, tersoff)
    cells = default_supercells(atoms, supercell, supercell)
    fc, _ = force_constants(cells, tersoff)
    for relaxed_ions in (False, True) if name == "wurtzite" else (False,):
        ours, second = gruneisen_by_strain(cells, tersoff, MESH, relaxed_ions)
        other = gruneisen_by_third_order(cells, fc, MESH, relaxed_ions)
        np.testing.assert_allclose(second, fc.fc2, atol=1e-10)
        np.testing.assert_allclose(ours.modes, other.modes, atol=1e-6)
        assert np.abs(ours.modes).max() > 0.5


def test_a_supercell_within_the_range_tells_them_apart(bonds):
    """In 8 atoms a neighbour and its image are equally far and opposite: Φ3 is zero by symmetry, and its route blind."""
    potential, atoms, _ = bonds
    cells = default_supercells(atoms, (2, 2, 2), (2, 2, 2))
    ours, second = gruneisen_by_strain(cells, potential, MESH)
    fc = ForceConstants(second, np.zeros((1, 8, 8, 3, 3, 3)))
    other = gruneisen_by_third_order(cells, fc, MESH)
    assert np.abs(np.asarray(ours.modes) - other.modes).max() > 0.1


def test_along_a_path(bonds):
    """X, L and what else of the path lies on a 4³ mesh has the mesh's values; the acoustic limits at Γ are finite."""
    potential, atoms, _ = bonds
    cells = default_supercells(atoms)
    fc, _ = force_constants(cells, potential)
    path = high_symmetry_path(cells.crystal, 60)
    found = gruneisen_along_path(cells, fc, path)
    on_mesh = gruneisen_by_third_order(cells, fc, (4, 4, 4))
    distance, rows = mesh_points_on_path(path.qpoints, path.distance, path.segment, cells.crystal, (4, 4, 4))
    compared = 0
    for d, row in zip(distance, rows, strict=True):
        for k in np.flatnonzero(np.abs(path.distance - d) < 1e-9):
            if np.abs(on_mesh.qpoints[row]).max() > 0:
                same = np.abs(found.frequencies[k] - on_mesh.frequencies[row]).max() < 1e-6
                if same:  # not the point on the other side of a jump
                    np.testing.assert_allclose(found.modes[k], on_mesh.modes[row], rtol=1e-6)
                    compared += 1
    assert compared >= 4
    assert np.isfinite(found.modes).all()
    near = np.abs(path.qpoints).max(axis=1) < 1e-9
    beside = np.roll(near, 1) & (np.roll(path.segment, 1) == path.segment)
    np.testing.assert_allclose(found.modes[near][0], found.modes[beside][0], rtol=0.05)


def test_volumes_converge_to_the_derivative(bonds):
    """The error of the central difference is of second order in the step, mode by mode."""
    potential, atoms, exact = bonds
    errors = []
    for step in (0.01, 0.005):
        found, report = gruneisen_by_volumes(atoms, potential, MESH, VolumeSteps(step=step, distance=None))
        np.testing.assert_allclose(found.frequencies, exact.frequencies, atol=1e-6)
        np.testing.assert_allclose(np.array(report.volumes) / report.volumes[1], [1 - step, 1, 1 + step], rtol=1e-12)
        assert report.imaginary == (False,) * 3
        errors.append(np.asarray(found.modes) - exact.modes)
    assert np.abs(errors[1]).max() > 1e-6
    np.testing.assert_allclose(errors[0], 4 * errors[1], atol=0.02 * np.abs(errors[0]).max())


def test_volumes_by_displacements(bonds):
    potential, atoms, exact = bonds
    found, report = gruneisen_by_volumes(atoms, potential, MESH, VolumeSteps(distance=0.01))
    np.testing.assert_allclose(found.average((300.0,)), exact.average((300.0,)), rtol=2e-3)
    assert report.calls == 3  # one displacement of one atom at each volume
    assert report.message == ""


def test_any_calculator_against_phonopy():
    """ASE's EMT on aluminium, by ours and by phonopy's own Grüneisen mesh with the same displacements."""
    phonopy = pytest.importorskip("phonopy")
    from phonopy.api_gruneisen import PhonopyGruneisen
    from phonopy.structure.atoms import PhonopyAtoms

    atoms = bulk("Al", cubic=True)
    atoms.info |= {"fc2_supercell": (2, 2, 2)}
    found, _ = gruneisen_by_volumes(atoms, EMT(), MESH)
    peers = []
    for scale in (1.0, 1.01, 0.99):
        unit = PhonopyAtoms(
            numbers=atoms.numbers,
            cell=atoms.cell.array * scale ** (1 / 3),
            scaled_positions=atoms.get_scaled_positions(),
        )
        peer = phonopy.Phonopy(
            unit, np.diag([2, 2, 2]), primitive_matrix=(np.ones((3, 3)) - np.eye(3)) / 2, log_level=0
        )
        peer.generate_displacements(distance=0.03)
        forces = []
        for cell in peer.supercells_with_displacements:
            moved = bulk("Al", cubic=True).repeat(2)
            moved.set_cell(cell.cell)
            moved.set_positions(cell.positions)
            moved.numbers[:] = cell.numbers
            moved.calc = EMT()
            forces.append(moved.get_forces())
        peer.forces = forces
        peer.produce_force_constants(show_drift=False)
        peer.symmetrize_force_constants(show_drift=False, use_symfc_projector=True)
        peers.append(peer)
    theirs = PhonopyGruneisen(*peers)
    theirs.set_mesh(MESH)
    points, weights, f, _, modes = theirs.get_mesh()
    expected = ModeGruneisen(points, weights, f, modes)
    for T in (100.0, 300.0):
        np.testing.assert_allclose(found.average((T,)), expected.average((T,)), rtol=1e-5)
    np.testing.assert_array_equal(found.weights, weights)
    away = np.asarray(f) > 0.1
    np.testing.assert_allclose(np.asarray(found.modes)[away], modes[away], rtol=1e-4, atol=1e-5)


def test_relaxed_at_a_volume(tersoff):
    """Wurtzite: atoms and c/a follow at constant volume, within the space group; diamond has nothing to relax."""
    atoms = crystal_of("wurtzite")[0]
    found, message = relax_at_volume(atoms, tersoff, 1.01)
    assert message == ""
    np.testing.assert_allclose(found.get_volume() / atoms.get_volume(), 1.01, rtol=1e-6)
    crystal = Crystal(found.cell.array, found.get_scaled_positions(), np.ones(4), tuple(found.numbers))
    assert space_group(crystal).number == 186
    found.calc = WignerCalculator(tersoff)
    assert np.abs(found.get_forces()).max() < 1e-4
    stress = found.get_stress() * found.get_volume()
    assert abs(stress[0] - stress[2]) < 1e-3
    scaled, _ = relax_at_volume(bulk("Si", a=5.0), tersoff, 8.0)
    np.testing.assert_allclose(scaled.cell.array, 2 * bulk("Si", a=5.0).cell.array, rtol=1e-14)
    assert scaled.calc is None
    with pytest.raises(InputError, match="above zero"):
        relax_at_volume(atoms, tersoff, 0.0)


def test_an_asymmetric_step_is_refused():
    with pytest.raises(InputError, match="step in volume"):
        VolumeSteps(step=0.0)
    with pytest.raises(InputError, match="displacement must be above zero"):
        VolumeSteps(distance=-0.01)
    with pytest.raises(InputError, match="needs a JAX potential"):
        gruneisen_by_volumes(bulk("Al", cubic=True), EMT(), MESH, VolumeSteps(distance=None))


# --- averages and errors ---------------------------------------------------------------------------------------------


def modes_of(seed, points=3):
    rng = np.random.default_rng(seed)
    qpoints = np.array([[0, 0, 0], [0.5, 0, 0], [0.25, 0.5, 0]])[:points]
    frequencies = np.sort(rng.uniform(1, 12, (points, 6)), axis=1)
    return ModeGruneisen(qpoints, np.array([1, 4, 6])[:points], frequencies, rng.normal(1, 0.5, (points, 6)))


def test_the_mean_leaves_out_what_gamma_srme_leaves_out():
    """Acoustic modes at Γ, and modes below 1e-3 THz; otherwise it is ΣwCγ/ΣwC, and the plain mean when it is hot."""
    one = modes_of(0)
    low = dataclasses.replace(one, frequencies=np.array(one.frequencies))
    low.frequencies[2, 0] = 0.9 * GAMMA_CUTOFF
    counted = np.ones((3, 6))
    counted[0, :3] = counted[2, 0] = 0.0
    weights = counted * low.weights[:, None]
    np.testing.assert_allclose(low.average((1e5,))[0], np.sum(weights * low.modes) / weights.sum(), rtol=1e-5)
    C = np.asarray(low.heat_capacity((300.0,)))[0]
    np.testing.assert_array_equal(C > 0, counted > 0)
    np.testing.assert_allclose(low.average((300.0,))[0], np.sum(C * low.modes) / C.sum(), rtol=1e-13)
    np.testing.assert_allclose(jnp.sum(low.contributions((300.0,)), axis=(1, 2)), low.average((300.0,)), rtol=1e-13)
    none = dataclasses.replace(one, frequencies=np.zeros((3, 6)))
    assert float(none.average((300.0,))[0]) == 0.0


def test_srme_of_gamma():
    one, two = modes_of(1), modes_of(2)
    T = (100.0, 300.0)
    G, H = np.asarray(one.contributions(T)), np.asarray(two.contributions(T))
    expected = 2 * np.abs(G - H).sum(axis=(1, 2)) / (np.abs(G) + np.abs(H)).sum(axis=(1, 2))
    np.testing.assert_allclose(gamma_srme(one, two, T), expected, rtol=1e-13)
    np.testing.assert_allclose(gamma_srme(two, one, T), expected, rtol=1e-13)
    np.testing.assert_allclose(gamma_srme(one, one), 0.0)
    np.testing.assert_allclose(gamma_srme(one, dataclasses.replace(one, modes=-one.modes)), 2.0)
    np.testing.assert_allclose(gamma_srme(one, one, valid=False), 2.0)
    lost = dataclasses.replace(one, modes=np.full((3, 6), np.nan))
    np.testing.assert_allclose(gamma_srme(lost, one), 2.0)
    with pytest.raises(InputError, match="different q-points"):
        gamma_srme(one, modes_of(2, points=2))
    with pytest.raises(InputError, match="different q-points"):
        gamma_srme(one, dataclasses.replace(two, qpoints=two.qpoints + 0.1))
    np.testing.assert_allclose(gamma_sre([-1.0, 1.5, np.nan], 1.0), [0.0, 0.4, 2.0])


def test_published_errors_of_the_mean(shared):
    """gamma_sre from the published γ of a potential and of DFT: SevenNet-0's LiBr and AlN as published, 0.2110, 0.0641."""
    import csv

    with (shared / "data/published/gruneisen.csv").open() as file:
        rows = {row["desc"]: row for row in csv.DictReader(file)}
    for name, expected in (("LiBr-rs", 0.2110), ("AlN-wz", 0.0641), ("NaCl-rs", 0.2744)):
        row = rows[name]
        np.testing.assert_allclose(
            gamma_sre(float(row["gamma_SevenNet-0"]), float(row["gamma_DFT"])), expected, atol=1e-4
        )


def test_the_mean_is_differentiable():
    one = modes_of(3)
    slope = jax.grad(lambda modes: dataclasses.replace(one, modes=modes).average((300.0,))[0])(jnp.asarray(one.modes))
    C = np.asarray(one.heat_capacity((300.0,)))[0]
    np.testing.assert_allclose(slope, C / C.sum(), rtol=1e-12)
