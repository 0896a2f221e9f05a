"""Beyond the relaxation-time approximation: phono3py's direct solution, a dense matrix, gauges, conservation laws, gradients."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from reference_materials import load
from solved_problems import analytic, strained, symmetric_direction

import wigner_jax as wj
from wigner_jax._core.tiling import ACCELERATOR, CPU, tiling_for
from wigner_jax._solve import make_plan, solve
from wigner_jax.crystal.elements import natural_isotopes
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.physics import boltzmann, symmetric_matrix
from wigner_jax.physics.boltzmann import Operator, averaged_velocities, energy_residual, solve_full
from wigner_jax.physics.conductivity import VOIGT, star_average
from wigner_jax.physics.krylov import CONVERGED, NEGATIVE, conjugate_gradients
from wigner_jax.physics.linewidths import state_for
from wigner_jax.physics.self_energy import normal_share
from wigner_jax.physics.symmetric_matrix import SymmetricMatrix
from wigner_jax.physics.variational import TENSORS, invariant_tensors
from wigner_jax.units import KAPPA

T = (300.0, 700.0)
BROADENINGS = {"tetrahedra": lambda: None, "gaussian": lambda: wj.Gaussian(1.0), "adaptive": wj.AdaptiveGaussian}
CRYSTALS = {
    "zincblende": lambda: analytic(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (1, 1, 1)),
    "strained": lambda: analytic(strained(), (2, 2, 2), (1, 1, 1)),
}


@pytest.fixture(scope="module", params=CRYSTALS)
def crystal(request):
    return request.param, *CRYSTALS[request.param]()


@pytest.fixture(scope="module")
def silicon_carbide():
    return CRYSTALS["zincblende"]()


def state_of(solution):
    temperatures = np.asarray(solution.conductivity.temperatures)
    return state_for(
        solution.plan, solution.force_constants, solution.phonons, temperatures, solution.broadening, solution.nac,
        tiling_for(),
    )  # fmt: skip


def operator_of(solution) -> Operator:
    temperatures = np.asarray(solution.conductivity.temperatures)
    variances = solution.scattering.variances(solution.plan)
    return Operator(solution.plan, state_of(solution), temperatures, variances, solution.broadening)


def raw_rows(operator, index: int) -> np.ndarray:
    """O as its rows come, not symmetrised, in the scalar product of the full mesh."""
    P, m, _ = operator.shape
    full = np.zeros((P, m * 3, P * m * 3))
    for members, _, _, _, rows in operator.rows():
        full[members] = np.asarray(rows)[:, index].reshape(len(members), m * 3, -1)
    raw = full.reshape(P * m * 3, -1)[np.ix_(operator.live, operator.live)]
    return raw * operator.root[:, None] / operator.root


def with_velocities(solution, velocities, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """κ_P (6,) in the relaxation-time approximation and by the full operator, of group velocities (P, m, 3) of others."""
    operator, plan = operator_of(solution), solution.plan
    matrix = operator.assembled()[1][index]
    gamma = np.asarray(solution.linewidths.total)[index]
    capacity = np.asarray(solution.conductivity.heat_capacity)[index]
    change, end, _, _ = solve_full(operator, matrix, gamma, capacity, velocities)
    assert end.status == CONVERGED
    a, b = (np.asarray(x) for x in VOIGT)
    alive = gamma > 0
    mean = np.where(alive, capacity / np.where(alive, 2 * gamma, 1.0), 0.0)[..., None]
    volume = abs(np.linalg.det(plan.crystal.lattice))
    weights = np.asarray(plan.mesh.weights)[:, None, None] * KAPPA / volume
    rta = (weights * mean * velocities[..., a] * velocities[..., b]).sum(axis=(0, 1)) @ np.asarray(
        star_average(plan.mesh.rotations)
    ).T
    return rta / len(plan.mesh.qpoints), (rta + change.sum(axis=(0, 1))) / len(plan.mesh.qpoints)


def direct_solution(peer, mesh, sigma):
    """phono3py's, with its gauge-invariant flags: κ, κ in the relaxation-time approximation, group velocities."""
    peer.mesh_numbers, peer.sigmas = mesh, None if sigma is None else [sigma]
    peer.init_phph_interaction(average_degenerate_weights=True, exclude_gamma_acoustic=True)
    peer.run_thermal_conductivity(temperatures=[300.0], is_LBTE=True)
    found = peer.thermal_conductivity
    return np.asarray(found.kappa)[0, 0], np.asarray(found.kappa_RTA)[0, 0], np.asarray(found.group_velocities)


