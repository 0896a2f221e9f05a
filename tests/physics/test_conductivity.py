"""Wigner conductivity: partitions, limits, invariance and derivatives, then the references from their stored widths."""

from __future__ import annotations

import dataclasses
import functools

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference_materials import REFERENCES, SHARED, load, material_params, reference_params, stored

from wigner_jax.physics import phonons as module
from wigner_jax.physics.conductivity import (
    boundary_linewidth,
    conductivity,
    heat_capacity,
    kappa_tensors,
    mode_kappa_total,
    star_average,
    velocity_squared,
)
from wigner_jax.physics.degeneracy import degenerate_averages, same_degenerate_set
from wigner_jax.physics.nac import GonzeLee
from wigner_jax.plan.dipoles import dipole_plan
from wigner_jax.plan.fc2_table import make_fc2_table
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.types import Crystal, Mesh, Phonons
from wigner_jax.units import K_B, KAPPA

phonons = jax.jit(module.phonons)
conduct = jax.jit(conductivity)


@functools.cache
def harmonic(reference: str):
    """Material, mesh, phonons and total half widths (T, P, m) of a reference."""
    material, arrays = load(REFERENCES[reference].material), stored(reference)
    crystal, supercell = material.cells.crystal, material.cells.fc2_supercell
    mesh = make_mesh(crystal, arrays["D_diag"])
    nac = GonzeLee(material.born, dipole_plan(crystal, supercell)) if REFERENCES[reference].polar else None
    table = make_fc2_table(crystal, supercell)
    solution = phonons(mesh.qpoints, mesh.irreducible, material.constants.fc2, crystal, table, nac)
    widths = arrays["gamma"] + arrays["gamma_isotope"] + arrays["gamma_boundary"]
    return material, mesh, solution, widths


@pytest.fixture(
    scope="module", params=["nacl-mace_m4", pytest.param("gi_nacl_nonac_m11_smm19", marks=pytest.mark.shared)]
)
def nacl(request):
    return harmonic(request.param)


def smooth_widths(frequencies, temperatures):
    """Widths that are a function of the frequency, hence equal in degenerate blocks. (T, P, m) THz"""
    return jnp.asarray(temperatures)[:, None, None] / 300 * (1e-3 * frequencies**2 + 1e-2)


# ---------------------------------------------------------------- heat capacity, symmetry


def test_heat_capacity_limits():
    f, T = jnp.array([[0.0, 1e-5, 1.0, 10.0, -2.0]]), jnp.array([0.5, 300.0, 1e6])
    C = heat_capacity(f, T)
    assert C.shape == (3, 1, 5)
    np.testing.assert_array_equal(C[:, 0, [0, 1, 4]], 0)
    x = 0.00413566733 * 10 / (K_B * 300)
    np.testing.assert_allclose(C[1, 0, 3], K_B * (x / 2 / np.sinh(x / 2)) ** 2, rtol=1e-13)
    np.testing.assert_allclose(C[2, 0, 2:4], K_B, rtol=1e-6)
    assert np.isfinite(C).all()
    assert 0 <= C[0, 0, 3] < 1e-300


def test_star_average_is_the_projection_on_invariant_tensors(nacl):
    rotations = nacl[1].rotations
    rng = np.random.default_rng(0)
    K = rng.normal(size=(3, 3))
    K = K + K.T
    expected = np.mean([R @ K @ R.T for R in rotations], axis=0)
    voigt = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    P = star_average(rotations)
    np.testing.assert_allclose(P @ np.array([K[i] for i in voigt]), [expected[i] for i in voigt], rtol=0, atol=1e-14)
    np.testing.assert_allclose(P @ P, P, rtol=0, atol=1e-14)
    trigonal = [np.linalg.matrix_power(np.array([[-0.5, -(0.75**0.5), 0], [0.75**0.5, -0.5, 0], [0, 0, 1]]), k)
                for k in range(3)]  # fmt: skip
    np.testing.assert_allclose(
        star_average(np.array(trigonal)) @ np.array([2.0, 0, 3, 1, 1, 1]), [1, 1, 3, 0, 0, 0], rtol=0, atol=1e-14
    )


