"""MACE: models read from mace-torch's files, evaluated in JAX."""

from __future__ import annotations

from pathlib import Path

from ..family import Family
from .published import ALIASES, CARDS, MODELS

_FILES = f"{__name__}.files"
FAMILY = Family(
    name="MACE",
    energies=(f"{__name__}.model:Mace",),
    endings=(".model", ""),  # mace-torch's checkpoints go by any name
    read=f"{_FILES}:load_mace",
    has_heads=True,
    write=f"{_FILES}:export_mace",
    built_in={"mace-bundled": Path(__file__).parents[1] / "data" / "mace-bundled.model"},
    models=MODELS,
    aliases=ALIASES,
    cards=CARDS,
    blocks=f"{_FILES}:blocks",
    usually_fixed=f"{_FILES}:usually_fixed",
    restrict=f"{_FILES}:restrict",
    initial=f"{_FILES}:initial",
    atom_energies="atomic_energies_fn.atomic_energies",
)
