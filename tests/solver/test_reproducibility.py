"""κ is the same whatever the eigenvectors inside degenerate sets, run after run, and on any number of devices."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
from ase.build import bulk
from scipy.stats import unitary_group
from solved_problems import analytic

from wigner_jax._solve import linewidths, make_plan, phonons, solve
from wigner_jax.crystal.elements import natural_isotopes
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from wigner_jax.physics.broadening.tetrahedron import Tetrahedron
from wigner_jax.physics.conductivity import conductivity
from wigner_jax.physics.degeneracy import same_degenerate_set
from wigner_jax.types import Scattering

MESH, TEMPERATURE = (4, 4, 4), np.array([300.0])
SCATTERING_METHODS = {
    "gaussian": lambda plan, fc: Gaussian(0.3),
    "adaptive": lambda plan, fc: AdaptiveGaussian(),
    "tetrahedron": lambda plan, fc: Tetrahedron.for_plan(plan).with_capacity(plan, fc, margin=0.5),
}


@pytest.fixture(scope="module")
def silicon():
    supercells, fc = analytic(bulk("Si", a=5.432), (3, 3, 3), (2, 2, 2))
    return make_plan(supercells, MESH), fc


def other_eigenvectors(waves, plan, seed):
    """The same phonons with random unitary combinations of the modes inside every degenerate set."""
    rng = np.random.default_rng(seed)
    same = np.asarray(same_degenerate_set(waves.frequencies))
    turn = np.zeros((*same.shape[:2], same.shape[2]), complex)
    for U, sets in zip(turn, same, strict=True):
        for first in np.unique(sets.argmax(axis=0)):
            members = np.flatnonzero(sets[first])
            U[np.ix_(members, members)] = unitary_group.rvs(len(members), random_state=rng) if len(members) > 1 else 1
    turned = turn[np.asarray(plan.mesh.irreducible)]
    velocity = np.einsum("pst,psuc,puv->ptvc", turned.conj(), waves.velocity_operator, turned)
    return dataclasses.replace(waves, eigenvectors=np.asarray(waves.eigenvectors) @ turn, velocity_operator=velocity)


@pytest.mark.parametrize("method", SCATTERING_METHODS)
def test_eigenvectors_inside_degenerate_sets_are_a_free_choice(silicon, method):
    """Linewidths of every mode, by isotopes and boundaries too, and κ_P and κ_C each."""
    plan, fc = silicon
    broadening = SCATTERING_METHODS[method](plan, fc)
    scattering = Scattering(natural_isotopes(plan.crystal), 1.0)
    waves = phonons(plan, fc.fc2)
    choices = [waves, *(other_eigenvectors(waves, plan, seed) for seed in (0, 1))]
    assert np.abs(choices[1].eigenvectors - waves.eigenvectors).max() > 0.1
    widths, tensors = [], []
    for choice in choices:
        gamma = linewidths(plan, fc, choice, TEMPERATURE, broadening=broadening, scattering=scattering)
        assert not gamma.overflow
        found = conductivity(choice, gamma.total, plan.mesh, plan.crystal, TEMPERATURE)
        widths.append([np.asarray(x) for x in (gamma.three_phonon, gamma.isotope, gamma.boundary)])
        tensors.append(np.stack([found.kappa_P[0], found.kappa_C[0]]))
    for other in widths[1:]:
        for a, b in zip(other, widths[0], strict=True):
            assert b.max() > 0
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-9 * b.max())
    for other in tensors[1:]:
        np.testing.assert_allclose(other, tensors[0], rtol=0, atol=1e-9 * tensors[0].max())


def test_the_same_run_again_has_the_same_bits(silicon):
    plan, fc = silicon
    first, second = (np.asarray(solve(plan, fc, (300.0,)).conductivity.kappa_TOT) for _ in range(2))
    np.testing.assert_array_equal(first, second)


PROGRAM = """
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", {devices})
from ase.build import bulk
from solved_problems import analytic
from wigner_jax._solve import make_plan, solve
supercells, fc = analytic(bulk("Si", a=5.432), (2, 2, 2), (2, 2, 2))
assert jax.device_count() == {devices}
print(repr(float(solve(make_plan(supercells, (4, 4, 4)), fc, (300.0,)).conductivity.kappa_TOT[0, 0])))
"""


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same(request):
    """One and three CPU devices: q-points are dealt out unevenly."""
    found = []
    for devices in (1, 3):
        variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
        variables["JAX_COMPILATION_CACHE_DIR"] = str(request.config.cache.mkdir("jax"))
        command = [sys.executable, "-c", PROGRAM.format(devices=devices)]
        done = subprocess.run(command, capture_output=True, text=True, env=variables)
        assert done.returncode == 0, done.stderr[-2000:]
        found.append(float(done.stdout.split()[-1]))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
