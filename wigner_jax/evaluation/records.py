"""What a campaign keeps: one HDF5 file per material, which appears whole or not at all, and its settings.

OUT/settings.json            what was asked for; a campaign is continued only with the same settings and potential
OUT/records/mp-661.hdf5      phono3py's kappa schema with the Wigner terms; the scores as JSON in its attribute
                             `record`, with fingerprints of what it was made from (contents.py); a material that failed
                             has that attribute alone
OUT/times/mp-661.json        wall times of its stages
OUT/table.csv, summary.json  made from the records, in the order of the structure file
OUT/times.csv                made from the times
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.arrays_in import open_hdf5
from .._core.atomic_write import atomic_hdf5, check_folder, check_output, write_text
from .._core.own_files import read_settings
from .._core.reading import reading
from .._core.temporaries import remove_forgotten
from ..errors import InputError, say
from ..io.kappa_hdf5 import kappa_datasets, put_datasets
from .contents import NAMES, POTENTIAL, SETTINGS, changed
from .settings import EvaluationSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..physics.bands import Bands
    from ..solution import Solution
    from .contents import Contents

    #: the arguments of `kappa_datasets`
    Result = tuple[Solution, Bands | None]


ADVICE = "name another folder"
CONTENTS = "potential_contents"  # in settings.json: the fingerprint of the potential
GAMMA = ("gamma", "gamma_reference", "gamma_SRE")  # of a record with Grüneisen parameters, by temperature
MOST = 4  # changes that are named
TABLES = ("settings.json", "table.csv", "summary.json", "times.csv")


def record_path(folder: str | Path, mp_id: str) -> Path:
    return Path(folder) / "records" / f"{mp_id}.hdf5"


def open_campaign(
    folder: str | Path,
    settings: EvaluationSettings,
    potential: str | None = None,
    *,
    restart: bool = False,
    need: float = 0,
) -> None:
    """Make the folders, or check that they belong to the same settings.

    Args:
        potential: `potential_contents`; None does not ask for them.
        restart: a campaign with other settings becomes one with these; its records are made again one by one.
        need: bytes that the records will take, roughly.

    Raises:
        InputError: the folder holds a campaign with other settings, or files of others in its places, or cannot be
            written to. The names of the potential and of the table of γ do not count where their contents are known. Lost
            settings are written anew where all records say what they were made from.
    """
    folder = check_folder(folder, need, ADVICE)
    path = folder / "settings.json"
    there = read_settings(path, "potential", "protocol")
    ours = there is not None or _has_records(folder, path, restart)
    if there is None and path.is_file() and path.stat().st_size:
        raise InputError(f"{path} is not of a campaign", "remove it, and run again" if ours else ADVICE)
    if folder.is_dir():
        for name in TABLES:
            check_output(folder / name, what="a table of a campaign", ours=lambda _: ours, advice=ADVICE)
    asked = dataclasses.asdict(settings) | {"temperatures": list(settings.temperatures)}
    asked |= {} if potential is None else {CONTENTS: potential}
    try:
        for name in ("records", "times"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            remove_forgotten(folder / name)
        remove_forgotten(folder)
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror or error})", ADVICE) from None
    if there is not None:
        known = CONTENTS in there and potential is not None
        there = {CONTENTS: potential} | dataclasses.asdict(EvaluationSettings("")) | there
        compared = [k for k in asked if k not in _names_alone(known, there, asked)]
        if k := next((k for k in compared if there[k] != asked[k]), None):
            if not restart:
                what = f"with {k} {there[k]!r}, not {asked[k]!r}"
                if k == CONTENTS and there["potential"] == settings.potential:
                    what = f"of another potential by the name {settings.potential}: its contents changed"
                elif k == CONTENTS:
                    what = (
                        f"of another potential, {there['potential']}: that of {settings.potential} has other contents"
                    )
                raise InputError(
                    f"{folder} holds a campaign {what}",
                    "name another folder, or the same options; or --restart, which makes its records again",
                )
            there = None
    if there is None:
        write_text(path, json.dumps(asked, indent=1) + "\n", ADVICE)


def _names_alone(known: bool, there: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings that name files whose contents are compared: here, or by every record. What makes a calculator of ASE is
    one of several functions of a file, so that its name counts.

    Args:
        known: whether the contents of both potentials are.
    """
    if not known or any(settings["potential"].startswith("ase:") for settings in (there, asked)):
        return ()
    return NAMES


def _has_records(folder: Path, settings: Path, restart: bool) -> bool:
    """Whether a folder without its settings holds records of a campaign; they say themselves what they were made from.

    Raises:
        InputError: one does not say it, and is not to be made again.
    """
    found = False
    for path in sorted((folder / "records").glob("*.hdf5")):
        record = read_record(path, complete=False)
        found |= record is not None
        if record is not None and "contents" not in record and not restart:
            raise InputError(
                f"{settings} is lost, and {path.name} of an earlier version does not say what it was made from",
                "restore it, or --restart, which makes such records again",
            )
    return found


def missing_records(folder: str | Path, contents: Mapping[str, Contents], *, restart: bool = False) -> list[str]:
    """The materials without a record, in the order of `contents` (fingerprints by material).

    Args:
        restart: take those whose records were made from something else as missing; those that do not say are removed.

    Raises:
        InputError: records made from something else, with what has changed.
    """
    missing, different, unknown = [], [], 0
    for mp_id, now in contents.items():
        record = read_record(record_path(folder, mp_id))
        if record is None:
            check_output(record_path(folder, mp_id), what="a record", ours=lambda _: True, advice=ADVICE)
            missing.append(mp_id)
        elif found := changed(record, now):
            different += [f"{what} of {mp_id}" for what in found if what not in (POTENTIAL, SETTINGS)]
            different += [what for what in found if what in (POTENTIAL, SETTINGS) and what not in different]
            missing.append(mp_id)
        elif "contents" not in record and restart:
            record_path(folder, mp_id).unlink(missing_ok=True)
            missing.append(mp_id)
        else:
            unknown += "contents" not in record
    if different and not restart:
        more = f" and {len(different) - MOST} more" if len(different) > MOST else ""
        raise InputError(
            f"{folder} holds records that were made from something else: {', '.join(different[:MOST])}{more} changed",
            "name another folder, or --restart, which makes these records again",
        )
    if unknown:
        say(
            f"{unknown} records of an earlier version do not say what they were made from: they are taken as they are",
        )
    return missing


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
    with atomic_hdf5(path, ADVICE) as file:
        facts = {name: value for name, value in record.items() if name != "mode_gruneisen"}
        file.attrs["record"] = json.dumps(facts, allow_nan=False)
        if len(facts) < len(record):
            file.create_dataset("mode_gruneisen", data=np.asarray(record["mode_gruneisen"]), compression="gzip")
        if result is not None:
            put_datasets(file, kappa_datasets(*result))
    write_text(Path(folder) / "times" / f"{record['mp_id']}.json", json.dumps(times) + "\n")


def current_record(
    folder: str | Path, mp_id: str, contents: Mapping[str, Contents] | Iterable[str]
) -> dict[str, Any] | None:
    """The record of one material; None if there is none, or it was made from something else than `contents` says."""
    record = read_record(record_path(folder, mp_id))
    if record is not None and isinstance(contents, Mapping) and changed(record, contents[mp_id]):
        return None
    return record


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
    "current_record",
    "missing_records",
    "open_campaign",
    "plain",
    "read_record",
    "record_path",
    "write_record",
]
