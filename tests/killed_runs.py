"""Commands that are killed at random moments and given again, until their folders are what an undisturbed run leaves."""

from __future__ import annotations

import gzip
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import yaml
from ase.build import bulk
from ase.io import write

if TYPE_CHECKING:
    from collections.abc import Sequence

LIMIT = 900  # s, for one run
CODES = {
    signal.SIGKILL: (-signal.SIGKILL, ""),
    signal.SIGTERM: (143, "terminated"),
    signal.SIGINT: (130, "interrupted"),
}
#: wall times, and the lock; dates inside checkpoint.npz (a zip file) are left out by comparing what it holds
DIFFERENT = ("times.csv", ".wigner-jax.lock")


#: sets what SIGINT does, gives SIGTERM back to the system, and becomes the command: forking a process that runs JAX is not safe
LAUNCHER = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.Handlers[sys.argv[1]])
signal.signal(signal.SIGTERM, signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""


def in_foreground(*arguments: str, interrupt: str = "SIG_DFL") -> list[str]:
    """A command of this Python as a shell starts it in the foreground; in the background `interrupt` is SIG_IGN."""
    return [sys.executable, "-S", "-c", LAUNCHER, interrupt, sys.executable, *arguments]


def start(*arguments: str, cwd: Path, cache: Path | None) -> subprocess.Popen[bytes]:
    """The command as a shell starts it in the foreground; the cache of compiled programs as given, or none."""
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": "" if cache is None else str(cache)}
    process = subprocess.Popen(
        in_foreground("-m", "wigner_jax", *arguments),
        cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_for_handlers(process)
    return process


def wait_for_handlers(process: subprocess.Popen[bytes]) -> None:
    """Until SIGTERM is not Python's own matter any more, some 0.1 s after the start; longer on a busy machine."""
    status, bit = Path(f"/proc/{process.pid}/status"), 1 << (signal.SIGTERM - 1)
    if not status.exists():
        time.sleep(1.0)
    while process.poll() is None and status.exists():
        caught = next((line.split()[1] for line in status.read_text().splitlines() if line.startswith("SigCgt")), "0")
        if int(caught, 16) & bit:
            return
        time.sleep(0.01)


def contents(folder: Path) -> dict[str, object]:
    """All that a run leaves, but for wall times and dates."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or name in DIFFERENT or name.startswith("times/"):
            continue
        if path.suffix == ".npz":
            with np.load(path) as file:
                found[name] = {k: (file[k].dtype.str, file[k].shape, file[k].tobytes()) for k in file.files}
        else:
            found[name] = path.read_bytes()
    return found


class Case(NamedTuple):
    """What is killed."""

    commands: Sequence[Sequence[str]]  # at the same time
    folder: str  # of their output
    cwd: Path
    cache: Path

    def run(self) -> float:
        """To the end; seconds of the longest."""
        began = time.monotonic()
        for process in [start(*c, cwd=self.cwd, cache=self.cache) for c in self.commands]:
            _, error = process.communicate(timeout=LIMIT)
            assert process.returncode == 0, error.decode()
        return time.monotonic() - began


class Count(NamedTuple):
    """What happened."""

    kills: int
    ended: int  # runs that came to their end before the signal
    completed: int  # folders that were compared


def kill_and_compare(
    case: Case, kills: int, seed: int, signals: Sequence[signal.Signals] = tuple(CODES), longest: float | None = None
) -> Count:
    """Kill all commands of a case at random moments, `kills` times in all, and start them again; every folder that gets
    finished equals that of an undisturbed run, and the next one begins from nothing.

    Args:
        longest: s, before a signal comes; by default what a run takes that finds its programs compiled.
    """
    rng, output = random.Random(seed), case.cwd / case.folder
    case.run()  # fills the cache of compiled programs
    if longest is None:
        shutil.rmtree(output)
        longest = case.run()
    whole = contents(output)
    shutil.rmtree(output)
    killed = ended = completed = 0
    while killed < kills:
        processes = [start(*c, cwd=case.cwd, cache=case.cache) for c in case.commands]
        late = time.monotonic()
        codes = []
        for process in processes:
            time.sleep(max(0.0, late + rng.uniform(0.0, longest) - time.monotonic()))
            number = rng.choice(list(signals))
            process.send_signal(number)
            _, error = process.communicate(timeout=LIMIT)
            codes.append(process.returncode)
            if process.returncode == 0:
                ended += 1
                continue
            code, word = CODES[number]
            assert process.returncode == code, (number, process.returncode, error.decode())
            assert not word or error.decode() == f"wigner-jax: {word}\n"
            killed += 1
        if not any(codes):
            case_is_whole(output, whole)
            shutil.rmtree(output)
            completed += 1
    case.run()
    case_is_whole(output, whole)
    return Count(killed, ended, completed + 1)


def case_is_whole(output: Path, whole: dict[str, object]) -> None:
    found = contents(output)
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        assert found[name] == value, name


# --- cheap inputs ----------------------------------------------------------------------------------------------------

LATTICE = {"Si": 5.43, "Ge": 5.66, "C": 3.57}
FACE_CENTRED = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
WEIGHTS = [1, 4, 3]  # of the irreducible points of a face-centred crystal, 2 × 2 × 2
QPOINTS = [[0, 0, 0], [0.5, 0, 0], [0.5, 0.5, 0]]


def write_campaign(folder: Path, scale: float = 1.0, masses: float = 1.0) -> None:
    """Three crystals of 8 atoms, and a reference with numbers of no meaning.

    Args:
        scale: of the reference's conductivities.
        masses: of the first crystal's atoms, in natural ones.
    """
    structures, rows = [], []
    for k, (name, a) in enumerate(LATTICE.items()):
        atoms = bulk(name, cubic=True, a=a)
        if k == 0 and masses != 1.0:
            atoms.set_masses(masses * atoms.get_masses())
        atoms.info = {
            "mp_id": f"mp-{k + 1}", "name": name, "q_mesh": [2, 2, 2], "primitive_matrix": FACE_CENTRED,
            "fc2_supercell": np.eye(3, dtype=int), "fc3_supercell": np.eye(3, dtype=int),
        }  # fmt: skip
        structures.append(atoms)
        modes = np.ones((3, 6))
        rows.append({
            "mp_id": f"mp-{k + 1}", "name": name, "symm.no": 227, "q_mesh": [2, 2, 2], "qpoints": QPOINTS,
            "weights": WEIGHTS, "temperatures": [300.0], "frequencies": modes.tolist(),
            "heat_capacity": [modes.tolist()], "kappa_TOT_ave": [2.25 * scale],
            "mode_kappa_TOT_ave": [(scale * modes).tolist()],
        })  # fmt: skip
    write(folder / "solids.extxyz", structures)
    table = {name: {str(k): row[name] for k, row in enumerate(rows)} for name in rows[0]}
    (folder / "dft.json.gz").write_bytes(gzip.compress(json.dumps(table).encode()))


def campaign_options(out: str = "out", *more: str, potential: str = "tersoff-1989") -> list[str]:
    return [
        "benchmark", "--potential", potential, "--structures", "solids.extxyz", "--reference", "dft.json.gz", "-o", out,
        "--protocol", "newton", "--quiet", "--threads", "1", *more,
    ]  # fmt: skip


def write_finetune(folder: Path, epochs: int = 12, **changes: object) -> None:
    material = {
        "structure": "Si", "fc2_supercell": [1, 1, 1], "fc3_supercell": [1, 1, 1], "mesh": [2, 2, 2],
        "targets": {"kappa": {"value": 60.0}},
    }  # fmt: skip
    config = {
        "potential": "tersoff-1989", "output": "run", "train": ["A", "B"], "epochs": epochs, "ema": 0.9, "seed": 3,
        "materials": [{**material, "name": "one"}, {**material, "name": "two", "temperatures": [100, 500]}],
        "optimizer": {"name": "adam", "learning_rate": 0.5, "schedule": "constant"},
        **changes,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def write_training(folder: Path, epochs: int = 6, **changes: object) -> None:
    """Rattled rocksalt with labels of no meaning, for the bundled MACE."""
    rng, frames = np.random.default_rng(0), []
    for _ in range(6):
        atoms = bulk("NaCl", "rocksalt", a=5.6)
        atoms.rattle(0.05, rng=rng)
        atoms.info["REF_energy"], atoms.arrays["REF_forces"] = rng.normal(), 0.1 * rng.normal(size=(2, 3))
        frames.append(atoms)
    write(folder / "frames.extxyz", frames)
    config = {
        "potential": "mace-bundled", "output": "run", "data": {"train": "frames.extxyz", "validation": 0.34},
        "train": ["readouts.*"], "epochs": epochs, "batch": 2, "seed": 1, "precision": "float64",
        "optimizer": {"name": "adam", "learning_rate": 0.001}, **changes,
    }  # fmt: skip
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
