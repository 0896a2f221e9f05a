"""The spectral function along the high-symmetry path, as an inelastic scattering experiment maps it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .harmonic import path_ticks
from .style import GREY, VERMILION, Data, group, kelvin, temperature_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAINTEST = 1e-3  # of the brightest, where the scale begins


def plot_spectral_map(ax: Axes, data: Data, temperature: float | None = None) -> None:
    """Σ_s A_s(q, f) at the mesh points of the path, on a logarithmic scale, with the harmonic frequencies.

    Raises:
        InputError: the file holds no spectra.
    """
    from matplotlib.colors import LogNorm

    spectra = group(data, "spectra")
    if spectra is None:
        raise InputError("the file has no spectra", "make it anew with --spectra")
    names = ("distance", "segment", "frequencies", "spectral_function", "modes")
    distance, segment, frequencies, function, modes = (np.asarray(spectra[k]) for k in names)
    index = temperature_index({"temperature": spectra["temperatures"]}, temperature)
    total = function[index].sum(axis=1)
    faintest = FAINTEST * float(total.max())
    norm = LogNorm(faintest, float(total.max()))
    image = None
    for number in np.unique(segment):
        on = np.flatnonzero(segment == number)
        if len(on) > 1:
            image = ax.pcolormesh(
                distance[on], frequencies, np.maximum(total[on], faintest).T, norm=norm, cmap="Blues", shading="nearest",
                rasterized=True,
            )  # fmt: skip
        ax.plot(
            np.repeat(distance[on], modes.shape[1]), modes[on].ravel(), ls="", marker="_", ms=4, c=VERMILION, mew=0.8
        )
    if image is None:
        raise InputError("no segment of the path has two points of the mesh", "take a finer mesh")
    ends = np.asarray(spectra["ends"])
    ticks = path_ticks(ends.ravel(), np.repeat(np.arange(len(ends)), 2), np.asarray(spectra["label"]))
    for x, _ in ticks:
        ax.axvline(x, c=GREY, lw=0.5)
    ax.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    ax.set(xlim=(ends[0, 0], ends[-1, 1]), ylim=(0, 1.15 * float(modes.max())), ylabel="frequency (THz)")
    ax.set_title(f"spectral function (1/THz), {kelvin({'temperature': spectra['temperatures']}, index)}", loc="left")
    ax.figure.colorbar(image, ax=ax, pad=0.01)


__all__ = ["plot_spectral_map"]
