"""Values of a configuration file, checked one by one; every error is one line that names the key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def within(key: str, make: Callable[[], Any]) -> Any:
    """The result of `make`; its ValueError gets the key in front."""
    try:
        return make()
    except ValueError as error:
        text = str(error)
        raise InputError(text if text.startswith(key) else f"{key}: {text}") from None


def table(value: Any, key: str, known: Iterable[str] | None, required: tuple[str, ...] = ()) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{key} must be a table of keys and values, got {value!r}")
    if known is not None and (unknown := [k for k in value if k not in set(known)]):
        where = "" if key.startswith("the ") else f"{key}."
        raise InputError(f"unknown key {where}{unknown[0]}: known are {', '.join(sorted(known))}")
    if missing := [k for k in required if k not in value]:
        raise InputError(f"{key} needs the key {missing[0]}")
    return dict(value)


def number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InputError(f"{key} must be a number, got {value!r}")
    try:
        number = float(value)  # YAML reads 1e-3 as text
    except ValueError:
        raise InputError(f"{key} must be a number, got {value!r}") from None
    if not np.isfinite(number) or number < 0:
        raise InputError(f"{key} must be a finite number of at least 0, got {value!r}")
    return number


def numbers(value: Any, key: str) -> list[float]:
    values = value if isinstance(value, list) else [value]
    numbers = [number(v, key) for v in values]
    if not numbers or min(numbers) <= 0:
        raise InputError(f"{key} must be above 0, got {value!r}")
    return numbers


def integer(value: Any, key: str, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{key} must be an integer of at least {least}, got {value!r}")
    return value


def strings(value: Any, key: str) -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise InputError(f"{key} must be a list of patterns such as 'layers.3.*', got {value!r}")
    return values


__all__ = ["integer", "number", "numbers", "strings", "table", "within"]
