"""Cutoffs and rotational sum rules: what is imposed holds, nothing else changes, and what obeys it stays as it is."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from ase.build import bulk, graphene
from solved_problems import strained

import wigner_jax as wj
from wigner_jax.errors import InputError
from wigner_jax.ifc.constraints import (
    _acoustic,
    _rotational,
    nearest_that_obeys,
    pair_distances,
    with_cutoff,
    with_rotational_invariance,
)  # fmt: skip
from wigner_jax.ifc.residuals import residuals
from wigner_jax.physics.bands import _frequencies
from wigner_jax.pipeline import constrained, prepare

CELLS = {
    "zincblende": (bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (2, 2, 2)),
    "strained": (strained(), (2, 1, 1), (2, 1, 1)),
    "non-diagonal": (strained(), (-1, 1, 1, 1, -1, 1, 1, 1, -1), (-1, 1, 1, 1, -1, 1, 1, 1, -1)),
    "wurtzite": (bulk("SiC", "wurtzite", a=3.07, c=5.04), (2, 2, 1), (2, 2, 1)),
}


def random_constants(case: str, seed: int = 0) -> tuple[wj.Supercells, wj.ForceConstants]:
    """Symmetric, with acoustic sum rules, and without any other property of a crystal."""
    cells = wj.supercells_from_atoms(*CELLS[case])
    rng, n = np.random.default_rng(seed), cells.crystal.n_atoms
    found = []
    for order, supercell in ((2, cells.fc2_supercell), (3, cells.fc3_supercell)):
        phi = rng.standard_normal((n,) + (supercell.n_atoms,) * (order - 1) + (3,) * order)
        found.append(nearest_that_obeys(cells.crystal, supercell, phi, _acoustic(phi.shape)))
    return cells, wj.ForceConstants(*found)


@pytest.mark.parametrize("case", CELLS)
def test_a_cutoff_leaves_symmetry_and_the_sum_rule(case):
    cells, fc = random_constants(case)
    assert max(*residuals(cells, fc).sum_rules, *residuals(cells, fc).symmetry) < 1e-12
    distances = pair_distances(cells.crystal, cells.fc3_supercell)
    shells = np.unique(distances.round(6))
    cutoff = float(shells[-3] + shells[-2]) / 2
    cut, change = with_cutoff(cells, fc, cutoff)
    found = residuals(cells, cut)
    assert max(*found.sum_rules, *found.symmetry) < 1e-11
    assert 1e-3 < change.fc3 < 1
    assert change.fc2 == 0
    home = distances[cells.fc3_supercell.p2s_map]
    beyond = np.maximum(np.maximum(home[:, :, None], home[:, None, :]), distances[None]) > cutoff
    assert not np.any(cut.fc3[beyond])
    assert np.any(cut.fc3[~beyond])
    again, little = with_cutoff(cells, cut, cutoff)
    np.testing.assert_allclose(again.fc3, cut.fc3, atol=1e-11 * np.abs(cut.fc3).max())
    assert little.fc3 < 1e-11
    # the nearest: what was lost is orthogonal to all that there may be
    other, _ = with_cutoff(cells, random_constants(case, 1)[1], cutoff)
    lost = fc.fc3 - cut.fc3
    assert abs(np.vdot(lost, other.fc3)) < 1e-11 * np.linalg.norm(lost) * np.linalg.norm(other.fc3)
    same, none = with_cutoff(cells, fc, 2 * float(shells[-1]))
    assert same is fc
    assert none == (0.0, 0.0)


def test_distances_are_those_of_ase():
    cells, _ = random_constants("non-diagonal")
    crystal, supercell = cells.crystal, cells.fc3_supercell
    from ase import Atoms

    atoms = Atoms(
        positions=supercell.positions_in(crystal), cell=supercell.matrix @ np.asarray(crystal.lattice), pbc=True,
        numbers=np.asarray(crystal.numbers)[supercell.primitive_index],
    )  # fmt: skip
    np.testing.assert_allclose(pair_distances(crystal, supercell), atoms.get_all_distances(mic=True), atol=1e-9)


def test_phono3py_cuts_at_the_same_places():
    pytest.importorskip("phono3py")
    cells, fc = random_constants("wurtzite")
    peer = wj.to_phono3py(wj.GivenConstants(cells, fc))
    peer.cutoff_fc3_by_zero(3.5)
    theirs = wj.from_phono3py(peer)
    ours, _ = with_cutoff(theirs.supercells, theirs.force_constants, 3.5)
    np.testing.assert_array_equal(np.asarray(theirs.force_constants.fc3) == 0, np.asarray(ours.fc3) == 0)


def test_a_cutoff_beyond_everything_or_nothing_is_refused():
    cells, fc = random_constants("zincblende")
    with pytest.raises(InputError, match=r"nothing is left of Φ3 within 1 Å: the nearest atoms are 1\.871 Å apart"):
        with_cutoff(cells, fc, 1.0)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="must be above 0"):
            with_cutoff(cells, fc, bad)


@pytest.mark.parametrize("case", CELLS)
def test_rotational_sum_rules(case):
    """Symmetry implies them in some crystals, which stay as they are."""
    cells, fc = random_constants(case)
    rules = _rotational(cells.crystal, cells.fc2_supercell)
    if case == "zincblende":
        assert with_rotational_invariance(cells, fc)[1].fc2 < 1e-12
        return
    assert np.abs(rules @ fc.fc2.ravel()).max() > 1e-3
    found, change = with_rotational_invariance(cells, fc)
    assert np.abs(rules @ found.fc2.ravel()).max() < 1e-11
    after = residuals(cells, found)
    assert max(after.sum_rules[0], after.symmetry[0]) < 1e-11
    assert 1e-3 < change.fc2 < 1
    assert change.fc3 == 0
    assert found.fc3 is fc.fc3
    again, little = with_rotational_invariance(cells, found)
    np.testing.assert_allclose(again.fc2, found.fc2, atol=1e-11)
    assert little.fc2 < 1e-11


@pytest.fixture(scope="module")
def layer():
    """Graphene by a short-ranged potential, in a supercell that holds its range."""
    atoms = graphene("C2", a=2.5303, vacuum=8.0)
    atoms.pbc = True
    potential = wj.restrict(wj.load_potential("tersoff-1989"), [6])
    cells = wj.supercells_from_atoms(atoms, (5, 5, 1), (1, 1, 1))
    plan, _ = wj.force_constants(dataclasses.replace(cells, fc3_supercell=cells.fc2_supercell), potential)
    return dataclasses.replace(cells, fc3_supercell=cells.fc2_supercell), plan


def test_derivatives_of_an_energy_obey_them_without_help(layer):
    """Up to stress, of which a thousandth of an Å is left here."""
    cells, fc = layer
    _, change = with_rotational_invariance(cells, fc)
    assert change.fc2 < 1e-3
    noisy = np.asarray(fc.fc2) + 0.1 * np.random.default_rng(0).standard_normal(np.shape(fc.fc2))
    noisy = nearest_that_obeys(cells.crystal, cells.fc2_supercell, noisy, _acoustic(noisy.shape))
    found, _ = with_rotational_invariance(cells, wj.ForceConstants(noisy, fc.fc3))
    # the bending mode: ω ∝ q² with the sum rules, ω ∝ q without
    q = np.array([[0.005, 0, 0], [0.01, 0, 0]])
    plan, slopes = wj.make_plan(cells, (1, 1, 1)), []
    for second in (noisy, found.fc2):
        with jax.numpy_rank_promotion("allow"):
            lowest = np.abs(np.asarray(_frequencies(q, plan, second, None))).min(axis=1)
        slopes.append(np.log(lowest[1] / lowest[0]) / np.log(2))
    assert slopes[0] < 1.2
    assert slopes[1] > 1.9


def test_what_was_imposed_is_said(layer):
    cells, fc = layer
    assert constrained(cells, fc) == (fc, "")
    cut, words = constrained(cells, fc, fc3_cutoff=3.0, rotational=True)
    assert words.startswith("Φ3 within 3 Å (")
    assert "left out), rotational sum rules (Φ2 changed by " in words
    assert not np.array_equal(cut.fc3, fc.fc3)


def test_pairs_belong_to_displacements():
    with pytest.raises(InputError, match="pair_cutoff belongs to finite displacements"):
        prepare("Si", "tersoff-1989", pair_cutoff=4.0, derivatives="ad")
    with pytest.raises(InputError, match="the cutoff of pairs is -1 Å"):
        prepare("Si", "tersoff-1989", pair_cutoff=-1.0, derivatives="finite-displacement", relax=False)
