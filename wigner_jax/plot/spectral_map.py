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
    distance, segment, frequencies, function, modes, ends, temperatures = _arrays(spectra)
    index = temperature_index({"temperature": temperatures}, temperature)
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
    ticks = path_ticks(ends.ravel(), np.repeat(np.arange(len(ends)), 2), np.asarray(spectra["label"]))
    for x, _ in ticks:
        ax.axvline(x, c=GREY, lw=0.5)
    ax.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
    ax.set(xlim=(ends[0, 0], ends[-1, 1]), ylim=(0, 1.15 * float(modes.max())), ylabel="frequency (THz)")
    ax.set_title(f"spectral function (1/THz), {kelvin({'temperature': temperatures}, index)}", loc="left")
    ax.figure.colorbar(image, ax=ax, pad=0.01)


def _arrays(spectra: Data) -> list[np.ndarray]:
    """distance (K,), segment (K,), frequencies (F,), spectral_function (T, K, m, F), modes (K, m), ends (S, 2), temperatures (T,).

    Raises:
        InputError: something is missing, not finite, or of another shape.
    """
    shapes = {
        "distance": "K", "segment": "K", "frequencies": "F", "spectral_function": "TKmF", "modes": "Km", "ends": "S2",
        "temperatures": "T", "label": "S2",
    }  # fmt: skip
    sizes, found = {"2": 2}, []
    for name, axes in shapes.items():
        array = np.asarray(spectra[name]) if name in spectra and not isinstance(spectra[name], dict) else np.empty(0)
        fits = array.ndim == len(axes) and all(
            sizes.setdefault(a, n) == n for a, n in zip(axes, array.shape, strict=True)
        )
        numbers = name == "label" or (array.dtype.kind in "biuf" and bool(np.all(np.isfinite(array))))
        if not (fits and numbers and array.size):
            raise InputError(f"spectra/{name} does not fit the other datasets", "make the file anew with --spectra")
        found.append(array)
    distance, segment, frequencies, function, modes, ends, temperatures, _ = found
    rising = np.all(np.diff(frequencies) > 0) and len(frequencies) > 1 and np.all(np.diff(ends.ravel()) >= -1e-9)
    if not (rising and function.max() > 0 and modes.max() > 0 and np.all((segment >= 0) & (segment < len(ends)))):
        raise InputError("the spectra of the file make no sense", "make the file anew with --spectra")
    return [distance, segment, frequencies, function, modes, ends, temperatures]


__all__ = ["plot_spectral_map"]
