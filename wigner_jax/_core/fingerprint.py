"""Numbers that stand for contents: whether something is still what a run began with."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path


FINGERPRINT = "sha256:"
DIGITS = 16


def fingerprint(tree: Any) -> str:
    """A number for all arrays of a tree, their shapes and types."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return FINGERPRINT + digest.hexdigest()[:DIGITS]


def fingerprint_of_file(path: Path) -> str:
    """A number for the bytes of a file. OSError if it cannot be read."""
    with path.open("rb") as file:
        return FINGERPRINT + hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


__all__ = ["FINGERPRINT", "fingerprint", "fingerprint_of_file"]
