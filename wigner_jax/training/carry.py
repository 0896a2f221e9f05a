"""Frames that carry force constants to a potential: forces of displaced cells, from a Taylor series.

Where only force constants are known (from a reference's modes, or another code's file) and a potential is to have them, its
forces F(θ0) on displaced cells are corrected by what the wanted changes of Φ2 and Φ3 make of them,

    F = F(θ0) - ΔΦ2 u - ½ ΔΦ3 u u,

so that everything of higher order stays the potential's own. `least_change` or `finetune` then take these frames.

Two kinds are needed. The supercell of Φ3 holds ΔΦ3, and ΔΦ2 as far as its own q-points go. The supercell of Φ2 is usually
larger: its further waves are carried by the smallest cells that hold each of them (non-diagonal supercells of a few atoms,
Lloyd-Williams and Monserrat, Phys. Rev. B 92, 184301 (2015)), displaced so little that ΔΦ3 does not matter.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from ..errors import InputError
from ..physics.fit import apply
from ..plan.cells import make_supercell, shortest_vectors
from ..plan.nac import commensurate_points
from ..plan.patterns import plan_fit
from ..plan.symmetry import space_group
from .frames import SCALES, labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..potentials.base import Potential
    from ..types import Array, Cells, Crystal, Supercell
    from .frames import Frame

DISPLACEMENT, SMALL = 0.03, 0.003  # Å, of every atom


def carrying_frames(
    potential: Potential, cells: Cells, second: Array, third: Array, count: int = 3, seed: int = 0
) -> list[Frame]:
    """Frames of the Φ3 supercell, every atom displaced by 0.03 Å in a random direction.

    Args:
        second, third: wanted changes of the potential's compact Φ2 and Φ3, in their supercells.

    Raises:
        InputError: changes of another shape; no frames.
    """
    _require(cells, second, third)
    if count < 1:
        raise InputError(f"at least one frame is needed, got {count}")
    crystal, small = cells.crystal, cells.fc3
    change2, change3 = jnp.asarray(folded(cells, second)), jnp.asarray(third)
    fit2, fit3 = (plan_fit(crystal, small, order)[0] for order in (2, 3))
    rng = np.random.default_rng(seed)
    moves = [_directions(rng, small.n_atoms, DISPLACEMENT) for _ in range(count)]
    frames = []
    for frame, u in zip(labelled([_atoms(crystal, small, u) for u in moves], potential, weights=(0.0, 1.0, 0.0)), moves,
                        strict=True):  # fmt: skip
        one = apply(dataclasses.replace(fit2, patterns=jnp.asarray(u)[None, None]), change2)[0]
        two = apply(dataclasses.replace(fit3, patterns=jnp.asarray(np.stack([u, u]))[None]), change3)[0]
        frames.append(dataclasses.replace(frame, forces=frame.forces - np.asarray(one + 0.5 * two)))
    return frames


def wave_frames(potential: Potential, cells: Cells, second: Array, seed: int = 1) -> list[Frame]:
    """Frames of `wave_cells`, every atom displaced by 0.003 Å in a random direction, with the change of Φ2 alone.

    Scales are smaller with the displacement, so that a frame weighs as much as one of `carrying_frames`.

    Args:
        second: wanted change of the potential's compact Φ2, in its supercell.

    Raises:
        InputError: a change of another shape.
    """
    _require(cells, second)
    rng = np.random.default_rng(seed)
    groups: dict[int, list[tuple[Atoms, np.ndarray]]] = {}
    for matrix in wave_cells(cells.crystal, cells.fc2):
        small = make_supercell(cells.crystal, matrix)
        u = _directions(rng, small.n_atoms, SMALL)
        made = (_atoms(cells.crystal, small, u), linear_forces(cells.crystal, cells.fc2, second, small, u))
        groups.setdefault(small.n_atoms, []).append(made)
    scales = (SCALES[0], SCALES[1] * SMALL / DISPLACEMENT, SCALES[2])
    frames = []
    for group in groups.values():  # cells of one size, to be compiled once
        own = labelled([atoms for atoms, _ in group], potential, weights=(0.0, 1.0, 0.0), scales=scales)
        frames += [dataclasses.replace(f, forces=f.forces + F) for f, (_, F) in zip(own, group, strict=True)]
    return frames


def wave_cells(crystal: Crystal, supercell: Supercell) -> list[np.ndarray]:
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


def linear_forces(crystal: Crystal, large: Supercell, second: Array, small: Supercell, u: np.ndarray) -> np.ndarray:
    """-Φ2 u, for Φ2 in one supercell and displacements (N, 3) that repeat with another. (N, 3)

    Exact for any waves that both supercells hold; others are interpolated, as in phonon calculations, with Φ2 shared among
    the nearest images of an atom.
    """
    place, second = _placing(small), np.asarray(second)
    index = {place(a, t): J for J, (a, t) in enumerate(zip(small.atom, small.cell, strict=True))}
    images = shortest_vectors(crystal, large)
    forces = np.zeros_like(u)
    for J, (i, t) in enumerate(zip(small.atom, small.cell, strict=True)):
        for K, a in enumerate(large.atom):
            mean = np.mean([u[index[place(a, R + t)]] for R in images[i][K]], axis=0)
            forces[J] -= second[i, K] @ mean
    return forces


def folded(cells: Cells, second: Array) -> np.ndarray:
    """Compact Φ2 of its own supercell in that of Φ3: images are summed, or shared where several are nearest. (n, N3, 3, 3)"""
    large, small = cells.fc2, cells.fc3
    place, second = _placing(small), np.asarray(second)
    index = {place(a, t): J for J, (a, t) in enumerate(zip(small.atom, small.cell, strict=True))}
    images = shortest_vectors(cells.crystal, large)
    result = np.zeros((len(second), small.n_atoms, 3, 3))
    for i in range(len(second)):
        home = small.cell[small.home[i]]
        for K, a in enumerate(large.atom):
            for R in images[i][K]:
                result[i, index[place(a, R + home)]] += second[i, K] / len(images[i][K])
    return result


def _placing(supercell: Supercell) -> Callable[[int, np.ndarray], tuple[int, ...]]:
    """(atom, cell) → the same for all periodic images in a supercell."""
    inverse = np.linalg.inv(supercell.matrix)

    def place(atom: int, cell: np.ndarray) -> tuple[int, ...]:
        inside = cell @ inverse
        inside = (inside - np.floor(inside + 1e-9)) @ supercell.matrix
        return (int(atom), *(int(x) for x in np.rint(inside)))

    return place


def _atoms(crystal: Crystal, supercell: Supercell, u: np.ndarray) -> Atoms:
    lattice = np.asarray(crystal.lattice)
    positions = (np.asarray(crystal.positions)[supercell.atom] + supercell.cell) @ lattice + u
    return Atoms(np.asarray(crystal.numbers)[supercell.atom], positions, cell=supercell.matrix @ lattice, pbc=True)


def _directions(rng: np.random.Generator, atoms: int, length: float) -> np.ndarray:
    u = rng.standard_normal((atoms, 3))
    return u * length / np.linalg.norm(u, axis=1, keepdims=True)


def _whole(x: np.ndarray) -> bool:
    return bool(np.allclose(x, np.rint(x), atol=1e-6))


def _require(cells: Cells, second: Array, third: Array | None = None) -> None:
    n, N2, N3 = cells.crystal.n_atoms, cells.fc2.n_atoms, cells.fc3.n_atoms
    wanted: Sequence = [(np.shape(second), (n, N2, 3, 3))]
    if third is not None:
        wanted = [*wanted, (np.shape(third), (n, N3, N3, 3, 3, 3))]
    for given, shape in wanted:
        if given != shape:
            raise InputError(f"force constants of shape {given} do not belong to these supercells: {shape} is expected")


__all__ = ["carrying_frames", "folded", "linear_forces", "wave_cells", "wave_frames"]
