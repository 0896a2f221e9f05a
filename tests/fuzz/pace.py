"""A second of CPU time as the limit of a reading, on machines that others share.

What others run stretches CPU seconds too, up to several times, and by another factor a moment later. So a reading that
exceeds the limit is made again, and the shortest counts against a limit that goes by the pace of the machine then. What
this lets pass is a factor of three; a file that is built to keep a reader busy takes minutes.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = 1.0
ROOM = 3.0
AGAIN = 3


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds that work takes, whatever it raises."""
    start = time.process_time()
    with contextlib.suppress(Exception):  # what it raises was judged the first time
        work()
    return time.process_time() - start


def too_long(took: float, work: Callable[[], object]) -> bool:
    """Whether CPU seconds that were measured are too many; `work` does the same again, where that is in doubt."""
    for _ in range(AGAIN):
        if took <= SECONDS or took <= SECONDS * pace():
            return False
        took = min(took, seconds(work))
    return took > ROOM * SECONDS * max(1.0, pace())


def pace() -> float:
    """CPU seconds of a million steps of a loop over 0.1 s."""
    return seconds(lambda: sum(i * i % 7 for i in range(10**6))) / 0.1
