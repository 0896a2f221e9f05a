"""wigner-jax benchmark --gruneisen: γ in the records and the table, the same bytes on resume, settings that matter."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from ase.build import bulk
from ase.io import read, write
from test_evaluation import tables

from wigner_jax import default_supercells, load_potential
from wigner_jax.cli.app import main
from wigner_jax.errors import ImaginaryModes, InputError
from wigner_jax.evaluation import material as run
from wigner_jax.evaluation.gruneisen import gamma_of, gamma_start, read_gammas
from wigner_jax.evaluation.records import read_record, record_path
from wigner_jax.evaluation.settings import EvaluationSettings
from wigner_jax.metrics import gamma_sre
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.thermodynamics.gruneisen import VolumeSteps, gruneisen_by_volumes, harmonic_constants
from wigner_jax.types import ForceConstants

MESH = (2, 2, 2)
CRYSTALS = {"mp-1": ("Si", bulk("Si", a=5.4)), "mp-2": ("C", bulk("C", a=3.57))}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A structure file, and a reference of ones: γ is what is looked at here."""
    folder = tmp_path_factory.mktemp("inputs")
    structures, rows = [], []
    for mp_id, (name, atoms) in CRYSTALS.items():
        atoms = atoms.copy()
        atoms.info = {"mp_id": mp_id, "name": name, "symm.no": 227, "q_mesh": list(MESH),
                      "primitive_matrix": np.eye(3).tolist(),
                      "fc2_supercell": np.diag([2, 2, 2]).tolist(), "fc3_supercell": np.diag([2, 2, 2]).tolist()}  # fmt: skip
        structures.append(atoms)
        mesh = make_mesh(default_supercells(atoms).crystal, MESH)
        modes = np.ones((len(mesh.irreducible), 6))
        rows.append({
            "mp_id": mp_id, "name": name, "symm.no": 227, "q_mesh": list(MESH),
            "qpoints": mesh.qpoints[mesh.irreducible].tolist(), "weights": mesh.weights.tolist(),
            "temperatures": [300.0, 600.0], "frequencies": modes.tolist(), "heat_capacity": [modes.tolist()] * 2,
            "kappa_TOT_ave": [1.0, 1.0], "mode_kappa_TOT_ave": [(modes * mesh.weights.sum() / modes.size).tolist()] * 2,
        })  # fmt: skip
    write(folder / "solids.extxyz", structures)
    table = {name: {str(k): row[name] for k, row in enumerate(rows)} for name in rows[0]}
    (folder / "dft.json").write_text(json.dumps(table))
    return folder


@pytest.fixture(autouse=True, scope="module")
def _no_conductivity():
    """It is not looked at here, nor are Φ3 and the relaxation, which cost most; γ is kept where it fails."""

    def unrelaxed(protocol, atoms, potential, record):
        record["space_groups"] = [227, 227]
        return atoms

    def harmonic(atoms, potential, settings, record):
        cells, second, _ = harmonic_constants(atoms, potential, None)
        return cells, ForceConstants(second, np.zeros((2, 16, 16, 3, 3, 3)))

    def refuse(*_, **__):
        raise ImaginaryModes("said by the test", "nothing to do")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "relax_by", unrelaxed)
        patch.setattr(run, "solve", refuse)
        patch.setattr(run, "_constants", harmonic)
        yield


def of(inputs, out, *more):
    return ["benchmark", "--potential", "tersoff-1989", "--structures", str(inputs / "solids.extxyz"), "--reference",
            str(inputs / "dft.json"), "--out", str(out), "--protocol", "newton", "--quiet", *more]  # fmt: skip


@pytest.fixture(scope="module")
def published(inputs):
    path = inputs / "published.csv"
    path.write_text("mp_id,desc,gamma_DFT,gamma_Other\nmp-1,Si,0.5,0.75\nmp-2,C,,1.0\n")
    return path


def options(inputs, published, out, *more):
    common = of(inputs, out, "-T", "300", "600", "--gruneisen-reference", str(published))
    return [*common, *more]


@pytest.fixture(scope="module")
def whole(inputs, published, tmp_path_factory):
    """Silicon and diamond."""
    out = tmp_path_factory.mktemp("gamma")
    assert main(options(inputs, published, out, "--gruneisen", "strain")) == 0
    return out


