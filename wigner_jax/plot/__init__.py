"""Figures of a conductivity, and of how it compares with a reference. Matplotlib draws them, which ASE brings.

Every function takes `data`, the datasets of a kappa file by name: ``read_kappa_hdf5(path)`` (ours or phono3py's), or
``io.kappa_hdf5.kappa_datasets(crystal, mesh, solution)`` without a file. `make_figure` makes whole figures by name; the
others draw one panel into given axes.
"""

from __future__ import annotations

from .figures import FIGURES, make_figure, summary_figure
from .harmonic import plot_bands, plot_dos, plot_heat_capacity
from .style import temperature_index, total_gamma
from .transport import plot_coherences, plot_cumulative, plot_free_paths, plot_kappa, plot_lifetimes, plot_spectrum

__all__ = [
    "FIGURES",
    "make_figure",
    "plot_bands",
    "plot_coherences",
    "plot_cumulative",
    "plot_dos",
    "plot_free_paths",
    "plot_heat_capacity",
    "plot_kappa",
    "plot_lifetimes",
    "plot_spectrum",
    "summary_figure",
    "temperature_index",
    "total_gamma",
]
