"""Committees, and the linearised error of κ against the spread of many members."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import wigner_jax as wj
from wigner_jax.errors import InputError
from wigner_jax.evaluation.committee import committee, linear_error

OPTIONS = {
    "mesh": (3, 3, 3), "fc2_supercell": (1, 1, 1), "fc3_supercell": (1, 1, 1), "relax": False,
    "broadening": wj.AdaptiveGaussian(),
}  # fmt: skip
DEPTHS = ("A", "B")  # of the Tersoff potential: no distance depends on them


def members(potential, count, size, seed=0):
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        params = dict(potential.params)
        for name in DEPTHS:
            params[name] = params[name] * (1 + size * random.normal(size=np.shape(params[name])))
        found.append(params)
    return found


@pytest.fixture(scope="module")
def several():
    potential = wj.load_potential("tersoff-1988-si")
    sets = members(potential, 24, 2e-4)
    return potential, sets, committee("Si", [potential.with_params(p) for p in sets], **OPTIONS)


def test_means_and_spreads(several):
    potential, sets, found = several
    alone = wj.conductivity("Si", potential.with_params(sets[3]), **OPTIONS)
    np.testing.assert_allclose(found.kappa[3], alone.conductivity.kappa_TOT, rtol=1e-12)
    for name in ("kappa", "frequencies", "linewidths"):
        mean, spread = found.mean_and_spread(name)
        values = np.stack(getattr(found, name))
        np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(spread, np.sqrt(((values - mean) ** 2).sum(axis=0) / 23), rtol=1e-9, atol=1e-300)
    assert "24 members" in repr(found)
    bands, spread = found.mean_and_spread("bands")
    assert bands.shape == spread.shape == (240, 6)


@pytest.mark.parametrize(
    "broadening", [pytest.param(OPTIONS["broadening"], marks=pytest.mark.slow), None], ids=["adaptive", "tetrahedra"]
)
def test_side_by_side(several, broadening):
    """The same solutions, whatever the broadening; a member that outgrows the first's lists is solved alone."""
    potential, sets, _ = several
    wild = {k: v * (1.3 if k == "B" else 1.0) for k, v in sets[0].items()}
    models = [potential.with_params(p) for p in (*sets[:2], wild)]
    options = OPTIONS | {"broadening": broadening, "temperatures": (200.0, 300.0), "allow_imaginary": True}
    together, alone = (committee("Si", models, side_by_side=way, **options) for way in (True, False))
    assert isinstance(together.solutions[0].broadening, type(alone.solutions[0].broadening))
    for name in ("kappa", "frequencies", "linewidths"):
        a, b = (np.stack(getattr(x, name)) for x in (together, alone))
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-6 if name == "frequencies" else 1e-9)
    assert together.solutions[0].report.model == alone.solutions[0].report.model
    lines = [x.solutions[0].diagnostics().lines() for x in (together, alone)]
    assert [*lines[0][:1], *lines[0][2:]] == [*lines[1][:1], *lines[1][2:]]  # residuals are rounding


def test_beyond_the_relaxation_time_approximation(several):
    potential, sets, _ = several
    found = committee("Si", [potential.with_params(p) for p in sets[:2]], transport="lbte", **OPTIONS)
    np.testing.assert_array_equal(found.kappa, [s.kappa for s in found.solutions])
    assert np.abs(found.kappa / [s.conductivity.kappa_TOT for s in found.solutions] - 1)[:, 0, 0].min() > 1e-3


def test_what_cannot_be_side_by_side(several):
    potential, sets, _ = several
    models = [potential.with_params(p) for p in sets[:2]]
    for changed, others in (
        ({"relax": True}, models), ({"derivatives": "finite-displacement"}, models),
        ({}, [models[0], wj.load_potential("stillinger-weber-si")]), ({"processes": 1}, models),
        ({}, [models[0], dataclasses.replace(models[1], cutoff=1.1 * potential.cutoff)]),
    ):  # fmt: skip
        with pytest.raises(InputError, match="cannot be computed side by side"):
            committee("Si", others, side_by_side=True, **OPTIONS | changed)


def test_the_linearised_error_is_the_spread(several):
    """Members so near to each other that κ is linear in between."""
    potential, sets, found = several
    cells = found.solutions[0].plan.supercells
    plan = wj.make_plan(cells, OPTIONS["mesh"])
    constants = wj.force_constants_fn(cells, potential)

    def kappa(params):
        return wj.kappa(plan, constants(params), (300.0,), broadening=OPTIONS["broadening"]).kappa_TOT[0, 0]

    mean = jax.tree.map(lambda *x: jnp.mean(jnp.stack(x), axis=0), *sets)
    gradient = jax.grad(kappa)(mean)
    spread = found.mean_and_spread()[1][0, 0]
    assert spread > 1e-3 * found.kappa.mean()
    by_members = float(linear_error(gradient, sets))
    np.testing.assert_allclose(by_members, spread, rtol=0.02)
    # the same by the matrix of the members
    rows = np.stack([np.asarray(ravel_pytree(p)[0]) for p in sets])
    np.testing.assert_allclose(linear_error(gradient, np.cov(rows.T)), by_members, rtol=1e-6)
    # and without correlations by variances
    variances = jax.tree.map(lambda g: 1e-8 * jnp.ones_like(g), gradient)
    flat = ravel_pytree(gradient)[0]
    np.testing.assert_allclose(linear_error(gradient, variances), 1e-4 * np.linalg.norm(flat), rtol=1e-12)


def test_bad_committees(several):
    potential, sets, _ = several
    with pytest.raises(InputError, match="a committee of 1"):
        committee("Si", [potential], **OPTIONS)
    with pytest.raises(InputError, match="2 names for 3"):
        committee("Si", [potential] * 3, names=["a", "b"], **OPTIONS)
    broken = potential.with_params({**potential.params, "B": potential.params["B"] * 0.0})
    with pytest.raises(InputError, match="member bad: "):
        committee("Si", [potential, broken], names=["good", "bad"], **OPTIONS)
    gradient = dict(potential.params)
    for covariance in (sets[:1], np.eye(2), None, "x", jax.tree.map(lambda x: -jnp.ones_like(x), gradient)):
        with pytest.raises(InputError):
            linear_error(gradient, covariance)
