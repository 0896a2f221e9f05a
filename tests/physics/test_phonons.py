"""Phonons: symmetry and sum rules, the velocity operator, derivatives at degeneracies, then phono3py's numbers."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from reference_materials import REFERENCES, load, material_params, reference_params, stored

from wigner_jax._core.chunking import map_chunks
from wigner_jax.crystal.supercells import shortest_vectors
from wigner_jax.physics import phonons as module
from wigner_jax.physics.degeneracy import degenerate_averages, same_degenerate_set
from wigner_jax.physics.eigh import eigh, frequencies_of
from wigner_jax.plan.fc2_table import make_fc2_table
from wigner_jax.units import SQRT_EV_A2_AMU_TO_THZ

dynamical_matrix = jax.jit(module.dynamical_matrix)
dynamical_matrix_gradient = jax.jit(module.dynamical_matrix_gradient)
frequencies_and_eigenvectors = jax.jit(module.frequencies_and_eigenvectors)
group_velocities = jax.jit(module.group_velocities)
velocity_operator = jax.jit(module.velocity_operator)

HIGH_SYMMETRY = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0], [0.25, 0.25, 0], [0.5, 0.25, 0.75]])  # Γ X L Δ W
GENERIC = np.random.default_rng(3).uniform(-0.4, 0.4, (6, 3))


@pytest.fixture(params=material_params("si-tersoff", "nacl-mace", "Si", "NaCl"))
def material(request):
    return load(request.param)


def system(material):
    crystal, supercell = material.cells.crystal, material.cells.fc2_supercell
    return material.constants.fc2, crystal, make_fc2_table(crystal, supercell)


def radial_change(material, width: float = 1.5) -> np.ndarray:
    """A change of Φ2 that keeps the crystal's symmetry, index permutation and the acoustic sum rule: h(r) Φ(r)."""
    crystal, supercell = material.cells.crystal, material.cells.fc2_supercell
    change = np.array(material.constants.fc2)
    images = shortest_vectors(crystal, supercell)
    for i in range(crystal.n_atoms):
        for J in range(supercell.n_atoms):
            vector = crystal.positions[supercell.primitive_index[J]] + images[i][J][0] - crystal.positions[i]
            change[i, J] *= np.cos(np.linalg.norm(vector @ crystal.lattice) / width)
        change[i, supercell.p2s_map[i]] -= change[i].sum(axis=0)
    return change


def central(function, step: float):
    """Fourth-order central difference of a function of one number at 0."""
    f = {k: function(k * step) for k in (-2, -1, 1, 2)}
    return (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * step)


# ---------------------------------------------------------------- Fourier table


def test_every_supercell_atom_is_shared_out_once(material):
    crystal, supercell = material.cells.crystal, material.cells.fc2_supercell
    table = make_fc2_table(crystal, supercell)
    np.testing.assert_allclose(table.weight.sum(-1), supercell.n_atoms / crystal.n_atoms, rtol=1e-14)
    assert len(np.unique(table.vectors, axis=0)) == len(table.vectors)


def test_shortest_images_come_in_opposite_pairs(material):
    """The set of separations seen from j is minus that seen from i, with equal weights: D is Hermitian by itself."""
    table = make_fc2_table(material.cells.crystal, material.cells.fc2_supercell)
    for i, j in np.ndindex(2, 2):
        there, back = (
            {tuple(sign * table.vectors[s]): w for s, w in zip(table.slot[pair], table.weight[pair], strict=True) if w}
            for pair, sign in (((i, j), 1), ((j, i), -1))
        )
        assert there == pytest.approx(back, rel=1e-14)


# ---------------------------------------------------------------- dynamical matrix


def test_dynamical_matrix_agrees_with_phonopy(material):
    from phonopy.harmonic.dynamical_matrix import get_dynamical_matrix

    peer = get_dynamical_matrix(material.constants.fc2, material.peer.phonon_supercell, material.peer.phonon_primitive)
    ours = dynamical_matrix(GENERIC, *system(material))
    for q, D in zip(GENERIC, ours, strict=True):
        peer.run(q)
        np.testing.assert_allclose(D, peer.dynamical_matrix, rtol=0, atol=1e-13 * np.abs(D).max())


