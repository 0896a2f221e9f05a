"""What a screening keeps: one file for each material, whole or not there, and tables made from them.

OUT/settings.json         what was asked
OUT/materials/NAME.hdf5   the record as JSON in the attribute `record`; of a solved material phono3py's kappa schema as well
OUT/coarse/NAME.hdf5      of the first of two stages: the record and the force constants, which the second uses again
OUT/table.csv             a row for each material and temperature
OUT/screen.db             an ASE database: a row for each material, κ at the first temperature, all of the record as data
"""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.arrays_in import open_hdf5
from .._core.atomic_write import atomic_hdf5, check_folder, check_output, replacing, write_text
from .._core.folder_lock import locked
from .._core.own_files import OF_SCREENING, read_settings
from .._core.reading import reading
from .._core.temporaries import remove_forgotten
from ..errors import InputError
from ..evaluation.records import plain
from ..io.constants.given import GivenConstants
from ..io.constants.own import constants_in, put_constants
from ..io.kappa_hdf5 import kappa_datasets, put_datasets
from .material import DONE, STATUSES, Outcome, Prepared

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from .settings import ScreenSettings

ADVICE = "name another folder"
STAGES = ("coarse", "materials")
TABLES = ("settings.json", "table.csv", "screen.db")
COLUMNS = (
    "name", "formula", "status", "temperature", "kappa", "kappa_P", "kappa_C", "kappa_xx", "kappa_yy", "kappa_zz", "kappa_yz",
    "kappa_xz", "kappa_xy", "lowest_frequency", "space_group", "space_group_relaxed", "volume", "atoms", "supercell_fc2",
    "supercell_fc3", "mesh", "stage", "seconds", "reason", "notes",
)  # fmt: skip


def open_folder(
    folder: str | Path, names: Iterable[str], settings: ScreenSettings, contents: Mapping[str, str], restart: bool
) -> Path:
    """Make the folders, or check that they belong to the same settings and potential, and have room for these materials.

    Raises:
        InputError: another screening, files of others in its places, or nothing can be written.
    """
    folder = check_folder(folder, 0.0, ADVICE)
    path = folder / "settings.json"
    asked = settings.deciding() | dict(contents)
    there = read_settings(path, *OF_SCREENING)
    if there is None and path.is_file() and path.stat().st_size:
        raise InputError(f"{path} is not of a screening", ADVICE)
    if folder.is_dir():
        for name in TABLES:
            check_output(folder / name, what="a table of a screening", ours=lambda _: there is not None, advice=ADVICE)
    for stage in STAGES:
        if (folder / stage).is_symlink() or ((folder / stage).exists() and not (folder / stage).is_dir()):
            raise InputError(f"{folder / stage} is not a folder", "move it away, or " + ADVICE)
        for name in names:
            if (record := path_of(folder, name, stage)).exists() and not record.is_file():
                raise InputError(f"{record} is not a file", "move it away, or " + ADVICE)
    (folder / "materials").mkdir(parents=True, exist_ok=True)
    for place in (folder, *(folder / name for name in STAGES)):
        if place.is_dir():
            remove_forgotten(place)
    if there is not None and not restart:
        for key, value in asked.items():
            if there.get(key) != value:
                what = (
                    key.removeprefix("the ") if key in contents else f"value of {key} ({there.get(key)}, now {value})"
                )
                raise InputError(
                    f"{folder} holds a screening with another {what}", "name another folder, or give --restart"
                )
    if there != asked:
        write_text(path, json.dumps(asked, indent=1) + "\n", ADVICE)
    return folder


def path_of(folder: Path, name: str, stage: str) -> Path:
    return folder / stage / f"{name}.hdf5"


def write_outcome(folder: Path, stage: str, outcome: Outcome, keep_constants: bool) -> None:
    """The file of one material."""
    (folder / stage).mkdir(exist_ok=True)
    with atomic_hdf5(path_of(folder, outcome.record["name"], stage), ADVICE) as file:
        file.attrs["record"] = json.dumps(plain(outcome.record), allow_nan=False)
        if outcome.solution is not None:
            put_datasets(file, kappa_datasets(outcome.solution))
        if keep_constants and outcome.prepared is not None:
            made = outcome.prepared
            given = GivenConstants(made.supercells, made.force_constants, mesh=made.mesh)
            put_constants(file.create_group("prepared"), given)


def read_record(folder: Path, name: str, stage: str) -> dict[str, Any] | None:
    """The record of one material; None if there is none that can be read (it is made again)."""
    path = path_of(folder, name, stage)
    if not path.is_file():
        return None
    try:
        with reading(path, "a record of a screening"):
            with open_hdf5(path) as file:
                record = json.loads(file.attributes()["record"])
            _require_sound(record, name)
            return record
    except InputError:
        return None


TEXTS = ("name", "status", "reason")
SHAPES = {"atoms": (3,), "mesh": (3,), "lattice": (3, 3), "volume": (), "lowest_frequency": ()}  # where they are there


