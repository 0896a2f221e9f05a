"""γ(300 K) of published potentials by gamma_SRME's ±1 % volumes, against its authors' numbers; derivatives beside it.

    python benchmarks/gruneisen.py --out benchmarks/results/gruneisen_cpu.json

For two potentials that are not smooth and ten compounds, chosen beforehand (`COMPOUNDS`: rocksalt and zincblende, published
|γ| below 10 for both, SRME below 2), two pieces each:

    steps   the published protocol: FIRE to 1e-4 eV/Å (symmetry fixed, then free), volumes 0.99 V and 1.01 V, Φ2 of 512
            atoms by phonopy's displacements of 0.03 Å, 19×19×19 points, γ = ΣCγ/ΣC
    ad      at the same relaxed structure, by automatic differentiation: ∂Φ2/∂ ln V of 512 atoms (strain), and from Φ3 of
            64 atoms (third). Their difference has two causes: the supercells, and images of atoms that Φ3 of 64 atoms
            cannot tell apart; the two routes in the same 64 atoms (strain_64, third_64) show the second alone.

A piece that is in the output file is not done again, so that the script may be interrupted. The limit is 3 % of the
published number for `steps`; `--variants` adds what was tried where that is missed.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from typing import TYPE_CHECKING, Any

from common import (
    SHARED,
    TEMPERATURE,
    add_output,
    configure_jax,
    device_facts,
    environment,
    number,
    read_rows,
    run_worker,
    save_rows,
    seconds_of,
    serve,
    table,
)

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 0.03
MODELS = {"sevennet-0": "gamma_SevenNet-0", "m3gnet-mp-2021.2.8-matgl": "gamma_M3GNet"}  # and the published column
COMPOUNDS = {
    "LiBr": "mp-23259", "MgO": "mp-1265", "NaCl": "mp-22862", "CaO": "mp-2605", "NaF": "mp-682", "LiCl": "mp-22905",
    "LiI": "mp-22899", "SrO": "mp-2472", "ZnTe": "mp-2176", "GaAs": "mp-2534",
}  # fmt: skip
PIECES = ("steps", "ad")
#: What may differ from the published runs, one change at a time, in pieces "steps:NAME"
VARIANTS: dict[str, dict[str, Any]] = {
    "distance-0.01": {"distance": 0.01},
    "step-0.003": {"step": 0.003},
    "phi2-ad": {"distance": None},
    "small-steps": {"step": 0.001, "distance": None},
    "newton": {"newton": True},
    "float32": {"float32": True},
    "dft-cell": {"unrelaxed": True},
}
PACKAGES = ("wigner-jax", "jax", "numpy", "ase", "phonopy")


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """One piece of one compound."""
    configure_jax(job["threads"])
    os.environ.setdefault("WIGNER_JAX_MODELS", str(SHARED / "weights"))

    from wigner_jax import load_potential
    from wigner_jax.io.phonondb import read_phonondb_structure
    from wigner_jax.potentials.registry import restrict

    path = SHARED / "data" / "phonondb" / "phononDB-PBE-structures.extxyz"
    atoms = read_phonondb_structure(path, COMPOUNDS[job["compound"]])
    potential = restrict(load_potential(job["model"]), atoms.numbers)
    if "cell" in job:
        atoms.set_cell(job["cell"])
        atoms.set_scaled_positions(job["positions"])
    seconds, result = seconds_of(lambda: (derivatives if job["piece"] == "ad" else steps)(atoms, potential, job))
    return device_facts() | result | {"seconds": seconds}


def steps(atoms: Any, potential: Any, job: dict[str, Any]) -> dict[str, Any]:
    """The published protocol, with one change if the job says so."""
    from wigner_jax import WignerCalculator, relax, relax_k_srme
    from wigner_jax.thermodynamics.gruneisen import VolumeSteps, gruneisen_by_volumes

    calculator: Any = WignerCalculator(potential)
    if job.get("float32"):
        calculator = single_precision(calculator)
    relaxed, message = atoms, "not relaxed"
    if job.get("newton"):
        relaxed, newton = relax(atoms, potential)
        message = newton.message
    elif not job.get("unrelaxed"):
        relaxed, report = relax_k_srme(atoms, calculator)
        message = report.message
    relaxed.info = dict(atoms.info)
    options = VolumeSteps(**{name: job[name] for name in ("distance", "step") if name in job})
    source = potential if options.distance is None else calculator
    found, volumes = gruneisen_by_volumes(relaxed, source, atoms.info["q_mesh"], options)
    return {
        "gamma": float(found.average((TEMPERATURE,))[0]),
        "message": message,
        "cell": relaxed.cell.array.tolist(),
        "positions": relaxed.get_scaled_positions().tolist(),
        "volumes": volumes.volumes,
        "imaginary": volumes.imaginary,
        "calls": volumes.calls,
    }


def single_precision(calculator: Any) -> Any:
    """Forces and stresses rounded to single precision, as the originals compute them."""
    import numpy as np

    inner = calculator.calculate

    def calculate(*arguments: Any, **options: Any) -> None:
        inner(*arguments, **options)
        for name in ("forces", "stress"):
            calculator.results[name] = calculator.results[name].astype(np.float32).astype(float)

    calculator.calculate = calculate
    return calculator


def derivatives(atoms: Any, potential: Any, job: dict[str, Any]) -> dict[str, Any]:
    """γ by automatic differentiation, by strain and from Φ3."""
    import dataclasses

    from wigner_jax import default_supercells, force_constants
    from wigner_jax.thermodynamics.gruneisen import gruneisen_by_strain, gruneisen_by_third_order
    from wigner_jax.types import ForceConstants

    mesh, cells = atoms.info["q_mesh"], default_supercells(atoms)
    small = dataclasses.replace(cells, fc2_supercell=cells.fc3_supercell)
    strain, second = gruneisen_by_strain(cells, potential, mesh)
    both, report = force_constants(small, potential)
    third = gruneisen_by_third_order(cells, ForceConstants(second, both.fc3), mesh)
    strain_64, _ = gruneisen_by_strain(small, potential, mesh)
    third_64 = gruneisen_by_third_order(small, both, mesh)
    return {
        name: float(one.average((TEMPERATURE,))[0])
        for name, one in {"strain": strain, "third": third, "strain_64": strain_64, "third_64": third_64}.items()
    } | {"residual": report.residual, "margin": report.margin, "notes": list(report.warnings)}


def published() -> dict[str, dict[str, str]]:
    path = SHARED / "data" / "published" / "gruneisen.csv"
    if not path.is_file():
        raise SystemExit(f"no published numbers at {path}: set WIGNER_JAX_SHARED to the folder that holds data/")
    with path.open(newline="") as file:
        return {row["mp_id"]: row for row in csv.DictReader(file)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    parser.add_argument("--only", nargs="+", choices=tuple(COMPOUNDS), default=tuple(COMPOUNDS))
    parser.add_argument("--pieces", nargs="+", choices=PIECES, default=PIECES)
    parser.add_argument("--variants", nargs="*", choices=tuple(VARIANTS), default=(), help="further pieces")
    parser.add_argument("--threads", type=int, default=1)
    add_output(parser)
    arguments = parser.parse_args()
    known = published()
    rows = read_rows(arguments.out)
    pieces = [*(p for p in PIECES if p in arguments.pieces), *(f"steps:{name}" for name in arguments.variants)]
    for piece in pieces:
        for model in arguments.models:
            for compound in arguments.only:
                row = rows.setdefault(f"{model} {compound}", {"model": model, "compound": compound})
                reference = known[COMPOUNDS[compound]]
                row |= {"published": float(reference[MODELS[model]]), "DFT": float(reference["gamma_DFT"])}
                if piece in row:
                    continue
                job = {"model": model, "compound": compound, "piece": piece}
                if piece == "ad":
                    if "steps" not in row:
                        continue
                    job |= {name: row["steps"][name] for name in ("cell", "positions")}
                elif ":" in piece:
                    job |= VARIANTS[piece.split(":")[1]]
                row[piece] = run_worker(__file__, job, arguments.threads)
                print(line_of(row, piece), file=sys.stderr, flush=True)
                save(arguments.out, rows)
    done = [row for row in rows.values() if "steps" in row]
    header = ["model, compound", "published", "±1 %", "error", "strain", "Φ3", "strain 64", "Φ3 64", "DFT"]
    print(table(header, [line(row) for row in done]))
    late = [f"{row['model']} {row['compound']}" for row in done if abs(error(row)) > LIMIT]
    print(
        f"{len(done) - len(late)} of {len(done)} within {100 * LIMIT:g} %" + (f"; not: {', '.join(late)}" * bool(late))
    )


def save(path: Path | None, rows: dict[str, dict[str, Any]]) -> None:
    facts = {"benchmark": "gruneisen", "temperature": TEMPERATURE, "limit": LIMIT, **environment(PACKAGES)}
    save_rows(path, facts, [row for row in rows.values() if len(row) > 4])


def error(row: dict[str, Any]) -> float:
    return row["steps"]["gamma"] / row["published"] - 1


def line_of(row: dict[str, Any], piece: str) -> str:
    values = row[piece]
    shown = number(values.get("gamma", values.get("strain")), 5)
    return (
        f"{row['model']} {row['compound']} {piece}: {shown} (published {row['published']}; {values['seconds']:.0f} s)"
    )


def line(row: dict[str, Any]) -> list[str]:
    ad = row.get("ad", {})
    values = [row["published"], row["steps"]["gamma"]]
    more = [ad.get(name) for name in ("strain", "third", "strain_64", "third_64")] + [row["DFT"]]
    return [
        f"{row['model']} {row['compound']}",
        *(number(v, 4) for v in values),
        f"{100 * error(row):+.1f} %",
        *(number(v, 4) for v in more),
    ]


if __name__ == "__main__":
    if not serve(worker):
        main()