def test_hermitian_time_reversal_and_translation_in_q(material):
    second, crystal, table = system(material)
    D = dynamical_matrix(GENERIC, second, crystal, table)
    scale = np.abs(D).max()
    np.testing.assert_array_equal(D, np.conj(np.swapaxes(D, 1, 2)))
    reversed_ = dynamical_matrix(-GENERIC, second, crystal, table)
    np.testing.assert_allclose(reversed_, np.conj(D), rtol=0, atol=1e-14 * scale)
    G = np.array([1, -2, 1])
    gauge = np.repeat(np.exp(2j * np.pi * crystal.positions @ G), 3)
    moved = dynamical_matrix(GENERIC + G, second, crystal, table)
    np.testing.assert_allclose(moved, D * np.conj(gauge)[:, None] * gauge[None, :], rtol=0, atol=1e-13 * scale)


def test_acoustic_modes_vanish_at_the_zone_centre(material):
    frequencies, _ = frequencies_and_eigenvectors(np.zeros((1, 3)), *system(material))
    assert np.abs(frequencies[0, :3]).max() < 1e-6
    assert frequencies[0, 3] > 4


def test_gradient_of_the_dynamical_matrix(material):
    second, crystal, table = system(material)
    analytic = dynamical_matrix_gradient(GENERIC, second, crystal, table)
    for c, step in enumerate(np.eye(3) @ crystal.lattice.T):
        numeric = central(lambda h, step=step: dynamical_matrix(GENERIC + h * step, second, crystal, table), 2e-4)
        np.testing.assert_allclose(analytic[:, c], numeric, rtol=0, atol=1e-9 * np.abs(analytic).max())


# ---------------------------------------------------------------- velocities


def test_velocity_operator_is_the_gradient_of_the_root_of_the_dynamical_matrix(material):
    second, crystal, table = system(material)
    solution = frequencies_and_eigenvectors(GENERIC, second, crystal, table)
    e = np.asarray(solution[1])
    V = velocity_operator(GENERIC, solution, second, crystal, table)
    np.testing.assert_allclose(V, np.conj(np.swapaxes(V, 1, 2)), rtol=0, atol=1e-12 * np.abs(V).max())

    def roots(q):
        return np.stack([scipy.linalg.sqrtm(np.asarray(D)) for D in dynamical_matrix(q, second, crystal, table)])

    for c, step in enumerate(np.eye(3) @ crystal.lattice.T):
        slope = central(lambda h, step=step: roots(GENERIC + h * step), 2e-4) * SQRT_EV_A2_AMU_TO_THZ
        expected = np.conj(np.swapaxes(e, 1, 2)) @ slope @ np.asarray(e)
        np.testing.assert_allclose(V[..., c], expected, rtol=0, atol=1e-8 * np.abs(V).max())


def test_group_velocity_is_the_slope_of_the_branch(material):
    args = system(material)
    lattice = args[1].lattice
    f, _ = solution = frequencies_and_eigenvectors(GENERIC, *args)
    assert np.diff(f, axis=1).min() > 1e-2  # no degeneracy here
    v = group_velocities(GENERIC, solution, *args)
    V = velocity_operator(GENERIC, solution, *args)
    np.testing.assert_allclose(np.real(np.diagonal(V, axis1=1, axis2=2)).swapaxes(1, 2), v, rtol=0, atol=1e-11)
    for c, step in enumerate(np.eye(3) @ lattice.T):
        numeric = central(lambda h, step=step: frequencies_and_eigenvectors(GENERIC + h * step, *args)[0], 5e-5)
        np.testing.assert_allclose(v[..., c], numeric, rtol=0, atol=1e-7 * np.abs(v).max())


def test_sound_is_equally_fast_along_the_cubic_axes(material):
    args = system(material)
    q = 1e-3 * args[1].lattice.T  # rows: fractional q of 0.001/Å along x, y, z
    solution = frequencies_and_eigenvectors(q, *args)
    speed = np.linalg.norm(group_velocities(q, solution, *args), axis=-1)
    np.testing.assert_allclose(speed[1:], speed[:1].repeat(2, 0), rtol=1e-7)
    transverse, longitudinal = speed[0, 0], speed[0, 2]
    assert 20 < transverse < longitudinal < 100  # THz Å: 2 to 10 km/s
    np.testing.assert_allclose(speed[0, 1], transverse, rtol=1e-12)


