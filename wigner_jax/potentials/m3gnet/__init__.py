"""M3GNet: the models of its two programs, m3gnet for TensorFlow and matgl, evaluated in JAX."""

from __future__ import annotations

from ..family import Family
from .published import CARDS, COMPANIONS, MODELS

FAMILY = Family(
    name="M3GNet",
    energies=(f"{__name__}.model:M3GNet",),
    endings=(".index", ".pt"),
    read=f"{__name__}.files:load_m3gnet",
    holds_model=f"{__name__}.files:holds_model",
    models=MODELS,
    companions=COMPANIONS,
    cards=CARDS,
)
