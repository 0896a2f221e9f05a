"""The table and the summary of a campaign, made from its records alone: the same records give the same bytes."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.atomic_write import write_bytes, write_text
from .._core.folder_lock import locked
from .._core.reading import reading
from ..errors import InputError
from ..io.kappa_hdf5 import read_kappa_hdf5
from ..metrics import WORST, factor_of_two
from .gruneisen import GAMMA_COLUMNS, gamma_columns, gamma_summary
from .records import current_record, plain, record_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .contents import Contents

    #: materials in the order of the tables; as a mapping, those whose records were made from these contents
    Materials = Iterable[str] | Mapping[str, Contents]


COLUMNS = (
    "mp_id", "name", "space_group", "temperature", "kappa", "kappa_P", "kappa_C", "kappa_DFT", "SRD", "SRE", "SRME",
    "heat_capacity_error", "frequency_error", "frequency_error_high", "frequency_shift_high", "beyond_wigner",
    "beyond_ioffe_regel", "space_group_after",
    "converged", "imaginary", "failure",
)  # fmt: skip
BY_TEMPERATURE = ("kappa", "heat_capacity_error", "beyond_wigner", "beyond_ioffe_regel")  # where there is a κ
CANCELLING = (0.2, 0.4)  # κ is right and its modes are wrong: SRE below the first, SRME above the second
COHERENT = 0.1  # of κ in coherences: where the Boltzmann equation alone does not do
TYPES = {225: "rocksalt", 216: "zincblende", 186: "wurtzite"}


def rows_of(folder: str | Path, mp_ids: Materials) -> list[dict[str, Any]]:
    """One row per material and temperature, in the order of `mp_ids`; materials without a record are left out."""
    rows = []
    for mp_id in mp_ids:
        record = current_record(folder, mp_id, mp_ids)
        if record is None:
            continue
        for k, temperature in enumerate(record["temperatures"]):
            row = {name: record.get(name) for name in COLUMNS}
            row |= {"temperature": temperature, "space_group_after": (record.get("space_groups") or [None, None])[1]}
            row |= {n: record[n][k] for n in ("kappa_DFT", "SRD", "SRE", "SRME")}
            row |= {n: record[n][k] if n in record else None for n in BY_TEMPERATURE}
            for name in ("kappa_P", "kappa_C"):
                row[name] = float(np.mean(record[name][k][:3])) if name in record else None
            row |= {n: record[n][k] if n in record else None for n in GAMMA_COLUMNS}
            rows.append(row)
    return rows


def summary_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over the materials at every temperature, overall and by type of structure.

    SRME and SRE: means, a material that failed counting 2 (κ_SRME's rule). within_factor_two: share of materials with
    κ between half and twice the reference's (one that failed is outside). The rest are over the materials that have the
    value:

    heat_capacity_error: mean of |C_V/C_V,DFT - 1|. frequency_error, frequency_error_high: mean Wasserstein-1 distances
    of the spectra, and of the highest third of the bands, THz; frequency_shift_high: mean shift of that third, negative
    where the potential is too soft.
    cancelling: materials with SRE < 0.2 (κ within 22 %) although SRME > 0.4 (`CANCELLING`): errors of modes cancel.
    coherence_share: mean κ_C/κ; coherent: materials where it exceeds 10 % (`COHERENT`), where the Boltzmann equation
    alone does not do. beyond_wigner, beyond_ioffe_regel: mean shares of the modes with 1/τ > Δω_avg = ω_max/(3 N_atoms),
    and with 1/τ > ω (Simoncelli, Marzari, Mauri, PRX 12, 041011 (2022)).
    """
    result: dict[str, Any] = {}
    for temperature in sorted({row["temperature"] for row in rows}):
        here = [row for row in rows if row["temperature"] == temperature]
        groups = {"all": here}
        for number, name in TYPES.items():
            if some := [row for row in here if row["space_group"] == number]:
                groups[name] = some
        result[f"{temperature:g} K"] = {name: _summary(some) | gamma_summary(some) for name, some in groups.items()}
    return plain(result)


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    def mean(name: str) -> float | None:
        values = [row[name] for row in rows if row[name] is not None]
        return float(np.mean(values)) if values else None

    kappa = [np.nan if row["kappa"] is None else row["kappa"] for row in rows]
    errors = [abs(row["heat_capacity_error"]) for row in rows if row["heat_capacity_error"] is not None]
    solved = [row for row in rows if row["kappa"] is not None]
    shares = [row["kappa_C"] / row["kappa"] for row in solved if row["kappa"]]
    return {
        "materials": len(rows),
        "failed": sorted(row["name"] for row in rows if row["kappa"] is None),
        "SRME": mean("SRME"),
        "SRE": mean("SRE"),
        "within_factor_two": factor_of_two(kappa, [row["kappa_DFT"] for row in rows]),
        "heat_capacity_error": float(np.mean(errors)) if errors else None,
        "frequency_error": mean("frequency_error"),
        "frequency_error_high": mean("frequency_error_high"),
        "frequency_shift_high": mean("frequency_shift_high"),
        "coherence_share": float(np.mean(shares)) if shares else None,
        "coherent": sorted(row["name"] for row in solved if row["kappa_C"] > COHERENT * row["kappa"]),
        "beyond_wigner": mean("beyond_wigner"),
        "beyond_ioffe_regel": mean("beyond_ioffe_regel"),
        "cancelling": sorted(
            row["name"] for row in solved if row["SRE"] < CANCELLING[0] and row["SRME"] > CANCELLING[1]
        ),
        "worst": [row["name"] for row in sorted(solved, key=lambda row: -row["SRME"])[:5] if row["SRME"] < WORST],
    }