def test_no_velocity_where_modes_do_not_move(material):
    result = jax.jit(module.phonons)(np.zeros((1, 3)), np.array([0]), *system(material))
    V = result.velocity_operator[0]
    assert np.all(V[:3] == 0)
    assert np.all(V[:, :3] == 0)
    assert np.isfinite(V).all()


def test_rotating_the_crystal_rotates_the_velocities(material):
    second, crystal, table = system(material)
    rotation = scipy.linalg.expm(np.cross(np.eye(3), [0.3, -0.7, 0.4]))
    turned = dataclasses.replace(crystal, lattice=crystal.lattice @ rotation.T)
    second_turned = np.einsum("ac,ijcd,bd->ijab", rotation, second, rotation)
    f, e = frequencies_and_eigenvectors(GENERIC, second, crystal, table)
    g, d = frequencies_and_eigenvectors(GENERIC, second_turned, turned, table)
    np.testing.assert_allclose(g, f, rtol=1e-11)
    v = group_velocities(GENERIC, (f, e), second, crystal, table)
    w = group_velocities(GENERIC, (g, d), second_turned, turned, table)
    np.testing.assert_allclose(w, v @ rotation.T, rtol=0, atol=1e-10 * np.abs(v).max())


# ---------------------------------------------------------------- blocks, chunks


