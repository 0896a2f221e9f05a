"""What is said of a crystal that was not relaxed."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.units import GPa

import wigner_jax as wj
from wigner_jax.pipeline import Report
from wigner_jax.relaxation.at_rest import forces_left


@pytest.fixture(scope="module")
def relaxed():
    """Wurtzite, whose free coordinate has forces where it is off."""
    potential = wj.load_potential("tersoff-1989")
    return wj.relax(bulk("SiC", "wurtzite", a=3.08, c=5.03), potential)[0], potential


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.0, 1.02), (0.05, 1.0)])
def test_forces_and_stress(relaxed, shift, scale):
    atoms, potential = relaxed[0].copy(), relaxed[1]
    atoms.set_cell(scale * atoms.cell, scale_atoms=True)
    atoms.positions[atoms.numbers == 6] += [0, 0, shift]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        force, stress = forces_left(atoms, potential)
    atoms.calc = wj.WignerCalculator(potential)
    np.testing.assert_allclose(force, np.abs(atoms.get_forces()).max(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(stress * GPa, np.abs(atoms.get_stress()).max(), rtol=1e-9, atol=1e-12)
    assert [float(f"{force:.3g}") > 0.01] == [any("act on the atoms" in str(w.message) for w in said)]
    assert (force > 1) == (shift > 0)
    assert (stress > 5) == (scale > 1 or shift > 0) == any("stress" in str(w.message) for w in said)


def test_a_calculator_without_stress(relaxed):
    class Springs(Calculator):
        implemented_properties = ["energy", "forces"]  # noqa: RUF012

        def calculate(self, atoms, *rest):
            self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), -0.004)}

    assert forces_left(relaxed[0], Springs()) == (0.004, pytest.approx(np.nan, nan_ok=True))
    assert np.isnan(forces_left(relaxed[0], object())).all()


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ((0.0312, 2.54), "not relaxed (forces up to 0.031 eV/Å, stress up to 2.5 GPa)"),
        ((0.0312, np.nan), "not relaxed (forces up to 0.031 eV/Å)"),
        ((np.nan, np.nan), "not relaxed"),
        (None, "not relaxed"),
    ],
)
def test_report(left, words):
    assert Report("SiC", "tersoff-1989", "ad", left=left).origin == f"tersoff-1989, {words}"
