"""Interatomic potentials behind one protocol, and the registry of their names."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING

from . import bundled, mace
from .chgnet.files import load_chgnet
from .chgnet.model import MODELS as CHGNET_MODELS
from .downloads import checksum, fetch, locate
from .empirical import stillinger_weber, tersoff
from .m3gnet import files as m3gnet_files
from .nequix.files import load_nequix
from .nequix.model import MODELS as NEQUIX_MODELS
from .saving import load_analytic
from .sevennet.files import load_sevennet
from .sevennet.model import ALIASES as SEVENNET_ALIASES
from .sevennet.model import MODELS as SEVENNET_MODELS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .base import Potential


_REGISTRY: dict[str, Callable[[str], Potential]] = {
    bundled.NAME: bundled.load,
    "tersoff-1989": tersoff,
    "tersoff-1988-si": tersoff,
    "stillinger-weber-si": stillinger_weber,
}
_ALIASES = {"tersoff": "tersoff-1989", "sw-si": "stillinger-weber-si", **mace.ALIASES, **SEVENNET_ALIASES}
_MODELS = {**mace.MODELS, **NEQUIX_MODELS, **SEVENNET_MODELS, **CHGNET_MODELS, **m3gnet_files.MODELS}


def available_potentials() -> tuple[str, ...]:
    """The names of the potentials that come with the package, without aliases."""
    return tuple(_REGISTRY)


def default_potential(numbers: Sequence[int]) -> Potential | None:
    """What atoms of these atomic numbers get where no potential is named; None if nothing that is built in will do.

    The bundled MACE model for the compounds that it was trained on, else the first empirical potential that knows the
    elements.
    """
    if bundled.covers(numbers):
        return restrict(bundled.load(), numbers)
    candidates = (load_potential(name) for name in _REGISTRY if name != bundled.NAME)
    return next((c for c in candidates if set(map(int, numbers)) <= set(c.species)), None)


def published_potentials() -> tuple[str, ...]:
    """The names of the models that are downloaded once, when they are first asked for."""
    return tuple(_MODELS)


def load_potential(name: str | os.PathLike[str], *, head: str | None = None) -> Potential:
    """A potential by name, alias or path.

    Names are those of `available_potentials` and `published_potentials`. A path is that of a file that mace-torch
    (`.model`), nequix (`.nqx`), sevenn (`.pth`) or chgnet (`.pth.tar`) saved, or of the folder of an M3GNet; it is read without torch, and nothing in it is executed. A
    published model's file is looked for in the folder that the environment variable WIGNER_JAX_MODELS names, the user's
    cache, the installed package that comes with it, and the original program's cache; else it is downloaded once.
    What is known of each model, its smoothness above all, is on its card (`cards`).

    Args:
        head: of a MACE model with several; by default the only one, or the one named "default".

    Raises:
        ValueError: for an unknown name (it lists the names), for a model that is neither on this machine nor can be
            downloaded (it says which file to put where), for a file that is not that of the model named (it says which
            it is, if known), and for a file that cannot be used (it says why).
    """
    text = os.fspath(name)
    if text.endswith((".model", *_READERS)) or os.sep in text:
        potential = _read(path := Path(text).expanduser(), head)
        known = _checksums().get(checksum(path)) if path.suffix in _READERS else None
        return dataclasses.replace(potential, name=known) if known else potential
    key = canonical_name(text)
    if key in _MODELS:
        path = fetch(key, _MODELS[key], _checksums())
        for companion in m3gnet_files.COMPANIONS.get(key, ()):
            fetch(key, companion)
        return dataclasses.replace(_read(path, head), name=key)
    if head is not None:
        raise ValueError(f"{key} has no heads to choose from")
    return _REGISTRY[key](key)


def canonical_name(name: str) -> str:
    """The model that a name or an alias means; ValueError for an unknown one (it lists the names)."""
    key = _ALIASES.get(name.lower(), name.lower())
    if key in _MODELS or key in _REGISTRY:
        return key
    aliases = ", ".join(f"{alias} = {full}" for alias, full in _ALIASES.items())
    raise ValueError(
        f"unknown potential {name!r}; available: {', '.join(_REGISTRY)}; published, to download:"
        f" {', '.join(_MODELS)} ({aliases}); or the path of a .nqx, .pth or .model file"
    )


def locate_model(name: str) -> Path | None:
    """The file of a published model if it is on this machine (its content is not looked at); None if not, or built in."""
    return locate(_MODELS[name]) if name in _MODELS else None


def _checksums() -> dict[str, str]:
    """Names of the published models by the checksums of their files."""
    return {published.sha256: name for name, published in _MODELS.items() if published.sha256}


_READERS = {
    ".nqx": load_nequix,
    ".pth": load_sevennet,
    ".tar": load_chgnet,  # .pth.tar
    ".index": m3gnet_files.load_m3gnet,
    ".pt": m3gnet_files.load_m3gnet,
    ".json": load_analytic,
}


def _read(path: Path, head: str | None) -> Potential:
    """The model of a file, by the program that its name's ending belongs to; MACE's for any other."""
    if m3gnet_files.holds_model(path) and head is None:
        return m3gnet_files.load_m3gnet(path)
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
    "available_potentials",
    "canonical_name",
    "default_potential",
    "load_potential",
    "locate_model",
    "published_potentials",
    "restrict",
]
