"""Energy, forces, stress and Hessian from one place: against differences, and against each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from wigner_jax.potentials import build_graph, energy, energy_forces_stress, hessian, load_potential
from wigner_jax.training.frames import predict

MACE = Path(__file__).parents[1] / "data/mace_reference" / "mace-mp-0-small.model"


@pytest.fixture(params=["tersoff-1989", MACE], ids=["Tersoff", "MACE"])
def case(request):
    potential = load_potential(request.param)
    atoms = bulk("MgO", "rocksalt", a=4.3) if request.param == MACE else bulk("SiC", "zincblende", a=4.3)
    atoms.rattle(0.05, seed=2)
    return potential, build_graph(atoms, potential)[0]


def test_derivatives_equal_differences(case):
    potential, graph = case
    value, forces, stress = energy_forces_stress(potential, graph)
    assert float(value) == pytest.approx(float(energy(potential, graph)), rel=1e-13)
    rng = np.random.default_rng(0)
    u, strain = rng.standard_normal(graph.positions.shape), rng.standard_normal((3, 3))
    h = 1e-4

    def difference(function):
        at = [np.asarray(function(k * h)) for k in (-2, -1, 1, 2)]
        return (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)

    slope = difference(lambda t: energy(potential, graph.at(graph.positions + t * u)))
    np.testing.assert_allclose(-np.sum(np.asarray(forces) * u), slope, rtol=1e-7)
    slope = difference(lambda t: energy(potential, graph.strained(t * strain))) / abs(np.linalg.det(graph.cell))
    np.testing.assert_allclose(np.sum(np.asarray(stress) * strain), slope, rtol=1e-7)
    np.testing.assert_array_equal(stress, np.asarray(stress).T)
    H = np.asarray(hessian(potential, graph))
    curvature = difference(lambda t: energy_forces_stress(potential, graph.at(graph.positions + t * u))[1])
    np.testing.assert_allclose(np.einsum("iajb,jb->ia", H, u), -curvature, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(H, H.transpose(2, 3, 0, 1), atol=1e-11)


def test_training_sees_the_same_numbers(case):
    potential, graph = case
    for found, expected in zip(
        predict(potential.energy, potential.params, None, graph), energy_forces_stress(potential, graph), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)
