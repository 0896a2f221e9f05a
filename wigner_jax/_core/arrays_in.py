"""Arrays of NumPy's, zip's and HDF5's files: no more is made of them than the file can hold. Used inside `reading`."""

from __future__ import annotations

import ast
import math
import mmap
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .reading import in_words, require_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py


ZIP = 2**25, 50  # bytes that any archive may unpack to, and times its own size: tables of couplings are mostly zeros
HDF5 = 2**26, 300  # of all datasets that are read from one file: force constants beyond a cutoff are zeros
_HEAP = b"GCOL\x01\0\0\0"
_NPY = b"\x93NUMPY"
_NUMBERS = "biufc"


def open_zip(path: str | Path) -> zipfile.ZipFile:
    """A zip file whose members together are not larger than its size can mean; to be closed by the caller."""
    archive = zipfile.ZipFile(path)
    try:
        members, stored = archive.infolist(), Path(path).stat().st_size
        # Python takes room for what a member says to take in the file, before it reads it
        if (said := sum(info.compress_size for info in members)) > stored:
            raise InputError(f"its members would take {in_words(said)} of its {in_words(stored)}")
        require_size(sum(info.file_size for info in members), stored, *ZIP)
    except BaseException:
        archive.close()
        raise
    return archive


def npy_array(data: bytes, start: int = 0) -> tuple[np.ndarray, int]:
    """An array in NumPy's format within bytes, and where it ends. It is a view, and cannot be written to.

    Raises:
        InputError: not of this format, objects instead of numbers or text, or fewer numbers than it says.
    """
    version, head = data[start + 6 : start + 8], start + (10 if data[start + 6 : start + 7] == b"\x01" else 12)
    if data[start : start + 6] != _NPY or version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise InputError("an array does not begin as NumPy's do")
    begin = head + int.from_bytes(data[start + 8 : head], "little")
    if begin - head > 10_000 or begin > len(data):
        raise InputError("the description of an array is cut off")
    said = _literal(data[head:begin].decode("latin1"))
    if not isinstance(said, dict) or set(said) != {"descr", "fortran_order", "shape"}:
        raise InputError("the description of an array is damaged")
    shape, dtype = said["shape"], np.dtype(said["descr"]) if isinstance(said["descr"], str) else np.dtype(object)
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise InputError(f"an array has the shape {str(shape)[:60]}")
    if dtype.kind not in _NUMBERS + "SU":
        raise InputError(f"an array holds {dtype}, not numbers")
    size, there = math.prod(shape) * dtype.itemsize, len(data) - begin
    if size > there:
        raise InputError(
            f"it is not complete: an array of shape {shape} needs {in_words(size)}, and {in_words(there)} are there"
        )
    if size == 0 and max(shape, default=0) > 2**20:
        raise InputError(f"an array has the shape {shape} and no numbers")
    flat = np.frombuffer(data, dtype, math.prod(shape), begin) if size else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if said["fortran_order"] else "C"), begin + size


def _literal(text: str) -> Any:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's, about numbers that run into words
        return ast.literal_eval(text.strip())


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a `.npz` file by name."""
    with open_zip(path) as archive:
        return {name.removesuffix(".npy"): npy_array(archive.read(name))[0] for name in archive.namelist()}


# --- HDF5 -------------------------------------------------------------------------------------------------------------


class Datasets:
    """The datasets of an open HDF5 file that are read, counted together against the size of the file."""

    def __init__(self, file: h5py.File, stored: int) -> None:
        self.file, self.stored, self.taken = file, stored, 0
        self._seen: set[Any] = set()

    def names(self) -> list[str]:
        """What the file holds at its top."""
        return [name for name in self.file if name.isprintable()][:100]

    def __contains__(self, name: str) -> bool:
        return name in self.file

    def array(self, name: str, kinds: str = "biuf") -> np.ndarray:
        """A dataset of numbers, or of a few texts.

        Args:
            kinds: NumPy's letters of the kinds of number that it may have.

        Raises:
            InputError: no dataset, one that lies elsewhere, another kind, or more than the file can hold.
        """
        import h5py

        if not isinstance(self.file.get(name, getlink=True), h5py.HardLink):
            raise InputError(f"{name!r} is not in the file itself")
        found = self.file[name]
        if not isinstance(found, h5py.Dataset) or found.shape is None:
            raise InputError(f"{name!r} is no array")
        self._count(name, found, kinds)
        return found[()]

    def _count(self, name: str, found: h5py.Dataset, kinds: str) -> None:
        if found.is_virtual or found.external:
            raise InputError(f"the numbers of {name!r} lie in another file")
        if len(found.shape) > 8 or (found.dtype.kind not in kinds and (found.dtype.kind != "O" or found.size > 16)):
            raise InputError(f"{name!r} holds {found.dtype} of shape {found.shape}, not numbers")
        if found.dtype.itemsize > 2**16:
            raise InputError(f"{name!r} holds texts of {in_words(found.dtype.itemsize)}")
        self.taken += math.prod(int(n) for n in found.shape) * found.dtype.itemsize
        require_size(self.taken, self.stored, *HDF5)

    def tree(self, group: h5py.Group | None = None, depth: int = 0) -> dict[str, Any]:
        """All datasets by name; groups become nested dicts."""
        import h5py

        found: dict[str, Any] = {}
        group = self.file if group is None else group
        for name in group:
            inner = f"{group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise InputError(f"{inner!r} is not in the file itself")
            if isinstance(group[name], h5py.Group):
                # a group may hold itself, or be in two others
                if depth > 8 or group[name].id in self._seen:
                    raise InputError(f"the group {inner!r} is nested too deeply, or is there twice")
                self._seen.add(group[name].id)
                found[name] = self.tree(group[name], depth + 1)
            else:
                found[name] = self.array(inner, _NUMBERS + "S")
        return found

    def attributes(self) -> dict[str, Any]:
        """The attributes of the file, as Python has them; those that are no single number or text are left out."""
        found = {}
        for name in self.file.attrs:
            kept = self.file.attrs.get_id(name)
            if math.prod(kept.shape or (1,)) == 1 and (kept.dtype.kind == "O" or kept.dtype.itemsize < 2**24):
                value = self.file.attrs[name]
                found[name] = value.item() if isinstance(value, np.generic) or np.shape(value) == (1,) else value
        return found


@contextmanager
def open_hdf5(path: str | Path) -> Iterator[Datasets]:
    """An HDF5 file to read from."""
    import h5py

    with Path(path).open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        _require_heaps(content)
    with h5py.File(path, "r") as file:
        yield Datasets(file, Path(path).stat().st_size)


def _require_heaps(content: mmap.mmap) -> None:
    """InputError if a heap of texts has an entry of no size, where HDF5 2.0 goes round for ever.

    A heap is GCOL, version 1, its size, and entries: number, count of references, size, contents to a multiple of eight;
    number 0 is what is free, and its size includes the 16 bytes of the head.
    """
    steps, start = 0, content.find(_HEAP)
    while start >= 0:
        at = start + 16
        end = min(start + int.from_bytes(content[start + 8 : at], "little"), len(content))
        while at + 16 <= end:
            size = int.from_bytes(content[at + 8 : at + 16], "little")
            used = size if content[at : at + 2] == b"\0\0" else 16 + -(-size // 8) * 8
            steps += 1
            if used < 16 or at + used > end or steps > 10**6:
                raise InputError("a heap of texts in it is damaged", "make it anew")
            at += used
        start = content.find(_HEAP, start + 1)


__all__ = ["Datasets", "npy_array", "open_hdf5", "open_zip", "read_npz"]
