"""Small files that ask for any memory or time: one line within a second. Beside each kind, what comes near it and is read."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import lzma
import os
import pickle
import resource
import struct
import time
import zipfile
from typing import TYPE_CHECKING

import ase.build
import h5py
import numpy as np
import pytest
from fuzz.pace import too_long
from fuzz.targets import MACE
from small_models import NEQUIX, write_nequix

from wigner_jax import load_potential
from wigner_jax._core import reading
from wigner_jax._core.arrays_in import npy_array, open_hdf5, read_npz
from wigner_jax.cli.app import main
from wigner_jax.errors import InputError, one_line
from wigner_jax.io.ase_files import read_frames
from wigner_jax.io.kappa_hdf5 import read_kappa_hdf5
from wigner_jax.io.phonondb import read_phonondb
from wigner_jax.io.structures import read_structure
from wigner_jax.potentials.readers.torch_archive import read_archive
from wigner_jax.training.config_schema import read_yaml

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refused(read: Callable[[Path], object], path: Path) -> str:
    """The one line with which a file is refused, in a second of CPU time and without a gigabyte."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError) as caught:
        read(path)
    took = time.process_time() - start
    assert not too_long(took, lambda: read(path)), f"{took:.1f} s"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20
    line = str(caught.value)
    assert path.name in line
    assert "\n" not in line
    return line


# --- archives ---------------------------------------------------------------------------------------------------------


def archive(path: Path, data: bytes, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", data)
        for name, content in members.items():
            file.writestr(f"a/data/{name}", content)
    return path


def doubled(first: bytes, pair: Callable[[int], bytes], count: int = 40) -> bytes:
    """Each of `count` objects holds the one before twice."""
    return first + b"q\0" + b"".join(b"0" + pair(k) + b"q" + bytes([k + 1]) for k in range(count))


def tuples(k: int) -> bytes:
    return b"h%ch%c\x86" % (k, k)


def lists(k: int) -> bytes:
    return b"](h%ch%ce" % (k, k)


STORAGE = b"((X\x07\0\0\0storagectorch\nDoubleStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ%stQ"


def tensor(count: int, shape: bytes) -> bytes:
    """A pickle of a list of the same tensor, rebuilt again and again."""
    number = struct.pack("<i", count)
    pid = b"(X\x07\0\0\0storagectorch\nDoubleStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ" + number + b"tQ"
    arguments = b"(" + pid + b"K\0" + shape + b"tq\x05"
    return b"\x80\x02](ctorch._utils\n_rebuild_tensor_v2\nq\x04" + arguments + b"R" + 5000 * b"h\x04h\x05R" + b"e."


PICKLES = {
    "a hash that doubles": b"\x80\x02}" + doubled(b")", tuples) + b"K\x01s.",
    "a text that doubles": b"\x80\x02ctorch\nX\n)R" + doubled(b"]", lists) + b"K\x01s.",
    "a structure that doubles": b"\x80\x02" + doubled(b"]", lists) + b".",
    "a member that doubles": b"\x80\x02c__builtin__\nset\n](" + doubled(b")", tuples) + b"e\x85R.",
    "a name of numbers that doubles": b"\x80\x02cnumpy\ndtype\n" + doubled(b"]", lists) + b"\x85R.",
    "an encoding that doubles": b"\x80\x02c_codecs\nencode\nX\x01\0\0\0x" + doubled(b"]", lists) + b"\x86R.",
    "a storage that doubles": b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\n" + doubled(b")", tuples) + b"NK\x01tQ.",
    "lists that are copied": b"\x80\x02](cbuiltins\nlist\nq\0(" + 200_000 * b"K\x01" + b"t\x85q\x01" + 20_000 * b"h\0h\x01R" + b"e.",
    "an integer of a megabyte": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + 10**6 * b"\x01" + b".",
    "keys in a chain": b"\x80\x02})" + 200_000 * b"\x85" + b"K\x01s.",
    "sizes before their contents": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "a function with another state": b"\x80\x02c_codecs\nencode\n}X\x0c\0\0\0__defaults__K\x01\x85sb.",
    "a tensor of no numbers": tensor(4, b"(K\0\x8a\x06\0\0\0\0\0\x01t(K\x01K\x01t"),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICKLES)
