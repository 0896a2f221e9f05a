"""The smallest change of weights that fits a few frames: rows of J, the minimum, the choice of the strength, bad input."""

from __future__ import annotations

import dataclasses
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from jax.flatten_util import ravel_pytree

from wigner_jax.errors import InputError
from wigner_jax.potentials.base import Potential
from wigner_jax.training.few_frames.minimum_norm import STRENGTHS, minimum_norm_update, residual, tangent
from wigner_jax.training.frames import Frame, frame_loss, labelled
from wigner_jax.training.parameters import adapt


@dataclasses.dataclass(frozen=True)
class Bumps:
    """E = Σ_e Σ_k w_k g_k(r_e), g_k = (1 - r²/25)³ cos(k r); with `squared` w_k + w_k²: linear in w, or not."""

    squared: bool = False

    def __call__(self, params, graph):
        w = params["w"] + params["w"] ** 2 if self.squared else params["w"]
        r = jnp.sqrt(jnp.sum(graph.vectors() ** 2, axis=-1))
        near = jnp.where(graph.edge_mask, (1 - (r / 5.0) ** 2) ** 3, 0.0)
        waves = jnp.cos(r[:, None] * jnp.arange(1, 1 + len(w)))
        return jnp.sum(near[:, None] * waves * w) + jnp.sum(params["e0"][graph.species])


def potential(count: int = 40, squared: bool = False, seed: int = 0) -> Potential:
    params = {"w": 0.1 * np.random.default_rng(seed).standard_normal(count), "e0": np.array([-1.0, -2.0])}
    return Potential(params, Bumps(squared), "bumps", (11, 17), 5.0)


def structures(count: int, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(count):
        atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + 0.02 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += 0.05 * rng.standard_normal((8, 3))
        result.append(atoms)
    return result


def frames(teacher: Potential, count: int, weights=(1.0, 1.0, 1.0), seed: int = 0) -> list[Frame]:
    return labelled(structures(count, seed), teacher, weights=weights)


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (0.0, 2.0, 0.0), (0.5, 0.0, 3.0)])
def test_residual_squared_is_the_loss_and_tangent_its_slope(weights):
    student, teacher = potential(squared=True), potential(squared=True, seed=1)
    energy, trained, frozen = adapt(student, ["w"])
    (frame,) = frames(teacher, 1, weights)
    r = residual(energy, trained, frozen, frame)
    assert len(r) == (weights[0] > 0) + 24 * (weights[1] > 0) + 9 * (weights[2] > 0)
    np.testing.assert_allclose(r @ r, frame_loss(energy, trained, frozen, frame), rtol=1e-12)
    J = np.asarray(tangent(energy, trained, frozen, frame, chunk=7))
    flat, unflatten = ravel_pytree(trained)
    direction = np.random.default_rng(2).standard_normal(flat.size)
    ends = [residual(energy, unflatten(flat + h * direction), frozen, frame) for h in (1e-5, -1e-5)]
    difference = (ends[0] - ends[1]) / 2e-5
    np.testing.assert_allclose(-J @ direction, difference, atol=1e-8 * np.abs(difference).max())


def test_linear_potential_gives_ridge_regression():
    """The minimum of Σ r² + μ |θ - θ0|² in closed form, with the normal equations of the weights."""
    student, teacher = potential(), potential(seed=1)
    given = frames(teacher, 3)
    found = minimum_norm_update(student.energy, student.params, None, given, strength=1e-4)
    assert found.converged
    assert found.strength == 1e-4
    assert found.left_out == {}
    flat, _ = ravel_pytree(student.params)
    J = np.concatenate([np.asarray(tangent(student.energy, student.params, None, f)) for f in given])
    r = np.concatenate([residual(student.energy, student.params, None, f) for f in given])
    mu = 1e-4 * np.trace(J @ J.T) / len(J)
    change = np.linalg.solve(J.T @ J + mu * np.eye(flat.size), J.T @ r)
    reached = np.asarray(ravel_pytree(found.trained)[0] - flat)
    np.testing.assert_allclose(reached, change, atol=1e-8 * np.abs(change).max())
    np.testing.assert_allclose(found.losses[-1], np.sum((r - J @ change) ** 2), rtol=1e-6)
    np.testing.assert_allclose(found.change, np.linalg.norm(change) / np.linalg.norm(flat), rtol=1e-8)