def test_irreducible_points_give_the_sum_over_the_full_mesh():
    """Star averages against brute force: every point its own star, no rotation but the identity."""
    material = load("si-tersoff")
    crystal = material.cells.crystal
    table = make_fc2_table(crystal, material.cells.fc2_supercell)
    results = []
    for symmetry in (True, False):
        mesh = make_mesh(crystal, (5, 5, 5), symmetry=symmetry)
        solution = phonons(mesh.qpoints, mesh.irreducible, material.constants.fc2, crystal, table)
        widths = smooth_widths(solution.frequencies[mesh.irreducible], [300.0])
        results.append(conduct(solution, widths, mesh, crystal, np.array([300.0])))
    for field in ("kappa_P", "kappa_C"):
        reduced, full = (np.asarray(getattr(r, field)) for r in results)
        np.testing.assert_allclose(reduced, full, rtol=0, atol=1e-9 * np.abs(full).max())
        np.testing.assert_allclose(reduced[0, :3], reduced[0, 0], rtol=1e-10)


# ---------------------------------------------------------------- partitions and limits


def test_mode_values_sum_to_the_tensors(nacl):
    material, mesh, solution, widths = nacl
    result = conduct(solution, widths, mesh, material.cells.crystal, np.array([300.0]))
    points = len(mesh.qpoints)
    np.testing.assert_allclose(result.mode_kappa_P.sum((1, 2)) / points, result.kappa_P, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(result.mode_kappa_C.sum((1, 2, 3)) / points, result.kappa_C, rtol=1e-12, atol=1e-12)
    shares = mode_kappa_total(result)
    assert shares.shape == result.mode_kappa_P.shape
    np.testing.assert_allclose(shares.sum((1, 2)) / points, result.kappa_TOT, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        shares[..., :3].mean(-1).sum((1, 2)) / points, result.kappa_TOT[:, :3].mean(-1), rtol=1e-10
    )


def test_totals_without_mode_values(nacl):
    material, mesh, solution, widths = nacl
    temperatures = np.array([100.0, 300.0, 900.0])
    many = np.concatenate([widths / 3, widths, 3 * widths])
    result = conduct(solution, many, mesh, material.cells.crystal, temperatures)
    populations, coherences = kappa_tensors(solution, many, mesh, material.cells.crystal, temperatures)
    np.testing.assert_allclose(populations, result.kappa_P, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(coherences, result.kappa_C, rtol=1e-12, atol=1e-12)
    alone = conduct(solution, many[1:2], mesh, material.cells.crystal, temperatures[1:2])
    np.testing.assert_allclose(alone.kappa_TOT[0], result.kappa_TOT[1], rtol=1e-13, atol=1e-13)


def test_populations_are_the_boltzmann_sum_where_nothing_is_degenerate(nacl):
    """κ = Σ C v ⊗ v τ / NV with τ = 1/(4πγ), in SI units, for one generic point."""
    material, mesh, solution, widths = nacl
    crystal = material.cells.crystal
    f = solution.frequencies[mesh.irreducible]
    p = int(np.flatnonzero(np.asarray(same_degenerate_set(f)).sum((1, 2)) == 6)[-1])
    result = conduct(solution, widths, mesh, crystal, np.array([300.0]))
    v = np.real(np.diagonal(solution.velocity_operator[p], axis1=0, axis2=1)).T * 1e2  # m/s
    lifetime = 1 / (4 * np.pi * widths[0, p] * 1e12)
    volume = np.linalg.det(crystal.lattice) * 1e-30
    C = np.asarray(heat_capacity(f[p], np.array([300.0])))[0] * 1.60217733e-19
    trace = C * np.sum(v**2, axis=1) * lifetime / volume * np.asarray(mesh.weights)[p]
    np.testing.assert_allclose(result.mode_kappa_P[0, p, :, :3].sum(-1), trace, rtol=1e-10)


def test_small_widths_are_the_diffusive_limit_of_populations(nacl):
    """κ_P goes as 1/γ and κ_C as γ."""
    material, mesh, solution, widths = nacl
    small = np.concatenate([1e-4 * widths, 2e-4 * widths])
    result = conduct(solution, small, mesh, material.cells.crystal, np.array([300.0, 300.0]))
    np.testing.assert_allclose(result.kappa_P[0, 0] / result.kappa_P[1, 0], 2, rtol=1e-7)
    np.testing.assert_allclose(result.kappa_C[1, 0] / result.kappa_C[0, 0], 2, rtol=1e-5)


def test_large_widths_are_the_overdamped_limit():
    """With Γ far above every |f - f'| both parts go as 1/Γ, and Γ κ is C_ss' |V_ss'|² summed over all pairs alike."""
    f = jnp.array([[2.0, 3.0, 3.5]])
    V = jax.random.normal(jax.random.key(0), (1, 3, 3, 3))
    V = (V + jnp.swapaxes(V, 1, 2)).astype(complex)
    crystal_volume, γ = 8.0, 1e6
    mesh = Mesh(
        (1, 1, 1), np.full((1, 3), 0.25), np.array([0]), np.array([1]), np.array([0]), np.eye(3)[None], np.eye(3)
    )
    crystal = Crystal(2 * np.eye(3), np.zeros((1, 3)), np.ones(1), (1,))
    kP, kC = kappa_tensors(Phonons(f, None, V), jnp.full((1, 1, 3), γ), mesh, crystal, np.array([1e7]))
    ratio = f[0][:, None] / f[0][None, :]
    pairs = K_B * (2 + ratio + 1 / ratio) / 4  # C_ss' where every C is k_B
    expected = jnp.einsum("st,stv->v", pairs, velocity_squared(V)[0]) * KAPPA / crystal_volume / (2 * γ)
    np.testing.assert_allclose((kP + kC)[0], expected, rtol=1e-8)


# ---------------------------------------------------------------- invariance, guards, derivatives


def rotate_blocks(solution, mesh, seed):
    """The same physics with random unitary mixing inside every degenerate block."""
    f = np.asarray(solution.frequencies)[np.asarray(mesh.irreducible)]
    same, rng = np.asarray(same_degenerate_set(f)), np.random.default_rng(seed)
    H = (rng.normal(size=same.shape) + 1j * rng.normal(size=same.shape)) * same
    U = np.linalg.qr(H + 10 * np.eye(f.shape[1]) * same)[0] * same
    np.testing.assert_allclose(np.conj(U.swapaxes(1, 2)) @ U, np.eye(f.shape[1])[None].repeat(len(f), 0), atol=1e-12)
    V = np.einsum("psi,pstc,ptj->pijc", U.conj(), solution.velocity_operator, U)
    return dataclasses.replace(solution, velocity_operator=V)


def test_nothing_depends_on_the_gauge_inside_blocks(nacl):
    material, mesh, solution, widths = nacl
    f = solution.frequencies[mesh.irreducible]
    widths = jnp.einsum("pst,xpt->xps", degenerate_averages(f), widths)
    other = rotate_blocks(solution, mesh, 1)
    assert np.abs(other.velocity_operator - solution.velocity_operator).max() > 1
    for function in (
        lambda s: conduct(s, widths, mesh, material.cells.crystal, np.array([300.0])).kappa_P,
        lambda s: conduct(s, widths, mesh, material.cells.crystal, np.array([300.0])).kappa_C,
    ):
        np.testing.assert_allclose(function(other)[0, :3], function(solution)[0, :3], rtol=1e-9)
    speeds = [boundary_linewidth(s.velocity_operator, f, 1.0) for s in (solution, other)]
    np.testing.assert_allclose(speeds[1], speeds[0], rtol=1e-10, atol=1e-10 * np.max(speeds[0]))


def test_boundary_widths(nacl):
    """γ = |v|/4πL; where a mode is alone that is phono3py's value."""
    _, mesh, solution, _ = nacl
    f = solution.frequencies[mesh.irreducible]
    γ = boundary_linewidth(solution.velocity_operator, f, 10.0)
    alone = np.asarray(same_degenerate_set(f)).sum(-1) == 1
    speed = np.linalg.norm(np.real(np.diagonal(solution.velocity_operator, axis1=1, axis2=2)), axis=1)
    expected = speed * 100 / (4 * np.pi * 10e-6) / 1e12  # m/s over m, in THz
    np.testing.assert_allclose(γ[alone], expected[alone], rtol=1e-10)
    blocks = degenerate_averages(f)
    np.testing.assert_allclose(jnp.einsum("pst,pt->ps", blocks, γ), γ, rtol=1e-12)
    np.testing.assert_array_equal(γ[0, :3], 0)


def test_modes_without_width_contribute_nothing(nacl):
    material, mesh, solution, widths = nacl
    crystal, T = material.cells.crystal, np.array([300.0])
    p, s = 5, 4
    without = np.array(widths)
    without[0, p, s] = 0
    result = conduct(solution, without, mesh, crystal, T)
    full = conduct(solution, widths, mesh, crystal, T)
    assert np.all(result.mode_kappa_P[0, p, s] == 0)
    assert np.all(result.mode_kappa_C[0, p, s] == 0)
    assert np.all(result.mode_kappa_C[0, p, :, s] == 0)
    np.testing.assert_array_equal(result.mode_kappa_P[0, :p], full.mode_kappa_P[0, :p])
    assert np.all(np.isfinite(conduct(solution, 0 * widths, mesh, crystal, T).kappa_TOT))


def test_gradients_are_finite_everywhere(nacl):
    material, mesh, solution, widths = nacl
    widths = np.array(widths)
    widths[0, 3] = 0

    @jax.jit
    @jax.grad
    def gradient(inputs):
        f, V, γ = inputs
        result = conductivity(Phonons(f, None, V), γ, mesh, material.cells.crystal, jnp.array([300.0]))
        light = kappa_tensors(Phonons(f, None, V), γ, mesh, material.cells.crystal, jnp.array([300.0]))
        wall = boundary_linewidth(V, f[mesh.irreducible], 1.0)
        return jnp.sum(result.kappa_TOT) + jnp.sum(mode_kappa_total(result)) + sum(map(jnp.sum, light)) + jnp.sum(wall)

    frequencies = jnp.asarray(solution.frequencies).at[0, 0].set(0.0).at[0, 1].set(-0.01)
    for g in gradient((frequencies, jnp.asarray(solution.velocity_operator), jnp.asarray(widths))):
        assert np.isfinite(g).all()
        assert np.abs(g).max() > 0


@pytest.mark.parametrize("name", material_params("si-tersoff", "nacl-mace", "Si", "NaCl"))
def test_derivative_of_the_conductivity_by_force_constants(name):
    """Reverse mode through κ_TOT of a whole mesh, with its degenerate points, against differences along Φ2."""
    from test_phonons import central, radial_change

    material = load(name)
    crystal = material.cells.crystal
    table, mesh = make_fc2_table(crystal, material.cells.fc2_supercell), make_mesh(crystal, (4, 4, 4))
    second, change = jnp.asarray(material.constants.fc2), radial_change(material)

    @jax.jit
    def κ(second):
        solution = module.phonons(mesh.qpoints, mesh.irreducible, second, crystal, table)
        f = solution.frequencies[mesh.irreducible]
        widths = smooth_widths(f, [300.0]) + boundary_linewidth(solution.velocity_operator, f, 1.0)
        P, C = kappa_tensors(solution, widths, mesh, crystal, jnp.array([300.0]))
        return jnp.sum(P[0, :3] + C[0, :3])

    numeric = central(lambda h: κ(second + h * change), 1e-3)
    np.testing.assert_allclose(jnp.sum(jax.grad(κ)(second) * change), numeric, rtol=1e-7)


# ---------------------------------------------------------------- references


@pytest.mark.parametrize("reference", reference_params())
def test_reference_conductivity_from_stored_widths(reference):
    material, mesh, solution, widths = harmonic(reference)
    result = conduct(solution, widths, mesh, material.cells.crystal, np.array([300.0]))
    polar, arrays = REFERENCES[reference].polar, stored(reference)
    tolerance = 1e-6 if polar else 1e-11  # Gonze-Lee is truncated at 1e-10 relative, and κ_C is a small difference
    for field in ("kappa_P", "kappa_C"):
        np.testing.assert_allclose(getattr(result, field)[0, :3], arrays[field][0, :3], rtol=tolerance)
        np.testing.assert_allclose(getattr(result, field)[0, 3:], 0, atol=1e-10 * arrays["kappa_P"][0, 0])
    np.testing.assert_array_equal(mesh.weights, arrays["grid_weights"])
    live = slice(1, None)  # phono3py gives the acoustic modes at Γ, which drop out, a finite heat capacity
    np.testing.assert_allclose(result.heat_capacity[0, live], arrays["mode_heat_capacities"][0, live], rtol=1e-7)


WITH_MODES = ("gi_si_m7_smm19", "gi_nacl_nac_m11_smm19")


@pytest.mark.parametrize(
    "reference", [p for p in reference_params() if "gi" not in p.values[0] or p.values[0] in WITH_MODES]
)
def test_reference_mode_values(reference):
    material, mesh, solution, widths = harmonic(reference)
    pairs = stored(reference)["mode_kappa"][0]
    result = conduct(solution, widths, mesh, material.cells.crystal, np.array([300.0]))
    same = np.asarray(same_degenerate_set(solution.frequencies[mesh.irreducible]))[..., None]
    populations, coherences = np.sum(pairs * same, axis=2), np.sum(pairs * ~same, axis=(1, 2))
    blocks = degenerate_averages(solution.frequencies[mesh.irreducible])
    averaged = [np.einsum("pst,ptv->psv", blocks, x)[..., :3].mean(-1) for x in (result.mode_kappa_P[0], populations)]
    np.testing.assert_allclose(averaged[0], averaged[1], rtol=1e-5, atol=1e-9 * averaged[1].max())
    np.testing.assert_allclose(
        result.mode_kappa_C[0].sum((1, 2))[:, :3].mean(-1), coherences[:, :3].mean(-1), rtol=1e-5,
        atol=1e-9 * coherences.max(),
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.shared
def test_la2zr2o7_from_stored_widths():
    """A complex crystal of glass-like conductivity, without isotope scattering: 1.917 + 0.532 W/(m K) at 300 K."""
    material = load("La2Zr2O7")
    crystal, supercell = material.cells.crystal, material.cells.fc2_supercell
    with h5py.File(SHARED / "data/reference/La2Zr2O7/kappa-m191919.hdf5") as file:
        stored = {key: file[key][()] for key in ("frequency", "gamma", "temperature", "weight", "qpoint")}
    whole = make_mesh(crystal, (19, 19, 19))
    np.testing.assert_array_equal(whole.weights, stored["weight"])
    # only the irreducible points are needed here: the others stay unsolved
    points = np.asarray(whole.qpoints)[np.asarray(whole.irreducible)]
    rest = np.full((len(whole.qpoints) - len(points), 3), 0.25)
    mesh = dataclasses.replace(whole, qpoints=np.concatenate([points, rest]), irreducible=np.arange(len(points)))
    nac = GonzeLee(material.born, dipole_plan(crystal, supercell))
    table = make_fc2_table(crystal, supercell)
    solution = phonons(points, mesh.irreducible, material.constants.fc2, crystal, table, nac)
    np.testing.assert_allclose(solution.frequencies, stored["frequency"], rtol=0, atol=1e-5)
    result = conduct(solution, stored["gamma"], mesh, crystal, stored["temperature"])
    np.testing.assert_allclose(result.kappa_P[0, :3], 1.917, atol=6e-4)
    np.testing.assert_allclose(result.kappa_C[0, :3], 0.532, atol=6e-4)
    points_total = len(mesh.qpoints)
    np.testing.assert_allclose(
        mode_kappa_total(result).sum((1, 2))[:, :3] / points_total, result.kappa_TOT[:, :3], rtol=1e-10
    )
