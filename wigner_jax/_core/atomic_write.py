"""Files that appear complete or not at all, and never in the place of what is not ours.

A file is written beside its destination, flushed to the disk, and renamed onto it; the folder is flushed too. A reader, and
whoever comes after a kill or a loss of power, finds the old file or the new one. On a full disk the old one stays.

A link is followed: the file that it points to is replaced, the link stays. What is no regular file (a folder, a device, a
pipe) is never replaced, nor is a file that is write-protected. `check_output` says all this before the work begins, and
refuses files with other contents than this program writes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from ..errors import InputError
from .temporaries import create, remove, temporary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


ADVICE = "choose another place"
SPARE = 2**18  # bytes that a disk must have to spare
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link that leads nowhere"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


# --- writing ---------------------------------------------------------------------------------------------------------


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path beside `path` to write to: flushed and renamed onto it at the end, removed after an error.

    Raises:
        InputError: the place is taken by something that is not to be replaced.
        OSError: of the file system.
    """
    target = _target(path)
    _require_replaceable(path, target, ADVICE)
    part = temporary(target)
    try:
        create(part)
        yield part
        _flush(part)
        _require_replaceable(path, target, ADVICE)
        with contextlib.suppress(OSError):
            shutil.copymode(target, part)
        os.replace(part, target)
        _flush_folder(target.parent)
    finally:
        remove(part)


@contextmanager
def atomic_write(path: str | Path, advice: str = ADVICE) -> Iterator[Path]:
    """`replacing`, with errors of the file system as one line.

    Raises:
        InputError: the file cannot be written; the line ends with `advice`. A file that was there before is whole.
    """
    try:
        with replacing(path) as part:
            yield part
    except (OSError, RuntimeError, ValueError) as error:  # libraries wrap what the disk says, or stumble over it
        reason = _reason(error)
        if reason is None:
            raise
        raise InputError(f"cannot write {path} ({reason})", advice) from error


def write_bytes(path: str | Path, content: bytes, advice: str = ADVICE) -> None:
    """Write a file of these bytes, atomically.

    Raises:
        InputError: it cannot be written; a file that was there before is whole.
    """
    with atomic_write(path, advice) as part:
        part.write_bytes(content)


def write_text(path: str | Path, text: str, advice: str = ADVICE) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode(), advice)


@contextmanager
def atomic_hdf5(path: str | Path, advice: str = ADVICE) -> Iterator[h5py.File]:
    """An HDF5 file to fill, in memory; written as a whole at the end. HDF5 itself does not come back from a full disk."""
    with h5py.File(uuid.uuid4().hex, "w", driver="core", backing_store=False, block_size=2**20) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    write_bytes(path, image, advice)


