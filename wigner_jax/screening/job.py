"""One run of a screening: what is missing is done, in an order in which programs are shared; tables grow as it goes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.compile_cache import evict_compiled_programs
from .._core.fingerprint import fingerprint
from .._core.folder_lock import claimed
from .._core.progress import Progress, duration
from ..crystal.symmetry import space_group_of_atoms
from ..evaluation.contents import GEOMETRY, POTENTIAL, potential_contents
from ..io.ase_files import MOST_ATOMS
from ..pipeline import any_model
from .dealing import LIVES, deal
from .folder import read_prepared, read_record, rows_of, write_outcome, write_tables
from .material import DONE, FAILED, SKIPPED, Outcome, screen_material
from .settings import ScreenSettings
from .sources import structures_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ase.calculators.calculator import Calculator

    from ..potentials.base import Potential
    from .dealing import Pool, Task
    from .sources import Structures

TABLE_EVERY = 20.0  # s between two writings of the tables


@dataclasses.dataclass(frozen=True)
class Screening:
    """What came out.

    Attributes:
        records: of all materials that have one, in the order of the structures; see `screen_material`.
        missing: names of those that have none yet: other shards', or left when the time was over.
        complete: whether all that this call was to do is done; False when the time was over before.
    """

    records: list[dict[str, Any]]
    missing: list[str]
    complete: bool = True

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The table: a row for each material and temperature."""
        return rows_of(self.records)

    @property
    def failed(self) -> list[dict[str, Any]]:
        """Records without κ."""
        return [r for r in self.records if r["status"] != DONE]

    def ranked(self, highest: bool = True) -> list[dict[str, Any]]:
        """Records with κ, by κ at the first temperature."""
        done = [r for r in self.records if r["status"] == DONE]
        return sorted(done, key=lambda r: r["kappa"][0], reverse=highest)


