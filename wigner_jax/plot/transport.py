"""Panels of transport: lifetimes, κ(T), κ by frequency and mean free path, and the map of coherences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from ..errors import InputError
from ..physics import spectra
from .style import (
    BLACK,
    BLUE,
    GREY,
    PARTS,
    REFERENCE,
    VERMILION,
    Data,
    kelvin,
    mesh_points,
    name_in,
    need,
    part_of,
    reference_index,
    temperature_index,
    total_gamma,
    traced,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ..reference import Reference


spectrum, cumulative = jax.jit(spectra.spectrum), jax.jit(spectra.cumulative)
mean_free_path, coherence_map = jax.jit(spectra.mean_free_path), jax.jit(spectra.coherence_map)
SMOOTHING = 0.015  # of the highest frequency: width of the Gaussians that make a spectrum, or a density of states


def plot_lifetimes(ax: Axes, data: Data, temperature: float | None = None) -> None:
    """Phonon lifetimes τ = 1/(4πγ) against frequency, area by the weight of the point, and the limits of their regimes.

    Below 1/τ = Δω_avg (the Wigner limit) coherences carry heat beside the populations; below 1/τ = ω (Ioffe-Regel)
    there are no quasiparticles.
    """
    need(data, "lifetimes", "gamma")
    index = temperature_index(data, temperature)
    gamma, frequency = total_gamma(data, index), np.asarray(data["frequency"])
    shown = (gamma > 0) & (frequency > 1e-3)
    if not shown.any():
        raise InputError(f"no mode has a linewidth at {kelvin(data, index)}", "choose another temperature")
    weight = np.broadcast_to(np.asarray(data["weight"], float)[:, None], gamma.shape)[shown]
    lifetime = 1 / (4 * np.pi * gamma[shown])
    ax.scatter(frequency[shown], lifetime, s=3 + 16 * weight / weight.max(), c=BLUE, alpha=0.5, lw=0)
    f = np.linspace(max(frequency[shown].min(), 0.02 * frequency.max()), frequency.max(), 200)
    wigner = 1 / (2 * np.pi * float(spectra.band_spacing(frequency)))
    ax.axhline(wigner, c=VERMILION, lw=1, ls="-.", label=r"$1/\tau=\Delta\omega_\mathrm{avg}$ (Wigner)")
    ax.plot(f, 1 / (2 * np.pi * f), c=GREY, lw=1, ls="--", label=r"$1/\tau=\omega$ (Ioffe–Regel)")
    ax.set(yscale="log", xlabel="frequency (THz)", ylabel="lifetime (ps)", xlim=(0, None))
    low, high = ax.get_ylim()
    ax.set_ylim(low, high * (high / low) ** 0.2)  # room for the legend
    ax.set_title(f"lifetimes, {kelvin(data, index)}", loc="left")
    ax.legend(frameon=False, loc="upper right", fontsize="small")


def plot_kappa(ax: Axes, data: Data, reference: Reference | None = None) -> None:
    """κ (an average over directions) against temperature: total, populations, coherences. One temperature shows as bars."""
    T = np.asarray(data["temperature"])
    found = [(n, part_of(data, k), c, s) for n, k, _, c, s in PARTS]
    parts = [(n, traced(data, value), c, s) for n, value, c, s in found if value is not None]
    if not parts:
        need(data, "κ(T)", "kappa")
    if len(T) == 1:
        bars = [(name, float(value[0]), color) for name, value, color, _ in parts]
        row = reference_index(reference, data, 0)
        if reference is not None and row is not None:
            bars.append(("reference", float(reference.kappa[row]), "white"))
        shown = ax.bar([b[0] for b in bars], [b[1] for b in bars], color=[b[2] for b in bars], width=0.6,
                       ec=[BLACK if b[2] == "white" else b[2] for b in bars])  # fmt: skip
        ax.bar_label(shown, labels=[f"{b[1]:.3g}" for b in bars], padding=2)
        ax.set_title(f"conductivity, {kelvin(data, 0)}", loc="left")
        ax.margins(y=0.1)
    else:
        for name, value, color, style in parts:
            ax.plot(T, value, c=color, ls=style, marker="o", ms=3, label=name)
        if reference is not None:
            ax.plot(reference.temperatures, reference.kappa, c=BLACK, ls="", marker="D", mfc="none", label="reference")
        # κ_C may be a thousandth of κ_P: a logarithmic axis shows both, unless a value is zero
        ax.set(xlabel="temperature (K)", yscale="log" if all((v > 0).all() for _, v, _, _ in parts) else "linear")
        ax.set_title("conductivity", loc="left")
        ax.legend(frameon=False)
    ax.set_ylabel("κ (W/(m K))")


def mode_averages(data: Data, name: str, index: int) -> np.ndarray:
    """Averages over directions of mode conductivities at one temperature; pairs of modes shared equally. (P, m)"""
    modes = traced(data, np.asarray(data[name])[index])
    return modes if modes.ndim == 2 else (modes.sum(axis=1) + modes.sum(axis=2)) / 2


def _need_modes(data: Data, what: str) -> None:
    if not any(name_in(data, key) for _, _, key, _, _ in PARTS):
        need(data, what, "mode_kappa")


def plot_spectrum(ax: Axes, data: Data, temperature: float | None = None, reference: Reference | None = None) -> None:
    """κ by frequency, smoothed by Gaussians: the area under a curve is its κ."""
    _need_modes(data, "the spectrum")
    index = temperature_index(data, temperature)
    frequency = np.asarray(data["frequency"])
    width = SMOOTHING * frequency.max()
    at = np.linspace(0, frequency.max() + 4 * width, 400)
    for name, _, wanted, color, style in PARTS:
        if key := name_in(data, wanted):
            curve = spectrum(frequency, mode_averages(data, key, index), mesh_points(data), at, width)
            ax.plot(at, curve, c=color, ls=style, label=name)
    row = reference_index(reference, data, index)
    if reference is not None and row is not None:
        points = reference.weights.sum()
        curve = spectrum(reference.frequencies, reference.mode_kappa[row], points, at, width)
        ax.plot(at, curve, **REFERENCE)
    ax.set(xlabel="frequency (THz)", ylabel="κ by frequency (W/(m K THz))", xlim=(0, at[-1]), ylim=(0, None))
    ax.set_title(f"spectrum, {kelvin(data, index)}", loc="left")
    ax.legend(frameon=False)


def plot_cumulative(ax: Axes, data: Data, temperature: float | None = None, reference: Reference | None = None) -> None:
    """κ (a third of the trace) of the modes up to each frequency."""
    _need_modes(data, "cumulative κ")
    index = temperature_index(data, temperature)
    frequency = np.asarray(data["frequency"])
    for name, _, wanted, color, style in PARTS:
        if key := name_in(data, wanted):
            ax.plot(
                *cumulative(frequency, mode_averages(data, key, index), mesh_points(data)),
                c=color, ls=style, label=name, drawstyle="steps-post",
            )  # fmt: skip
    row = reference_index(reference, data, index)
    if reference is not None and row is not None:
        points = reference.weights.sum()
        ax.plot(
            *cumulative(reference.frequencies, reference.mode_kappa[row], points), drawstyle="steps-post", **REFERENCE
        )
    ax.set(xlabel="frequency (THz)", ylabel="cumulative κ (W/(m K))", xlim=(0, None), ylim=(0, None))
    ax.set_title(f"cumulative, {kelvin(data, index)}", loc="left")
    ax.legend(frameon=False)


def plot_free_paths(ax: Axes, data: Data, temperature: float | None = None) -> None:
    """κ_P of the modes up to each mean free path; coherences have none."""
    key = name_in(data, "mode_kappa_P_RTA") or "mode_kappa"
    need(data, "mean free paths", "gv_by_gv", "gamma", key)
    index = temperature_index(data, temperature)
    paths = np.asarray(mean_free_path(data["gv_by_gv"], data["weight"], data["frequency"], total_gamma(data, index)))
    modes = mode_averages(data, key, index)
    counts = np.isfinite(paths) & (paths > 0) & (modes > 0)
    if not counts.any():
        raise InputError(f"no mode carries heat at {kelvin(data, index)}", "choose another temperature")
    x, y = cumulative(paths[counts], modes[counts], mesh_points(data))
    ax.plot(x, y, c=VERMILION, drawstyle="steps-post")
    start = np.asarray(x)[np.asarray(y) > 1e-3 * y[-1]][0]
    ax.set(xscale="log", xlabel="mean free path (nm)", ylabel=r"cumulative $\kappa_\mathrm{P}$ (W/(m K))",
           ylim=(0, None), xlim=(start, 1.5 * x[-1]))  # fmt: skip
    ax.set_title(f"mean free paths, {kelvin(data, index)}", loc="left")


def coherences(data: Data, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The map of coherences at one temperature and the edges of its bins: as stored, or from the pairs of modes.

    Raises:
        InputError: the file has neither (the Boltzmann equation has no coherences).
    """
    if "kappa_C_map" in data and "kappa_C_map_edges" in data:
        return np.asarray(data["kappa_C_map"])[index], np.asarray(data["kappa_C_map_edges"])
    if "mode_kappa_C" not in data:
        raise InputError("the file has no coherences (kappa_C_map, mode_kappa_C)", "give one of wigner-jax kappa -o")
    frequency = np.asarray(data["frequency"])
    edges = np.asarray(spectra.bin_edges(frequency))
    pairs = np.asarray(data["mode_kappa_C"])[index : index + 1, ..., :3].mean(axis=-1)
    return np.asarray(coherence_map(frequency, pairs, mesh_points(data), edges))[0], edges


