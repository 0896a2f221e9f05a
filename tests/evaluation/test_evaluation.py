"""wigner-jax benchmark: gates and scores, records that survive kills, shards, and the tables.

Long, because one small campaign serves all of its tests.
"""

from __future__ import annotations

import gzip
import json
import shutil

import h5py
import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from wigner_jax import Scattering, default_supercells, force_constants, load_potential, make_plan, relax, solve
from wigner_jax._core.progress import Progress
from wigner_jax._core.temporaries import host
from wigner_jax.cli import benchmark as commands_benchmark
from wigner_jax.cli.app import main
from wigner_jax.cli.benchmark import shard_of
from wigner_jax.errors import InputError
from wigner_jax.evaluation import material as run
from wigner_jax.evaluation.figures import campaign_figure, read_table
from wigner_jax.evaluation.records import open_campaign, read_record, record_path
from wigner_jax.evaluation.settings import EvaluationSettings
from wigner_jax.evaluation.tables import csv_of, details_of, summary_of, write_matbench
from wigner_jax.io.phonondb import read_phonondb
from wigner_jax.metrics import average, mode_kappa

MESH = (3, 3, 3)
CRYSTALS = {"mp-1": ("Si", bulk("Si", a=5.4)), "mp-2": ("C", bulk("C", a=3.57)),
            "mp-3": ("Ge", bulk("Ge", a=5.6))}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A structure file, and a reference in phononDB's layout that Tersoff's potential itself makes."""
    folder = tmp_path_factory.mktemp("inputs")
    potential = load_potential("tersoff-1989")
    structures, rows = [], []
    for mp_id, (name, atoms) in CRYSTALS.items():
        atoms = atoms.copy()
        atoms.info = {"mp_id": mp_id, "name": name, "symm.no": 216 if name == "C" else 227, "q_mesh": list(MESH),
                      "primitive_matrix": np.eye(3).tolist(),
                      "fc2_supercell": np.diag([2, 2, 2]).tolist(), "fc3_supercell": np.diag([2, 2, 2]).tolist()}  # fmt: skip
        structures.append(atoms)
        relaxed, _ = relax(atoms, potential)
        cells = default_supercells(relaxed, (2, 2, 2), (2, 2, 2))
        plan = make_plan(cells, MESH)
        solution = solve(
            plan,
            force_constants(cells, potential)[0],
            (300.0, 600.0),
            broadening=None,
            scattering=Scattering(plan.mass_variances, 1e6),
        )
        at = np.asarray(plan.mesh.irreducible)
        f = np.asarray(solution.phonons.frequencies)[at]
        rows.append({
            "mp_id": mp_id, "name": name, "symm.no": atoms.info["symm.no"], "q_mesh": list(MESH),
            "qpoints": np.asarray(plan.mesh.qpoints)[at].tolist(), "weights": np.asarray(plan.mesh.weights).tolist(),
            "temperatures": [300.0, 600.0], "frequencies": f.tolist(),
            "heat_capacity": np.asarray(solution.conductivity.heat_capacity).tolist(),
            "kappa_TOT_ave": np.asarray(average(solution.conductivity.kappa_TOT)).tolist(),
            "mode_kappa_TOT_ave": np.asarray(mode_kappa(solution.conductivity)).tolist(),
        })  # fmt: skip
    write(folder / "solids.extxyz", structures)
    table = {name: {str(k): row[name] for k, row in enumerate(rows)} for name in rows[0]}
    with gzip.open(folder / "dft.json.gz", "wt") as file:
        json.dump(table, file)
    return folder


def options(inputs, out, *more, potential="tersoff-1989"):
    return ["benchmark", "--potential", potential, "--structures", str(inputs / "solids.extxyz"), "--reference",
            str(inputs / "dft.json.gz"), "--out", str(out), "--protocol", "newton", *more]  # fmt: skip


def tables(folder):
    return [(folder / name).read_bytes() for name in ("table.csv", "summary.json")]


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    """A campaign from beginning to end."""
    out = tmp_path_factory.mktemp("whole")
    assert main(options(inputs, out, "--quiet", "-T", "300", "600", "--matbench", str(out / "mbd.json.gz"))) == 0
    return out


def test_a_potential_against_itself(whole):
    for mp_id, (name, _) in CRYSTALS.items():
        record = read_record(record_path(whole, mp_id))
        assert record["failure"] is None
        assert record["name"] == name
        np.testing.assert_allclose(record["kappa"], record["kappa_DFT"], rtol=1e-9)
        assert max(record["SRME"]) < 1e-9
        assert max(np.abs(record["heat_capacity_error"])) < 1e-12
        assert record["frequency_error"] < 1e-9
        assert record["beyond_wigner"] == record["beyond_ioffe_regel"] == [0.0, 0.0]
        with h5py.File(record_path(whole, mp_id)) as file:
            total = file["mode_kappa_TOT"][...].sum(axis=(1, 2)) / np.prod(MESH)
            np.testing.assert_allclose(total, file["kappa_TOT_RTA"][...], rtol=1e-9)
            assert file["bands/frequency"].shape == (240, 6)
    summary = json.loads((whole / "summary.json").read_text())
    assert set(summary) == {"300 K", "600 K"}
    assert summary["300 K"]["all"]["materials"] == 3
    assert summary["300 K"]["all"]["within_factor_two"] == 1.0
    assert summary["300 K"]["zincblende"]["materials"] == 1


def test_times_are_apart(inputs, whole, capsys):
    """Progress of every material in a file of their own; a record without times (copied from a shard) has no row."""
    header, *rows = [line.split(",") for line in (whole / "times.csv").read_text().splitlines()]
    assert (header[0], header[-1]) == ("mp_id", "total")
    assert {"relax", "force_constants", "plan", "phonons", "conductivity", "bands"} <= set(header)
    assert [row[0] for row in rows] == list(CRYSTALS)
    for row in rows:
        np.testing.assert_allclose(sum(map(float, row[1:-1])), float(row[-1]), atol=0.01)
    before = tables(whole)
    (whole / "times" / "mp-2.json").rename(whole / "times" / "aside")
    try:
        assert main(options(inputs, whole, "-T", "300", "600")) == 0
        assert [line.split(",")[0] for line in (whole / "times.csv").read_text().splitlines()] == [
            "mp_id",
            "mp-1",
            "mp-3",
        ]
        assert "time: relax" in capsys.readouterr().out
    finally:
        (whole / "times" / "aside").rename(whole / "times" / "mp-2.json")
    assert tables(whole) == before


def test_a_record_that_is_damaged_in_the_middle(whole, tmp_path):
    """Tables are made of an attribute; what matbench takes besides may be damaged all the same."""
    shutil.copytree(whole / "records", tmp_path / "records")
    path = record_path(tmp_path, "mp-2")
    with h5py.File(path) as file:
        place = file["mode_kappa_TOT"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[place.byte_offset : place.byte_offset + place.size] = bytes(place.size)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mp-2.hdf5.*: remove .*mp-2.hdf5, and run the same command again") as error:
        write_matbench(tmp_path, list(CRYSTALS), tmp_path / "mbd.json.gz")
    assert "make it anew" not in str(error.value)
    path.unlink()
    assert write_matbench(tmp_path, list(CRYSTALS), tmp_path / "mbd.json.gz") == 2


def test_matbench_table(whole):
    with gzip.open(whole / "mbd.json.gz", "rt") as file:
        table = json.load(file)
    assert table["material_id"] == {str(k): m for k, m in enumerate(CRYSTALS)}
    assert np.shape(table["kappa_tot_rta"]["0"]) == (2, 6)
    weights, modes = np.array(table["mode_weights"]["0"]), np.array(table["mode_kappa_tot_avg"]["0"])
    np.testing.assert_allclose(
        modes.sum(axis=(1, 2)) / weights.sum(), np.mean(np.array(table["kappa_tot_rta"]["0"])[:, :3], axis=1), rtol=1e-9
    )


def test_failures_are_recorded_and_do_not_stop_the_rest(inputs, tmp_path, capsys):
    assert main(options(inputs, tmp_path, potential="stillinger-weber-si")) == 0
    shown = capsys.readouterr().out
    assert "does not know" in shown
    rows = (tmp_path / "table.csv").read_text().splitlines()
    assert len(rows) == 4
    assert rows[2].startswith("mp-2,C,216,300,,,,")
    assert "does not know C" in rows[2]
    record = read_record(record_path(tmp_path, "mp-1"))
    assert 0.05 < record["SRME"][0] < 2
    assert record["SRE"][0] < record["SRME"][0]
    assert read_record(record_path(tmp_path, "mp-3"))["SRME"] == [2.0]
    assert json.loads((tmp_path / "summary.json").read_text())["300 K"]["all"]["failed"] == ["C", "Ge"]


@pytest.mark.parametrize(
    ("groups", "failure"), [([227, 227], "imaginary modes"), ([227, 141], "changed from 227 to 141")]
)
def test_gates_score_two(inputs, monkeypatch, groups, failure):
    """Silicon stretched by a quarter has imaginary modes; a changed space group stops before force constants."""
    atoms = bulk("Si", a=6.9)
    atoms.info = {"q_mesh": MESH, "fc2_supercell": (2, 2, 2), "fc3_supercell": (2, 2, 2)}

    def unrelaxed(protocol, atoms, potential, record):
        record["space_groups"] = groups
        return atoms

    monkeypatch.setattr(run, "relax_by", unrelaxed)
    reference = read_phonondb(inputs / "dft.json.gz")["mp-1"]
    record, result = run.run_material(
        atoms, load_potential("tersoff-1988-si"), reference, EvaluationSettings("tersoff-1988-si"), Progress(None)
    )
    assert result is None
    assert (record["SRE"], record["SRME"]) == ([2.0], [2.0])
    assert record["failure"].count(failure) == 1
    assert record.get("imaginary", False) == (groups[1] == 227)


def test_shards_and_resuming_give_the_same_bytes(inputs, whole, tmp_path):
    """Two shards in folders of their own, copied together; then one record is lost and made again."""
    more = ("--quiet", "-T", "300", "600")
    for i in (1, 2):
        assert main(options(inputs, tmp_path / str(i), *more, "--shard", f"{i}/2")) == 0
    for path in (tmp_path / "2" / "records").iterdir():
        shutil.copy(path, tmp_path / "1" / "records")
    before = record_path(tmp_path / "1", "mp-1").stat().st_mtime_ns
    record_path(tmp_path / "1", "mp-2").write_bytes(b"half")  # not readable: made again
    assert main(options(inputs, tmp_path / "1", *more)) == 0
    assert record_path(tmp_path / "1", "mp-1").stat().st_mtime_ns == before
    assert tables(tmp_path / "1") == tables(whole)


@pytest.mark.parametrize("moment", ["before the file", "half a file", "before its name", "before the table"])
def test_interrupted_at_any_time(inputs, whole, tmp_path, monkeypatch, moment):
    """The program ends without cleaning up at some moment of the second record; the same command goes on."""
    more = ("--quiet", "-T", "300", "600")
    shutil.copytree(whole, tmp_path / "out")
    record_path(tmp_path / "out", "mp-2").unlink()
    record = (tmp_path / "out" / "records" / f".mp-2.hdf5.{host()}.99999999.part").write_bytes
    if moment == "half a file":
        record(b"half")
    elif moment == "before its name":
        record(record_path(whole, "mp-2").read_bytes())
    elif moment == "before the table":
        shutil.copy(record_path(whole, "mp-2"), tmp_path / "out" / "records")
        (tmp_path / "out" / "table.csv").unlink()
    if moment != "before the table":
        monkeypatch.setattr(commands_benchmark, "run_material", lambda *_: again(whole))
    assert main(options(inputs, tmp_path / "out", *more)) == 0
    assert tables(tmp_path / "out") == tables(whole)
    assert not list(tmp_path.rglob("*.part"))


def again(whole):
    """What run_material returns for mp-2, from its record."""
    return read_record(record_path(whole, "mp-2")), None


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--shard", "3/2"), "write i/n"),
        (("--only", "mp-99"), "no such material"),
        (("-T", "77"), "no temperature 77 K"),
        (("--potential", "ase:nothing"), "write module:factory"),
        (("--processes", "2"), "processes are for ASE calculators"),
        (("--processes", "-1"), "--processes must be above zero"),
        (("--derivatives", "ad", "--potential", "ase:ase.calculators.emt:EMT"), "needs a JAX potential"),
        (("--reference", "nowhere.json"), "no reference file"),
        (("--structures", "nowhere.extxyz"), "no structure file"),
        (("--fmax", "0"), "fmax must be above 0"),
        (("--fmax", "0.02", "--protocol", "newton"), "protocol newton goes down to rounding"),
    ],
)
def test_bad_input(inputs, tmp_path, capsys, more, message):
    assert main([*options(inputs, tmp_path / "out"), *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()


def test_another_campaign_in_the_folder(inputs, whole, capsys):
    before = tables(whole)
    assert main(options(inputs, whole, "-T", "300")) == 2
    assert "holds a campaign with temperatures" in capsys.readouterr().err
    assert main(options(inputs, whole, "-T", "300", "600", "--broadening", "adaptive")) == 2
    assert "holds a campaign with broadening 'tetrahedron', not 'adaptive'" in capsys.readouterr().err
    assert tables(whole) == before


def test_settings_of_an_older_version(tmp_path):
    """A setting that was not known yet had its default."""
    open_campaign(tmp_path, EvaluationSettings("x"))
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "fmax"}))
    open_campaign(tmp_path, EvaluationSettings("x"))
    with pytest.raises(InputError, match="holds a campaign with fmax"):
        open_campaign(tmp_path, EvaluationSettings("x", fmax=0.02))


def test_a_loose_relaxation_stops_early(inputs, tmp_path):
    """Where forces vanish by symmetry, fmax is the cell's: FIRE takes fewer steps to a larger one."""
    steps = {}
    for fmax in ("1e-4", "0.2"):
        out = tmp_path / fmax
        assert (
            main(
                options(inputs, out, "--quiet", "-T", "300", "--only", "mp-2", "--protocol", "matbench", "--fmax", fmax)
            )
            == 0
        )
        steps[fmax] = read_record(record_path(out, "mp-2"))["steps"]
    assert steps["0.2"] < steps["1e-4"]


