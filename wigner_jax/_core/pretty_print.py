"""How data structures print: arrays as type and shape, so that a Plan or a Solution is a few lines and not its numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

LINE = 100  # characters; what is longer is broken into one line per field


def printed(value: Any) -> str:
    """``Crystal(lattice=float64[3,3], positions=float64[2,3], masses=float64[2], numbers=(11, 17))``.

    Single numbers are shown, and everything that is no array as Python shows it.
    """
    if isinstance(value, jax.core.Tracer) or (isinstance(value, (jax.Array, np.ndarray)) and value.ndim):
        return f"{value.dtype}[{','.join(map(str, value.shape))}]"
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return str(value.item())
    if isinstance(value, dict):
        return _joined("{", [f"{k!r}: {printed(v)}" for k, v in value.items()], "}")
    if type(value) in (tuple, list) and not all(isinstance(x, (int, float, str)) for x in value):
        first, last = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        return _joined(first, [printed(v) for v in value], last)
    if dataclasses.is_dataclass(value) and type(value).__repr__ is fields_printed:
        return fields_printed(value)
    return repr(value)


def fields_printed(value: Any) -> str:
    """The ``__repr__`` of a dataclass by `printed`; fields that `field(repr=False)` names appear where they are not None."""
    found = [(f, getattr(value, f.name)) for f in dataclasses.fields(value)]
    parts = [f"{f.name}={printed(v)}" for f, v in found if f.repr or (f.default is None and v is not None)]
    return _joined(f"{type(value).__name__}(", parts, ")")


def _joined(first: str, parts: list[str], last: str) -> str:
    line = first + ", ".join(parts) + last
    if len(line) <= LINE:
        return line
    return "\n".join([first, *("  " + part.replace("\n", "\n  ") + "," for part in parts), last])
