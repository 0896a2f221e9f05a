"""Reads changed files one after the other within limits of memory, and says what goes wrong: python worker.py FOLDER COUNT NAME ...

A line of JSON for each failure: {"name", "number", "what"}. `FOLDER/at` holds the reader and the number of the mutation that
is being read, so that who started the process knows what killed it.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import shutil
import sys
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import numpy as np
from fuzz.pace import too_long
from fuzz.targets import TARGETS, Target

from wigner_jax.errors import AccuracyWarning, InputError

MEMORY = 2**30  # bytes beyond what the process has when it starts to read


def main(folder: Path, count: int, names: list[str], first: int) -> None:
    jax.config.update("jax_enable_x64", True)
    for name in names:
        target = TARGETS[name]
        source = folder / f"{name}-good"
        source.mkdir(exist_ok=True)
        if not (source / target.name).exists():
            target.make(source / target.name)
        read(target, source / target.name)  # imports and compiles what is needed; and the good file is read
    limit()
    for name in names:
        target, source = TARGETS[name], folder / f"{name}-good"
        for number in range(first, max(first, int(count * target.share))):
            (folder / "at").write_text(json.dumps([name, number]))
            if wrong := one(target, source, folder / f"{name}-changed", number):
                print(json.dumps({"name": name, "number": number, "what": wrong}), flush=True)
        first = 0
    (folder / "at").write_text("")


def limit() -> None:
    """What the process may take from now on."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else None
    if pages is not None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))


def read(target: Target, path: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        target.read(path)


def one(target: Target, source: Path, place: Path, number: int) -> str | None:
    """What is wrong with how one changed file is read; None if nothing is."""
    rng = np.random.default_rng([number, *target.name.encode()])
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place)
    chosen = Path(target.name, target.files[number % len(target.files)]) if target.files else Path(target.name)
    target.change(source / chosen, place / chosen, rng)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    wrong = None
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            read(target, place / target.name)
        except InputError as error:
            wrong = _line(error, place)
        except BaseException as error:
            wrong = f"{type(error).__name__}: {str(error)[:200]} {traceback.format_exc()[-600:]}"
    took, grown = time.process_time() - start, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    leaked = [
        w
        for w in said
        if not issubclass(w.category, (AccuracyWarning, DeprecationWarning)) and "wigner_jax" in w.filename
    ]
    if wrong is None and leaked:
        wrong = f"warning {leaked[0].category.__name__}: {leaked[0].message} ({leaked[0].filename}:{leaked[0].lineno})"
    if wrong is None and too_long(took, lambda: read(target, place / target.name)):
        wrong = f"took {took:.1f} s"
    return wrong if wrong or grown < MEMORY else f"took {grown / 1e6:.0f} MB"


def _line(error: InputError, place: Path) -> str | None:
    text, cause = str(error), error.__cause__
    if "\n" in text or len(text) > 1500 or not text.isprintable():
        return f"not one line of reasonable length: {text[:300]!r}"
    if not any(path.name in text for path in [place, *place.rglob("*")]):
        return f"does not name the file: {text[:300]}"
    while cause is not None:
        if isinstance(cause, MemoryError):
            return f"asked for the memory: {text[:300]}"
        cause = cause.__cause__
    return None


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[4:], int(sys.argv[3]))
