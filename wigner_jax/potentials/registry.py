"""Potentials by name or file: the families that are known, and the questions that are asked of all of them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._core.reading import positive_number, reading
from ..errors import InputError, nearest
from . import bundled, chgnet, empirical, m3gnet, mace, nequix, sevennet
from .base import LONGEST
from .downloads import checksum, fetch, locate
from .family import Family, resolve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .base import Energy, Potential


_FAMILIES: dict[str, Family] = {}


def register_family(family: Family) -> None:
    """Make an architecture known: `load_potential` then reads its files and knows its models by name.

    Everything else that depends on the architecture (saving, cards, what is trained) follows from the record too.

    Raises:
        InputError: a family of this name is known already, or one of its models' names is taken.
    """
    if family.name in _FAMILIES:
        raise InputError(f"a family named {family.name!r} is registered already: choose another name")
    known = {*available_potentials(), *published_potentials(), *_aliases()}
    if taken := sorted(known & {*family.built_in, *family.models, *family.aliases}):
        raise InputError(f"the name {taken[0]!r} belongs to another potential: choose another name")
    _FAMILIES[family.name] = family


def registered_families() -> tuple[Family, ...]:
    """All families, in the order in which they were registered."""
    return tuple(_FAMILIES.values())


def family_of(potential: Potential) -> Family | None:
    """The family of a potential; None for one of nobody's."""
    return _family_of_energy(potential.energy)


def _family_of_energy(energy: Energy) -> Family | None:
    return next((family for family in registered_families() if family.has(energy)), None)


def available_potentials() -> tuple[str, ...]:
    """The names of the potentials that come with the package, without aliases."""
    return tuple(name for family in registered_families() for name in family.built_in)


def published_potentials() -> tuple[str, ...]:
    """The names of the models that are downloaded once, when they are first asked for."""
    return tuple(name for family in registered_families() for name in family.models)


def default_potential(numbers: Sequence[int]) -> Potential | None:
    """What atoms of these atomic numbers get where no potential is named; None if nothing that is built in will do.

    The bundled MACE model for the compounds that it was trained on, else the first empirical potential that knows the
    elements.
    """
    name = default_potential_name(numbers)
    return None if name is None else restrict(load_potential(name), numbers)


def default_potential_name(numbers: Sequence[int]) -> str | None:
    """The name of `default_potential`."""
    if bundled.covers(numbers):
        return bundled.NAME
    known = {card.name: card.elements for family in registered_families() for card in family.cards}
    names = (name for name in available_potentials() if name != bundled.NAME)
    wanted = set(map(int, numbers))
    return next((name for name in names if wanted <= set(known.get(name) or load_potential(name).species)), None)


def load_potential(name: str | os.PathLike[str], *, head: str | None = None) -> Potential:
    """A potential by name, alias or path.

    Names are those of `available_potentials` and `published_potentials`. A path is that of a file that mace-torch
    (`.model`), nequix (`.nqx`), sevenn (`.pth`) or chgnet (`.pth.tar`) saved, or of the folder of an M3GNet, or of a
    file of a registered family; it is read without torch, and nothing in it is executed. A published model's file is
    looked for in the folder that the environment variable WIGNER_JAX_MODELS names, the user's cache, the installed
    package that comes with it, and the original program's cache; else it is downloaded once. What is known of each
    model, its smoothness above all, is on its card (`cards`).

    Args:
        head: of a MACE model with several; by default the only one, or the one named "default".

    Raises:
        ValueError: for an unknown name (it names the nearest), for a model that is neither on this machine nor can be
            downloaded (it says which file to put where), for a file that is not that of the model named (it says which
            it is, if known), and for a file that cannot be used (it says why).
    """
    text = os.fspath(name)
    if (path := path_of(text)) is not None:
        family = _family_of_file(path)
        potential = _read(family, path, head)
        # checksums only of files whose family has published any
        known = any(m.sha256 for m in family.models.values()) and path.is_file() and _checksums().get(checksum(path))
        return dataclasses.replace(potential, name=known) if known else potential
    key = canonical_name(text)
    family = next(f for f in registered_families() if key in f.built_in or key in f.models)
    if key in family.models:
        path = fetch(key, family.models[key], _checksums())
        for companion in family.companions.get(key, ()):
            fetch(key, companion)
        return dataclasses.replace(_read(family, path, head), name=key)
    if head is not None:
        raise ValueError(f"{key} has no heads to choose from")
    source = family.built_in[key]
    if isinstance(source, Path):
        return dataclasses.replace(_read(family, source, None), name=key)
    return resolve(source)(key)


