"""Frames that give a potential other force constants: forces of displaced cells, from a Taylor series.

Where only force constants are known (from a reference's modes, or another code's file) and a potential is to have them, its
forces F(θ0) on displaced cells are corrected by what the wanted changes of Φ2 and Φ3 make of them,

    F = F(θ0) - ΔΦ2 u - ½ ΔΦ3 u u,

so that everything of higher order stays the potential's own. `minimum_norm_update` or `finetune` then take these frames.

Two kinds are needed. The supercell of Φ3 holds ΔΦ3, and ΔΦ2 as far as its own q-points go. The supercell of Φ2 is usually
larger: its further wave vectors are those of smaller cells, the smallest that hold each of them (non-diagonal supercells of a few atoms,
Lloyd-Williams and Monserrat, Phys. Rev. B 92, 184301 (2015)), displaced so little that ΔΦ3 does not matter.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from ...crystal.supercells import make_supercell, shortest_vectors
from ...crystal.symmetry import space_group
from ...errors import InputError
from ...ifc.symmetry_basis import Lookup, translation_table
from ...plan.dipoles import commensurate_points
from ..frames import SCALES, labelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._core.pytree import Array
    from ...potentials.base import Potential
    from ...types import Crystal, Supercell, Supercells
    from ..frames import Frame


DISPLACEMENT, SMALL = 0.03, 0.003  # Å, of every atom


def frames_from_force_constants(
    potential: Potential, supercells: Supercells, second: Array, third: Array, count: int = 3, seed: int = 0
) -> list[Frame]:
    """Frames of the Φ3 supercell, every atom displaced by 0.03 Å in a random direction.

    Args:
        second, third: wanted changes of the potential's compact Φ2 and Φ3, in their supercells.

    Raises:
        InputError: changes of another shape; no frames.
    """
    _require(supercells, second, third)
    if count < 1:
        raise InputError(f"at least one frame is needed, got {count}")
    crystal, small = supercells.crystal, supercells.fc3_supercell
    second = folded(crystal, supercells.fc2_supercell, second, small)
    rng = np.random.default_rng(seed)
    moves = [random_displacements(rng, small.n_atoms, DISPLACEMENT) for _ in range(count)]
    pairs = [(displaced(crystal, small, u), series_forces(crystal, small, u, second, third)) for u in moves]
    return _corrected(pairs, potential, SCALES)


def nondiagonal_supercell_frames(
    potential: Potential, supercells: Supercells, second: Array, seed: int = 1
) -> list[Frame]:
    """Frames of `nondiagonal_supercells`, every atom displaced by 0.003 Å in a random direction, with the change of Φ2 alone.

    Scales are smaller with the displacement, so that a frame weighs as much as one of `frames_from_force_constants`.

    Args:
        second: wanted change of the potential's compact Φ2, in its supercell.

    Raises:
        InputError: a change of another shape.
    """
    _require(supercells, second)
    crystal, rng = supercells.crystal, np.random.default_rng(seed)
    groups: dict[int, list[tuple[Atoms, np.ndarray]]] = {}
    for matrix in nondiagonal_supercells(crystal, supercells.fc2_supercell):
        small = make_supercell(crystal, matrix)
        u = random_displacements(rng, small.n_atoms, SMALL)
        change = series_forces(crystal, small, u, folded(crystal, supercells.fc2_supercell, second, small))
        groups.setdefault(small.n_atoms, []).append((displaced(crystal, small, u), change))
    scales = (SCALES[0], SCALES[1] * SMALL / DISPLACEMENT, SCALES[2])
    # cells of one size together, to be compiled once
    return [f for group in groups.values() for f in _corrected(group, potential, scales)]


def nondiagonal_supercells(crystal: Crystal, supercell: Supercell) -> list[np.ndarray]:
    """Supercell matrices, compact, that together hold every q of a supercell up to the crystal's symmetry.

    A q that becomes a reciprocal vector when multiplied by N, and by nothing smaller, fits into N primitive cells.
    """
    lattice = np.asarray(crystal.lattice)
    rotations = space_group(crystal).point_group()
    found: list[np.ndarray] = []
    largest = round(abs(np.linalg.det(supercell.matrix)))

    def order(q: np.ndarray) -> int:
        return next(k for k in range(1, largest + 1) if _whole(k * q))

    points = [q - np.floor(q + 1e-9) for q in commensurate_points(crystal, supercell)]
    for q in sorted(points, key=lambda q: (-order(q), np.round(q, 6).tolist())):
        if any(_whole(matrix @ (rotation.T @ q)) for matrix in found for rotation in rotations):
            continue
        N = order(q)
        pairs = itertools.product([d for d in range(1, N + 1) if N % d == 0], repeat=2)
        matrix = next(
            m
            for a, b in pairs
            if N % (a * b) == 0
            for x, y, z in itertools.product(range(b), range(N // (a * b)), range(N // (a * b)))
            if _whole((m := np.array([[a, x, y], [0, b, z], [0, 0, N // (a * b)]])) @ q)
        )
        found.append(np.rint(minkowski_reduce(matrix @ lattice)[0] @ np.linalg.inv(lattice)).astype(int))
    return found


def folded(crystal: Crystal, large: Supercell, second: Array, small: Supercell) -> np.ndarray:
    """Compact Φ2 of one supercell in another: images are summed, or shared where several are nearest. (n, N_small, 3, 3)

    Exact for waves that both supercells hold; others are interpolated, as in phonon calculations.
    """
    lookup, second = Lookup(small), np.asarray(second)
    result = np.zeros((len(second), small.n_atoms, 3, 3))
    for i, images in enumerate(shortest_vectors(crystal, large)):
        for K, cells in enumerate(images):
            at = lookup(np.full(len(cells), large.primitive_index[K]), cells + small.lattice_vector[small.p2s_map[i]])
            np.add.at(result[i], at, second[i, K] / len(cells))
    return result


def series_forces(
    crystal: Crystal, supercell: Supercell, u: np.ndarray, second: Array, third: Array | None = None
) -> np.ndarray:  # fmt: skip
    """-Φ2 u - ½ Φ3 u u, for displacements (N, 3) and compact force constants of the same supercell. (N, 3)"""
    translations, homing = translation_table(crystal, supercell)
    forces = np.empty_like(u)
    for J, i in enumerate(supercell.primitive_index):
        seen = np.empty_like(u)  # as seen from the home atom
        seen[translations[homing[J]]] = u
        forces[J] = -np.einsum("kab,kb->a", np.asarray(second)[i], seen)
        if third is not None:
            forces[J] -= 0.5 * np.einsum("klabc,lc,kb->a", np.asarray(third)[i], seen, seen, optimize=True)
    return forces


def displaced(crystal: Crystal, supercell: Supercell, u: np.ndarray) -> Atoms:
    """The supercell with its atoms displaced by u (N, 3), Å."""
    cell = supercell.matrix @ np.asarray(crystal.lattice)
    return Atoms(
        np.asarray(crystal.numbers)[supercell.primitive_index], supercell.positions_in(crystal) + u, cell=cell, pbc=True
    )


def random_displacements(rng: np.random.Generator, atoms: int, length: float) -> np.ndarray:
    """Vectors of one length in random directions. (atoms, 3)"""
    u = rng.standard_normal((atoms, 3))
    return u * length / np.linalg.norm(u, axis=1, keepdims=True)


def _corrected(
    pairs: Sequence[tuple[Atoms, np.ndarray]], potential: Potential, scales: Sequence[float]
) -> list[Frame]:  # fmt: skip
    """Frames of structures of one size, with the potential's own forces and the changes added."""
    own = labelled([atoms for atoms, _ in pairs], potential, weights=(0.0, 1.0, 0.0), scales=scales)
    return [dataclasses.replace(f, forces=f.forces + change) for f, (_, change) in zip(own, pairs, strict=True)]


def _whole(x: np.ndarray) -> bool:
    return bool(np.allclose(x, np.rint(x), atol=1e-6))


def _require(supercells: Supercells, second: Array, third: Array | None = None) -> None:
    n, N2, N3 = supercells.crystal.n_atoms, supercells.fc2_supercell.n_atoms, supercells.fc3_supercell.n_atoms
    wanted: Sequence = [(np.shape(second), (n, N2, 3, 3))]
    if third is not None:
        wanted = [*wanted, (np.shape(third), (n, N3, N3, 3, 3, 3))]
    for given, shape in wanted:
        if given != shape:
            raise InputError(f"force constants of shape {given} do not belong to these supercells: {shape} is expected")


__all__ = [
    "displaced",
    "folded",
    "frames_from_force_constants",
    "nondiagonal_supercell_frames",
    "nondiagonal_supercells",
    "random_displacements",
    "series_forces",
]
