"""Fortran's namelists, as ShengBTE's CONTROL has them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.reading import read_text
from ...errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MOST = 512  # numbers along an index
_QUOTED = re.compile(r"'[^'\n]*'|\"[^\"\n]*\"")
_HIDDEN = re.compile(r"\x00(\d+)\x00")


class Namelists:
    """Values of all namelists, arrays put together from their parts."""

    def __init__(self, values: dict[str, dict[tuple[int | None, ...], list[str]]], names: frozenset[str]) -> None:
        """Args: values by name and indices; names of the namelists."""
        self.values, self.names = values, names

    def words(self, name: str) -> list[str]:
        """All words of a list, whole or element by element."""
        if name not in self.values:
            raise InputError(f"it has no {name}")
        parts = self.values[name]
        return [word for _, words in sorted(parts.items(), key=lambda x: tuple(i or 0 for i in x[0])) for word in words]

    def flag(self, name: str, default: bool) -> bool:
        """A logical value: T, .true. and the like."""
        if name not in self.values:
            return default
        words = self.words(name)
        said = words[0].strip(".").lower()[:1] if words else ""
        if said not in ("t", "f"):
            raise InputError(f"{name} is {' '.join(words)[:40]!r}", "it must be .true. or .false.")
        return said == "t"

    def integers(self, name: str) -> tuple[int, ...]:
        found = self.numbers(name, (3,))
        if not (np.all(found == np.rint(found)) and np.all((found >= 1) & (found <= MOST))):
            raise InputError(f"{name} is {found.tolist()}", "it must be three whole numbers")
        return tuple(int(x) for x in found)

    def numbers(self, name: str, shape: tuple[int, ...], default: float | None = None) -> np.ndarray:
        """An array in Fortran's order of indices, as CONTROL gives it: whole, by columns, or element by element."""
        if name not in self.values and default is None:
            raise InputError(f"it has no {name}")
        array = np.full(shape, np.nan if default is None else default)
        for index, words in self.values.get(name, {}).items():
            numbers = [float(w.lower().replace("d", "e")) for w in words]
            places: tuple[Any, ...] = tuple(slice(None) if i is None else i - 1 for i in index) or (slice(None),) * len(
                shape
            )
            if len(places) != len(shape) or any(
                not isinstance(p, slice) and not 0 <= p < n for p, n in zip(places, shape, strict=True)
            ):
                raise InputError(f"{name}{list(index)} is outside of its {'×'.join(map(str, shape))} numbers")
            part = array[places]
            if np.size(part) != len(numbers):
                raise InputError(f"{name} has {len(numbers)} numbers where {np.size(part)} belong")
            array[places] = np.reshape(numbers, np.shape(part), order="F")
        if not np.isfinite(array).all():
            raise InputError(f"{name} is not complete, or not finite")
        return array


def read_namelists(path: Path) -> Namelists:
    """Fortran's namelists: quoted texts, comments, lists with commas or blanks, repeats such as ``3*5``."""
    texts: list[str] = []

    def hidden(match: re.Match[str]) -> str:
        texts.append(match.group()[1:-1])
        return f" \0{len(texts) - 1}\0 "

    content = _QUOTED.sub(hidden, read_text(path).replace("\0", " "))
    content = "\n".join(line.partition("!")[0] for line in content.splitlines())
    sections = re.findall(r"&(\w+)([^/&]*)", content)
    values: dict[str, dict[tuple[int | None, ...], list[str]]] = {}
    for _, body in sections:
        found = list(re.finditer(r"(\w+)\s*(?:\(([\d:,\s]*)\))?\s*=", body))
        ends = [m.start() for m in found[1:]] + [len(body)] * bool(found)
        for match, end in zip(found, ends, strict=True):
            name, index = match.groups()
            place = tuple(None if i.strip() == ":" else int(i) for i in index.split(",")) if index else ()
            words: list[str] = []
            for word in body[match.end() : end].replace(",", " ").split():
                repeated = re.fullmatch(r"(\d{1,4})\*(.+)", word)
                words += [word] if repeated is None else int(repeated.group(1)) * [repeated.group(2)]
                if len(words) > 20 * MOST:
                    raise InputError(f"{name} has more than {20 * MOST} values")
            words = [_HIDDEN.sub(lambda m: texts[int(m.group(1))], word) for word in words]
            values.setdefault(name.lower(), {})[place] = words
    return Namelists(values, frozenset(name.lower() for name, _ in sections))


__all__ = ["MOST", "Namelists", "read_namelists"]
