"""Interatomic potentials behind one protocol, and the registry of their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .analytic import stillinger_weber, tersoff
from .base import Potential
from .graph import Graph, build_graph, graph_of

if TYPE_CHECKING:
    from collections.abc import Callable

_REGISTRY: dict[str, Callable[[str], Potential]] = {
    "tersoff-1989": tersoff,
    "tersoff-1988-si": tersoff,
    "stillinger-weber-si": stillinger_weber,
}
_ALIASES = {"tersoff": "tersoff-1989", "sw-si": "stillinger-weber-si"}


def available_potentials() -> tuple[str, ...]:
    """The names `load_potential` knows, without aliases."""
    return tuple(_REGISTRY)


def load_potential(name: str) -> Potential:
    """A potential by name (or alias); ValueError that lists the names for an unknown one."""
    key = _ALIASES.get(name.lower(), name.lower())
    if key not in _REGISTRY:
        aliases = ", ".join(f"{alias} = {full}" for alias, full in _ALIASES.items())
        raise ValueError(f"unknown potential {name!r}; available: {', '.join(_REGISTRY)} ({aliases})")
    return _REGISTRY[key](key)


__all__ = ["Graph", "Potential", "available_potentials", "build_graph", "graph_of", "load_potential"]
