"""How much of a layer is computed at once is told by the graph, and changes nothing but speed."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from ase.build import bulk
from small_models import FAMILIES, MACE

from wigner_jax.potentials.graph import ACCELERATOR_CHUNK
from wigner_jax.potentials.layers import message_passing
from wigner_jax.potentials.mace import interaction, product
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.registry import load_potential


@pytest.fixture(params=["MACE", "Nequix"])
def potential(request, tmp_path):
    if request.param == "MACE":
        return load_potential(MACE)
    write, name, _ = FAMILIES[request.param]
    return load_potential(write(tmp_path / name))


def test_chunks_of_a_cpu_are_those_of_its_cache(potential):
    graph, _ = build_graph(bulk("MgO", "rocksalt", a=4.2), potential)
    assert graph.chunk_bytes == 0  # these tests run on a CPU


@pytest.mark.slow
def test_a_larger_chunk_gives_the_same_numbers_in_fewer_steps(potential, monkeypatch):
    for module in (interaction, product, message_passing):
        monkeypatch.setattr(module, "CACHE", 2**12)
    atoms = bulk("MgO", "rocksalt", a=4.2)
    atoms.rattle(0.05, seed=1)
    small, _ = build_graph(atoms, potential)
    large = dataclasses.replace(small, chunk_bytes=ACCELERATOR_CHUNK)

    def slopes(graph):
        return jax.value_and_grad(lambda x: potential.energy(potential.params, graph.at(x)))(graph.positions)

    loops = [str(jax.make_jaxpr(slopes)(graph)).count("scan[") for graph in (small, large)]
    assert loops[0] > loops[1]
    for a, b in zip(*(jax.tree.leaves(slopes(graph)) for graph in (small, large)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_it_keys_compilation(potential):
    graph, _ = build_graph(bulk("MgO", "rocksalt", a=4.2), potential)
    traced = []

    @jax.jit
    def count(graph):
        traced.append(graph.chunk_bytes)
        return graph.positions.sum()

    for chunk in (0, ACCELERATOR_CHUNK, 0):
        count(dataclasses.replace(graph, chunk_bytes=chunk))
    assert traced == [0, ACCELERATOR_CHUNK]
