"""SevenNet: models read from sevenn's files, evaluated in JAX."""

from __future__ import annotations

from ..family import Family
from .published import ALIASES, CARDS, MODELS

_FILES = f"{__name__}.files"
FAMILY = Family(
    name="SevenNet",
    energies=(f"{__name__}.model:SevenNet",),
    endings=(".pth",),
    read=f"{_FILES}:load_sevennet",
    write=f"{_FILES}:write_sevennet",
    models=MODELS,
    aliases=ALIASES,
    cards=CARDS,
    blocks=f"{_FILES}:blocks",
    usually_fixed=f"{_FILES}:usually_fixed",
)
