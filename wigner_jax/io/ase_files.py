"""Structures of any file that ASE reads, within what the file can hold."""

from __future__ import annotations

import math
import mmap
import re
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.reading import OPENERS, read_bytes, reading, reason
from ..errors import InputError

if TYPE_CHECKING:
    import ase

MOST_ATOMS = 1000  # of a cell that phonons are computed for; distances between all images of more would take gigabytes


def read_frames(path: str | Path, form: str | None = None) -> list[ase.Atoms]:
    """All structures of a file.

    Args:
        form: ASE's name of its format, where the name of the file does not say.

    Raises:
        InputError: no such file, one that ASE cannot read, or one that says it holds more atoms than its size can mean.
    """
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    path = Path(path)
    with reading(path, "a structure"):
        _require_sizes(path)
        try:
            return list(ase.io.iread(path, ":", format=form))
        except UnknownFileTypeError as error:
            found = f"ASE knows no format {form!r}" if form else f"ASE does not know the format of {path} ({error})"
            raise InputError(found, "name ASE's format of it, such as vasp, cif or espresso-in") from None
        except Exception as error:  # ASE's readers raise whatever their parsers raise
            raise InputError(
                f"ASE cannot read {path} as {form or 'a structure'} ({reason(error)})",
                "check the file and its extension",
            ) from error


def _require_sizes(path: Path) -> None:
    """InputError if a file says it holds more atoms, columns or numbers than it has bytes, which ASE makes room for.

    Also for a packed file of any format that unpacks to more than its size can mean.
    """
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    if path.suffix in OPENERS:
        return _require_counts(read_bytes(path), path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return _require_arrays(content, path) if content[:8] == b"- of Ulm" else _require_counts(content, path)


def _require_counts(content: bytes | mmap.mmap, path: Path) -> None:
    """The atoms of an xyz file or a POSCAR, and the columns of extxyz."""
    lines = content[:20_000].decode("latin1").splitlines()[:8]
    counts = [line.split() for line in (*lines[:1], *lines[5:7])]
    counts += [re.findall(r"\d+", match[1].decode()) for match in re.finditer(rb"[Pp]roperties=\"?([\w:]*)", content)]
    for words in counts:
        numbers = [int(w) for w in words if w.isascii() and w.isdigit() and len(w) < 1000]
        if len(numbers) == len(words) and sum(numbers) > len(content):
            raise InputError(
                f"{path} says it holds {sum(numbers):.3g} atoms or columns in {len(content)} bytes",
                "it is damaged: make it anew",
            )


def _require_arrays(content: mmap.mmap, path: Path) -> None:
    """The frames and arrays of ASE's own trajectories: a table of places, at each a length and a table in JSON."""

    def word(at: int) -> int:
        return int.from_bytes(content[at : at + 8], "little")

    count, table, size = word(32), word(40), len(content)
    places = [word(table + 8 * k) for k in range(count)] if table + 8 * count <= size else [size]
    shapes = re.finditer(rb'"ndarray\.?": ?\[\[([0-9, ]*)\]', content)
    largest = max((math.prod(int(n) for n in match[1].split(b",") if n.strip()) for match in shapes), default=0)
    if largest > size or any(place + 8 + word(place) > size for place in places):
        raise InputError(f"{path} says it holds more than its {size} bytes", "it is damaged: make it anew")


__all__ = ["MOST_ATOMS", "read_frames"]
