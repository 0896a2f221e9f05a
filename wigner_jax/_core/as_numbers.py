"""Numbers that stand in a file as text."""

from __future__ import annotations

import re
from typing import Any

import numpy as np


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
