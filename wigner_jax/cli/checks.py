"""Checks of the options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..errors import InputError


def writable(path: str | Path | None) -> Path | None:
    """The output path, refused now rather than after the work."""
    if path is None:
        return None
    path = Path(path)
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"cannot write {path}", "name a file in a folder that exists and can be written to")
    return path


def positive(value: float | None, name: str) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} must be above zero, got {value:g}")
