"""Three frames "from DFT": forces of another strength than the potential's."""

import ase.io
import jax
import numpy as np
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from wigner_jax import WignerCalculator

jax.config.update("jax_enable_x64", True)

rng, made = np.random.default_rng(0), []
for _ in range(3):
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.rattle(0.05, rng=rng)
    atoms.calc = SinglePointCalculator(atoms, forces=1.1 * WignerCalculator("mace-bundled").get_forces(atoms))
    made.append(atoms)
ase.io.write("frames.extxyz", made)
