"""Many crystals with one potential: whatever a structure is, it is a row; the numbers are those of each alone."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import ase.db
import ase.io
import numpy as np
import pytest
from ase.build import bulk

import wigner_jax as wj
from wigner_jax.cli.app import main
from wigner_jax.errors import InputError
from wigner_jax.screening import estimate, structures_from
from wigner_jax.screening.folder import read_prepared

if TYPE_CHECKING:
    from pathlib import Path

SMALL = {"mesh": (3, 3, 3), "fc2_supercell": (2, 2, 2), "fc3_supercell": (2, 2, 2), "temperatures": (300.0, 600.0)}
OPTIONS = [
    "--mesh",
    "3",
    "3",
    "3",
    "--fc2-supercell",
    "2",
    "2",
    "2",
    "--fc3-supercell",
    "2",
    "2",
    "2",
    "-T",
    "300",
    "600",
    "--threads",
    "1",
]
GOOD = {"Si": ("diamond", 5.43), "C": ("diamond", 3.57), "SiC": ("zincblende", 4.32), "Ge": ("diamond", 5.66)}


def crystal(name: str) -> ase.Atoms:
    structure, a = GOOD[name]
    atoms = bulk(name, structure, a=a)
    atoms.info["name"] = name
    return atoms


def hostile() -> dict[str, ase.Atoms]:
    """What a folder from anywhere holds."""
    overlap = crystal("Si")
    overlap.positions[1] = overlap.positions[0] + 0.02
    flat = crystal("Si")
    flat.cell[2] = flat.cell[1]
    molecule = crystal("Si")
    molecule.pbc = False
    large = bulk("Si", a=5.43, cubic=True) * (4, 4, 3)
    large.rattle(0.2, seed=0)
    unstable = bulk("SiC", "cesiumchloride", a=2.6)
    return {
        "overlap": overlap, "flat": flat, "molecule": molecule, "large": large, "unstable": unstable,
        "unknown": bulk("NaCl", "rocksalt", a=5.6), "empty": bulk("Si", a=60.0), "nothing": ase.Atoms(pbc=True, cell=[3, 3, 3]),
    }  # fmt: skip


@pytest.fixture(scope="module")
def alone() -> dict[str, np.ndarray]:
    """κ (T, 6) of every good crystal by itself."""
    found = {}
    for name in GOOD:
        atoms = crystal(name)
        found[name] = np.asarray(wj.conductivity(atoms, "tersoff-1989", **SMALL).conductivity.kappa_TOT)
    return found


def table_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open() as file:
        return list(csv.DictReader(file))


def check(folder: Path, alone: dict[str, np.ndarray], names: set[str], rtol: float = 1e-10) -> None:
    """Each material once, with the numbers that it has alone."""
    rows = table_of(folder)
    assert {r["name"] for r in rows} == names
    for name in names & set(alone):
        mine = [r for r in rows if r["name"] == name]
        assert [float(r["temperature"]) for r in mine] == [300.0, 600.0]
        found = [[float(r[f"kappa_{c}"]) for c in ("xx", "yy", "zz")] for r in mine]
        np.testing.assert_allclose(found, alone[name][:, :3], rtol=rtol)


# ---------------------------------------------------------------- one process


@pytest.fixture(scope="module")
def screened(tmp_path_factory) -> tuple[Path, wj.Screening]:
    folder = tmp_path_factory.mktemp("screened") / "out"
    structures = {name: crystal(name) for name in GOOD} | hostile()
    lines: list[str] = []
    result = wj.screen(
        structures, "tersoff-1989", out=folder, on_record=lambda record, *_: lines.append(record["name"]), **SMALL
    )
    assert sorted(lines) == sorted(structures)
    return folder, result


def test_numbers_are_those_of_each_alone(screened, alone):
    folder, result = screened
    check(folder, alone, set(GOOD) | set(hostile()))
    assert next(r["name"] for r in result.ranked()) == "C"
    assert [r["name"] for r in result.ranked(highest=False)][-1] == "C"
    assert result.missing == []


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("overlap", "failed", "0.035 Å apart"), ("flat", "failed", "span no volume"), ("molecule", "failed", "not periodic"),
        ("large", "skipped", "GB"), ("unstable", "imaginary modes", "THz"), ("unknown", "failed", "does not know Na, Cl"),
        ("empty", "failed", "do not interact"), ("nothing", "failed", "no atoms"),
    ],
)  # fmt: skip
def test_whatever_fails_is_a_status_and_a_reason(screened, name, status, reason):
    _, result = screened
    (record,) = [r for r in result.records if r["name"] == name]
    assert record["status"] == status, record["reason"]
    assert re.search(reason, record["reason"]), record["reason"]
    assert "kappa" not in record
    assert "Traceback" not in record["reason"]


def test_the_database_has_everything(screened, alone):
    folder, _ = screened
    with ase.db.connect(folder / "screen.db") as database:
        rows = {row.material: row for row in database.select()}
        best = list(database.select("kappa>0", sort="-kappa"))
    assert set(rows) == set(GOOD) | set(hostile())
    assert best[0].material == "C"
    np.testing.assert_allclose(rows["SiC"].kappa, alone["SiC"][0, :3].mean(), rtol=1e-10)
    assert rows["SiC"].formula in ("SiC", "CSi")
    assert rows["SiC"].data["record"]["space_groups"] == [216, 216]
    assert rows["overlap"].reason.startswith("atoms 1 and 2")


def test_files_of_the_materials_can_be_drawn(screened, tmp_path):
    folder, _ = screened
    data = wj.read_kappa_hdf5(folder / "materials" / "SiC.hdf5")
    assert data["kappa"].shape == (2, 6)
    assert data["attributes"]["model"] == "tersoff-1989"
    assert main(["plot", str(folder / "materials" / "SiC.hdf5"), "-o", str(tmp_path / "sic.png")]) == 0


def test_a_screening_is_continued(tmp_path, alone):
    structures = {name: crystal(name) for name in GOOD}
    for shard in ((1, 2), (2, 2)):
        result = wj.screen(structures, "tersoff-1989", out=tmp_path / "o", shard=shard, **SMALL)
    check(tmp_path / "o", alone, set(GOOD))
    assert result.missing == []
    made = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "o" / "materials").iterdir()}
    (tmp_path / "o" / "materials" / "Ge.hdf5").write_bytes(b"")
    structures["Si"] = structures["Si"].copy()
    structures["Si"].set_cell(structures["Si"].cell.array * 1.001, scale_atoms=True)
    wj.screen(structures, "tersoff-1989", out=tmp_path / "o", **SMALL)
    now = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "o" / "materials").iterdir()}
    assert {name for name in now if now[name] != made[name]} == {"Ge.hdf5", "Si.hdf5"}
    check(tmp_path / "o", alone, set(GOOD), 1e-8)  # relaxed from elsewhere
    with pytest.raises(InputError, match=r"another value of mesh \(\[3, 3, 3\], now \[4, 4, 4\]\)"):
        wj.screen(structures, "tersoff-1989", out=tmp_path / "o", **SMALL | {"mesh": (4, 4, 4)})
    with pytest.raises(InputError, match="another potential"):
        wj.screen(structures, "tersoff-1988-si", out=tmp_path / "o", **SMALL)


def test_limits_decide_about_what_was_left_out_alone(tmp_path):
    structures = {"Si": crystal("Si"), "large": hostile()["large"]}
    options = {"out": tmp_path / "o", "max_evaluations": 10, **SMALL}
    first = wj.screen(structures, "tersoff-1989", max_memory=1e-3, **options)
    assert [r["status"] for r in first.records] == ["skipped", "skipped"]
    again = wj.screen(structures, "tersoff-1989", max_memory=20.0, **options)
    assert [r["status"] for r in again.records] == ["done", "skipped"]
    made = (tmp_path / "o" / "materials" / "Si.hdf5").stat().st_mtime_ns
    wj.screen(structures, "tersoff-1989", max_memory=1e-3, **options)
    assert (tmp_path / "o" / "materials" / "Si.hdf5").stat().st_mtime_ns == made


def test_two_stages(tmp_path, alone):
    structures = {name: crystal(name) for name in GOOD} | {"unknown": hostile()["unknown"]}
    options = SMALL | {"mesh": (4, 4, 4)}
    result = wj.screen(structures, "tersoff-1989", out=tmp_path / "o", coarse=1, **options)
    stages = {r["name"]: (r["stage"], r.get("mesh")) for r in result.records}
    assert stages["C"] == ("materials", [4, 4, 4])
    assert stages["Si"] == ("coarse", [3, 3, 3])
    expected = wj.conductivity(crystal("C"), "tersoff-1989", **options).conductivity.kappa_TOT
    (diamond,) = [r for r in result.records if r["name"] == "C"]
    np.testing.assert_allclose(diamond["kappa_TOT"], expected, rtol=1e-10, atol=1e-9)
    assert "force constants" not in diamond["seconds"]  # those of the first stage
    assert read_prepared(tmp_path / "o", "C").force_constants.fc3.shape == (2, 16, 16, 3, 3, 3)
    result = wj.screen(structures, "tersoff-1989", out=tmp_path / "o", coarse=2, highest=False, **options)
    assert {r["name"] for r in result.records if r["stage"] == "materials"} > {"C"}


def test_nothing_is_begun_that_cannot_end(tmp_path):
    result = wj.screen({"Si": crystal("Si")}, "tersoff-1989", out=tmp_path / "o", max_time=-1.0, **SMALL)
    assert result.records == []
    assert result.missing == ["Si"]
    assert not result.complete


def test_what_is_finished_is_in_the_tables_whatever_ends_the_run(tmp_path):
    def stop(record: dict, *_: object) -> None:
        raise KeyboardInterrupt

    structures = {name: crystal(name) for name in ("Si", "SiC")}
    with pytest.raises(KeyboardInterrupt):
        wj.screen(structures, "tersoff-1989", out=tmp_path / "o", on_record=stop, **SMALL)
    with (tmp_path / "o/table.csv").open() as file:
        assert len({row["name"] for row in csv.DictReader(file)}) == 1


@pytest.mark.parametrize("place", ["materials/SiC.hdf5", "materials", "coarse"])
def test_places_of_records_are_looked_at_before_the_work(tmp_path, place):
    taken = tmp_path / "o" / place
    taken.parent.mkdir(parents=True)
    taken.mkdir() if place.endswith("5") else taken.write_text("mine\n")
    with pytest.raises(InputError, match="move it away"):
        wj.screen({"SiC": crystal("SiC")}, "tersoff-1989", out=tmp_path / "o", **SMALL)
    assert not (tmp_path / "o/settings.json").exists()


def test_without_a_folder(alone):
    result = wj.screen([crystal("SiC")], "tersoff-1989", **SMALL)
    np.testing.assert_allclose(result.records[0]["kappa_TOT"], alone["SiC"], rtol=1e-10, atol=1e-9)
    assert [r["temperature"] for r in result.rows] == [300.0, 600.0]


# ---------------------------------------------------------------- sources, rules


def test_a_folder_a_file_and_a_database_hold_the_same(tmp_path):
    frames = [crystal(name) for name in GOOD]
    ase.io.write(tmp_path / "many.extxyz", frames)
    (tmp_path / "folder").mkdir()
    for frame in frames:
        bare = frame.copy()
        bare.info = {}
        ase.io.write(tmp_path / "folder" / f"{frame.info['name']}.cif", bare)
    (tmp_path / "folder" / "notes.txt").write_text("nothing")
    (tmp_path / "folder" / "broken.cif").write_text("data_nothing\n")
    with ase.db.connect(tmp_path / "all.db") as database:
        for frame in frames:
            database.write(frame, material_id=f"mp_{frame.info['name']}")
    found = [structures_from(tmp_path / name) for name in ("many.extxyz", "folder", "all.db")]
    assert set(found[0]) == set(GOOD)
    assert set(found[1]) == set(GOOD) | {"broken"}
    assert isinstance(found[1]["broken"], str)
    assert set(found[2]) == {f"mp_{name}" for name in GOOD}
    for name in GOOD:
        for other in (found[1][name], found[2][f"mp_{name}"]):
            np.testing.assert_allclose(other.cell.cellpar(), found[0][name].cell.cellpar(), rtol=1e-6)


def test_what_is_wrong_with_one_is_not_for_all():
    """Supercells, meshes and matrices in the info are what a file holds: they may be anything."""
    structures = {"good": crystal("SiC")}
    for number, (key, value) in enumerate(
        (("fc2_supercell", "abc"), ("q_mesh", {}), ("primitive_matrix", np.zeros((3, 3))), ("fc3_supercell", [-1, 0, 2.5]),
         ("q_mesh", [0, 10**9, 1]))
    ):  # fmt: skip
        structures[f"bad-{number}"] = crystal("SiC")
        structures[f"bad-{number}"].info |= {key: value, "name": ""}
    result = wj.screen(
        structures, "tersoff-1989", mesh=None, fc2_supercell=(2, 2, 2), mesh_points=54, fc3_supercell=None
    )
    by_name = {r["name"]: r["status"] for r in result.records}
    assert by_name["good"] == "done"
    assert all(by_name[f"bad-{k}"] != "done" for k in (1, 2, 3, 4)), by_name


def test_large_cells_end_at_once():
    large = bulk("Si", a=5.43, cubic=True) * (6, 5, 5)
    begun = time.monotonic()
    (record,) = wj.screen({"large": large}, "tersoff-1989", **SMALL).records
    assert "1200 atoms" in record["reason"]
    assert time.monotonic() - begun < 20


def test_the_folder_of_the_structures_is_not_that_of_the_results(tmp_path):
    ase.io.write(tmp_path / "a.cif", crystal("Si"))
    with pytest.raises(InputError, match="is the folder of the structures"):
        wj.screen(tmp_path, "tersoff-1989", out=tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ["a.cif"]


def test_a_name_ends_where_the_format_begins(tmp_path):
    for name in ("Si0.5Ge0.5.vasp", "a.b.cif", "POSCAR"):
        ase.io.write(tmp_path / name, bulk("Si", a=5.43), format="cif" if name.endswith("cif") else "vasp")
    assert set(structures_from(tmp_path)) == {"Si0.5Ge0.5", "a.b", "POSCAR"}


def test_names(tmp_path):
    bare = [bulk("Si", a=5.43), bulk("Si", a=5.44)]
    ase.io.write(tmp_path / "two.extxyz", bare)
    assert list(structures_from(tmp_path / "two.extxyz")) == ["two-0", "two-1"]
    with pytest.raises(InputError, match="two structures are called Si"):
        structures_from([crystal("Si"), crystal("Si")])
    for name in ("../evil", "a/b", "..", "x\ny", "n" * 200, "\x1b[31m", "\ud800"):
        with pytest.raises(InputError, match="cannot be the name"):
            structures_from({name: bare[0]})
    assert list(structures_from({"mp-149 (Si)": bare[0]})) == ["mp-149 (Si)"]
    for nothing in (tmp_path / "none", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(InputError, match=r"no folder or file|no structure files"):
            structures_from(nothing)


def test_rules():
    settings = wj.ScreenSettings()
    potential = wj.load_potential("tersoff-1989")
    about = estimate(crystal("Si"), potential, settings)
    assert about.atoms == (2, 64, 64)
    assert about.mesh == (19, 19, 19)
    four = estimate(bulk("SiC", "wurtzite", a=3.07, c=5.04), potential, settings)
    assert abs(np.prod(four.mesh) * 4 / 13718 - 1) < 0.1
    coarse = estimate(crystal("Si"), potential, settings.coarser())
    assert coarse.mesh == (8, 8, 8)
    given = crystal("Si")
    given.info |= {"q_mesh": [5, 5, 5], "fc2_supercell": [2, 2, 2], "fc3_supercell": [2, 2, 2]}
    assert estimate(given, potential, settings).mesh == (5, 5, 5)
    assert estimate(given, potential, settings).atoms == (2, 16, 16)
    assert estimate(given, potential, wj.ScreenSettings(mesh=(7, 7, 7))).mesh == (7, 7, 7)
    for bad in ({"mesh": (0, 1, 1)}, {"temperatures": (-1.0,)}, {"broadening": "x"}, {"mesh_points": 0}, {"max_memory": -1.0},
                {"derivatives": "AD"}):  # fmt: skip
        with pytest.raises(InputError):
            wj.ScreenSettings(**bad)


# ---------------------------------------------------------------- command line


def test_the_command(tmp_path, capsys, alone):
    ase.io.write(tmp_path / "many.extxyz", [crystal(name) for name in ("Si", "SiC")])
    command = ["screen", str(tmp_path / "many.extxyz"), "--potential", "tersoff-1989", *OPTIONS]
    assert main([*command, "--dry-run"]) == 0
    assert "2 atoms, supercells 16/16, mesh 3×3×3" in capsys.readouterr().out
    assert main(command) == 2
    assert "name a folder with -o" in capsys.readouterr().err
    assert main([*command, "-o", str(tmp_path / "o")]) == 0
    out = capsys.readouterr().out
    assert "2 materials: 2 done" in out
    check(tmp_path / "o", alone, {"Si", "SiC"})
    assert main(["plot", str(tmp_path / "o"), "-o", str(tmp_path / "o.png")]) == 2
    assert (
        f"is the folder of a screening, which is drawn material by material: give {tmp_path}/o/materials/Si.hdf5"
        in (capsys.readouterr().err)
    )
    ase.io.write(tmp_path / "bad.extxyz", [crystal("Si"), bulk("NaCl", "rocksalt", a=5.6)])
    assert main(["screen", str(tmp_path / "bad.extxyz"), *command[2:], "-o", str(tmp_path / "p")]) == 4
    assert main([*command, "-o", str(tmp_path / "many.extxyz")]) == 2
    assert main([*command, "-o", str(tmp_path / "o"), "--lowest"]) == 2
    assert main([*command, "-o", str(tmp_path / "o"), "--processes", "0"]) == 2
    assert main([*command, "-o", str(tmp_path / "r"), "--max-time", "1e-9"]) == 5
    assert "2 have no record yet: the same command goes on" in capsys.readouterr().out
    (tmp_path / "q").mkdir()
    (tmp_path / "q" / "table.csv").write_text("mine\n")
    assert main([*command, "-o", str(tmp_path / "q")]) == 2
    assert (tmp_path / "q" / "table.csv").read_text() == "mine\n"


# ---------------------------------------------------------------- several processes


def started(tmp_path: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "wigner_jax", "screen", "many.extxyz", "--potential", "tersoff-1989", "-o", "o"]
    return subprocess.Popen(
        [*command, *OPTIONS, *options], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, start_new_session=True,
    )  # fmt: skip


def workers_of(driver: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(driver)], capture_output=True, text=True).stdout
    return [int(pid) for pid in found.split()]


def interrupted(tmp_path: Path, kills: int, seed: int) -> None:
    """kill −9 of the driver or of a worker at random times, then to the end."""
    rng = random.Random(seed)
    for _ in range(kills):
        process = started(tmp_path, "--processes", "2")
        time.sleep(rng.uniform(0.5, 8.0))
        workers = workers_of(process.pid)
        victim = rng.choice([process.pid, *workers])
        try:
            os.kill(victim, signal.SIGKILL)
            if victim == process.pid:
                process.wait(60)
        except ProcessLookupError:
            pass
        if process.poll() is None:
            time.sleep(rng.uniform(0.0, 2.0))
            process.kill()
        process.communicate()
        for worker in workers:  # they end with their driver, whose pipe they read
            for _ in range(600):
                if not os.path.exists(f"/proc/{worker}"):
                    break
                time.sleep(0.1)
            else:
                raise AssertionError("a worker outlives its driver")


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_and_continued(tmp_path, alone, kills):
    ase.io.write(tmp_path / "many.extxyz", [crystal(name) for name in GOOD])
    interrupted(tmp_path, kills, kills)
    process = started(tmp_path, "--processes", "2")
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 0, out
    check(tmp_path / "o", alone, set(GOOD))
    assert not list((tmp_path / "o").rglob("*.part"))


DYING = """
import os
from ase.calculators.lj import LennardJones
class Dies(LennardJones):
    def calculate(self, atoms=None, *rest, **more):
        if 32 in atoms.numbers:
            os._exit(9)
        super().calculate(atoms, *rest, **more)
