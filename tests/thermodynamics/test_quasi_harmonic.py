"""The quasi-harmonic free energy: identities of thermodynamics, a solid with a known answer, silicon."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from ase.build import bulk

from wigner_jax import default_supercells, force_constants, load_potential, make_plan, relax
from wigner_jax._solve import phonons
from wigner_jax.errors import InputError
from wigner_jax.physics.conductivity import heat_capacity
from wigner_jax.thermodynamics.expansion import EV_A3_TO_GPA, thermal_expansion
from wigner_jax.thermodynamics.quasi_harmonic import Volumes, mode_entropy, mode_free_energy, quasi_harmonic, volumes_of
from wigner_jax.units import K_B, THZ_TO_EV

V0, BULK, GAMMA = 40.0, 0.6, 1.3  # Å³, eV/Å³, -


def solid(scales=None, gamma=GAMMA):
    """E(V) of a Birch–Murnaghan solid with B' = 4 and frequencies V^-γ: its Grüneisen parameter is γ at every T."""
    scales = np.linspace(0.96, 1.08, 13) if scales is None else scales
    volumes = V0 * np.asarray(scales)
    strain = ((V0 / volumes) ** (2 / 3) - 1) / 2
    energies = -5 + 9 * V0 * BULK * strain**2 / 2
    frequencies = np.array([[2.0, 3.0, 4.0], [5.0, 7.0, 11.0]]) * (volumes / V0)[:, None, None] ** -gamma
    return Volumes(volumes, energies, frequencies, np.array([1, 3]))


def test_modes_obey_thermodynamics():
    """S = -∂F/∂T, C = T ∂S/∂T; F = hf/2 at rest; modes at zero frequency have no part."""
    f = np.array([0.5, 3.0, 15.0])

    def F(T):
        return mode_free_energy(f, T[None])[0].sum()

    def S(T):
        return mode_entropy(f, T[None])[0].sum()

    for T in (50.0, 300.0, 2000.0):
        np.testing.assert_allclose(-jax.grad(F)(T), S(np.asarray(T)), rtol=1e-10)
        np.testing.assert_allclose(T * jax.grad(S)(T), heat_capacity(f, np.array([T]))[0].sum(), rtol=1e-9)
    np.testing.assert_allclose(mode_free_energy(f, np.array([0.5]))[0], THZ_TO_EV * f / 2, rtol=1e-12)
    none = np.array([0.0, -1.0])
    assert np.all(mode_free_energy(none, np.array([300.0])) == 0)
    assert np.all(mode_entropy(none, np.array([300.0])) == 0)


def test_a_solid_with_a_known_answer():
    """γ = VαB/C_V is the exponent of its frequencies; α is dV/dT; C_P - C_V = TVα²B; B softens; classical heat."""
    T = np.array([20.0, 100.0, 300.0, 301.0, 299.0, 800.0])
    found = quasi_harmonic(solid(), T, "birchmurnaghan")
    np.testing.assert_allclose(found.gruneisen_volume, GAMMA, rtol=1e-4)
    slope = (found.volume[3] - found.volume[4]) / 2 / found.volume[2]
    np.testing.assert_allclose(found.alpha_volume[2], slope, rtol=2e-3)
    B = found.bulk_modulus / EV_A3_TO_GPA
    difference = found.heat_capacity_pressure - found.heat_capacity
    np.testing.assert_allclose(difference, T * found.volume * found.alpha_volume**2 * B, rtol=1e-9)
    assert found.volume[0] > V0  # zero-point pressure
    assert np.all(np.diff(found.bulk_modulus[[0, 1, 2, 5]]) < 0)
    np.testing.assert_allclose(found.heat_capacity[-1], 3 * K_B, rtol=0.02)
    zero = THZ_TO_EV * (np.array([9.0, 23.0]) @ [0.25, 0.75]) / 2
    np.testing.assert_allclose(found.free_energy[0], -5 + zero, atol=5e-3)
    np.testing.assert_allclose(quasi_harmonic(solid(), (300.0,), "vinet").volume, found.volume[2], rtol=1e-4)


def test_a_stiff_lattice_with_constant_frequencies_does_not_expand():
    found = quasi_harmonic(solid(gamma=0.0), (100.0, 1000.0), "birchmurnaghan")
    np.testing.assert_allclose(found.volume, V0, rtol=1e-6)
    np.testing.assert_allclose(found.bulk_modulus, BULK * EV_A3_TO_GPA, rtol=1e-3)
    np.testing.assert_allclose(found.alpha_volume, 0.0, atol=1e-12)


def test_negative_expansion():
    found = quasi_harmonic(solid(gamma=-0.5), (300.0,), "birchmurnaghan")
    assert found.alpha_volume[0] < 0
    assert found.heat_capacity_pressure[0] > found.heat_capacity[0]


def test_misuse():
    with pytest.raises(InputError, match="five volumes"):
        quasi_harmonic(solid([0.98, 1.0, 1.02, 1.04]), (300.0,))
    with pytest.raises(InputError, match="unknown equation of state 'sj'"):
        quasi_harmonic(solid(), (300.0,), "sj")
    with pytest.raises(InputError, match="add larger volumes"):
        quasi_harmonic(solid(np.linspace(0.9, 0.98, 7)), (300.0,))
    one = solid()
    with pytest.raises(InputError, match="an energy"):
        quasi_harmonic(dataclasses.replace(one, energies=one.energies * np.nan), (300.0,))


@pytest.mark.slow
def test_silicon_against_the_first_order():
    """Tersoff's silicon at room temperature: the same as α = S γ C/V at the static volume, to second-order effects."""
    potential = load_potential("tersoff-1989")
    atoms, _ = relax(bulk("Si", a=5.43), potential)
    atoms.info |= {"fc2_supercell": (2, 2, 2), "fc3_supercell": (2, 2, 2)}
    T = (300.0,)
    found = quasi_harmonic(volumes_of(atoms, potential, (3, 3, 3), np.linspace(0.97, 1.04, 6)), T)
    cells = default_supercells(atoms)
    plan = make_plan(cells, (3, 3, 3))
    fc, _ = force_constants(cells, potential)
    first = thermal_expansion(cells, potential, plan, fc, phonons(plan, fc.fc2), T)
    np.testing.assert_allclose(found.bulk_modulus, first.bulk_modulus, rtol=0.06)
    np.testing.assert_allclose(found.heat_capacity, first.heat_capacity, rtol=0.02)
    np.testing.assert_allclose(found.gruneisen_volume, first.gruneisen_volume, rtol=0.15)
    assert found.bulk_modulus[0] < first.bulk_modulus
    assert found.volume[0] > atoms.get_volume()


def test_imaginary_modes_have_no_free_energy():
    potential = load_potential("tersoff-1988-si")
    atoms = bulk("Si", a=5.43)
    atoms.info |= {"fc2_supercell": (2, 2, 2), "fc3_supercell": (2, 2, 2)}
    with pytest.raises(InputError, match="imaginary modes at 2 times the volume"):
        volumes_of(atoms, potential, (3, 3, 3), (2.0,))
