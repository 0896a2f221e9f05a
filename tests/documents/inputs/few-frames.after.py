"""The page's update reproduces the frames."""

import numpy as np

from wigner_jax import WignerCalculator

assert found.converged  # noqa: F821
assert found.losses[-1] < 1e-3 * found.losses[0]  # noqa: F821
for atoms in made:  # noqa: F821
    forces = WignerCalculator(tuned).get_forces(atoms)  # noqa: F821
    np.testing.assert_allclose(forces, atoms.get_forces(), atol=0.03 * np.abs(atoms.get_forces()).max())
