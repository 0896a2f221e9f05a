"""Files changed at random, from a seed: bytes, numbers in text, members of archives, trees of JSON and yaml, HDF5."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import re
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NUMBER = re.compile(rb"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
NUMBERS = [b"0", b"-1", b"1e400", b"-1e400", b"nan", b"NaN", b".nan", b"inf", b".inf", b"Infinity", b"", b"1e-320", b"99999999999",
           b"1" + 20 * b"0", 5000 * b"9", b"0x10", b"true", b"null", b"[]", b"{}", b"'a'", b"1 2", b"-0", b"1e18", b"2147483648"]  # fmt: skip
VALUES = [None, True, False, 0, -1, 1, 10**20, -(10**20), 2**63, 1e308, -1e308, float("nan"), float("inf"), 1e-320, "", "x", "nan",
          "1e400", [], {}, [[]], [1, [2, [3]]], {"a": {"a": 1}}, "x" * 10_000, list(range(1000)), [[0.0] * 3] * 3]  # fmt: skip
PACKED: dict[str, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {
    ".gz": (gzip.compress, gzip.decompress), ".xz": (lzma.compress, lzma.decompress), ".bz2": (bz2.compress, bz2.decompress),
}  # fmt: skip
WORDS = [2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 0, 1, 10**12]


def bytes_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes of any kind."""
    for _ in range(rng.integers(1, 5)):
        data = BYTES[rng.integers(len(BYTES))](data, rng)
    return data


def _span(data: bytes, rng: np.random.Generator) -> tuple[int, int]:
    start = int(rng.integers(0, len(data) + 1))
    return start, min(len(data), start + int(rng.choice([1, 2, 4, 8, 16, 64, 1024])))


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 9) if data else 0):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _cut(data: bytes, rng: np.random.Generator) -> bytes:
    return data[: rng.integers(0, len(data) + 1)]


def _without(data: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(data, rng)
    return data[:a] + data[b:]


def _twice(data: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(data, rng)
    return data[:b] + data[a:b] * int(rng.choice([1, 2, 1000])) + data[b:]


def _spliced(data: bytes, rng: np.random.Generator) -> bytes:
    (a, b), (c, d) = _span(data, rng), _span(data, rng)
    return data[:a] + data[c:d] + data[b:]


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    a, b = _span(data, rng)
    return data[:a] + rng.bytes(b - a) + data[b:]


def _word(data: bytes, rng: np.random.Generator) -> bytes:
    a = int(rng.integers(0, len(data) + 1))
    word = WORDS[rng.integers(len(WORDS))].to_bytes(8, "little")[: int(rng.choice([1, 2, 4, 8]))]
    return data[:a] + word + data[a + len(word) :]


def number(data: bytes, rng: np.random.Generator) -> bytes:
    """A number in text replaced by something else."""
    found = list(NUMBER.finditer(data[:200_000]))
    if not found:
        return _flip(data, rng)
    at = found[rng.integers(len(found))]
    return data[: at.start()] + NUMBERS[rng.integers(len(NUMBERS))] + data[at.end() :]


BYTES: list[Callable[[bytes, np.random.Generator], bytes]] = [
    _flip,
    _cut,
    _without,
    _twice,
    _spliced,
    _noise,
    _word,
    number,
]


def tree_changed(tree: Any, rng: np.random.Generator) -> Any:
    """One place of a tree replaced, removed, doubled, renamed or buried. The tree itself is changed."""
    places = []

    def walk(node: Any, depth: int = 0) -> None:
        if depth > 12:
            return
        items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in list(items)[:30]:
            places.append((node, key))
            walk(value, depth + 1)

    walk(tree)
    if not places:
        return VALUES[rng.integers(len(VALUES))]
    node, key = places[rng.integers(len(places))]
    kind = rng.integers(8)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[f"{key}_"] = node.pop(key)
    elif kind == 2 and isinstance(node, list):
        node.insert(int(key), node[key])
    elif kind == 3:
        for _ in range(int(rng.choice([1, 3, 90, 3000]))):
            node[key] = [node[key]]
    elif kind == 4:
        node[key] = node
        return str(tree)[:5000]  # a tree that holds itself cannot be written
    else:
        node[key] = VALUES[rng.integers(len(VALUES))]
    return tree


# --- files ------------------------------------------------------------------------------------------------------------


def plain(source: Path, target: Path, rng: np.random.Generator) -> None:
    """Bytes, or a number in text."""
    data = source.read_bytes()
    target.write_bytes(number(data, rng) if rng.integers(2) else bytes_changed(data, rng))


def packed(source: Path, target: Path, rng: np.random.Generator) -> None:
    """What is inside a compressed file; now and then its own bytes."""
    if rng.integers(5) == 0:
        return plain(source, target, rng)
    pack, unpack = PACKED[source.suffix]
    data = unpack(source.read_bytes())
    data = number(data, rng) if rng.integers(2) else bytes_changed(data, rng)
    if rng.integers(20) == 0:
        data += b" " * 10**7
    target.write_bytes(pack(data))
    return None


def archive(source: Path, target: Path, rng: np.random.Generator) -> None:
    """A member of a zip file, packed again with its checksum; now and then the bytes of the file, or its members."""
    kind = rng.integers(10)
    if kind == 0:
        return plain(source, target, rng)
    with zipfile.ZipFile(source) as old:
        members = [(info.filename, old.read(info)) for info in old.infolist()]
    head = [k for k, (name, _) in enumerate(members) if name.endswith((".pkl", "_plain.npy"))]
    chosen = int(head[0] if head and kind < 8 else rng.integers(len(members)))
    name, data = members[chosen]
    if kind == 1:
        del members[chosen]
    elif kind == 2:
        members[chosen] = (name + "x", data)
    else:
        members[chosen] = (name, bytes_changed(data, rng))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED if rng.integers(2) else zipfile.ZIP_STORED) as new:
        for name, data in members:
            new.writestr(name, data)
    return None


def json_tree(source: Path, target: Path, rng: np.random.Generator) -> None:
    """The tree of a JSON file, or its text; packed as it was."""
    return _tree(source, target, rng, json.loads, json.dumps)


def yaml_tree(source: Path, target: Path, rng: np.random.Generator) -> None:
    """The tree of a yaml file, or its text; packed as it was."""
    import yaml

    return _tree(
        source, target, rng, yaml.safe_load,
        lambda tree: json.dumps(tree).replace("NaN", ".nan").replace("Infinity", ".inf"),
    )  # fmt: skip


def _tree(
    source: Path, target: Path, rng: np.random.Generator, load: Callable[[bytes], Any], dump: Callable[[Any], str]
) -> None:
    is_packed = source.suffix in PACKED
    if rng.integers(2):
        return (packed if is_packed else plain)(source, target, rng)
    pack, unpack = PACKED[source.suffix] if is_packed else (bytes, bytes)
    target.write_bytes(pack(_dumped(dump, tree_changed(load(unpack(source.read_bytes())), rng))))
    return None


def _dumped(dump: Callable[[Any], str], tree: Any) -> bytes:
    try:
        return dump(tree).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):
        return b"[" * 20_000 + b"]" * 20_000


