"""The memory of a mesh is known before any of it is allocated; a κ of zero is said."""

from __future__ import annotations

import dataclasses
import warnings

import ase.build
import numpy as np
import pytest

from wigner_jax._solve import make_plan
from wigner_jax.checks import say_if_nothing_carries
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.plan import memory
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.types import Conductivity, Phonons

SILICON = supercells_from_atoms(ase.build.bulk("Si", "diamond", a=5.43), (1, 1, 1), (1, 1, 1))


def test_a_mesh_beyond_the_machine_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"a mesh of 400×400×400 points needs about [\d,]+ GB for a cell of 2 atoms"):
        make_plan(SILICON, (400, 400, 400))
    needed = memory.bytes_of_mesh(SILICON.crystal, (6, 6, 6))
    monkeypatch.setattr(memory, "physical_memory", lambda: needed - 1)
    with pytest.raises(InputError, match="take a coarser mesh"):
        make_plan(SILICON, (6, 6, 6))
    monkeypatch.setattr(memory, "physical_memory", lambda: needed)
    make_plan(SILICON, (6, 6, 6))


def test_the_estimate_is_below_what_plans_and_modes_hold() -> None:
    dims = (12, 12, 12)
    plan = make_plan(SILICON, dims)
    held = 4 * sum(np.asarray(b.weights).size for b in plan.triplets)
    held += (16 + 32 + 24) * 36 * 12**3
    assert 0.3 * held < memory.bytes_of_mesh(SILICON.crystal, dims) < 10 * held
    assert memory.bytes_of_mesh(SILICON.crystal, (24, 24, 24)) > 8 * memory.bytes_of_mesh(SILICON.crystal, dims)
    assert memory.physical_memory() > 1e8


def test_meshes_that_are_none() -> None:
    for dims in ((0, 2, 2), (2, 2), (2.5, 2, 2), (np.nan, 2, 2)):
        with pytest.raises(InputError, match="three positive integers"):
            make_mesh(SILICON.crystal, dims)


@pytest.mark.parametrize(
    ("velocity", "capacity", "says"),
    [(0.0, 1e-4, "neighbouring cells do not interact"), (10.0, 1e-20, "no mode of the mesh is excited")],
)
def test_a_conductivity_of_zero_is_said(velocity: float, capacity: float, says: str) -> None:
    operator = np.full((1, 2, 2, 3), velocity, complex)
    waves = Phonons(np.ones((1, 2)), np.eye(2)[None], operator)
    zero = np.zeros((2, 6))
    found = Conductivity(
        np.array([10.0, 300.0]),
        zero,
        zero,
        np.zeros((2, 1, 2, 6)),
        np.zeros((2, 1, 2, 2, 6)),
        np.full((2, 1, 2), capacity),
    )
    with pytest.warns(AccuracyWarning, match=rf"κ is zero at 10, 300 K: .*{says}"):
        say_if_nothing_carries(found, waves)
    with pytest.warns(AccuracyWarning, match=r"κ is zero at 10 K"):
        say_if_nothing_carries(dataclasses.replace(found, kappa_P=np.array([zero[0], zero[0] + 1e-6])), waves)
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        say_if_nothing_carries(dataclasses.replace(found, kappa_P=zero + 1e-6), waves)
