"""Closed-form potentials against published numbers, a literal reading of the papers, and differences; the graph."""

from __future__ import annotations

import dataclasses
import re
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from wigner_jax.potentials.layers.equivariant import spherical_harmonics
from wigner_jax.potentials.neighbor_list import build_graph, padded_size
from wigner_jax.potentials.registry import available_potentials, load_potential


def rattled(name: str = "SiC", amplitude: float = 0.08) -> Atoms:
    lattice = {"SiC": ("zincblende", 4.32), "Si": ("diamond", 5.43), "SiGe": ("zincblende", 5.54)}[name]
    atoms = bulk(name, lattice[0], a=lattice[1], cubic=True)
    atoms.rattle(amplitude, seed=4)
    return atoms


@jax.jit
def evaluate(potential, graph):
    return potential.energy(potential.params, graph)


def energy(atoms: Atoms, potential) -> float:
    graph, _ = build_graph(atoms, potential)
    return float(evaluate(potential, graph))


@pytest.mark.parametrize(
    ("name", "crystal", "structure", "constant", "cohesive"),
    [  # Å, eV per atom, as published with each parameter set
        ("tersoff-1989", "Si", "diamond", 5.432, 4.630),
        ("tersoff-1988-si", "Si", "diamond", 5.432, 4.630),
        ("tersoff-1989", "C", "diamond", 3.566, 7.371),
        ("tersoff-1989", "Ge", "diamond", 5.657, 3.851),
        ("tersoff-1989", "SiC", "zincblende", 4.321, 6.165),
        ("stillinger-weber-si", "Si", "diamond", 5.431, 4.3363),
    ],
)
def test_published_lattice_constants_and_energies(name, crystal, structure, constant, cohesive):
    potential = load_potential(name)
    atoms = bulk(crystal, structure, a=constant)
    graph, _ = build_graph(atoms, potential)
    per_atom = jax.jit(lambda s: potential.energy(potential.params, graph.strained(s * jnp.eye(3))) / len(atoms))
    strains = np.linspace(-2e-3, 2e-3, 9)
    fit = np.polyfit(strains, [float(per_atom(s)) for s in strains], 4)
    roots = np.roots(np.polyder(fit))
    best = float(roots[np.abs(roots).argmin()].real)
    assert abs(constant * (1 + best) - constant) < 6e-4
    assert abs(np.polyval(fit, best) + cohesive) < 6e-4


def images(atoms: Atoms, reach: float) -> list[list[tuple[int, np.ndarray]]]:
    """Neighbours of every atom by brute force: (atom, vector) within `reach` Å."""
    shifts = [np.array(s) @ np.asarray(atoms.cell) for s in product(range(-4, 5), repeat=3)]
    result = []
    for i in range(len(atoms)):
        found = [(j, atoms.positions[j] + s - atoms.positions[i]) for j in range(len(atoms)) for s in shifts]
        result.append([(j, v) for j, v in found if 1e-9 < np.linalg.norm(v) < reach])
    return result


@pytest.mark.parametrize("name", ["SiC", "SiGe"])
def test_tersoff_is_the_published_formula(name):
    """Loops over atoms, written from the paper; rattled far enough for some pairs to be inside the cutoff function."""
    atoms = rattled(name, 0.15)
    potential = load_potential("tersoff-1989")
    p = {key: np.asarray(value) for key, value in potential.params.items()}
    kinds = potential.species_of(atoms.numbers)
    chi = {frozenset((0, 1)): 0.9776, frozenset((1, 2)): 1.00061}

    def cut(i, j, r):
        R, S = np.sqrt(p["R"][i] * p["R"][j]), np.sqrt(p["S"][i] * p["S"][j])
        return 1.0 if r < R else 0.0 if r > S else 0.5 + 0.5 * np.cos(np.pi * (r - R) / (S - R))

    total, partial = 0.0, 0
    for i, neighbours in enumerate(images(atoms, 3.2)):
        a = kinds[i]
        for j, v in neighbours:
            b, r = kinds[j], np.linalg.norm(v)
            partial += 0 < cut(a, b, r) < 1
            zeta = 0.0
            for k, w in neighbours:
                if k == j and np.allclose(v, w):
                    continue
                cosine = v @ w / r / np.linalg.norm(w)
                g = 1 + p["c"][a] ** 2 / p["d"][a] ** 2
                g -= p["c"][a] ** 2 / (p["d"][a] ** 2 + (p["h"][a] - cosine) ** 2)
                zeta += cut(a, kinds[k], np.linalg.norm(w)) * g
            n = p["n"][a]
            order = chi.get(frozenset((a, b)), 1.0) * (1 + (p["beta"][a] * zeta) ** n) ** (-1 / (2 * n))
            repel = np.sqrt(p["A"][a] * p["A"][b]) * np.exp(-(p["lam"][a] + p["lam"][b]) / 2 * r)
            attract = np.sqrt(p["B"][a] * p["B"][b]) * np.exp(-(p["mu"][a] + p["mu"][b]) / 2 * r)
            total += 0.5 * cut(a, b, r) * (repel - order * attract)
    assert partial > 0
    np.testing.assert_allclose(energy(atoms, potential), total, rtol=1e-12)


