"""Pickles without running them: plain data, tensors and inert stubs, within limits.

A pickle is a program that may import and call anything; here every name it asks for is either one of a dozen harmless
constructors of our own, or becomes an inert `Stub` that only records what was put into it, or is refused.

It may also refer again and again to what it has made: forty pairs, each of the one before twice, are a tuple whose hash
or text takes 2⁴⁰ steps. So keys of tables are plain, copies are counted, and what is handed out unfolds to no more than
the length of the pickle can mean.
"""

from __future__ import annotations

import collections
import io
import pickle
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..._core.reading import unfolded
from ...errors import InputError
from .stubs import DTYPES, PLAIN, STUBBED, Array, Dtype, Storage, Stub, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable


class Reader(pickle._Unpickler):
    """An unpickler that cannot run anything of the file's choice.

    The one written in Python: the fast one gives a damaged or hostile file gigabytes of memory for a number in it.
    """

    dispatch: ClassVar[Any]  # of operations, below
    stack: list[Any]
    append: Any
    pop_mark: Any
    read: Any

    def __init__(self, data: bytes, storage: Callable[[str], bytes]) -> None:
        """Args: storage, from the name of a tensor's numbers to these."""
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._storage, self._length, self._copied = storage, len(data), 0
        self._storages: dict[str, Storage] = {}
        self._stubs: dict[str, type[Stub]] = {}

    def load(self) -> Any:
        found = super().load()
        if unfolded(found, _parts, _own) > 10**6 + 20 * self._length + 8 * self._numbers():
            raise InputError(f"references of the pickle ({self._length} bytes) unfold to more than its length can mean")
        return found

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in PLAIN:
            return PLAIN[full]
        if module.partition(".")[0] not in STUBBED:
            raise InputError(f"refused, the file asks to import {full!r}, which is no data; it may be hostile")
        if full not in self._stubs:
            self._stubs[full] = type(name.rpartition(".")[2], (Stub,), {"path": full})
        return self._stubs[full]

    def persistent_load(self, pid: Any) -> Storage:
        tag, kind, key, _, count = pid
        if tag != "storage" or not isinstance(key, str) or type(count) is not int:
            raise InputError("a tensor without a name of its storage")
        dtype = np.dtype(DTYPES.get(kind.kind(), "V"))
        if dtype.kind == "V":
            raise InputError(f"storage type {kind.kind()!r} is not supported")
        if key not in self._storages:
            data = self._storage(key)
            if len(data) != count * dtype.itemsize:
                raise InputError(f"storage {key} holds {len(data)} bytes, not {count * dtype.itemsize}")
            self._storages[key] = Storage(np.frombuffer(data, dtype), key)
        return self._storages[key]

    def count(self, *copied: Any) -> None:
        """InputError once all that was copied is more than the pickle and its storages can mean."""
        for item in copied:
            if isinstance(item, (tuple, list, dict, set, frozenset, str, bytes)):
                self._copied += len(item)
            elif isinstance(item, Tensor):
                self._copied += item.array.size
        if self._copied > 10**6 + 8 * self._length + 8 * self._numbers():
            raise InputError(f"the pickle ({self._length} bytes) copies the same parts again and again")

    def _numbers(self) -> int:
        return sum(storage.data.size for storage in self._storages.values())

    def make(self, kind: Any, args: Any, options: Any = None) -> Any:
        """What a name that was asked for makes of arguments."""
        if not isinstance(args, (tuple, list)):
            raise InputError("a call without arguments")
        self.count(args, *args[:1])
        if kind in (set, frozenset, dict, collections.OrderedDict) and args:
            (items,) = args
            pairs = not isinstance(items, dict) and kind not in (set, frozenset)
            for item in items:
                _require_key(item[0] if pairs else item)
        made = kind(*args, **(options or {}))
        self.count(made if isinstance(made, Tensor) else None)
        return made


def _load_reduce(self: Reader) -> None:
    args = self.stack.pop()
    self.stack[-1] = self.make(self.stack[-1], args)


def _load_newobj(self: Reader) -> None:
    args, kind = self.stack.pop(), self.stack.pop()
    self.append(self.make(_class(kind), args))


