"""Self-energies, joint densities of states, N and U processes and averaged interactions against phono3py run on the spot."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from phono3py_peer import irreducible_points, new_peer
from reference_materials import cells_of
from solved_problems import analytic, strained, tersoff

import wigner_jax as wj
from wigner_jax.errors import InputError
from wigner_jax.ifc.autodiff import force_constants
from wigner_jax.physics.degeneracy import degenerate_averages
from wigner_jax.physics.self_energy import kramers_kronig, spectral_function

TEMPERATURES = (100.0, 300.0)
PARITY = 1e-6  # of the largest value


def from_tersoff(atoms, fc2, fc3):
    peer = new_peer(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, np.diag(fc2), np.diag(fc3))
    fc, _ = force_constants(cells_of(peer), tersoff())
    peer.fc2, peer.fc3 = np.array(fc.fc2), np.array(fc.fc3)
    return peer


@functools.cache
def peer_of(name, shared=None):
    if name == "SiC":
        return from_tersoff(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (1, 1, 1))
    if name == "triclinic":
        return from_tersoff(strained(), (2, 2, 2), (1, 1, 1))
    import phono3py

    folder = shared / "data/reference" / name
    return phono3py.load(
        folder / "phono3py.yaml",
        fc2_filename=folder / "fc2.hdf5",
        fc3_filename=folder / "fc3.hdf5",
        is_nac=False,
        log_level=0,
    )


def error(actual, expected) -> float:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


@pytest.fixture(
    params=[
        ("SiC", (3, 3, 3), None),
        pytest.param(("SiC", (4, 4, 4), 0.5), marks=pytest.mark.slow),
        pytest.param(("triclinic", (2, 3, 2), None), marks=pytest.mark.slow),
        pytest.param(("Si-PBEsol", (11, 11, 11), None), marks=[pytest.mark.shared, pytest.mark.slow]),
        pytest.param(("NaCl-PBE", (11, 11, 11), None), marks=[pytest.mark.shared, pytest.mark.slow]),
    ],
    ids=str,
    scope="module",
)  # fmt: skip
def both(request):
    """(solution, peer, grid points of the peer at rows 1 and 2)"""
    name, dims, sigma = request.param
    peer = peer_of(name, request.getfixturevalue("shared") if "-" in name else None)
    peer.mesh_numbers, peer.sigmas = dims, [sigma]
    peer.init_phph_interaction(average_degenerate_weights=True, exclude_gamma_acoustic=True)
    cells = cells_of(peer)
    rows = cells.fc2_supercell.p2s_map, cells.fc3_supercell.p2s_map
    n = cells.crystal.n_atoms
    fc2, fc3 = (x if len(x) == n else np.array(x)[i] for x, i in zip((peer.fc2, peer.fc3), rows, strict=True))
    plan = wj.make_plan(cells, dims)
    broadening = wj.Tetrahedron.for_plan(plan) if sigma is None else wj.Gaussian(sigma)
    solution = wj.solve(plan, wj.ForceConstants(np.array(fc2), np.array(fc3)), TEMPERATURES, broadening=broadening)
    return solution, peer, peer.grid.grg2bzg[irreducible_points(peer)[0]][1:3]


def frequencies_for(solution):
    """From 0 on, to beyond the highest sum of two."""
    return np.linspace(0, 2.1 * float(np.max(solution.phonons.frequencies)), 43)


def test_self_energy(both):
    """Γ, and Δ by the sum over triplets, but at f = 0, where the peer's Γ takes ties as they come and its Δ is 0."""
    solution, peer, points = both
    at = frequencies_for(solution)
    ours = wj.self_energy(solution, (1, 2), at, real_part="sum", epsilon=0.1)
    theirs = np.array(peer.run_imag_self_energy(points, TEMPERATURES, frequency_points=at).gammas)[0]
    assert error(ours.imaginary[..., 1:], theirs[..., 1:]) < PARITY
    assert np.abs(ours.imaginary[..., 0]).max() < 1e-12 * theirs.max()  # Γ is odd
    theirs = peer.run_real_self_energy(points, TEMPERATURES, frequency_points=at, epsilons=[0.1])[1][0]
    theirs = theirs if theirs.shape == ours.real.shape else np.swapaxes(theirs, 2, 3)
    assert error(ours.real[..., 1:], theirs[..., 1:]) < PARITY


