"""Layers and wires in a cell with vacuum: which part of the cell is material.

A conductivity is a current through an area. Of a layer or a wire in a box that area is a convention: κ of the box times
box/material. A layer has a thickness d, the share d/h of a cell of height h, a wire a cross-section A, the share A L/V of a
cell of length L along it. `Crystal.occupied` keeps that share, and every κ is divided by it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.as_numbers import real_numbers
from ..errors import InputError, say
from .elements import SYMBOLS

if TYPE_CHECKING:
    from ..types import Crystal, Supercells

VACUUM = 5.0  # Å without atoms along a lattice vector that make it one of vacuum


def heights(lattice: np.ndarray) -> np.ndarray:
    """Distances between opposite faces of a cell. (3,) Å"""
    return 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)


def gaps(crystal: Crystal) -> np.ndarray:
    """The widest space without atoms between planes of the other two lattice vectors, for each. (3,) Å"""
    places = np.sort(np.asarray(crystal.positions) % 1.0, axis=0)
    steps = np.diff(np.concatenate([places, places[:1] + 1]), axis=0)
    return steps.max(axis=0) * heights(np.asarray(crystal.lattice))


def vacuum_axes(crystal: Crystal, count: int) -> np.ndarray:
    """The `count` lattice vectors along which there is vacuum. (count,) int

    Raises:
        InputError: there are more or fewer.
    """
    wide = gaps(crystal)
    found = np.flatnonzero(wide > VACUUM)
    if len(found) != count:
        given = ", ".join(f"{x:.3g}" for x in wide)
        what = "a layer has vacuum along one lattice vector" if count == 1 else "a wire has vacuum along two"
        raise InputError(
            f"{what}, and the widest gaps along the three are {given} Å",
            f"give a primitive cell with more than {VACUUM:g} Å of vacuum there and no such gap elsewhere",
        )
    return found


def layer_thickness(crystal: Crystal) -> float:
    """From the outermost atoms and their van der Waals radii (S. Alvarez, Dalton Trans. 42, 8617 (2013)), Å."""
    from ase.data.vdw_alvarez import vdw_radii

    (axis,) = vacuum_axes(crystal, 1)
    place = np.asarray(crystal.positions)[:, axis] % 1.0
    order = np.argsort(place)
    steps = np.diff(np.append(place[order], place[order[0]] + 1))
    last = int(steps.argmax())  # below the gap; the next is the first above it
    height = float(heights(np.asarray(crystal.lattice))[axis])
    outermost = [crystal.numbers[order[k]] for k in (last, (last + 1) % len(order))]
    radii = [float(vdw_radii[z]) if z < len(vdw_radii) else np.nan for z in outermost]
    for z, radius in zip(outermost, radii, strict=True):
        if not radius > 0:
            raise InputError(
                f"no van der Waals radius of {SYMBOLS[z]} is known", "give the thickness of the layer in Å"
            )
    return (1 - float(steps[last])) * height + sum(radii)


def as_layer(supercells: Supercells, thickness: float | None = None) -> Supercells:
    """The same supercells, of a layer: κ is normalised to its thickness.

    Args:
        thickness: Å; by default that of the atoms with their van der Waals radii (`layer_thickness`; graphene 3.54 Å, where
            the distance of graphite's layers, 3.35 Å, is as usual).

    Raises:
        InputError: vacuum along no lattice vector or several, or a thickness that does not fit into the cell.
    """
    crystal = supercells.crystal
    (axis,) = vacuum_axes(crystal, 1)
    thickness = layer_thickness(crystal) if thickness is None else one_number(thickness, "the thickness of the layer")
    height = float(heights(np.asarray(crystal.lattice))[axis])
    if not 0 < thickness <= height:
        raise InputError(
            f"a layer {thickness:g} Å thick in a cell {height:.4g} Å high",
            "give its thickness in Å, not more than the cell's",
        )
    return _occupied(supercells, thickness / height)


def as_wire(supercells: Supercells, area: float) -> Supercells:
    """The same supercells, of a wire, tube or chain: κ is normalised to its cross-section.

    Args:
        area: Å².

    Raises:
        InputError: vacuum along other than two lattice vectors, or a cross-section that does not fit into the cell.
    """
    crystal, area = supercells.crystal, one_number(area, "the cross-section of the wire")
    lattice, across = np.asarray(crystal.lattice), vacuum_axes(crystal, 2)
    (along,) = {0, 1, 2} - set(across.tolist())
    most = abs(float(np.linalg.det(lattice))) / float(np.linalg.norm(lattice[along]))
    if not 0 < area <= most:
        raise InputError(f"a wire of {area:g} Å² in a cell of {most:.4g} Å²", "give its cross-section in Å²")
    return _occupied(supercells, area / most)


def one_number(value: Any, name: str) -> float:
    """A float; raises InputError for anything else."""
    array = real_numbers(value, name)
    if array.shape != ():
        raise InputError(f"{name}: {array.size} numbers where there should be one", "give one")
    return float(array)


def _occupied(supercells: Supercells, share: float) -> Supercells:
    return dataclasses.replace(
        supercells, crystal=dataclasses.replace(supercells.crystal, occupied=np.array(float(share)))
    )


def directions(crystal: Crystal) -> int:
    """Of heat: 3, or 2 in a layer and 1 in a wire."""
    if crystal.occupied is None:
        return 3
    return max(1, 3 - int(np.count_nonzero(gaps(crystal) > VACUUM)))


def average(kappa: np.ndarray, crystal: Crystal) -> np.ndarray:
    """The trace of tensors in Voigt order over the number of directions that there are. (..., 6) → (...)"""
    return np.asarray(kappa)[..., :3].sum(axis=-1) / directions(crystal)


def say_vacuum(crystal: Crystal) -> None:
    """Warns of a cell with vacuum that nobody said is a layer or a wire.

    Warns:
        AccuracyWarning: with the gaps.
    """
    wide = gaps(crystal)
    if crystal.occupied is None and np.any(wide > VACUUM):
        given = ", ".join(f"{x:.3g}" for x in wide)
        say(
            f"the widest gaps without atoms along the lattice vectors are {given} Å: a κ of the whole cell, vacuum included, depends on"
            " its size; say that it is a layer or a wire"
        )


def flat_mesh(crystal: Crystal, mesh: tuple[int, int, int]) -> tuple[int, int, int]:
    """A mesh with one point along every lattice vector of vacuum, where the crystal is a layer or a wire."""
    if crystal.occupied is None:
        return mesh
    a, b, c = (1 if gap > VACUUM else n for n, gap in zip(mesh, gaps(crystal), strict=True))
    return a, b, c


__all__ = [
    "as_layer",
    "as_wire",
    "average",
    "directions",
    "flat_mesh",
    "layer_thickness",
    "one_number",
    "say_vacuum",
    "vacuum_axes",
]
