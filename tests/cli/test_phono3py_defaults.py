"""`kappa --phono3py-defaults` is what phono3py itself says."""

from __future__ import annotations

import numpy as np
import pytest

from wigner_jax.cli.app import main

phono3py = pytest.importorskip("phono3py")
SMALL = ["--potential", "tersoff-1989", "--fc2-supercell", "1", "1", "1", "--fc3-supercell", "1", "1", "1", "--quiet"]


def numbers(text):
    return [float(x) for x in text.splitlines()[1].split()]


def test_from_a_structure_and_from_the_file_that_fc_writes(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--mesh", "3", "3", "3", "-T", "300", "--no-isotope"]
    assert main(["kappa", "SiC", *SMALL, *options, "--phono3py-defaults"]) == 0
    text = capsys.readouterr().out
    assert phono3py.__version__ in text
    T, xx, yy, *_ = numbers(text)
    assert T == 300
    assert xx == pytest.approx(yy, rel=1e-4)

    assert main(["fc", "SiC", *SMALL, "-o", "constants", "--format", "phono3py"]) == 0
    capsys.readouterr()
    peer = phono3py.load(
        "constants/phono3py.yaml", fc2_filename="constants/fc2.hdf5", fc3_filename="constants/fc3.hdf5", log_level=0
    )
    peer.mesh_numbers = (3, 3, 3)
    peer.init_phph_interaction()
    peer.run_thermal_conductivity(temperatures=[300], is_isotope=False)
    np.testing.assert_allclose(xx, peer.thermal_conductivity.kappa[0, 0, 0], rtol=1e-3)  # its eigenvectors are its own
    monkeypatch.chdir("constants")
    assert main(["kappa", "phono3py.yaml", *options, "--quiet", "--phono3py-defaults"]) == 0
    np.testing.assert_allclose(numbers(capsys.readouterr().out)[1], peer.thermal_conductivity.kappa[0, 0, 0], rtol=1e-6)


def test_options_that_it_does_not_know(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for options in (
        ["-o", "k.hdf5"],
        ["--broadening", "adaptive"],
        ["--boundary-mfp", "1", "2"],
        ["--isotopes", "Si=28"],
    ):
        assert main(["kappa", "Si", *SMALL, *options, "--phono3py-defaults"]) == 2
        assert "--phono3py-defaults does not know" in capsys.readouterr().err
