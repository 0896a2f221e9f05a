"""Crystals of one shape share every compiled program: relaxation, force constants, phonons, linewidths, κ."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from ase.build import bulk

import wigner_jax as wj
from wigner_jax._core.programs import forget_programs
from wigner_jax.physics.broadening.capacity import SHARED, rounded_capacity
from wigner_jax.potentials.neighbor_list import padded_size, shared_size

COMPILED: list[float] = []


def heard(event: str, duration_secs: float, **_: object) -> None:
    if event.endswith("backend_compile_duration"):
        COMPILED.append(duration_secs)


@pytest.fixture
def listening():
    """Nothing comes from disk, so that what is compiled is what has not been compiled by this process."""
    jax.monitoring.register_event_duration_secs_listener(heard)
    jax.config.update("jax_enable_compilation_cache", False)
    forget_programs()
    yield
    jax.config.update("jax_enable_compilation_cache", True)
    jax.monitoring.unregister_event_duration_listener(heard)


def compiled_for(name: str, a: float, potential: wj.Potential) -> int:
    """Programs that JAX compiled for a rocksalt."""
    before = len(COMPILED)
    atoms = bulk(name, "rocksalt", a=a)
    wj.conductivity(
        atoms, potential, mesh=(3, 3, 3), fc2_supercell=(3, 3, 3), fc3_supercell=(2, 2, 2), allow_imaginary=True
    )
    return len(COMPILED) - before


def test_a_second_rocksalt_compiles_nothing(listening):
    potential = wj.load_potential("mace-bundled")
    assert compiled_for("NaCl", 5.69, potential) > 5
    # 32, 56, 46, 40 neighbours of an atom
    found = {name: compiled_for(name, a, potential) for name, a in (("LiCl", 5.1), ("MgO", 4.22), ("CaO", 4.8))}
    assert found == {"LiCl": 0, "MgO": 0, "CaO": 0}


def test_lengths_of_lists():
    mace, tersoff = wj.load_potential("mace-bundled"), wj.load_potential("tersoff-1989")
    assert {shared_size(n * 64, 64, mace) for n in range(25, 97)} == {96 * 64}
    assert shared_size(24 * 64, 64, mace) == 24 * 64
    assert all(shared_size(n, 64, mace) >= n for n in range(1, 40000, 37))
    assert [shared_size(n, 8, tersoff) for n in (5, 33, 130)] == [padded_size(n) for n in (5, 33, 130)]
    for need in (1, 4096, 5000, 20000, 32000, 100_000):
        fine, coarse = (rounded_capacity((need, 71, need), 0.35, steps) for steps in (1, SHARED))
        assert 1.35 * need <= fine[0] <= coarse[0] <= max(4096, 4 * 1.35 * need)
        assert fine[1] == coarse[1] == 96  # capacity for degenerate triplets is work
    assert {rounded_capacity((n, 71, 9000), 0.35, SHARED)[0] for n in (15535, 32260)} == {65536}


def test_edges_of_padding_change_nothing():
    """And chunks without an edge are skipped, whatever the derivative."""
    from wigner_jax.ifc.evaluations import evaluate
    from wigner_jax.potentials.neighbor_list import build_graph

    potential = wj.load_potential("mace-bundled")
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.05, seed=2)
    graph, _ = build_graph(atoms, potential)
    patterns = np.random.default_rng(0).normal(size=(1, 1, 8, 3))
    for order in (2, 3):
        plain, padded = (
            jax.jit(evaluate, static_argnums=(0, 4))(potential.energy, potential.params, g, patterns, order)
            for g in (graph, graph.padded(8 * 384, 0))
        )
        np.testing.assert_allclose(padded, plain, rtol=0, atol=1e-12 * np.abs(plain).max())