def test_spectral_function(both):
    """From the peer's Γ; with ours, as far as Γ(0) agrees."""
    solution, peer, points = both
    at = frequencies_for(solution)
    peer.run_spectral_function(points, TEMPERATURES, frequency_points=at)
    found = peer._spectral_function
    gamma = jnp.array(found.half_linewidths[0])
    real = kramers_kronig(gamma, jnp.asarray(at))
    assert error(real, found.shifts[0]) < PARITY
    f = solution.phonons.frequencies[jnp.asarray(solution.mesh.irreducible)[jnp.array([1, 2])]]
    assert error(spectral_function(f, gamma, real, jnp.asarray(at)), found.spectral_functions[0]) < PARITY
    tie = float(jnp.abs(gamma[..., 0]).max() / gamma.max())
    assert (
        error(wj.self_energy(solution, (1, 2), at).spectral_function, found.spectral_functions[0]) < PARITY + 10 * tie
    )


def test_joint_density_of_states(both):
    from phono3py.api_jointdos import Phono3pyJointDos

    solution, peer, points = both
    for temperatures in (None, TEMPERATURES):
        peer_jdos = Phono3pyJointDos(
            peer.phonon_supercell, peer.phonon_primitive, peer.fc2, mesh=peer.mesh_numbers, sigmas=peer.sigmas,
            exclude_gamma_acoustic=True, num_frequency_points=31, temperatures=temperatures,
        )  # fmt: skip
        peer_jdos.run([int(points[0])])
        theirs = np.array(peer_jdos.joint_dos)[0]
        # at 0 ties are taken as they come
        ours = wj.joint_density_of_states(solution, [1], peer_jdos.frequency_points)
        if temperatures is None:
            pairs = [(ours.absorption, theirs[..., 0]), (ours.decay, theirs[..., 1])]
            pairs = [(a[0], b[0] if b.ndim == 2 else b) for a, b in pairs]
        else:
            pairs = [(ours.weighted_absorption[:, 0], theirs[..., 0]), (ours.weighted_decay[:, 0], theirs[..., 1])]
        for a, b in pairs:
            assert error(a[..., 1:], b[..., 1:]) < PARITY


def test_normal_and_umklapp(both):
    solution, peer, _ = both
    peer.run_thermal_conductivity(temperatures=TEMPERATURES, is_N_U=True)
    theirs = peer.thermal_conductivity.get_gamma_N_U()
    ours = wj.normal_umklapp(solution)
    for a, b in zip(ours, theirs, strict=True):
        assert error(a, b[0]) < PARITY
    np.testing.assert_allclose(sum(ours), solution.linewidths.three_phonon, rtol=1e-12)


def test_averaged_interaction(both):
    """The peer's is not averaged over degenerate modes."""
    solution, peer, _ = both
    peer.run_thermal_conductivity(temperatures=TEMPERATURES, is_full_pp=True)
    theirs = np.array(peer.thermal_conductivity.averaged_pp_interaction)
    f = solution.phonons.frequencies[jnp.asarray(solution.mesh.irreducible)]
    assert error(wj.averaged_interaction(solution), jnp.einsum("pst,pt->ps", degenerate_averages(f), theirs)) < PARITY


# ---------------------------------------------------------------- by itself


@functools.cache
def silicon_carbide():
    cells, fc = analytic(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (1, 1, 1))
    return wj.make_plan(cells, (3, 3, 3)), fc


