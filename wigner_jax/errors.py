"""The exceptions of bad input.

`InputError` is a ValueError, so the Python API reads as usual.
"""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message is one line that says what was found and what to do."""


class ImaginaryModes(InputError):
    """The crystal has imaginary modes: it is not at a minimum of its energy. `found` says which, without the advice."""

    exit_code = 3

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(f"{found}: {advice}")
        self.found = found
