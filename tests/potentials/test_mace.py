"""MACE against mace-torch's numbers for small models of every architecture; its symmetries; bad input."""

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

from wigner_jax.errors import InputError
from wigner_jax.potentials.mace.files import load_mace, restrict
from wigner_jax.potentials.neighbor_list import build_graph

FOLDER = Path(__file__).parents[1] / "data/mace_reference"
MODELS = sorted(p.stem for p in FOLDER.glob("*.model"))
HEADS = {"two-heads": "r2scan"}
#: compiled in seconds, and between them every block, basis, transform and readout
QUICK = ("mace-mp-0-medium", "mace-mp-0b3-medium", "soft-gaussian", "nonlinear", "two-heads", "one-layer")
EDGES = 384  # all structures are padded to as many edges: one compilation for each number of atoms
# correctness does not need optimised machine code, whose compilation is most of the time of these tests
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@cache
def model(name: str = "mace-mp-0b3-medium"):
    return load_mace(FOLDER / f"{name}.model", head=HEADS.get(name))


@cache
def structures() -> dict[str, Atoms]:
    return {atoms.info["label"]: atoms for atoms in ase.io.read(FOLDER / "structures.xyz", ":")}


def graph_for(atoms: Atoms, potential, edges: int = EDGES):
    """The graph, with more padding: dead edges between atoms that are far apart, in the same place, or anything."""
    graph, _ = build_graph(atoms, potential)
    extra = edges - graph.edge_mask.shape[0]
    assert extra >= 0
    return dataclasses.replace(
        graph,
        senders=np.pad(graph.senders, (0, extra)),
        receivers=np.pad(graph.receivers, (0, extra)),
        shifts=np.pad(graph.shifts, ((0, extra), (0, 0))),  # zero vectors: their derivatives must not be NaN
        edge_mask=np.pad(graph.edge_mask, (0, extra)),
    )


@jit
def energy_and_slopes(potential, graph):
    def deformed(positions, strain):
        return potential.energy(potential.params, graph.at(positions).strained(0.5 * (strain + strain.T)))

    return jax.value_and_grad(deformed, argnums=(0, 1))(jnp.asarray(graph.positions), jnp.zeros((3, 3)))


@jit
def rows_of_hessian(potential, graph):
    x = jnp.asarray(graph.positions)
    gradient = jax.grad(lambda y: potential.energy(potential.params, graph.at(y)))
    return jax.lax.map(lambda e: jax.jvp(gradient, (x,), (e.reshape(x.shape),))[1], jnp.eye(x.size)[:6])


def energy(potential, atoms: Atoms) -> float:
    return float(energy_and_slopes(potential, graph_for(atoms, potential))[0])


# --- parity ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in MODELS])
def test_energies_forces_and_stresses_are_mace_torchs(name):
    reference = np.load(FOLDER / f"{name}.npz")
    potential = model(name)
    for label, atoms in structures().items():
        value, (slope, strain) = energy_and_slopes(potential, graph_for(atoms, potential))
        forces, stress = reference[f"{label}/forces"], reference[f"{label}/stress"]
        np.testing.assert_allclose(float(value), reference[f"{label}/energy"], rtol=1e-10, atol=0)
        np.testing.assert_allclose(-slope, forces, atol=1e-9 * max(np.abs(forces).max(), 1e-3), rtol=0)
        np.testing.assert_allclose(strain / atoms.cell.volume, stress, atol=1e-9 * np.abs(stress).max(), rtol=0)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n == "mace-mp-0b3-medium" else pytest.mark.slow) for n in MODELS]
)
def test_hessians_are_mace_torchs(name):
    expected = np.load(FOLDER / f"{name}.npz")["crystal/hessian"]
    potential = model(name)
    found = np.asarray(rows_of_hessian(potential, graph_for(structures()["crystal"], potential)))
    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-8 * np.abs(expected).max(), rtol=0)


def test_few_elements_have_the_energies_of_all():
    potential, atoms = model(), structures()["crystal"]
    small = restrict(potential, atoms.numbers)
    assert restrict(small, atoms.numbers) is small
    assert restrict(small, atoms.numbers[:1]).name.count("[") == 1
    assert small.species == (8, 12)
    assert sum(np.size(p) for p in small.params.values()) < sum(np.size(p) for p in potential.params.values())
    np.testing.assert_allclose(energy(small, atoms), energy(potential, atoms), rtol=1e-13)


def test_head_is_chosen_by_name():
    path = FOLDER / "two-heads.model"
    values = {head: energy(load_mace(path, head=head), structures()["slab"]) for head in ("pbe", "r2scan")}
    assert abs(values["pbe"] - values["r2scan"]) > 1e-3
    with pytest.raises(InputError, match=r"several heads: choose one of pbe, r2scan"):
        load_mace(path)
    with pytest.raises(InputError, match=r"no head 'scan'.*pbe, r2scan"):
        load_mace(path, head="scan")