def test_blocks_are_chained_and_average():
    f = jnp.array([1.0, 1.00008, 1.00016, 1.0003, 2.0, 2.0])
    expected = np.array([0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(same_degenerate_set(f), expected[:, None] == expected[None, :])
    A = degenerate_averages(f)
    np.testing.assert_allclose(A @ A, A, rtol=0, atol=1e-16)
    np.testing.assert_allclose(A @ jnp.arange(6.0), [1, 1, 1, 3, 4.5, 4.5], rtol=1e-15)


@pytest.mark.parametrize("chunk", [1, 3, 7, 10])
def test_results_do_not_depend_on_the_chunk(chunk):
    x = jax.random.normal(jax.random.key(0), (7, 4))

    def function(items):
        y, z = items
        return jnp.sin(y) @ jnp.ones((4, 2)), z**3

    def loss(x):
        a, b = map_chunks(function, (x, x[:, 0]), chunk)
        return jnp.sum(a**2) + jnp.sum(b)

    def direct(x):
        a, b = function((x, x[:, 0]))
        return jnp.sum(a**2) + jnp.sum(b)

    np.testing.assert_allclose(loss(x), direct(x), rtol=1e-14)
    np.testing.assert_allclose(jax.grad(loss)(x), jax.grad(direct)(x), rtol=1e-14)


# ---------------------------------------------------------------- derivatives


def test_eigh_rule_on_matrices_with_protected_degeneracies():
    """A(t) ⊗ 1₂ is degenerate in pairs for all t: functions of λ and of block projectors are differentiable."""
    keys = jax.random.split(jax.random.key(1), 4)
    A, dA, U, B = (
        jax.random.normal(k, (n, n, 2)) @ jnp.array([1, 1j]) for k, n in zip(keys, (3, 3, 6, 6), strict=True)
    )
    Q = jnp.linalg.qr(U)[0]

    def embed(a):
        return Q @ jnp.kron(a + a.conj().T, jnp.eye(2)) @ Q.conj().T

    @jax.jit
    def function(matrix):
        values, vectors = eigh(matrix, lambda x: same_degenerate_set(x, 1e-6))
        projected = jnp.abs(vectors.conj().T @ B @ vectors) ** 2
        return jnp.sum(jnp.sin(values)[:, None] * projected * jnp.exp(values / 5)[None, :])

    numeric = central(lambda h: function(embed(A + h * dA)), 1e-3)
    _, forward = jax.jvp(function, (embed(A),), (embed(dA),))
    np.testing.assert_allclose(forward, numeric, rtol=1e-8)
    backward = jnp.real(jnp.sum(jax.grad(function)(embed(A)) * embed(dA)))
    np.testing.assert_allclose(backward, forward, rtol=1e-12)


def test_frequencies_have_finite_derivatives_at_zero():
    values = jnp.array([-0.3, -1e-30, 0.0, 1e-15, 0.5])
    slope = jax.jacfwd(frequencies_of)(values)
    np.testing.assert_array_equal(np.diag(slope)[1:4], 0)
    expected = SQRT_EV_A2_AMU_TO_THZ / (2 * np.sqrt([0.3, 0.5]))
    np.testing.assert_allclose(np.diag(slope)[[0, 4]], expected, rtol=1e-14)
    np.testing.assert_allclose(
        frequencies_of(values), SQRT_EV_A2_AMU_TO_THZ * np.sign(values) * np.sqrt(np.abs(values)), rtol=1e-14
    )


@jax.jit
def invariants(qpoints, *args):
    """At each q a smooth function of frequencies and |V|² that is insensitive to the gauge inside blocks. (q,)"""
    f, e = module.frequencies_and_eigenvectors(qpoints, *args)
    V = module.velocity_operator(qpoints, (f, e), *args)
    spread = 1 / (1 + (f[:, :, None] - f[:, None, :]) ** 2)
    return jnp.sum(f**2, axis=1) + 1e-2 * jnp.sum(spread[..., None] * jnp.abs(V) ** 2, axis=(1, 2, 3))


@pytest.mark.parametrize("varied", ["force constants", "masses"])
def test_derivatives_at_degenerate_points(material, varied):
    """Along changes that keep the symmetry, forward and reverse mode agree with differences at Γ, X, L, Δ and W."""
    second, crystal, table = system(material)
    f, _ = frequencies_and_eigenvectors(HIGH_SYMMETRY, second, crystal, table)
    assert np.all(np.asarray(same_degenerate_set(f)).sum(axis=(1, 2)) > 6)  # degenerate at each of them
    monatomic = crystal.numbers[0] == crystal.numbers[1]
    steps = (np.zeros_like(second), np.array([1.0, 1.0 if monatomic else -0.4]))
    if varied == "force constants":
        steps = (radial_change(material), np.zeros(2))

    def function(second, masses):
        return invariants(HIGH_SYMMETRY, second, dataclasses.replace(crystal, masses=masses), table)

    base = (jnp.asarray(second), jnp.asarray(crystal.masses))
    width = 1e-3 if varied == "force constants" else 1e-2
    numeric = central(lambda h: function(*[x + h * d for x, d in zip(base, steps, strict=True)]), width)
    _, forward = jax.jit(lambda x, d: jax.jvp(function, x, d))(base, steps)
    np.testing.assert_allclose(forward, numeric, rtol=1e-7)
    reverse = jax.jit(jax.grad(lambda *x: jnp.sum(function(*x)), argnums=(0, 1)))(*base)
    backward = sum(jnp.sum(g * d) for g, d in zip(reverse, steps, strict=True))
    np.testing.assert_allclose(backward, jnp.sum(forward), rtol=1e-10)


# ---------------------------------------------------------------- references


@pytest.mark.parametrize("reference", reference_params(keep=lambda r: not r.polar))
def test_reference_frequencies_and_velocities(reference):
    args, arrays = system(load(REFERENCES[reference].material)), stored(reference)
    q = arrays["qpoints"]
    f, _ = solution = frequencies_and_eigenvectors(q, *args)
    np.testing.assert_allclose(f, arrays["frequencies"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(f[1:], arrays["frequencies"][1:], rtol=1e-9)
    v = group_velocities(q, solution, *args)
    alone = np.asarray(same_degenerate_set(f)).sum(-1) == 1
    assert alone.sum() > alone.size / 5
    np.testing.assert_allclose(v[alone], arrays["group_velocities"][alone], rtol=0, atol=1e-10 * np.abs(v).max())


@pytest.mark.parametrize("reference", ["si-tersoff_m5", "nacl-mace_m4", "sic-tersoff_m443"])
def test_reference_frequencies_between_mesh_points(reference):
    arrays = stored(reference)
    f, _ = frequencies_and_eigenvectors(arrays["off_qpoints"], *system(load(REFERENCES[reference].material)))
    np.testing.assert_allclose(f, arrays["off_gonze"], rtol=1e-10)