def test_stillinger_weber_is_the_published_formula():
    atoms = rattled("Si", 0.15)
    potential = load_potential("sw-si")
    eps, sigma, A, B, a, lam, gamma = 2.1683, 2.0951, 7.049556277, 0.6022245584, 1.8, 21.0, 1.2
    total = 0.0
    for neighbours in images(atoms, a * sigma):
        for x, (_, v) in enumerate(neighbours):
            r = np.linalg.norm(v) / sigma
            total += 0.5 * eps * A * (B * r**-4 - 1) * np.exp(1 / (r - a))
            for _, w in neighbours[x + 1 :]:
                s = np.linalg.norm(w) / sigma
                cosine = v @ w / (r * s * sigma**2)
                total += eps * lam * np.exp(gamma / (r - a) + gamma / (s - a)) * (cosine + 1 / 3) ** 2
    np.testing.assert_allclose(energy(atoms, potential), total, rtol=1e-12)


@pytest.mark.parametrize(("name", "crystal"), [("tersoff-1989", "SiC"), ("sw-si", "Si")])
def test_forces_and_stress_equal_differences(name, crystal):
    potential = load_potential(name)
    graph, _ = build_graph(rattled(crystal), potential)
    rng = np.random.default_rng(0)
    u, strain = rng.standard_normal(graph.positions.shape), rng.standard_normal((3, 3))

    @jax.jit
    def along(t, s):
        return potential.energy(potential.params, graph.at(graph.positions + t * u).strained(s * strain))

    slopes = jax.grad(along, argnums=(0, 1))(0.0, 0.0)
    h = 1e-3 / np.abs(u).max()
    for slope, point in zip(slopes, ((1.0, 0.0), (0.0, 1.0)), strict=True):
        at = [float(along(k * h * point[0], k * h * point[1])) for k in (-2, -1, 1, 2)]
        difference = (at[0] - 8 * at[1] + 8 * at[2] - at[3]) / (12 * h)
        assert abs(difference) > 0.1
        np.testing.assert_allclose(float(slope), difference, rtol=1e-7)


@pytest.mark.parametrize("name", available_potentials())
def test_energy_depends_on_the_structure_alone(name):
    potential = load_potential(name)
    atoms = rattled("Si")
    reference = energy(atoms, potential)
    turned = atoms.copy()
    turned.rotate(53.0, (1, -2, 0.3), rotate_cell=True)
    turned.translate((0.3, 5.1, -2.2))
    shuffled = turned[np.random.default_rng(1).permutation(len(turned))]
    shuffled.wrap()
    np.testing.assert_allclose(energy(shuffled, potential), reference, rtol=1e-13)
    np.testing.assert_allclose(energy(atoms.repeat((2, 1, 1)), potential), 2 * reference, rtol=1e-13)
    skewed = atoms.copy()
    skewed.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-1, 1, 1]]) @ np.asarray(atoms.cell))
    np.testing.assert_allclose(energy(skewed, potential), reference, rtol=1e-13)


