"""Potentials inside Flax: the same energy, the same gradient, and a training loop as Flax's users write it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ase.build import bulk
from flax import linen
from flax.training.train_state import TrainState
from small_models import FAMILIES, MACE

from wigner_jax.errors import InputError
from wigner_jax.potentials import FlaxPotential, as_flax, build_graph, energy, load_potential
from wigner_jax.potentials.base import Potential


def crystal(potential, seed=1):
    atoms = bulk("MgO", "rocksalt", a=4.2)
    if 8 not in potential.species:
        atoms = bulk("SiC", "zincblende", a=4.32)
    atoms.rattle(0.1, seed=seed)
    return build_graph(atoms, potential)[0]


@pytest.fixture(params=FAMILIES)
def potential(request, tmp_path):
    write, name, _ = FAMILIES[request.param]
    return load_potential(write(tmp_path / name))


def test_init_is_the_model_itself(potential):
    module, graph = as_flax(potential), crystal(potential)
    variables = module.init(jax.random.key(0), graph)
    assert variables.keys() == {"params"}
    assert variables["params"].keys() == potential.params.keys()
    for name, value in potential.params.items():
        np.testing.assert_array_equal(variables["params"][name], value)
    assert float(jax.jit(module.apply)(variables, graph)) == pytest.approx(float(energy(potential, graph)), rel=1e-12)


@pytest.mark.parametrize("name", ["tersoff-1989", MACE])
def test_gradients_are_those_of_the_energy(name):
    potential = load_potential(name)
    module, graph = as_flax(potential), crystal(potential)
    found = jax.jit(jax.grad(lambda params: module.apply({"params": params}, graph)))(potential.params)
    expected = jax.jit(jax.grad(potential.energy))(potential.params, graph)
    assert found.keys() == expected.keys()
    assert any(np.any(value) for value in expected.values())
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-10, atol=1e-12)


def test_a_loop_of_flax_and_optax_lowers_a_loss():
    potential = load_potential(MACE)
    module, graphs = as_flax(potential), [crystal(potential, seed) for seed in range(2)]
    size = max(len(graph.senders) for graph in graphs)
    graphs = [graph.padded(size, 0) for graph in graphs]
    targets = jnp.array([0.3, 0.3])
    params = module.init(jax.random.key(0), graphs[0])["params"]
    state = TrainState.create(apply_fn=module.apply, params=params, tx=optax.adam(2e-2))

    @jax.jit
    def step(state):
        def loss(params):
            return sum((state.apply_fn({"params": params}, g) - E) ** 2 for g, E in zip(graphs, targets, strict=True))

        value, slope = jax.value_and_grad(loss)(state.params)
        return state.apply_gradients(grads=slope), value

    losses = []
    for _ in range(10):
        state, value = step(state)
        losses.append(float(value))
    assert losses[-1] < 0.3 * losses[0]
    trained = potential.with_params(state.params)
    assert abs(float(energy(trained, graphs[0])) - 0.3) < abs(float(energy(potential, graphs[0])) - 0.3)


def test_it_is_a_part_of_a_larger_module():
    """A constant for each atom on top of a potential: parameters nest under the potential's name."""
    potential = load_potential("tersoff-1989")
    graph = crystal(potential)

    class Shifted(linen.Module):
        @linen.compact
        def __call__(self, graph):
            shift = self.param("shift", linen.initializers.ones, ())
            return FlaxPotential(potential, name="base")(graph) + graph.n_atoms * shift

    variables = Shifted().init(jax.random.key(0), graph)
    assert variables["params"].keys() == {"base", "shift"}
    value = Shifted().apply(variables, graph)
    assert float(value) == pytest.approx(float(energy(potential, graph)) + graph.n_atoms, rel=1e-12)


def test_other_shapes_and_parameters_without_names_are_refused():
    potential = load_potential("tersoff-1989")
    module, graph = as_flax(potential), crystal(potential)
    with pytest.raises(Exception, match="shape"):
        module.apply({"params": {**potential.params, "A": np.ones(2)}}, graph)
    with pytest.raises(InputError, match="lists: Flax needs parameters with names"):
        as_flax(Potential([np.ones(3)], potential.energy, "lists", (14,), 3.0))
