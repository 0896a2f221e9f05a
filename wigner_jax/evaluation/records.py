"""What a campaign keeps: one HDF5 file per material, which appears whole or not at all, and its settings.

OUT/settings.json            what was asked for; a campaign is continued only with the same settings
OUT/records/mp-661.hdf5      phono3py's kappa schema with the Wigner terms; the scores as JSON in its attribute
                             `record`; a material that failed has that attribute alone
OUT/times/mp-661.json        wall times of its stages
OUT/table.csv, summary.json  made from the records, in the order of the structure file
OUT/times.csv                made from the times
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from .._core.arrays_in import open_hdf5
from .._core.atomic_write import atomic_write
from .._core.reading import read_json, reading
from ..errors import InputError
from ..io.kappa_hdf5 import kappa_datasets, put_datasets
from .settings import EvaluationSettings

if TYPE_CHECKING:
    from ..physics.bands import Bands
    from ..solution import Solution

    #: the arguments of `kappa_datasets`
    Result = tuple[Solution, Bands | None]


GAMMA = ("gamma", "gamma_reference", "gamma_SRE")  # of a record with Grüneisen parameters, by temperature


def record_path(folder: str | Path, mp_id: str) -> Path:
    return Path(folder) / "records" / f"{mp_id}.hdf5"


def open_campaign(folder: str | Path, settings: EvaluationSettings) -> None:
    """Make the folders, or check that they belong to the same settings.

    Raises:
        InputError: the folder holds a campaign with other settings, or cannot be written to.
    """
    folder = Path(folder)
    try:
        for name in ("records", "times"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        path = folder / "settings.json"
        asked = dataclasses.asdict(settings) | {"temperatures": list(settings.temperatures)}
        if path.is_file():
            with reading(path, "the settings of a campaign", "name another folder"):
                there = dataclasses.asdict(EvaluationSettings("")) | read_json(path)
            different = [k for k in asked if there[k] != asked[k]]
            if different:
                k = different[0]
                raise InputError(
                    f"{folder} holds a campaign with {k} {there[k]!r}, not {asked[k]!r}",
                    "name another folder, or the same options",
                )
        else:
            write_text(path, json.dumps(asked, indent=1) + "\n")
        for part in (folder / "records").glob(".*.part"):  # of a run that was killed; another shard's is younger
            if not _alive(part):
                part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror or error})", "name another folder") from None


def _alive(part: Path) -> bool:
    """Whether the process that writes this file still runs (its number is in the name)."""
    try:
        os.kill(int(part.name.split(".")[-2]), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def write_text(path: Path, text: str) -> None:
    """Atomically."""
    with atomic_write(path) as part:
        part.write_text(text)


def write_record(
    folder: str | Path, record: dict[str, Any], times: dict[str, float],
    result: Result | None = None,
) -> None:  # fmt: skip
    """Write the record of one material, and its times.

    Args:
        record: scores and facts, JSON values; `mp_id` names the file. An array `mode_gruneisen` becomes a dataset.
        times: seconds by stage.
        result: the arguments of kappa_datasets, if there is a conductivity.
    """
    path = record_path(folder, record["mp_id"])
    with atomic_write(path) as part, h5py.File(part, "w") as file:
        facts = {name: value for name, value in record.items() if name != "mode_gruneisen"}
        file.attrs["record"] = json.dumps(facts, allow_nan=False)
        if len(facts) < len(record):
            file.create_dataset("mode_gruneisen", data=np.asarray(record["mode_gruneisen"]), compression="gzip")
        if result is not None:
            put_datasets(file, kappa_datasets(*result))
    write_text(Path(folder) / "times" / f"{record['mp_id']}.json", json.dumps(times) + "\n")


def read_record(path: str | Path, complete: bool = True) -> dict[str, Any] | None:
    """The record of one material; None if there is none, or it is not readable (it is made again).

    Args:
        complete: whether it must have all that tables are made of.
    """
    if not Path(path).is_file():
        return None
    try:
        with reading(path, "a record of a campaign"):
            with open_hdf5(path) as file:
                record = json.loads(file.attributes()["record"])
            if not isinstance(record, dict):
                raise InputError("it is no table")
            return _checked(record) if complete else record
    except InputError:
        return None


def _checked(record: Any) -> dict[str, Any]:
    """The record, if it has what tables are made of; InputError otherwise."""
    times = len(record["temperatures"])
    kinds: dict[str, Any] = {
        "mp_id": str,
        "name": str,
        "failure": (str, type(None)),
        "space_groups": (list, type(None)),
    }
    if not all(isinstance(record.get(name), kind) for name, kind in kinds.items()) or times == 0:
        raise InputError("it lacks a name, its failure or its temperatures")
    if len(record.get("space_groups") or [0, 0]) != 2:
        raise InputError("it has other space groups than two")
    for name in ("temperatures", "kappa_DFT", "SRD", "SRE", "SRME"):
        _require_numbers(record, name, (times,))
    if not all(t is not None and 0 < t < 1e6 for t in record["temperatures"]):
        raise InputError("its temperatures are not above 0 K")
    for name in ("kappa", "heat_capacity_error", "beyond_wigner", "beyond_ioffe_regel", *GAMMA):
        if name in record:
            _require_numbers(record, name, (times,))
    for name in ("kappa_P", "kappa_C"):
        if "kappa" in record or name in record:
            _require_numbers(record, name, (times, 6))
    for name in ("frequency_error", "frequency_error_high", "frequency_shift_high", "space_group"):
        if record.get(name) is not None:
            _require_numbers(record, name, ())
    return record


def _require_numbers(record: dict[str, Any], name: str, shape: tuple[int, ...]) -> None:
    """InputError unless a record has numbers, or None for some, of this shape by a name."""
    array = np.asarray(record[name], object)
    if array.shape != shape or not all(x is None or type(x) in (int, float) for x in array.ravel()):
        raise InputError(f"its {name} are no numbers of shape {shape}")


def plain(value: Any) -> Any:
    """Arrays and numpy numbers as JSON values; numbers that are not finite as None."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


__all__ = [
    "open_campaign",
    "plain",
    "read_record",
    "record_path",
    "write_record",
    "write_text",
]
