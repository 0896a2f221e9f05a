"""Whether the atoms of a crystal interact at all in a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, say

if TYPE_CHECKING:
    import ase

    from ..types import Crystal, ForceConstants

SHORT_BOND = 0.7  # share of the sum of covalent radii; triple bonds have 0.77
CHANGED_VOLUME = 1.5  # factor by which no relaxation changes the volume of a crystal that it keeps
NO_FORCE = 1e-7  # eV/Å²: bonds have 1 to 50


def nearest_distance(crystal: Crystal) -> float:
    """Å between the nearest two atoms of a crystal, among the neighbouring cells of its basis."""
    lattice, x = np.asarray(crystal.lattice), np.asarray(crystal.positions)
    cells = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    offset = x[:, None] - x[None]
    offset = (offset - np.rint(offset))[:, :, None] + cells
    distances = np.linalg.norm(offset @ lattice, axis=-1)
    return float(distances[distances > 1e-6].min())


def say_unusual(atoms: ase.Atoms, before: ase.Atoms | None = None) -> None:
    """Warns of what a crystal near its minimum is not: bonds far shorter than covalent ones, or another volume by half.

    Args:
        before: the structure before its relaxation.

    Warns:
        AccuracyWarning: with the distance or the volumes.
    """
    from ase.data import covalent_radii
    from ase.neighborlist import neighbor_list

    radii = SHORT_BOND * covalent_radii[atoms.numbers]
    i, j, distances = neighbor_list("ijd", atoms, list(radii))
    if len(distances):
        k = int(distances.argmin())
        pair = f"{atoms.symbols[i[k]]} and {atoms.symbols[j[k]]}"
        bond = covalent_radii[atoms.numbers[[i[k], j[k]]]].sum()
        message = (
            f"{pair} are {distances[k]:.2f} Å apart, where covalent bonds have {bond:.2f}: few potentials know such"
        )
        say(f"{message} distances")
    if before is not None:
        ratio = atoms.cell.volume / before.cell.volume
        if not 1 / CHANGED_VOLUME < ratio < CHANGED_VOLUME:
            message = f"the relaxation took the cell from {before.cell.volume:.4g} to {atoms.cell.volume:.4g} Å³"
            say(f"{message}: the result is another crystal's")


def require_interaction(crystal: Crystal, fc: ForceConstants, model: Any) -> None:
    """Raises InputError if force constants that a model gave are nothing: atoms out of range, or a harmonic model."""
    name = getattr(model, "name", type(model).__name__)
    largest = (float(np.abs(np.asarray(fc.fc2)).max()), float(np.abs(np.asarray(fc.fc3)).max()))
    if largest[0] < NO_FORCE:
        cutoff = getattr(model, "cutoff", None)
        reach = "" if cutoff is None else f", and {name} reaches {float(cutoff):.4g} Å"
        raise InputError(
            f"the atoms do not interact: the nearest are {nearest_distance(crystal):.3g} Å apart{reach}",
            "check the lattice constant and its unit, or whether the relaxation drove the atoms apart",
        )
    if largest[1] == 0:
        raise InputError(f"{name} gives no force constants of third order: in a harmonic crystal nothing scatters")


__all__ = ["nearest_distance", "require_interaction", "say_unusual"]
