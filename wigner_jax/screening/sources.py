"""The structures of a screening: a folder, a file of many, an ASE database, or ASE structures themselves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import can_name_a_file
from ..errors import InputError
from ..io.ase_files import read_frames
from ..io.structures import read_structure

if TYPE_CHECKING:
    from collections.abc import Iterable

    import ase

    #: by their names; a line where something cannot be read
    Structures = dict[str, "ase.Atoms | str"]

NAMES = ("material_id", "mp_id", "id", "name")  # in the info of a structure
DATABASES = (".db", ".json")
LONGEST = 100  # characters of a name
IGNORED = (".csv", ".txt", ".md", ".log", ".hdf5", ".h5", ".py", ".yaml.lock", ".gz.part")


def structures_from(source: str | Path | Iterable[ase.Atoms] | Mapping[str, ase.Atoms]) -> Structures:
    """All structures of a source by name: every one counts, also one that cannot be used.

    Args:
        source: a folder (each file in it that is no table or text, in the order of their names), a file of one or many
            structures, an ASE database, structures, or structures by name.

    Returns:
        structures, or why there is none, by name: what the info calls ``material_id``, ``mp_id``, ``id`` or ``name``, else the
        file's name, with a number where there are several.

    Raises:
        InputError: no such place, nothing in it, or two structures of one name.
    """
    if not isinstance(source, (str, Path)):
        pairs = list(source.items()) if isinstance(source, Mapping) else [("", atoms) for atoms in source]
        return _named([(str(name), "structure", atoms) for name, atoms in pairs])
    path = Path(source)
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.is_file() and not _ignored(p))
        found: list[tuple[str, str, Any]] = []
        for file in files:
            found += [(name, _stem(file), atoms) for name, atoms in _of_file(file, alone=False)]
        if not found:
            raise InputError(f"the folder {path} holds no structure files", "check the name")
        return _named(found)
    if not path.is_file():
        raise InputError(f"no folder or file {path}", "give a folder, a file with structures or an ASE database")
    several = _of_file(path, alone=True)
    return _named([(name, _stem(path), atoms) for name, atoms in several])


def _stem(path: Path) -> str:
    """The name without what says its format: Si0.5Ge0.5 of Si0.5Ge0.5.vasp.gz."""
    return re.sub(r"(\.[A-Za-z]\w*)?(\.(gz|bz2|xz))?$", "", path.name) or path.name


def _ignored(path: Path) -> bool:
    return path.name.startswith(".") or path.name.endswith(IGNORED)


def _of_file(path: Path, alone: bool) -> list[tuple[str, Any]]:
    """(name or "", structure or reason) of everything in a file.

    Args:
        alone: errors are raised; else they are the reason.
    """
    try:
        if path.suffix in DATABASES and _is_database(path):
            return _of_database(path)
        if path.suffix in (".yaml", ".yml") or path.name.endswith(".yaml.xz"):
            return [("", read_structure(path))]
        frames = read_frames(path)
        if not frames:
            raise InputError(f"{path} holds no structures")
        # one by one through what `read_structure` does for its format
        return [("", read_structure(path))] if len(frames) == 1 else [("", frame) for frame in frames]
    except InputError as error:
        if alone:
            raise
        return [("", str(error))]


def _is_database(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4096)
    return start.startswith(b"SQLite format 3") or (b'"ids"' in start and b'"nextid"' in start) or b'"cell"' in start


def _of_database(path: Path) -> list[tuple[str, Any]]:
    import ase.db

    try:
        found = []
        for row in ase.db.connect(path).select():
            atoms = row.toatoms()
            atoms.info |= dict(row.key_value_pairs) | {
                k: v for k, v in row.data.items() if k in ("fc2_supercell", "fc3_supercell", "q_mesh")
            }
            name = next((str(atoms.info[k]) for k in NAMES if k in atoms.info), f"{path.stem}-{row.id}")
            found.append((name, atoms))
    except Exception as error:  # sqlite, json, numpy and ASE raise whatever they meet
        raise InputError(
            f"{path} is no ASE database that can be read ({' '.join(str(error).split())[:120]})"
        ) from error
    if not found:
        raise InputError(f"{path} holds no structures")
    return found


def _named(found: list[tuple[str, str, Any]]) -> Structures:
    """By distinct names that can be names of files.

    Args:
        found: (given name or "", name where there is none, structure); the second is numbered where it is not alone.
    """
    chosen = []
    for given, place, atoms in found:
        info = {} if isinstance(atoms, str) else atoms.info
        named = (str(info[k]) for k in NAMES if isinstance(info.get(k), (str, int, np.integer)))
        chosen.append((given or next(named, ""), place))
    unnamed = [place for name, place in chosen if not name]
    counted: dict[str, int] = {}
    result: Structures = {}
    for (name, place), (_, _, atoms) in zip(chosen, found, strict=True):
        if not name:
            counted[place] = counted.get(place, -1) + 1
            name = f"{place}-{counted[place]}" if unnamed.count(place) > 1 else place
        if not can_name_a_file(name) or len(name.encode()) > LONGEST:
            raise InputError(f"{name[:40]!r} cannot be the name of a material", "letters, digits, - and _ are best")
        if name in result:
            raise InputError(f"two structures are called {name}", "give each a name of its own in its info")
        result[name] = atoms
    if not result:
        raise InputError("there are no structures", "give at least one")
    return result


__all__ = ["structures_from"]
