"""The exceptions of bad input, and the category of warnings.

`InputError` is a ValueError, so that the Python API reads as usual. It says in one line what was found and what to do;
the command line prints that line, with its own words for the remedy where it has an option for it.
"""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
LONGEST = 1200  # characters of a message; lists of all models have 900


class InputError(ValueError):
    """What was given cannot be used: one line, of printable characters and of a length that can be read.

    Attributes:
        found: what was found.
        remedy: what to do about it; may be empty where `found` says so itself.
        file: the file that it is about, where a reader has named it.
    """

    file: str | None = None

    def __init__(self, found: str, remedy: str = "") -> None:
        found, remedy = one_line(found), one_line(remedy)
        super().__init__(f"{found}: {remedy}" if remedy else found)
        self.found = found
        self.remedy = remedy

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.found, self.remedy)


def one_line(text: str) -> str:
    """Text of a file as it can stand in a message: control characters as "?", the middle of a long one left out."""
    text = "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text[: 2 * LONGEST])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 200]} ... {text[-100:]}"


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The name that was most likely meant: equal but for capitals, or alike; None if no name is near.

    Args:
        likeness: from 0 to 1, that a name must have (difflib's ratio).
    """
    names = {name.lower(): name for name in reversed([*known])}
    close = difflib.get_close_matches(word.lower(), names, 1, likeness)
    return names[close[0]] if close else None


class ImaginaryModes(InputError):
    """The crystal has imaginary modes: it is not at a minimum of its energy."""


class AccuracyWarning(UserWarning):
    """A result is what was asked for, but less exact or less meaningful than its digits say."""


class MemoryWarning(UserWarning):
    """A device has too little memory for what would be fastest; the result is the same."""


def say(message: str, category: type[Warning] = AccuracyWarning) -> None:
    """Warn, of less accuracy unless told otherwise, at the line outside the package that called it: the user's own."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


__all__ = ["AccuracyWarning", "ImaginaryModes", "InputError", "MemoryWarning", "nearest", "one_line", "say"]
