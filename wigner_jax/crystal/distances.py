"""Distances between the atoms of a crystal, beside those that elements have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..types import Crystal


def nearest_share(crystal: Crystal) -> float:
    """The least distance of two atoms over the sum of their covalent radii, among the neighbouring cells of a reduced basis."""
    import spglib
    from ase.data import covalent_radii

    lattice = np.asarray(crystal.lattice)
    reduced = spglib.niggli_reduce(lattice)
    reduced = lattice if reduced is None else reduced
    x = np.asarray(crystal.positions) @ lattice @ np.linalg.inv(reduced)
    cells = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    offset = x[:, None] - x[None]
    offset = (offset - np.rint(offset))[:, :, None] + cells
    distances = np.linalg.norm(offset @ reduced, axis=-1)
    radii = covalent_radii[np.asarray(crystal.numbers, int)]
    shares = distances / (radii[:, None] + radii)[:, :, None]
    return float(shares[distances > 1e-6].min())


__all__ = ["nearest_share"]
