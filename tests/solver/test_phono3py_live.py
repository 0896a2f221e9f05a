"""Linewidths against phono3py run on the spot, with its gauge-invariant flags."""

from __future__ import annotations

import functools

import ase.io
import numpy as np
import pytest
from phono3py_peer import new_peer, peer_isotope, run_peer
from reference_materials import cells_of
from solved_problems import strained, tersoff

from wigner_jax._solve import make_plan, solve
from wigner_jax.crystal.elements import natural_isotopes
from wigner_jax.ifc.autodiff import force_constants
from wigner_jax.physics.broadening.gaussian import Gaussian
from wigner_jax.physics.broadening.tetrahedron import Tetrahedron
from wigner_jax.types import ForceConstants

phono3py = pytest.importorskip("phono3py")

TEMPERATURES = (100.0, 300.0)


def peer_of(atoms, fc2, fc3, primitive):
    return new_peer(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, fc2, fc3, primitive)


@functools.cache
def stored_forces(shared, file: str):
    """Peer with force constants by finite displacements from stored forces (MACE-MP-0b, 0.03 Å), symmetrised."""
    data = np.load(shared / f"data/mace-force-sets/{file}.npz")
    structures = ase.io.iread(shared / "data/phonondb/phononDB-PBE-structures.extxyz")
    atoms = next(
        a for a in structures if a.info["mp_id"] == str(data["mp_id"]) and a.info["symm.no"] == int(data["spacegroup"])
    )
    primitive = atoms.info.get("primitive_matrix", np.eye(3))
    peer = peer_of(atoms, atoms.info["fc2_supercell"], atoms.info["fc3_supercell"], primitive)
    peer.generate_displacements(distance=0.03)
    peer.generate_fc2_displacements(distance=0.03)
    assert len(data["fc3_forces"]) == len(peer.supercells_with_displacements)
    peer.forces, peer.phonon_forces = data["fc3_forces"], data["fc2_forces"]
    peer.produce_fc2()
    peer.produce_fc3()
    peer.symmetrize_fc2()
    peer.symmetrize_fc3()
    return peer


@functools.cache
def low_symmetry():
    peer = peer_of(strained(), np.diag([3, 3, 3]), np.diag([2, 2, 2]), np.eye(3))
    fc, _ = force_constants(cells_of(peer), tersoff())
    peer.fc2, peer.fc3 = np.array(fc.fc2), np.array(fc.fc3)
    return peer


def compare(peer, dims, sigma):
    frequencies, expected, *_ = run_peer(peer, dims, sigma, TEMPERATURES)
    cells = cells_of(peer)
    plan = make_plan(cells, dims)
    fc = ForceConstants(np.array(peer.fc2), np.array(peer.fc3))
    if len(fc.fc2) != cells.crystal.n_atoms:  # full arrays: the rows of the home atoms
        fc = ForceConstants(fc.fc2[cells.fc2_supercell.p2s_map], fc.fc3[cells.fc3_supercell.p2s_map])
    broadening = Tetrahedron.for_plan(plan) if sigma is None else Gaussian(sigma)
    ours = solve(plan, fc, TEMPERATURES, broadening=broadening)
    actual = np.array(ours.phonons.frequencies[plan.mesh.irreducible])
    actual[0, :3] = 0  # at Γ, where rounding in Φ2 is all there is, the peer sets them to 0
    np.testing.assert_allclose(actual, frequencies, rtol=0, atol=1e-6)
    error = np.abs(ours.linewidths.three_phonon - expected).max() / expected.max()
    assert error < 1e-6
    isotope = peer_isotope(peer, dims, sigma)
    assert isotope.max() > 0
    error_iso = np.abs(ours.linewidths.isotope - isotope).max() / isotope.max()
    print(f"{dims} σ={sigma}: γ {error:.1e}, isotope {error_iso:.1e} of the largest")
    assert error_iso < 1e-6


@pytest.mark.parametrize("sigma", [None, 0.3])
def test_low_symmetry(sigma):
    """Triclinic, from an analytic potential by automatic differentiation."""
    compare(low_symmetry(), (3, 4, 3), sigma)


@pytest.mark.parametrize(
    ("n", "sigma"),
    [(5, None), pytest.param(11, None, marks=pytest.mark.slow), pytest.param(11, 0.1, marks=pytest.mark.slow)],
)
def test_libr(shared, n, sigma):
    compare(stored_forces(shared, "mp-23259-LiBr-rs"), (n, n, n), sigma)


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [None, 0.1])
def test_wurtzite_beo(shared, sigma):
    compare(stored_forces(shared, "mp-2542-BeO-wz"), (9, 9, 7), sigma)


def test_mass_variances():
    from phono3py.other.isotope import get_mass_variances

    atoms = strained()
    crystal = cells_of(peer_of(atoms, np.eye(3), np.eye(3), np.eye(3))).crystal
    expected = get_mass_variances(symbols=atoms.get_chemical_symbols())
    np.testing.assert_allclose(natural_isotopes(crystal), expected, rtol=1e-8)  # the table has eight digits
