"""Spectra, mean free paths, maps of coherences and regimes: sums and limits."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from wigner_jax.physics import spectra

P, M, Q = 5, 6, 20


@pytest.fixture
def modes():
    """Frequencies, star weights, mode conductivities and pairs of modes of nothing in particular."""
    rng = np.random.default_rng(0)
    frequencies = np.sort(rng.uniform(0.5, 9.5, (P, M)), axis=1)
    pairs = rng.uniform(0, 1, (2, P, M, M))
    pairs = pairs + pairs.swapaxes(2, 3)
    return frequencies, np.array([1, 3, 4, 6, 6]), rng.uniform(0, 1, (P, M)), pairs


def test_the_area_under_a_spectrum_is_kappa(modes):
    frequencies, weights, values, _ = modes
    at = np.linspace(-2, 12, 4001)
    curve = np.asarray(spectra.spectrum(frequencies, values, Q, at, 0.2))
    np.testing.assert_allclose(np.trapezoid(curve, at), values.sum() / Q, rtol=1e-10)
    states = np.broadcast_to(weights[:, None], (P, M)) * 1.0
    density = np.asarray(spectra.spectrum(frequencies, states, weights.sum(), at, 0.2))
    np.testing.assert_allclose(np.trapezoid(density, at), M, rtol=1e-10)


def test_cumulative_ends_at_kappa(modes):
    frequencies, _, values, _ = modes
    x, y = spectra.cumulative(frequencies, values, Q)
    assert np.all(np.diff(x) >= 0)
    np.testing.assert_allclose(y[-1], values.sum() / Q, rtol=1e-12)
    np.testing.assert_allclose(y[7], values[frequencies <= x[7]].sum() / Q, rtol=1e-12)


def test_a_map_of_coherences_adds_up(modes):
    frequencies, _, _, pairs = modes
    edges = spectra.bin_edges(frequencies)
    cells = np.asarray(spectra.coherence_map(frequencies, pairs, Q, edges))
    assert cells.shape == (2, spectra.BINS, spectra.BINS)
    np.testing.assert_allclose(cells.sum(axis=(1, 2)), pairs.sum(axis=(1, 2, 3)) / Q, rtol=1e-12)
    np.testing.assert_allclose(cells, cells.swapaxes(1, 2), rtol=1e-12)


def test_where_a_pair_goes():
    """Edges belong to the bin above, the highest frequency to the last bin."""
    pairs = np.zeros((1, 1, 3, 3))
    pairs[0, 0, 0, 2] = pairs[0, 0, 2, 0] = 2.0
    pairs[0, 0, 1, 2] = 3.0
    cells = spectra.coherence_map(np.array([[0.0, 1.0, 4.0]]), pairs, 1, np.array([0.0, 1.0, 2.0, 4.0]))
    np.testing.assert_array_equal(cells[0], [[0, 0, 2], [0, 0, 3], [2, 0, 0]])


def test_mean_free_paths():
    """v = 50 THz Å = 5 km/s for 10 ps are 50 nm; a block shares its velocities, whatever its gauge."""
    gamma = 1 / (4 * np.pi * 10.0)
    gv = np.zeros((1, 3, 6))
    gv[0, :, :3] = [[300.0, 400.0, 1800.0], [9000.0, 0, 0], [0, 1000, 0]]  # 50², and a block of 9000 and 1000
    paths = spectra.mean_free_path(2 * gv, np.array([2]), np.array([[1.0, 2.0, 2.0]]), np.full((1, 3), gamma))
    np.testing.assert_allclose(paths, [[50.0, np.sqrt(5000.0), np.sqrt(5000.0)]], rtol=1e-12)
    assert np.isinf(spectra.mean_free_path(gv, np.array([1]), np.array([[1.0, 2.0, 2.0]]), np.zeros((1, 3)))).all()


def test_the_regimes_begin_at_their_limits():
    """1/τ = 4πγ against Δω_avg = 2π f_max/3N and ω = 2π f, weighted by stars; modes that carry nothing do not count."""
    frequencies = np.array([[0.0, 1.0, 6.0], [0.5, 3.0, 5.0]])
    spacing = 2 * np.pi * 6.0 / 3  # one atom
    tau = np.array([[[1e-9, 1.01 / spacing, 0.99 / spacing], [0.99 / (2 * np.pi * 0.5), 10.0, 10.0]]])
    gamma = 1 / (4 * np.pi * tau)
    carries = np.array([[False, True, True], [True, True, True]])
    wigner, ioffe_regel = spectra.beyond_limits(frequencies, gamma, np.array([1, 2]), carries)
    assert 1 / tau[0, 0, 1] > 2 * np.pi  # beyond ω, within the spacing
    np.testing.assert_allclose(wigner, [1 / 8], rtol=1e-12)
    np.testing.assert_allclose(ioffe_regel, [(1 + 2) / 8], rtol=1e-12)
    assert float(spectra.band_spacing(jnp.asarray(frequencies))) == pytest.approx(2.0)
