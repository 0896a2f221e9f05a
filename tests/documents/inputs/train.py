"""Frames with energies and forces of a potential, a potential to train, and two optimizer steps instead of a thousand."""

import jax
import numpy as np
import optax  # noqa: F401
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

import wigner_jax as wj
from wigner_jax import training

jax.config.update("jax_enable_x64", True)
potential = wj.load_potential("mace-bundled")


def labelled(seed):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.05, rng=np.random.default_rng(seed))
    atoms.calc = wj.WignerCalculator(potential)
    atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
    return training.frame_of(atoms, potential)


frames, held_out = [labelled(k) for k in range(8)], [labelled(8)]
settings = training.TrainSettings
training.TrainSettings = lambda **given: settings(**{**given, "steps": 2})
