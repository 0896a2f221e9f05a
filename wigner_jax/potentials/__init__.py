"""Interatomic potentials behind one protocol, and the registry of their names."""

from .base import Potential
from .cards import CARDS, Card, card_of, recommended_route
from .graph import Graph
from .neighbor_list import build_graph, graph_of
from .registry import (
    available_potentials,
    canonical_name,
    default_potential,
    load_potential,
    locate_model,
    published_potentials,
    restrict,
)

__all__ = [
    "CARDS",
    "Card",
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
    "restrict",
]
