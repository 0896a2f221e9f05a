"""What a conductivity (or any loss) comes from: shells of force constants, modes, training frames.

With the cotangents Φ̄ = ∂L/∂Φ of training.value_and_grad, the share of a set S of force constants,

    A_S = Σ_{Φ in S} Φ̄ Φ = dL/d ln(a factor on all of S),

adds up over disjoint sets to that of a factor on all of them. For L = ln κ_P without isotopes and boundaries the shares of
Φ3 add up to -2 exactly: linewidths go with its square.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from ..crystal.elements import SYMBOLS
from .frames import frame_value_and_grad
from .on_conductivity.gradient import _harmonic

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._core.pytree import Array
    from ..potentials.base import Energy, Params
    from ..solution import Solution
    from ..types import Crystal, ForceConstants, Supercell
    from .frames import Frame
    from .on_conductivity.material import Material


SHELL = 1e-3  # Å: distances closer than this are one shell


class Shells(NamedTuple):
    """Sets of pairs or triplets that are alike: same elements at the same distances. S of them, by distance."""

    labels: tuple[str, ...]  #: "Li-Br 2.76", "Li-Br-Li 2.76 2.76 3.90"
    distances: np.ndarray  #: (S, 1) Å for pairs, (S, 3) ascending for triplets; 0 of an atom with itself
    counts: np.ndarray  #: (S,) pairs or triplets with one atom in the home cell
    share: np.ndarray  #: (S,) Σ Φ̄ Φ, in units of L
    gradient: np.ndarray  #: (S,) Frobenius norm of Φ̄, L per eV/Å² or eV/Å³

    def largest(self, count: int) -> list[tuple[str, float]]:
        """The shells with the largest shares, in size."""
        order = np.argsort(-np.abs(self.share), kind="stable")[:count]
        return [(self.labels[k], float(self.share[k])) for k in order]

    def __repr__(self) -> str:
        some = "".join(f"\n  {share:+.4f}  {label}" for label, share in self.largest(5))
        return f"Shells({len(self.labels)} shells, shares add up to {self.share.sum():+.4f}; the largest:{some})"


def distances(crystal: Crystal, supercell: Supercell) -> np.ndarray:
    """Between every two atoms of a supercell and their nearest images, Å. (N, N)"""
    lattice = supercell.matrix @ np.asarray(crystal.lattice)
    positions = supercell.positions_in(crystal)
    apart = (positions[:, None] - positions[None]) @ np.linalg.inv(lattice)
    apart -= np.rint(apart)
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    return np.min([np.linalg.norm((apart + step) @ lattice, axis=-1) for step in steps], axis=0)


def pair_shells(material: Material, fc: ForceConstants, bars: ForceConstants) -> Shells:
    """Shares of Φ2 by elements and distance. Args: bars, cotangents of the same shapes as `fc`."""
    cells = material.supercells
    near = distances(cells.crystal, cells.fc2_supercell)[cells.fc2_supercell.p2s_map]  # (n, N)
    numbers = np.asarray(cells.crystal.numbers)
    kinds = np.stack(np.broadcast_arrays(numbers[:, None], numbers[cells.fc2_supercell.primitive_index][None]), axis=-1)
    return _gather(
        near[..., None], kinds, np.asarray(fc.fc2), np.asarray(bars.fc2), tuple(range(near.ndim, near.ndim + 2))
    )


def triplet_shells(material: Material, fc: ForceConstants, bars: ForceConstants) -> Shells:
    """Shares of Φ3 by elements and the three distances, ascending."""
    cells = material.supercells
    near = distances(cells.crystal, cells.fc3_supercell)
    home = near[cells.fc3_supercell.p2s_map]
    sides = np.stack(np.broadcast_arrays(home[:, :, None], home[:, None, :], near[None]), axis=-1)
    numbers = np.asarray(cells.crystal.numbers)
    others = numbers[cells.fc3_supercell.primitive_index]
    kinds = np.stack(np.broadcast_arrays(numbers[:, None, None], others[None, :, None], others[None, None]), axis=-1)
    return _gather(np.sort(sides, axis=-1), kinds, np.asarray(fc.fc3), np.asarray(bars.fc3), (3, 4, 5))


def _gather(sides: np.ndarray, kinds: np.ndarray, phi: np.ndarray, bar: np.ndarray, axes: tuple[int, ...]) -> Shells:
    """Sums over all entries with the same elements (in any order) and the same sides."""
    share = np.sum(phi * bar, axis=axes).ravel()
    square = np.sum(bar**2, axis=axes).ravel()
    sides = sides.reshape(-1, sides.shape[-1])
    kinds = np.sort(kinds.reshape(-1, kinds.shape[-1]), axis=-1)
    key = np.concatenate([np.rint(sides / SHELL).astype(int), kinds], axis=1)
    _, first, group, counts = np.unique(key, axis=0, return_index=True, return_inverse=True, return_counts=True)
    group = group.ravel()
    labels = tuple(
        "-".join(SYMBOLS[int(z)] for z in kinds[k]) + " " + " ".join(f"{d:.2f}" for d in sides[k]) for k in first
    )
    total = np.bincount(group, share, len(first))
    return Shells(labels, sides[first], counts, total, np.sqrt(np.bincount(group, square, len(first))))


class ModeShares(NamedTuple):
    """Shares of single modes at the irreducible points, stars included."""

    frequencies: np.ndarray  #: (P, m) THz
    three_phonon: np.ndarray  #: (T, P, m) dL/d ln γ of three phonons, at fixed frequencies and velocities
    isotope: np.ndarray  #: (P, m) dL/d ln γ of isotopes, all temperatures together
    kappa: np.ndarray  #: (T, P, m) the modes' own conductivities, W/(m K)

    def __repr__(self) -> str:
        share = np.abs(self.three_phonon).sum(axis=0)
        middle = np.sum(share * self.frequencies) / max(share.sum(), 1e-300)
        points, bands = self.frequencies.shape
        return (
            f"ModeShares({points} points, {bands} bands; shares of three phonons add up to {self.three_phonon.sum():+.4f},"
            f" of isotopes to {self.isotope.sum():+.4f}, at {middle:.2f} THz on average)"
        )


def mode_shares(
    material: Material, solution: Solution, fc: ForceConstants, loss: Callable[[Solution], tuple[Array, Any]]
) -> ModeShares:
    """What each mode's linewidth does to L. For L = ln κ_P all shares add up to -1."""
    from ..metrics import mode_kappa

    gamma = solution.linewidths
    inputs = (gamma.three_phonon, gamma.isotope)

    def value(three: Array, isotope: Array) -> Array:
        return loss(_harmonic(material, fc, material.conditions, three, isotope))[0]

    three, isotope = jax.grad(value, argnums=(0, 1))(*inputs)
    points = np.asarray(material.plan.mesh.irreducible)
    return ModeShares(
        np.asarray(solution.phonons.frequencies)[points],
        np.asarray(three * gamma.three_phonon),
        np.asarray(isotope * gamma.isotope),
        np.asarray(mode_kappa(solution.conductivity)),
    )