# ---------------------------------------------------------------- phono3py


@pytest.mark.parametrize("sigma", [None, 1.0])
def test_against_phono3py(crystal, sigma):
    """With its own group velocities, which lack components in degenerate blocks; the strained crystal has none."""
    pytest.importorskip("phono3py")
    name, cells, fc = crystal
    mesh = (4, 4, 4) if name == "zincblende" else (3, 3, 3)
    broadening = None if sigma is None else wj.Gaussian(sigma)
    solution = solve(
        make_plan(cells, mesh), fc, broadening=broadening, scattering=wj.Scattering(None), transport="lbte"
    )
    kappa, rta, velocities = direct_solution(wj.to_phono3py(wj.GivenConstants(cells, fc)), mesh, sigma)
    ours = with_velocities(solution, velocities)
    largest = np.abs(kappa).max()
    np.testing.assert_allclose(ours[0], rta, rtol=0, atol=1e-6 * largest)
    np.testing.assert_allclose(ours[1], kappa, rtol=0, atol=1e-6 * largest)
    assert abs(kappa[0] / rta[0] - 1) > 1e-3
    if name == "strained":
        np.testing.assert_allclose(solution.full.kappa_P[0], kappa, rtol=0, atol=1e-5 * largest)


@pytest.mark.shared
def test_silicon_of_dft(shared):
    """The stored run at 11×11×11: 106.266817 W/(m K), 103.7382 in the relaxation-time approximation."""
    stored = np.load(shared / "data/reference/gi_si_m11_lbte_std.npz")
    material = load("Si")
    plan = make_plan(material.cells, (11, 11, 11))
    scattering = wj.Scattering(natural_isotopes(plan.crystal), 1e6)
    solution = solve(plan, material.constants, (300.0,), scattering=scattering, transport="lbte")
    # its isotope widths leave ties to rounding (tests/solver/test_references.py)
    its = dataclasses.replace(solution.linewidths, isotope=stored["gamma_isotope"][0])
    rta, full = with_velocities(dataclasses.replace(solution, linewidths=its), stored["group_velocities"])
    np.testing.assert_allclose(rta[:3], 103.7382, rtol=1e-4)
    np.testing.assert_allclose(full[:3], 106.266817, rtol=1e-4)
    assert solution.full.kappa_P[0, 0] - solution.conductivity.kappa_P[0, 0] == pytest.approx(2.5286, abs=0.01)


# ---------------------------------------------------------------- the same number, whatever the way