@pytest.mark.parametrize(
    "broadening", [wj.AdaptiveGaussian(), wj.Gaussian(0.4), None], ids=["adaptive", "gaussian", "tetrahedron"]
)
def test_linewidths_are_its_values(broadening):
    """γ_s = Γ_s(f_s)."""
    solution = wj.solve(*silicon_carbide(), TEMPERATURES, broadening=broadening)
    row = 2
    f = np.asarray(solution.phonons.frequencies[solution.mesh.irreducible[row]])
    ours = wj.self_energy(solution, [row], f, real_part="sum").imaginary[:, 0]
    expected = np.asarray(solution.linewidths.three_phonon[:, row])
    actual = np.einsum("tss->ts", ours)
    actual = np.einsum("st,Tt->Ts", degenerate_averages(jnp.asarray(f)), actual)  # degenerate modes differ by rounding
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_the_sum_rule_of_the_spectral_function():
    """∫ (f/f_s) A_s df = 1, which the commutator of displacement and momentum demands, if Γ and Δ belong together."""
    solution = wj.solve(*silicon_carbide(), (3000.0,), broadening=wj.Gaussian(1.0))  # lines wider than the steps
    at = np.linspace(0, 100, 10001)
    found = wj.self_energy(solution, [2], at)
    f = np.asarray(solution.phonons.frequencies[solution.mesh.irreducible[2]])
    area = np.trapezoid(found.spectral_function[0, 0] * at / f[:, None], at, axis=-1)
    np.testing.assert_allclose(area, 1, atol=1e-3)


def test_derivatives():
    """Of Γ(f), Δ(f), A(f), D1 and N2 along a symmetric change of Φ2 and Φ3: forward, reverse and differences."""
    plan, fc = silicon_carbide()
    solution = wj.solve(plan, fc, (300.0,), broadening=wj.AdaptiveGaussian())
    at = np.linspace(0, 70, 36)

    def function(fc):
        here = dataclasses.replace(solution, force_constants=fc, phonons=wj.phonons(plan, fc.fc2))
        energy = wj.self_energy(here, [1, 2], at)
        pairs = wj.joint_density_of_states(here, [1, 2], at)
        x = (energy.imaginary, energy.real, energy.spectral_function, pairs.absorption, pairs.weighted_decay)
        return jnp.stack([jnp.sum(jnp.sin(jnp.arange(a.size)) * a.ravel()) for a in x])

    direction = dataclasses.replace(fc, fc2=fc.fc2, fc3=0.7 * fc.fc3)

    def stepped(h):
        return jax.tree.map(lambda x, d: x + h * d, fc, direction)

    _, tangent = jax.jvp(function, (fc,), (direction,))
    h = 1e-4
    numeric = (
        8 * (function(stepped(h)) - function(stepped(-h))) - (function(stepped(2 * h)) - function(stepped(-2 * h)))
    ) / (12 * h)
    np.testing.assert_allclose(tangent, numeric, rtol=1e-5)
    value, pull = jax.vjp(function, fc)
    pulled = pull(jnp.ones_like(value))[0]
    total = sum(jnp.vdot(getattr(pulled, k), getattr(direction, k)) for k in ("fc2", "fc3"))
    np.testing.assert_allclose(total, jnp.sum(tangent), rtol=1e-9)


def test_bad_arguments():
    solution = wj.solve(*silicon_carbide(), (300.0,), broadening=wj.Gaussian(1.0))
    for options, message in (
        ({"points": [99]}, "points are"), ({"points": [0.5]}, "points are"), ({"frequencies": [-1.0]}, "0 THz or more"),
        ({"frequencies": [np.nan]}, "0 THz or more"), ({"frequencies": [0.0, 1.0, 3.0]}, "equidistant"),
        ({"frequencies": [1.0, 2.0]}, "equidistant"), ({"real_part": "none"}, "real_part is"),
        ({"epsilon": 0.0}, "epsilon is"), ({"epsilon": np.nan}, "epsilon is"), ({"temperatures": [-3.0]}, "above 0 K"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            wj.self_energy(solution, **options)
