"""What the command line shows: the tables of results."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._core.progress import duration
from ..crystal.low_dimensional import average, directions

if TYPE_CHECKING:
    from ..solution import Solution


COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")


def kappa_table(solution: Solution) -> str:
    """κ_P, κ_C and κ_TOT for each temperature (averages of directions), then the tensor where it is anisotropic."""
    conductivity, crystal = solution.conductivity, solution.crystal
    T = np.asarray(conductivity.temperatures)
    total = np.asarray(conductivity.kappa_TOT)
    columns = [average(a, crystal) for a in (conductivity.kappa_P, conductivity.kappa_C, total)]
    lines = [f"{'T (K)':>8} {'κ_P':>11} {'κ_C':>11} {'κ_TOT':>11}   W/(m K){_of(solution)}"]
    lines += [f"{t:8g} {p:11.4f} {c:11.4f} {s:11.4f}" for t, p, c, s in zip(T, *columns, strict=True)]
    return "\n".join(lines + _tensor(T, total))


def full_table(solution: Solution) -> str:
    """κ_P by the full equation beside the relaxation-time approximation, the total, and how the iteration went; then the tensor
    where it is anisotropic."""
    full = solution.full
    assert full is not None
    total = solution.kappa
    columns = [
        average(a, solution.crystal) for a in (full.kappa_P_RTA, full.kappa_P, solution.conductivity.kappa_C, total)
    ]
    lines = [
        f"{'T (K)':>8} {'κ_P (RTA)':>11} {'κ_P':>11} {'κ_C':>11} {'κ_TOT':>11}   W/(m K){_of(solution)}, linearised Boltzmann equation"
    ]
    for t, *row, status, residual, count in zip(
        full.temperatures, *columns, full.status, full.residual, full.iterations, strict=True
    ):
        numbers = " ".join(f"{x:11.4f}" for x in row)
        lines.append(f"{t:8g} {numbers}   {status}, {count} iterations, residual {residual:.0e}")
    return "\n".join(lines + _tensor(full.temperatures, total))


def _of(solution: Solution) -> str:
    return {1: " along the wire", 2: " in the layer"}.get(directions(solution.crystal), "")


def _tensor(temperatures: np.ndarray, total: np.ndarray) -> list[str]:
    """Lines of all components, where there is more than one."""
    diagonal, rest = total[:, :3], total[:, 3:]
    scale = np.abs(total).max()
    if not (np.ptp(diagonal, axis=1).max() > 1e-3 * scale or np.abs(rest).max() > 1e-3 * scale):
        return []
    lines = ["", f"{'T (K)':>8} " + " ".join(f"{'κ_' + c:>11}" for c in COMPONENTS) + "   components of the total"]
    return lines + [
        f"{t:8g} " + " ".join(f"{v:11.4f}" for v in row) for t, row in zip(temperatures, total, strict=True)
    ]


def times_table(times: dict[str, float]) -> str:
    """One line: the stages with their times, and the sum, in which Python's and JAX's start is not counted."""
    stages = ", ".join(f"{name} {duration(t)}" for name, t in times.items())
    return f"time: {stages}; in total {duration(sum(times.values()))}, without start-up"
