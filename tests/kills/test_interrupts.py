"""Ctrl-C and SIGTERM, at any moment: one line, 130 or 143, nothing left behind, and what was there before is whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from killed_runs import CODES, in_foreground, start, write_campaign, write_training

from wigner_jax import read_force_constants

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

BOTH = (signal.SIGINT, signal.SIGTERM)
KAPPA = ("kappa", "Si", "--quiet", "--potential", "tersoff-1989", "-o", "si.hdf5")


def stopped(process: subprocess.Popen[bytes], number: signal.Signals, patience: float = 20.0) -> float:
    """Send the signal; the process ends as it should. Seconds until it has."""
    process.send_signal(number)
    began = time.monotonic()
    _, error = process.communicate(timeout=patience)
    code, word = CODES[number]
    assert (process.returncode, error.decode()) == (code, f"wigner-jax: {word}\n")
    return time.monotonic() - began


def whole_files(folder: Path) -> set[str]:
    """The files that were left, each of which can be read to its end: force constants are kept as soon as they exist."""
    for file in folder.glob("*-fc.hdf5"):
        read_force_constants(file)
    return {file.name for file in folder.iterdir()}


@pytest.mark.parametrize(("delay", "number"), [(0.4, signal.SIGTERM), (1.0, signal.SIGINT), (6.0, signal.SIGINT)])
def test_while_importing_and_compiling(tmp_path, delay, number):
    """Nothing is compiled before: 6 s after its start it is at work on all cores."""
    process = start(*KAPPA, cwd=tmp_path, cache=None)
    time.sleep(delay)
    stopped(process, number)
    assert whole_files(tmp_path) <= {"si-fc.hdf5"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(60))
def test_at_random_moments(tmp_path, seed):
    """0.1 to 20 s, with and without compiled programs from before: imports, compilation, threads that compute, writing."""
    rng = random.Random(seed)
    cache = tmp_path.parent / "cache" if seed % 2 else None
    process, number = start(*KAPPA, cwd=tmp_path, cache=cache), rng.choice(BOTH)
    time.sleep(0.1 * 200 ** rng.random())
    if process.poll() is None:
        stopped(process, number)
        assert whole_files(tmp_path) in (set(), {"si-fc.hdf5"}, {"si-fc.hdf5", "si.hdf5"})


#: waits, once it has said so, at a chosen moment of writing a file
WRITING = """
import sys, time
from wigner_jax._core import atomic_write as files
from wigner_jax.cli.app import main
def wait(*_):
    print("here", flush=True)
    time.sleep(60)
setattr(files, sys.argv.pop(1), wait)
files.check_output = lambda *_, **__: files.write_text("a", "new")
sys.exit(main())
"""


@pytest.mark.parametrize("moment", ["_flush", "_flush_folder"])
@pytest.mark.parametrize("number", BOTH)
def test_while_writing(tmp_path, moment, number):
    """Before the new file has its name the old one stays, and the temporary goes; afterwards it is the new one."""
    (tmp_path / "a").write_text("old")
    process = subprocess.Popen(
        in_foreground("-c", WRITING, moment, "plot", "nothing.hdf5"), cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    stopped(process, number)
    assert (tmp_path / "a").read_text() == ("old" if moment == "_flush" else "new")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


#: asks for a moment before the end, and does not use it (or does, after a second)
SAVING = """
import sys, time
from wigner_jax._core.interrupts import before_the_end, take_over_signals, wait_if_ending
take_over_signals()
with before_the_end() as ending:
    print("here", flush=True)
    while not (ending() and sys.argv[1] == "saves"):
        time.sleep(0.01)
    time.sleep(1)
    open("saved", "w").close()
wait_if_ending()
"""


@pytest.mark.parametrize("what", ["saves", "does not", "is told twice"])
def test_a_moment_before_the_end(tmp_path, what):
    process = subprocess.Popen(
        in_foreground("-c", SAVING, what), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    if what == "is told twice":
        assert stopped(process, signal.SIGINT) < 2
    else:
        _, error = process.communicate(timeout=20)
        assert (process.returncode, error) == (130, b"wigner-jax: interrupted\n")
        took = time.monotonic() - began
        assert 0.9 < took < 4 if what == "saves" else took > 4.5
    assert (tmp_path / "saved").exists() == (what == "saves")


@pytest.mark.slow
def test_training_saves_what_it_has(tmp_path):
    """SIGTERM inside a long epoch: the checkpoint has the steps that were done, and the run goes on from there."""
    write_training(tmp_path, epochs=4000, batch=1, data={"train": "frames.extxyz", "validation": 0.2})
    run = ("train", "config.yaml", "--threads", "1")
    process = start(*run, cwd=tmp_path, cache=None)
    assert process.stdout is not None
    for line in process.stdout:
        if line.split()[:1] == [b"2"]:  # the third epoch is done
            break
    stopped(process, signal.SIGTERM)
    with np.load(tmp_path / "run/checkpoint.npz") as file:
        plain = str(file["_plain"])
    assert '"step": ' in plain
    rows = (tmp_path / "run/history.csv").read_text().splitlines()
    assert len(rows) >= 4
    again = start(*run, cwd=tmp_path, cache=None)
    assert again.stdout is not None
    heads = [again.stdout.readline().decode() for _ in range(2)]
    assert "continued from run/checkpoint.npz: epoch " in heads[1]
    stopped(again, signal.SIGINT)


def test_signals_that_are_switched_off_stay_off(tmp_path):
    """As in a job in the background of a shell, which Ctrl-C in the foreground is not for."""
    write_campaign(tmp_path)
    process = subprocess.Popen(
        in_foreground("-m", "wigner_jax", "models", interrupt="SIG_IGN"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=tmp_path,
    )  # fmt: skip
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, b"")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_workers_of_libraries_end_alone():
    """A pool that is terminated sends SIGTERM to its processes, which were forked from this one."""
    code = (
        "import multiprocessing, time; from wigner_jax._core.interrupts import take_over_signals; take_over_signals();"
        "worker = multiprocessing.get_context('fork').Process(target=time.sleep, args=(60,)); worker.start();"
        "time.sleep(0.3); worker.terminate(); worker.join(); time.sleep(0.3); print(worker.exitcode)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout, run.stderr) == (0, f"{-signal.SIGTERM}\n", "")


def test_after_the_work(tmp_path):
    """The interpreter is taken down, for a while: the exit code is that of the work."""
    code = (
        "import sys, time; from wigner_jax._core.interrupts import take_over_signals; take_over_signals();"
        "rest = type('Rest', (), {'__del__': lambda self: (print('here', flush=True), time.sleep(1))})(); sys.exit(3)"
    )
    for number in BOTH:
        process = subprocess.Popen(
            in_foreground("-c", f"import time; {code}"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
        assert (process.returncode, error) == (3, b"")


def test_programs_that_call_main_keep_their_ways_with_signals(monkeypatch, capsys):
    from wigner_jax.cli.app import main

    before = [signal.getsignal(number) for number in BOTH]
    assert main(["kappa", "Xx"]) == 2
    assert [signal.getsignal(number) for number in BOTH] == before
    capsys.readouterr()


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="children are not listed here")
def test_programs_that_it_started_end_too(tmp_path):
    code = (
        "import subprocess, sys, time; from wigner_jax._core.interrupts import take_over_signals; take_over_signals();"
        "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); child.wait()"
    )
    process = subprocess.Popen(in_foreground("-c", code), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    stopped(process, signal.SIGTERM)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
