"""Values of a configuration file, checked one by one; every error is one line that names the key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optax
import yaml

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def read_yaml(path: Path) -> Any:
    """The contents of a configuration file."""
    try:
        return yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise InputError(f"no configuration {path}: check the name") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is not YAML ({' '.join(str(error).split())[:100]})") from None


def file_in(folder: Path, name: str) -> Path:
    """A file by its name in a configuration, which is relative to the folder of that."""
    return folder / Path(name).expanduser()


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


def choice(value: Any, key: str, known: tuple[str, ...]) -> str:
    if value not in known:
        raise InputError(f"{key} must be {' or '.join(known)}, got {value!r}")
    return value


def flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, got {value!r}")
    return value


def strings(value: Any, key: str, of: str = "patterns such as 'layers.3.*'") -> list[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
        raise InputError(f"{key} must be a list of {of}, got {value!r}")
    return values


def optax_of(name: Any, key: str, options: dict[str, Any]) -> Any:
    """What a function of optax makes of its options: an optimizer, a schedule."""
    made = getattr(optax, str(name), None)
    if not callable(made) or isinstance(made, type):
        raise InputError(f"{key}: optax has no {name!r}: adam, adamw, sgd, cosine_decay_schedule are some it has")
    try:
        return made(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key}: {name} cannot be made ({error})") from None


__all__ = [
    "choice",
    "file_in",
    "flag",
    "integer",
    "number",
    "numbers",
    "optax_of",
    "read_yaml",
    "strings",
    "table",
    "within",
]