def test_pickles(kind: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.model", PICKLES[kind], **{"0": bytes(32)})
    refused(load_potential, path)
    refused(read_archive, path)


def test_tensors_that_are_copied(tmp_path: Path) -> None:
    shape = b"\x8a\x04" + struct.pack("<i", 10**6) + b"\x85K\x01\x85"
    assert "again and again" in refused(
        read_archive, archive(tmp_path / "a.pt", tensor(10**6, shape), **{"0": bytes(8 * 10**6)})
    )


def test_shared_parts_are_read(tmp_path: Path) -> None:
    """Eight doublings, keys that are tuples, a list in a hundred places, sets, ordered tables."""
    import collections

    shared = list(range(100))
    value = {
        "a": [shared] * 100,
        (1, "x"): {1, 2},
        "o": collections.OrderedDict(a=1),
        "big": 2**80,
        "f": frozenset("ab"),
    }
    path = archive(tmp_path / "a.pt", pickle.dumps(value, protocol=2))
    assert read_archive(path) == value
    few = read_archive(archive(tmp_path / "b.pt", b"\x80\x02" + doubled(b"]", lists, 8) + b"."))
    assert len(few) == 2


def test_zip_files_that_unpack_to_more(tmp_path: Path) -> None:
    line = refused(load_potential, archive(tmp_path / "zeros.model", pickle.dumps(1), **{"0": bytes(150_000_000)}))
    assert "150.0 MB of memory" in line
    line = refused(load_potential, archive(tmp_path / "pickle.model", b"\x80\x02" + 3_000_000 * b"N0" + b"N."))
    assert "the pickle in the archive has" in line
    packed = tmp_path / "packed.model"  # a model that was packed again is read
    with zipfile.ZipFile(MACE) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    assert load_potential(packed).cutoff == load_potential(MACE).cutoff


# --- arrays -----------------------------------------------------------------------------------------------------------


def npy(shape: object, descr: str = "<f8", data: bytes = bytes(8)) -> bytes:
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text + data


def test_a_member_that_says_to_take_more_than_the_file(tmp_path: Path) -> None:
    """Python's zipfile makes room for it at once: a gigabyte of a file of some kilobytes."""

    def arrays(path: Path) -> dict[str, np.ndarray]:
        with reading.reading(path, "arrays"):
            return read_npz(path)

    path = tmp_path / "a.npz"
    np.savez(path, a=np.arange(3.0))
    assert arrays(path)["a"].tolist() == [0, 1, 2]
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")  # the directory's entry: its compressed size stands 20 bytes behind
    data[at + 20 : at + 24] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    assert "its members would take 2.1 GB" in refused(arrays, path)
    path = tmp_path / "a.model"
    path.write_bytes(MACE.read_bytes())
    read_archive(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 24] = struct.pack("<I", 2**30)
    path.write_bytes(data)
    assert "its members would take 1.1 GB" in refused(read_archive, path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (npy("(1000000000000,)"), "needs 8000.0 GB, and 8 bytes are there"),
        (npy("(3, -1)"), "has the shape"),
        (npy("(9999999999999, 0)"), "has the shape"),
        (npy("(" + "(" * 5000 + ")" * 5000 + ",)"), "a.nqx"),
        (npy("(1,)", "|O"), "holds object, not numbers"),
        (npy("(1,)", "<U100000000"), "needs"),
        (npy("(1,)")[:20], "cut off"),
        (b"\x93NUMPY\x02\0\xff\xff\xff\xff", "cut off"),
    ],
)
def test_declared_shapes(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.nqx"
    path.write_bytes(json.dumps(NEQUIX).encode() + b"\n" + data)
    assert says in refused(load_potential, path)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", data)
    with contextlib.suppress(ValueError), reading.reading(tmp_path / "a.npz", "arrays"):
        read_npz(tmp_path / "a.npz")
        raise AssertionError("it was read")


def test_arrays_of_all_kinds_are_read() -> None:
    rng = np.random.default_rng(0)
    for array in (
        rng.normal(size=(2, 3)),
        np.asfortranarray(rng.normal(size=(2, 3))),
        np.array(1.5),
        np.zeros((0, 3)),
        np.array("text"),
        np.arange(3),
    ):
        buffer = io.BytesIO()
        np.save(buffer, array)
        found, end = npy_array(buffer.getvalue() + b"rest")
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype
        assert end == len(buffer.getvalue())


@pytest.mark.parametrize(
    "change",
    [{"lmax": 10**9}, {"n_layers": 10**9}, {"hidden_irreps": "6x0e + 4x1o + 3x99999e"}, {"radial_mlp_layers": 10**9}, {"cutoff": 1e9},
     {"cutoff": -1}, {"cutoff": float("nan")}, {"avg_n_neighbors": 0}, {"lmax": 1e400}, {"n_layers": None}],
)  # fmt: skip
def test_sizes_of_models(change: dict, tmp_path: Path) -> None:
    refused(load_potential, write_nequix(tmp_path / "a.nqx", {**NEQUIX, **change}))


def hdf5(path: Path, change: Callable[[h5py.File], object]) -> Path:
    with h5py.File(path, "w") as file:
        file["temperature"], file["weight"], file["frequency"] = [300.0], [1, 7], np.ones((2, 6))
        change(file)
    return path


def rings(file: h5py.File) -> None:
    """Forty groups, each of which is twice in the one before."""
    group = file.create_group("g0")
    for k in range(40):
        inner = file.create_group(f"g{k + 1}")
        group["a"] = group["b"] = inner
        group = inner


HDF5 = {
    "huge": lambda f: f.create_dataset("gamma", (10**6, 10**6), "f8", chunks=(10, 10)),
    "packed": lambda f: f.create_dataset("gamma", data=np.zeros(25_000_000), compression="gzip"),
    "ring": lambda f: f.__setitem__("gamma", f["/"]),
    "rings": rings,
    "elsewhere": lambda f: f.__setitem__("gamma", h5py.ExternalLink("/etc/hostname", "/")),
    "soft": lambda f: f.__setitem__("gamma", h5py.SoftLink("/gamma")),
    "external": lambda f: f.create_dataset("gamma", (10,), "u1", external=[("/etc/hostname", 0, 10)]),
    "texts": lambda f: f.create_dataset("gamma", data=["x" * 1000] * 1000),
    "objects": lambda f: f.create_dataset("gamma", data=[f["weight"].ref] * 3, dtype=h5py.ref_dtype),
    "not finite": lambda f: f.__setitem__("gamma", np.full((1, 2, 6), np.nan)),
    "another shape": lambda f: f.__setitem__("gamma", np.ones((1, 3, 6))),
    "a group": lambda f: f.create_group("gamma"),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hdf5(kind: str, tmp_path: Path) -> None:
    refused(read_kappa_hdf5, hdf5(tmp_path / "kappa.hdf5", HDF5[kind]))


def test_hdf5_that_is_read(tmp_path: Path) -> None:
    """Zeros that are well packed, texts, groups in groups, attributes of all kinds."""

    def change(file: h5py.File) -> None:
        file.create_dataset("gamma", data=np.zeros((1, 2, 6)), compression="gzip")
        file["zeros"] = np.zeros(0)
        file.create_dataset("large", data=np.zeros(4_000_000), compression="gzip")
        file["a/b/c"], file["version"] = 1.0, "4.1.0"
        file.attrs.update({"model": "x", "number": 3, "flag": True, "array": np.arange(5)})

    data = read_kappa_hdf5(hdf5(tmp_path / "kappa.hdf5", change))
    assert data["a"]["b"]["c"] == 1.0
    assert data["version"] == b"4.1.0"
    assert data["attributes"] == {"model": "x", "number": 3, "flag": True}


def test_a_heap_with_an_entry_of_no_size(tmp_path: Path) -> None:
    """HDF5 2.0 goes round for ever there."""
    path = hdf5(tmp_path / "kappa.hdf5", lambda f: f.attrs.__setitem__("model", "x" * 100))
    data = path.read_bytes()
    at = data.index(b"GCOL") + 16
    at += 16 + 104
    path.write_bytes(data[: at + 8] + bytes(8) + data[at + 16 :])
    assert "a heap of texts" in refused(read_kappa_hdf5, path)


# --- text -------------------------------------------------------------------------------------------------------------


def alias(line: bytes) -> bytes:
    """Fifty tables, each made of the one before twice."""
    return b"a0: &a0 {x: 1}\n" + b"".join(line % {b"k": b"%d" % k, b"l": b"%d" % (k - 1)} for k in range(1, 50))


TEXTS = {
    "deep.json": b"[" * 100_000,
    "tables.json": b'{"a":' * 100_000,
    "digits.json": b"1" * 100_000,
    "spaces.json.gz": gzip.compress(b"[" + b" " * 10**8),
    "spaces.json.xz": lzma.compress(b"[" + b" " * 10**8),
    "cut.json.gz": gzip.compress(b"[1, 2, 3]" * 100)[:-12],
    "other.json.xz": b"no xz",
    "deep.yaml": b"[" * 100_000,
    "dashes.yaml": b"- " * 100_000 + b"a",
    "questions.yaml": b"? " * 100_000,
    "aliases.yaml": alias(b"a%(k)s: &a%(k)s [*a%(l)s, *a%(l)s]\n"),
    "merged.yaml": alias(b"a%(k)s: &a%(k)s {<<: [*a%(l)s, *a%(l)s]}\n"),
    "itself.yaml": b"&a [*a]",
    "many.yaml.xz": lzma.compress(b"[" + b"a," * 900_000 + b"a]"),
    "spaces.yaml.gz": gzip.compress(b"a: " + b" " * 10**8),
    "collide.yaml": b"{" + b",".join(b"%d: 0" % (k * (2**61 - 1)) for k in range(20_000)) + b"}",
    "tag.yaml": b"!!python/object/apply:os.system [ls]",
    "control.yaml": b"a: \0",
    "bytes.yaml": b"\xff\xfe\xfa",
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(TEXTS[name])
    refused(read_phonondb if ".json" in name else read_yaml, path)


def test_texts_that_are_read(tmp_path: Path) -> None:
    for name, pack in (("a.yaml", bytes), ("a.yaml.xz", lzma.compress), ("a.yaml.gz", gzip.compress)):
        (tmp_path / name).write_bytes(pack(b"a: &a [1, 2]\nb: *a\nc: {<<: {x: 1}, y: 2}\nd: " + 50 * b"[" + 50 * b"]"))
        found = read_yaml(tmp_path / name)
        assert found["a"] == found["b"] == [1, 2]
        assert found["c"] == {"x": 1, "y": 2}


STRUCTURES = {
    "POSCAR": "Si\n1\n4 0 0\n0 4 0\n0 0 4\nSi\n99999999999\ndirect\n0 0 0\n",
    "old.vasp": "Si\n1\n4 0 0\n0 4 0\n0 0 4\n9999999999 1\ndirect\n0 0 0\n",
    "a.extxyz": '999999999999\nLattice="4 0 0 0 4 0 0 0 4"\nSi 0 0 0\n',
    "columns.extxyz": '1\nLattice="4 0 0 0 4 0 0 0 4" Properties=species:S:1:pos:R:2147483648\nSi 0 0 0\n',
    "second.extxyz": '1\nLattice="4 0 0 0 4 0 0 0 4"\nSi 0 0 0\n1\nProperties=species:S:999999999:pos:R:3\nSi 0 0 0\n',
    "empty.cif": "",
    "many.extxyz": '3000\nLattice="40 0 0 0 40 0 0 0 40"\n' + "Si 0 0 0\n" * 3000,
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures(name: str, tmp_path: Path) -> None:
    ase.build.bulk("Si").write(tmp_path / "good.vasp")
    read_structure(tmp_path / "good.vasp")  # ASE's own imports
    (tmp_path / name).write_text(STRUCTURES[name])
    refused(read_structure, tmp_path / name)


def test_trajectories(tmp_path: Path) -> None:
    ase.build.bulk("Si").write(tmp_path / "a.traj")
    assert len(read_frames(tmp_path / "a.traj")) == 1
    data = (tmp_path / "a.traj").read_bytes()
    for changed in (
        data[:32] + struct.pack("<q", 10**12) + data[40:],
        data.replace(b"[[2, 3]", b"[[2999999999, 3]"),
        data[:-100],
    ):
        (tmp_path / "b.traj").write_bytes(changed)
        refused(read_structure, tmp_path / "b.traj")


# --- what is no file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "read", [load_potential, read_archive, read_kappa_hdf5, read_phonondb, read_yaml, read_structure]
)
def test_what_is_no_file(read: Callable[[Path], object], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.model")
    (tmp_path / "folder.model").mkdir()
    for name in ("pipe.model", "folder.model", "absent.model"):
        refused(read, tmp_path / name)
    with pytest.raises((InputError, OSError)):
        read(tmp_path / ("x" * 300 + ".model"))


def test_an_exception_of_a_library_keeps_its_cause(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--debug shows what raised: an error of ours in a reader is still found."""
    (tmp_path / "a.txt").write_text("x")

    @reading.reads("a list")
    def broken(path: Path) -> None:
        len(3)  # type: ignore[arg-type]

    with pytest.raises(InputError, match=r"a\.txt: not a list \(object of type 'int' has no len\(\)\)") as caught:
        broken(tmp_path / "a.txt")
    assert isinstance(caught.value.__cause__, TypeError)
    (tmp_path / "a.hdf5").write_text("x")
    with pytest.raises(InputError) as caught:
        main(["plot", str(tmp_path / "a.hdf5"), "--debug"])
    assert isinstance(caught.value.__cause__, OSError)


def test_messages_are_one_line(tmp_path: Path) -> None:
    text = one_line("a\nb\x00" + 10_000 * "x")
    assert text.startswith("a b?x")
    assert len(text) < 1300
    assert one_line("κ of Γ is 3 W/(m K)") == "κ of Γ is 3 W/(m K)"
    with pytest.raises(InputError) as caught, reading.reading(tmp_path, "a folder", folder=True):
        raise InputError("found", "remedy")
    assert str(caught.value) == f"{tmp_path}: found: remedy"
    with pytest.raises(InputError, match="outer: found"), reading.reading(tmp_path, "x", folder=True):
        raise InputError(f"{tmp_path}/outer: found")
    with open_hdf5(hdf5(tmp_path / "a.hdf5", lambda _: None)) as file:
        assert file.names() == ["frequency", "temperature", "weight"]


def test_depth_is_limited_whatever_the_recursion_limit(tmp_path: Path) -> None:
    """A library that is imported may have raised it; the stack would end first."""
    import sys

    from wigner_jax._core.reading import read_json

    path, limit = tmp_path / "deep.json", sys.getrecursionlimit()
    path.write_text("[" * 500_000 + "]" * 500_000)
    sys.setrecursionlimit(10_000_000)
    try:
        with pytest.raises(InputError, match="nested deeper"):
            read_json(path)
    finally:
        sys.setrecursionlimit(limit)
    path.write_text('{"a": ["[[[[[", [1, {"b": "\\"[["}]]}')
    assert read_json(path) == {"a": ["[[[[[", [1, {"b": '"[['}]]}