def test_strength_is_that_of_the_best_predictions_of_frames_left_out():
    """Every frame left out in turn, by really fitting the others: of a linear potential the errors are exact."""
    student, teacher = potential(), potential(seed=1)
    given = frames(teacher, 3, (0.0, 1.0, 0.0))
    rng = np.random.default_rng(5)
    given = [dataclasses.replace(f, forces=f.forces + 0.01 * rng.standard_normal(f.forces.shape)) for f in given]
    found = minimum_norm_update(student.energy, student.params, None, given)
    assert set(found.left_out) == set(STRENGTHS)
    assert found.strength == min(found.left_out, key=found.left_out.get)
    assert found.left_out[found.strength] < 0.9 * found.left_out[STRENGTHS[0]]
    # μ is in units of all frames' mean; that of the others differs
    J = [np.asarray(tangent(student.energy, student.params, None, f)) for f in given]
    mean = np.mean(np.sum(np.concatenate(J) ** 2, axis=1))
    total = 0.0
    for k, frame in enumerate(given):
        others = [f for i, f in enumerate(given) if i != k]
        theirs = np.mean(np.sum(np.concatenate([x for i, x in enumerate(J) if i != k]) ** 2, axis=1))
        fit = minimum_norm_update(student.energy, student.params, None, others, strength=found.strength * mean / theirs)
        total += float(np.sum(residual(student.energy, fit.trained, None, frame) ** 2))
    np.testing.assert_allclose(found.left_out[found.strength], total, rtol=1e-6)


def test_nonlinear_potential_converges_to_the_stationary_point():
    """r = μ α at the end, the loss falls at every step, and untrained weights stay."""
    student = potential(squared=True)
    other = student.params["w"] + 0.02 * np.random.default_rng(3).standard_normal(40)
    energy, trained, frozen = adapt(student, ["w"])
    given, lines = frames(student.with_params({**student.params, "w": other}), 2), []
    found = minimum_norm_update(
        energy, trained, frozen, given, strength=1e-5, tolerance=1e-8, steps=30, report=lines.append
    )
    assert found.converged
    assert found.losses[-1] < 1e-3 * found.losses[0]
    J = np.concatenate([np.asarray(tangent(energy, trained, frozen, f)) for f in given])
    change = np.asarray(found.trained["w"] - trained["w"])
    r = np.concatenate([residual(energy, found.trained, frozen, f) for f in given])
    mu = 1e-5 * np.trace(J @ J.T) / len(J)
    alpha = np.linalg.lstsq(J.T, change, rcond=None)[0]
    np.testing.assert_allclose(J.T @ alpha, change, atol=1e-9)  # in the span of the rows
    np.testing.assert_allclose(J @ (J.T @ r), mu * J @ change, atol=1e-5 * np.abs(J @ (J.T @ r)).max())
    assert len(lines) == 2 + 1 + len(found.losses) - 1
    assert np.all(np.diff(found.losses) < 0)


def test_known_tangents_are_not_computed_again(monkeypatch):
    student, teacher = potential(), potential(seed=1)
    given = frames(teacher, 2)
    known = [tangent(student.energy, student.params, None, f) for f in given]
    fresh = minimum_norm_update(student.energy, student.params, None, given)
    monkeypatch.setattr(sys.modules["wigner_jax.training.few_frames.minimum_norm"], "tangent", None)
    again = minimum_norm_update(student.energy, student.params, None, given, tangents=known)
    assert again.strength == fresh.strength
    np.testing.assert_array_equal(again.trained["w"], fresh.trained["w"])


def test_bad_input_is_one_clear_line():
    student = potential()
    given = frames(potential(seed=1), 2)
    call = lambda *args, **options: minimum_norm_update(student.energy, student.params, None, *args, **options)  # noqa: E731
    with pytest.raises(InputError, match="at least one frame"):
        call([])
    with pytest.raises(InputError, match="give two frames at least, or the strength"):
        call(given[:1])
    with pytest.raises(InputError, match="strength must be above 0, got 0"):
        call(given, strength=0)
    with pytest.raises(InputError, match="nothing to fit"):
        call(frames(potential(seed=1), 2, (0.0, 0.0, 0.0)))
    broken = dataclasses.replace(given[0], energy=np.array(np.nan))
    with pytest.raises(InputError, match="not finite"):
        call([broken, given[1]])
    energy, trained, frozen = adapt(student, ["e0"])
    with pytest.raises(InputError, match="do not depend on the trained weights"):
        minimum_norm_update(energy, trained, frozen, frames(potential(seed=1), 2, (0.0, 1.0, 0.0)))
