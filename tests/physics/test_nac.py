"""Non-analytic term correction: LO-TO splitting and exactness first, then phonopy's and the references' numbers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_materials import REFERENCES, load, material_params, reference_params, stored

from wigner_jax._solve import make_plan, phonons
from wigner_jax.errors import InputError
from wigner_jax.physics import phonons as module
from wigner_jax.physics.nac import GonzeLee, Wang, make_nac
from wigner_jax.plan.dipoles import commensurate_points, dipole_plan, reciprocal_vectors, symmetrized_charges
from wigner_jax.plan.fc2_table import make_fc2_table
from wigner_jax.types import BornCharges
from wigner_jax.units import SQRT_EV_A2_AMU_TO_THZ

dynamical_matrix = jax.jit(module.dynamical_matrix)
dynamical_matrix_gradient = jax.jit(module.dynamical_matrix_gradient)
frequencies_and_eigenvectors = jax.jit(module.frequencies_and_eigenvectors)
group_velocities = jax.jit(module.group_velocities)

# in the first zone: generic points, one near Γ, one nearer
POINTS = np.concatenate([np.random.default_rng(5).uniform(-0.2, 0.2, (4, 3)), [[1e-2, 0, 0.5e-2], [2e-4, 1e-4, -1e-4]]])
DIRECTION = np.array([0.3, 0.2, 0.1])


def system(material):
    crystal, supercell = material.cells.crystal, material.cells.fc2_supercell
    return material.constants.fc2, crystal, make_fc2_table(crystal, supercell)


def correction(method: str, material, direction=None):
    if method == "wang":
        return Wang(material.born, direction)
    return GonzeLee(material.born, dipole_plan(material.cells.crystal, material.cells.fc2_supercell), direction)


def peer_matrix(method: str, material):
    from phonopy.harmonic.dynamical_matrix import get_dynamical_matrix

    born = material.born
    parameters = {"born": born.charges, "dielectric": born.dielectric, "factor": born.factor, "method": method}
    return get_dynamical_matrix(
        material.constants.fc2, material.peer.phonon_supercell, material.peer.phonon_primitive, parameters
    )


@pytest.fixture(params=material_params("nacl-mace", "NaCl", "ZnTe"))
def material(request):
    return load(request.param)


methods = pytest.mark.parametrize("method", ["gonze", "wang"])


@methods
def test_the_supercell_is_exact_at_its_commensurate_points(material, method):
    """There the force constants hold the dipole interaction already: the correction changes nothing, except at Γ."""
    args = system(material)
    points = commensurate_points(args[1], material.cells.fc2_supercell)
    assert len(points) == material.cells.fc2_supercell.n_atoms / 2
    np.testing.assert_allclose(dipole_plan(args[1], material.cells.fc2_supercell).weights.sum(), 1, rtol=1e-14)
    points = np.concatenate([points, points[:4] + 0.03])
    bare = dynamical_matrix(points, *args)
    difference = np.abs(dynamical_matrix(points, *args, correction(method, material)) - bare) / np.abs(bare).max()
    assert difference[:-4].max() < 1e-7
    assert difference[-4:].max() > 1e-3


@methods
def test_splitting_of_longitudinal_and_transverse_modes(material, method):
    """f_LO² - f_TO² = (4π e²/V) Z²/(ε μ) in a diatomic cubic crystal, along any direction."""
    args = system(material)
    crystal, born = args[1], material.born
    f, _ = frequencies_and_eigenvectors(np.zeros((1, 3)), *args, correction(method, material, DIRECTION))
    np.testing.assert_allclose(f[0, 3], f[0, 4], rtol=1e-9)
    reduced_mass = 1 / np.sum(1 / crystal.masses)
    stiffness = born.factor * 4 * np.pi / np.linalg.det(crystal.lattice) * born.charges[0, 0, 0] ** 2
    expected = SQRT_EV_A2_AMU_TO_THZ**2 * stiffness / (born.dielectric[0, 0] * reduced_mass)
    np.testing.assert_allclose(f[0, 5] ** 2 - f[0, 3] ** 2, expected, rtol=1e-7)
    assert np.abs(f[0, :3]).max() < 1e-6


@methods
def test_no_term_at_the_zone_centre_without_direction(material, method):
    args = system(material)
    with_term = dynamical_matrix(np.zeros((1, 3)), *args, correction(method, material))
    without = dynamical_matrix(np.zeros((1, 3)), *args)
    np.testing.assert_allclose(with_term, without, rtol=0, atol=1e-14)


def test_a_direction_is_checked_and_reaches_gamma(material):
    """The longitudinal modes split off at Γ itself, as near to it."""
    plan = make_plan(material.cells, (2, 2, 2))
    plain, split = (
        np.asarray(
            phonons(plan, material.constants.fc2, make_nac(material.cells, material.born, direction=d)).frequencies[0]
        )
        for d in (None, (1, 0, 0))
    )
    assert split[-1] > 1.1 * plain[-1]
    np.testing.assert_allclose(split[:-1], plain[:-1], atol=1e-6)
    for bad in ((0, 0, 0), (1, 0), (1, 0, np.nan), "x", 1.0):
        with pytest.raises(InputError, match="direction is"):
            make_nac(material.cells, material.born, direction=bad)
    with pytest.raises(InputError, match="method is"):
        make_nac(material.cells, material.born, "both")


def test_long_waves_approach_the_directional_limit(material):
    args = system(material)
    at_centre = dynamical_matrix(np.zeros((1, 3)), *args, correction("gonze", material, DIRECTION))
    near = dynamical_matrix(np.array([[1e-2], [1e-3]]) * DIRECTION, *args, correction("gonze", material))
    errors = np.abs(near - at_centre).max(axis=(1, 2))
    assert errors[1] < 0.15 * errors[0] < 1e-2 * np.abs(at_centre).max()


one_of_each = pytest.mark.parametrize("name", material_params("nacl-mace", "ZnTe"))


@one_of_each
@methods
def test_gradient_is_that_of_the_dynamical_matrix(name, method):
    material = load(name)
    args = system(material)
    nac = correction(method, material)
    analytic = dynamical_matrix_gradient(POINTS, *args, nac)
    for c, step in enumerate(args[1].lattice.T):
        # D is not analytic at Γ: steps far below the distance to it
        for points, h in ((slice(0, 4), 1e-4), (slice(4, 5), 1e-6), (slice(5, 6), 2e-7)):
            f = [dynamical_matrix(POINTS + k * h * step, *args, nac)[points] for k in (-2, -1, 1, 2)]
            numeric = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
            np.testing.assert_allclose(analytic[points, c], numeric, rtol=0, atol=2e-9 * np.abs(analytic[points]).max())


@methods
def test_dynamical_matrix_agrees_with_phonopy(material, method):
    """Gonze-Lee to its truncation: phonopy takes one of the equivalent points on the zone boundary, we all of them."""
    args = system(material)
    tolerance = {"gonze": 1e-8, "wang": 1e-13}[method]
    peer = peer_matrix(method, material)
    ours = dynamical_matrix(POINTS, *args, correction(method, material))
    for q, D in zip(POINTS, ours, strict=True):
        peer.run(q)
        np.testing.assert_allclose(D, peer.dynamical_matrix, rtol=0, atol=tolerance * np.abs(D).max())
    peer.run(np.zeros(3), q_direction=DIRECTION)
    at_centre = dynamical_matrix(np.zeros((1, 3)), *args, correction(method, material, DIRECTION))[0]
    np.testing.assert_allclose(at_centre, peer.dynamical_matrix, rtol=0, atol=tolerance * np.abs(at_centre).max())


@one_of_each
@methods
def test_gradient_agrees_with_phonopy(name, method):
    from phonopy.harmonic.derivative_dynmat import DerivativeOfDynamicalMatrix

    material = load(name)
    args = system(material)
    peer = DerivativeOfDynamicalMatrix(peer_matrix(method, material))
    ours = dynamical_matrix_gradient(POINTS, *args, correction(method, material))
    for q, dD in zip(POINTS, ours, strict=True):
        peer.run(q)
        np.testing.assert_allclose(dD, peer.d_dynamical_matrix, rtol=0, atol=2e-7 * np.abs(dD).max())


@pytest.mark.parametrize("reference", reference_params(keep=lambda r: r.polar))
def test_reference_frequencies(reference):
    material, arrays = load(REFERENCES[reference].material), stored(reference)
    args = system(material)
    f, _ = frequencies_and_eigenvectors(arrays["qpoints"], *args, correction("gonze", material))
    np.testing.assert_allclose(f, arrays["frequencies"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(f[1:], arrays["frequencies"][1:], rtol=1e-7)
    bare, _ = frequencies_and_eigenvectors(arrays["qpoints"], *args)
    assert np.abs(f - bare).max() > 0.1  # the correction is what is tested


@methods
def test_reference_frequencies_between_mesh_points(method):
    material, arrays = load("nacl-mace"), stored("nacl-mace_nac_m4")
    f, _ = frequencies_and_eigenvectors(arrays["off_qpoints"], *system(material), correction(method, material))
    np.testing.assert_allclose(f, arrays[f"off_{method}"], rtol={"gonze": 1e-7, "wang": 1e-11}[method])


def test_charges_are_symmetrised_as_phonopy_does(material):
    from phonopy.structure.symmetry import symmetrize_borns_and_epsilon

    crystal, rng = material.cells.crystal, np.random.default_rng(0)
    noisy = BornCharges(
        material.born.charges + rng.normal(0, 0.02, (2, 3, 3)),
        material.born.dielectric + rng.normal(0, 0.1, (3, 3)),
        1.0,
    )
    ours = symmetrized_charges(noisy, crystal)
    charges, dielectric = symmetrize_borns_and_epsilon(noisy.charges, noisy.dielectric, material.peer.primitive)
    np.testing.assert_allclose(ours.charges, charges, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.dielectric, dielectric, rtol=0, atol=1e-12)
    assert np.abs(ours.charges - noisy.charges).max() > 1e-3
    np.testing.assert_allclose(ours.charges.sum(axis=0), 0, atol=1e-14)
    again = symmetrized_charges(ours, crystal)
    np.testing.assert_allclose(again.charges, ours.charges, rtol=0, atol=1e-14)


def test_charges_of_the_wrong_shape_are_refused(material):
    with pytest.raises(ValueError, match="one 3x3 tensor for every atom"):
        symmetrized_charges(dataclasses.replace(material.born, charges=np.eye(3)[None]), material.cells.crystal)


def test_reciprocal_vectors_are_a_sphere(material):
    G = reciprocal_vectors(material.cells.crystal)
    assert 270 < len(G) < 330
    assert {tuple(g) for g in G} == {tuple(-g) for g in G}
    length = np.linalg.norm(G @ np.linalg.inv(material.cells.crystal.lattice).T, axis=1)
    volume = np.linalg.det(material.cells.crystal.lattice)
    np.testing.assert_allclose(length.max(), (900 / (4 * np.pi * volume)) ** (1 / 3), rtol=0.1)


def test_the_sum_over_reciprocal_vectors_is_converged():
    material = load("nacl-mace")
    crystal, supercell = material.cells.crystal, material.cells.fc2_supercell
    args = system(material)
    D = [
        dynamical_matrix(POINTS[:4], *args, GonzeLee(material.born, dipole_plan(crystal, supercell, n)))
        for n in (300, 600)
    ]
    np.testing.assert_allclose(D[0], D[1], rtol=0, atol=1e-3 * np.abs(D[0]).max())


@methods
def test_derivative_by_charges(method):
    """Including the zone boundary and Γ, where bands are degenerate; the charges keep their symmetry.

    Left out is the point nearest to Γ: its transverse modes are split by less than a block's tolerance.
    """
    material = load("nacl-mace")
    args = system(material)
    nac = correction(method, material)
    q = np.concatenate([POINTS[:5], [[0, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0]]])

    @jax.jit
    def function(charges, dielectric):
        changed = dataclasses.replace(nac, born=BornCharges(charges, dielectric, material.born.factor))
        f, e = module.frequencies_and_eigenvectors(q, *args, changed)
        v = module.group_velocities(q, (f, e), *args, changed)
        return jnp.sum(f**2) + 1e-2 * jnp.sum(v**2)

    charges, dielectric = material.born.charges, material.born.dielectric
    h = 1e-3
    f = [function((1 + k * h) * charges, (1 - k * h) * dielectric) for k in (-2, -1, 1, 2)]
    numeric = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * h)
    by_charges, by_dielectric = jax.grad(function, argnums=(0, 1))(charges, dielectric)
    np.testing.assert_allclose(jnp.sum(by_charges * charges) - jnp.sum(by_dielectric * dielectric), numeric, rtol=1e-7)