def _reason(error: BaseException | None) -> str | None:
    """What the file system said; None for an error of another kind."""
    while error is not None:
        if isinstance(error, InputError):
            return None
        if isinstance(error, OSError):
            return error.strerror or str(error)
        error = error.__cause__ or error.__context__
    return None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno in DISK:  # some systems cannot flush, and say so with other numbers
                raise
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """The new name, too, survives a loss of power. Systems that cannot open folders are left to themselves."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- checks before the work ------------------------------------------------------------------------------------------


def check_output(
    path: str | Path,
    *,
    what: str = "a file",
    ours: Callable[[Path], bool] = lambda path: False,
    need: float = 0,
    inputs: Iterable[str | Path | None] = (),
    advice: str = ADVICE,
) -> Path:
    """A place for a file, refused now rather than after the work.

    An empty regular file may be replaced, as may one that is `ours`.

    Args:
        what: what will be written, such as "a kappa file"; for the line of an error.
        ours: whether a file that is there has such contents.
        need: bytes that it will take, roughly.
        inputs: files that are read and must stay.

    Raises:
        InputError: no name of a file, a folder that is not there, something in its place that is not to be replaced, no
            permission, or no room on the disk; the line ends with `advice`.
    """
    text = os.fspath(path)
    try:
        if text == "" or text.endswith(("/", os.sep)):
            raise InputError(f"cannot write {text!r}: it names a folder", advice)
        if os.path.islink(path) and not os.path.exists(path):
            raise InputError(f"cannot write {path}: it is a link that leads nowhere", advice)
        target = _target(path)
        _require_folder(path, target.parent, advice)
        _require_replaceable(path, target, advice)
        for known in inputs:
            if known is not None and _same(known, target):
                raise InputError(f"cannot write {path}: it is the input {known}", advice)
        if any(_same(stream, target) for stream in (1, 2)):
            raise InputError(f"cannot write {path}: the output of this command goes there", advice)
        if target.exists() and target.stat().st_size and not ours(target):
            raise InputError(f"{path} is there already and is not {what} of wigner-jax", f"remove it, or {advice}")
        probe = temporary(target)
        try:
            create(probe)
        finally:
            remove(probe)
        require_room(target.parent, need, advice)
    except OSError as error:
        raise InputError(f"cannot write {path} ({error.strerror or error})", advice) from None
    return Path(path)


def check_folder(path: str | Path, need: float = 0, advice: str = ADVICE) -> Path:
    """A place for a folder, refused now rather than after the work: one that can be written to, or can be made.

    Raises:
        InputError: something else is in its place, no permission, or no room on the disk.
    """
    folder = Path(path)
    try:
        if os.fspath(path) == "":
            raise InputError("cannot write to '': it names no folder", advice)
        if not folder.is_dir() and os.path.lexists(folder):
            raise InputError(f"{path} is not a folder but {_kind(folder) or 'a file'}", advice)
        there = folder
        while not os.path.lexists(there):
            if len(os.fsencode(there.name)) > _longest(there):
                raise InputError(f"cannot make {path}: its name is too long", advice)
            there = there.parent
        if not there.is_dir():
            raise InputError(f"cannot make {path}: {there} is not a folder", advice)
        probe = temporary(there / "folder")
        try:
            create(probe)
        finally:
            remove(probe)
        require_room(there, need, advice)
    except OSError as error:
        raise InputError(f"cannot write to {path} ({error.strerror or error})", advice) from None
    return folder


def require_room(folder: Path, need: float, advice: str = ADVICE) -> None:
    """InputError where the disk of a folder has less room than `need` bytes; disks that do not say are believed."""
    total, _, free = shutil.disk_usage(folder)
    if total and free < need + SPARE:
        raise InputError(
            f"the disk of {folder} has {_size(free)} left, {_size(need + SPARE)} are needed", f"free some, or {advice}"
        )


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _target(path: str | Path) -> Path:
    """The place itself, where `path` is a link."""
    return Path(os.path.realpath(path))


def _require_folder(path: str | Path, folder: Path, advice: str) -> None:
    there = folder
    while not os.path.lexists(there):
        there = there.parent
    if not there.is_dir():
        raise InputError(f"cannot write {path}: {there} is not a folder", advice)
    if there != folder:
        raise InputError(f"cannot write {path}: there is no folder {Path(path).parent}", f"make it, or {advice}")
    if len(os.fsencode(Path(path).name)) > _longest(folder):
        raise InputError(f"cannot write {path}: its name is too long", advice)


def _longest(folder: Path) -> int:
    """Bytes that a name may have in a folder."""
    while not folder.is_dir():
        folder = folder.parent
    try:
        return os.pathconf(folder, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):
        return 255


def _require_replaceable(path: str | Path, target: Path, advice: str) -> None:
    """Nothing is there, or a regular file that may be written to."""
    kind = _kind(target)
    if kind is not None:
        raise InputError(f"cannot write {path}: it is {kind}", advice)
    if target.exists() and not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        raise InputError(f"cannot write {path}: it is write-protected", advice)


def _kind(path: Path) -> str | None:
    """What a path is; None for a regular file, or nothing."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if stat.S_ISREG(mode) else next((word for test, word in KINDS if test(mode)), "no regular file")


def _same(known: str | Path | int, path: Path) -> bool:
    """Whether both are one file, whatever their names."""
    try:
        return os.path.samestat(os.stat(known), os.stat(path))
    except (OSError, ValueError):
        return False


__all__ = [
    "atomic_hdf5",
    "atomic_write",
    "check_folder",
    "check_output",
    "replacing",
    "require_room",
    "write_bytes",
    "write_text",
]