@pytest.mark.parametrize("broadening", BROADENINGS)
def test_a_dense_matrix(silicon_carbide, broadening):
    """Every mesh point by itself, and the symmetric system solved directly."""
    cells, fc = silicon_carbide
    reduced, whole = (
        solve(make_plan(cells, (3, 3, 3), symmetry), fc, T, broadening=BROADENINGS[broadening](), transport="lbte")
        for symmetry in (True, False)
    )
    assert whole.full.size > 10 * reduced.full.size
    np.testing.assert_allclose(
        reduced.full.kappa_P, whole.full.kappa_P, rtol=1e-7, atol=1e-7 * whole.full.kappa_P.max()
    )
    operator = operator_of(reduced)
    (gamma, isotopes, overflow), matrices = operator.assembled()
    assert not overflow
    np.testing.assert_allclose(gamma, reduced.linewidths.three_phonon, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(isotopes, reduced.linewidths.isotope, rtol=1e-9, atol=1e-14)
    velocities = averaged_velocities(
        np.asarray(reduced.phonons.frequencies)[np.asarray(reduced.mesh.irreducible)], reduced.phonons.velocity_operator
    )
    for index in range(len(T)):
        total = np.asarray(reduced.linewidths.total)[index]
        alive = total > 0
        Z = np.where(alive, np.sqrt(reduced.conductivity.heat_capacity[index]), 0.0)[..., None] * velocities
        b, D = operator.packed(Z), operator.repeated(np.where(alive, total, 1.0))
        raw = raw_rows(operator, index)
        np.testing.assert_allclose(matrices[index].dense(), 0.5 * (raw + raw.T), rtol=1e-14, atol=1e-14)
        full = np.diag(D) + 0.5 * (raw + raw.T)
        F = operator.unpacked(np.linalg.solve(full, b))
        np.testing.assert_allclose(reduced.full.deviations[index], F, rtol=0, atol=1e-7 * np.abs(F).max())
        y = np.random.default_rng(index).standard_normal(operator.size)
        if index == 0:
            np.testing.assert_allclose(operator.apply(y), (full - np.diag(D)) @ y, rtol=0, atol=1e-12)
        x = b / D  # the fixed-point iteration of ShengBTE
        for _ in range(200):
            x = (b - (full @ x - D * x)) / D
        np.testing.assert_allclose(operator.unpacked(x), F, rtol=0, atol=1e-9 * np.abs(F).max())
        lowest = np.linalg.eigvalsh(full / np.sqrt(D[:, None] * D))[0]
        assert lowest - 1e-9 <= reduced.full.lowest[index] < 1.0
        asymmetry = np.linalg.norm(raw - raw.T) / np.linalg.norm(raw)
        assert reduced.full.asymmetry[index] == pytest.approx(asymmetry, rel=1e-6, abs=1e-7)


def test_detailed_balance(silicon_carbide):
    """With one width for all, what one mode gives another it gets back: the operator is symmetric before it is made so."""
    cells, fc = silicon_carbide
    plan = make_plan(cells, (4, 4, 4))
    exact = solve(plan, fc, (300.0,), broadening=wj.Gaussian(0.5), transport="lbte")
    assert exact.full.asymmetry[0] < 1e-10
    assert solve(plan, fc, (300.0,), transport="lbte").full.asymmetry[0] > 0.01


@pytest.mark.parametrize("broadening", ["tetrahedra", "gaussian"])
def test_side_by_side_as_on_an_accelerator(silicon_carbide, broadening):
    cells, fc = silicon_carbide
    plan = make_plan(cells, (3, 3, 3))
    one, other = (
        solve(plan, fc, T, broadening=BROADENINGS[broadening](), transport="lbte", tiling=tiling)
        for tiling in (CPU, ACCELERATOR)
    )
    np.testing.assert_allclose(other.full.kappa_P, one.full.kappa_P, rtol=1e-9, atol=1e-9)


def test_rows_made_anew_are_those_that_are_kept(silicon_carbide):
    cells, fc = silicon_carbide
    plan = make_plan(cells, (3, 3, 3))
    kept, one_by_one, anew = (solve(plan, fc, T, transport="lbte", memory=m) for m in (1e9, 1.5 * 4 * 18**2, 0))
    assert kept.full.size == 18
    assert kept.full.assembled
    assert one_by_one.full.assembled
    assert not anew.full.assembled
    for other in (one_by_one, anew):
        np.testing.assert_allclose(other.full.kappa_P, kept.full.kappa_P, rtol=1e-10)
        np.testing.assert_allclose(other.linewidths.total, kept.linewidths.total, rtol=1e-9)


def test_any_gauge(silicon_carbide):
    """Random unitaries inside degenerate blocks, which change every mode's velocity and every matrix element."""
    cells, fc = silicon_carbide
    solution = solve(make_plan(cells, (3, 3, 3)), fc, (300.0,), transport="lbte")
    f, e = (np.asarray(x) for x in (solution.phonons.frequencies, solution.phonons.eigenvectors))
    rng, turned = np.random.default_rng(0), e.copy()
    blocks = 0
    for q in range(len(f)):
        start = 0
        for stop in range(1, f.shape[1] + 1):
            if stop == f.shape[1] or f[q, stop] - f[q, stop - 1] > 1e-4:
                size = stop - start
                unitary = np.linalg.qr(rng.standard_normal((size, size)) + 1j * rng.standard_normal((size, size)))[0]
                turned[q, :, start:stop] = e[q, :, start:stop] @ unitary
                blocks += size > 1
                start = stop
    assert blocks > 10
    # with eigenvectors u: V' = u† V u inside and between blocks
    at = np.asarray(solution.mesh.irreducible)
    change = np.einsum("qas,qat->qst", e.conj(), turned)[at]
    V = np.einsum("pst,psua,puv->ptva", change.conj(), np.asarray(solution.phonons.velocity_operator), change)
    other = dataclasses.replace(
        solution, phonons=dataclasses.replace(solution.phonons, eigenvectors=turned, velocity_operator=V)
    )
    found = []
    for one in (solution, other):
        velocities = averaged_velocities(np.asarray(one.phonons.frequencies)[at], one.phonons.velocity_operator)
        found.append(with_velocities(one, velocities)[1])
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-10 * np.abs(found[0]).max())


