"""Interatomic potentials behind one protocol, and the registry of their names.

Names are imported when they are first used: no architecture, and nothing of Flax, before it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Potential
    from .calculator import WignerCalculator
    from .cards import CARDS, Card, card_of, recommended_route
    from .evaluate import energy, energy_forces_stress, hessian
    from .family import Family
    from .flax_module import FlaxPotential, as_flax
    from .graph import Graph
    from .neighbor_list import build_graph, graph_of
    from .registry import (
        available_potentials,
        canonical_name,
        default_potential,
        load_potential,
        locate_model,
        published_potentials,
        register_family,
        registered_families,
        restrict,
    )
    from .saving import save_potential
    from .validation import PotentialReport, check_potential

_HOMES = {
    "base": ("Potential",),
    "calculator": ("WignerCalculator",),
    "cards": ("CARDS", "Card", "card_of", "recommended_route"),
    "evaluate": ("energy", "energy_forces_stress", "hessian"),
    "family": ("Family",),
    "flax_module": ("FlaxPotential", "as_flax"),
    "graph": ("Graph",),
    "neighbor_list": ("build_graph", "graph_of"),
    "registry": (
        "available_potentials",
        "canonical_name",
        "default_potential",
        "load_potential",
        "locate_model",
        "published_potentials",
        "register_family",
        "registered_families",
        "restrict",
    ),
    "saving": ("save_potential",),
    "validation": ("PotentialReport", "check_potential"),
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


__all__ = [
    "CARDS",
    "Card",
    "Family",
    "FlaxPotential",
    "Graph",
    "Potential",
    "PotentialReport",
    "WignerCalculator",
    "as_flax",
    "available_potentials",
    "build_graph",
    "canonical_name",
    "card_of",
    "check_potential",
    "default_potential",
    "energy",
    "energy_forces_stress",
    "graph_of",
    "hessian",
    "load_potential",
    "locate_model",
    "published_potentials",
    "recommended_route",
    "register_family",
    "registered_families",
    "restrict",
    "save_potential",
]
