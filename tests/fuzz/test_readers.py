"""Whatever is done to a file: its reader reads it, or leaves with one `InputError` that names it, in a second and a gigabyte.

    python tests/fuzz/worker.py FOLDER COUNT 0 mace phono3py      the readers named, COUNT mutations each

A failure names its reader and number; the same number is the same file. Crashes and hangs end a process of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.targets import GROUPS

WORKER = Path(__file__).with_name("worker.py")
HANGS = 120  # s without a new file


def failures(folder: Path, names: list[str], count: int) -> list[dict]:
    """What went wrong; a process that dies or hangs is one failure, and the next goes on behind it."""
    found: list[dict] = []
    first = 0
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "JAX_PLATFORMS": "cpu"}
    while names:
        (folder / "at").write_text("")
        with (folder / "errors").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, WORKER, folder, str(count), str(first), *names], stdout=subprocess.PIPE, stderr=errors,
                text=True, env=environment,
            )  # fmt: skip
            wait = _wait(process, folder)
        found += [json.loads(line) for line in wait[0].splitlines() if line.startswith("{")]
        at = (folder / "at").read_text()
        if process.returncode == 0 and not at:
            return found
        assert at, (folder / "errors").read_text()[-2000:]
        name, number = json.loads(at)
        found.append({"name": name, "number": number, "what": wait[1] or f"died with {process.returncode}"})
        names, first = names[names.index(name) :], number + 1
    return found


def _wait(process: subprocess.Popen, folder: Path) -> tuple[str, str]:
    output, before = "", None
    while True:
        try:
            output, _ = process.communicate(timeout=HANGS)
            return output, ""
        except subprocess.TimeoutExpired:
            now = (folder / "at").read_text()
            if now == before and now:
                process.kill()
                output, _ = process.communicate()
                return output, "hangs"
            before = now


@pytest.mark.parametrize("group", GROUPS)
def test_changed_files(group: str, tmp_path: Path) -> None:
    assert failures(tmp_path, list(GROUPS[group]), 200) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for group in GROUPS.values() for name in group])
def test_many_changed_files(name: str, tmp_path: Path) -> None:
    assert failures(tmp_path, [name], 20_000) == []
