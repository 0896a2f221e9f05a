"""The figure of a campaign: κ against the reference, and the scores."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.reading import read_text, reading
from ..errors import InputError
from ..metrics import factor_of_two
from ..plot.style import BLACK, BLUE, GREEN, GREY, VERMILION, new_figure, open_frame
from .tables import TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# colour and marker of a type: Okabe and Ito's palette, with shapes for prints in grey
KINDS = {"rocksalt": (BLUE, "o"), "zincblende": (VERMILION, "s"), "wurtzite": (GREEN, "^"), "other": (GREY, "D")}


def read_table(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a campaign's table.csv, numbers as floats, empty places as None.

    Raises:
        InputError: no table there.
    """
    path = Path(folder) / "table.csv"
    if not path.is_file():
        raise InputError(f"{folder} holds no table.csv", "give the folder of a wigner-jax benchmark")
    numbers = ("space_group", "temperature", "kappa", "kappa_DFT", "SRE", "SRME")
    with reading(path, "a table of a campaign"):
        rows: list[dict[str, Any]] = [dict(row) for row in csv.DictReader(io.StringIO(read_text(path)))]
        for row in rows:
            row |= {name: float(row[name]) if row[name] else None for name in numbers}
            missing = [name for name in ("temperature", "SRME", "space_group") if row[name] is None]
            if missing or not all(x is None or (np.isfinite(x) and abs(x) < 1e12) for x in map(row.get, numbers)):
                raise InputError(
                    f"the row of {str(row.get('name'))[:40]} has no finite {missing[0] if missing else 'numbers'}"
                )
            if not all(x is None or x > 0 for x in (row["kappa"], row["kappa_DFT"])) or row["kappa_DFT"] is None:
                raise InputError(f"the row of {row['name'][:40]} has a conductivity that is not above 0")
    return rows


def campaign_figure(rows: Sequence[dict[str, Any]], temperature: float | None = None) -> Figure:
    """κ of the potential against the reference with the band of a factor of two, and SRME in ascending order.

    Materials without a conductivity are crosses at the lower edge, and count as outside the band.

    Args:
        rows: of `read_table`.
        temperature: K; by default the one nearest to 300 K.
    """
    there = sorted({row["temperature"] for row in rows})
    if not there:
        raise InputError("the campaign has no finished material yet")
    T = min(there, key=lambda t: abs(t - (300.0 if temperature is None else temperature)))
    if temperature is not None and abs(T - temperature) > 1e-6:
        raise InputError(f"the campaign has no {temperature:g} K but {', '.join(f'{t:g}' for t in there)} K")
    rows = [row for row in rows if row["temperature"] == T]
    figure = new_figure(9.6, 4.5)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    _parity(left, rows, f"{T:g} K")
    _scores(right, rows)
    for ax in (left, right):
        open_frame(ax)
    return figure


def kind_of(row: dict[str, Any]) -> str:
    """Type of structure, by the reference's space group."""
    return TYPES.get(int(row["space_group"]), "other")


def _parity(ax: Axes, rows: Sequence[dict[str, Any]], temperature: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    solved = [row for row in rows if row["kappa"] is not None]
    values = [row[name] for row in rows for name in ("kappa", "kappa_DFT") if row[name] is not None]
    ends = np.array([min(values) / 2, max(values) * 2])
    ax.fill_between(ends, ends / 2, ends * 2, color=BLACK, alpha=0.08, lw=0, label="factor of two")
    ax.plot(ends, ends, c=BLACK, lw=0.8)
    for kind, (color, marker) in KINDS.items():
        some = [row for row in rows if kind_of(row) == kind]
        good = [row for row in some if row["kappa"] is not None]
        if some:
            x, y = [r["kappa_DFT"] for r in good], [r["kappa"] for r in good]
            ax.scatter(x, y, s=26, c=color, marker=marker, lw=0.4, ec="white", label=f"{kind} ({len(good)})")
        failed = [row["kappa_DFT"] for row in some if row["kappa"] is None]
        if failed:
            ax.plot(failed, np.full(len(failed), 0.025), c=color, ls="", marker="x", ms=5,
                    transform=ax.get_xaxis_transform())  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="κ of the reference (W/(m K))",
           ylabel="κ of the potential (W/(m K))", aspect="equal")  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0,) if ends[1] > 100 * ends[0] else (1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if ends[1] < 100 * ends[0]:
            axis.set_minor_locator(NullLocator())
    inside = factor_of_two([r["kappa"] or np.nan for r in rows], [r["kappa_DFT"] for r in rows])
    ax.set_title(f"{temperature}: {100 * inside:.0f} % within a factor of two", loc="left")
    if len(solved) < len(rows):
        ax.plot([], [], c=GREY, ls="", marker="x", ms=5, label=f"no conductivity ({len(rows) - len(solved)})")
    ax.legend(frameon=False, fontsize=8, loc="upper left")


def _scores(ax: Axes, rows: Sequence[dict[str, Any]]) -> None:
    order = sorted(rows, key=lambda row: row["SRME"])
    ax.bar(range(len(order)), [row["SRME"] for row in order], color=[KINDS[kind_of(row)][0] for row in order],
           width=min(0.8, 0.2 * len(order)))  # fmt: skip
    mean = float(np.mean([row["SRME"] for row in order]))
    ax.axhline(mean, c=BLACK, lw=0.8, ls="--")
    ax.annotate(f"mean {mean:.3f}", (0.01, mean), xycoords=("axes fraction", "data"), xytext=(0, 3),
                textcoords="offset points", fontsize=8)  # fmt: skip
    ax.set(ylim=(0, 2.05), ylabel="SRME", xlim=(-0.6, len(order) - 0.4))
    if len(order) <= 40:
        ax.set_xticks(range(len(order)), [row["name"] for row in order], rotation=90 if len(order) > 10 else 0,
                      fontsize=7 if len(order) > 20 else 9)  # fmt: skip
    else:
        ax.set_xlabel("materials in ascending order")
    ax.set_title(f"{len(order)} materials", loc="left")


__all__ = [
    "KINDS",
    "campaign_figure",
    "kind_of",
    "read_table",
]
