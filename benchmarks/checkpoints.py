"""Checkpoints of training that survive kill -9 and a full disk: ours (training/train_state.py) against orbax-checkpoint.

    python benchmarks/checkpoints.py --kills 100                   # needs orbax-checkpoint for the comparison
    python benchmarks/checkpoints.py --full-disk /mnt/small        # a small file system, for example a tmpfs of 48 MB

A process saves one state after the other, each with its number in every array, and says the number when a save is done. It is
killed after its first save, at a random moment of the next four. What the folder holds must then be a complete checkpoint: all arrays with one number, at
least the last one that was said, and a new process must be able to go on. Times are those of a save until the data are on the
disk; imports are timed in a fresh process.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import add_output, environment, save_rows, table

PACKAGES = ("wigner-jax", "jax", "numpy", "flax", "orbax-checkpoint")
SIZES = {"readout (10⁴)": 10_000, "layer (3·10⁵)": 300_000, "model (2·10⁶)": 2_000_000}


def numbered(number: int, size: int) -> Any:
    """Parameters that cannot be compressed, and say which checkpoint they belong to."""
    import numpy as np

    noise = np.random.default_rng(0).random(size)
    return {"a": noise[: size // 2] + number, "b": noise[size // 2 :] + number}


def state_of(number: int, size: int) -> Any:
    """A state with Adam's moments: five arrays of the size of the parameters, all with the same numbers."""
    import optax

    from wigner_jax.training import TrainState

    params = numbered(number, size)
    state = TrainState.create(apply_fn=None, params=params, tx=optax.adam(1e-3), average=params, best=params, update=())
    moments = state.opt_state[0]._replace(mu=params, nu=params)
    return state.replace(step=number, opt_state=(moments, *state.opt_state[1:]))


class Ours:
    """One archive, written aside, flushed and renamed."""

    def __init__(self, folder: Path, size: int) -> None:
        from wigner_jax._core.temporaries import remove_forgotten

        self.file, self.size = folder / "checkpoint.npz", size
        remove_forgotten(self.file.parent)

    def save(self, number: int, state: Any) -> None:
        from wigner_jax.training import save_state

        save_state(self.file, state, {})

    def load(self) -> Any:
        from wigner_jax.training import load_state

        return load_state(self.file, state_of(0, self.size), {}) if self.file.exists() else None


class Orbax:
    """CheckpointManager with the last two kept, saving without asynchrony (or with it)."""

    def __init__(self, folder: Path, size: int, background: bool = False) -> None:
        import orbax.checkpoint as ocp

        self.ocp, self.size, self.background = ocp, size, background
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=background)
        self.manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def tree(self, state: Any) -> Any:
        return {n: getattr(state, n) for n in ("step", "params", "opt_state", "average", "best")}

    def save(self, number: int, state: Any) -> None:
        self.manager.save(number, args=self.ocp.args.StandardSave(self.tree(state)))
        if not self.background:
            self.manager.wait_until_finished()

    def load(self) -> Any:
        step = self.manager.latest_step()
        if step is None:
            return None
        like = state_of(0, self.size)
        return like.replace(**self.manager.restore(step, args=self.ocp.args.StandardRestore(self.tree(like))))


def saver(kind: str, folder: Path, size: int) -> Any:
    if kind == "ours":
        return Ours(folder, size)
    return Orbax(folder, size, background=kind == "orbax-background")


def work(kind: str, folder: Path, size: int) -> None:
    """Go on from what is there, and save until killed."""
    import jax

    jax.config.update("jax_enable_x64", True)
    folder.mkdir(parents=True, exist_ok=True)
    made = saver(kind, folder, size)
    found = made.load()
    number = 0 if found is None else int(found.step)
    print("ready", number, flush=True)
    while True:
        number += 1
        made.save(number, state_of(number, size))
        print(number, flush=True)


def check(kind: str, folder: Path, size: int) -> int:
    """The number of the checkpoint in the folder; all arrays must be its own."""
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    found = saver(kind, folder, size).load()
    if found is None:
        return 0
    number = int(found.step)
    expected = numbered(number, size)
    for tree in (found.params, found.average, found.best, found.opt_state[0].mu, found.opt_state[0].nu):
        for name, values in expected.items():
            assert np.array_equal(np.asarray(tree[name]), values), "arrays of different checkpoints"
    return number


def kill(kind: str, size: int, kills: int, folder: Path) -> dict[str, Any]:
    """Kill -9 at random moments of a loop of saves."""
    import random

    said, failures, reasons = 0, 0, []
    rng = random.Random(0)
    for k in range(kills):
        run = [sys.executable, __file__, "--work", kind, str(size), str(folder)]
        process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout is not None
        first = process.stdout.readline().split()
        if not first or first[0] != "ready":  # it could not go on from what the last kill left
            failures += 1
            reasons.append(process.communicate()[1].strip().splitlines()[-1][:200])
            shutil.rmtree(folder)
            said = 0
            continue
        if int(first[1]) < said:
            failures += 1
            reasons.append(f"went back from {said} to {first[1]}")
        begun = time.perf_counter()
        numbers = [int(process.stdout.readline()), int(process.stdout.readline())]  # two saves, and how long they take
        time.sleep(rng.uniform(0.0, 2 * (time.perf_counter() - begun)))
        process.kill()
        numbers += [int(x) for x in process.communicate()[0].split() if x.isdigit()]
        said = max(numbers)
        try:
            found = check(kind, folder, size)
            if found < said:
                raise AssertionError(f"checkpoint {found} after {said} was said to be done")
            said = found
        except Exception as error:
            failures += 1
            reasons.append(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}")
        print(f"{kind}: kill {k + 1}, checkpoint {said}, failures {failures}", flush=True)
    left = len(list(folder.iterdir()))
    return {"row": f"{kind} kills", "kills": kills, "failures": failures, "reasons": reasons, "files left": left}


