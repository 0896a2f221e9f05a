"""Losses: zero at the target, the benchmark's definitions as limits, gradients, and never NaN."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wigner_jax import metrics
from wigner_jax.training import losses

RNG = np.random.default_rng(0)
K = jnp.asarray(RNG.uniform(0.1, 2.0, (2, 5, 6)))
W = jnp.asarray(RNG.integers(1, 9, 5))
OTHER = K * jnp.asarray(RNG.uniform(0.5, 2.0, K.shape))
E3 = jnp.asarray(RNG.normal(size=(4, 3)))

CASES = {  # function of the prediction, its target
    "log": (lambda x: losses.log_loss(x, K), K, OTHER),
    "relative": (lambda x: losses.relative_loss(x, K), K, OTHER),
    "tensor": (lambda x: losses.tensor_loss(x, K[0]), K[0], OTHER[0]),
    "experiment": (lambda x: losses.experiment_loss(x, K, 0.1 * K), K, OTHER),
    "sre": (lambda x: losses.smooth_sre(x, K), K, OTHER),
    "srme": (lambda x: losses.smooth_srme(x, K, W), K, OTHER),
    "frequencies": (lambda x: losses.frequency_loss(x, K[0], W), K[0], OTHER[0]),
    "linewidths": (lambda x: losses.linewidth_loss(x, K, W), K, OTHER),
    "heat capacity": (lambda x: losses.heat_capacity_loss(x, K, W), K, OTHER),
    "gruneisen": (lambda x: losses.gruneisen_loss(x, K[0] - 1), K[0] - 1, OTHER[0]),
    "energy": (lambda x: losses.energy_loss(x, 2.0, 4), jnp.asarray(2.0), jnp.asarray(2.5)),
    "forces": (lambda x: losses.force_loss(x, E3), E3, 1.1 * E3),
    "stress": (lambda x: losses.stress_loss(x, E3[:3]), E3[:3], 1.1 * E3[:3]),
    "hessian": (lambda x: losses.hessian_column_loss(x, E3), E3, 1.1 * E3),
}


@pytest.mark.parametrize("name", CASES)
def test_zero_at_the_target_and_stationary_there(name):
    loss, target, other = CASES[name]
    value, slope = jax.value_and_grad(loss)(target)
    assert abs(float(value)) < 1e-14
    assert np.abs(slope).max() < 1e-12
    assert loss(other) > 1e-4


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    loss, _, other = CASES[name]
    direction = jnp.asarray(np.random.default_rng(1).normal(size=other.shape))
    slope = jnp.vdot(jax.grad(loss)(other), direction)
    h = 1e-6
    np.testing.assert_allclose(slope, (loss(other + h * direction) - loss(other - h * direction)) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("name", ["log", "relative", "sre", "srme", "linewidths", "experiment"])
def test_finite_for_zero_and_negative_predictions(name):
    loss, target, _ = CASES[name]
    for x in (jnp.zeros_like(target), -target, 1e-300 * target):
        value, slope = jax.value_and_grad(loss)(x)
        assert np.isfinite(value)
        assert np.isfinite(slope).all()
        assert value > 0.1


def test_smooth_forms_become_the_benchmarks():
    kappa = jnp.sum(OTHER, axis=(-2, -1)) / jnp.sum(W)
    exact = jnp.mean(metrics.srme(OTHER, K, W))
    np.testing.assert_allclose(losses.smooth_srme(OTHER, K, W, 0.0), exact, rtol=1e-14)
    np.testing.assert_allclose(losses.smooth_sre(kappa, 1.1, 0.0), jnp.mean(metrics.sre(kappa, 1.1)), rtol=1e-14)
    errors = [float(abs(losses.smooth_srme(OTHER, K, W, e) - exact)) for e in (0.1, 0.01, 0.001)]
    assert errors[0] > errors[1] > errors[2]
    # the gradient of the exact form is finite at its kink, too
    assert np.isfinite(jax.grad(lambda x: losses.smooth_srme(x, K, W, 0.0))(K)).all()


def test_forms_by_hand():
    assert losses.log_loss(2.0, 1.0) == pytest.approx(np.log(2) ** 2)
    assert losses.relative_loss(jnp.array([2.0, 1.0]), 1.0) == pytest.approx(0.5)
    assert losses.experiment_loss(jnp.array([3.0]), jnp.array([2.0]), jnp.array([0.5])) == pytest.approx(4.0)
    assert losses.energy_loss(1.0, 0.9, 10, 0.01) == pytest.approx(1.0)
    assert losses.tensor_loss(jnp.array([[1.0, 1, 1, 1, 0, 0]]), jnp.array([[1.0, 1, 1, 0, 0, 0]])) == pytest.approx(
        2 / 3
    )
    gamma = jnp.array([[0.0, 2.0]])
    assert losses.linewidth_loss(gamma, jnp.array([[0.0, 1.0]])) == pytest.approx(np.log(2) ** 2)


def test_imaginary_modes_are_pushed_up():
    """The penalty is linear in the eigenvalues, zero without imaginary modes, and its gradient raises the frequency."""
    f = jnp.array([[-2.0, -1.0, 0.0, 1.0]])
    value, slope = jax.value_and_grad(losses.imaginary_penalty)(f)
    assert value == pytest.approx((4 + 1) / 4)
    np.testing.assert_allclose(slope, [[-1.0, -0.5, 0.0, 0.0]])
    assert losses.imaginary_penalty(jnp.abs(f)) == 0
    assert losses.imaginary_penalty(jnp.array([[0.5]]), floor=1.0) == pytest.approx(0.75)
