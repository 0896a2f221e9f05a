"""Stages of long work: their times, and progress with an estimate of the rest."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterator


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
