"""The figure of a convergence study."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..plot.style import BLUE, GREY, VERMILION, new_figure, open_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .study import Convergence

AXES = {
    "mesh": "1/N, N points along each vector",
    "fc2": "atoms in the supercell of Φ2",
    "fc3": "atoms in the supercell of Φ3",
    "cutoff": "cutoff of Φ3 (Å)",
}


def convergence_figure(study: Convergence, title: str = "") -> Figure:
    """κ (a third of the trace) against 1/N or the number of atoms, with the extrapolated value and its uncertainty."""
    figure = new_figure(4.8, 3.6)
    ax = figure.subplots()
    size = np.array([s.size for s in study.steps])
    x = 1 / size if study.over == "mesh" else size
    ax.plot(x, [s.average for s in study.steps], "o-", c=BLUE, lw=1, ms=4)
    value, more = study.average, study.uncertainty
    if np.isfinite(more):
        ax.axhspan(value - more, value + more, color=VERMILION, alpha=0.15, lw=0)
        ax.axhline(value, c=VERMILION, lw=1, ls="--")
    if study.over == "mesh" and study.law.startswith("κ linear"):
        end = float(x[-3])
        last = np.polyfit(x[-3:], [s.average for s in study.steps[-3:]], 1)
        ax.plot([0, end], np.polyval(last, [0, end]), c=VERMILION, lw=1)
        ax.plot(0, value, "D", c=VERMILION, ms=5, clip_on=False, zorder=3)
        ax.set_xlim(0, None)
    for step, at in zip(study.steps, x, strict=True):
        text = step.label.partition(" ")[0]
        ax.annotate(text, (at, step.average), xytext=(4, 5), textcoords="offset points", fontsize=6, color=GREY)
    ax.set(xlabel=AXES[study.over], ylabel=f"κ at {study.temperature:g} K (W/(m K))")
    ax.set_title(title, loc="left", fontsize="medium")
    open_frame(ax)
    return figure


__all__ = ["convergence_figure"]