def hdf5(source: Path, target: Path, rng: np.random.Generator) -> None:
    """A dataset, an attribute or a link of an HDF5 file; now and then its bytes."""
    shutil.copyfile(source, target)
    if rng.integers(3) == 0:
        return target.write_bytes(bytes_changed(source.read_bytes(), rng)) and None
    with h5py.File(target, "r+") as file:
        for _ in range(rng.integers(1, 4)):
            names: list[str] = []
            file.visit(names.append)
            name = names[rng.integers(len(names))] if names else "x"
            with contextlib.suppress(Exception):  # what an earlier change does not allow any more
                HDF5[rng.integers(len(HDF5))](file, name, rng)
    return None


def _values(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    if (
        name in file
        and isinstance(file[name], h5py.Dataset)
        and file[name].dtype.kind in "iuf"
        and 0 < (file[name].size or 0) < 10**6
    ):
        array = np.array(file[name][()], float).ravel()
        array[rng.integers(len(array))] = rng.choice([np.nan, np.inf, -np.inf, 1e300, -1e300, 0, -1, 1e-320])
        shape, kept = file[name].shape, file[name].dtype.kind == "f" or rng.integers(2)
        del file[name]
        file[name] = (array if kept else np.nan_to_num(array).clip(-1e9, 1e9).astype(int)).reshape(shape)


def _other(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    others = [0, 1.5, np.zeros(0), np.zeros((3, 0, 3)), np.ones(7), np.ones((2, 3, 4)), "text", np.array([b"a", b"b"]), np.ones((1,) * 9),
              np.ones(4, complex), np.ones(3, bool), np.ones(2, [("a", float)]), h5py.Empty("f8")]  # fmt: skip
    _remove(file, name, rng)
    file[name] = others[rng.integers(len(others))]


def _huge(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    shape = [(10**12,), (10**4,) * 4, (10**9,), (10**5, 10**5)][rng.integers(4)]
    _remove(file, name, rng)
    file.create_dataset(name, shape, "f8", chunks=(1,) * len(shape))


def _remove(file: h5py.File, name: str, _: np.random.Generator) -> None:
    if name in file:
        del file[name]


def _link(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    targets = [
        h5py.SoftLink("/nothing"),
        h5py.SoftLink(f"/{name}"),
        h5py.ExternalLink("/etc/passwd", "/"),
        file["/"],
        h5py.SoftLink("/"),
    ]
    _remove(file, name, rng)
    file[name] = targets[rng.integers(len(targets))]


def _moved(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    if name in file and f"{name}_" not in file:
        file.move(name, f"{name}_")


def _attribute(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    names = [*file.attrs, "record", "x"]
    chosen = names[rng.integers(len(names))]
    value = [0, "x", "{}", "[", np.nan, np.zeros(5), np.zeros(0), h5py.Empty("f8"), "[" * 10_000, b"\xff"][
        rng.integers(10)
    ]
    text = file.attrs.get(chosen)
    if isinstance(text, str) and rng.integers(4):
        try:
            value = json.dumps(tree_changed(json.loads(text), rng))
        except (ValueError, RecursionError):
            value = text[: len(text) // 2]
    file.attrs[chosen] = value if not isinstance(value, str) or len(value) < 60_000 else value[:60_000]


HDF5: list[Callable[[h5py.File, str, np.random.Generator], None]] = [
    _values, _values, _other, _other, _huge, _remove, _link, _moved, _attribute, _attribute,
]  # fmt: skip


def npz_bytes(arrays: dict[str, np.ndarray]) -> bytes:
    """What `np.savez` writes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
