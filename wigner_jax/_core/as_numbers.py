"""Numbers that stand in a file as text, and what is given where there should be numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..errors import InputError


def as_numbers(value: Any) -> np.ndarray:
    """An array of floats from numbers, nested lists of them, or their text: "2 2 2", "[2, 2, 2]", "2x2x2".

    Text becomes a flat array.

    Raises:
        ValueError: anything else, ragged lists among them.
    """
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        value = re.sub(r"(?<=\d)\s*[x×*]\s*(?=\d)", " ", value)
        value = [float(word) for word in re.sub(r"[\[\](){},;]", " ", value).split()]
    try:
        if np.asarray(value).dtype.kind == "b":
            raise TypeError("truth values are no numbers")
        return np.asarray(value, dtype=float)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def real_numbers(values: Any, name: str) -> np.ndarray:
    """An array of floats; raises InputError for text, truth values, complex numbers, objects and ragged lists."""
    try:
        array = np.asarray(values)
    except ValueError:  # ragged
        array = np.array("")
    if array.dtype.kind not in "iuf" and array.size:
        given = " ".join(str(values).split())[:60]
        raise InputError(f"{name}: {given!r} where there should be numbers", "give real ones")
    return array.astype(float)