@pytest.mark.parametrize("name", ["tersoff-1989", "stillinger-weber-si"])
def test_padding_changes_nothing_and_stays_finite(name):
    """More padding, and a graph that is nothing but padding: value and third derivatives are finite."""
    potential = load_potential(name)
    graph, _ = build_graph(rattled("Si"), potential)
    more = dataclasses.replace(
        graph,
        senders=np.pad(graph.senders, (0, 9)),
        receivers=np.pad(graph.receivers, (0, 9)),
        shifts=np.concatenate([graph.shifts, np.tile(np.int32([1, 0, 0]), (9, 1))]),
        edge_mask=np.pad(graph.edge_mask, (0, 9)),
        angles=np.pad(graph.angles, ((0, 7), (0, 0))),
        angle_mask=np.pad(graph.angle_mask, (0, 7)),
    )
    lonely, _ = build_graph(Atoms("Si2", [[0, 0, 0], [0, 0, 2.3]], cell=[20, 20, 20], pbc=True), potential)
    empty, _ = build_graph(Atoms("Si", cell=[20, 20, 20], pbc=True), potential)
    assert not empty.edge_mask.any()

    @jax.jit
    def third(graph):
        u = jnp.ones_like(graph.positions).at[0, 0].set(-0.7)

        def along(t):
            return potential.energy(potential.params, graph.at(graph.positions + t * u))

        gradient = jax.grad(lambda x: potential.energy(potential.params, graph.at(x)))(graph.positions)
        return along(0.0), jax.jacfwd(jax.jacfwd(jax.jacfwd(along)))(0.0), gradient

    for value, padded in zip(third(graph), third(more), strict=True):
        np.testing.assert_allclose(padded, value, rtol=1e-11, atol=1e-11)
    for other in (lonely, empty):
        assert all(np.isfinite(value).all() for value in third(other))
    assert float(third(lonely)[0]) < -1.0  # a bound dimer
    assert float(third(empty)[0]) == 0.0


def test_tersoff_curvature_jumps_at_the_cutoff_radii():
    """The documented defect: across R the second derivative of a dimer's energy jumps by f''_C times the pair's."""
    potential = load_potential("tersoff-1988-si")
    graph, _ = build_graph(Atoms("Si2", [[0, 0, 0], [0, 0, 2.7]], cell=[20, 20, 20], pbc=True), potential)
    along = jnp.zeros((2, 3)).at[1, 2].set(1.0)

    def pair(r):
        return potential.energy(potential.params, graph.at(r * along))

    well = float(jax.jit(pair)(2.7))
    assert well < -1.0
    for order, jump in ((1, 0.0), (2, -0.5 * np.pi**2 / 0.3**2 * well)):
        derivative = pair
        for _ in range(order):
            derivative = jax.grad(derivative)
        derivative = jax.jit(derivative)
        measured = float(derivative(2.7 + 1e-9) - derivative(2.7 - 1e-9))
        np.testing.assert_allclose(measured, jump, rtol=1e-6, atol=1e-6)


def test_graph_against_brute_force():
    """A cell much smaller than the cutoff, so that atoms neighbour several of their own images."""
    potential = dataclasses.replace(load_potential("sw-si"), cutoff=6.0)
    atoms = bulk("Si", a=5.43)
    atoms.rattle(0.1, seed=2)
    graph, margin = build_graph(atoms, potential)
    expected = [(i, j, *np.round(v, 8)) for i, found in enumerate(images(atoms, 6.0)) for j, v in found]
    real = graph.edge_mask
    ours = [
        (int(i), int(j), *np.round(v, 8))
        for i, j, v in zip(graph.receivers[real], graph.senders[real], np.asarray(graph.vectors())[real], strict=True)
    ]
    assert sorted(ours) == sorted(expected)
    lengths = [np.linalg.norm(v) for found in images(atoms, 6.5) for _, v in found]
    np.testing.assert_allclose(margin, np.abs(np.array(lengths) - 6.0).min(), rtol=1e-9)

    counts = np.bincount(graph.receivers[real])
    pairs = graph.angles[graph.angle_mask]
    assert len(pairs) == np.sum(counts * (counts - 1)) == len(np.unique(pairs, axis=0))
    assert np.all(graph.receivers[pairs[:, 0]] == graph.receivers[pairs[:, 1]])
    assert np.all(pairs[:, 0] != pairs[:, 1])


def test_margin_knows_the_pair_it_is_about():
    """In SiC the nearest Si–Si distance lies 0.055 Å beyond that pair's cutoff of 3 Å; other pairs are farther away."""
    _, margin = build_graph(bulk("SiC", "zincblende", a=4.321), load_potential("tersoff"))
    np.testing.assert_allclose(margin, 4.321 / np.sqrt(2) - 3.0, rtol=1e-9)


