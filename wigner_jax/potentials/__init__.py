"""Interatomic potentials behind one protocol, and the registry of their names."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from . import mace, nequix, sevennet
from .analytic import stillinger_weber, tersoff
from .base import Potential
from .downloads import fetch
from .graph import Graph, build_graph, graph_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_REGISTRY: dict[str, Callable[[str], Potential]] = {
    "tersoff-1989": tersoff,
    "tersoff-1988-si": tersoff,
    "stillinger-weber-si": stillinger_weber,
}
_ALIASES = {"tersoff": "tersoff-1989", "sw-si": "stillinger-weber-si", **mace.ALIASES}
_MODELS = {**mace.MODELS, **nequix.MODELS, **sevennet.MODELS}


def available_potentials() -> tuple[str, ...]:
    """The names of the potentials that come with the package, without aliases."""
    return tuple(_REGISTRY)


def published_potentials() -> tuple[str, ...]:
    """The names of the models that are downloaded once, when they are first asked for."""
    return tuple(_MODELS)


def load_potential(name: str | os.PathLike[str], *, head: str | None = None) -> Potential:
    """A potential by name, alias or path.

    Names are those of `available_potentials` and `published_potentials`. A path is that of a file that mace-torch
    (`.model`), nequix (`.nqx`) or sevenn (`.pth`) saved; it is read without torch, and nothing in it is executed.

    Args:
        head: of a MACE model with several; by default the only one, or the one named "default".

    Raises:
        ValueError: for an unknown name (it lists the names), for a model that is neither cached nor can be downloaded
            (it says which file to put where), and for a file that cannot be used (it says why).
    """
    text = os.fspath(name)
    if text.endswith((".model", *_READERS)) or os.sep in text:
        return _read(Path(text).expanduser(), head)
    key = _ALIASES.get(text.lower(), text.lower())
    if key in _MODELS:
        file = sevennet.installed(key) if key in sevennet.MODELS else None
        return dataclasses.replace(_read(file or fetch(key, _MODELS[key]), head), name=key)
    if key not in _REGISTRY:
        aliases = ", ".join(f"{alias} = {full}" for alias, full in _ALIASES.items())
        raise ValueError(
            f"unknown potential {text!r}; available: {', '.join(_REGISTRY)}; published, to download:"
            f" {', '.join(_MODELS)} ({aliases}); or the path of a .nqx, .pth or .model file"
        )
    if head is not None:
        raise ValueError(f"{key} has no heads to choose from")
    return _REGISTRY[key](key)


_READERS = {".nqx": nequix.load_nequix, ".pth": sevennet.load_sevennet}


def _read(path: Path, head: str | None) -> Potential:
    """The model of a file, by the program that its name's ending belongs to; MACE's for any other."""
    if path.suffix not in _READERS:
        return mace.load_mace(path, head=head)
    if head is not None:
        raise ValueError(f"{path} has no heads to choose from")
    return _READERS[path.suffix](path)


def restrict(potential: Potential, numbers: Sequence[int]) -> Potential:
    """The same model for a few of its elements (atomic numbers), where that saves work: the same energies."""
    potential.species_of(numbers)  # refuses unknown elements
    return mace.restrict(potential, numbers) if isinstance(potential.energy, mace.Mace) else potential


__all__ = [
    "Graph",
    "Potential",
    "available_potentials",
    "build_graph",
    "graph_of",
    "load_potential",
    "published_potentials",
    "restrict",
]
