"""Finite displacements of any ASE calculator: they converge to automatic differentiation."""

import sys
import warnings
from types import ModuleType

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from wigner_jax import WignerCalculator, default_supercells, force_constants, load_potential
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.ifc.calculator_factory import calculator_of
from wigner_jax.ifc.constraints import pair_distances
from wigner_jax.ifc.finite_displacement import finite_displacements

SMALL = {"fc2_supercell": (1, 1, 1), "fc3_supercell": (1, 1, 1)}  # conventional cells


def silicon():
    return bulk("Si", a=5.432, cubic=True)  # the minimum of Tersoff's potential to 1e-4 Å


def sizes(constants):
    """Norms of Φ2 and Φ3, which do not depend on the order of the atoms."""
    return np.array([np.linalg.norm(np.asarray(constants.fc2)), np.linalg.norm(np.asarray(constants.fc3))])


def test_they_converge_to_automatic_differentiation():
    """The error is of second order in the displacement."""
    potential = load_potential("tersoff-1988-si")
    cells = default_supercells(silicon(), **SMALL)
    exact = sizes(force_constants(cells, potential)[0])
    errors, calls = [], []
    for distance in (0.04, 0.02):
        (_, constants), report = finite_displacements(
            silicon(), WignerCalculator(potential), **SMALL, distance=distance
        )
        errors.append(sizes(constants) / exact - 1)
        calls.append(report.calls)
    assert np.abs(errors[1]).max() < 0.02
    assert np.abs(errors[0]).min() > 1e-5
    np.testing.assert_allclose(errors[0] / errors[1], 4.0, rtol=0.1)
    assert calls[0] == calls[1]
    assert calls[0][0] == 1
    assert calls[0][1] > 10


def test_a_cutoff_within_the_displacements_is_said():
    """Silicon atoms 3.055 Å apart, moved by 0.03 Å towards each other, meet Tersoff's cutoff: κ was 11 instead of 428."""
    atoms, calculator = bulk("SiC", "zincblende", a=4.32035), WignerCalculator(load_potential("tersoff-1989"))
    cells = {"fc2_supercell": (2, 2, 2), "fc3_supercell": (2, 2, 2)}
    with pytest.warns(AccuracyWarning, match=r"0.03 Å break the symmetry of Φ3 by 1\d\d %: the forces jump"):
        _, report = finite_displacements(atoms, calculator, **cells)
    assert report.asymmetry[1] > 1
    with warnings.catch_warnings():
        warnings.simplefilter("error", AccuracyWarning)
        _, near = finite_displacements(atoms, calculator, **cells, distance=0.025)
    assert near.asymmetry[1] < 0.02


def test_a_cutoff_of_pairs():
    """Fewer calls; what is within is as before, and triplets without a near pair are zero."""
    calculator = WignerCalculator(load_potential("tersoff-1988-si"))
    (cells, every), whole = finite_displacements(silicon(), calculator, **SMALL, symmetrize=False)
    (_, same), beyond = finite_displacements(silicon(), calculator, **SMALL, pair_cutoff=50.0, symmetrize=False)
    assert beyond.calls == whole.calls
    np.testing.assert_allclose(same.fc3, every.fc3, atol=2e-3 * np.abs(every.fc3).max())  # permutations are averaged
    (_, near), fewer = finite_displacements(silicon(), calculator, **SMALL, pair_cutoff=3.0, symmetrize=False)
    assert fewer.calls[0] == whole.calls[0]
    assert 0 < fewer.calls[1] < whole.calls[1]
    distances = pair_distances(cells.crystal, cells.fc3_supercell)
    home = distances[cells.fc3_supercell.p2s_map]
    nearest = np.minimum(np.minimum(home[:, :, None], home[:, None, :]), distances[None])
    assert not np.any(near.fc3[nearest > 3.0])
    bonded = np.abs(np.asarray(near.fc3) - every.fc3)[nearest < 3.0]
    assert np.median(bonded) < 2e-3 * np.abs(every.fc3).max()
    for bad in (0.0, float("nan")):
        with pytest.raises(InputError, match="cutoff of pairs"):
            finite_displacements(silicon(), calculator, **SMALL, pair_cutoff=bad)


