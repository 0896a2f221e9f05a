"""The exceptions of bad input, and the category of warnings.

`InputError` is a ValueError, so that the Python API reads as usual. It says in one line what was found and what to do;
the command line prints that line, with its own words for the remedy where it has an option for it.
"""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used.

    Attributes:
        found: what was found.
        remedy: what to do about it; may be empty where `found` says so itself.
    """

    def __init__(self, found: str, remedy: str = "") -> None:
        super().__init__(f"{found}: {remedy}" if remedy else found)
        self.found = found
        self.remedy = remedy

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.found, self.remedy)


class ImaginaryModes(InputError):
    """The crystal has imaginary modes: it is not at a minimum of its energy."""


class AccuracyWarning(UserWarning):
    """A result is what was asked for, but less exact or less meaningful than its digits say."""


__all__ = ["AccuracyWarning", "ImaginaryModes", "InputError"]
