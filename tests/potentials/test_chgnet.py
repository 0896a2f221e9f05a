"""CHGNet against the original's numbers; a small model with random weights for symmetry, smoothness and bad files."""

from __future__ import annotations

from functools import cache

import jax
import numpy as np
import original_bonds as bonds
import original_programs as zoo
import pytest
from ase import Atoms
from ase.build import bulk

from wigner_jax.errors import InputError
from wigner_jax.potentials.base import Potential
from wigner_jax.potentials.chgnet.files import load_chgnet
from wigner_jax.potentials.chgnet.model import CHGNet, CHGNetConfig
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.readers.torch_archive import read_archive, rewrite_archive, tensors

NAME, FILE = "chgnet-0.3.0", "chgnet_0.3.0_e29f68s314m37.pth.tar"
slow = pytest.mark.slow


@cache
def load(path):
    return load_chgnet(path)


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    C, R, F = 6, 5, 4
    config = CHGNetConfig(numbers=(1, 8, 12), cutoff=4.0, bond_cutoff=2.6, p=6, layers=3)
    params = {
        "embedding": rng.standard_normal((3, C)),
        "references": rng.standard_normal(3),
        "waves_6": np.pi * (np.arange(1, R + 1) + 0.1 * rng.standard_normal(R)),
        "waves_3": np.pi * (np.arange(1, R + 1) + 0.1 * rng.standard_normal(R)),
        "angles": np.arange(1, F + 1) + 0.1 * rng.standard_normal(F),
        "angle.weight": rng.standard_normal((2 * F + 1, C)),
        "readout.norm": rng.standard_normal((2, C)),
        "readout.0.weight": rng.standard_normal((C, C)),
        "readout.0.bias": rng.standard_normal(C),
        "readout.1.weight": rng.standard_normal((C, 1)),
        "readout.1.bias": rng.standard_normal(1),
    }
    params |= {f"bonds.{name}": rng.standard_normal((R, C)) for name in ("weight", "weight_6", "weight_3")}
    for t in range(3):
        params |= bonds.network(rng, f"{t}.atoms", (3 * C, C, C), norm=True)
        params[f"{t}.atoms.out"] = rng.standard_normal((C, C))
    for t in range(2):
        params |= bonds.network(rng, f"{t}.bonds", (4 * C, C, C), norm=True)
        params[f"{t}.bonds.out"] = rng.standard_normal((C, C))
        params |= bonds.network(rng, f"{t}.angles", (4 * C, C), norm=True)
    return Potential(params, CHGNet(config), "small", config.numbers, config.cutoff, bond_cutoff=config.bond_cutoff)


# --- the published model ---------------------------------------------------------------------------------------------


def test_energies_forces_and_stresses_are_the_originals(shared):
    potential = load(zoo.weights(shared, FILE))
    # the original's 412525 without its magnetic moments, and without five elements: 64 features and an energy each
    assert sum(np.size(p) for p in potential.params.values()) == 412525 - 65 - 5 * 65
    bonds.compare_with_original(NAME, potential, [label for label in zoo.structures() if label != "one atom"])


@slow
def test_cells_of_one_and_of_eight_atoms(shared):
    bonds.compare_with_original(NAME, load(zoo.weights(shared, FILE)), ["one atom", bonds.LARGE])


@slow
def test_straight_angles_are_cusps(shared):
    """The measurement of the model's card: a derivative of the rounded tip, which displacements of 0.03 Å do not see."""
    potential = load(zoo.weights(shared, FILE))
    graph, _ = build_graph(bulk("NaCl", "rocksalt", a=5.69, cubic=True).repeat(2), potential)
    along_x = np.zeros((64, 3))
    along_x[0, 0] = 1
    exact = float(zoo.second_and_third_along(potential, graph, along_x)[0][0, 0])

    def differences(h: float) -> float:
        ends = [zoo.energy_and_slopes(potential, graph.at(graph.positions + s * h * along_x))[1][0] for s in (1, -1)]
        return float((ends[0] - ends[1])[0, 0]) / (2 * h)

    assert exact == pytest.approx(-0.219, abs=1e-3)
    assert differences(1e-4) == pytest.approx(exact, abs=1e-3)
    assert differences(3e-2) == pytest.approx(1.154, abs=1e-3)


# --- a small model ---------------------------------------------------------------------------------------------------


def test_derivatives_are_what_differences_converge_to(small):
    zoo.check_derivatives(small, zoo.structures()["Mg2O2"])


def test_energy_is_invariant_forces_turn_along(small):
    atoms = zoo.structures()["Mg2O2"]
    value, (slope, _) = zoo.energy_and_slopes(small, bonds.graph_for(atoms, small))
    for R in (zoo.rotation(), -zoo.rotation()):
        other, order = zoo.turned(atoms, R)
        found, (other_slope, _) = zoo.energy_and_slopes(small, bonds.graph_for(other, small))
        np.testing.assert_allclose(found, value, rtol=1e-12)
        np.testing.assert_allclose(other_slope, (slope @ R.T)[order], atol=1e-10)


