"""`screen`: many crystals, one potential."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import require_double_precision
from ..errors import InputError
from ..evaluation.contents import POTENTIAL
from ..pipeline import any_model
from .dealing import Task
from .folder import open_folder
from .job import Job, Screening, contents_of_model
from .settings import ScreenSettings
from .sources import structures_from
from .workers import LocalPool, RayPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import ase
    from ase.calculators.calculator import Calculator

    from .._core.progress import Progress
    from ..potentials.base import Potential
    from .dealing import Pool


def screen(
    structures: str | Path | Iterable[ase.Atoms] | Mapping[str, ase.Atoms],
    model: str | Path | Potential | Calculator,
    *,
    out: str | Path | None = None,
    settings: ScreenSettings | None = None,
    coarse: int | None = None,
    highest: bool = True,
    shard: tuple[int, int] = (1, 1),
    processes: int | None = None,
    ray: int | None = None,
    max_time: float | None = None,
    restart: bool = False,
    progress: Progress | None = None,
    on_record: Callable[[dict[str, Any], int, int, str], None] | None = None,
    **options: Any,
) -> Screening:
    """κ of many crystals with one potential: relaxation, force constants, phonons and the Wigner conductivity of each.

        screening = screen("crystals/", "nequix-mp-1", out="screening", temperatures=(300, 600))
        for record in screening.ranked()[:10]:
            print(record["name"], record["kappa"])

    Whatever goes wrong with one material is its status and reason, and nothing to the others. With `out` everything that
    is finished is kept, and the same call continues: records know the structure that they were made from, and one that has
    changed is made again.

    Args:
        structures: see `structures_from`.
        model: a `Potential`, the name or file of one, any ASE calculator, or "ase:module:factory".
        out: folder for the records and tables (screening/folder.py); None keeps nothing on disk.
        settings: `ScreenSettings`; or its fields as options by name.
        coarse: two stages: all materials on a mesh with sixteen times fewer points, then as many as this on the whole one,
            with the same force constants. Needs `out`.
        highest: whether the second stage is for the highest κ of the first, or the lowest.
        shard: (i, n), every n-th material beginning with the i-th. Shards may share a folder. With `coarse` the second
            stage ranks what is there, so it waits until all shards have finished the first.
        processes: of this machine, which deal its cores out among them; None: this process alone. One that dies (for want of
            memory, say) is started again. Structures and model are then given by their names.
        ray: actors on a Ray cluster instead (the one that ``RAY_ADDRESS`` names, or one of this machine); they share `out`.
        max_time: s; no material is begun that would end later, by the times of those before.
        restart: make records again that were made with other settings or another potential.
        progress: shows the stages of each material.
        on_record: called as on_record(record, number, of how many, estimate of the time left) after each material.

    Returns:
        the screening: `records` of all materials, `ranked()` by κ, `failed`, and the table's `rows`. κ is in W/(m K).

    Raises:
        InputError: bad input, or a folder that belongs to something else; ValueError: double precision is off.
    """
    require_double_precision()
    settings = ScreenSettings(**options) if settings is None else dataclasses.replace(settings, **options)
    if not (len(shard) == 2 and 1 <= shard[0] <= shard[1]):
        raise InputError(f"the shard is {shard}", "give (i, n) with 1 ≤ i ≤ n")
    if coarse is not None and (coarse < 1 or out is None):
        raise InputError("two stages need a folder, and at least one material in the second", "give out and coarse ≥ 1")
    if out is not None and isinstance(structures, (str, Path)) and Path(out).resolve() == Path(structures).resolve():
        raise InputError(f"{out} is the folder of the structures", "name another one for what comes out")
    _require_workers(structures, model, out, processes, ray)
    found = structures_from(structures)
    potential = any_model(model)
    weights = contents_of_model(model, potential)
    folder = None if out is None else open_folder(out, found, settings, {POTENTIAL: weights}, restart)
    job = Job(found, potential, settings, weights, folder, progress, on_record, max_time)
    job.pool = _pool(structures, model, folder, settings, processes, ray)
    mine = list(found)[shard[0] - 1 :: shard[1]]
    complete = False
    try:
        complete = _stages(job, mine, coarse, highest)
    finally:  # what is finished is in the tables, whatever ended the rest
        result = job.finish(complete)
    return result


def _stages(job: Job, mine: list[str], coarse: int | None, highest: bool) -> bool:
    """Do what is missing; False if the time was over before."""
    if coarse is None:
        return job.run(mine, "materials", job.settings)
    rough = job.settings.coarser()
    if not job.run(mine, "coarse", rough):
        return False
    first = {n: r for n in job.structures if (r := job.current(n, "coarse", rough)) is not None}
    if len(first) < len(job.structures):
        return True  # other shards' turn
    best = Screening(list(first.values()), []).ranked(highest)[:coarse]
    chosen = {r["name"] for r in best}
    return job.run([n for n in mine if n in chosen], "materials", job.settings)


def _require_workers(structures: Any, model: Any, out: Any, processes: int | None, ray: int | None) -> None:
    """Raises InputError if workers are asked for that there cannot be."""
    if processes is None and ray is None:
        return
    if (processes is not None and ray is not None) or not all(n is None or n >= 1 for n in (processes, ray)):
        raise InputError("processes or ray is a number of workers above zero", "give one of them")
    if out is None or not isinstance(structures, (str, Path)) or not isinstance(model, (str, Path)):
        raise InputError("workers read structures and model themselves", "give out, and both by their names")


def _pool(
    structures: Any, model: Any, folder: Path | None, settings: ScreenSettings, processes: int | None, ray: int | None
) -> Pool | None:
    """Workers, if any are asked for."""
    if folder is None or (processes is None and ray is None):
        return None
    places = [str(Path(x).resolve()) if Path(x).exists() else str(x) for x in (structures, model)]
    task = Task(places[0], places[1], str(folder.resolve()), dataclasses.asdict(settings))
    return RayPool(task, ray, 1) if ray is not None else LocalPool(task, processes or 1)


__all__ = ["screen"]