def plot_coherences(ax: Axes, data: Data, temperature: float | None = None) -> None:
    """κ_C by the frequencies of the two modes: its integral over both is κ_C."""
    from matplotlib.colors import LogNorm

    index = temperature_index(data, temperature)
    cells, edges = coherences(data, index)
    density = cells / np.diff(edges)[:, None] / np.diff(edges)
    top = density.max() if density.max() > 0 else 1.0
    drawn = ax.pcolormesh(edges, edges, np.where(density > 0, density, np.nan), cmap="Blues", rasterized=True,
                          norm=LogNorm(1e-4 * top, top))  # fmt: skip
    assert ax.figure is not None
    ax.figure.colorbar(drawn, ax=ax, label="W/(m K THz²)", extend="min", shrink=0.9)
    ax.plot(edges[[0, -1]], edges[[0, -1]], c=GREY, lw=0.6)
    ax.set(aspect="equal", xlabel="frequency (THz)", ylabel="frequency (THz)")
    ax.set_title(rf"$\kappa_\mathrm{{C}}$ = {cells.sum():.3g} W/(m K), {kelvin(data, index)}", loc="left")


__all__ = [
    "coherences",
    "mode_averages",
    "plot_coherences",
    "plot_cumulative",
    "plot_free_paths",
    "plot_kappa",
    "plot_lifetimes",
    "plot_spectrum",
]