def test_records_and_table(whole):
    record = read_record(record_path(whole, "mp-1"))
    assert record["gamma_protocol"] == {"route": "strain"}
    assert record["gamma_failure"] is None
    assert record["gamma_reference"] == [0.5, None]  # published at 300 K alone
    np.testing.assert_allclose(record["gamma_SRE"][0], gamma_sre(record["gamma"][0], 0.5), rtol=1e-12)
    assert 0.1 < record["gamma"][0] < 2
    assert "said by the test" in record["failure"]
    with h5py.File(record_path(whole, "mp-1")) as file:
        assert file["mode_gruneisen"].shape == (3, 6)
    diamond = read_record(record_path(whole, "mp-2"))
    assert diamond["gamma_reference"] == [None, None]
    head, *rows = (whole / "table.csv").read_text().splitlines()
    assert head.endswith(",gamma,gamma_reference,gamma_SRE")
    assert [float(x) for x in rows[0].split(",")[-3:]] == pytest.approx(
        [record["gamma"][0], 0.5, record["gamma_SRE"][0]], rel=1e-6
    )
    assert rows[1].split(",")[-2:] == ["", ""]
    summary = json.loads((whole / "summary.json").read_text())
    assert summary["300 K"]["all"]["gamma_materials"] == 1
    assert "gamma_SRE" not in summary["600 K"]["all"]


def test_the_same_bytes_on_resume(inputs, published, whole, capsys):
    before = tables(whole)
    record_path(whole, "mp-1").write_bytes(b"half")
    assert main(options(inputs, published, whole, "--gruneisen", "strain")) == 0
    assert tables(whole) == before
    assert "γ: mean SRE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--gruneisen",), "holds a campaign with gruneisen 'strain', not 'volumes'"),
        (
            ("--gruneisen", "strain", "--gruneisen-reference", "{}:gamma_Other"),
            "the reference of mp-1, the reference of mp-2 changed",
        ),
        ((), "--gruneisen-reference needs --gruneisen"),
        (("--gruneisen", "--gruneisen-reference", "nowhere.csv"), "no table of Grüneisen parameters nowhere.csv"),
        (("--gruneisen", "--gruneisen-reference", "{}:gamma"), "no column 'gamma' but mp_id, desc, gamma_DFT"),
    ],
)
def test_other_settings_are_refused(inputs, published, whole, capsys, more, message):
    before = tables(whole)
    assert main(options(inputs, published, whole, *(m.format(published) for m in more))) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert tables(whole) == before


def test_by_volumes(inputs):
    """What the campaign does is what the function does; its protocol stands in the record."""
    atoms = read(inputs / "solids.extxyz", index=0)
    potential = load_potential("tersoff-1989")
    settings = EvaluationSettings("tersoff-1989", gruneisen="volumes")
    record = gamma_start(settings, "mp-1")
    gamma_of(atoms, potential, (None, None), settings, record)
    expected, _ = gruneisen_by_volumes(atoms, potential, MESH, VolumeSteps(distance=None))
    np.testing.assert_allclose(record["gamma"], expected.average((300.0,)), rtol=1e-12)
    assert record["gamma_protocol"]["step"] == 0.01
    assert record["gamma_protocol"]["distance"] is None
    assert record["gamma_protocol"]["imaginary"] == (False,) * 3


def test_what_goes_wrong_is_in_the_record(inputs, published):
    from ase.calculators.emt import EMT

    atoms = read(inputs / "solids.extxyz", index=0)
    settings = EvaluationSettings(
        "ase", derivatives="finite-displacement", gruneisen="strain", gruneisen_reference=str(published)
    )
    record = gamma_start(settings, "mp-1")
    gamma_of(atoms, EMT(), (None, None), settings, record)
    assert record["gamma"] == [None]
    assert record["gamma_SRE"] == [2.0]
    assert "needs a JAX potential" in record["gamma_failure"]
    with pytest.raises(InputError, match="unknown route to γ 'other': choose from volumes, strain, third"):
        EvaluationSettings("x", gruneisen="other")
    assert read_gammas(f"{published}:gamma_Other") == {"mp-1": 0.75, "mp-2": 1.0}
    bad = published.with_name("bad.csv")
    bad.write_text("mp_id,gamma_DFT\nmp-1,high\n")
    with pytest.raises(InputError, match="something else than numbers"):
        read_gammas(str(bad))


def test_a_campaign_without_has_no_columns_for_it(inputs, tmp_path):
    """Tables and settings of campaigns from before stay what they were."""
    assert main(of(inputs, tmp_path, "--only", "Si")) == 0
    assert "gamma" not in (tmp_path / "table.csv").read_text()
    settings = json.loads((tmp_path / "settings.json").read_text())
    for name in ("gruneisen", "gruneisen_reference"):
        assert settings.pop(name) is None
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    assert main(of(inputs, tmp_path, "--only", "Si")) == 0