def times(kind: str, repeats: int = 10) -> dict[str, Any]:
    """Seconds of a save and of a load, by size."""
    import jax
    import numpy as np

    jax.config.update("jax_enable_x64", True)
    found: dict[str, Any] = {"row": f"{kind} times"}
    for name, size in SIZES.items():
        with tempfile.TemporaryDirectory(dir=".") as folder:
            made = saver(kind, Path(folder), size)
            measured = []
            for number in range(1, repeats + 1):
                state = state_of(number, size)
                begun = time.perf_counter()
                made.save(number, state)
                measured.append(time.perf_counter() - begun)
            if kind == "orbax-background":
                made.manager.wait_until_finished()
            begun = time.perf_counter()
            made.load()
            found[name] = {"save": float(np.median(measured)), "load": time.perf_counter() - begun}
    return found


def imports() -> dict[str, Any]:
    """Seconds to import, after jax and optax."""
    code = "import time, jax, optax; t = time.perf_counter(); import {0}; print(time.perf_counter() - t)"
    found: dict[str, Any] = {"row": "imports"}
    for name in ("flax.training.train_state", "orbax.checkpoint"):
        runs = [
            subprocess.run([sys.executable, "-c", code.format(name)], capture_output=True, text=True) for _ in range(3)
        ]
        found[name] = min(float(r.stdout) for r in runs)
    return found


def full_disk(kind: str, size: int, folder: Path) -> dict[str, Any]:
    """Save into a file system that fills up; the last complete checkpoint must be readable then."""
    import jax

    jax.config.update("jax_enable_x64", True)
    target = folder / kind
    target.mkdir()
    made, number, error = saver(kind, target, size), 0, ""
    ballast = folder / "ballast"
    try:
        for number in range(1, 40):
            made.save(number, state_of(number, size))
            with contextlib.suppress(OSError), ballast.open("ab") as file:
                file.write(b"0" * 2_000_000)
    except Exception as reason:
        error = f"{type(reason).__name__}: {str(reason).splitlines()[0][:160]}"
    try:
        readable = check(kind, target, size)
    except Exception as reason:
        readable = -1
        error += f"; then {type(reason).__name__}: {str(reason).splitlines()[0][:160]}"
    ballast.unlink(missing_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    return {"row": f"{kind} full disk", "failed at": number, "readable": readable, "error": error}


def damage(kind: str, size: int) -> dict[str, Any]:
    """Whether a largest file that was cut in half, or has one changed bit, is noticed on loading."""
    import jax

    jax.config.update("jax_enable_x64", True)
    found: dict[str, Any] = {"row": f"{kind} damage"}
    for name in ("cut in half", "one bit changed"):
        with tempfile.TemporaryDirectory(dir=".") as folder:
            saver(kind, Path(folder), size).save(1, state_of(1, size))
            largest = max((p for p in Path(folder).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
            content = bytearray(largest.read_bytes())
            if name == "cut in half":
                content = content[: len(content) // 2]
            else:
                content[len(content) // 2] ^= 1
            largest.write_bytes(content)
            try:
                found[name] = f"loaded as {check(kind, Path(folder), size)}"
            except AssertionError:
                found[name] = "not noticed: wrong numbers"
            except Exception as error:
                found[name] = f"noticed ({type(error).__name__})"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=("ours", "orbax"), default=["ours", "orbax"])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--size", type=int, default=300_000, help="parameters")
    parser.add_argument("--full-disk", type=Path, metavar="FOLDER", help="an empty folder on a small file system")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    add_output(parser)
    arguments = parser.parse_args()
    if arguments.work:
        kind, size, folder = arguments.work
        work(kind, Path(folder), int(size))
    rows = [imports()]
    print(rows, flush=True)
    for kind in arguments.kinds:
        rows.append(times(kind))
        print(rows[-1], flush=True)
        if kind == "orbax":
            rows.append(times("orbax-background"))
        rows.append(damage(kind, arguments.size))
        print(rows[-1], flush=True)
        if arguments.full_disk is not None:
            rows.append(full_disk(kind, arguments.size, arguments.full_disk))
        with tempfile.TemporaryDirectory(dir=".") as folder:
            rows.append(kill(kind, arguments.size, arguments.kills, Path(folder) / "run"))
    save_rows(arguments.out, {"benchmark": "checkpoints", **environment(PACKAGES)}, rows)
    print(table(["row", "found"], [[r["row"], json.dumps({k: v for k, v in r.items() if k != "row"})] for r in rows]))


if __name__ == "__main__":
    main()
