"""How much memory a mesh takes, before any of it is allocated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..errors import InputError
from .mesh import mesh_operations

if TYPE_CHECKING:
    from ..types import Crystal

WANTED = 0.5  # share of the q' of a q that are triplets' representatives, 0.51 to 0.64 in silicon and AlN


def bytes_of_mesh(crystal: Crystal, dims: tuple[int, int, int], symmetry: bool = True) -> int:
    """About what plan, phonons and results of one temperature hold at a time, at least.

    Q points under R operations have P ≥ Q/R irreducible ones. Images of all points: 3·8 R Q; weights of the triplets:
    16 P Q/2 while they are collected; eigenvectors, their rotations and projectors: 96 m² Q; velocity operators and
    coherences: 96 m² P.
    """
    Q, m = int(dims[0]) * int(dims[1]) * int(dims[2]), 3 * crystal.n_atoms
    R = len(mesh_operations(crystal, dims, symmetry))
    P = max(1, Q // R)
    return 24 * R * Q + int(16 * WANTED * P * Q) + 96 * m**2 * (Q + P)


def physical_memory() -> float:
    """Bytes of this machine; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return float("inf")


def require_memory(crystal: Crystal, dims: tuple[int, int, int], symmetry: bool = True) -> None:
    """Raises InputError, with the number, if a mesh takes more than this machine has."""
    needed, there = bytes_of_mesh(crystal, dims, symmetry), physical_memory()
    if needed > there:
        raise InputError(
            f"a mesh of {'×'.join(map(str, dims))} points needs about {needed / 1e9:,.0f} GB for a cell of"
            f" {crystal.n_atoms} atoms, and this machine has {there / 1e9:,.0f} GB",
            "take a coarser mesh",
        )


__all__ = ["bytes_of_mesh", "physical_memory", "require_memory"]
