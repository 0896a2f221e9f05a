"""Figures of a conductivity: lifetimes, κ(T) with its parts, and cumulative κ. Needs matplotlib (extra `plot`).

Every function takes `data`, the datasets of a kappa file by name: ``read_kappa_hdf5(path)`` (ours or phono3py's), or
``io.kappa_hdf5.kappa_datasets(crystal, mesh, solution)`` without a file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2b5c8a", "#d1703c", "#6b6b6b"


def temperature_index(data: dict[str, Any], temperature: float | None) -> int:
    """Index of a temperature in the file; None means the one nearest to 300 K. InputError if it is not there."""
    T = np.asarray(data["temperature"])
    if temperature is None:
        return int(np.abs(T - 300).argmin())
    match = np.flatnonzero(np.abs(T - temperature) < 1e-6)
    if len(match) == 0:
        raise InputError(
            f"the file has no {temperature:g} K but {', '.join(f'{t:g}' for t in T)} K: choose one of them"
        )
    return int(match[0])


def total_gamma(data: dict[str, Any], index: int) -> np.ndarray:
    """Half widths of all processes in the file at one temperature, THz. (P, m)"""
    return sum(
        (np.asarray(data[k]) for k in ("gamma_isotope", "gamma_boundary") if k in data),
        np.asarray(data["gamma"])[index],
    )


def plot_lifetimes(ax: Axes, data: dict[str, Any], temperature: float | None = None) -> None:
    """Phonon lifetimes 1/(4πγ) against frequency, area by the weight of the point; 1/ω for comparison."""
    index = temperature_index(data, temperature)
    gamma, frequency = total_gamma(data, index), np.asarray(data["frequency"])
    shown = (gamma > 0) & (frequency > 1e-3)
    weight = np.broadcast_to(np.asarray(data["weight"], float)[:, None], gamma.shape)[shown]
    lifetime = 1 / (4 * np.pi * gamma[shown])
    ax.scatter(frequency[shown], lifetime, s=4 + 20 * weight / weight.max(), c=BLUE, alpha=0.55, lw=0)
    f = np.linspace(max(frequency[shown].min(), 0.02 * frequency.max()), frequency.max(), 200)
    ax.plot(f, 1 / (2 * np.pi * f), c=GREY, lw=1, ls="--", label="1/ω")
    ax.set(yscale="log", xlabel="frequency (THz)", ylabel="lifetime (ps)", xlim=(0, None))
    ax.set_title(f"lifetimes, {np.asarray(data['temperature'])[index]:g} K", loc="left")
    ax.legend(frameon=False)


def plot_kappa(ax: Axes, data: dict[str, Any]) -> None:
    """κ (a third of the trace) against temperature: total, populations, coherences. One temperature shows as bars."""
    T, parts = np.asarray(data["temperature"]), _parts(data)
    if len(T) == 1:
        values = [float(v[0]) for v, _, _ in parts.values()]
        bars = ax.bar(list(parts), values, color=[c for _, c, _ in parts.values()], width=0.6)
        ax.bar_label(bars, labels=[f"{v:.3g}" for v in values], padding=2)
        ax.set_title(f"conductivity, {T[0]:g} K", loc="left")
    else:
        for name, (value, color, style) in parts.items():
            ax.plot(T, value, c=color, ls=style, marker="o", ms=3, label=name)
        # κ_C may be a thousandth of κ_P: a logarithmic axis shows both, unless a value is zero
        ax.set(xlabel="temperature (K)", yscale="log" if all((v > 0).all() for v, _, _ in parts.values()) else "linear")
        ax.set_title("conductivity", loc="left")
        ax.legend(frameon=False)
    ax.set_ylabel("κ (W/(m K))")


def plot_cumulative(ax: Axes, data: dict[str, Any], temperature: float | None = None) -> None:
    """κ (a third of the trace) of the modes up to each frequency."""
    index = temperature_index(data, temperature)
    frequency, points = np.asarray(data["frequency"]).ravel(), np.prod(np.asarray(data["mesh"], float))
    order = frequency.argsort()
    for name, key, color, style in (
        (r"$\kappa_\mathrm{TOT}$", "mode_kappa", BLUE, "-"),
        (r"$\kappa_\mathrm{P}$", "mode_kappa_P_RTA", ORANGE, "--"),
    ):
        if key in data:
            modes = np.asarray(data[key])[index][..., :3].mean(axis=-1).ravel()
            ax.plot(
                frequency[order], modes[order].cumsum() / points, c=color, ls=style, label=name, drawstyle="steps-post"
            )
    ax.set(xlabel="frequency (THz)", ylabel="cumulative κ (W/(m K))", xlim=(0, None), ylim=(0, None))
    ax.set_title(f"cumulative, {np.asarray(data['temperature'])[index]:g} K", loc="left")
    ax.legend(frameon=False)


def summary_figure(data: dict[str, Any], temperature: float | None = None) -> Figure:
    """The three plots beside each other. A Figure without a window: ``summary_figure(data).savefig(path)``."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("figures need matplotlib: pip install 'wigner-jax[plot]'") from None
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    plot_lifetimes(axes[0], data, temperature)
    plot_kappa(axes[1], data)
    plot_cumulative(axes[2], data, temperature)
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _parts(data: dict[str, Any]) -> dict[str, tuple[np.ndarray, str, str]]:
    """Averages over the directions by name, with a colour and a line style; parts that the file lacks are left out."""
    found = {}
    for name, key, color, style in (
        (r"$\kappa_\mathrm{TOT}$", "kappa", BLUE, "-"),
        (r"$\kappa_\mathrm{P}$", "kappa_P_RTA", ORANGE, "--"),
        (r"$\kappa_\mathrm{C}$", "kappa_C", GREY, ":"),
    ):
        if key in data:
            found[name] = np.asarray(data[key])[:, :3].mean(axis=-1), color, style
    return found