def frame_influence(
    energy: Energy, params: Params, frozen: Params, frames: Sequence[Frame], slope: Params
) -> np.ndarray:
    """How L would change if the potential took a small gradient step on one frame: -⟨∂L/∂θ, ∂L_frame/∂θ⟩. (frames,)

    The frame with the largest value (in size) moves the conductivity most. Args: slope, ∂L/∂θ of `value_and_grad`.
    """
    result = []
    for frame in frames:
        _, other = frame_value_and_grad(energy, params, frozen, frame)
        pairs = zip(jax.tree.leaves(slope), jax.tree.leaves(other), strict=True)
        result.append(-sum(float(np.vdot(a, b)) for a, b in pairs))
    return np.array(result)


def plot_shells(axes: Any, shells: Shells, count: int = 12) -> None:
    """Horizontal bars of the largest shares on matplotlib axes."""
    rows = shells.largest(count)[::-1]
    axes.barh([label for label, _ in rows], [share for _, share in rows], color="tab:blue")
    axes.axvline(0, color="k", lw=0.5)
    axes.set_xlabel("dL / d ln Φ")


def plot_modes(axes: Any, shares: ModeShares, row: int = 0) -> None:
    """Shares of three-phonon linewidths against frequency, one point a mode."""
    axes.plot(shares.frequencies.ravel(), shares.three_phonon[row].ravel(), ".", alpha=0.6)
    axes.set(xlabel="frequency (THz)", ylabel="dL / d ln γ")


__all__ = [
    "ModeShares",
    "Shells",
    "distances",
    "frame_influence",
    "mode_shares",
    "pair_shells",
    "plot_modes",
    "plot_shells",
    "triplet_shells",
]