def test_configuration_compares_by_value_and_keys_one_compilation():
    path = FOLDER / "mace-mp-0b3-medium.model"
    first, second = load_mace(path), load_mace(path)
    assert first.energy == second.energy
    assert hash(first.energy) == hash(second.energy)
    assert first.energy != model("mace-mp-0-medium").energy
    assert jax.tree.structure(first) == jax.tree.structure(second)


# --- physics ---------------------------------------------------------------------------------------------------------


def test_energy_is_invariant_forces_turn_along():
    potential, atoms = model(), structures()["skewed"]
    value, (slope, _) = energy_and_slopes(potential, graph_for(atoms, potential))
    rng = np.random.default_rng(5)
    for improper in (1, -1):
        R = improper * np.linalg.qr(rng.standard_normal((3, 3)))[0]
        order = rng.permutation(len(atoms))
        turned = atoms[order]
        turned.set_cell(np.asarray(atoms.cell) @ R.T)
        turned.positions = atoms.positions[order] @ R.T + rng.standard_normal(3)
        other, (turned_slope, _) = energy_and_slopes(potential, graph_for(turned, potential))
        np.testing.assert_allclose(other, value, rtol=1e-12)
        np.testing.assert_allclose(turned_slope, (slope @ R.T)[order], atol=1e-11)


def test_energy_is_extensive():
    potential, atoms = model(), structures()["one atom"]
    double = atoms.repeat((2, 2, 1))
    np.testing.assert_allclose(energy(potential, double), 4 * energy(potential, atoms), rtol=1e-12)


@jit
def pair_curve(potential, graph, distance):
    """E and its first three derivatives in the distance of atom 1 from atom 0 along x."""
    direction = jnp.array([[0.0, 0, 0], [1, 0, 0]])

    def at(x):
        return potential.energy(potential.params, graph.at(x * direction))

    def second(x):
        return jax.jvp(lambda y: jax.jvp(at, (y,), (1.0,)), (x,), (1.0,))

    ((value, slope), (_, curvature)), (_, (_, third)) = jax.jvp(second, (distance,), (1.0,))
    return jnp.stack([value, slope, curvature, third])


def test_nothing_jumps_where_an_edge_appears():
    """The first two derivatives are continuous at the cutoff, the third is finite; beyond it nothing is left."""
    potential = restrict(model(), (8,))
    pair = Atoms("O2", positions=[[0, 0, 0], [4.4, 0, 0]], cell=[20, 20, 20], pbc=True)
    graph = graph_for(pair, potential, 8)
    h = 1e-3
    near, inside, outside = (np.asarray(pair_curve(potential, graph, 4.5 - x)) for x in (4 * h, h, -h))
    assert np.isfinite(inside).all()
    assert np.all(inside[1:] != 0)
    np.testing.assert_allclose(outside[1:], 0.0, atol=1e-13)
    # the energy falls as the third power of the distance to the cutoff, its derivatives as one less each
    np.testing.assert_allclose((near - outside)[1:] / (inside - outside)[1:], [16, 4, 1], rtol=0.02)


def test_no_derivative_is_nan_at_special_directions_and_coinciding_atoms():
    potential = restrict(model("mace-mp-0-medium"), (12,))
    special = Atoms("Mg2", positions=[[0, 0, 0], [0, 0, 2.0]], cell=[9, 9, 9], pbc=True)
    graph = graph_for(special, potential, 8)
    u = np.random.default_rng(0).standard_normal((2, 3))

    @jit
    def third(positions):
        gradient = jax.grad(lambda x: potential.energy(potential.params, graph.at(x)))

        def second(x):
            return jax.jvp(gradient, (x,), (u,))[1]

        return potential.energy(potential.params, graph.at(positions)), jax.jvp(second, (positions,), (u,))

    for positions in (special.positions, np.zeros((2, 3))):
        assert all(np.isfinite(np.asarray(x)).all() for x in jax.tree.leaves(third(positions)))


def test_gradients_reach_the_parameters():
    potential, atoms = model("nonlinear"), structures()["crystal"]
    graph = graph_for(atoms, potential)
    slopes = jit(jax.grad(potential.energy))(potential.params, graph)
    rng = np.random.default_rng(2)
    direction = {name: rng.standard_normal(np.shape(p)) * np.abs(p).mean() for name, p in potential.params.items()}
    value = jit(lambda t: potential.energy({n: p + t * direction[n] for n, p in potential.params.items()}, graph))
    h = 1e-4
    difference = (value(-2 * h) - 8 * value(-h) + 8 * value(h) - value(2 * h)) / (12 * h)
    total = sum(float(np.sum(slopes[name] * direction[name])) for name in direction)
    np.testing.assert_allclose(total, float(difference), rtol=1e-6)
    silent = [name for name, g in slopes.items() if not np.any(np.asarray(g))]
    # weights of couplings that vanish by symmetry, as all of an odd scalar's, have no effect; nothing else is without
    assert all("symmetric_contractions" in name for name in silent), silent
