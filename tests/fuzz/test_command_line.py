"""Whatever stands behind an option: the work begins, or there is one line on stderr and the exit code 2."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NoReturn

import ase.build
import numpy as np
import pytest
from fuzz.targets import _config, _kappa, _reference

from wigner_jax.cli import app, benchmark, finetune, kappa, plot, train
from wigner_jax.potentials import registry

if TYPE_CHECKING:
    from pathlib import Path

LONG = "n" * 300
NUMBERS = ["nan", "inf", "-inf", "-1", "0", "1e400", "-1e400", "", " ", "text", "1" + 20 * "0", "-1" + 20 * "0", "1.5", "1e-400", "٣", "①",
           "κ", "--", "-", "1,5", "0x10", "1e5", "True", "None", 5000 * "9", "\x1b[31m", "\udcff"]  # fmt: skip
NAMES = ["", " ", "absent", "folder", "/", "..", "/dev/null", "/dev/zero", LONG, f"absent/{LONG}", "folder/absent", "text.txt", "κ.κ", "a\nb",
         "ase:", "ase:nothing:nothing", "ase:os:system", "-", "--", "~", "~nobody/x", "%s%n", "text.txt/x", "absent.yaml", "text.yaml",
         "absent.hdf5", "text.json", "text.json.gz", "text.model", "text.nqx", "text.pth", "folder.model", "text.extxyz@0", "text.extxyz@x"]  # fmt: skip
#: command: (arguments that are right, options with numbers, options and places with names)
COMMANDS = {
    "kappa": (
        ["Si", "--potential", "tersoff-1989"],
        ["-T", "--sigma", "--boundary-mfp", "--threads", "--index", "--mesh", "--fc2-supercell", "--fc3-supercell"],
        ["source", "--potential", "--nac", "-o", "--nac-method", "--broadening", "--derivatives"],
    ),
    "plot": (["kappa.hdf5"], ["-T"], ["source", "-o", "--figure", "--reference", "--material"]),
    "models": ([], [], ["source"]),
    "benchmark": (
        ["--potential", "tersoff-1989", "--structures", "good.extxyz", "--reference", "dft.json", "-o", "campaign"],
        ["-T", "--fmax", "--distance", "--threads", "--shard"],
        ["--potential", "--structures", "--reference", "-o", "--only", "--protocol", "--gruneisen", "--gruneisen-reference", "--matbench"],
    ),
    "train": (["train/config.yaml", "--check"], ["--threads"], ["source"]),
    "finetune": (["finetune/config.yaml", "--check"], ["--threads"], ["source"]),
}  # fmt: skip
#: what no option with a number takes
SENSELESS = {"nan", "", " ", "text", "κ", "-", "1,5", "True", "None", "-1", "1e400", "-1e400", "\x1b[31m"}


class Begun(BaseException):
    """The work would begin now."""


def begin(*_: object, **__: object) -> NoReturn:
    raise Begun


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Good files of all kinds, and some that hold text."""
    folder = tmp_path_factory.mktemp("inputs")
    _kappa(folder / "kappa.hdf5")
    _reference(folder / "dft.json")
    for name in ("train", "finetune"):
        _config(name)(folder / name)
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64)
    atoms.info |= {"mp_id": "mp-1", "fc2_supercell": [2, 2, 2], "fc3_supercell": [2, 2, 2], "q_mesh": [3, 3, 3]}
    atoms.write(folder / "good.extxyz")
    (folder / "folder").mkdir()
    (folder / "folder.model").mkdir()
    for name in NAMES:
        if name.startswith("text.") and "/" not in name and "@" not in name:
            (folder / name).write_text("text")
    (folder / "text.extxyz").write_text("text")
    return folder


@pytest.fixture(autouse=True)
def _nothing_is_computed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("WIGNER_JAX_MODELS", raising=False)
    for module, name in ((kappa, "make_plan"), (benchmark, "run_material"), (benchmark, "open_campaign"), (plot, "make_figure"),
                         (plot, "save"), (registry, "fetch")):  # fmt: skip
        monkeypatch.setattr(module, name, begin)
    monkeypatch.setattr("wigner_jax.pipeline.relax_with", begin)
    monkeypatch.setattr("wigner_jax.training.on_conductivity.config.make_material", begin)
    assert train.run is not finetune.run


def outcome(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """The one line of a refusal; empty if the work begins."""
    try:
        code: object = app.main(arguments)
    except Begun:
        capsys.readouterr()
        return ""
    except SystemExit as stop:  # argparse
        code = stop.code
    printed = capsys.readouterr()
    if code == 0:
        assert "Traceback" not in printed.err
        return ""
    assert code == 2, (arguments, code, printed.err[-500:])
    assert printed.err.count("\n") == 1, (arguments, printed.err[-1000:])
    assert "internal error" not in printed.err, (arguments, printed.err)
    assert "error: " in printed.err
    assert len(printed.err) < 2500
    return printed.err


def changed(command: str, option: str, value: str) -> list[str]:
    """The right arguments with another value of one of them."""
    right = COMMANDS[command][0]
    if option == "source":
        return [command, "--", value, *right[1:]] if value.startswith("-") else [command, value, *right[1:]]
    if option in right:
        at = right.index(option)
        return [command, *right[: at + 1], value, *right[at + 2 :]]
    extra = ["--broadening", "gaussian"] if option == "--sigma" else []
    count = 3 if option in ("--mesh", "--fc2-supercell", "--fc3-supercell") else 1
    if value.startswith("-") and count == 1 and option.startswith("--"):
        return [command, *right, *extra, f"{option}={value}"]
    return [command, *right, *extra, option, *([value] + ["2"] * (count - 1))]


CASES = [
    (command, option, values)
    for command, (_, numbers, names) in COMMANDS.items()
    for option, values in itertools.chain(zip(numbers, itertools.repeat(NUMBERS)), zip(names, itertools.repeat(NAMES)))
]


@pytest.mark.parametrize(("command", "option", "values"), CASES, ids=[f"{c} {o}" for c, o, _ in CASES])
def test_values(capsys: pytest.CaptureFixture[str], command: str, option: str, values: list[str]) -> None:
    for value in values:
        line = outcome(capsys, changed(command, option, value))
        if values is NUMBERS and value in SENSELESS and not (option == "--index" and value == "-1"):
            assert line, (command, option, value)


@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_right_begins(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert outcome(capsys, [command, *COMMANDS[command][0]]) == ""


@pytest.mark.slow
def test_pairs_of_values(capsys: pytest.CaptureFixture[str]) -> None:
    """Two at a time, 20,000 of them."""
    rng = np.random.default_rng(0)
    for _ in range(20_000):
        command, option, values = CASES[rng.integers(len(CASES))]
        arguments = changed(command, option, values[rng.integers(len(values))])
        _, other, more = CASES[rng.integers(len(CASES))]
        value = more[rng.integers(len(more))]
        outcome(capsys, [*arguments, *([value] if other == "source" else [other, value])])
