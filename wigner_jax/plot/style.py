"""What all figures share: colours that everybody can tell apart, an empty figure, and access to a file's datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..reference import Reference


Data = dict[str, Any]  # the datasets of a kappa file by name
# Okabe and Ito's palette: distinct in all common forms of colour blindness, and in grey
BLUE, VERMILION, GREEN, GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#6b6b6b", "#000000"
PARTS = (  # of κ: name, dataset of the tensors, dataset of the modes, colour, line style
    (r"$\kappa_\mathrm{TOT}$", "kappa_TOT_RTA", "mode_kappa_TOT", BLUE, "-"),
    (r"$\kappa_\mathrm{P}$", "kappa_P_RTA", "mode_kappa_P_RTA", VERMILION, "--"),
    (r"$\kappa_\mathrm{C}$", "kappa_C", "mode_kappa_C", GREEN, "-."),
)
OTHER_NAMES = {  # of other versions of phono3py, and of its solver without coherences
    "kappa_P_RTA": ("kappa_intra", "kappa"), "mode_kappa_P_RTA": ("mode_kappa",), "kappa_C": ("kappa_inter",),
}  # fmt: skip
REFERENCE: dict[str, Any] = {"color": BLACK, "ls": (0, (1, 1)), "lw": 1.4, "label": "reference"}  # of its lines


def new_figure(width: float, height: float) -> Figure:
    """An empty Figure without a window, inches. InputError without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError("figures need matplotlib", "pip install 'wigner-jax[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def open_frame(ax: Axes) -> None:
    """No lines above and to the right."""
    ax.spines[["top", "right"]].set_visible(False)


def need(data: Data, what: str, *names: str) -> None:
    """InputError unless the file has all that a panel is drawn from.

    Args:
        what: the panel, in words.
    """
    if missing := [name for name in names if name not in data]:
        raise InputError(
            f"{what} need{'' if what.endswith('s') else 's'} {', '.join(missing)}, which the file lacks", "make it anew"
        )


def part_of(data: Data, name: str) -> np.ndarray | None:
    """A conductivity by its name, or by the one that other versions of phono3py give it; None where the file lacks it."""
    found = name_in(data, name)
    return None if found is None else np.asarray(data[found])


#: of files with populations beyond the relaxation-time approximation
EXACT = {
    "kappa_TOT_RTA": "kappa_TOT_exact", "kappa_P_RTA": "kappa_P_exact", "mode_kappa_P_RTA": "mode_kappa_P_exact",
    "mode_kappa_TOT": "mode_kappa_TOT_exact",
}  # fmt: skip


def name_in(data: Data, name: str) -> str | None:
    """The name under which a file has a dataset, the one of the full equation first; None where it lacks it."""
    return next((k for k in (EXACT.get(name, name), name, *OTHER_NAMES.get(name, ())) if k in data), None)


def temperature_index(data: Data, temperature: float | None) -> int:
    """Index of a temperature in the file; None means the one nearest to 300 K. InputError if it is not there."""
    T = np.asarray(data["temperature"])
    if temperature is None:
        return int(np.abs(T - 300).argmin())
    match = np.flatnonzero(np.abs(T - temperature) < 1e-6)
    if len(match) == 0:
        raise InputError(
            f"the file has no {temperature:g} K but {', '.join(f'{t:g}' for t in T)} K", "choose one of them"
        )
    return int(match[0])


def kelvin(data: Data, index: int) -> str:
    """The temperature as text."""
    return f"{np.asarray(data['temperature'])[index]:g} K"


def total_gamma(data: Data, index: int) -> np.ndarray:
    """Half widths of all processes in the file at one temperature, THz. (P, m)"""
    return sum(
        (np.asarray(data[k]) for k in ("gamma_isotope", "gamma_boundary") if k in data),
        np.asarray(data["gamma"])[index],
    )


def mesh_points(data: Data) -> float:
    """Q, the number of mesh points, by which sums over modes are divided."""
    return float(np.asarray(data["weight"]).sum())


def traced(data: Data, tensors: np.ndarray) -> np.ndarray:
    """The trace of tensors in Voigt order over the number of directions: 3, fewer in layers and wires. (..., 6) → (...)"""
    return np.asarray(tensors)[..., :3].sum(axis=-1) / float(data.get("attributes", {}).get("directions", 3))


def group(data: Data, name: str) -> Data | None:
    """The datasets of a group, whether `data` was read from a file (nested) or not (name/dataset); None if not there."""
    if name in data:
        return data[name]
    return {k.removeprefix(f"{name}/"): v for k, v in data.items() if k.startswith(f"{name}/")} or None


def reference_index(reference: Reference | None, data: Data, index: int) -> int | None:
    """The reference's row for a temperature of the file, or None where it has no such temperature."""
    if reference is None:
        return None
    near = np.abs(reference.temperatures - np.asarray(data["temperature"])[index])
    return int(near.argmin()) if near.min() < 1e-6 else None
