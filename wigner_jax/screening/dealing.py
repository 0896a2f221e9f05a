"""Dealing materials out to workers: what a worker is, and what happens when one dies.

The driver hands out one material at a time. What a worker finishes is in the folder before the driver hears of it, so that
whoever is killed loses the material in work and nothing else. A worker that died is started again; a material at which
two have died is recorded as failed.
"""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

LIVES = 2  # workers that may die at a material


@dataclasses.dataclass(frozen=True)
class Task:
    """What all workers of a run are told: JSON values."""

    structures: str
    model: str
    folder: str
    settings: dict[str, Any]


class Worker(Protocol):
    """One process, which does one material after the other."""

    def begin(self, name: str, stage: str) -> None: ...

    def close(self) -> None: ...


class Pool(Protocol):
    """Workers of one kind."""

    count: int

    def start(self, number: int) -> Any: ...

    def wait(self, busy: Sequence[Any]) -> list[tuple[Any, dict[str, Any] | None]]:
        """(worker, its record, or None if it died) of those that have ended, at least one."""
        ...


class Dealt(NamedTuple):
    """A material that is finished."""

    name: str
    record: dict[str, Any] | None  #: None: as many workers as `LIVES` have died at it
    seconds: float


def deal(pool: Pool, names: Sequence[str], stage: str, over: Callable[[list[float]], bool]) -> Iterator[Dealt]:
    """Finished materials as they come, until all are, or the time is over.

    Args:
        over: whether another one cannot be begun, from the times of those before.
    """
    waiting = deque(names)
    deaths: dict[str, int] = {}
    busy: dict[Any, tuple[str, float]] = {}
    idle = [pool.start(k) for k in range(min(pool.count, len(names)))]
    started, times = len(idle), [0.0]
    try:
        while True:
            while waiting and idle and not over(times):
                worker, name = idle.pop(), waiting.popleft()
                worker.begin(name, stage)
                busy[worker] = (name, time.monotonic())
            if not busy:
                return
            for worker, record in pool.wait(list(busy)):
                name, since = busy.pop(worker)
                if record is None:
                    worker.close()
                    idle.append(pool.start(started))
                    started += 1
                    deaths[name] = deaths.get(name, 0) + 1
                    if deaths[name] < LIVES:
                        waiting.append(name)
                        continue
                else:
                    idle.append(worker)
                times.append(time.monotonic() - since)
                yield Dealt(name, record, times[-1])
    finally:
        for worker in (*idle, *busy):
            worker.close()


__all__ = ["LIVES", "Dealt", "Pool", "Task", "Worker", "deal"]
