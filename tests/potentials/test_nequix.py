"""Nequix against the original's numbers; a small model with random weights for symmetry, smoothness and bad files."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import original_programs as zoo
import pytest
from ase import Atoms
from ase.build import bulk
from small_models import NEQUIX as HEADER
from small_models import write_nequix as write

from wigner_jax.errors import InputError
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.nequix.files import load_nequix
from wigner_jax.potentials.nequix.published import MODELS

COUNT = dict.fromkeys(MODELS, 707658)
slow = pytest.mark.slow


@cache
def load(path):
    return load_nequix(path)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return load_nequix(write(tmp_path_factory.mktemp("nequix") / "small.nqx"))


# --- the published models --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n == "nequix-mp-1" else slow) for n in MODELS])
def test_energies_forces_and_stresses_are_the_originals(shared, name):
    potential = load(zoo.weights(shared, f"{name}.nqx"))
    # scale and shift are not counted among the original's parameters
    assert sum(np.size(p) for p in potential.params.values()) == COUNT[name] + 2
    zoo.compare_with_original(name, potential, [label for label in zoo.structures() if label != "one atom"])


@slow
@pytest.mark.parametrize("name", MODELS)
def test_cell_of_one_atom(shared, name):
    zoo.compare_with_original(name, load(zoo.weights(shared, f"{name}.nqx")), ["one atom"])


@pytest.mark.slow
def test_derivatives_are_what_differences_converge_to(shared):
    zoo.check_derivatives(load(zoo.weights(shared, "nequix-mp-1.nqx")), zoo.structures()["Be2O2"])


@slow
def test_force_constants_of_a_crystal(shared):
    zoo.check_force_constants(
        load(zoo.weights(shared, "nequix-mp-1.nqx")), bulk("MgO", "rocksalt", a=4.26), 2 * np.eye(3, dtype=int)
    )


def test_energy_is_invariant_forces_turn_along(shared):
    potential, atoms = load(zoo.weights(shared, "nequix-mp-1.nqx")), zoo.structures()["skewed cell"]
    value, (slope, _) = zoo.energy_and_slopes(potential, zoo.graph_for(atoms, potential))
    for R in (zoo.rotation(), -zoo.rotation()):
        other, order = zoo.turned(atoms, R)
        found, (other_slope, _) = zoo.energy_and_slopes(potential, zoo.graph_for(other, potential))
        np.testing.assert_allclose(found, value, rtol=1e-12)
        np.testing.assert_allclose(other_slope, (slope @ R.T)[order], atol=1e-11)


# --- a small model ---------------------------------------------------------------------------------------------------


def test_configuration_compares_by_value(tmp_path):
    first, second = (load_nequix(write(tmp_path / f"{k}.nqx")) for k in "ab")
    assert first.energy == second.energy
    assert hash(first.energy) == hash(second.energy)
    other = load_nequix(write(tmp_path / "c.nqx", {**HEADER, "cutoff": 4.1}))
    assert first.energy != other.energy


def test_no_derivative_is_nan(small):
    u = np.random.default_rng(0).standard_normal((2, 3))
    for graph in zoo.special_places(small):
        assert all(np.isfinite(x).all() for x in zoo.second_and_third_along(small, graph, u))


def test_nothing_jumps_where_an_edge_appears(small):
    """E, E' and E'' are continuous at the cutoff; E − E(∞) falls with the fourth power of the distance to it."""
    pair = Atoms("O2", positions=[[0, 0, 0], [3.9, 0, 0]], cell=[18, 18, 18], pbc=True)
    graph, axis = zoo.graph_for(pair, small, 8), jnp.array([0.6, 0.0, 0.8])
    far = zoo.curve(small, graph, axis, 4.1)
    near, nearer = (np.asarray(zoo.curve(small, graph, axis, 4.0 - x) - far) for x in (2e-3, 1e-3))
    np.testing.assert_allclose(far[1:], 0, atol=1e-15)
    assert np.all(near[1:] != 0)
    np.testing.assert_allclose(near[1:] / nearer[1:], [8, 4], rtol=0.02)


def test_gradients_reach_every_parameter(small):
    graph, _ = build_graph(zoo.structures()["Mg2O2"], small)
    slopes = zoo.jit(jax.grad(small.energy))(small.params, graph)
    # the last layer norm sees the scale of its input only through ε; a species that is absent has no effect
    silent = [name for name, g in slopes.items() if not np.any(np.asarray(g))]
    assert silent == []


# --- bad input -------------------------------------------------------------------------------------------------------


def without_last(arrays):
    arrays.pop()


def not_finite(arrays):
    arrays[1][0, 0] = np.nan


def other_shape(arrays):
    arrays[2] = arrays[2][:-1]


@pytest.mark.parametrize(
    ("header", "change", "message"),
    [
        (HEADER, without_last, r"weight 'readout' should have shape \(6, 1\), found nothing"),
        (HEADER, not_finite, r"weight 'layers.0.radial_mlp.0' holds 1 non-finite"),
        (HEADER, other_shape, r"weight 'layers.0.radial_mlp.1' should have shape \(7, 7\), found float32 \(6, 7\)"),
        ({**HEADER, "index_weights": True}, None, r"index_weights\) is not supported"),
        ({**HEADER, "hidden_irreps": "6x0e + 4x1e"}, None, r"natural parity"),
        ({**HEADER, "radial_polynomial_p": 5.5}, None, r"power 5.5"),
        ({**HEADER, "atomic_numbers": [1, 8, 300]}, None, r"atomic number 300"),
        ({"cutoff": 5.0}, None, r"first line is not the configuration"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, header, change, message):
    with pytest.raises(InputError, match=message):
        load_nequix(write(tmp_path / "bad.nqx", header, change))


def test_damaged_files(tmp_path):
    path = write(tmp_path / "whole.nqx")
    data = path.read_bytes()
    for cut in (0, 10, len(data) // 2, len(data) - 30):
        (tmp_path / "cut.nqx").write_bytes(data[:cut])
        with pytest.raises(InputError, match=r"cut\.nqx"):
            load_nequix(tmp_path / "cut.nqx")
    with pytest.raises(InputError, match="no such file"):
        load_nequix(tmp_path / "absent.nqx")
    with pytest.raises(InputError, match="folder"):
        load_nequix(tmp_path)


def test_pickled_arrays_are_refused(tmp_path):
    def poison(arrays):
        arrays[0] = np.array([print], dtype=object)

    with pytest.raises(InputError, match="an array holds object, not numbers"):
        load_nequix(write(tmp_path / "hostile.nqx", change=poison))


def test_unknown_element(small):
    with pytest.raises(ValueError, match="does not know Si"):
        build_graph(bulk("Si"), small)
