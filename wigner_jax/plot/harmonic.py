"""Panels of harmonic properties: bands, density of states, heat capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from ..errors import InputError
from ..physics import conductivity
from ..plan.band_path import mesh_points_on_path
from ..types import Crystal
from ..units import K_B
from .style import BLACK, BLUE, GREY, REFERENCE, Data, group
from .transport import SMOOTHING, spectrum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..reference import Reference


heat_capacity = jax.jit(conductivity.heat_capacity)
IMAGINARY = 0.05  # THz: less below zero is rounding, and is not shown
MOLAR = 8.314462618 / K_B  # J/(mol K) of one eV/K


def crystal_of(data: Data) -> Crystal | None:
    """The crystal that a file holds; phono3py's hold none."""
    found = group(data, "crystal")
    if found is None:
        return None
    numbers = tuple(int(z) for z in np.asarray(found["numbers"]))
    return Crystal(np.asarray(found["lattice"]), np.asarray(found["positions"]), np.asarray(found["masses"]), numbers)


CROWDED = 0.1  # of the path: ticks closer than this lean away from each other


def plot_bands(ax: Axes, data: Data, reference: Reference | None = None) -> None:
    """Bands along the high-symmetry path; the reference's frequencies where its mesh meets the path.

    Raises:
        InputError: the file holds no bands.
    """
    bands = group(data, "bands")
    if bands is None:
        raise InputError("the file has no bands", "make it anew where seekpath is installed, or draw the figure dos")
    distance, segment, frequency = (np.asarray(bands[k]) for k in ("distance", "segment", "frequency"))
    for number in np.unique(segment):
        on = segment == number
        ax.plot(distance[on], frequency[on], c=BLUE, lw=1.2)
    ticks = path_ticks(distance, segment, np.asarray(bands["label"]))
    for x, _ in ticks:
        ax.axvline(x, c=GREY, lw=0.5)
    crystal = crystal_of(data)
    if reference is not None and crystal is not None:
        where, which = mesh_points_on_path(np.asarray(bands["qpoint"]), distance, segment, crystal, reference.mesh)
        modes = reference.frequencies.shape[1]
        ax.plot(np.repeat(where, modes), reference.frequencies[which].ravel(), ls="", marker="o", ms=3, mfc="none",
                c=BLACK, mew=0.6, label="reference")  # fmt: skip
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), frameon=False, fontsize="small", handletextpad=0)
    if frequency.min() < -IMAGINARY:
        ax.axhline(0, c=GREY, lw=0.8)
    ax.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    for (x, _), (after, _), left, right in zip(
        ticks, ticks[1:], ax.get_xticklabels(), ax.get_xticklabels()[1:], strict=False
    ):
        if after - x < CROWDED * (distance[-1] - distance[0]):  # neighbours that would run into each other
            left.set_horizontalalignment("right")
            right.set_horizontalalignment("left")
    ax.set(xlim=(distance[0], distance[-1]), ylabel="frequency (THz)")
    ax.set_ylim(0.0 if frequency.min() > -IMAGINARY else 1.05 * float(frequency.min()), 1.05 * float(frequency.max()))
    ax.set_title("bands", loc="left")


def path_ticks(distance: np.ndarray, segment: np.ndarray, labels: np.ndarray) -> list[tuple[float, str]]:
    """(distance, label) of the ends of the segments; where the path jumps both labels stand there, U|K.

    Args:
        labels: (segments, 2) bytes, seekpath's names.
    """
    ticks: list[tuple[float, str]] = []
    for number, pair in enumerate(labels):
        x = distance[segment == number][[0, -1]]
        for position, name in zip(x, (pretty(n) for n in pair), strict=True):
            if ticks and abs(ticks[-1][0] - position) < 1e-9:
                if ticks[-1][1] != name:
                    ticks[-1] = (ticks[-1][0], f"{ticks[-1][1]}|{name}")
            else:
                ticks.append((float(position), name))
    return ticks