# ---------------------------------------------------------------- limits and laws


def test_nothing_coupled_is_the_relaxation_time_approximation(silicon_carbide):
    cells, fc = silicon_carbide
    solution = solve(make_plan(cells, (3, 3, 3)), fc, (300.0,))
    operator = operator_of(solution)
    gamma, capacity = np.asarray(solution.linewidths.total)[0], np.asarray(solution.conductivity.heat_capacity)[0]
    at = np.asarray(solution.mesh.irreducible)
    velocities = averaged_velocities(np.asarray(solution.phonons.frequencies)[at], solution.phonons.velocity_operator)
    change, end, _, asymmetry = solve_full(
        operator, SymmetricMatrix.of(np.zeros((operator.size, operator.size))), gamma, capacity, velocities
    )
    assert np.abs(change).max() < 1e-12 * np.abs(solution.conductivity.mode_kappa_P).max()
    assert end.iterations == 1
    assert asymmetry == 0


def test_modes_add_up(crystal):
    _, cells, fc = crystal
    solution = solve(make_plan(cells, (3, 3, 3)), fc, T, transport="lbte")
    full = solution.full
    np.testing.assert_allclose(full.mode_kappa_P.sum(axis=(1, 2)) / 27, full.kappa_P, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(full.kappa_P_RTA, solution.conductivity.kappa_P)
    np.testing.assert_allclose(solution.kappa, full.kappa_P + np.asarray(solution.conductivity.kappa_C))
    assert full.status == (CONVERGED, CONVERGED)
    assert full.residual.max() < 1e-8
    assert "linearised Boltzmann equation" in solution.diagnostics().lines()[0]
    assert f"{solution.kappa[0, :3].mean():.4g}" in repr(solution)


@pytest.mark.parametrize("broadening", ["tetrahedra", "adaptive"])
def test_energy_is_conserved_as_far_as_the_mesh_can(silicon_carbide, broadening):
    """A change of temperature is no deviation: what is left of it falls with the mesh."""
    cells, fc = silicon_carbide
    left = []
    for n in (3, 6):
        solution = solve(make_plan(cells, (n, n, n)), fc, (300.0,), broadening=BROADENINGS[broadening]())
        left.append(energy_residual(solution.plan, state_of(solution), np.array([300.0]), solution.broadening)[0])
    assert left[0] < 0.05
    assert left[1] < 0.6 * left[0]


def test_relaxons(silicon_carbide):
    cells, fc = silicon_carbide
    solution = solve(make_plan(cells, (4, 4, 4)), fc, T, transport="lbte")
    found = wj.relaxons(solution)
    at = np.asarray(solution.mesh.irreducible)
    velocities = averaged_velocities(np.asarray(solution.phonons.frequencies)[at], solution.phonons.velocity_operator)
    for index in range(len(T)):
        full = with_velocities(solution, velocities, index)[1]
        np.testing.assert_allclose(found.kappa[index].sum(), full[:3].mean(), rtol=1e-6)
        path, kappa = found.cumulative(index)
        assert np.all(np.diff(path) >= 0)
        np.testing.assert_allclose(kappa[-1], found.kappa[index].sum(), rtol=1e-12)
    assert np.all(np.diff(found.rates, axis=1) >= 0)
    assert found.kappa.min() >= 0
    with pytest.raises(InputError, match="relaxons are those of a solution's temperatures"):
        wj.relaxons(solution, [301.0])
    for bad in (float("nan"), [], [300.0, float("nan")]):
        with pytest.raises(InputError, match="relaxons are those of a solution's temperatures"):
            wj.relaxons(solution, bad)
    with pytest.raises(InputError, match="give more memory"):
        wj.relaxons(solution, memory=1e3)


def test_the_share_of_normal_processes(silicon_carbide):
    cells, fc = silicon_carbide
    solution = solve(make_plan(cells, (4, 4, 4)), fc, T)
    normal, umklapp = wj.normal_umklapp(solution)
    expected = float(normal[0].sum() / (normal[0] + umklapp[0]).sum())
    assert normal_share(solution, 100) == pytest.approx(expected, rel=1e-9)
    assert 0 < normal_share(solution, 4) < 1


# ---------------------------------------------------------------- the iteration


def test_conjugate_gradients():
    rng = np.random.default_rng(0)
    A = rng.standard_normal((40, 40))
    A = A @ A.T + 5 * np.eye(40)
    b = rng.standard_normal(40)
    found = conjugate_gradients(lambda x: A @ x, b, np.diag(A), 1e-12, 200)
    assert found.status == CONVERGED
    np.testing.assert_allclose(found.x, np.linalg.solve(A, b), rtol=1e-9, atol=1e-10)
    scale = np.sqrt(np.diag(A))
    np.testing.assert_allclose(found.lowest, np.linalg.eigvalsh(A / scale[:, None] / scale)[0], rtol=1e-3)
    assert conjugate_gradients(lambda x: A @ x, b, np.diag(A), 1e-12, 3).status == "not converged"
    assert conjugate_gradients(lambda x: A @ x, 0 * b, np.diag(A), 1e-12, 3).status == CONVERGED
    indefinite = A - 40 * np.outer(b, b) / (b @ b)
    found = conjugate_gradients(lambda x: indefinite @ x, b, np.diag(A), 1e-12, 200)
    assert found.status == NEGATIVE
    assert np.isfinite(found.x).all()


@pytest.mark.parametrize("block", [1, 7, 16, 512])
def test_rows_in_any_order(block, monkeypatch):
    monkeypatch.setattr(symmetric_matrix, "BLOCK", block)
    rng = np.random.default_rng(0)
    counts = [3, 0, 9, 1, 18, 0, 6, 18, 15]
    matrix, x = rng.standard_normal((70, 70)), rng.standard_normal(70)
    first, found = np.cumsum([0, *counts]), SymmetricMatrix(counts)
    for k in rng.permutation(len(counts)):
        found.put(first[k], matrix[first[k] : first[k + 1]])
    expected = 0.5 * (matrix + matrix.T)
    assert found.asymmetry == pytest.approx(np.linalg.norm(matrix - matrix.T) / np.linalg.norm(matrix), rel=1e-12)
    np.testing.assert_allclose(found.dense(), expected, rtol=1e-15)
    np.testing.assert_allclose(found @ x, expected @ x, rtol=0, atol=1e-13)
    assert sum(b.size for b in found._blocks) <= (70 * 71 + 70 * (block + 18)) / 2


def test_a_negative_operator_is_said(silicon_carbide, monkeypatch):
    cells, fc = silicon_carbide
    plan = make_plan(cells, (3, 3, 3))
    plain = Operator.assembled

    def negative(self, *arguments):
        widths, matrices = plain(self, *arguments)
        return widths, [SymmetricMatrix.of(-50 * np.abs(x.dense())) for x in matrices]

    monkeypatch.setattr(Operator, "assembled", negative)
    with pytest.raises(InputError, match="has no solution at 300 K: negative curvature"):
        solve(plan, fc, (300.0,), transport="lbte")
    monkeypatch.setattr(boltzmann, "WORST", 10.0)  # of what is taken with a warning
    with pytest.warns(AccuracyWarning, match="negative curvature"):
        solution = solve(plan, fc, (300.0,), transport="lbte")
    assert solution.full.status == (NEGATIVE,)


# ---------------------------------------------------------------- derivatives


@pytest.mark.parametrize("broadening", BROADENINGS)
def test_gradients(crystal, broadening):
    """Of κ_TOT along symmetric directions of Φ2 and Φ3, and by temperature, isotopes and boundaries, against differences."""
    name, cells, fc = crystal
    if name == "strained" and broadening != "adaptive":
        pytest.skip("one crystal is enough")
    plan = make_plan(cells, (3, 3, 3))
    chosen = BROADENINGS[broadening]() or wj.Tetrahedron.for_plan(plan).with_capacity(plan, fc)
    weights = np.random.default_rng(1).standard_normal((1, 6))

    def function(fc, T, variances, mfp):
        found = wj.kappa(
            plan, fc, T[None], broadening=chosen, scattering=wj.Scattering(variances, mfp), transport="lbte"
        )
        return jnp.sum(weights * found.kappa_TOT)

    place = (fc, jnp.array(300.0), jnp.asarray(plan.mass_variances), jnp.array(5.0))
    value, gradient = jax.value_and_grad(function, argnums=(0, 1, 2, 3))(*place)
    solution = solve(plan, fc, (300.0,), broadening=chosen, scattering=wj.Scattering("natural", 5.0), transport="lbte")
    np.testing.assert_allclose(value, np.sum(weights * solution.kappa), rtol=1e-9)
    h = 1e-4
    directions = [(symmetric_direction(cells, fc, seed), 0.0, 0.0, 0.0) for seed in range(2)]
    zero = jax.tree.map(np.zeros_like, fc)
    directions += [(zero, 100.0, 0.0, 0.0), (zero, 0.0, np.asarray(place[2]), 0.0), (zero, 0.0, 0.0, 3.0)]
    for direction in directions:
        up, down = (
            function(*jax.tree.map(lambda x, d, s=s: x + s * h * d, place, tuple(direction[:1]) + tuple(
                jnp.asarray(d) * jnp.ones_like(p) for d, p in zip(direction[1:], place[1:], strict=True)
            )))
            for s in (1, -1)
        )  # fmt: skip
        numeric = (up - down) / (2 * h)
        exact = sum(
            float(np.vdot(a, np.broadcast_to(b, np.shape(a))))
            for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
        )
        np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-6 * abs(value))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["si-tersoff", "wurtzite", "strained"])
