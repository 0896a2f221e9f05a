"""Distances between the atoms of a crystal, beside those that elements have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..types import Crystal


def nearest_share(crystal: Crystal) -> float:
    """The least distance of two atoms over the sum of their covalent radii, among the neighbouring cells of a reduced basis."""
    from ase.data import covalent_radii

    distances = _distances(crystal)
    radii = covalent_radii[np.asarray(crystal.numbers, int)]
    shares = distances / (radii[:, None] + radii)[:, :, None]
    return float(shares[distances > 1e-6].min())


def shortest_distance(crystal: Crystal) -> float:
    """The least distance of two atoms, Å."""
    distances = _distances(crystal)
    return float(distances[distances > 1e-6].min())


def _distances(crystal: Crystal) -> np.ndarray:
    """Of all pairs in the neighbouring cells of a reduced basis. (n, n, 27) Å"""
    import spglib

    lattice = np.asarray(crystal.lattice)
    reduced = spglib.niggli_reduce(lattice)
    reduced = lattice if reduced is None else reduced
    x = np.asarray(crystal.positions) @ lattice @ np.linalg.inv(reduced)
    cells = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    offset = x[:, None] - x[None]
    offset = (offset - np.rint(offset))[:, :, None] + cells
    return np.linalg.norm(offset @ reduced, axis=-1)


def roundness(lattice: np.ndarray) -> float:
    """How long primitive vectors are beside the shortest ones of their lattice: the ratio of the products of their lengths."""
    import spglib

    reduced = spglib.niggli_reduce(lattice)
    if reduced is None:
        return 1.0
    return float(np.prod(np.linalg.norm(lattice, axis=1)) / np.prod(np.linalg.norm(reduced, axis=1)))


__all__ = ["nearest_share", "roundness", "shortest_distance"]
