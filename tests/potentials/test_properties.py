"""Properties of a MACE model with random weights, from the energy through its third derivatives, for drawn structures.

For a direction u: E, ∂E/∂x, ∂²E/∂x² u and ∂³E/∂x³ u u, the quantities that force constants are made of.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import make_supercell
from hypothesis import given, settings
from hypothesis import strategies as st

from wigner_jax.potentials.mace.files import load_mace
from wigner_jax.potentials.neighbor_list import build_graph

EDGES = 512
settings.register_profile("here", max_examples=15, deadline=None, derandomize=True, database=None)
settings.load_profile("here")


@pytest.fixture(scope="module")
def model():
    return load_mace(Path(__file__).parents[1] / "data/mace_reference" / "mace-mp-0-medium.model")


@partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
def derivatives(potential, graph, u):
    """E, gradient, Hessian · u and third derivative · u u; (), and (N, 3) each."""
    x = jnp.asarray(graph.positions)

    def gradient(y):
        return jax.grad(lambda z: potential.energy(potential.params, graph.at(z)))(y)

    def second(y):
        return jax.jvp(gradient, (y,), (u,))

    (first, H), (_, T) = jax.jvp(second, (x,), (u,))
    return potential.energy(potential.params, graph), first, H, T


def of(potential, atoms, u, edges=EDGES):
    graph, _ = build_graph(atoms, potential)
    assert len(graph.senders) <= edges
    return [np.asarray(v) for v in derivatives(potential, graph.padded(edges, 0), jnp.asarray(u))]


def same(found, expected, tolerance=1e-10):
    for order, (a, b) in enumerate(zip(found, expected, strict=True)):
        scale = np.abs(b).max()
        assert scale > 1e-4
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(scale, 1.0), err_msg=f"order {order}")


@st.composite
def crystals(draw):
    """Three atoms, any of three elements, in a skewed cell, none closer than 1.3 Å; and a direction (3, 3)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lattice = np.diag(rng.uniform(3.4, 4.6, 3)) + rng.uniform(-0.6, 0.6, (3, 3))
    while True:
        atoms = Atoms(rng.choice([8, 12, 14], 3), cell=lattice, scaled_positions=rng.uniform(size=(3, 3)), pbc=True)
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(3, 1)]
        if distances.min() > 1.3:
            return atoms, rng.standard_normal((3, 3))


@st.composite
def rotations(draw):
    """Proper and improper."""
    q = np.array(draw(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4)))
    norm = np.linalg.norm(q)
    w, x, y, z = q / norm if norm > 1e-3 else (1.0, 0.0, 0.0, 0.0)
    R = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return draw(st.sampled_from([1.0, -1.0])) * R


@given(crystals(), rotations())
def test_rotations_and_inversion(model, crystal, R):
    atoms, u = crystal
    turned = atoms.copy()
    turned.set_cell(np.asarray(atoms.cell) @ R.T)
    turned.positions[:] = atoms.positions @ R.T
    E, *vectors = of(model, atoms, u)
    same(of(model, turned, u @ R.T), [E, *(v @ R.T for v in vectors)])


@given(crystals(), st.permutations(range(3)), st.lists(st.integers(-2, 2), min_size=9, max_size=9))
def test_order_and_images_of_the_atoms(model, crystal, order, images):
    """Renumbered, shifted by lattice vectors one by one, and all by anything: the same, renumbered."""
    atoms, u = crystal
    other = atoms[list(order)]
    other.positions += np.reshape(images, (3, 3)) @ np.asarray(atoms.cell) + u[0]
    E, *vectors = of(model, atoms, u)
    same(of(model, other, u[list(order)]), [E, *(v[list(order)] for v in vectors)])


@given(crystals(), st.sampled_from([((1, 0, 0), (0, 1, 0), (0, 0, 2)), ((1, 1, 0), (-1, 1, 0), (0, 0, 1))]))
def test_extensivity(model, crystal, matrix):
    """Two cells have twice the energy and the same forces, along the same pattern in both."""
    atoms, u = crystal
    large = make_supercell(atoms, np.array(matrix), order="cell-major")
    E, *vectors = of(model, atoms, u)
    same(of(model, large, np.tile(u, (2, 1)), 2 * EDGES), [2 * E, *(np.tile(v, (2, 1)) for v in vectors)])


@given(crystals(), rotations(), st.integers(0, 2))
def test_smooth_at_the_cutoff(model, crystal, R, atom):
    """A pair on either side of the cutoff, in the neighbour list and not: the third derivative does not jump.

    The pair is isolated in a large cell, but for a third atom that gives it something to feel; its bonds stay inside.
    """
    _, u = crystal
    edge = model.cutoff

    def structure(distance):
        positions = np.array([[0, 0, 0], [distance, 0, 0], [1.4, 1.1, 0.3]]) @ R.T
        numbers = np.roll([8, 12, 14], atom)
        return Atoms(numbers, positions=positions + 9, cell=[18, 18, 18], pbc=True)

    inside, outside = (of(model, structure(edge + s * 1e-7), u) for s in (-1, 1))
    counts = [int(np.sum(build_graph(structure(edge + s * 1e-7), model)[0].edge_mask)) for s in (-1, 1)]
    assert counts[0] == counts[1] + 2
    same(inside, outside, tolerance=1e-6)
