"""MACE: models read from mace-torch's files, evaluated in JAX."""

from __future__ import annotations

from .files import export_mace, load_mace, load_state, restrict, trainable
from .model import Mace
from .published import ALIASES, MODELS

__all__ = [
    "ALIASES",
    "MODELS",
    "Mace",
    "export_mace",
    "load_mace",
    "load_state",
    "restrict",
    "trainable",
]
