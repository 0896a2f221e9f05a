"""Published potentials on phononDB-PBE: `wigner-jax benchmark` for each, its scores, its times, the published numbers beside.

    python benchmarks/studies/campaigns.py --potentials nequix-mp-1 sevennet-l3i5 --out benchmarks/results/campaigns

`--processes N` runs as many shards side by side, on one GPU too (set XLA_PYTHON_CLIENT_PREALLOCATE=false there).
κ_SRME's protocol at 300 K, force constants as the potential's card recommends (`--derivatives ad` or `finite-displacement` for the
other way), rocksalts and zincblendes (`--only` for others). A campaign goes on where it stopped: records lie under
`--folder`, and what is there is not done again, so that the times are those of the runs that made it.

Written for each potential: NAME.csv, the campaign's table, and NAME.json with the summary, seconds by stage, of all and
of each, the wall time of this run and how many compounds it did, and κ and SRME of the compounds that have published
values, with both.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what all benchmarks share
from common import SHARED, device_facts, environment, median, run_worker, serve, table, write_json

PUBLISHED = {"m3gnet-mp-2021.2.8-matgl": "m3gnet"}  # columns of published/kappa_srme.csv that have another name there
PACKAGES = ("wigner-jax", "jax", "jaxlib", "numpy", "ase", "spglib")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potentials", nargs="+", required=True, metavar="NAME")
    parser.add_argument(
        "--derivatives", choices=("ad", "finite-displacement"), help="of force constants (default: the card's)"
    )
    parser.add_argument("--only", nargs="+", default=["rs", "zb"], help="materials, as in wigner-jax benchmark")
    parser.add_argument("--fmax", type=float, help="eV/Å, of the relaxation (default: the protocol's 1e-4)")
    parser.add_argument("--threads", type=int, default=1, help="cores of a process")
    parser.add_argument("--processes", type=int, default=1, help="shards that run side by side")
    parser.add_argument("--label", default="", help="at the end of the record's name, such as h200")
    parser.add_argument("--folder", type=Path, default=Path("runs/campaigns"), help="where the campaigns' records lie")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="such as benchmarks/results/campaigns")
    arguments = parser.parse_args()
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
    for potential in arguments.potentials:
        name = name_of(potential)
        name += f"-{arguments.derivatives}" if arguments.derivatives else ""
        name += f"-fmax-{arguments.fmax:g}" if arguments.fmax else ""
        folder = arguments.folder / name
        name += f"-{arguments.label}" if arguments.label else ""
        before, started = recorded(folder), time.perf_counter()
        run(potential, folder, arguments)
        wall = {
            "seconds": round(time.perf_counter() - started, 1),
            "materials": recorded(folder) - before,
        }
        record = {"benchmark": "campaigns", **environment(PACKAGES), "device": run_worker(__file__, {}, 1)["device"]}
        record |= {"threads": arguments.threads, "processes": arguments.processes, "this_run": wall} | facts(folder)
        print(report(name, record))
        if arguments.out is not None:
            shutil.copyfile(folder / "table.csv", arguments.out / f"{name}.csv")
            write_json(arguments.out / f"{name}.json", record)


def run(potential: str, folder: Path, arguments: argparse.Namespace) -> None:
    """What is missing of one campaign, in processes of their own; stops here if the last one fails.

    Shards share the folder; the last process, without a shard, does what they left undone and writes the tables of all.
    """
    data = SHARED / "data/phonondb"
    command = [
        sys.executable, "-m", "wigner_jax", "benchmark", "--potential", potential, "--out", str(folder),
        "--structures", str(data / "phononDB-PBE-structures.extxyz"),
        "--reference", str(data / "kappas_phononDB_PBE_noNAC.json.gz"),
        "--only", *arguments.only, "--threads", str(arguments.threads),
        *(["--derivatives", arguments.derivatives] if arguments.derivatives else []),
        *(["--fmax", str(arguments.fmax)] if arguments.fmax else []),
    ]  # fmt: skip
    if (n := arguments.processes) > 1:
        shards = [subprocess.Popen([*command, "--shard", f"{i + 1}/{n}"], stdout=subprocess.DEVNULL) for i in range(n)]
        for shard in shards:
            shard.wait()
    if (code := subprocess.run(command).returncode) != 0:
        raise SystemExit(code)


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """What JAX computes on, in a process of its own: this one leaves JAX alone."""
    return device_facts()


def recorded(folder: Path) -> int:
    """How many compounds are done."""
    return len(list(folder.glob("records/*.hdf5")))


def facts(folder: Path) -> dict[str, Any]:
    """Settings, summary, times and the comparison with published numbers, from a campaign's files."""
    settings = json.loads((folder / "settings.json").read_text())
    rows = {row["mp_id"]: row for row in read_csv(folder / "table.csv")}
    times = {row.pop("mp_id"): {k: float(v) for k, v in row.items() if v} for row in read_csv(folder / "times.csv")}
    stages: dict[str, float] = {}
    for stage, seconds in (item for t in times.values() for item in t.items()):
        stages[stage] = stages.get(stage, 0.0) + seconds
    totals = [t["total"] for t in times.values()]
    name = name_of(settings["potential"])
    column = PUBLISHED.get(name, name)
    published = []
    for row in read_csv(SHARED / "data/published/kappa_srme.csv"):
        ours = rows.get(row["mp_id"])
        if ours is not None and row.get(f"SRME:{column}"):
            published.append(
                {
                    "compound": row["formula"],
                    "kappa_DFT": number_of(ours["kappa_DFT"]),
                    "kappa": number_of(ours["kappa"]),
                    "kappa_published": number_of(row[f"kappa:{column}"]),
                    "SRME": number_of(ours["SRME"]),
                    "SRME_published": number_of(row[f"SRME:{column}"]),
                }
            )
    return {
        "settings": settings,
        "summary": json.loads((folder / "summary.json").read_text()),
        "seconds": {stage: round(s, 1) for stage, s in stages.items()},
        "seconds_of_a_compound": {"median": median(totals), "min": min(totals), "max": max(totals)},
        "times": {
            f"{mp_id} {rows[mp_id]['name']}": {k: round(s, 1) for k, s in t.items()} for mp_id, t in times.items()
        },
        "published": published,
    }


def name_of(potential: str) -> str:
    """A name as it is, of a file its own without folder and ending."""
    return Path(potential).stem if "/" in potential else potential


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def number_of(text: str) -> float | None:
    return float(text) if text else None


def report(name: str, record: dict[str, Any]) -> str:
    """One table for people."""
    (summary,) = record["summary"].values()
    lines = [
        [
            kind,
            str(s["materials"]),
            *(f"{s[k]:.3f}" for k in ("SRME", "SRE", "within_factor_two")),
            str(len(s["failed"])),
        ]
        for kind, s in summary.items()
    ]
    text = [name, table(["", "materials", "SRME", "SRE", "within ×2", "failed"], lines)]
    seconds = record["seconds_of_a_compound"]
    text.append(f"a compound: median {seconds['median']:.0f} s, {seconds['min']:.0f} to {seconds['max']:.0f} s")
    if record["published"]:
        columns = ("kappa_DFT", "kappa", "kappa_published", "SRME", "SRME_published")
        body = [
            [p["compound"], *("-" if p[c] is None else f"{p[c]:.4g}" for c in columns)] for p in record["published"]
        ]
        text.append(table(["", "κ DFT", "κ", "published", "SRME", "published"], body))
    return "\n".join(text)


if __name__ == "__main__" and not serve(worker):
    main()
