"""What the command line shows: progress with an estimate of the rest, times of the stages, and the table of results."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .types import Array, Conductivity, Crystal

COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")


def duration(seconds: float) -> str:
    """A time for people: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Stages:
    """Names and times the stages of a run; on a terminal it shows the one in work, its progress and an ETA.

    Args:
        stream: where to show progress; None shows nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.times: dict[str, float] = {}
        self._name, self._start, self._shown = "", 0.0, 0.0

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._name, self._start, self._shown = name, time.perf_counter(), 0.0
        self._show(f"{name} ...")
        try:
            yield
        finally:
            self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - self._start
            self._show("")

    def progress(self, done: int, total: int) -> None:
        """Callback between chunks of work: `done` of `total` units are finished."""
        now = time.perf_counter()
        if self.stream is None or (now - self._shown < 0.2 and done < total):
            return
        self._shown = now
        elapsed = now - self._start
        rest = f", {duration(elapsed / done * (total - done))} left" if 0 < done < total else ""
        self._show(f"{self._name}: {done}/{total}{rest}")

    def _show(self, text: str) -> None:
        if self.stream is not None:
            self.stream.write(f"\r\x1b[K{text}")
            self.stream.flush()


def progress_stream(quiet: bool) -> TextIO | None:
    """stderr if a person watches it and did not ask for quiet, else None."""
    return sys.stderr if not quiet and sys.stderr.isatty() else None


def formula(crystal: Crystal) -> str:
    """The contents of the primitive cell, for example Si2 or La4Zr4O14."""
    from .elements import SYMBOLS

    numbers = list(crystal.numbers)
    return "".join(SYMBOLS[z] + (str(numbers.count(z)) if numbers.count(z) > 1 else "") for z in dict.fromkeys(numbers))


def average(kappa: Array) -> np.ndarray:
    """A third of the trace of tensors in Voigt order. (..., 6) → (...)"""
    return np.asarray(kappa)[..., :3].mean(axis=-1)


def kappa_table(conductivity: Conductivity) -> str:
    """κ_P, κ_C and κ_TOT for each temperature (averages of directions), then the tensor where it is anisotropic."""
    T = np.asarray(conductivity.temperatures)
    total = np.asarray(conductivity.kappa_TOT)
    columns = [average(a) for a in (conductivity.kappa_P, conductivity.kappa_C, total)]
    lines = [f"{'T (K)':>8} {'κ_P':>11} {'κ_C':>11} {'κ_TOT':>11}   W/(m K)"]
    lines += [f"{t:8g} {p:11.4f} {c:11.4f} {s:11.4f}" for t, p, c, s in zip(T, *columns, strict=True)]
    diagonal, rest = total[:, :3], total[:, 3:]
    scale = np.abs(total).max()
    if np.ptp(diagonal, axis=1).max() > 1e-3 * scale or np.abs(rest).max() > 1e-3 * scale:
        lines += ["", f"{'T (K)':>8} " + " ".join(f"{'κ_' + c:>11}" for c in COMPONENTS) + "   total"]
        lines += [f"{t:8g} " + " ".join(f"{v:11.4f}" for v in row) for t, row in zip(T, total, strict=True)]
    return "\n".join(lines)


def times_table(times: dict[str, float]) -> str:
    """One line: the stages with their times, and the sum."""
    stages = ", ".join(f"{name} {duration(t)}" for name, t in times.items())
    return f"time: {stages}; in total {duration(sum(times.values()))}"
