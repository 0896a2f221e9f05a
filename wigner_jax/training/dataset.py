"""Labelled structures of extxyz files (or any that ASE reads) and ASE databases, as frames."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from .._core.reading import reading
from ..crystal.elements import SYMBOLS
from ..errors import InputError
from ..io.ase_files import read_frames as read_any
from .config_schema import LABELS, file_in, within
from .frames import Frame, frame_of, stored_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import ase

    from ..potentials.base import Potential


T = TypeVar("T")
ISOLATED = "IsolatedAtom"  # config_type of frames whose energies are those of free atoms


def read_structures(path: Path) -> list[ase.Atoms]:
    """All structures of a file. Those of a database (.db) carry its key-value pairs and data in `info`.

    Raises:
        InputError: no such file, one that ASE cannot read, or that holds nothing.
    """
    import ase.db

    if not path.is_file():
        raise InputError(f"no file {path}: check the name")
    found = []
    if path.suffix == ".db":
        with reading(path, "a database that ASE reads"), ase.db.connect(path) as database:
            for row in database.select():
                atoms = row.toatoms()
                atoms.info.update({**row.key_value_pairs, **row.data})
                found.append(atoms)
    else:
        found = read_any(path)
    if not found:
        raise InputError(f"{path} holds no structures")
    return found


def label_keys(structures: Sequence[ase.Atoms], given: Mapping[str, str]) -> dict[str, str]:
    """What energy, forces, stress and hessian are called: as `given`, else REF_energy, ..., else energy, ...

    Labels that no structure has are left out.

    Raises:
        InputError: a name in `given` that no structure has.
    """
    present = {key for atoms in structures for key in stored_values(atoms)} - {"numbers", "positions"}
    keys: dict[str, str] = {}
    for label in LABELS:
        if label in given and given[label] not in present:
            raise InputError(f"{label}: no structure has {given[label]!r}; they have {', '.join(sorted(present))}")
        names = [given[label]] if label in given else [f"REF_{label}", label]
        if found := [name for name in names if name in present]:
            keys[label] = found[0]
    return keys


def is_isolated(atoms: ase.Atoms) -> bool:
    """Whether a structure is a free atom: `config_type` IsolatedAtom (MACE's word), or one atom that is not periodic."""
    marked = str(atoms.info.get("config_type", "")).strip().lower() == ISOLATED.lower()
    return marked or (len(atoms) == 1 and not np.any(atoms.pbc))


def isolated_energies(structures: Sequence[ase.Atoms], sources: Sequence[str], key: str | None) -> dict[int, float]:
    """Energies of free atoms in eV, by atomic number.

    Args:
        structures: those of which `is_isolated` is true.
        sources: what each is called in an error.
        key: name of the energy; None if no structure has one.

    Raises:
        InputError: several atoms, no finite energy, or two energies of one element.
    """
    found: dict[int, float] = {}
    for atoms, source in zip(structures, sources, strict=True):
        if len(atoms) != 1:
            raise InputError(f"{source} is marked as {ISOLATED} and has {len(atoms)} atoms: mark single atoms only")
        try:
            energy = float(stored_values(atoms)[key or "energy"])
        except (KeyError, TypeError, ValueError):
            energy = float("nan")
        if not np.isfinite(energy):
            raise InputError(f"{source} is an isolated atom without an energy: give {key or 'energy'}, in eV")
        z = int(atoms.numbers[0])
        if abs(found.setdefault(z, energy) - energy) > 1e-6:
            raise InputError(
                f"{source} gives {energy:g} eV for an isolated {atoms.symbols[0]}, another one {found[z]:g}: keep one"
            )
    return found


def frames_of(
    structures: Sequence[ase.Atoms],
    sources: Sequence[str],
    potential: Potential,
    keys: Mapping[str, str],
    weights: Mapping[str, float],
) -> list[Frame]:
    """A frame of every structure; targets that it does not have get the weight 0.

    Args:
        sources: what each structure is called in an error.
        keys: of `label_keys`.
        weights: of energy, forces and stress.

    Raises:
        InputError: a structure that the potential does not know or that is not periodic, or labels of a wrong shape.
    """
    frames = []
    for atoms, source in zip(structures, sources, strict=True):
        stored = stored_values(atoms)
        own = [weights[label] * float(keys.get(label) in stored) for label in LABELS[:3]]
        make = partial(frame_of, atoms, potential, own, keys=keys)
        frames.append(within(source, make))
    return frames


def train_validation_split(items: Sequence[T], fraction: float, seed: int) -> tuple[list[T], list[T]]:
    """What is trained on, and what is held out for validation: a random `fraction`, at least one."""
    count = max(1, round(fraction * len(items)))
    if count >= len(items):
        raise InputError(f"{len(items)} structures leave nothing to train on: give more, or a validation file")
    held = set(np.random.default_rng([seed, 2]).permutation(len(items))[:count].tolist())
    return [x for k, x in enumerate(items) if k not in held], [x for k, x in enumerate(items) if k in held]


class Labelled(NamedTuple):
    """The section `data` of a configuration, read."""

    frames: list[Frame]  # to train on
    held: list[Frame]  # for validation; empty if nothing is held out
    weights: dict[str, float]  # of energy, forces, stress and hessian, as they are used
    labels: str  # which of them structures have, in words
    atom_energies: dict[int, float]  # eV by atomic number, of isolated atoms among the structures


def read_frames(
    section: Mapping[str, Any], loss: Mapping[str, Any], folder: Path, potential: Potential, seed: int
) -> Labelled:
    """Training and validation frames of a configuration, in the order of their files.

    Isolated atoms (`is_isolated`) are no frames: their energies are those of free atoms.

    Args:
        section, loss: `data` and `loss` of `config_schema.parse`. A weight of None is 1 if there are labels, else 0.
        folder: of the configuration.

    Raises:
        InputError: with the key of what cannot be read or used.
    """
    structures, sources = _read(section["train"], "data.train", folder)
    alone = [(a, s) for a, s in zip(structures, sources, strict=True) if is_isolated(a)]
    bound = [(a, s) for a, s in zip(structures, sources, strict=True) if not is_isolated(a)]
    if not bound:
        raise InputError("data.train: all structures are isolated atoms: give crystals to train on")
    structures, sources = (list(x) for x in zip(*bound, strict=True))
    split = section["validation"]
    held: list[ase.Atoms] = []
    held_sources: list[str] = []
    if isinstance(split, list):
        both = list(zip(*_read(split, "data.validation", folder), strict=True))
        alone += [(a, s) for a, s in both if is_isolated(a)]
        kept = [(a, s) for a, s in both if not is_isolated(a)]
        held, held_sources = [a for a, _ in kept], [s for _, s in kept]
        if not held:
            raise InputError("data.validation: all structures are isolated atoms: give crystals, or a share")
    elif split is not None:
        both = list(zip(structures, sources, strict=True))
        parts = within("data.validation", lambda: train_validation_split(both, split, seed))
        (structures, sources), (held, held_sources) = (tuple(map(list, zip(*p, strict=True))) for p in parts)
    names = {k: section[k] for k in LABELS if section.get(k) is not None}
    keys = within("data", lambda: label_keys([*structures, *held, *(a for a, _ in alone)], names))
    energies = isolated_energies([a for a, _ in alone], [s for _, s in alone], keys.get("energy"))
    weights = {label: loss.get(label, 0.0) for label in LABELS}
    for label in LABELS:
        if label not in keys and (weights[label] or 0) > 0:
            raise InputError(
                f"loss.{label}: no structure has REF_{label} or {label}: set it to 0, or name it in data.{label}"
            )
        if weights[label] is None:
            weights[label] = float(label in keys)
    if not any(weights.values()):
        raise InputError(
            "data: no structure has energy, forces or stress with a weight above 0: name them in data.energy, ..."
        )
    frames, held_frames = (
        frames_of(x, names, potential, keys, weights) for x, names in ((structures, sources), (held, held_sources))
    )
    there = np.sum([f.weights > 0 for f in [*frames, *held_frames]], axis=0)
    counted = [f"{keys[label]} {count}" for label, count in zip(LABELS, there, strict=False) if count]
    words = ", ".join([*counted, *([keys["hessian"]] if weights["hessian"] else [])])
    if energies:
        words += ", energies of isolated atoms " + ", ".join(f"{SYMBOLS[z]} {e:g} eV" for z, e in energies.items())
    return Labelled(frames, held_frames, weights, words, energies)


def _read(names: Sequence[str], key: str, folder: Path) -> tuple[list[ase.Atoms], list[str]]:
    """Structures of all files, and for each what it is called in an error."""
    structures, sources = [], []
    for name in names:
        found = within(key, partial(read_structures, file_in(folder, name)))
        structures += found
        sources += [f"{key}: structure {k} of {name}" for k in range(len(found))]
    return structures, sources


__all__ = [
    "Labelled",
    "frames_of",
    "is_isolated",
    "isolated_energies",
    "label_keys",
    "read_frames",
    "read_structures",
    "train_validation_split",
]