def details_of(summary: dict[str, Any]) -> list[str]:
    """Lines for people about one group of a summary: what the scores do not say."""
    lines = []
    if summary["frequency_error"] is not None:
        lines.append(
            f"frequencies {summary['frequency_error']:.3f} THz off, the highest third"
            f" {summary['frequency_error_high']:.3f} THz (shifted by {summary['frequency_shift_high']:+.3f} THz)"
        )
    if summary["heat_capacity_error"] is not None:
        lines.append(f"C_V {_percent(summary['heat_capacity_error'])} off")
    if summary["coherence_share"] is not None:
        lines.append(
            f"coherences carry {_percent(summary['coherence_share'])} of κ{_list(summary['coherent'], 'most in')}"
        )
    if summary["beyond_wigner"] is not None:
        lines.append(
            f"{_percent(summary['beyond_wigner'])} of the modes beyond the Wigner limit,"
            f" {_percent(summary['beyond_ioffe_regel'])} beyond the Ioffe-Regel limit"
        )
    if summary["cancelling"]:
        lines.append(f"κ right and modes wrong{_list(summary['cancelling'], 'in')}")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _list(names: Sequence[str], word: str, most: int = 8) -> str:
    """Names after a word, as far as there are any and a line holds them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f", {word} {', '.join(names[:most])}{more}" if names else ""


def csv_of(rows: Sequence[dict[str, Any]]) -> str:
    """The table as CSV: numbers to seven digits, so that rounding in the last place does not show."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = (*COLUMNS, *gamma_columns(rows))
    writer.writerow(columns)
    for row in rows:
        values = (row[name] for name in columns)
        writer.writerow(f"{v:.7g}" if isinstance(v, float) else "" if v is None else v for v in values)
    return text.getvalue()


def write_tables(folder: str | Path, mp_ids: Materials) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """table.csv and summary.json of all records there are; returns rows and summary.

    One process after the other: else a shard could write an older table over that of the shard that ends last.
    """
    folder = Path(folder)
    with locked(folder, wait=True):
        rows = rows_of(folder, mp_ids)
        summary = summary_of(rows)
        write_text(folder / "table.csv", csv_of(rows))
        write_text(folder / "summary.json", json.dumps(_rounded(summary), indent=1) + "\n")
    return rows, summary


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value


def write_matbench(folder: str | Path, mp_ids: Materials, path: str | Path) -> int:
    """The records as the table matbench-discovery takes for its conductivity task (`.json.gz`); returns their number.

    A JSON table of columns, each a dictionary by row number: material_id, formula, kappa_tot_rta, kappa_p_rta, kappa_c
    (T, 6), mode_kappa_tot_avg (T, P, m), mode_weights, q_points, ph_freqs, heat_capacity, init_spg_num, final_spg_num,
    has_imag_ph_modes, reached_max_steps, broken_symmetry, temperatures, errors.
    """
    rows = []
    for mp_id in mp_ids:
        record = current_record(folder, mp_id, mp_ids)
        if record is None:
            continue
        groups = record.get("space_groups") or [None, None]
        row = {
            "material_id": mp_id,
            "formula": record["name"],
            "init_spg_num": groups[0],
            "final_spg_num": groups[1],
            "broken_symmetry": groups[0] != groups[1],
            "has_imag_ph_modes": record.get("imaginary"),
            "reached_max_steps": None if "converged" not in record else not record["converged"],
            "temperatures": record["temperatures"],
            "errors": [] if record["failure"] is None else [record["failure"]],
        }
        if "kappa" in record:
            row |= _modes_of(record_path(folder, mp_id))
        rows.append(plain(row))
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = {name: {str(k): row.get(name) for k, row in enumerate(rows)} for name in names}
    write_bytes(path, gzip.compress(json.dumps(table).encode(), mtime=0))
    return len(rows)


def _modes_of(path: Path) -> dict[str, Any]:
    """Conductivities and what they are of by mode, under matbench's names.

    Raises:
        InputError: the record is damaged where tables do not look.
    """
    try:
        with reading(path, "a record with all conductivities"):
            data = read_kappa_hdf5(path)
            return {
                "kappa_tot_rta": data["kappa_TOT_RTA"],
                "kappa_p_rta": data["kappa_P_RTA"],
                "kappa_c": data["kappa_C"],
                "mode_kappa_tot_avg": data["mode_kappa_TOT"][..., :3].mean(axis=-1),
                "mode_weights": data["weight"],
                "q_points": data["qpoint"],
                "ph_freqs": data["frequency"],
                "heat_capacity": data["heat_capacity"],
            }
    except InputError as error:
        raise InputError(error.found, f"remove {path}, and run the same command again") from error


__all__ = [
    "COLUMNS",
    "TYPES",
    "csv_of",
    "details_of",
    "rows_of",
    "summary_of",
    "write_matbench",
    "write_tables",
]
