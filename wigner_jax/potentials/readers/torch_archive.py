"""PyTorch archives without PyTorch: tensors and plain data are read, nothing in the file is ever executed.

An archive (`torch.save`) is a zip file: a pickle that describes the object, and one member per storage. A pickle is a
program that may import and call anything; here every name it asks for is either one of a dozen harmless constructors of
our own, or becomes an inert `Stub` that only records what was put into it, or is refused. Modules of torch, e3nn and
MACE are stubs: their class names, attributes and tensors are all that is needed to rebuild a model.
"""

from __future__ import annotations

import collections
import dataclasses
import io
import math
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...errors import InputError

#: Packages whose classes and functions become stubs. Anything else, except `_PLAIN`, is refused by name.
STUBBED = ("torch", "e3nn", "mace", "opt_einsum_fx", "cuequivariance", "cuequivariance_torch", "argparse", "ase")
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}


class Stub:
    """What a pickle says about an object of a class that is not imported: constructor arguments and state."""

    path: ClassVar[str] = ""  # module.Class, as the file names it

    args: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *args: Any, **_: Any) -> Stub:
        # not __init__: pickles make most objects without calling it
        self = super().__new__(cls)
        self.args, self.state = args, {}
        return self

    def __setstate__(self, state: Any) -> None:
        # (dict, slots) where a class has slots; modules have plain dictionaries
        state = state[0] if isinstance(state, tuple) and len(state) == 2 and state[0] is not None else state
        self.state = dict(state) if isinstance(state, dict) else {"state": state}

    def __setitem__(self, key: Any, value: Any) -> None:
        self.state[str(key)] = value

    def append(self, value: Any) -> None:
        """Items of a pickled list subclass; none that is read here keeps any."""

    @classmethod
    def kind(cls) -> str:
        """Name of the class, without its module."""
        return cls.path.rpartition(".")[2]

    def find(self, name: str) -> Any:
        """Attribute, parameter, buffer or submodule (dots descend); None if there is none."""
        found: Any = self
        for part in name.split("."):
            if not isinstance(found, Stub):
                return None
            places = [found.state, *(found.state.get(k) or {} for k in ("_parameters", "_buffers", "_modules"))]
            found = next((place[part] for place in places if part in place), None)
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of an archive: its numbers, and where in the archive they are kept."""

    array: np.ndarray
    storage: str  # name of the storage
    offset: int  # of the first element
    strides: tuple[int, ...]  # in elements
    trainable: bool = False  # torch.nn.Parameter with requires_grad


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
    data: np.ndarray
    key: str


def read_archive(path: str | Path) -> Any:
    """The object of a file that `torch.save` wrote: plain data, `Tensor` and `Stub`.

    Raises:
        InputError: for a file that is missing, truncated or damaged, not of this format, or that asks for a name which
            is neither plain data nor of a package in `STUBBED`; the message names it.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            root = _root(archive)
            member = f"{root}/byteorder"
            if member in archive.namelist() and archive.read(member).strip() == b"big":
                raise InputError(f"{path}: a big-endian archive; save the model again on a common machine")
            return _Reader(archive, root, path).load()
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder: give the model file in it") from None
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, struct.error, NotImplementedError) as error:
        raise InputError(
            f"{path} is not a complete PyTorch archive ({error}): if it was downloaded, download it again"
        ) from None
    except InputError:
        raise
    except (pickle.UnpicklingError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: the pickle in the archive is damaged ({error})") from None
    except (MemoryError, RecursionError):
        raise InputError(f"{path}: the pickle in the archive asks for unreasonable memory or depth") from None


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


class _Reader(pickle._Unpickler):
    """An unpickler that cannot run anything of the file's choice.

    The one written in Python: the fast one gives a damaged or hostile file gigabytes of memory for a number in it.
    """

    dispatch: ClassVar = {
        code: read
        for code, read in pickle._Unpickler.dispatch.items()
        if code not in (pickle.BYTEARRAY8[0], pickle.EXT1[0], pickle.EXT2[0], pickle.EXT4[0])
    }

    def __init__(self, archive: zipfile.ZipFile, root: str, path: Path) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}/data.pkl")), encoding="latin1")
        self._archive, self._root, self._path = archive, root, path
        self._storages: dict[str, _Storage] = {}
        self._stubs: dict[str, type[Stub]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in _PLAIN:
            return _PLAIN[full]
        if module.partition(".")[0] not in STUBBED:
            raise InputError(
                f"{self._path}: refused, the file asks to import {full!r}, which no model needs; it may be hostile"
            )
        if full not in self._stubs:
            self._stubs[full] = type(name.rpartition(".")[2], (Stub,), {"path": full})
        return self._stubs[full]

    def persistent_load(self, pid: Any) -> _Storage:
        tag, kind, key, _, count = pid
        dtype = np.dtype(_DTYPES.get(kind.kind(), "V"))
        if tag != "storage" or dtype.kind == "V":
            raise InputError(f"{self._path}: storage type {kind.kind()!r} is not supported")
        if key not in self._storages:
            data = self._archive.read(f"{self._root}/data/{key}")
            if len(data) != count * dtype.itemsize:
                raise InputError(f"{self._path}: storage {key} holds {len(data)} bytes, not {count * dtype.itemsize}")
            self._storages[key] = _Storage(np.frombuffer(data, dtype), key)
        return self._storages[key]


def _rebuild_tensor(storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
    shape, strides = tuple(map(int, shape)), tuple(map(int, strides))
    if not isinstance(storage, _Storage) or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor without a valid storage or layout")
    size = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if size and last >= storage.data.size:
        raise ValueError("a tensor that reaches beyond its storage")
    # a broadcast (stride 0) may be far larger than its storage
    if size > max(storage.data.size, 1):
        raise ValueError("a tensor that is larger than its storage")
    bytes_ = tuple(s * storage.data.itemsize for s in strides)
    view = np.lib.stride_tricks.as_strided(storage.data[offset:], shape, bytes_) if size else np.empty(shape)
    return Tensor(np.array(view, storage.data.dtype), storage.key, offset, strides)


def _rebuild_parameter(data: Tensor, requires_grad: bool, *_: Any) -> Tensor:
    return dataclasses.replace(data, trainable=bool(requires_grad))


def _dtype(name: str, *_: Any) -> Any:
    dtype = np.dtype(name)
    if dtype.kind not in "biufc":
        raise ValueError(f"numbers of dtype {name!r}")
    return _Dtype(dtype)


class _Dtype:
    """Stands for a pickled numpy dtype; its pickled state (byte order, alignment) is checked, not applied."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in "<|=":
            raise ValueError("big-endian numbers")


class _Array:
    """Stands for a pickled numpy array until its state arrives."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _scalar(dtype: _Dtype, data: bytes | str) -> Any:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"text encoded as {encoding!r}")
    return text.encode("latin1")


_PLAIN: dict[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch.Size": tuple,
    "numpy.ndarray": object,  # named by pickled arrays, never made
    "numpy.dtype": _dtype,
}
for _module in ("__builtin__", "builtins"):
    _PLAIN |= {f"{_module}.{t.__name__}": t for t in (set, frozenset, list, tuple, dict, slice, complex)}
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    _PLAIN |= {f"{_module}._reconstruct": _Array, f"{_module}.scalar": _scalar}
