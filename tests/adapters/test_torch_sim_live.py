"""torch-sim itself: its models' forces in batches, and κ from them. Needs Python 3.12: python -m pip install torch-sim-atomistic"""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones

import wigner_jax as wj

torch_sim = pytest.importorskip("torch_sim")
torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of torch's packages

SMALL = {"fc2_supercell": (3, 3, 3), "fc3_supercell": (2, 2, 2)}
SIGMA, EPSILON, REACH = 3.405, 0.0104, 8.0  # argon


def model():
    from torch_sim.models.lennard_jones import LennardJonesModel

    return LennardJonesModel(
        sigma=SIGMA, epsilon=EPSILON, cutoff=REACH, dtype=torch.float64, device=torch.device("cpu"), compute_forces=True,
        compute_stress=True,
    )  # fmt: skip


def test_argon():
    """κ of a torch-sim model against the same potential as an ASE calculator."""
    atoms = bulk("Ar", a=5.31, cubic=True)
    calculator = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=REACH, smooth=False)
    options = {"mesh": (5, 5, 5), "temperatures": (80.0,), "relax": False, **SMALL}
    simulated = wj.conductivity(atoms, model(), **options)
    serial = wj.conductivity(atoms, calculator, **options)
    np.testing.assert_allclose(simulated.force_constants.fc2, serial.force_constants.fc2, atol=1e-8)
    np.testing.assert_allclose(simulated.conductivity.kappa_TOT, serial.conductivity.kappa_TOT, rtol=1e-4, atol=1e-6)
    assert simulated.report.force_constants.calls == serial.report.force_constants.calls
