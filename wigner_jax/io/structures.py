"""Crystal structures from any file that ASE reads, or from the cell of a phonopy or phono3py yaml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._core.reading import reads
from ..crystal.elements import masses_of
from ..crystal.prototypes import available_prototypes, near_prototype, prototype
from ..crystal.validity import require_structure
from ..errors import InputError, say
from .ase_files import MOST_ATOMS, read_frames
from .yaml_cells import is_yaml, structure_of_yaml

if TYPE_CHECKING:
    import ase

ESPRESSO = "espresso-in"
SNIFFED = 65536  # characters of a file in which the namelists of a Quantum ESPRESSO input are looked for


@reads("a structure", here=False)
def read_structure(path: str | Path, index: int | str | None = None, format: str | None = None) -> ase.Atoms:
    """Read a structure of any file that ASE reads; it must be periodic with distinct atoms.

    Quantum ESPRESSO inputs are recognised whatever their name, and their masses are kept (ASE drops them). A yaml of
    phonopy or phono3py gives its unit cell, with the supercells that it names. Left-handed cells become right-handed.

    Args:
        path: the file; ``file@index`` chooses as ASE does.
        index: which structure of a file with several, from 0 (negative: from the end).
        format: ASE's name of the format, where the file's name does not tell; see ``ase info --formats``.

    Warns:
        AccuracyWarning: the file has several structures and none was chosen; the last is read.

    Raises:
        InputError: no such file, not readable as a structure, or none that `require_structure` accepts.
    """
    name, _, chosen = str(path).rpartition("@")
    if index is None and name and not Path(path).exists() and Path(name).is_file():
        path, index = name, chosen
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no structure file {path}", "check the name")
    if is_yaml(path) and format is None:
        return require_structure(structure_of_yaml(path), str(path))
    frames = _frames(path, ESPRESSO if format is None and _is_espresso(path) else format)
    if index is None and len(frames) > 1:
        message = f"{path} holds {len(frames)} structures, and the last one is read: choose one by its index"
        say(message)
    try:
        atoms = frames[-1 if index is None else int(index)]
    except (ValueError, IndexError):
        raise InputError(f"{path} has no structure {index!r}", f"give an index from 0 to {len(frames) - 1}") from None
    return require_structure(atoms, str(path))


def structure_of(structure: str | Path | ase.Atoms) -> ase.Atoms:
    """A structure by its file, else by the name of a prototype.

    Raises:
        InputError: neither a file nor a prototype.
    """
    if not isinstance(structure, (str, Path)):
        return require_structure(structure)
    if Path(structure).exists():
        return read_structure(structure)
    if str(structure) in available_prototypes():
        return prototype(str(structure))
    found = f"{str(structure)!r} is neither a file nor a built-in crystal"
    if close := near_prototype(str(structure)):
        raise InputError(found, f"did you mean {close}?")
    raise InputError(found, "give a structure file, or a name that wigner-jax prototypes lists")


def _frames(path: Path, format: str | None) -> list[ase.Atoms]:
    frames = read_frames(path, format)
    if not frames:
        raise InputError(f"{path} holds no structures")
    if largest := [len(atoms) for atoms in frames if len(atoms) > MOST_ATOMS]:
        raise InputError(
            f"{path} holds {max(largest)} atoms: cells of at most {MOST_ATOMS} are read", "give a smaller one"
        )
    if any("mass" in atoms.arrays and not atoms.has("masses") for atoms in frames):
        raise InputError(f"{path} has a column mass, which ASE does not take for masses", "name it masses")
    return [_with_masses(atoms, path) for atoms in frames] if format == ESPRESSO else frames


def _is_espresso(path: Path) -> bool:
    """Whether a text file has the namelist &system and a card of atomic positions."""
    try:
        with path.open(errors="replace") as file:
            start = file.read(SNIFFED)
    except OSError:
        return False
    cards = re.search(r"^\s*ATOMIC_(SPECIES|POSITIONS)\b", start, re.MULTILINE)
    return bool(cards and re.search(r"^\s*&system\b", start, re.MULTILINE | re.IGNORECASE))


def _with_masses(atoms: ase.Atoms, path: Path) -> ase.Atoms:
    """The masses of the card ATOMIC_SPECIES, by the labels of the atoms; 0 means the standard one there."""
    from ase.io.espresso import get_atomic_species, read_fortran_namelist

    with path.open(errors="replace") as file:
        data, cards = read_fortran_namelist(file)
    masses = {label.lower(): float(mass) for label, mass, _ in get_atomic_species(cards, data["system"]["ntyp"])}
    lines = [line.split() for line in cards if line.strip() and line.strip()[0] not in "#!"]
    start = next(k for k, words in enumerate(lines) if words[0].upper() == "ATOMIC_POSITIONS") + 1
    given = np.array([masses[words[0].lower()] for words in lines[start : start + len(atoms)]])
    if np.all(given == 0):
        return atoms
    atoms.set_masses(np.where(given == 0, masses_of(atoms.numbers), given))
    return atoms


__all__ = ["read_structure", "structure_of"]
