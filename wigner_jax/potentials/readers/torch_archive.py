"""PyTorch archives without PyTorch: tensors and plain data are read, nothing in the file is ever executed.

An archive (`torch.save`) is a zip file: a pickle that describes the object (`inert_pickle`), and one member per storage.
Modules of torch, e3nn and MACE are stubs: their class names, attributes and tensors are all that is needed to rebuild a
model.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..._core.arrays_in import open_zip
from ..._core.reading import reading
from ...errors import InputError
from .inert_pickle import Reader
from .stubs import STUBBED, Stub, Tensor

FREE = 2**20  # bytes of a pickle in a file of any size; those of published models have 20 to 70 thousand


def read_archive(path: str | Path) -> Any:
    """The object of a file that `torch.save` wrote: plain data, `Tensor` and `Stub`.

    Raises:
        InputError: for a file that is missing, truncated or damaged, not of this format, or that asks for a name which
            is neither plain data nor of a package in `STUBBED`; the message names it.
    """
    path = Path(path)
    advice = "if it was downloaded, download it again"
    with reading(path, "a complete PyTorch archive", advice), open_zip(path) as archive:
        root = _root(archive)
        if f"{root}/byteorder" in archive.namelist() and archive.read(f"{root}/byteorder").strip() == b"big":
            raise InputError(f"{path}: a big-endian archive; save the model again on a common machine")
        data = archive.read(f"{root}/data.pkl")
        most = max(FREE, 4 * path.stat().st_size)
        if len(data) > most:
            raise InputError(f"the pickle in the archive has {len(data)} bytes, and at most {most} are read")
        with reading(path, "a PyTorch archive with an undamaged pickle", advice):
            return Reader(data, lambda key: archive.read(f"{root}/data/{key}")).load()


def tensors(root: Any, prefix: str = "") -> dict[str, Tensor]:
    """Parameters and buffers by the names of `state_dict()`, of a module's stub or a dictionary that was read."""
    found: dict[str, Tensor] = {}
    if isinstance(root, Stub):
        for group in ("_parameters", "_buffers"):
            for name, value in (root.state.get(group) or {}).items():
                if isinstance(value, Tensor):
                    found[prefix + name] = value
        for name, module in (root.state.get("_modules") or {}).items():
            found |= tensors(module, f"{prefix}{name}.")
    elif isinstance(root, dict):
        found = {prefix + str(name): value for name, value in root.items() if isinstance(value, Tensor)}
    return found


def rewrite_archive(source: str | Path, target: str | Path, changes: dict[Tensor, np.ndarray]) -> None:
    """A copy of an archive in which some tensors have other numbers (of the same shape, in the file's own precision).

    Only storages are written: the pickle, and with it every class the file names, stays byte for byte as it was.
    """
    with zipfile.ZipFile(source) as old:
        root = _root(old)
        fresh: dict[str, np.ndarray] = {}
        for tensor, values in changes.items():
            if np.shape(values) != tensor.array.shape:
                raise ValueError(f"a tensor of shape {tensor.array.shape} cannot take values of {np.shape(values)}")
            dtype = tensor.array.dtype
            data = fresh.get(tensor.storage)
            if data is None:
                data = np.frombuffer(old.read(f"{root}/data/{tensor.storage}"), dtype).copy()
                fresh[tensor.storage] = data
            strides = tuple(s * dtype.itemsize for s in tensor.strides)
            view = np.lib.stride_tricks.as_strided(data[tensor.offset :], tensor.array.shape, strides)
            view[...] = np.asarray(values, dtype)
        with zipfile.ZipFile(target, "w") as new:
            for info in old.infolist():
                key = info.filename.removeprefix(f"{root}/data/")
                new.writestr(info, fresh[key].tobytes() if key in fresh else old.read(info))


def _root(archive: zipfile.ZipFile) -> str:
    """The folder that all members of an archive share."""
    roots = [n.removesuffix("/data.pkl") for n in archive.namelist() if n.endswith("/data.pkl")]
    if not roots:
        raise InputError(f"{archive.filename} is a zip file without a pickle: not a PyTorch archive")
    return min(roots, key=len)


__all__ = ["STUBBED", "Stub", "Tensor", "read_archive", "rewrite_archive", "tensors"]
