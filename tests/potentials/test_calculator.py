"""The ASE calculator: consistent derivatives, ASE's conventions, no recompilation along a trajectory."""

from pathlib import Path

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.md.verlet import VelocityVerlet

from wigner_jax import WignerCalculator, load_potential
from wigner_jax.potentials.evaluate import energy_forces_stress

MACE = Path(__file__).parents[1] / "data/mace_reference" / "mace-mp-0-small.model"


def crystal(name):
    if name == "mace":
        return bulk("MgO", "rocksalt", a=4.3, cubic=True), load_potential(str(MACE))
    return bulk("SiC", "zincblende", a=4.3, cubic=True), load_potential("tersoff-1989")


@pytest.mark.parametrize("name", ["tersoff", "mace"])
def test_forces_and_stress_are_derivatives_of_the_energy(name):
    atoms, potential = crystal(name)
    atoms.set_cell(atoms.cell[:] + np.random.default_rng(0).normal(0, 0.05, (3, 3)), scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = WignerCalculator(potential)
    numeric = calculate_numerical_forces(atoms, eps=1e-4, iatoms=[0, 5])
    np.testing.assert_allclose(atoms.get_forces()[[0, 5]], numeric, rtol=0, atol=1e-6 * np.abs(numeric).max())
    numeric = calculate_numerical_stress(atoms, eps=1e-5)
    np.testing.assert_allclose(atoms.get_stress(), numeric, rtol=0, atol=1e-6 * np.abs(numeric).max())
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_a_name_is_as_good_as_a_potential():
    atoms, potential = crystal("tersoff")
    energies = [WignerCalculator(x).get_potential_energy(atoms) for x in (potential, "tersoff-1989")]
    assert energies[0] == energies[1]


def test_a_trajectory_conserves_energy_and_compiles_a_few_times_at_most():
    atoms, potential = crystal("tersoff")
    MaxwellBoltzmannDistribution(atoms, temperature_K=600, rng=np.random.default_rng(2))
    atoms.calc = WignerCalculator(potential)
    before, start = energy_forces_stress._cache_size(), atoms.get_total_energy()
    dynamics, energies = VelocityVerlet(atoms, timestep=0.5 * units.fs), []
    dynamics.attach(lambda: energies.append(atoms.get_total_energy()))
    dynamics.run(60)
    assert np.ptp(energies) < 5e-3 * atoms.get_kinetic_energy()
    assert abs(energies[-1] - start) < 5e-3 * atoms.get_kinetic_energy()
    assert energy_forces_stress._cache_size() - before <= 3


def test_a_small_cell_does_not_pay_for_a_large_one_before_it(monkeypatch):
    atoms, potential = crystal("tersoff")
    lengths = []
    monkeypatch.setattr(
        "wigner_jax.potentials.calculator.energy_forces_stress",
        lambda potential, graph: lengths.append(len(graph.senders)) or energy_forces_stress(potential, graph),
    )
    calculator = WignerCalculator(potential)
    for cell in (atoms, atoms.repeat(2), atoms):
        cell.calc = calculator
        cell.get_forces()
        calculator.reset()
    assert lengths[0] == lengths[2] < lengths[1]


def test_what_is_not_periodic_is_refused():
    atoms, potential = crystal("tersoff")
    atoms.pbc = (True, True, False)
    atoms.calc = WignerCalculator(potential)
    with pytest.raises(ValueError, match="periodic in three directions"):
        atoms.get_potential_energy()
