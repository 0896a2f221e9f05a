"""κ against mesh and supercells: the values are those of single runs, the law is the one that is stated."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import wigner_jax as wj
from wigner_jax.cli.app import main
from wigner_jax.convergence.figure import convergence_figure
from wigner_jax.convergence.study import Step, _shells, _study
from wigner_jax.errors import InputError

MESHES = [(3, 3, 3), (4, 4, 4), (5, 5, 5)]
SMALL = {"fc2_supercell": (2, 2, 2), "fc3_supercell": (1, 1, 1)}


def test_over_the_mesh():
    made, seen = [], []
    study = wj.converge(
        "SiC", "tersoff-1989", values=MESHES, tolerance=1e-9, on_step=seen.append, after_constants=made.append, **SMALL
    )
    assert len(made) == 1
    assert seen == study.steps
    assert [s.label for s in seen] == ["3×3×3", "4×4×4", "5×5×5"]
    for mesh, step in zip(MESHES, seen, strict=True):
        one = wj.conductivity("SiC", "tersoff-1989", mesh=mesh, **SMALL)
        np.testing.assert_allclose(step.kappa, one.conductivity.kappa_TOT[0], rtol=1e-10, atol=1e-9)
    slope, value = np.polyfit([1 / 3, 1 / 4, 1 / 5], [s.average for s in seen], 1)
    assert study.average == pytest.approx(value, rel=1e-10)
    assert study.uncertainty == pytest.approx(abs(value - seen[-1].average), rel=1e-8)
    assert slope < 0
    assert not study.converged
    assert "linear in 1/N" in study.law


def test_it_stops_at_the_tolerance():
    """Never before three meshes, whatever the tolerance."""
    options = {"mesh": None, **SMALL}
    study = wj.converge("SiC", "tersoff-1989", values=[*MESHES, (40, 40, 40)], tolerance=10.0, **options)
    assert len(study.steps) == 3
    assert study.converged
    broad = wj.converge("SiC", "tersoff-1989", values=MESHES[:2], broadening=wj.Gaussian(0.5), tolerance=10.0, **SMALL)
    assert "no law" in broad.law
    assert broad.average == broad.steps[-1].average


@pytest.mark.parametrize("over", ["fc2", "fc3"])
def test_over_a_supercell(over):
    """The other order is made once, in its own supercell; the crystal is relaxed once."""
    other = "fc3" if over == "fc2" else "fc2"
    given = {f"{other}_supercell": (2, 2, 2) if other == "fc2" else (1, 1, 1)}
    study = wj.converge(
        "SiC", "tersoff-1989", over=over, values=[(1, 1, 1), (2, 2, 2)], mesh=(3, 3, 3), tolerance=1e-9, **given
    )
    assert [s.label for s in study.steps] == ["8 atoms", "64 atoms"]
    for size, step in zip((1, 2), study.steps, strict=True):
        one = wj.conductivity("SiC", "tersoff-1989", mesh=(3, 3, 3), **given, **{f"{over}_supercell": (size,) * 3})
        np.testing.assert_allclose(step.kappa, one.conductivity.kappa_TOT[0], rtol=1e-8, atol=1e-8)
    assert study.uncertainty == pytest.approx(abs(study.steps[1].average - study.steps[0].average))
    convergence_figure(study)


def test_over_a_cutoff():
    """Force constants are made once; a cutoff beyond everything is none."""
    made = []
    options = {"mesh": (3, 3, 3), "tolerance": 1e-9, "after_constants": made.append, **SMALL}
    study = wj.converge("SiC", "tersoff-1989", over="cutoff", values=[2.5, 3.5, 50.0], **options)
    assert len(made) == 1
    assert [s.label for s in study.steps] == ["2.5 Å", "3.5 Å", "50 Å"]
    for cutoff, step in zip((2.5, None), study.steps[::2], strict=True):
        one = wj.conductivity("SiC", "tersoff-1989", mesh=(3, 3, 3), fc3_cutoff=cutoff, **SMALL)
        np.testing.assert_allclose(step.kappa, one.conductivity.kappa_TOT[0], rtol=1e-10, atol=1e-9)
    assert study.steps[0].average != pytest.approx(study.steps[1].average, rel=1e-3)
    assert study.steps[1].average == pytest.approx(study.steps[2].average, rel=1e-9)  # beyond the potential's range
    convergence_figure(study)
    shells = _shells(made[0].supercells)
    assert shells[0] < 2.6
    assert np.all(np.diff(shells) > 0.02)
    with pytest.raises(InputError, match="do not grow"):
        wj.converge("SiC", "tersoff-1989", over="cutoff", values=[3.5, 2.5], **options)


def test_the_law_is_exact_for_what_obeys_it():
    steps = [Step(str(n), float(n), np.array([100 - 50 / n] * 3 + [0.0] * 3), 1.0, 0.1) for n in (5, 9, 12, 17, 25)]
    study = _study("mesh", 300.0, steps, 0.01, lawful=True)
    assert study.average == pytest.approx(100.0, rel=1e-12)
    assert study.uncertainty == pytest.approx(2.0, rel=1e-10)
    assert not study.converged
    assert _study("mesh", 300.0, steps, 0.0201, lawful=True).converged


def test_what_makes_no_sense():
    for options, message in (
        ({"over": "q"}, "choose from"), ({"tolerance": 0.0}, "tolerance is"), ({"tolerance": float("nan")}, "tolerance is"),
        ({"mesh": (3, 3, 3)}, "mesh is what is varied"), ({"values": [(3, 3, 3)]}, "at least two"),
        ({"values": MESHES[::-1], **SMALL}, "do not grow"), ({"temperature": -1.0}, "temperature"),
        ({"over": "fc2", "fc2_supercell": (2, 2, 2)}, "fc2_supercell is what is varied"),
        ({"over": "fc2", "values": [(1, 1, 1), (1, 1, 1)], "mesh": (2, 2, 2), "fc3_supercell": (1, 1, 1)}, "do not grow"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            wj.converge("SiC", "tersoff-1989", **options)


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["--fc2-supercell", "2", "2", "2", "--fc3-supercell", "1", "1", "1", "--values", "3", "4,4,4", "5x5x5"]
    command = ["converge", "SiC", "--potential", "tersoff-1989", *small]
    assert main([*command, "-o", "o", "--tolerance", "1e-6"]) == 6
    out = capsys.readouterr().out
    assert "tolerance of 0.0001 % not reached" in out
    assert "written: o/convergence.csv, o/convergence.png, o/force_constants.hdf5" in out
    with open("o/convergence.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["value"] for row in rows] == ["3×3×3", "4×4×4", "5×5×5"]
    again = ["converge", "--fc", "o/force_constants.hdf5", "--values", "3", "4", "5", "--tolerance", "9", "-o", "o"]
    assert main(again) == 0  # ours is replaced, and nothing is made again
    out = capsys.readouterr().out
    assert f"{float(rows[-1]['kappa']):.4f}" in out
    assert "reached" in out
    for bad, message in (
        ([*command, "--over", "fc3"], "fc3_supercell is what is varied"),
        ([*command[:-3], "a,b,c", "4"], "write them as 11,11,11"),
        (["converge", "--fc", "o/force_constants.hdf5", "--over", "fc2"], "has force constants of one supercell"),
        ([*command, "--tolerance", "0"], "--tolerance must be above zero"),
    ):
        assert main(bad) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "p").mkdir()
    (tmp_path / "p/convergence.csv").write_text("mine\n")
    assert main([*command, "-o", "p"]) == 2
    assert (tmp_path / "p/convergence.csv").read_text() == "mine\n"