class Job:
    """One run of a screening."""

    def __init__(
        self, structures: Structures, model: Potential | Calculator, settings: ScreenSettings, weights: str,
        folder: Path | None, progress: Progress | None, on_record: Callable[..., None] | None, max_time: float | None,
    ) -> None:  # fmt: skip
        self.structures, self.model, self.settings, self.weights = structures, model, settings, weights
        self.folder, self.progress, self.on_record = folder, progress, on_record
        self.ends = None if max_time is None else time.monotonic() + max_time
        self.kept: dict[tuple[str, str], dict[str, Any]] = {}  # by stage and name, of this run and before
        self.written = -np.inf  # the first record is in the tables at once
        self.pool: Pool | None = None

    def contents(self, name: str, settings: ScreenSettings) -> dict[str, str]:
        """What the record of a material is made from."""
        structure = self.structures[name]
        if isinstance(structure, str):
            geometry = fingerprint(np.frombuffer(structure.encode(), np.uint8))
        else:
            cell = [structure.numbers, structure.cell.array, structure.positions, structure.get_masses(), structure.pbc]
            # as text: whatever it is, it may be what makes the material fail
            words = repr({k: np.asarray(structure.info[k]).tolist() for k in GEOMETRY if k in structure.info})
            cell.append(np.frombuffer(words.encode(), np.uint8))
            geometry = fingerprint(cell)
        chosen = json.dumps(settings.deciding(), sort_keys=True)
        return {
            "structure": geometry, "settings": fingerprint(np.frombuffer(chosen.encode(), np.uint8)), POTENTIAL: self.weights,
        }  # fmt: skip

    def current(self, name: str, stage: str, settings: ScreenSettings) -> dict[str, Any] | None:
        """The record of a material, if it was made from what is asked for now."""
        record = self.kept.get((stage, name))
        if record is None and self.folder is not None:
            record = read_record(self.folder, name, stage)
        if record is None or record.get("contents") != self.contents(name, settings):
            return None
        if record["status"] == SKIPPED and record.get("limits") != settings.limits():
            return None
        self.kept[stage, name] = record
        return record

    def run(self, names: list[str], stage: str, settings: ScreenSettings) -> bool:
        """Do what is missing of a stage, in turns with other processes; False if the time was over before."""
        todo = self._ordered([n for n in names if self.current(n, stage, settings) is None])
        if self.pool is not None:
            return self._dealt(todo, stage, settings)
        times: list[float] = []
        others: list[str] = []
        for number, name in enumerate(todo, 1):
            with self._claimed(name, stage, wait=False) as free:
                if not free:
                    others.append(name)
                elif not self._turn(name, stage, settings, times, number, len(todo)):
                    return False
        # what other processes were at: one that was killed has left its material
        for name in others:
            with self._claimed(name, stage, wait=True):
                if not self._turn(name, stage, settings, times, len(todo), len(todo)):
                    return False
        return True

    @contextlib.contextmanager
    def _claimed(self, name: str, stage: str, wait: bool) -> Iterator[bool]:
        if self.folder is None:
            yield True
            return
        folder = self.folder / "claims"
        folder.mkdir(exist_ok=True)
        with claimed(folder / f"{stage}-{name}", wait=wait) as free:
            yield free

    def _turn(
        self, name: str, stage: str, settings: ScreenSettings, times: list[float], number: int, total: int
    ) -> bool:
        """One material, if nobody has done it meanwhile; False if there is no time left for it."""
        if self.current(name, stage, settings) is not None:
            return True
        if self._over(times):
            return False
        begun = time.monotonic()
        self._kept(self._one(name, stage, settings), stage, settings)
        times.append(time.monotonic() - begun)
        self._say(self.kept[stage, name], number, total, (total - number) * float(np.mean(times[-20:])))
        evict_compiled_programs()
        return True

    def _over(self, times: list[float]) -> bool:
        return self.ends is not None and time.monotonic() + (max(times[-5:]) if times else 0.0) > self.ends

    def _kept(self, outcome: Outcome, stage: str, settings: ScreenSettings) -> None:
        """Into the folder, with what it was made from."""
        name = outcome.record["name"]
        record = outcome.record | {
            "stage": stage,
            "contents": self.contents(name, settings),
            "limits": settings.limits(),
        }
        self.kept[stage, name] = record
        if self.folder is not None:
            write_outcome(self.folder, stage, outcome._replace(record=record), stage == "coarse")

    def _say(self, record: dict[str, Any], number: int, total: int, left: float) -> None:
        if self.on_record is not None:
            self.on_record(record, number, total, duration(left) if number < total else "")
        if self.folder is not None and time.monotonic() - self.written > TABLE_EVERY:
            self._write_tables()

    def one(self, name: str, stage: str) -> dict[str, Any]:
        """For a driver: the record of a material, which is in the folder then."""
        settings = self.settings if stage == "materials" else self.settings.coarser()
        with self._claimed(name, stage, wait=True):
            self._turn(name, stage, settings, [], 1, 1)
        record = self.current(name, stage, settings)
        assert record is not None
        return record

    def _dealt(self, todo: list[str], stage: str, settings: ScreenSettings) -> bool:
        """All of them by the workers; False if the time was over before."""
        assert self.pool is not None
        begun, done = time.monotonic(), 0
        for name, record, _ in deal(self.pool, todo, stage, self._over):
            if record is None:
                reason = f"its process died {LIVES} times, most likely for want of memory"
                gone = {"name": name, "status": FAILED, "reason": reason, "notes": [], "seconds": {"total": 0.0}}
                self._kept(Outcome(gone), stage, settings)
            else:
                self.kept[stage, name] = record
            done += 1
            left = (len(todo) - done) * (time.monotonic() - begun) / done
            self._say(self.kept[stage, name], done, len(todo), left)
        return done == len(todo)

    def _one(self, name: str, stage: str, settings: ScreenSettings) -> Outcome:
        stages = Progress(None if self.progress is None else self.progress.stream)
        before = None
        if stage == "materials" and self.folder is not None:
            first = self.current(name, "coarse", self.settings.coarser())
            prepared = read_prepared(self.folder, name) if first is not None else None
            before = None if first is None or prepared is None else (prepared, first)
        return screen_material(name, self.structures[name], self.model, settings, stages, before)

    def _ordered(self, names: list[str]) -> list[str]:
        """Crystals of one kind together, small ones first: they share programs, and few are in use at a time."""

        def kind(name: str) -> tuple[int, int]:
            structure = self.structures[name]
            if isinstance(structure, str) or not 0 < len(structure) <= MOST_ATOMS:
                return (0, 0)
            try:
                return len(structure), space_group_of_atoms(structure)
            except Exception:  # its turn will say why
                return (0, 0)

        kinds = {name: kind(name) for name in names}
        return sorted(names, key=kinds.__getitem__)

    def records(self) -> list[dict[str, Any]]:
        """Of every material its furthest record, in the order of the structures."""
        found = []
        for name in self.structures:
            record = self.current(name, "materials", self.settings) or self.current(
                name, "coarse", self.settings.coarser()
            )
            if record is not None:
                found.append(record)
        return found

    def _write_tables(self) -> None:
        assert self.folder is not None
        write_tables(self.folder, self.records())
        self.written = time.monotonic()

    def finish(self, complete: bool) -> Screening:
        if self.folder is not None:
            self._write_tables()
        records = self.records()
        have = {r["name"] for r in records}
        return Screening(records, [n for n in self.structures if n not in have], complete)


def contents_of_model(model: Any, potential: Potential | Calculator) -> str:
    name = str(model) if isinstance(model, (str, Path)) else type(model).__name__
    return potential_contents(name, potential)


def job_of(task: Task) -> Job:
    """The job of a worker."""
    settings, model = ScreenSettings(**task.settings), any_model(task.model)
    structures = structures_from(task.structures)
    return Job(structures, model, settings, contents_of_model(task.model, model), Path(task.folder), None, None, None)


__all__ = ["Job", "Screening", "contents_of_model", "job_of"]
