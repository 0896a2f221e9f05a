"""Interatomic potentials behind one protocol, and the registry of their names.

Names are imported when they are first used: no architecture, and nothing of Flax, before it is needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Potential
    from .cards import CARDS, Card, card_of, recommended_route
    from .family import Family
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

_HOMES = {
    "base": ("Potential",),
    "cards": ("CARDS", "Card", "card_of", "recommended_route"),
    "family": ("Family",),
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
    "Graph",
    "Potential",
    "available_potentials",
    "build_graph",
    "canonical_name",
    "card_of",
    "default_potential",
    "graph_of",
    "load_potential",
    "locate_model",
    "published_potentials",
    "recommended_route",
    "register_family",
    "registered_families",
    "restrict",
    "save_potential",
]
