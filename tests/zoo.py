"""What the tests of the published models share: structures, stored numbers of the originals, compiled functions."""

from __future__ import annotations

import dataclasses
from functools import cache, partial
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms

from wigner_jax.potentials import build_graph

FOLDER = Path(__file__).parent / "zoo_reference"
EDGES = 640  # all structures are padded to as many edges: one compilation for each number of atoms
# correctness does not need optimised machine code, whose compilation is most of the time of these tests
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def weights(shared: Path, name: str) -> Path:
    """A file of the originals' weights, which are not part of the repository."""
    path = shared / "weights" / name
    if not path.is_file():
        pytest.skip(f"weights not found: {path}")
    return path


@cache
def structures() -> dict[str, Atoms]:
    return {atoms.info["label"]: atoms for atoms in ase.io.read(FOLDER / "structures.xyz", ":")}


def graph_for(atoms: Atoms, potential, edges: int = EDGES):
    """The graph, with more padding: dead edges between an atom and itself, whose derivatives must not be NaN."""
    graph, _ = build_graph(atoms, potential)
    extra = edges - graph.edge_mask.shape[0]
    assert extra >= 0
    return dataclasses.replace(
        graph,
        senders=np.pad(graph.senders, (0, extra)),
        receivers=np.pad(graph.receivers, (0, extra)),
        shifts=np.pad(graph.shifts, ((0, extra), (0, 0))),
        edge_mask=np.pad(graph.edge_mask, (0, extra)),
    )


@jit
def energy_and_slopes(potential, graph):
    def deformed(positions, strain):
        return potential.energy(potential.params, graph.at(positions).strained(0.5 * (strain + strain.T)))

    return jax.value_and_grad(deformed, argnums=(0, 1))(jnp.asarray(graph.positions), jnp.zeros((3, 3)))


@jit
def hessian_times(potential, graph, direction):
    gradient = jax.grad(lambda y: potential.energy(potential.params, graph.at(y)))
    return jax.jvp(gradient, (jnp.asarray(graph.positions),), (direction,))[1]


@jit
def second_and_third_along(potential, graph, direction):
    """Φ2 u and Φ3 u u, by the derivatives that force constants are made of. (N, 3) each"""
    gradient = jax.grad(lambda y: potential.energy(potential.params, graph.at(y)))

    def second(x):
        return jax.jvp(gradient, (x,), (direction,))[1]

    return jax.jvp(second, (jnp.asarray(graph.positions),), (direction,))


@jit
def curve(potential, graph, axis, x):
    """E and its first two derivatives as atom 1 is moved along an axis. (3,)"""

    def at(x):
        return potential.energy(potential.params, graph.at(jnp.zeros((2, 3)).at[1].set(x * axis)))

    (value, slope), (_, curvature) = jax.jvp(lambda y: jax.jvp(at, (y,), (1.0,)), (x,), (1.0,))
    return jnp.stack([value, slope, curvature])


def compare_with_original(name: str, potential, labels) -> None:
    """Energy 1e-8 relative, forces 1e-7 eV/Å, stress 1e-7 eV/Å³, as asked of every port; and a hundred times closer."""
    reference = np.load(FOLDER / f"{name}.npz")
    for label in labels:
        atoms = structures()[label]
        value, (slope, strain) = energy_and_slopes(potential, graph_for(atoms, potential))
        np.testing.assert_allclose(float(value), reference[f"{label}/energy"], rtol=1e-12, err_msg=label)
        np.testing.assert_allclose(-slope, reference[f"{label}/forces"], atol=1e-11, rtol=0, err_msg=label)
        stress = strain / atoms.cell.volume
        np.testing.assert_allclose(stress, reference[f"{label}/stress"], atol=1e-9, rtol=0, err_msg=label)


def check_hessian(potential, atoms: Atoms) -> None:
    """A column of Φ2 is what differences of the forces converge to, with the square of the step."""
    graph = graph_for(atoms, potential)
    u = np.random.default_rng(1).standard_normal((len(atoms), 3))
    exact = hessian_times(potential, graph, u)

    def error(h: float) -> float:
        ends = [energy_and_slopes(potential, graph.at(graph.positions + s * h * u))[1][0] for s in (1, -1)]
        return float(np.abs((ends[0] - ends[1]) / (2 * h) - exact).max())

    coarse, fine = error(4e-3), error(1e-3)
    assert fine < 1e-4 * float(np.abs(exact).max())
    assert coarse / fine == pytest.approx(16, rel=0.05)


def turned(atoms: Atoms, matrix: np.ndarray) -> tuple[Atoms, np.ndarray]:
    """The structure rotated, shifted and in another order of atoms; and this order."""
    rng = np.random.default_rng(5)
    order = rng.permutation(len(atoms))
    result = atoms[order]
    result.set_cell(np.asarray(atoms.cell) @ matrix.T)
    result.positions = atoms.positions[order] @ matrix.T + rng.standard_normal(3)
    return result, order


def rotation(seed: int = 3) -> np.ndarray:
    Q = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0]
    return Q * np.linalg.det(Q)


def special_places(potential) -> list:
    """Graphs of a pair: out of reach, along an axis, and in one place (which `build_graph` refuses)."""
    far, near = [
        Atoms("O2", positions=[[0, 0, 0], end], cell=[18, 18, 18], pbc=True) for end in ([9, 9, 9], [0, 0, 1.9])
    ]
    graphs = [graph_for(atoms, potential, 8) for atoms in (far, near)]
    return [*graphs, graphs[1].at(np.zeros((2, 3)))]
