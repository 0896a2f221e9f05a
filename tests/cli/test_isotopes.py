"""Masses and mass variances of isotopic mixtures."""

from __future__ import annotations

import numpy as np
import pytest

import wigner_jax as wj
from wigner_jax.cli.app import main
from wigner_jax.crystal.elements import ELEMENTS
from wigner_jax.crystal.isotopes import isotope_mixture, mixtures
from wigner_jax.errors import InputError

SILICON = "27.97692654:0.922297,28.97649468:0.046832,29.97377014:0.030872"  # IUPAC
SMALL = ["--potential", "tersoff-1989", "--fc2-supercell", "1", "1", "1", "--fc3-supercell", "1", "1", "1", "--quiet"]


def test_natural_silicon():
    """The natural mixture gives phonopy's mass and variance of the table."""
    (mass, variance), *_ = mixtures([f"Si={SILICON}"]).values()
    _, expected_mass, expected_variance = ELEMENTS["Si"]
    np.testing.assert_allclose(mass, expected_mass, rtol=1e-5)
    np.testing.assert_allclose(variance, expected_variance, rtol=2e-3)


def test_mixtures():
    assert mixtures(["C=12"]) == {"C": (12.0, 0.0)}
    mean, variance = isotope_mixture([10.0, 30.0], [0.5, 0.5])
    assert mean == 20
    np.testing.assert_allclose(variance, 0.25, rtol=1e-15)
    np.testing.assert_allclose(isotope_mixture([10.0, 30.0], [0.498, 0.498]), (20, 0.25), rtol=1e-12)  # normalised


@pytest.mark.parametrize(
    "words",
    [
        ["Si"], ["Si="], ["Si=x"], ["Si:28"], ["Xx=3"], ["Si=28:0.5"], ["Si=28:0.5,29"], ["Si=28,29"], ["Si=-1"], ["Si=nan"],
        ["Si=28:1.5,29:-0.5"], ["Si=28:nan,29:0.5"], ["Si=28", "Si=29"], ["Si=1:2:3"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_bad_mixtures(words):
    with pytest.raises(InputError):
        mixtures(words)


def test_on_the_command_line(capsys, tmp_path, monkeypatch):
    """A pure isotope conducts better; the natural mixture is the default; an element that is not there is named at once."""
    monkeypatch.chdir(tmp_path)

    def kappa(*options):
        assert main(["kappa", "Si", *SMALL, "--mesh", "3", "3", "3", *options]) == 0
        return float(capsys.readouterr().out.splitlines()[1].split()[3])

    natural = kappa()
    assert kappa("--isotopes", "Si=27.9769") > 1.05 * natural
    np.testing.assert_allclose(kappa("--isotopes", f"Si={SILICON}"), natural, rtol=1e-3)
    for options, message in (
        (["--isotopes", "Ge=70"], "Ge, which the crystal does not hold: it has Si"),
        (["--isotopes", "Si=28", "--no-isotope"], "leave one out"),
        (["--mesh", "4", "4"], "3 positive integers"),
        (["--mesh", "nan"], "not a length"),
        (["--boundary-mfp", "1", "0"], "must be above zero"),
        (["--boundary-mfp", "1", "2", "-o", "k.hdf5"], "-o takes one --boundary-mfp"),
    ):
        assert main(["kappa", "Si", *SMALL, *options]) == 2
        assert message in capsys.readouterr().err


def test_several_boundaries(capsys):
    """Each table is that of a run of its own, and `with_boundary` gives what `solve` does."""
    command = ["kappa", "Si", *SMALL, "--mesh", "16.0"]  # 5 × 5 × 5
    assert main([*command, "--boundary-mfp", "0.05", "2"]) == 0
    several = capsys.readouterr().out
    assert main([*command, "--boundary-mfp", "2"]) == 0
    assert several.endswith(capsys.readouterr().out)
    assert several.count("µm apart") == 2

    cells = wj.default_supercells(wj.prototype("Si"), (1, 1, 1), (1, 1, 1))
    fc, _ = wj.force_constants(cells, wj.load_potential("tersoff-1989"))
    plan = wj.make_plan(cells, (3, 3, 3))
    first = wj.solve(plan, fc, (300.0,), scattering=wj.Scattering(boundary_mfp=0.05))
    for length in (None, 2.0):
        expected = wj.solve(plan, fc, (300.0,), scattering=wj.Scattering(boundary_mfp=length))
        found = wj.with_boundary(first, length)
        np.testing.assert_allclose(found.conductivity.kappa_TOT, expected.conductivity.kappa_TOT, rtol=1e-12)
        np.testing.assert_array_equal(found.linewidths.total, expected.linewidths.total)
    with pytest.raises(InputError):
        wj.with_boundary(first, -1.0)
