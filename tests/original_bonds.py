"""What the tests of CHGNet and M3GNet share: numbers of the originals, graphs of one shape, small models."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import original_programs as zoo
from ase import Atoms
from ase.build import bulk

FOLDER = Path(__file__).parent / "data/bond_reference"
SLOTS = 24  # short bonds of every atom
LARGE = "Mg4O4"  # in the references in addition to the structures of the other models


def large():
    atoms = bulk("MgO", "rocksalt", a=4.27, cubic=True)
    atoms.rattle(0.06, seed=4)
    return atoms


def graph_for(atoms, potential, edges: int = zoo.EDGES, slots: int = SLOTS):
    """The graph with more padding, of edges and of bonds: few shapes, so few compilations."""
    graph = zoo.graph_for(atoms, potential, edges)
    if graph.bonds is None:
        return graph
    K = graph.bonds.mask.shape[1]
    assert slots >= K
    room = ((0, 0), (0, slots - K))
    reverse = graph.bonds.reverse // K * slots + graph.bonds.reverse % K
    bonds = dataclasses.replace(
        graph.bonds,
        edges=np.pad(graph.bonds.edges, room),
        reverse=np.pad(reverse, room),
        mask=np.pad(graph.bonds.mask, room),
    )
    return dataclasses.replace(graph, bonds=bonds)


def special_places(potential) -> list:
    """Graphs of one shape: pairs out of reach, along an axis and in one place, and a crystal with straight angles."""
    ends = [[9, 9, 9], [0, 0, 1.9]]
    frames = [Atoms("O2", positions=[[0, 0, 0], end], cell=[18, 18, 18], pbc=True) for end in ends]
    graphs = [graph_for(atoms, potential, 96) for atoms in [*frames, bulk("MgO", "rocksalt", a=4.21)]]
    return [*graphs, graphs[1].at(np.zeros((2, 3)))]


def compare_with_original(name: str, potential, labels, without_stress: tuple[str, ...] = ()) -> None:
    """A hundred times closer than asked of every port: 1e-8 relative, 1e-7 eV/Å and 1e-7 eV/Å³."""
    reference = np.load(FOLDER / f"{name}.npz")
    for label in labels:
        atoms = large() if label == LARGE else zoo.structures()[label]
        graph = graph_for(atoms, potential, 2 * zoo.EDGES if label == LARGE else zoo.EDGES)
        value, (slope, strain) = zoo.energy_and_slopes(potential, graph)
        energy, forces, stress = (reference[f"{label}/{kind}"] for kind in ("energy", "forces", "stress"))
        np.testing.assert_allclose(float(value), energy, rtol=1e-12, err_msg=label)
        np.testing.assert_allclose(-slope, forces, atol=1e-11, rtol=0, err_msg=label)
        if label not in without_stress:
            np.testing.assert_allclose(strain / atoms.cell.volume, stress, atol=1e-11, rtol=0, err_msg=label)


def network(rng, target: str, sizes, bias: bool = True, norm: bool = False) -> dict[str, np.ndarray]:
    """Random weights of a gated network."""
    found = {}
    for name in ("core", "gate"):
        for k, (a, b) in enumerate(pairwise(sizes)):
            found[f"{target}.{name}.{k}.weight"] = rng.standard_normal((a, b)) / np.sqrt(a)
            if bias:
                found[f"{target}.{name}.{k}.bias"] = 0.3 * rng.standard_normal(b)
        if norm:
            found[f"{target}.{name}.norm"] = rng.standard_normal((2, sizes[-1]))
    return found