def pretty(name: bytes) -> str:
    """GAMMA → Γ, SIGMA_0 → Σ₀."""
    text = name.decode()
    for word, letter in (("GAMMA", "Γ"), ("SIGMA", "Σ"), ("DELTA", "Δ"), ("LAMBDA", "Λ")):
        text = text.replace(word, letter)
    head, _, index = text.partition("_")
    return head + index.translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def plot_dos(ax: Axes, data: Data, reference: Reference | None = None, sideways: bool = False) -> None:
    """Density of states of the mesh, states per THz and primitive cell, smoothed by Gaussians.

    Args:
        sideways: frequencies upwards, to stand beside bands.
    """
    frequency = np.asarray(data["frequency"])
    width = SMOOTHING * frequency.max()
    start = 0.0 if frequency.min() > -IMAGINARY else frequency.min() - 4 * width
    at = np.linspace(start, frequency.max() + 4 * width, 400)
    curves: list[tuple[np.ndarray, Data]] = []
    curves.append(
        (density_of_states(frequency, np.asarray(data["weight"]), at, width), {"c": BLUE, "label": "this file"})
    )
    if reference is not None:
        curves.append((density_of_states(reference.frequencies, reference.weights, at, width), REFERENCE))
    for curve, look in curves:
        ax.plot(*((curve, at) if sideways else (at, curve)), **look)
    if sideways:
        ax.set(xlim=(0, None), xlabel="states/THz")
        ax.tick_params(labelleft=False)
    else:
        ax.set(ylim=(0, None), xlim=(at[0], at[-1]), xlabel="frequency (THz)", ylabel="states per THz and cell")
        if reference is not None:
            ax.legend(frameon=False)
    ax.set_title("density of states" if not sideways else "DOS", loc="left")


def density_of_states(frequency: np.ndarray, weights: np.ndarray, at: np.ndarray, width: float) -> np.ndarray:
    """Its integral is the number of modes, m. (F,) 1/THz"""
    states = np.broadcast_to(weights[:, None], frequency.shape).astype(float)
    return np.asarray(spectrum(frequency, states, weights.sum(), at, width))


def molar_heat_capacity(frequency: np.ndarray, weights: np.ndarray, temperatures: np.ndarray) -> np.ndarray:
    """C_V of the mesh's modes in J/K per mole of atoms, 3R at high temperature. (T,)"""
    modes = np.asarray(heat_capacity(frequency, temperatures))
    return np.einsum("tps,p->t", modes, weights) / weights.sum() * MOLAR / (frequency.shape[1] / 3)


def plot_heat_capacity(ax: Axes, data: Data, reference: Reference | None = None) -> None:
    """C_V(T) of the frequencies in the file, and of the reference's; marks where it stores C_V itself."""
    frequency, weights = np.asarray(data["frequency"]), np.asarray(data["weight"], float)
    T = np.linspace(5.0, max(600.0, float(np.max(data["temperature"]))), 150)
    ax.plot(T, molar_heat_capacity(frequency, weights, T), c=BLUE, label="this file")
    if reference is not None:
        ax.plot(T, molar_heat_capacity(reference.frequencies, reference.weights, T), **REFERENCE)
        stored = np.einsum("tps,p->t", reference.heat_capacity, reference.weights) / reference.weights.sum()
        stored = stored * MOLAR / (reference.frequencies.shape[1] / 3)
        ax.plot(reference.temperatures, stored, c=BLACK, ls="", marker="D", mfc="none", label="reference, stored")
    ax.axhline(3 * MOLAR * K_B, c=GREY, lw=0.8, ls="--")
    ax.annotate("3R", (T[-1], 3 * MOLAR * K_B), xytext=(-2, 3), textcoords="offset points", ha="right", c=GREY)
    ax.set(xlabel="temperature (K)", ylabel=r"$C_V$ (J/K per mole of atoms)", xlim=(0, T[-1]), ylim=(0, 28))
    ax.set_title("heat capacity", loc="left")
    if reference is not None:
        ax.legend(frameon=False, loc="lower right")


__all__ = [
    "crystal_of",
    "density_of_states",
    "molar_heat_capacity",
    "path_ticks",
    "plot_bands",
    "plot_dos",
    "plot_heat_capacity",
]