def _load_newobj_ex(self: Reader) -> None:
    options, args, kind = self.stack.pop(), self.stack.pop(), self.stack.pop()
    self.count(options)
    self.append(self.make(_class(kind), args, options))


def _class(kind: Any) -> Any:
    if not isinstance(kind, type):
        raise InputError("an object of something that is no class")
    return kind


def _load_build(self: Reader) -> None:
    """The state of our own objects; that of others (an OrderedDict's attributes) is not needed."""
    state, item = self.stack.pop(), self.stack[-1]
    self.count(state)
    if isinstance(item, (Stub, Dtype, Array)):
        item.__setstate__(state)
    elif not isinstance(item, (dict, list, tuple)):
        raise InputError(f"a state of {type(item).__name__}")


def _load_setitem(self: Reader) -> None:
    value, key = self.stack.pop(), self.stack.pop()
    self.stack[-1][_require_key(key)] = value


def _load_setitems(self: Reader) -> None:
    items = self.pop_mark()
    target = self.stack[-1]
    for key, value in zip(items[::2], items[1::2], strict=True):
        target[_require_key(key)] = value


def _load_dict(self: Reader) -> None:
    items = self.pop_mark()
    self.append({_require_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})


def _load_additems(self: Reader) -> None:
    items = self.pop_mark()
    self.stack[-1].update([_require_key(key) for key in items])


def _load_frozenset(self: Reader) -> None:
    self.append(frozenset(_require_key(key) for key in self.pop_mark()))


def _load_long4(self: Reader) -> None:
    count = int.from_bytes(self.read(4), "little")
    if count > 32:
        raise InputError(f"an integer of {count} bytes")
    self.append(pickle.decode_long(self.read(count)))


def _require_key(key: Any, inside: bool = False) -> Any:
    """The key of a table or the member of a set, if it is plain: its hash takes a moment."""
    if isinstance(key, int) and abs(key) < 2**60:
        return key
    if key is None or isinstance(key, (str, bytes, float, complex, type, Stub)):
        return key
    if isinstance(key, tuple) and len(key) <= 16 and not inside:
        for part in key:
            _require_key(part, inside=True)
        return key
    raise InputError(f"a {type(key).__name__} as the key of a table")


Reader.dispatch = {
    code: read
    for code, read in pickle._Unpickler.dispatch.items()
    # names without an import, sizes before their contents, constructors that nothing checks
    if code not in {x[0] for x in (pickle.BYTEARRAY8, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.INST, pickle.OBJ,
                                   pickle.NEXT_BUFFER, pickle.READONLY_BUFFER)}
} | {
    code[0]: read for code, read in (
        (pickle.REDUCE, _load_reduce), (pickle.NEWOBJ, _load_newobj), (pickle.NEWOBJ_EX, _load_newobj_ex),
        (pickle.BUILD, _load_build), (pickle.SETITEM, _load_setitem), (pickle.SETITEMS, _load_setitems),
        (pickle.DICT, _load_dict), (pickle.ADDITEMS, _load_additems), (pickle.FROZENSET, _load_frozenset),
        (pickle.LONG4, _load_long4),
    )
}  # fmt: skip


def _parts(item: Any) -> list[Any]:
    """What is inside an object that was read, without numbers and text."""
    if isinstance(item, Stub):
        inside: Any = [*item.args, *item.state.values()]
    elif isinstance(item, dict):
        inside = item.values()
    elif isinstance(item, (list, tuple, set, frozenset)):
        inside = item
    else:
        return []
    return [x for x in inside if isinstance(x, (Stub, dict, list, tuple, set, frozenset, Tensor, Array))]


def _own(item: Any) -> int:
    """What an object takes beside the parts that `_parts` gives: numbers, and sixteen letters for one."""
    if isinstance(item, (Tensor, Array)):
        return item.array.size + 1
    inside: Any = [*item.args, *item.state.values()] if isinstance(item, Stub) else item
    if isinstance(item, dict):
        inside = [*item, *item.values()]
    return 1 + sum(1 + len(x) // 16 if isinstance(x, (str, bytes)) else 1 for x in inside)