def test_gradients_in_twenty_directions(name):
    """With tetrahedra, 1e-5 of the largest."""
    if name == "si-tersoff":
        cells, fc = load(name).cells, load(name).constants
    else:
        crystals = {"wurtzite": bulk("SiC", "wurtzite", a=3.08, c=5.03), "strained": strained()}
        cells, fc = analytic(crystals[name], (2, 2, 2), (1, 1, 1))
    plan = make_plan(cells, (4, 4, 3) if name == "wurtzite" else (4, 4, 4))
    chosen = wj.Tetrahedron.for_plan(plan).with_capacity(plan, fc)

    def function(fc):
        return wj.kappa(plan, fc, (300.0,), broadening=chosen, transport="lbte").kappa_TOT[0]

    _, pull = jax.vjp(function, fc)
    gradients = [pull(np.eye(6)[k])[0] for k in range(3)]
    h, errors = 3e-5, []
    for seed in range(20):
        direction = symmetric_direction(cells, fc, seed)
        up, down = (function(jax.tree.map(lambda x, d, s=s: x + s * h * d, fc, direction)) for s in (1, -1))
        numeric = np.asarray((up - down) / (2 * h))[:3]
        exact = [
            sum(float(np.vdot(a, b)) for a, b in zip(jax.tree.leaves(g), jax.tree.leaves(direction), strict=True))
            for g in gradients
        ]
        errors.append(np.abs(numeric - exact).max() / np.abs(numeric).max())
    assert np.median(errors) < 1e-5
    assert np.sort(errors)[-3] < 1e-4  # a kink or a jump of 1e-9 of κ inside the step spoils a difference


