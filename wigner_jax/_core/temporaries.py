"""Files that are being written, beside the places they will be renamed to: their names, and what becomes of forgotten ones.

``.NAME.HOST.PID.part``: the name says which process of which machine writes it, so that a run may remove what a killed one
has left, and never what another one is writing in the same folder, here or on another machine.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 80  # bytes of a name that is kept in that of its temporary: any name that the system takes will do
KEPT = 7 * 86400.0  # s, after which a temporary file whose process cannot be looked up is taken for forgotten
PATTERN = re.compile(r"\..+\.(?P<host>[A-Za-z0-9_-]+)\.(?P<pid>\d+)\.part")

_open: set[Path] = set()  # of this process


@functools.cache
def host() -> str:
    """This machine, as far as processes can see each other: containers have process numbers of their own."""
    node = os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", node)[:40] or "host"
    try:
        return f"{name}-{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:  # not Linux
        return name


def temporary(path: Path) -> Path:
    """Where this process writes what will become `path`."""
    encoded = os.fsencode(path.name)
    name = path.name if len(encoded) <= LONGEST else f"{zlib.crc32(encoded):08x}"
    return path.with_name(f".{name}.{host()}.{os.getpid()}.part")


def create(part: Path) -> None:
    """Make the file; a forgotten one of that name is removed, never followed if it is a link. OSError if it cannot be."""
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    _open.add(part)


def remove(part: Path) -> None:
    """Remove it, if it is there still."""
    with contextlib.suppress(OSError):
        part.unlink(missing_ok=True)
    _open.discard(part)


def remove_open() -> None:
    """Remove all that this process is writing: it ends."""
    for part in tuple(_open):
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def remove_forgotten(folder: Path) -> None:
    """Remove temporary files that nobody writes any more: those of ended processes of this machine, and those of other
    machines that are older than `KEPT`, by the clock of the file system. OSErrors are none of the caller's business."""
    with contextlib.suppress(OSError):
        for part in folder.glob(".*.part"):
            match = PATTERN.fullmatch(part.name)
            if match is None or part in _open:
                continue
            ended = _ended(int(match["pid"])) if match["host"] == host() else _now(folder) - part.stat().st_mtime > KEPT
            if ended:
                part.unlink(missing_ok=True)


def _now(folder: Path) -> float:
    """The time as the file system of a folder has it, which may be another machine's."""
    probe = temporary(folder / "clock")
    create(probe)
    try:
        return probe.stat().st_mtime
    finally:
        remove(probe)


def _ended(pid: int) -> bool:
    """Whether no process of this machine has that number. One with our own number was another one, before us."""
    if pid == os.getpid():
        return True
    if os.name == "nt":  # os.kill would end it
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


__all__ = ["create", "host", "remove", "remove_forgotten", "remove_open", "temporary"]
