"""What `kappa --spectra`, --nu and --ave-pp keep: the functions of single points, in the places where they belong."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import wigner_jax as wj
from wigner_jax.cli.app import main
from wigner_jax.plan.mesh import first_zone
from wigner_jax.plot.figures import make_figure

pytest.importorskip("seekpath")
SMALL = ["--potential", "tersoff-1989", "--fc2-supercell", "2", "2", "2", "--fc3-supercell", "1", "1", "1"]


@pytest.fixture(scope="module")
def solution():
    return wj.conductivity(
        "SiC", "tersoff-1989", mesh=(4, 4, 4), fc2_supercell=(2, 2, 2), fc3_supercell=(1, 1, 1),
        broadening=wj.Gaussian(1.0),
    )  # fmt: skip


def test_points_and_values(solution):
    frequencies = np.linspace(0, 60, 31).tolist()
    found = wj.path_spectra(solution, frequencies, temperatures=[300.0, 900.0])
    assert np.all(np.diff(found.distance) > -1e-9)
    kinds = {tuple(sorted(np.abs(np.round(q, 6)).tolist())) for q in found.qpoints}
    assert {(0.0, 0.0, 0.0), (0.0, 0.5, 0.5)} <= kinds  # Γ and X
    assert {(0.0, 0.0, 0.5), (0.5, 0.5, 0.5)} & kinds  # L
    mesh = solution.mesh
    turns = found.qpoints * 4
    np.testing.assert_allclose(turns, np.rint(turns), atol=1e-6)
    for row in (3, 5):  # by an independent way to the irreducible point
        lattice = np.asarray(solution.crystal.lattice)
        k = found.qpoints[row] @ np.linalg.inv(lattice).T
        stars = np.asarray(mesh.rotations) @ k @ lattice.T
        at = first_zone(np.asarray(mesh.qpoints)[np.asarray(mesh.irreducible)], lattice)
        difference = stars[:, None] - at[None]
        point = int(np.abs(difference - np.rint(difference)).max(axis=-1).min(axis=0).argmin())
        one = wj.self_energy(solution, [point], frequencies, temperatures=[300.0, 900.0])
        np.testing.assert_allclose(found.imaginary[:, row], one.imaginary[:, 0], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found.spectral_function[:, row], one.spectral_function[:, 0], rtol=1e-9, atol=1e-12)
        pairs = wj.joint_density_of_states(solution, [point], frequencies, temperatures=[300.0, 900.0])
        np.testing.assert_allclose(found.decay[row], pairs.decay[0], rtol=1e-9)
        np.testing.assert_allclose(found.weighted_absorption[:, row], pairs.weighted_absorption[:, 0], rtol=1e-9)


def test_frequencies_that_are_too_short_or_too_coarse_are_said(solution):
    for bad, says in ((np.linspace(0, 30, 31), "lacks what is beyond"), (np.linspace(0, 80, 9), "too coarse")):
        with pytest.warns(wj.AccuracyWarning, match=says):
            wj.self_energy(solution, [1], bad)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wj.self_energy(solution, [1], np.linspace(0, 70, 81))


def test_in_the_file(solution, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = [
        "--mesh",
        "4",
        "4",
        "4",
        "--broadening",
        "gaussian",
        "--sigma",
        "1",
        "--spectra",
        "41",
        "--nu",
        "--ave-pp",
    ]
    assert main(["kappa", "SiC", *SMALL, *options, "-o", "a.hdf5", "--quiet"]) == 0
    data = wj.read_kappa_hdf5("a.hdf5")
    spectra = data["spectra"]
    highest = float(np.max(solution.phonons.frequencies))
    expected = wj.path_spectra(solution, np.linspace(0, 2 * highest, 41).tolist())
    for name in ("distance", "qpoints", "imaginary", "decay", "ends"):
        value = getattr(expected, name)
        np.testing.assert_allclose(spectra[name], value, rtol=1e-6, atol=1e-9 * np.abs(value).max())
    np.testing.assert_allclose(data["gamma_N"] + data["gamma_U"], data["gamma"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(data["ave_pp"], wj.averaged_interaction(solution), rtol=1e-6)
    figure = make_figure("spectral-map", data)
    figure.savefig("a.png")
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()][:2] == ["Γ", "X"]
    assert main(["plot", "a.hdf5", "--figure", "spectral-map", "-o", "b.png"]) == 0
    capsys.readouterr()
    for words, says in (
        (["--nu"], "--nu is kept in a file, and there is none: give -o FILE.hdf5"),
        (["--spectra", "-o", "c.hdf5", "--mesh", "0", "1", "1"], "--mesh must be 3 positive integers"),
        (["--spectra", "2", "-o", "c.hdf5"], "a number of frequencies from 20"),
    ):
        assert main(["kappa", "SiC", *SMALL, *words]) == 2
        assert says in capsys.readouterr().err
    assert main(["kappa", "SiC", *SMALL, "--mesh", "3", "3", "3", "-o", "d.hdf5", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["plot", "d.hdf5", "--figure", "spectral-map"]) == 2
    assert "make it anew with --spectra" in capsys.readouterr().err