def test_padded_sizes_are_few_and_tight():
    sizes = {padded_size(k) for k in range(1, 4097)}
    assert len(sizes) < 45
    assert all(k <= padded_size(k) <= max(4, 1.25 * k + 1) for k in range(1, 4097))


def test_registry_and_elements():
    assert load_potential("Tersoff").name == "tersoff-1989"
    assert load_potential("sw-si").name == "stillinger-weber-si"
    with pytest.raises(ValueError, match="unknown potential 'lennard-jones': wigner-jax models lists all"):
        load_potential("lennard-jones")
    with pytest.raises(ValueError, match=r"does not know Al, Au; it covers C, Si, Ge"):
        build_graph(Atoms("AlAuSi", positions=np.eye(3), cell=[9, 9, 9], pbc=True), load_potential("tersoff"))
    with pytest.raises(ValueError, match="periodic"):
        build_graph(Atoms("Si", cell=[9, 9, 9], pbc=(True, True, False)), load_potential("tersoff"))


def test_potential_is_a_pytree_of_its_parameters():
    potential = load_potential("tersoff")
    doubled = jax.tree.map(lambda leaf: 2 * leaf, potential)
    assert doubled.name == potential.name
    np.testing.assert_array_equal(doubled.params["A"], 2 * potential.params["A"])
    graph, _ = build_graph(rattled("Si"), potential)
    value = jax.jit(lambda p, g: p.energy(p.params, g))(potential, graph)
    np.testing.assert_allclose(float(value), energy(rattled("Si"), potential), rtol=1e-13)
    swapped = potential.with_params(doubled.params)
    assert float(swapped.energy(swapped.params, graph)) != float(value)


@pytest.mark.parametrize(
    ("name", "changes", "nearby"),
    [  # factors of parameters; the second neighbours of silicon are at 3.84 Å
        ("tersoff-1989", {"S": 1.4}, {"S": 1.15}),
        ("stillinger-weber-si", {"a": 1.1}, {"a": 1.01}),
        ("stillinger-weber-si", {"sigma": 1.1}, {"sigma": 1.01}),
    ],
)
def test_neighbour_lists_follow_the_parameters_that_are_cutoffs(name, changes, nearby):
    """Pairs between the old cutoff and the new one were cut without a word."""
    atoms = bulk("Si", "diamond", a=5.43, cubic=True)
    potential = load_potential(name)
    graph, _ = build_graph(atoms, potential)
    forces = jax.jit(lambda p, g: jax.grad(lambda x: potential.energy(p, g.at(x)))(g.positions))
    for factors, complete in ((changes, False), (nearby, True)):
        params = dict(potential.params) | {k: potential.params[k] * f for k, f in factors.items()}
        changed = potential.with_params(params)
        assert changed.cutoff == pytest.approx(potential.cutoff * next(iter(factors.values())), rel=1e-12)
        whole = dataclasses.replace(potential, params=params, cutoff=5.5, pair_cutoffs=None, distances=None)
        expected = energy(atoms, whole)
        assert abs(energy(atoms, changed) - expected) < 1e-12 * abs(expected)
        # parameters that only a transformation knows meet the list that is there
        found = evaluate(dataclasses.replace(potential, params=params), graph)
        assert np.isnan(found) != complete
        assert np.isnan(forces(params, graph)).all() != complete
        if complete:
            assert abs(found - expected) < 1e-12 * abs(expected)
    assert jax.jit(lambda p: jnp.asarray(potential.with_params(p).cutoff))(potential.params) == potential.cutoff


def test_the_compiler_multiplies_out_no_table_for_all_edges() -> None:
    """A product of constants as long as the edges takes XLA seconds while it compiles, and then it complains on stderr."""
    units = jnp.ones((4000, 3)) / np.sqrt(3)

    def second(x: jax.Array, v: jax.Array) -> jax.Array:
        def first(y: jax.Array) -> jax.Array:
            return jax.jvp(lambda z: spherical_harmonics((0, 1, 2, 3), z), (y,), (v,))[1]

        return jax.jvp(first, (x,), (v,))[1]

    text = jax.jit(second).lower(units, units).compile().as_text()
    assert "f64[4000,3]" in text
    assert not re.findall(r"= f64\[4000,\d+\]\S* constant\(", text)
    np.testing.assert_array_equal(spherical_harmonics((0,), units), np.ones((4000, 1)))
