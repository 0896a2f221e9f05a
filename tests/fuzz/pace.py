"""How slow this machine is at the moment: limits of seconds are of a machine that nobody shares."""

from __future__ import annotations

import time


def pace() -> float:
    """CPU seconds of a million steps of a loop over 0.1 s, at least 1. Asked where a limit is exceeded."""
    start, total = time.process_time(), 0
    for i in range(10**6):
        total += i * i % 7
    return max(1.0, (time.process_time() - start) / 0.1)
