"""Wall times of a campaign, apart from its table: they differ from run to run, the table does not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._core.atomic_write import write_text
from .._core.reading import read_json, reading
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable


def read_times(folder: str | Path, mp_id: str) -> dict[str, float] | None:
    """Seconds by stage; None if they are not there (a record may be copied without them)."""
    path = Path(folder) / "times" / f"{mp_id}.json"
    try:
        with reading(path, "a table of times"):
            times = {str(stage): float(seconds) for stage, seconds in read_json(path).items()}
            return times if all(0 <= seconds < 1e10 for seconds in times.values()) else None
    except InputError:
        return None


def write_times(folder: str | Path, mp_ids: Iterable[str]) -> dict[str, float]:
    """times.csv: seconds by material and stage, where they are known. Apart from the table, which is the same every time.

    Returns:
        seconds by stage, over all materials.
    """
    rows = {mp_id: times for mp_id in mp_ids if (times := read_times(folder, mp_id)) is not None}
    stages = list(dict.fromkeys(stage for times in rows.values() for stage in times))
    lines = [",".join(["mp_id", *(s.replace(" ", "_") for s in stages), "total"])]
    for mp_id, times in rows.items():
        values = [f"{times[s]:.3f}" if s in times else "" for s in stages]
        lines.append(",".join([mp_id, *values, f"{sum(times.values()):.3f}"]))
    write_text(Path(folder) / "times.csv", "\n".join(lines) + "\n")
    return {stage: sum(times.get(stage, 0.0) for times in rows.values()) for stage in stages}


__all__ = [
    "read_times",
    "write_times",
]
