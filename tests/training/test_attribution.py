"""Shares of shells, modes and frames: they add up, they are slopes, and they know who is near."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk

from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.potentials.registry import load_potential
from wigner_jax.training import attribution
from wigner_jax.training.frames import labelled
from wigner_jax.training.on_conductivity.gradient import value_and_grad
from wigner_jax.training.on_conductivity.material import make_material
from wigner_jax.types import ForceConstants, Scattering


def populations(solution):
    return jnp.log(jnp.mean(solution.conductivity.kappa_P[0, :3])), ()


@pytest.fixture(scope="module")
def case():
    potential = load_potential("tersoff-1989")
    cells = supercells_from_atoms(bulk("Si", a=5.432), (2, 2, 2), (2, 2, 2))
    material = make_material("Si", cells, potential, (3, 3, 3), scattering=Scattering(None))
    gradient = value_and_grad(material, potential.energy, populations)(potential.params)
    return potential, material, material.force_constants(potential.energy, potential.params), gradient


def test_shares_of_triplets_add_up_to_minus_two(case):
    """Without isotopes and boundaries κ_P goes with the inverse square of Φ3."""
    _, material, fc, gradient = case
    shells = attribution.triplet_shells(material, fc, gradient.constants)
    assert shells.share.sum() == pytest.approx(-2, rel=1e-9)
    assert shells.counts.sum() == np.prod(fc.fc3.shape[:3])
    assert shells.labels[0] == "Si-Si-Si 0.00 0.00 0.00"
    assert len(set(shells.labels)) == len(shells.labels)
    lines = repr(shells).splitlines()
    assert lines[0] == f"Shells({len(shells.labels)} shells, shares add up to -2.0000; the largest:"
    assert len(lines) == 6
    assert shells.largest(1)[0][0] in lines[1]
    # the potential ends between the first and the second neighbours
    near = shells.distances.max(axis=1) < 2.4
    assert np.abs(shells.share[near]).sum() > 0.3 * np.abs(shells.share).sum()


def test_shares_of_pairs_are_slopes(case):
    """A factor on one shell of Φ2 and, for the sum rule, on the atom with itself."""
    _, material, fc, gradient = case
    shells = attribution.pair_shells(material, fc, gradient.constants)
    first = int(np.argmin(np.where(shells.distances[:, 0] > 1, shells.distances[:, 0], np.inf)))
    itself = int(np.argmin(shells.distances[:, 0]))
    cells = material.supercells
    near = attribution.distances(cells.crystal, cells.fc2_supercell)[cells.fc2_supercell.p2s_map]
    change = np.asarray(fc.fc2) * (np.abs(near - shells.distances[first, 0]) < 1e-3)[..., None, None]
    rows = np.arange(2)
    change[rows, cells.fc2_supercell.p2s_map] -= change.sum(axis=1)

    def at(h):
        return float(populations(material.solution(ForceConstants(fc.fc2 + h * change, fc.fc3)))[0])

    h = 1e-5
    slope = (8 * (at(h) - at(-h)) - at(2 * h) + at(-2 * h)) / (12 * h)
    onsite = np.sum(
        np.asarray(gradient.constants.fc2)[rows, cells.fc2_supercell.p2s_map]
        * change[rows, cells.fc2_supercell.p2s_map]
    )
    assert shells.share[first] + onsite == pytest.approx(slope, rel=1e-4)
    assert shells.counts[itself] == 2
    assert shells.counts[first] == 8


def test_shares_of_modes(case):
    _, material, fc, gradient = case
    shares = attribution.mode_shares(material, gradient.solution, fc, populations)
    assert shares.three_phonon.sum() + shares.isotope.sum() == pytest.approx(-1, rel=1e-9)
    assert np.all(shares.three_phonon <= 1e-15)
    assert repr(shares).startswith(
        "ModeShares(4 points, 6 bands; shares of three phonons add up to -1.0000, of isotopes to"
    )
    assert shares.frequencies.shape == shares.kappa.shape[1:]


def test_influence_of_frames(case):
    """The change of κ after a small step on the frame."""
    potential, material, _, gradient = case
    atoms = bulk("Si", a=5.5, cubic=True)
    atoms.rattle(0.05, seed=1)
    changed = {**potential.params, "B": 1.001 * potential.params["B"]}
    (frame,) = labelled([atoms], potential.with_params(changed))
    (found,) = attribution.frame_influence(potential.energy, potential.params, None, [frame], gradient.params)
    slope = attribution.frame_value_and_grad(potential.energy, potential.params, None, frame)[1]
    # only A is moved, so that the step is short in every other parameter
    part = -float(np.vdot(gradient.params["A"], slope["A"]))

    def at(h):
        params = {**potential.params, "A": potential.params["A"] - h * slope["A"]}
        return float(populations(material.solution(material.force_constants(potential.energy, params)))[0])

    h = 1e-6 * float(np.abs(potential.params["A"]).max() / np.abs(slope["A"]).max())
    assert part == pytest.approx((at(h) - at(-h)) / (2 * h), rel=1e-4)
    assert np.isfinite(found)
    assert found != part


def test_plots(case):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    _, material, fc, gradient = case
    axes = Figure().subplots(1, 2)
    attribution.plot_shells(axes[0], attribution.pair_shells(material, fc, gradient.constants), 3)
    attribution.plot_modes(axes[1], attribution.mode_shares(material, gradient.solution, fc, populations))
    assert len(axes[0].patches) == 3
    assert len(axes[1].lines[0].get_xdata()) == jax.tree.leaves(gradient.solution.linewidths)[0][0].size