def _require_sound(record: Any, name: str) -> None:
    """Raises InputError, ValueError, KeyError or TypeError unless tables can be made of a record."""

    def numbers(value: Any, shape: tuple[int, ...]) -> np.ndarray:
        array = np.asarray(value, float)
        if array.shape != shape or not np.isfinite(array).all():
            raise InputError("it is damaged")
        return array

    lists = [record["notes"], record["seconds"].values(), record["contents"].values()]
    texts = [record[k] for k in TEXTS] + [record.get("formula", ""), record["stage"], *lists[0], *lists[2]]
    if not all(isinstance(text, str) for text in texts) or record["name"] != name or record["status"] not in STATUSES:
        raise InputError("it is damaged")
    numbers(list(lists[1]), (len(lists[1]),))
    for key, shape in SHAPES.items():
        if record.get(key) is not None:
            numbers(record[key], shape)
    if len(record.get("space_groups") or (0, 0)) != 2:
        raise InputError("it is damaged")
    if "lattice" in record:
        kinds = numbers(record["numbers"], (len(record["numbers"]),))
        numbers(record["positions"], (len(kinds), 3))
        if not (len(kinds) and np.all((kinds >= 1) & (kinds <= 118) & (kinds == np.rint(kinds)))):
            raise InputError("it is damaged")
    if record["status"] == DONE:
        count = len(record["temperatures"])
        numbers(record["temperatures"], (count,))
        numbers(record["kappa"], (count,))
        for key in ("kappa_TOT", "kappa_P", "kappa_C"):
            numbers(record[key], (count, 6))


def read_prepared(folder: Path, name: str) -> Prepared | None:
    """Force constants of the first stage; None if there are none, or not those that were written."""
    path = path_of(folder, name, "coarse")
    try:
        with reading(path, "force constants of a screening"), open_hdf5(path) as file:
            given = constants_in(file.tree()["prepared"], file.attributes())
        return Prepared(given.supercells, given.force_constants, given.mesh)
    except (InputError, KeyError, TypeError):
        return None


def rows_of(records: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each material and temperature; one for a material without κ."""
    rows = []
    for record in records:
        before, after = record.get("space_groups") or (None, None)
        n, second, third = record.get("atoms") or (None, None, None)
        base = {k: record.get(k) for k in COLUMNS} | {
            "space_group": before, "space_group_relaxed": after, "atoms": n, "supercell_fc2": second, "supercell_fc3": third,
            "mesh": "x".join(map(str, record.get("mesh") or ())), "seconds": (record.get("seconds") or {}).get("total"),
            "notes": "; ".join(record.get("notes") or ()), "kappa": None, "kappa_P": None, "kappa_C": None,
        }  # fmt: skip
        if record["status"] != DONE:
            rows.append(base)
            continue
        for k, temperature in enumerate(record["temperatures"]):
            row = base | {"temperature": temperature, "kappa": record["kappa"][k]}
            row |= {name: float(np.mean(record[name][k][:3])) for name in ("kappa_P", "kappa_C")}
            row |= {f"kappa_{c}": record["kappa_TOT"][k][i] for i, c in enumerate(("xx", "yy", "zz", "yz", "xz", "xy"))}
            rows.append(row)
    return rows


def write_tables(folder: Path, records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """table.csv and screen.db of these records, whole or as they were. Several processes may do so."""
    rows = rows_of(records)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    with locked(folder, ADVICE, wait=True):
        write_text(folder / "table.csv", text.getvalue(), ADVICE)
        with replacing(folder / "screen.db") as part:
            _write_database(part, records)
    return rows


def _write_database(path: Path, records: Sequence[dict[str, Any]]) -> None:
    import ase
    import ase.db

    whole = path.with_name(f"{path.name}.db")  # ASE tells databases by their ends
    whole.unlink(missing_ok=True)
    try:
        with ase.db.connect(whole, append=False) as database:
            for record in records:
                atoms = ase.Atoms()
                if "lattice" in record:
                    scaled = record["positions"]
                    atoms = ase.Atoms(record["numbers"], scaled_positions=scaled, cell=record["lattice"], pbc=True)
                row = rows_of([record])[0]
                keys = {
                    k: row[k] for k in COLUMNS
                    if row[k] is not None and row[k] != "" and k not in ("name", "formula", "notes", "mesh", "volume")
                }  # fmt: skip
                database.write(atoms, {"material": _word(record["name"]), **keys}, data={"record": plain(record)})
        path.write_bytes(whole.read_bytes())
    finally:
        whole.unlink(missing_ok=True)


def _word(name: str) -> str:
    """As ASE takes it for a value: a text that is no number."""
    try:
        float(name)
    except ValueError:
        return name if name not in ("True", "False") else f"{name}_"
    return f"{name}_"


__all__ = [
    "COLUMNS", "open_folder", "path_of", "read_prepared", "read_record", "rows_of", "write_outcome", "write_tables",
]  # fmt: skip
