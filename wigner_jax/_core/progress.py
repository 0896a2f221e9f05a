"""Progress of long work: their times, and progress with an estimate of the rest."""

from __future__ import annotations

import sys
import threading
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


FIRST_LINE = 10.0  # s, of a stage, before a log gets its first line
LINE_EVERY = 30.0  # s, between two lines of a log


class Progress:
    """Names and times the stages of a run, and shows the one in work, how far it is and how long the rest will take.

    On a terminal that is one line, which changes. Elsewhere (a log of a batch system) it is a line with a time stamp for
    work that takes more than ten seconds, and another one every half minute.

    Args:
        stream: where to show progress; None shows nothing.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.times: dict[str, float] = {}
        self._terminal = stream is not None and stream.isatty()
        self._name, self._start, self._shown = "", 0.0, 0.0

    @contextmanager
    def __call__(self, name: str, first: str = "") -> Iterator[None]:
        """A stage: everything inside the block counts for `name`.

        Args:
            first: what is done before there is progress to show.
        """
        begin = f"{name}: {first} ..." if first else f"{name} ..."
        self._name, self._start, self._shown = name, time.perf_counter(), 0.0
        timer = None
        if self._terminal:
            self._show(begin)
        elif self.stream is not None:
            self._shown = self._start + FIRST_LINE - LINE_EVERY
            timer = threading.Timer(FIRST_LINE, self._show, (begin,))
            timer.daemon = True
            timer.start()
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            self.times[name] = self.times.get(name, 0.0) + time.perf_counter() - self._start
            if self._terminal:
                self._show("")

    def say(self, text: str) -> None:
        """A line that stays, such as how much work is ahead."""
        if self.stream is not None:
            self._show("") if self._terminal else None
            self.stream.write(f"{text}\n")
            self.stream.flush()

    def progress(self, done: int, total: int, part: str = "", then: str = "") -> None:
        """Callback between chunks of work: `done` of `total` units are finished.

        Args:
            part: which part of the stage the units are of.
            then: what comes after the last of them.
        """
        now = time.perf_counter()
        pause = 0.2 if self._terminal else LINE_EVERY
        if self.stream is None or (now - self._shown < pause and (done < total or not self._terminal)):
            return
        self._shown = now
        elapsed = now - self._start
        rest = f", {duration(elapsed / done * (total - done))} left" if 0 < done < total else ""
        after = f"; {then} ..." if then and done == total else ""
        self._show(f"{self._name}: {f'{part} ' if part else ''}{done}/{total}{rest}{after}")

    def _show(self, text: str) -> None:
        if self.stream is None:
            return
        self.stream.write(f"\r\x1b[K{text}" if self._terminal else f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")
        self.stream.flush()


def progress_stream(quiet: bool) -> TextIO | None:
    """stderr, or None for those who ask for quiet."""
    return None if quiet else sys.stderr
