"""MatCalc's interface against MatCalc itself. Needs the package: python -m pip install matcalc"""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

import wigner_jax as wj
from wigner_jax.errors import InputError

matcalc = pytest.importorskip("matcalc")
OPTIONS = {
    "fc2_supercell": (2, 2, 2), "fc3_supercell": (2, 2, 2), "mesh_numbers": (5, 5, 5), "relax_structure": False,
    "t_min": 0, "t_max": 300, "t_step": 150,
}  # fmt: skip
CALCULATOR = "stillinger-weber-si"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of MatCalc's packages


def test_the_same_keys_and_nearly_the_same_number():
    """phono3py keeps the diagonal of degenerate velocities, and displaces by 0.03 Å where we differentiate."""
    from wigner_jax.adapters.matcalc import Phonon3Calc

    atoms = bulk("Si", a=5.431)
    theirs = matcalc.Phonon3Calc(wj.WignerCalculator(CALCULATOR), **OPTIONS).calc(atoms)
    calculator = Phonon3Calc(wj.WignerCalculator(CALCULATOR), **OPTIONS)
    ours = calculator.calc(atoms)
    assert set(theirs) <= set(ours)
    np.testing.assert_array_equal(ours["temperatures"], theirs["temperatures"])
    assert np.isnan(ours["thermal_conductivity"][0])
    np.testing.assert_allclose(ours["thermal_conductivity"][1:], theirs["thermal_conductivity"][1:], rtol=0.1)
    total = ours["thermal_conductivity_populations"] + ours["thermal_conductivity_coherences"]
    np.testing.assert_allclose(total[1:], ours["thermal_conductivity"][1:], rtol=1e-12)
    assert ours["_units"]["thermal_conductivity"] == "W/(m*K)"
    peer = ours["phonon3"]
    peer.init_phph_interaction()
    peer.run_thermal_conductivity(temperatures=[150, 300])
    np.testing.assert_allclose(peer.thermal_conductivity.kappa[0, :, 0], theirs["thermal_conductivity"][1:], rtol=0.02)
    (many,) = list(calculator.calc_many([atoms], n_jobs=1))
    np.testing.assert_allclose(many["thermal_conductivity"][1:], ours["thermal_conductivity"][1:], rtol=1e-10)


def test_options_without_a_meaning():
    from wigner_jax.adapters.matcalc import Phonon3Calc

    atoms = bulk("Si", a=5.431)
    for options in (
        {"thermal_conductivity_kwargs": {"is_reducible_collision_matrix": True}}, {"disp_kwargs": {"distance": 0.01}}, {"write_kappa": True},
        {"t_max": -150},
    ):  # fmt: skip
        with pytest.raises(InputError):
            Phonon3Calc(wj.WignerCalculator(CALCULATOR), **OPTIONS | options).calc(atoms)
