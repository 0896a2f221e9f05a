"""What a pickle may name: inert stubs, tensors, and constructors of our own for plain data."""

from __future__ import annotations

import collections
import dataclasses
import math
from typing import Any, ClassVar

import numpy as np

#: Packages whose classes and functions become stubs. Anything else, except `PLAIN`, is refused by name.
STUBBED = ("torch", "e3nn", "mace", "opt_einsum_fx", "cuequivariance", "cuequivariance_torch", "argparse", "ase")
DTYPES = {
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
        self.state[key if isinstance(key, str) else str(key)] = value

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
class Storage:
    data: np.ndarray
    key: str


def _rebuild_tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
    if not all(type(n) is int and abs(n) < 2**60 for n in (offset, *shape, *strides)) or len(shape) > 32:
        raise ValueError("a tensor without a valid storage or layout")
    shape, strides = tuple(shape), tuple(strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides) or min((offset, *shape, *strides)) < 0:
        raise ValueError("a tensor without a valid storage or layout")
    size = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if size and last >= storage.data.size:
        raise ValueError("a tensor that reaches beyond its storage")
    # a broadcast (stride 0) may be far larger than its storage
    if size > max(storage.data.size, 1):
        raise ValueError("a tensor that is larger than its storage")
    if not size and max(shape, default=0) > 2**20:
        raise ValueError(f"a tensor of shape {shape} without numbers")
    bytes_ = tuple(s * storage.data.itemsize for s in strides)
    view = np.lib.stride_tricks.as_strided(storage.data[offset:], shape, bytes_) if size else np.empty(shape)
    return Tensor(np.array(view, storage.data.dtype), storage.key, offset, strides)


def _rebuild_parameter(data: Tensor, requires_grad: bool, *_: Any) -> Tensor:
    return dataclasses.replace(data, trainable=bool(requires_grad))


def _dtype(name: Any, *_: Any) -> Any:
    if not isinstance(name, str):
        raise ValueError("numbers of a dtype without a name")
    dtype = np.dtype(name)
    if dtype.kind not in "biufc":
        raise ValueError(f"numbers of dtype {name!r}")
    return Dtype(dtype)


class Dtype:
    """Stands for a pickled numpy dtype; its pickled state (byte order, alignment) is checked, not applied."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in "<|=":
            raise ValueError("big-endian numbers")


class Array:
    """Stands for a pickled numpy array until its state arrives."""

    def __init__(self, *_: Any) -> None:
        self.array = np.empty(0)

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(dtype, Dtype) or not isinstance(data, (str, bytes)):
            raise ValueError("an array without numbers")
        data = data.encode("latin1") if isinstance(data, str) else data
        self.array = np.frombuffer(data, dtype.dtype).reshape(shape, order="F" if fortran else "C")


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """An array as pickles of protocol 5 have it."""
    made = Array()
    made.__setstate__((1, shape, dtype, order == "F", bytes(data) if isinstance(data, bytearray) else data))
    return made


def _scalar(dtype: Dtype, data: bytes | str) -> Any:
    return np.frombuffer(data.encode("latin1") if isinstance(data, str) else data, dtype.dtype)[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError("text in another encoding than latin1")
    return text.encode("latin1")


PLAIN: dict[str, Any] = {
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
    PLAIN |= {f"{_module}.{t.__name__}": t for t in (set, frozenset, list, tuple, dict, slice, complex)}
for _module in ("numpy.core.numeric", "numpy._core.numeric"):
    PLAIN[f"{_module}._frombuffer"] = _from_buffer
for _module in ("numpy.core.multiarray", "numpy._core.multiarray"):
    PLAIN |= {f"{_module}._reconstruct": Array, f"{_module}.scalar": _scalar}
