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

from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.ifc.autodiff import force_constants, plan_force_constants
from wigner_jax.potentials.neighbor_list import build_graph

FOLDER = Path(__file__).parent / "data/zoo_reference"
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


def compare_with_original(name: str, potential, labels, tolerance=(1e-12, 1e-11, 1e-9)) -> None:
    """Energy (relative), forces (eV/Å) and stress (eV/Å³) are the original's.

    Every port must meet 1e-8, 1e-7 and 1e-7, whatever it is asked to meet here.
    """
    assert all(t <= limit for t, limit in zip(tolerance, (1e-8, 1e-7, 1e-7), strict=True))
    reference = np.load(FOLDER / f"{name}.npz")
    for label in labels:
        atoms = structures()[label]
        value, (slope, strain) = energy_and_slopes(potential, graph_for(atoms, potential))
        energy, forces, stress = (reference[f"{label}/{kind}"] for kind in ("energy", "forces", "stress"))
        assert np.abs(forces).max() > (0.01 if len(atoms) > 1 else -1)  # rattled: there is something to compare
        np.testing.assert_allclose(float(value), energy, rtol=tolerance[0], err_msg=label)
        np.testing.assert_allclose(-slope, forces, atol=tolerance[1], rtol=0, err_msg=label)
        np.testing.assert_allclose(strain / atoms.cell.volume, stress, atol=tolerance[2], rtol=0, err_msg=label)


def check_derivatives(potential, atoms: Atoms) -> None:
    """Φ2 u and Φ3 u u are what differences of the forces converge to, with the square of the step."""
    graph = graph_for(atoms, potential)
    u = np.random.default_rng(1).standard_normal((len(atoms), 3))
    exact = [np.asarray(x) for x in second_and_third_along(potential, graph, u)]

    def errors(h: float) -> np.ndarray:
        back, here, forth = (
            energy_and_slopes(potential, graph.at(graph.positions + s * h * u))[1][0] for s in (-1, 0, 1)
        )
        found = (forth - back) / (2 * h), (forth + back - 2 * here) / h**2
        return np.array([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, exact, strict=True)])

    coarse, fine = errors(4e-3), errors(1e-3)
    assert np.all(fine < 1e-4)
    np.testing.assert_allclose(coarse / fine, 16, rtol=0.05)


def check_force_constants(potential, atoms: Atoms, supercell) -> None:
    """Force constants of a supercell: the fit of the symmetric form has no residual, and they are those of forces.

    Forces of the displaced supercell minus those linear in the displacements, divided by h², converge to ½ Φ3 u u with
    the square of the step.
    """
    cells = supercells_from_atoms(atoms, supercell, supercell)
    constants, report = force_constants(cells, potential)
    assert max(report.residual) < 1e-11
    assert not any("residual" in warning for warning in report.warnings)
    plan, _ = plan_force_constants(cells, potential)
    graph = plan.graph3
    u = np.random.default_rng(2).standard_normal((graph.n_atoms, 3))
    # the rows of compact force constants are atoms of the primitive cell: find them in the supercell
    rows = np.flatnonzero(np.all(np.asarray(cells.fc3_supercell.lattice_vector) == 0, axis=1))
    assert np.array_equal(np.asarray(cells.fc3_supercell.primitive_index)[rows], np.arange(len(rows)))
    second = np.einsum("injk,nk->ij", np.asarray(constants.fc2), u)
    third = np.einsum("inmjkl,nk,ml->ij", np.asarray(constants.fc3), u, u)

    def slopes(h: float) -> np.ndarray:
        return np.asarray(energy_and_slopes(potential, graph.at(graph.positions + h * u))[1][0])[rows]

    def errors(h: float) -> np.ndarray:
        back, here, forth = (slopes(s * h) for s in (-1, 0, 1))
        return np.array(
            [
                np.abs((forth - back) / (2 * h) - second).max() / np.abs(second).max(),
                np.abs((forth + back - 2 * here) / h**2 - third).max() / np.abs(third).max(),
            ]
        )

    coarse, fine = errors(4e-3), errors(1e-3)
    assert np.all(fine < 1e-3)
    np.testing.assert_allclose(coarse / fine, 16, rtol=0.1)


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
