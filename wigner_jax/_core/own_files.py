"""What a file holds, as far as it must be known before it is replaced: is it one that this program writes?"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import TYPE_CHECKING

import h5py

if TYPE_CHECKING:
    from pathlib import Path


HEAD = 2**16  # bytes that are looked at, at either end
PIXELS = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"GIF8",
)
OF_SCREENING = ("temperatures", "mesh_points")  # in the settings.json of a screening
DRAWN = b"matplotlib"  # its mark in what it draws with lines, which other programs' documents lack
WIGNER = ("velocity_operator", "kappa_C_map", "gamma_boundary")  # in our kappa files, and not in phono3py's


def is_kappa_file(path: Path) -> bool:
    """A kappa file of ours, or a campaign's record. phono3py's, which ours are like, are not: they are somebody's work."""
    try:
        with h5py.File(path, "r") as file:
            if "record" in file.attrs:
                return True
            return {"frequency", "temperature"} <= set(file) and any(name in file for name in WIGNER)
    except (OSError, RuntimeError, ValueError, KeyError):
        return False


def is_figure(path: Path) -> bool:
    """A picture (png, jpg, tif, gif, webp), or a pdf, svg, ps or pgf that Matplotlib has drawn: other documents are not."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
            size = file.seek(0, 2)
            file.seek(max(0, size - HEAD))
            tail = file.read()
    except OSError:
        return False
    if head.startswith(PIXELS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return True
    vector = head.startswith((b"%PDF", b"%!PS", b"%% Creator", b"<?xml", b"<svg"))
    return vector and DRAWN in (head + tail).lower()


def is_matbench_table(path: Path) -> bool:
    """A table of conductivities for matbench-discovery."""
    try:
        with gzip.open(path, "rb") as file:
            return file.read(64).startswith(b'{"material_id"')
    except (OSError, EOFError, zlib.error):
        return False


def read_settings(path: Path, *names: str) -> dict | None:
    """The contents of a JSON file that has these names; None for any other file."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(2**22))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and all(name in found for name in names) else None


__all__ = ["OF_SCREENING", "is_figure", "is_kappa_file", "is_matbench_table", "read_settings"]
