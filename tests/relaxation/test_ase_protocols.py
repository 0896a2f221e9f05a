"""The two-stage relaxation of the k_SRME benchmark: it ends where Newton's method ends, and says what happened."""

from __future__ import annotations

import ase.optimize
import numpy as np
import pytest
from ase.build import bulk
from ase.spacegroup.symmetrize import check_symmetry

from wigner_jax.potentials.evaluate import energy_forces_stress
from wigner_jax.potentials.registry import load_potential
from wigner_jax.relaxation.ase_protocols import relax_at_volume, relax_k_srme
from wigner_jax.relaxation.newton import relax


@pytest.fixture(scope="module")
def tersoff():
    return load_potential("tersoff-1989")


def test_wurtzite_ends_at_the_minimum(tersoff):
    atoms = bulk("SiC", "wurtzite", a=3.10, c=4.90, u=0.370)
    before = atoms.copy()
    compiled = energy_forces_stress._cache_size()
    relaxed, report = relax_k_srme(atoms, tersoff)
    assert energy_forces_stress._cache_size() - compiled <= 2  # some fifty steps, one or two shapes
    newton, exact = relax(atoms, tersoff)
    assert report.converged == (True, True)
    assert report.message == ""
    assert not report.reverted
    assert report.steps[0] > 10
    assert report.space_group == ("P6_3mc",) * 3
    assert report.max_force < 1e-4
    np.testing.assert_allclose(report.energy, exact.energy, rtol=1e-7)
    np.testing.assert_allclose(relaxed.cell.lengths(), newton.cell.lengths(), rtol=1e-4)
    assert atoms == before
    assert relaxed.calc is None
    assert not relaxed.constraints


@pytest.fixture
def noise(monkeypatch):
    """A rattle before every free stage stands for numerical noise."""
    optimiser = ase.optimize.FIRE

    class Rattled(optimiser):
        def run(self, fmax, steps):
            inner = self.atoms.atoms  # of the filter
            if not inner.constraints:
                inner.rattle(0.05, seed=2)
            return super().run(fmax=fmax, steps=steps)

    monkeypatch.setattr(ase.optimize, "FIRE", Rattled)


@pytest.mark.usefixtures("noise")
def test_a_free_stage_that_breaks_the_symmetry_is_reverted(tersoff):
    """Rocksalt silicon carbide is held together by its symmetry alone."""
    atoms = bulk("SiC", "rocksalt", a=4.05, cubic=True)
    relaxed, report = relax_k_srme(atoms, tersoff, max_steps=40)
    assert report.reverted
    assert report.space_group[:2] == ("Fm-3m", "Fm-3m")
    assert report.space_group[2] != "Fm-3m"
    assert "reverted" in report.message
    np.testing.assert_allclose(np.ptp(relaxed.cell.lengths()), 0, atol=1e-8)


@pytest.mark.usefixtures("noise")
def test_the_same_at_constant_volume(tersoff):
    atoms = bulk("SiC", "wurtzite", a=3.10, c=4.95, u=0.370)
    relaxed, message = relax_at_volume(atoms, tersoff, 1.01, max_steps=30)
    assert "the free stage changed the space group from P6_3mc to P1 and was reverted" in message
    np.testing.assert_allclose(relaxed.get_volume() / atoms.get_volume(), 1.01, rtol=1e-8)
    assert check_symmetry(relaxed, symprec=1e-5).number == 186


def test_failure_is_a_value(tersoff):
    _, report = relax_k_srme(bulk("Si", a=5.6), tersoff, max_steps=2)
    assert report.converged == (False, False)
    assert "stage 1 did not converge in 2 steps" in report.message
