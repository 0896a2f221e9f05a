"""Texts that stand for values in every process: keys of what is kept on disk."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import sys
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np


@runtime_checkable
class Described(Protocol):
    """Describes itself, as `described` asks."""

    def description(self) -> str: ...


class Undescribed(Exception):
    """A value whose text would not stand for it in another process."""


def described(value: Any) -> str:
    """A text that is the same in every process for equal values, and differs for different ones.

    Raises:
        Undescribed: for anything but numbers, words, containers, frozen data, types and functions of this package.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{described(type(value))}.{value.name}"
    if isinstance(value, jax.tree_util.PyTreeDef):
        data = value.node_data()
        inner = ",".join(map(described, value.children()))
        return f"[{'leaf' if value.num_nodes == 1 and value.num_leaves == 1 else described(data)}:{inner}]"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{described(type(value))}({','.join(map(described, value))})"
    if type(value) in (tuple, list):
        return f"({','.join(map(described, value))},)"
    if type(value) is dict:
        return f"{{{','.join(f'{described(k)}:{described(v)}' for k, v in value.items())}}}"
    if isinstance(value, functools.partial):
        return f"partial({described(value.func)},{described(value.args)},{described(value.keywords)})"
    if isinstance(value, type) or inspect.isfunction(value):
        module, name = value.__module__, value.__qualname__
        if module == "builtins":
            return name
        if module.partition(".")[0] != __name__.partition(".")[0]:
            raise Undescribed(name)
        found = functools.reduce(lambda x, part: getattr(x, part, None), name.split("."), sys.modules.get(module))
        if value not in (
            found,
            getattr(found, "function", None),
        ):  # not what has that name, or what a `Program` compiles
            raise Undescribed(name)
        return f"{module}:{name}"
    if isinstance(value, Described):
        return f"{described(type(value))}({value.description()})"
    if dataclasses.is_dataclass(value):
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare)
        return f"{described(type(value))}({','.join(f'{name}={described(x)}' for name, x in fields)})"
    raise Undescribed(repr(type(value)))


__all__ = ["Described", "Undescribed", "described"]