def test_any_calculator():
    """ASE's EMT on aluminium: the acoustic sum rule and the symmetry hold; supercells come from the structure."""
    atoms = bulk("Al", cubic=True)
    atoms.info |= {"fc2_supercell": [2, 2, 2], "fc3_supercell": [[2, 0, 0], [0, 2, 0], [0, 0, 1]]}
    seen = []
    (cells, constants), report = finite_displacements(
        atoms, calculator_of("ase.calculators.emt:EMT"), progress=lambda *x: seen.append(x)
    )
    assert constants.fc2.shape == (1, 32, 3, 3)
    assert constants.fc3.shape == (1, 16, 16, 3, 3, 3)
    assert np.abs(constants.fc2.sum(axis=1)).max() < 1e-10 * np.abs(constants.fc2).max()
    assert cells.crystal.n_atoms == 1
    assert seen[0] == ("fc2", 1, report.calls[0])
    assert seen[-1] == ("fc3", report.calls[1], report.calls[1])


def test_misuse(monkeypatch):
    with pytest.raises(InputError, match="no fc2 supercell"):
        finite_displacements(bulk("Al", cubic=True), EMT(), fc3_supercell=(1, 1, 1))
    with pytest.raises(InputError, match="1, 3 or 9 integers"):
        finite_displacements(bulk("Al", cubic=True), EMT(), fc2_supercell=(1, 1), fc3_supercell=(1, 1, 1))
    with pytest.raises(InputError, match="take a larger one"):  # atoms half a cell apart: inversion kills Φ3
        finite_displacements(bulk("Al", cubic=True), EMT(), **SMALL)
    with pytest.raises(InputError, match="above zero"):
        finite_displacements(bulk("Al", cubic=True), EMT(), **SMALL, distance=0.0)
    alone = bulk("Al", cubic=True)
    alone.pbc = False
    with pytest.raises(InputError, match=r"atoms\.pbc"):
        finite_displacements(alone, EMT(), **SMALL)
    with monkeypatch.context() as patch:
        patch.setattr(SinglePointCalculator, "get_forces", lambda self, atoms: np.full((len(atoms), 3), np.nan))
        with pytest.raises(InputError, match="a force"):
            finite_displacements(bulk("Al", cubic=True), SinglePointCalculator(bulk("Al")), **SMALL)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("emt", "write module:factory"),
        ("no_such_module:f", "cannot import no_such_module"),
        ("ase.calculators.emt:Emt", "has no Emt"),
        ("ase.build:bulk", "cannot be called without arguments"),
        ("builtins:dict", "not an ASE calculator"),
    ],
)
def test_what_is_no_calculator(name, message):
    with pytest.raises(InputError, match=message):
        calculator_of(name)


def test_a_module_of_the_user(monkeypatch):
    module = ModuleType("my_potential")
    module.make = EMT
    monkeypatch.setitem(__import__("sys").modules, "my_potential", module)
    assert isinstance(calculator_of("my_potential:make"), EMT)


def test_a_factory_in_the_current_folder(tmp_path, monkeypatch):
    """A function or a class of a file beside the structure, as a user has it; the search path is left as it was."""
    (tmp_path / "my_own_calculator.py").write_text(
        "from ase.calculators.emt import EMT\n\n\ndef make():\n    return EMT()\n\n\nclass Mine(EMT):\n    pass\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert type(calculator_of("my_own_calculator:make")).__name__ == "EMT"
    assert type(calculator_of("my_own_calculator:Mine")).__name__ == "Mine"
    assert sys.path == before
    monkeypatch.setattr(sys, "path", [str(tmp_path), *before])
    calculator_of("my_own_calculator:make")
    assert sys.path == [str(tmp_path), *before]  # in the same order
