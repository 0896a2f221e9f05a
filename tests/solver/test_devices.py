"""Any number of devices gives the same, and a device whose memory is too small gets smaller pieces."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from solved_problems import problem

import wigner_jax as wj
from wigner_jax import _solve
from wigner_jax._core.tiling import ACCELERATOR, CPU, tiling_for
from wigner_jax.errors import MemoryWarning
from wigner_jax.ifc.evaluations import ATOM_BYTES, DEVICE_BYTES, devices_for

PROGRAM = """
import json
import jax
jax.config.update("jax_enable_x64", True)
from ase.build import bulk
import wigner_jax as wj
found = {"devices": jax.device_count()}
silicon = dict(fc2_supercell=(2, 2, 2), fc3_supercell=(1, 1, 1), mesh=(4, 4, 4), relax=False)
for name, atoms, model in (
    ("mace-bundled", wj.prototype("Si"), "mace-bundled"),
    ("tersoff", bulk("SiC", "zincblende", a=4.36, cubic=True), "tersoff-1989"),
):
    solution = wj.conductivity(atoms, model, allow_imaginary=True, **silicon)
    found[name] = {
        "evaluations": solution.report.force_constants.evaluations,
        "fc2": solution.force_constants.fc2.ravel().tolist(),
        "fc3": solution.force_constants.fc3.ravel()[::7].tolist(),
        "kappa": solution.conductivity.kappa_TOT.ravel().tolist(),
    }
print(json.dumps(found))
"""


def run_on(devices: int, cache: str) -> dict:
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"}
    variables["JAX_COMPILATION_CACHE_DIR"] = cache
    variables["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_four_devices_are_as_good_as_one(request):
    """Patterns and q-points are dealt out, unevenly: evaluations and points are no multiples of four."""
    one, four = (run_on(n, str(request.config.cache.mkdir("jax"))) for n in (1, 4))
    assert (one.pop("devices"), four.pop("devices")) == (1, 4)
    for name, found in one.items():
        assert found["evaluations"] == four[name]["evaluations"]
        assert any(n % 4 for n in found["evaluations"])
        for key in ("fc2", "fc3", "kappa"):
            ours = np.array(found[key])
            np.testing.assert_allclose(four[name][key], ours, rtol=0, atol=1e-11 * np.abs(ours).max())


def test_memory_bounds_the_devices(monkeypatch):
    from wigner_jax.ifc import evaluations

    monkeypatch.setattr(jax, "device_count", lambda: 16)
    one = DEVICE_BYTES + 64 * ATOM_BYTES
    for memory, expected in ((1e15, 16), (float("inf"), 16), (2 * 5 * one, 5), (one, 1)):
        monkeypatch.setattr(evaluations, "physical_memory", lambda memory=memory: memory)
        assert devices_for(40, 64) == expected
    monkeypatch.setattr(evaluations, "physical_memory", lambda: 1e15)
    assert devices_for(3, 64) == 3


class Memory:
    """A device that has room for a number of q-points at a time."""

    def __init__(self, most: int, linewidths_of) -> None:
        self.most, self.linewidths_of, self.asked = most, linewidths_of, []

    def __call__(self, bucket, state, *rest):
        self.asked.append(state.tiling.group)
        if state.tiling.group > self.most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")
        return self.linewidths_of(bucket, state, *rest)


@pytest.mark.parametrize(("most", "groups"), [(16, [16]), (5, [16, 4]), (1, [16, 4, 1])])
def test_out_of_memory(monkeypatch, most, groups):
    plan, material, _, _ = problem("si-tersoff_m5")
    expected = wj.solve(plan, material.constants)
    device = Memory(most, _solve.linewidths_of)
    monkeypatch.setattr(_solve, "linewidths_of", device)
    if len(groups) == 1:
        found = wj.solve(plan, material.constants)
    else:
        with pytest.warns(MemoryWarning, match="out of memory"):
            found = wj.solve(plan, material.constants)
    assert list(dict.fromkeys(device.asked)) == groups
    np.testing.assert_allclose(found.conductivity.kappa_TOT, expected.conductivity.kappa_TOT, rtol=1e-12)


def test_out_of_memory_for_good(monkeypatch):
    plan, material, _, _ = problem("si-tersoff_m5")
    monkeypatch.setattr(_solve, "linewidths_of", Memory(0, _solve.linewidths_of))
    with pytest.warns(MemoryWarning), pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
        wj.solve(plan, material.constants)


def test_other_errors_and_given_pieces_are_not_tried_again(monkeypatch):
    plan, material, _, _ = problem("si-tersoff_m5")
    device = Memory(0, _solve.linewidths_of)
    monkeypatch.setattr(_solve, "linewidths_of", device)
    with pytest.raises(jax.errors.JaxRuntimeError):
        wj.solve(plan, material.constants, tiling=tiling_for())
    assert len(device.asked) == 1

    def broken(*_):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    monkeypatch.setattr(_solve, "linewidths_of", broken)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        wj.solve(plan, material.constants)


@pytest.mark.parametrize("tiling", [CPU, ACCELERATOR])
def test_smaller_pieces_come_to_an_end(tiling):
    steps = [tiling]
    while (smaller := steps[-1].smaller()) is not None:
        steps.append(smaller)
    assert 3 <= len(steps) <= 6
    assert steps[-1].group == 1
