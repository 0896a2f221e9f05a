"""CHGNet: the model read from chgnet's file, evaluated in JAX."""

from __future__ import annotations

from ..family import Family
from .published import CARDS, MODELS

FAMILY = Family(
    name="CHGNet",
    energies=(f"{__name__}.model:CHGNet",),
    endings=(".pth.tar", ".tar"),
    read=f"{__name__}.files:load_chgnet",
    models=MODELS,
    cards=CARDS,
)