def path_of(name: str) -> Path | None:
    """The file or folder that `load_potential` reads for a name: one with a separator or a known ending; None for others.

    A file in the current folder that is called like a model is not read.
    """
    endings = tuple(ending for family in registered_families() for ending in family.endings if ending)
    return Path(name).expanduser() if name.endswith(endings) or os.sep in name else None


def canonical_name(name: str) -> str:
    """The model that a name or an alias means; InputError for an unknown one (it names the nearest)."""
    key = _aliases().get(name.lower(), name.lower())
    if key in available_potentials() or key in published_potentials():
        return key
    if close := nearest(name, (*available_potentials(), *published_potentials(), *_aliases())):
        raise InputError(f"unknown potential {name!r}", f"did you mean {close}? (all names: wigner-jax models)")
    raise InputError(f"unknown potential {name!r}", "wigner-jax models lists all; or give the path of a model's file")


def locate_model(name: str) -> Path | None:
    """The file of a published model if it is on this machine (its content is not looked at); None if not, or built in."""
    published = next((family.models[name] for family in registered_families() if name in family.models), None)
    return None if published is None else locate(published)


def model_file(name: str) -> Path | None:
    """The file of a model by its name or alias, published or built in; None if it has none, or not on this machine."""
    key = _aliases().get(name.lower(), name.lower())
    source = next((family.built_in[key] for family in registered_families() if key in family.built_in), None)
    return source if isinstance(source, Path) else locate_model(key)


def restrict(potential: Potential, numbers: Sequence[int]) -> Potential:
    """The same model for a few of its elements (atomic numbers), where that saves work: the same energies."""
    potential.species_of(numbers)  # refuses unknown elements
    family = family_of(potential)
    return potential if family is None or family.restrict is None else resolve(family.restrict)(potential, numbers)


def _aliases() -> dict[str, str]:
    return {alias: name for family in registered_families() for alias, name in family.aliases.items()}


def _checksums() -> dict[str, str]:
    """Names of the published models by the checksums of their files."""
    models: list[tuple[str, Any]] = [item for family in registered_families() for item in family.models.items()]
    return {published.sha256: name for name, published in models if published.sha256}


def _family_of_file(path: Path) -> Family:
    """The family whose folder it is, or that the name's ending belongs to; the longest ending counts."""
    families = registered_families()
    probes = [f for f in families if f.holds_model is not None] if path.is_dir() else []
    if (folder := next((f for f in probes if resolve(f.holds_model)(path)), None)) is not None:
        return folder
    matching = [(len(e), f) for f in families for e in f.endings if path.name.endswith(e)]
    return max(matching, key=lambda found: found[0])[1]


def _read(family: Family, path: Path, head: str | None) -> Potential:
    if head is not None and not family.has_heads:
        raise ValueError(f"{path} has no heads to choose from")
    with reading(path, f"a model of the family {family.name}", folder=family.holds_model is not None):
        potential = resolve(family.read)(path, head=head) if family.has_heads else resolve(family.read)(path)
        positive_number(potential.cutoff, "the cutoff", LONGEST)
        return potential


for _family in (mace.FAMILY, empirical.FAMILY, nequix.FAMILY, sevennet.FAMILY, chgnet.FAMILY, m3gnet.FAMILY):
    register_family(_family)
