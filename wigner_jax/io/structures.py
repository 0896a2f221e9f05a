"""Crystal structures from any file that ASE reads."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._core.reading import reads
from ..errors import AccuracyWarning, InputError
from .ase_files import MOST_ATOMS, read_frames

if TYPE_CHECKING:
    import ase


@reads("a structure", here=False)
def read_structure(path: str | Path, index: int | str | None = None) -> ase.Atoms:
    """Read a structure of any file that ASE reads; it must be periodic with distinct atoms.

    Args:
        path: the file; ``file@index`` chooses as ASE does.
        index: which structure of a file with several, from 0 (negative: from the end).

    Warns:
        AccuracyWarning: the file has several structures and none was chosen; the last is read.

    Raises:
        InputError: no such file, not readable as a structure, not periodic, or atoms that coincide.
    """
    name, _, chosen = str(path).rpartition("@")
    if index is None and name and not Path(path).exists() and Path(name).is_file():
        path, index = name, chosen
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no structure file {path}", "check the name")
    frames = read_frames(path)
    if not frames:
        raise InputError(f"{path} holds no structures")
    if index is None and len(frames) > 1:
        message = f"{path} holds {len(frames)} structures, and the last one is read: choose one by its index"
        warnings.warn(message, AccuracyWarning, stacklevel=2)
    try:
        atoms = frames[-1 if index is None else int(index)]
    except (ValueError, IndexError):
        raise InputError(f"{path} has no structure {index!r}", f"give an index from 0 to {len(frames) - 1}") from None
    if len(atoms) == 0:
        raise InputError(f"{path} holds no atoms")
    if len(atoms) > MOST_ATOMS:
        raise InputError(
            f"{path} holds {len(atoms)} atoms: cells of at most {MOST_ATOMS} are read", "give a smaller one"
        )
    if not np.all(atoms.pbc) or abs(atoms.cell.volume) < 1e-6:
        raise InputError(f"the structure in {path} is not periodic in three directions", "give a file with a cell")
    if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.cell.array).all():
        raise InputError(f"{path} holds non-finite numbers", "check the file")
    if len(atoms) > 1:
        distances = atoms.get_all_distances(mic=True) + 1e3 * np.eye(len(atoms))
        i, j = np.unravel_index(distances.argmin(), distances.shape)
        if distances[i, j] < 0.1:
            raise InputError(
                f"atoms {i + 1} and {j + 1} of {path} are {distances[i, j]:.3f} Å apart", "check the positions"
            )
    return atoms
