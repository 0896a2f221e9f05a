"""Whole figures of one compound, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..crystal.elements import formula_of
from ..errors import InputError, say
from .harmonic import plot_bands, plot_dos, plot_heat_capacity
from .spectral_map import plot_spectral_map
from .style import GREY, Data, group, need, new_figure, open_frame, temperature_index
from .transport import plot_coherences, plot_cumulative, plot_free_paths, plot_kappa, plot_lifetimes, plot_spectrum

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec

    from ..reference import Reference


FIGURES = {
    "summary": "lifetimes, κ(T) and cumulative κ",
    "lifetimes": "lifetimes against frequency, with the Wigner and Ioffe-Regel limits",
    "kappa": "κ against temperature, populations and coherences apart",
    "spectral": "κ by frequency, cumulative by frequency and by mean free path",
    "coherence": "κ_C by the frequencies of the two modes",
    "bands": "bands along the high-symmetry path, and density of states",
    "dos": "density of states",
    "spectral-map": "spectral function along the path, of files made with --spectra",
    "heat-capacity": "C_V against temperature",
    "all": "bands, C_V, lifetimes, κ, spectrum and coherences on one page",
}
NO_BANDS = "bands, which are in files made where seekpath is installed"
SINGLE = (4.6, 3.6)  # inches, of one panel


def make_figure(
    name: str, data: Data, temperature: float | None = None, reference: Reference | None = None
) -> Figure:  # fmt: skip
    """One of `FIGURES`. A Figure without a window: ``make_figure("bands", data).savefig(path)``.

    Args:
        data: of ``read_kappa_hdf5``, or ``io.kappa_hdf5.kappa_datasets``.
        temperature: K, of what holds for one temperature; by default the one nearest to 300 K.
        reference: drawn beside; it must be on the same mesh.

    Warns:
        AccuracyWarning: some panels of a figure of several cannot be drawn from what the file has; their places say so.

    Raises:
        InputError: no such figure; the file lacks what it needs, or the temperature; another mesh than the reference's.
    """
    if name not in FIGURES:
        raise InputError(f"no figure {name!r}", f"choose from {', '.join(FIGURES)}")
    if temperature is not None:
        temperature_index(data, temperature)
    if reference is not None:
        need(data, "a reference", "mesh")
        reference.require_mesh(data["mesh"], data.get("qpoint"))
    if name == "summary":
        figure = summary_figure(data, temperature, reference)
    elif name == "spectral":
        figure = _row_of(
            lambda ax: plot_spectrum(ax, data, temperature, reference),
            lambda ax: plot_cumulative(ax, data, temperature, reference),
            lambda ax: plot_free_paths(ax, data, temperature),
        )
    elif name == "all":
        figure = _all(data, temperature, reference)
    elif name == "spectral-map":
        figure = new_figure(6.4, 3.8)
        plot_spectral_map(figure.subplots(), data, temperature)
    elif name == "bands":
        figure = new_figure(6.4, 3.8)
        _bands_and_dos(figure, figure.add_gridspec(1, 1)[0], data, reference)
    else:
        figure = new_figure(*SINGLE)
        ax = figure.subplots()
        {
            "lifetimes": lambda: plot_lifetimes(ax, data, temperature),
            "kappa": lambda: plot_kappa(ax, data, reference),
            "coherence": lambda: plot_coherences(ax, data, temperature),
            "dos": lambda: plot_dos(ax, data, reference),
            "heat-capacity": lambda: plot_heat_capacity(ax, data, reference),
        }[name]()
    if name not in ("bands", "coherence", "summary", "spectral-map"):
        for ax in figure.axes:
            open_frame(ax)
    figure.suptitle(caption(data), x=0.01, ha="left", fontsize=8, color=GREY)
    return figure


def caption(data: Data) -> str:
    """What the figure shows, in a line: compound, model, mesh, as far as the file says."""
    known, crystal = data.get("attributes", {}), group(data, "crystal")
    parts = []
    if crystal is not None and "numbers" in crystal:
        parts.append(formula_of(crystal["numbers"]))
    parts += [str(known[name]) for name in ("model",) if known.get(name)]
    if "mesh" in data:
        parts.append("mesh " + "×".join(str(int(n)) for n in np.ravel(data["mesh"])))
    return ", ".join(parts)


def summary_figure(data: Data, temperature: float | None = None, reference: Reference | None = None) -> Figure:
    """Lifetimes, κ(T) and cumulative κ beside each other."""
    figure = _row_of(
        lambda ax: plot_lifetimes(ax, data, temperature),
        lambda ax: plot_kappa(ax, data, reference),
        lambda ax: plot_cumulative(ax, data, temperature, reference),
    )
    for ax in figure.axes:
        open_frame(ax)
    return figure


def _row_of(*panels: Callable[[Axes], None]) -> Figure:
    """Panels beside each other."""
    figure = new_figure(11, 3.4)
    _draw(list(zip(figure.subplots(1, len(panels)), panels, strict=True)))
    return figure


def _draw(panels: list[tuple[Axes, Callable[[Axes], None]]], lacking: tuple[str, ...] = ()) -> None:
    """Draw each panel in its place; what the file lacks for one is said there, and in one warning for all.

    Args:
        lacking: what else is not drawn.

    Raises:
        InputError: none of them can be drawn.
    """
    refused: list[InputError] = []
    for ax, draw in panels:
        try:
            draw(ax)
        except InputError as error:
            refused.append(error)
            ax.clear()
            ax.set_axis_off()
            ax.text(
                0.5, 0.5, error.found, ha="center", va="center", wrap=True, c=GREY, size="small", transform=ax.transAxes
            )
    if len(refused) == len(panels):
        raise refused[0]
    if missing := [*lacking, *(error.found for error in refused)]:
        say(f"not drawn: {'; '.join(missing)}")


def _bands_and_dos(figure: Figure, place: SubplotSpec, data: Data, reference: Reference | None) -> None:
    """Bands with the density of states beside them, on one axis of frequencies."""
    cells = place.subgridspec(1, 2, width_ratios=(3.4, 1), wspace=0.04)
    left = figure.add_subplot(cells[0])
    plot_bands(left, data, reference)
    plot_dos(figure.add_subplot(cells[1], sharey=left), data, reference, sideways=True)


def _all(data: Data, temperature: float | None, reference: Reference | None) -> Figure:
    """Six panels. Without bands, which is said, the density of states stands alone; without coherences, mean free paths."""
    figure = new_figure(13, 7.4)
    grid = figure.add_gridspec(2, 3)
    panels: list[Callable[[Axes], None]] = [
        lambda ax: plot_heat_capacity(ax, data, reference),
        lambda ax: plot_lifetimes(ax, data, temperature),
        lambda ax: plot_kappa(ax, data, reference),
        lambda ax: plot_spectrum(ax, data, temperature, reference),
    ]
    if "kappa_C_map" in data or "mode_kappa_C" in data:
        panels.append(lambda ax: plot_coherences(ax, data, temperature))
    else:
        panels.append(lambda ax: plot_free_paths(ax, data, temperature))
    if group(data, "bands") is not None:
        _bands_and_dos(figure, grid[0, 0], data, reference)
    else:
        plot_dos(figure.add_subplot(grid[0, 0]), data, reference)
    lacking = () if group(data, "bands") is not None else (NO_BANDS,)
    _draw([(figure.add_subplot(grid[k // 3, k % 3]), panel) for k, panel in enumerate(panels, 1)], lacking)
    return figure


__all__ = [
    "FIGURES",
    "make_figure",
    "summary_figure",
]