def test_a_supercell_has_as_many_times_the_energy(small):
    atoms = bulk("MgO", "rocksalt", a=4.21)
    one = zoo.energy_and_slopes(small, bonds.graph_for(atoms, small, 96))[0]
    many = zoo.energy_and_slopes(small, bonds.graph_for(atoms.repeat((2, 1, 1)), small))[0]
    assert float(many) == pytest.approx(2 * float(one), rel=1e-12)


def test_no_derivative_is_nan(small):
    """Nor in a perfect crystal, where angles are straight and their arcus cosine is taken at its end."""
    u = np.random.default_rng(0).standard_normal((2, 3))
    for graph in bonds.special_places(small):
        assert all(np.isfinite(x).all() for x in zoo.second_and_third_along(small, graph, u))


@slow
@pytest.mark.parametrize("cutoff", [2.6, 4.0])
def test_nothing_jumps_where_a_pair_crosses_a_cutoff(small, cutoff):
    """E, E' and E'' are continuous; the lists of edges and bonds differ on both sides."""

    def at(r):
        atoms = Atoms("O2Mg", positions=[[0, 0, 0], [r, 0, 0], [0.3, 1.9, 0]], cell=[18, 18, 18], pbc=True)
        graph = bonds.graph_for(atoms, small, 8, 4)
        u = np.eye(3)[[1, 0, 1]] * np.array([0, 1, 0])[:, None]
        value, (slope, _) = zoo.energy_and_slopes(small, graph)
        return np.array([float(value), slope[1, 0], zoo.second_and_third_along(small, graph, u)[0][1, 0]])

    wide, narrow = (np.abs(at(cutoff + h) - at(cutoff - h)) for h in (2e-4, 1e-4))
    assert np.all(narrow > 0)
    assert np.all(wide / narrow > 1.9)


def test_bonds_are_listed_from_both_ends(small):
    atoms = zoo.structures()["Mg2O2"]
    graph, _ = build_graph(atoms, small)
    listed = graph.bonds
    vectors = np.asarray(graph.vectors())
    flat, mask = listed.edges.ravel(), listed.mask.ravel()
    short = np.flatnonzero(graph.edge_mask & (np.linalg.norm(vectors, axis=1) < small.bond_cutoff))
    assert sorted(flat[mask]) == list(short)
    assert np.array_equal(np.asarray(graph.receivers)[listed.edges][listed.mask], np.nonzero(listed.mask)[0])
    back = flat[listed.reverse.ravel()][mask]
    np.testing.assert_allclose(vectors[back], -vectors[flat[mask]], atol=1e-12)
    assert np.array_equal(listed.reverse.ravel()[listed.reverse.ravel()][mask], np.flatnonzero(mask))


def test_gradients_reach_every_parameter(small):
    graph, _ = build_graph(zoo.structures()["Mg2O2"], small)
    slopes = zoo.jit(jax.grad(small.energy))(small.params, graph)
    silent = {name for name, g in slopes.items() if not np.any(np.asarray(g))}
    assert silent == {name for name in slopes if name.startswith("1.angles.")}  # the last angles have no effect


# --- bad input -------------------------------------------------------------------------------------------------------


def test_files_that_cannot_be_used(shared, tmp_path):
    path = zoo.weights(shared, FILE)
    state = tensors(read_archive(path)["model"]["state_dict"])
    name = "bond_embedding.weight"
    rewrite_archive(path, tmp_path / "nan.pth.tar", {state[name]: np.full(state[name].array.shape, np.nan)})
    with pytest.raises(InputError, match=r"nan\.pth\.tar: weight 'bond_embedding.weight' holds 1984 non-finite"):
        load_chgnet(tmp_path / "nan.pth.tar")
    (tmp_path / "cut.pth.tar").write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(InputError, match="not a complete PyTorch archive"):
        load_chgnet(tmp_path / "cut.pth.tar")
    with pytest.raises(InputError, match="not a file of chgnet"):
        load_chgnet(zoo.weights(shared, "checkpoint_sevennet_0.pth"))
    with pytest.raises(InputError, match="no such file"):
        load_chgnet(tmp_path / "absent.pth.tar")


def test_structures_that_cannot_be_used(small):
    with pytest.raises(ValueError, match="does not know Po"):
        build_graph(bulk("Po", "sc", a=3.3), small)
    with pytest.raises(InputError, match="overlap"):
        build_graph(Atoms("O2", positions=[[0, 0, 0], [0, 0, 0.1]], cell=[9, 9, 9], pbc=True), small)
    graph, _ = build_graph(bulk("MgO", "rocksalt", a=4.21), Potential({}, small.energy, "", (8, 12), 4.0))
    with pytest.raises(ValueError, match="lists no bonds"):
        small.energy(small.params, graph)
