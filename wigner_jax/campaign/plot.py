"""The figure of a campaign: κ against the reference, and the scores. Needs matplotlib (extra `plot`)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .tables import TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

COLORS = {"rocksalt": "#2b5c8a", "zincblende": "#d1703c", "wurtzite": "#5a8f4a", "other": "#6b6b6b"}


def read_table(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a campaign's table.csv, numbers as floats, empty places as None.

    Raises:
        InputError: no table there.
    """
    path = Path(folder) / "table.csv"
    if not path.is_file():
        raise InputError(f"{folder} holds no table.csv: give the folder of a wigner-jax benchmark")
    numbers = ("space_group", "temperature", "kappa", "kappa_DFT", "SRE", "SRME")
    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = [dict(row) for row in csv.DictReader(file)]
    for row in rows:
        row |= {name: float(row[name]) if row[name] else None for name in numbers}
    return rows


def campaign_figure(rows: Sequence[dict[str, Any]], temperature: float | None = None) -> Figure:
    """κ of the potential against the reference with the band of a factor of two, and SRME in ascending order.

    Args:
        rows: of `read_table`.
        temperature: K; by default the one nearest to 300 K.
    """
    from matplotlib.figure import Figure

    there = sorted({row["temperature"] for row in rows})
    if not there:
        raise InputError("the campaign has no finished material yet")
    T = min(there, key=lambda t: abs(t - (300.0 if temperature is None else temperature)))
    if temperature is not None and abs(T - temperature) > 1e-6:
        raise InputError(f"the campaign has no {temperature:g} K but {', '.join(f'{t:g}' for t in there)} K")
    rows = [row for row in rows if row["temperature"] == T]
    solved = [row for row in rows if row["kappa"] is not None]
    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.1))
    values = [v for row in solved for v in (row["kappa"], row["kappa_DFT"])] or [1.0, 100.0]
    ends = np.array([min(values) / 2, max(values) * 2])
    left.fill_between(ends, ends / 2, ends * 2, color="#000000", alpha=0.07, lw=0, label="factor of two")
    left.plot(ends, ends, c="#000000", lw=0.8)
    for kind, color in COLORS.items():
        some = [row for row in solved if TYPES.get(int(row["space_group"]), "other") == kind]
        if some:
            label = f"{kind} ({len(some)})"
            left.scatter([r["kappa_DFT"] for r in some], [r["kappa"] for r in some], s=22, c=color, lw=0, label=label)
    left.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="κ of the reference (W/(m K))",
             ylabel="κ of the potential (W/(m K))")  # fmt: skip
    left.set_title(f"conductivity, {T:g} K", loc="left")
    left.legend(frameon=False, fontsize=8, loc="upper left")
    order = sorted(rows, key=lambda row: row["SRME"])
    kinds = [TYPES.get(int(row["space_group"]), "other") for row in order]
    right.bar(range(len(order)), [row["SRME"] for row in order], color=[COLORS[k] for k in kinds])
    mean = float(np.mean([row["SRME"] for row in order]))
    right.axhline(mean, c="#000000", lw=0.8, ls="--")
    right.annotate(f"mean {mean:.3f}", (0, mean), xytext=(2, 3), textcoords="offset points", fontsize=8)
    right.set(ylim=(0, 2.05), ylabel="SRME", xlim=(-0.6, len(order) - 0.4))
    if len(order) <= 40:
        right.set_xticks(range(len(order)), [row["name"] for row in order], rotation=90, fontsize=7)
    else:
        right.set_xlabel("materials in ascending order")
    right.set_title(f"{len(order)} materials, {len(order) - len(solved)} without conductivity", loc="left")
    return figure


__all__ = ["COLORS", "campaign_figure", "read_table"]
