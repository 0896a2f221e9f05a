"""Outputs of the commands: what stands in their way is refused before the work, in one line, and stays as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import matplotlib.figure
import numpy as np
import pytest
from ase.build import bulk
from ase.io import write
from killed_runs import campaign_options, write_campaign, write_finetune, write_training

from wigner_jax import load_potential, save_potential
from wigner_jax._core.own_files import is_figure, is_kappa_file, is_matbench_table
from wigner_jax.cli import benchmark, kappa, plot
from wigner_jax.cli.app import main


@pytest.fixture(autouse=True)
def no_work(monkeypatch, tmp_path):
    """What comes after the checks is not reached; paths are relative to a folder of their own."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(kappa, "prepare", reached)
    monkeypatch.setattr(plot, "_of_file", reached)
    monkeypatch.setattr(benchmark, "run_material", reached)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)


def theirs(name: str) -> None:
    """Files that a user may have lying about."""
    if name == "POSCAR":
        write(name, bulk("Si"), format="vasp")
    elif name == "notes.txt":
        Path(name).write_text("a year of work\n")
    elif name == "fc2.hdf5":
        with h5py.File(name, "w") as file:
            file["fc2"] = np.zeros((2, 2, 3, 3))
    elif name == "kappa-m111111.hdf5":  # phono3py's
        with h5py.File(name, "w") as file:
            file["frequency"], file["temperature"], file["kappa"] = np.ones((2, 6)), [300.0], np.ones((1, 6))
    elif name == "thesis.pdf":
        Path(name).write_bytes(b"%PDF-1.5\n% made with LaTeX\n" + bytes(10**5))


def ours(name: str) -> None:
    """Files that the commands have made before."""
    if name.endswith(".hdf5"):
        with h5py.File(name, "w") as file:
            file["frequency"], file["temperature"] = np.ones((2, 6)), [300.0]
            file["velocity_operator"] = np.ones((2, 6, 6, 3), complex)
    else:
        matplotlib.figure.Figure().savefig(name)


def refused(capsys, *arguments: str) -> str:
    code = main(list(arguments))
    error = capsys.readouterr().err
    assert code == 2, error
    assert error.count("\n") == 1
    return error


def in_the_way(name: str) -> None:
    {
        "folder": lambda: Path(name).mkdir(),
        "pipe": lambda: os.mkfifo(name),
        "device": lambda: Path(name).symlink_to("/dev/null"),
        "POSCAR": lambda: theirs("POSCAR"),
        "notes.txt": lambda: theirs(name),
        "fc2.hdf5": lambda: theirs(name),
        "kappa-m111111.hdf5": lambda: theirs(name),
        "link": lambda: (theirs("notes.txt"), Path(name).symlink_to("notes.txt")),
    }.get(name, lambda: None)()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("folder", "cannot write folder: it is a folder: choose another place with -o"),
        ("pipe", "cannot write pipe: it is a pipe: choose another place with -o"),
        ("device", "cannot write device: it is a device"),
        ("/dev/null", "cannot write /dev/null: it is a device"),
        ("POSCAR", "POSCAR is there already and is not a kappa file of wigner-jax: remove it, or choose another"),
        ("notes.txt", "notes.txt is there already and is not a kappa file"),
        ("fc2.hdf5", "fc2.hdf5 is there already and is not a kappa file"),
        ("kappa-m111111.hdf5", "is there already and is not a kappa file of wigner-jax"),
        ("link", "link is there already and is not a kappa file"),
        ("a" * 256, "its name is too long"),
        ("none/a", "there is no folder none: make it, or choose another place with -o"),
        ("", "it names a folder"),
    ],
)
def test_kappa(capsys, tmp_path, name, line):
    in_the_way(name)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert line in refused(capsys, "kappa", "Si", "-o", name)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_never_the_input(capsys):
    """By its name, by a link, by a second name, and through another folder's link."""
    theirs("POSCAR")
    Path("link").symlink_to("POSCAR")
    os.link("POSCAR", "twin")
    for name in ("POSCAR", "link", "twin", "./POSCAR"):
        assert f"cannot write {name}: it is the input POSCAR" in refused(capsys, "kappa", "POSCAR", "-o", name)
    ours("a.hdf5")
    assert "it is the input a.hdf5" in refused(capsys, "plot", "a.hdf5", "-o", "a.hdf5")


@pytest.mark.parametrize("name", ["new.hdf5", "empty.hdf5", "ours.hdf5", "link.hdf5", "a" * 250, "record.hdf5"])
def test_kappa_goes_on_where_nothing_is_lost(name):
    """A new file, an empty one, an earlier result, a link to one."""
    if name == "empty.hdf5":
        Path(name).touch()
    elif name == "record.hdf5":
        with h5py.File(name, "w") as file:
            file.attrs["record"] = json.dumps({})
    elif name in ("ours.hdf5", "link.hdf5"):
        ours("ours.hdf5")
        if name == "link.hdf5":
            Path(name).symlink_to("ours.hdf5")
    assert main(["kappa", "Si", "-o", name]) == 1  # AssertionError of `no_work`: an error inside