def make():
    return Dies(sigma=2.2, epsilon=1.0, rc=5.0)
"""


def test_a_material_that_kills_its_process_is_left_out(tmp_path, monkeypatch):
    """A segmentation fault, or the system that wants its memory back."""
    (tmp_path / "dying.py").write_text(DYING)
    monkeypatch.syspath_prepend(str(tmp_path))
    argon = bulk("Ar", a=3.4, cubic=False)
    bad = bulk("Ge", "fcc", a=3.4)
    ase.io.write(tmp_path / "many.extxyz", [argon, bad])
    result = wj.screen(
        tmp_path / "many.extxyz", "ase:dying:make", out=tmp_path / "o", processes=1, relax=False,
        **SMALL | {"fc2_supercell": (3, 3, 3), "fc3_supercell": (3, 3, 3)},
    )  # fmt: skip
    records = {r["name"]: r for r in result.records}
    assert records["many-1"]["status"] == "failed"
    assert "died 2 times" in records["many-1"]["reason"]
    assert records["many-0"]["status"] in ("done", "imaginary modes"), records["many-0"]


@pytest.mark.filterwarnings(
    "default::RuntimeWarning", "default::ResourceWarning", "default::pytest.PytestUnraisableExceptionWarning"
)
def test_ray(tmp_path, alone):
    """Ray forks its daemons, of which JAX warns: they do not compute."""
    ray = pytest.importorskip("ray")
    ase.io.write(tmp_path / "many.extxyz", [crystal(name) for name in GOOD])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        result = wj.screen(tmp_path / "many.extxyz", "tersoff-1989", out=tmp_path / "o", ray=2, **SMALL)
    finally:
        ray.shutdown()
    assert result.failed == []
    check(tmp_path / "o", alone, set(GOOD))
    assert json.loads((tmp_path / "o" / "settings.json").read_text())["mesh"] == [3, 3, 3]


def test_a_ray_cluster_that_does_not_answer(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    assert not ray.is_initialized()
    ase.io.write(tmp_path / "Si.cif", crystal("Si"))
    with socket.socket() as free:  # a port where nobody listens
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(InputError, match="no Ray cluster answers"):
            wj.screen(tmp_path / "Si.cif", "tersoff-1989", out=tmp_path / "o", ray=1, **SMALL)
