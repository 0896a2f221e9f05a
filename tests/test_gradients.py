"""Derivatives of the conductivity and of every linewidth, jvp and vjp, against central differences.

All directions keep the crystal's symmetry: along others a degenerate mode has no derivative of its own.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from reference import load
from support import analytic, contract, richardson, stepped, symmetric_direction

from wigner_jax.physics.conductivity import kappa_tensors
from wigner_jax.physics.nac import GonzeLee
from wigner_jax.plan.nac import dipole_plan
from wigner_jax.solve import (
    AdaptiveGaussian,
    Gaussian,
    Scattering,
    kappa,
    linewidths,
    make_plan,
    natural_isotopes,
    phonons,
    reserve,
    tetrahedron,
)

tensors = jax.jit(kappa_tensors)
TEMPERATURES = jnp.array([100.0, 300.0])
SMOOTH = {"gaussian": Gaussian(0.3), "adaptive": AdaptiveGaussian()}


@functools.cache
def wurtzite():
    return analytic(bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (3, 3, 2), (2, 2, 1))


def material(name: str, request):
    """cells, force constants"""
    if name == "wurtzite":
        return wurtzite()
    data = load(request.getfixturevalue("shared"), name)
    return data.cells, jax.tree.map(jnp.asarray, data.constants)


def everything(plan, fc, broadening, scattering, nac=None):
    """κ_TOT at every temperature, and the three kinds of linewidth of every irreducible mode."""
    waves = phonons(plan, fc.second, nac)
    gamma = linewidths(plan, fc, waves, TEMPERATURES, broadening, scattering, nac)
    parts = tensors(waves, gamma.total, plan.mesh, plan.crystal, TEMPERATURES)
    return {
        "kappa": parts[0] + parts[1],
        "three_phonon": gamma.three_phonon,
        "isotope": gamma.isotope,
        "boundary": gamma.boundary,
    }


def scattering_of(plan) -> Scattering:
    return Scattering(jnp.asarray(natural_isotopes(plan.crystal)), jnp.asarray(1.0))


def check(function, x, direction, h: float, tolerance: float):
    """jvp against differences, each output relative to its largest value; vjp as the transpose of jvp."""
    value, tangent = jax.jvp(function, (x,), (direction,))
    numeric = {}
    values = {k: function(stepped(x, direction, k * h)) for k in (-2, -1, 1, 2)}
    for name in value:
        f = {k: v[name] for k, v in values.items()}
        numeric[name] = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
        scale = np.abs(numeric[name]).max()
        print(f"  {name}: {np.abs(tangent[name] - numeric[name]).max() / max(scale, 1e-300):.1e}")
        np.testing.assert_allclose(tangent[name], numeric[name], rtol=0, atol=tolerance * scale, err_msg=name)
    rng = np.random.default_rng(0)
    weights = jax.tree.map(lambda v: jnp.asarray(rng.normal(size=v.shape)) / jnp.abs(v).max(), value)
    pulled = jax.vjp(function, x)[1](weights)[0]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pulled))
    print("  vjp", contract(pulled, direction) / contract(weights, tangent) - 1)
    np.testing.assert_allclose(contract(pulled, direction), contract(weights, tangent), rtol=1e-9)


# ---------------------------------------------------------------- force constants


@pytest.mark.parametrize(
    ("name", "dims", "broadening"),
    [
        ("Si", (4, 4, 4), "gaussian"),
        ("NaCl", (4, 4, 4), "adaptive"),
        pytest.param("Si", (5, 5, 5), "adaptive", marks=pytest.mark.slow),
        pytest.param("NaCl", (5, 5, 5), "gaussian", marks=pytest.mark.slow),
        pytest.param("wurtzite", (3, 3, 2), "gaussian", marks=pytest.mark.slow),
        pytest.param("wurtzite", (4, 4, 3), "adaptive", marks=pytest.mark.slow),
    ],
)
def test_smooth_broadenings(request, name, dims, broadening):
    """Every mode of Γ, of the zone boundary and in between, along changes of Φ2 and of Φ3, one after the other."""
    cells, fc = material(name, request)
    plan = make_plan(cells, dims)
    function = functools.partial(
        everything, plan, broadening=SMOOTH[broadening], scattering=scattering_of(plan)
    )
    for seed in range(2):
        direction = symmetric_direction(cells, fc, seed)
        zero = jax.tree.map(np.zeros_like, direction)
        parts = [
            dataclasses.replace(zero, second=direction.second),
            dataclasses.replace(zero, third=direction.third),
            direction,
        ]
        for part in parts[seed : 2 + seed]:
            check(function, fc, part, 1e-4, 1e-6)