def test_plot(capsys):
    ours("a.hdf5")
    theirs("notes.txt")
    theirs("thesis.pdf")
    for name, line in (
        ("notes.txt", "is not a figure of wigner-jax"),
        ("thesis.pdf", "is not a figure of wigner-jax"),
        ("/dev/null", "it is a device"),
        ("x.nonsense", "Matplotlib draws no .nonsense: choose from"),
    ):
        assert line in refused(capsys, "plot", "a.hdf5", "-o", name)
    for name in ("x.png", "x.pdf", "x.svg", "x.ps", "x.eps", "x.jpg", "x.webp", "x.tif"):
        ours(name)
        assert main(["plot", "a.hdf5", "-o", name]) == 1
    capsys.readouterr()
    Path("a.png").write_text("not a figure")
    assert "a.png is there already" in refused(capsys, "plot", "a.hdf5")  # the name by default


def test_what_files_hold(tmp_path):
    assert not any(test(tmp_path / "none") for test in (is_figure, is_kappa_file, is_matbench_table))
    (tmp_path / "empty").touch()
    (tmp_path / "half").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "half.gz").write_bytes(b"\x1f\x8b\x08\0\0")
    for name in ("empty", "half", "half.gz"):
        assert not any(test(tmp_path / name) for test in (is_figure, is_kappa_file, is_matbench_table))


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "line"),
    [
        ("out", "out is not a folder but a file"),
        ("out/settings.json", "settings.json is not of a campaign: name another folder"),
        ("out/table.csv", "out/table.csv is there already and is not a table of a campaign"),
        ("out/summary.json/", "summary.json: it is a folder"),
        ("out/records", "cannot write to out (File exists): name another folder"),
    ],
)
def test_benchmark(capsys, tmp_path, there, line):
    write_campaign(tmp_path)
    Path(there).parent.mkdir(exist_ok=True)
    Path(there).mkdir() if there.endswith("/") else Path(there).write_text("a year of work")
    assert line in refused(capsys, *campaign_options())
    assert there.endswith("/") or Path(there).read_text() == "a year of work"


def test_benchmark_in_a_folder_with_other_things(tmp_path):
    write_campaign(tmp_path)
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    assert main(campaign_options()) == 1  # the work began
    assert Path("out/notes.txt").read_text() == "mine"


def test_the_table_for_matbench(capsys, tmp_path):
    write_campaign(tmp_path)
    for name, line in (
        ("dft.json.gz", "it is the input dft.json.gz: choose another place with --matbench"),
        ("/dev/null", "it is a device: choose another place with --matbench"),
        ("none/x.json.gz", "there is no folder none"),
    ):
        assert line in refused(capsys, *campaign_options("out", "--matbench", name))
    assert not Path("out").exists()


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_training(capsys, tmp_path, command):
    {"train": write_training, "finetune": write_finetune}[command](tmp_path)
    Path("run").write_text("mine")
    assert "output: run is not a folder but a file: name another output" in refused(capsys, command, "config.yaml")
    Path("run").unlink()
    Path("run").mkdir()
    Path("run/structures").mkdir()
    more = ("README.txt", "structures/one.extxyz") if command == "finetune" else ()
    for name in ("history.csv", "model.model" if command == "train" else "model.json", *more):
        Path("run", name).write_text("a year of work")
        line = refused(capsys, command, "config.yaml", "--restart")
        assert f"run/{name} is there already and is not a file of a run of wigner-jax" in line
        assert Path("run", name).read_text() == "a year of work"
        Path("run", name).unlink()
    assert [p.name for p in Path("run").iterdir()] == ["structures"]


def test_training_never_writes_over_its_own_potential(capsys, tmp_path):
    write_finetune(tmp_path, output=".", potential="model.json")
    save_potential(load_potential("tersoff-1989"), "model.json")
    before = Path("model.json").read_bytes()
    Path(".wigner-jax.lock").touch()  # a folder of runs
    assert "model.json: it is the input" in refused(capsys, "finetune", "config.yaml")
    assert Path("model.json").read_bytes() == before


def test_fine_tuning_never_writes_over_its_own_structures(capsys, tmp_path):
    Path("structures").mkdir()
    write("structures/one.extxyz", bulk("Si", cubic=True))
    before = Path("structures/one.extxyz").read_bytes()
    material = {
        "name": "one", "structure": "structures/one.extxyz", "fc2_supercell": [1, 1, 1], "fc3_supercell": [1, 1, 1],
        "mesh": [2, 2, 2], "targets": {"kappa": {"value": 60.0}},
    }  # fmt: skip
    write_finetune(tmp_path, output=".", materials=[material])
    Path(".wigner-jax.lock").touch()
    assert "one.extxyz: it is the input" in refused(capsys, "finetune", "config.yaml")
    assert Path("structures/one.extxyz").read_bytes() == before


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk: Linux, as root")
def test_a_disk_without_room(capsys, tmp_path):
    """Every command says so before it works."""
    write_campaign(tmp_path)
    Path("disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", "disk"], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        ours("a.hdf5")
        write_finetune(tmp_path, output="disk/run")
        for command in (
            ("kappa", "Si", "-o", "disk/x.hdf5"),
            ("plot", "a.hdf5", "-o", "disk/x.png"),
            campaign_options("disk/out"),
            ("finetune", "config.yaml"),
        ):
            assert "are needed: free some, or" in refused(capsys, *command)
        assert list(Path("disk").iterdir()) == []
    finally:
        subprocess.run(["umount", "disk"], check=True)