def test_summary_arithmetic():
    row = {"temperature": 300.0, "space_group": 225, "kappa_P": 1.0, "heat_capacity_error": None,
           "frequency_error": None, "frequency_error_high": None, "frequency_shift_high": None,
           "beyond_wigner": None, "beyond_ioffe_regel": None}  # fmt: skip
    whole = {"heat_capacity_error": 0.01, "frequency_error": 0.2, "frequency_error_high": 0.4,
             "frequency_shift_high": -0.3, "beyond_wigner": 0.5, "beyond_ioffe_regel": 0.25}  # fmt: skip
    rows = [
        row | whole | {"name": "A", "kappa": 10.0, "kappa_DFT": 11.0, "SRE": 2 / 21, "SRME": 0.6, "kappa_C": 1.0},
        row
        | whole
        | {
            "heat_capacity_error": -0.03,
            "name": "B",
            "kappa": 10.0,
            "kappa_DFT": 30.0,
            "SRE": 1.0,
            "SRME": 1.2,
            "kappa_C": 3.0,
        },
        row | {"name": "C", "kappa": None, "kappa_DFT": 5.0, "SRE": 2.0, "SRME": 2.0, "kappa_C": None},
    ]
    s = summary_of(rows)["300 K"]["rocksalt"]
    np.testing.assert_allclose([s["SRME"], s["SRE"]], [3.8 / 3, (2 / 21 + 3) / 3])
    np.testing.assert_allclose(s["within_factor_two"], 1 / 3)
    np.testing.assert_allclose(s["coherence_share"], 0.2)
    assert s["cancelling"] == ["A"]
    assert s["coherent"] == ["B"]
    np.testing.assert_allclose(s["heat_capacity_error"], 0.02)  # errors of opposite sign do not cancel
    assert details_of(s) == [
        "frequencies 0.200 THz off, the highest third 0.400 THz (shifted by -0.300 THz)",
        "C_V 2 % off",
        "coherences carry 20 % of κ, most in B",
        "50 % of the modes beyond the Wigner limit, 25 % beyond the Ioffe-Regel limit",
        "κ right and modes wrong, in A",
    ]
    assert details_of(summary_of(rows[2:])["300 K"]["all"]) == []
    assert s["failed"] == ["C"]
    assert csv_of([]).startswith("mp_id,name,")
    assert shard_of("2/8") == (2, 8)


def test_figure(inputs, whole, tmp_path, capsys):
    output = tmp_path / "campaign.png"
    assert main(["plot", str(whole), "-o", str(output), "-T", "600"]) == 0
    assert output.read_bytes()[:4] == b"\x89PNG"
    parity, scores = campaign_figure(read_table(whole), 600.0).axes
    points = np.concatenate([np.asarray(c.get_offsets()) for c in parity.collections if len(c.get_offsets()) > 0])
    np.testing.assert_allclose(points[:, 0], points[:, 1], rtol=1e-6)
    assert len(scores.patches) == 3
    assert "100 % within a factor of two" in parity.get_title(loc="left")
    dft = ["--reference", str(inputs / "dft.json.gz")]  # the record says which material it is
    assert main(["plot", str(record_path(whole, "mp-1")), "-o", str(output), *dft]) == 0
    assert main(["plot", str(whole), "-o", str(output), "-T", "77"]) == 2
    assert "no 77 K but 300, 600 K" in capsys.readouterr().err
    assert main(["plot", str(tmp_path)]) == 2
    assert "holds no table.csv" in capsys.readouterr().err
