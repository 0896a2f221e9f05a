"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import InputError
from .atomic_write import ADVICE
from .temporaries import host

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


LOCK = ".wigner-jax.lock"


@contextmanager
def _held(path: Path, advice: str, wait: bool) -> Iterator[tuple[int, bool]]:
    """(descriptor, whether the lock is ours) of a file; everybody's where file systems have no locks, and on Windows."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error})", advice) from None
    try:
        free = True
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                free = False
            except OSError:  # no locks here
                pass
        yield descriptor, free
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, advice: str = ADVICE, *, wait: bool = False) -> Iterator[None]:
    """Keep a folder for this process. The file `LOCK` stays there; the system takes the lock off when the process ends.

    Args:
        wait: until another process is out of it.

    File systems without locks, and Windows, let everybody in.

    Raises:
        InputError: another process has it, with its number and machine; or the folder cannot be written to.
    """
    with _held(folder / LOCK, advice, wait) as (descriptor, free):
        if not free:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            raise InputError(
                f"another run is at work in {folder}{holder and f' ({holder})'}", f"wait for it, or {advice}"
            )
        with contextlib.suppress(OSError):  # for the line that others get; a full disk is none of the lock's business
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {host()}\n".encode(), 0)
        yield


@contextmanager
def claimed(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Keep a piece of work for this process: True, or False if another one has it.

    The system takes the lock off when a process ends, however that happens. The file stays; it is empty. Where file systems
    have no locks everybody gets everything.

    Args:
        wait: until nobody has it, then True.
    """
    with _held(path, ADVICE, wait) as (_, free):
        yield free


__all__ = ["LOCK", "claimed", "locked"]
