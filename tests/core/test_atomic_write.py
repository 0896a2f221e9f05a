"""Files appear whole or not at all, and never in the place of what is not ours: the file system's corner cases."""

from __future__ import annotations

import errno
import os
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from wigner_jax._core import atomic_write as files
from wigner_jax._core import temporaries
from wigner_jax._core.atomic_write import atomic_hdf5, atomic_write, check_folder, check_output, write_bytes, write_text
from wigner_jax._core.folder_lock import locked
from wigner_jax.errors import InputError


def left(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


# --- writing ---------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_stays(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")

    def stumble() -> None:
        with atomic_write(path) as part:
            part.write_text("new, half")
            assert path.read_text() == "old"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        stumble()
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert left(tmp_path) == ["a"]


def test_permissions_stay(tmp_path):
    path = tmp_path / "a"
    write_text(path, "old")
    path.chmod(0o640)
    write_text(path, "new")
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    write_text(tmp_path / "link", "new")  # a link to nothing yet
    write_text(tmp_path / "link", "newer")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/file").read_text() == "newer"
    assert left(tmp_path / "there") == ["file"]


@pytest.fixture
def strange(tmp_path) -> dict[str, Path]:
    """Everything that a name may stand for, and is not to be replaced; with the word that says so."""
    found = {
        name: tmp_path / name.replace(" ", "-")
        for name in ("a folder", "a pipe", "a socket", "a link that leads nowhere")
    }
    found["a folder"].mkdir()
    os.mkfifo(found["a pipe"])
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # names of sockets are short
        listener.bind("a-socket")
        os.chdir(here)
    found["a link that leads nowhere"].symlink_to(found["a link that leads nowhere"].name)
    found["a device"] = tmp_path / "device"
    found["a device"].symlink_to("/dev/null")
    return found


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a socket", "a device", "a link that leads nowhere"])
def test_what_is_no_regular_file_is_never_replaced(tmp_path, strange, kind):
    path, before = strange[kind], left(tmp_path)
    mode = path.stat().st_mode if kind != "a link that leads nowhere" else 0
    for attempt in (lambda: check_output(path), lambda: write_bytes(path, b"x")):
        with pytest.raises(InputError, match=f"it is {kind}: choose another place"):
            attempt()
    assert left(tmp_path) == before
    assert kind == "a link that leads nowhere" or path.stat().st_mode == mode


def test_devices_are_refused_by_their_own_names():
    before = os.stat("/dev/null")
    for attempt in (check_output, lambda p: write_text(p, "x")):
        with pytest.raises(InputError, match="/dev/null: it is a device"):
            attempt("/dev/null")
    assert os.stat("/dev/null").st_rdev == before.st_rdev


def test_a_write_protected_file_is_refused_even_for_root(tmp_path):
    write_text(tmp_path / "a", "old")
    (tmp_path / "a").chmod(0o444)
    for attempt in (lambda p: check_output(p, ours=lambda _: True), lambda p: write_text(p, "new")):
        with pytest.raises(InputError, match="it is write-protected"):
            attempt(tmp_path / "a")
    assert (tmp_path / "a").read_text() == "old"


# --- a disk that is full ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_files():
    """As on a full disk, writing beyond 100 kB fails; Python ignores the signal of it already."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def by_hdf5(path: Path, count: int) -> None:
    with atomic_hdf5(path) as file:
        file["a"] = np.arange(count, dtype=float)


@pytest.mark.parametrize("write", [lambda p, n: write_bytes(p, bytes(8 * n)), by_hdf5], ids=["bytes", "hdf5"])
def test_a_full_disk_is_one_line_and_nothing_is_lost(tmp_path, small_files, write):
    path = tmp_path / "a"
    write(path, 1000)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"cannot write .*a \(File too large\): choose another place"):
        write(path, 100_000)
    assert path.read_bytes() == before
    assert left(tmp_path) == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_errors_at_the_last_moment(tmp_path, monkeypatch, call, number):
    """Network file systems say that the disk is full when a file is flushed or closed."""
    write_text(tmp_path / "a", "old")

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(InputError, match=os.strerror(number)):
        write_text(tmp_path / "a", "new")
    monkeypatch.undo()
    assert (tmp_path / "a").read_text() == "old"
    assert left(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_libraries_that_stumble_over_a_full_disk(tmp_path, error):
    """h5py says RuntimeError, zipfile ValueError; their own mistakes are no matter of the disk."""

    def stumble(cause: Exception | None) -> None:
        with atomic_write(tmp_path / "a"):
            raise error("cannot close") from cause

    with pytest.raises(InputError, match="No space left on device"):
        stumble(OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(error, match="cannot close"):
        stumble(None)
    assert left(tmp_path) == []


def test_two_files_in_memory_are_two(tmp_path):
    with atomic_hdf5(tmp_path / "a") as a, atomic_hdf5(tmp_path / "b") as b:
        a["x"], b["x"] = 1, 2
    for name, value in (("a", 1), ("b", 2)):
        with h5py.File(tmp_path / name) as file:
            assert file["x"][()] == value


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounts a small disk: Linux, as root")
def test_a_disk_that_is_really_full(tmp_path):
    """A file system of 1 MB: refused before the work, and at the end of it if others have filled it meanwhile."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount: {mounted.stderr.decode().strip()}")
    try:
        write_bytes(disk / "a", bytes(300_000))
        check_output(disk / "b", need=100_000)
        with pytest.raises(
            InputError, match=r"the disk of .* has 7\d\d kB left, 1.26 MB are needed: free some, or choose"
        ):
            check_output(disk / "b", need=1e6)
        for size in (900_000, 760_000):
            with pytest.raises(InputError, match="No space left on device"):
                by_hdf5(disk / "a", size // 8)
            with pytest.raises(InputError, match="No space left on device"):
                write_bytes(disk / "a", bytes(size))
        assert (disk / "a").read_bytes() == bytes(300_000)
        assert left(disk) == ["a"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- checks before the work ------------------------------------------------------------------------------------------


def test_what_may_be_replaced(tmp_path):
    """Nothing, an empty file, a file of ours, a link to one; not another file, and never an input by any of its names."""
    write_text(tmp_path / "ours", "ours")
    write_text(tmp_path / "theirs", "theirs")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to("ours")
    (tmp_path / "their link").symlink_to("theirs")
    os.link(tmp_path / "ours", tmp_path / "second name")

    def ours(path: Path) -> bool:
        return path.read_text() == "ours"

    for name in ("new", "empty", "ours", "link", "second name"):
        assert check_output(tmp_path / name, ours=ours) == tmp_path / name
    for name in ("theirs", "their link"):
        with pytest.raises(
            InputError, match=f"{name} is there already and is not a figure of wigner-jax: remove it, or choose"
        ):
            check_output(tmp_path / name, ours=ours, what="a figure")
    for name in ("ours", "link", "second name"):
        with pytest.raises(InputError, match="it is the input"):
            check_output(tmp_path / name, ours=ours, inputs=[None, tmp_path / "missing", tmp_path / "link"])
    assert not list(tmp_path.glob(".*"))


def test_names(tmp_path, monkeypatch):
    """Any name that the system takes will do; the rest is refused before the work."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    for name in ("a" * 255, "ä" * 127, " ", "-", "a\nb"):
        check_output(name)
        write_text(name, "x")
        assert Path(name).read_text() == "x"
    for name, line in (
        ("a" * 256, "its name is too long"),
        ("ä" * 128, "its name is too long"),
        ("a/" * 3000 + "a", "cannot write a/a/a"),
        ("", "it names a folder"),
        ("new/", "it names a folder"),
        (".", "it is a folder"),
        ("missing/a", "there is no folder missing: make it, or choose another place"),
        ("file/a", "file is not a folder"),
    ):
        with pytest.raises(InputError, match=line):
            check_output(name)


def test_the_output_of_the_command_itself(tmp_path):
    """-o of a file that the shell writes the output to."""
    code = "import sys; from wigner_jax._core.atomic_write import check_output; check_output(sys.argv[1])"
    with (tmp_path / "log").open("w") as log:
        for name in ("log", "/dev/stdout"):
            run = subprocess.run(
                [sys.executable, "-c", code, name], cwd=tmp_path, stdout=log, stderr=subprocess.PIPE, text=True
            )
            assert "the output of this command goes there" in run.stderr


def test_folders(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("", "new", "new/new"):
        check_folder(tmp_path / name)
    for name, line in (
        ("file", "file is not a folder but a file"),
        ("file/new", "file is not a folder"),
        ("a" * 256, "too long"),
        ("b/" + "a" * 256, "its name is too long"),
    ):
        with pytest.raises(InputError, match=line):
            check_folder(tmp_path / name)
    with pytest.raises(InputError, match="it names no folder"):
        check_folder("")
    with pytest.raises(InputError, match="are needed"):
        check_folder(tmp_path / "new/new", need=1e18)
    assert left(tmp_path) == ["file"]


def test_a_folder_without_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    tmp_path.chmod(0o555)
    for check, name in ((check_output, "a"), (check_folder, "a/b")):
        with pytest.raises(InputError, match="Permission denied"):
            check(tmp_path / name)
    tmp_path.chmod(0o755)


# --- what kills leave ------------------------------------------------------------------------------------------------


def test_temporaries_of_others_stay(tmp_path):
    """Removed: those of ended processes of this machine, and old ones. Not: living processes, other machines, other files."""
    here, week = temporaries.host(), temporaries.KEPT
    gone = [f".a.{here}.99999999.part", f".a.{here}.{os.getpid()}.part", ".a.elsewhere.1.part", ".a.hdf5.7.part"]
    stay = [".b.elsewhere.99999999.part", ".b.hdf5.99999999.part", ".b.part", "b.part", ".c", f".b.{here}.1.part"]
    for name in gone + stay:
        (tmp_path / name).touch()
    for name in gone[2:]:
        os.utime(tmp_path / name, (time.time() - week - 60,) * 2)
    os.utime(tmp_path / stay[0], (time.time() + 10 * week,) * 2)  # written by a clock that is ahead
    with atomic_write(tmp_path / "d") as part:
        temporaries.remove_forgotten(tmp_path)
        assert part.exists()
    assert left(tmp_path) == sorted([*stay, "d"])


@pytest.mark.parametrize("now", [0.0, 4e9])
def test_the_clock_is_not_relied_on(tmp_path, monkeypatch, now):
    """Set back or ahead by decades, it makes nobody's file a forgotten one: the file system's own time counts."""
    (tmp_path / ".a.elsewhere.1.part").touch()
    monkeypatch.setattr(time, "time", lambda: now)
    temporaries.remove_forgotten(tmp_path)
    assert left(tmp_path) == [".a.elsewhere.1.part"]


def test_one_process_in_a_folder(tmp_path):
    code = "import sys; from pathlib import Path; from wigner_jax._core.folder_lock import locked\nwith locked(Path(sys.argv[1])): pass"
    command = [sys.executable, "-c", code, str(tmp_path)]
    with locked(tmp_path):
        run = subprocess.run(command, capture_output=True, text=True)
        assert f"another run is at work in {tmp_path} (process {os.getpid()} on" in run.stderr
    assert subprocess.run(command).returncode == 0
