"""Which modes count: those that move and are scattered, and NaN, which must not hide."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from reference_materials import load

import wigner_jax as wj
from wigner_jax._solve import linewidths, make_plan, phonons
from wigner_jax.physics.broadening.tetrahedron import Tetrahedron
from wigner_jax.physics.conductivity import conductivity
from wigner_jax.physics.taking_part import is_scattered, takes_part
from wigner_jax.types import Phonons


def test_limits() -> None:
    assert takes_part(np.array([1e-4, 1.1e-4, -3.0, np.nan])).tolist() == [False, True, False, True]
    assert is_scattered(np.array([0.0, 3e-45, 1e-20, 1e-19, np.nan])).tolist() == [False, False, False, True, True]


@pytest.mark.parametrize(("width", "carries"), [(0.0, False), (3.3e-45, False), (1e-320, False), (1e-15, True)])
def test_rounding_is_no_linewidth(width: float, carries: bool) -> None:
    """A velocity and a width that are both rounding gave 3·10⁸ W/(m K)."""
    cells = wj.default_supercells(wj.prototype("Si"), (1, 1, 1), (1, 1, 1))
    plan = wj.make_plan(cells, (1, 1, 1))
    f = np.linspace(1.0, 6.0, 6)[None]
    velocities = np.zeros((1, 6, 6, 3), complex)
    velocities[0, 0, 0] = 1e-9
    velocities[0, 1, 1] = 1.0
    gamma = np.full((1, 1, 6), 0.1)
    usual = conductivity(Phonons(f, np.eye(6)[None], velocities), gamma, plan.mesh, plan.crystal, np.array([300.0]))
    gamma[0, 0, 0] = width
    found = conductivity(Phonons(f, np.eye(6)[None], velocities), gamma, plan.mesh, plan.crystal, np.array([300.0]))
    mode = np.asarray(found.mode_kappa_P)[0, 0, 0, 0]
    assert (mode > 0) == carries
    assert np.isfinite(mode)
    np.testing.assert_allclose(found.kappa_TOT - found.mode_kappa_P[:, 0, 0], usual.kappa_TOT, rtol=1e-9)


def test_a_molecule_in_a_box_does_not_scatter_without_limit() -> None:
    atoms = wj.prototype("Si")[:2]
    atoms.positions[:] = [[0, 0, 0], [0, 0, 2.3]]
    atoms.set_cell(np.eye(3) * 9.0)
    potential = wj.load_potential("tersoff-1989")
    with pytest.raises(wj.InputError, match=r"no mode moves .* do not interact with those of its neighbours"):
        wj.conductivity(
            atoms, potential, mesh=(2, 2, 2), fc2_supercell=(1, 1, 1), fc3_supercell=(1, 1, 1), allow_imaginary=True
        )


def test_the_rounding_of_acoustic_modes_at_gamma_reaches_no_linewidth():
    """Their frequencies are √ of rounding errors, some 1e-7 THz, and vertices of the tetrahedra about Γ."""
    material = load("nacl-mace")
    plan = make_plan(material.cells, (3, 3, 3))
    fc, T = material.constants, np.array([300.0])
    waves = phonons(plan, fc.fc2)
    broadening = Tetrahedron.for_plan(plan).with_capacity(plan, fc)
    widths = []
    for kick in (0.0, 1e-6):
        f = np.array(waves.frequencies)
        assert np.abs(f[0, :3]).max() < 1e-5
        f[0, :3] = kick * np.array([0.3, 0.7, 1.0])
        moved = dataclasses.replace(waves, frequencies=f)
        widths.append(linewidths(plan, fc, moved, T, broadening=broadening).three_phonon)
    np.testing.assert_allclose(widths[1], widths[0], rtol=1e-12, atol=1e-20)