def test_known_deviations_and_jit(silicon_carbide):
    cells, fc = silicon_carbide
    plan = make_plan(cells, (3, 3, 3))
    smooth = wj.AdaptiveGaussian()
    solution = solve(plan, fc, T, broadening=smooth, transport="lbte")
    known = wj.kappa(plan, fc, T, broadening=smooth, transport="lbte", deviations=solution.full.deviations)
    np.testing.assert_allclose(known.kappa_P, solution.full.kappa_P, rtol=1e-12, atol=1e-9)
    compiled = jax.jit(lambda fc: wj.kappa(plan, fc, T, broadening=smooth, transport="lbte").kappa_P)(fc)
    np.testing.assert_allclose(compiled, solution.full.kappa_P, rtol=1e-9, atol=1e-9)
    off = wj.kappa(plan, fc, T, broadening=smooth, transport="lbte", deviations=1.01 * solution.full.deviations)
    np.testing.assert_allclose(
        off.kappa_P, solution.full.kappa_P, rtol=1e-3, atol=1e-9
    )  # an error of 1 % enters squared
    F = solution.full.deviations
    for bad, says in (
        (0 * F, "not those of this equation"), (1.1 * F, "not those of this equation"), (F[:1], "of shape"),
        (F[..., :1], "of shape"), (1j * F, "where there should be numbers"), (np.nan * F, "non-finite"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            wj.kappa(plan, fc, T, broadening=smooth, transport="lbte", deviations=bad)
    with pytest.raises(InputError, match="not those of this equation"):  # of another broadening
        wj.kappa(plan, fc, T, broadening=wj.Gaussian(0.2), transport="lbte", deviations=F)
    traced = jax.jit(lambda F: wj.kappa(plan, fc, T, broadening=smooth, transport="lbte", deviations=F).kappa_P)
    assert np.isnan(traced(0 * F)).all()
    assert np.isfinite(traced(F)).all()


def test_invariant_tensors():
    for atoms, count in ((bulk("Si"), 1), (bulk("SiC", "wurtzite", a=3.08, c=5.03), 2)):
        mesh = make_plan(wj.supercells_from_atoms(atoms, (1, 1, 1), (1, 1, 1)), (2, 2, 2)).mesh
        found = invariant_tensors(mesh.rotations)
        assert len(found) == count
        np.testing.assert_allclose(np.einsum("rab,sab->rs", found, found), np.eye(count), atol=1e-12)
    np.testing.assert_allclose(np.einsum("rab,sab->rs", TENSORS, TENSORS), np.eye(6), atol=1e-15)


# ---------------------------------------------------------------- files and words


def test_the_file_and_what_makes_no_sense(silicon_carbide, tmp_path):
    cells, fc = silicon_carbide
    plan = make_plan(cells, (3, 3, 3))
    solution = solve(plan, fc, T, transport="lbte")
    solution.save(tmp_path / "a.hdf5", bands=False)
    data = wj.read_kappa_hdf5(tmp_path / "a.hdf5")
    np.testing.assert_array_equal(data["kappa"], solution.full.kappa_P)
    np.testing.assert_array_equal(data["kappa_RTA"], solution.conductivity.kappa_P)
    np.testing.assert_array_equal(data["kappa_TOT_exact"], solution.kappa)
    np.testing.assert_array_equal(data["lbte"]["residual"], solution.full.residual)
    assert "linearised" in data["attributes"]["theory"]
    with pytest.raises(InputError, match="call solve with transport='lbte'"):
        wj.with_boundary(solution, 1.0)
    for options, says in (
        ({"transport": "LBTE"}, "transport is 'LBTE': choose from rta, lbte"),
        ({"memory": -1.0}, "memory is -1.0"), ({"memory": "4"}, "memory is '4'"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            solve(plan, fc, T, **{"transport": "lbte"} | options)
    with pytest.raises(InputError, match="needs a plan that is known"):
        jax.jit(lambda plan: wj.kappa(plan, fc, T, broadening=wj.AdaptiveGaussian(), transport="lbte"))(plan)
