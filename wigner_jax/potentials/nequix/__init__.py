"""Nequix: models read from its own program's files, evaluated in JAX."""

from __future__ import annotations

from ..family import Family
from .published import CARDS, MODELS

_FILES = f"{__name__}.files"
FAMILY = Family(
    name="Nequix",
    energies=(f"{__name__}.model:Nequix",),
    endings=(".nqx",),
    read=f"{_FILES}:load_nequix",
    write=f"{_FILES}:write_nequix",
    models=MODELS,
    cards=CARDS,
    blocks=f"{_FILES}:blocks",
    usually_fixed=f"{_FILES}:usually_fixed",
    atom_energies="atom_energies",
)
