"""κ of published potentials: this package against the originals' calculators driven by phono3py 3.30.0.

    python -m venv zoo
    zoo/bin/pip install torch==2.13.0 "jax[cpu]" e3nn-jax==0.21.0 nequix==0.4.5 sevenn==0.13.0 phono3py==3.30.0
    python benchmarks/kappa_vs_originals.py --python zoo/bin/python --out benchmarks/results/kappa_vs_originals_cpu.json

Both sides follow κ_SRME's protocol from the stored structure on: two relaxations (FIRE and FrechetCellFilter to 1e-4, with
symmetry fixed and then free), displacements of 0.03 Å, tetrahedra on 19×19×19 or 19×19×15 points, isotopes, boundaries of
1e6 µm, 300 K. The *original* is nequix's or sevenn's own ASE calculator as it is shipped (float32), phono3py's force
constants with one pass of symmetrisation, and its original Wigner equation (`transport_type="MS-SMM19"`). *Ours* is what
`wigner-jax benchmark` does: the same by finite displacements, and once more with force constants by automatic
differentiation, which have no displacement. κ by finite displacements should agree within 2 %; the script exits with 1
where it does not.

It takes hours. Every finished piece goes into the record and is not done again; forces of the originals are kept in
`--work` every few calls.

Long, because the workers of both programs stand in one file.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import (
    SCRATCH,
    SHARED,
    add_output,
    configure_jax,
    environment,
    peak_rss_mb,
    read_rows,
    run_worker,
    save_rows,
    seconds_of,
    serve,
    table,
    version,
)

COMPOUNDS = {"NaCl": "mp-22862", "LiBr": "mp-23259", "MgO": "mp-1265", "GaAs": "mp-2534", "BeO": "mp-2542"}
FILES = {
    "sevennet-0": "checkpoint_sevennet_0.pth",
    "sevennet-l3i5": "checkpoint_sevennet_l3i5.pth",
    "nequix-mp-1": "nequix-mp-1.nqx",
}
WURTZITE = {"BeO": 186}  # zincblende BeO is in the file too, under the same number
DISTANCE, TEMPERATURE, BOUNDARY = 0.03, 300.0, 1e6  # Å, K, µm
LIMIT = 0.02
KEEP_EVERY = 20  # calls between two writes of the forces
PACKAGES = ("wigner-jax", "jax", "jaxlib", "numpy", "phono3py", "ase")
PEER_PACKAGES = ("phono3py", "phonopy", "ase", "nequix", "e3nn-jax", "jax", "sevenn", "e3nn", "torch", "numpy")


def structure(compound: str) -> Any:
    """The stored structure, with supercells and mesh in its info."""
    import ase.io
    import numpy as np

    for atoms in ase.io.iread(SHARED / "data/phonondb/phononDB-PBE-structures.extxyz", ":"):
        if atoms.info["mp_id"] == COMPOUNDS[compound] and atoms.info["symm.no"] == WURTZITE.get(
            compound, atoms.info["symm.no"]
        ):
            atoms.info.setdefault("primitive_matrix", np.eye(3))
            return atoms
    raise SystemExit(f"no structure of {compound}")


# -- the originals' process, which has nothing of ours -----------------------------------------------------------------


def original_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Relaxation, displacements and conductivity with the original calculator and phono3py."""
    import numpy as np
    from phono3py import Phono3py
    from phonopy.structure.atoms import PhonopyAtoms

    calculator = calculator_of(job["model"], Path(job["weights"]), job["threads"])
    atoms = structure(job["compound"])
    info = atoms.info
    kept = Path(job["forces"])
    if kept.is_file():
        stored = np.load(kept)
        atoms.set_cell(stored["cell"])
        atoms.positions[:] = stored["positions"]
        forces, relaxation = list(stored["forces"]), json.loads(str(stored["relaxation"]))
    else:
        seconds, relaxation = seconds_of(lambda: relax(atoms, calculator))
        forces, relaxation = [], {**relaxation, "seconds": seconds}
    ph3 = Phono3py(
        PhonopyAtoms(numbers=atoms.numbers, cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions()),
        supercell_matrix=np.array(info["fc3_supercell"]),
        phonon_supercell_matrix=np.array(info["fc2_supercell"]),
        primitive_matrix=np.array(info["primitive_matrix"], float).reshape(3, 3),
        symprec=1e-5,
        log_level=0,
    )
    ph3.generate_displacements(distance=DISTANCE)
    ph3.generate_fc2_displacements(distance=DISTANCE)
    cells = [*ph3.phonon_supercells_with_displacements, *ph3.supercells_with_displacements]
    second = len(ph3.phonon_supercells_with_displacements)
    started, before = time.perf_counter(), len(forces)
    sizes = [len(c) for c in cells]
    while len(forces) < len(cells):
        forces.append(padded(forces_of(cells[len(forces)], calculator), max(sizes)))
        if len(forces) % KEEP_EVERY == 0 or len(forces) == len(cells):
            keep(
                kept, cell=atoms.cell.array, positions=atoms.positions, forces=np.array(forces),
                relaxation=json.dumps(relaxation),
            )  # fmt: skip
            left = (time.perf_counter() - started) / (len(forces) - before) * (len(cells) - len(forces))
            print(f"{len(forces)}/{len(cells)} forces, {left:.0f} s left", file=sys.stderr, flush=True)
    forces_s = time.perf_counter() - started
    forces = [f[:n] for f, n in zip(forces, sizes, strict=True)]
    ph3.phonon_forces, ph3.forces = np.array(forces[:second]), np.array(forces[second:])
    ph3.produce_fc2(symmetrize_fc2=True)
    ph3.produce_fc3(symmetrize_fc3r=True)
    ph3.mesh_numbers = np.array(info["q_mesh"])
    ph3.init_phph_interaction()
    solve_s, _ = seconds_of(
        lambda: ph3.run_thermal_conductivity(
            is_isotope=True, temperatures=[TEMPERATURE], boundary_mfp=BOUNDARY, transport_type="MS-SMM19", log_level=0
        )
    )
    result = ph3.thermal_conductivity
    return {
        "kappa": float(result.kappa_TOT_RTA[0, 0, :3].mean()),
        "kappa_P": float(result.kappa_P_RTA[0, 0, :3].mean()),
        "kappa_C": float(result.kappa_C[0, 0, :3].mean()),
        "volume": float(atoms.get_volume()),
        "calls": [second, len(cells) - second],
        "relaxation": relaxation,
        "forces_s": forces_s,
        "solve_s": solve_s,
        "rss_mb": peak_rss_mb(),
        "versions": {name: version(name) for name in PEER_PACKAGES},
    }


def calculator_of(model: str, weights: Path, threads: int) -> Any:
    """The original program's calculator for ASE, as its users make it."""
    path = str(weights / FILES[model])
    if model.startswith("nequix"):
        from nequix.calculator import NequixCalculator

        return NequixCalculator(model_path=path, use_kernel=False)
    import torch
    from sevenn.calculator import SevenNetCalculator

    torch.set_num_threads(threads)
    return SevenNetCalculator(path, device="cpu")


def relax(atoms: Any, calculator: Any) -> dict[str, Any]:
    """κ_SRME's two stages, in place."""
    import spglib
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    def group() -> int:
        cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
        return int(spglib.get_symmetry_dataset(cell, symprec=1e-5).number)

    atoms.calc = calculator
    facts: dict[str, Any] = {"space_groups": [group()], "steps": [], "converged": []}
    ends = []
    for fixed in (True, False):
        atoms.set_constraint(FixSymmetry(atoms, symprec=1e-5) if fixed else None)
        optimiser = FIRE(FrechetCellFilter(atoms), logfile=None)
        facts["converged"].append(bool(optimiser.run(fmax=1e-4, steps=300)))
        facts["steps"].append(int(optimiser.nsteps))
        atoms.set_constraint(None)
        facts["space_groups"].append(group())
        ends.append((atoms.cell.array.copy(), atoms.positions.copy()))
    if facts["space_groups"][2] != facts["space_groups"][1]:
        atoms.set_cell(ends[0][0])
        atoms.positions[:] = ends[0][1]
    atoms.calc = None
    return facts


def forces_of(cell: Any, calculator: Any) -> Any:
    import numpy as np
    from ase import Atoms

    atoms = Atoms(numbers=cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
    atoms.calc = calculator
    return np.array(atoms.get_forces(), float)


def padded(forces: Any, atoms: int) -> Any:
    """With rows of zeros up to that many atoms: supercells of Φ2 and Φ3 in one array."""
    import numpy as np

    return np.concatenate([forces, np.zeros((atoms - len(forces), 3))])


def keep(path: Path, **arrays: Any) -> None:
    """An npz file that appears whole or not at all."""
    import numpy as np

    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as file:
        np.savez(file, **arrays)
    os.replace(file.name, path)


# -- our process -------------------------------------------------------------------------------------------------------


def our_worker(job: dict[str, Any]) -> dict[str, Any]:
    """One material of a campaign by one route."""
    configure_jax(job["threads"])

    import io

    from wigner_jax._core.progress import Progress
    from wigner_jax.evaluation.material import run_material
    from wigner_jax.evaluation.settings import EvaluationSettings
    from wigner_jax.io.phonondb import read_phonondb
    from wigner_jax.potentials.registry import load_potential, restrict

    atoms = structure(job["compound"])
    reference = read_phonondb(SHARED / "data/phonondb/kappas_phononDB_PBE_noNAC.json.gz")[atoms.info["mp_id"]]
    potential = restrict(load_potential(str(Path(job["weights"]) / FILES[job["model"]])), atoms.numbers)
    settings = EvaluationSettings(job["model"], "k_srme", job["route"], DISTANCE, (TEMPERATURE,), BOUNDARY)
    stages = Progress(io.StringIO())
    record, result = run_material(atoms, potential, reference, settings, stages)
    if result is None:
        raise SystemExit(f"{job['model']} on {job['compound']}: {record['failure']}")
    import numpy as np

    cells = round(abs(np.linalg.det(atoms.cell.array) / np.linalg.det(result[0].crystal.lattice)))
    return {
        "kappa": record["kappa"][0],
        "kappa_P": float(np.mean(record["kappa_P"][0][:3])),
        "kappa_C": float(np.mean(record["kappa_C"][0][:3])),
        "kappa_DFT": record["kappa_DFT"][0],
        "SRME": record["SRME"][0],
        "volume": float(abs(np.linalg.det(result[0].crystal.lattice)) * cells),
        "evaluations": record["evaluations"],
        "notes": record["notes"],
        "stages_s": stages.times,
        "rss_mb": peak_rss_mb(),
    }


def worker(job: dict[str, Any]) -> dict[str, Any]:
    return original_worker(job) if job["side"] == "original" else our_worker(job)


# -- the parent --------------------------------------------------------------------------------------------------------


def piece(work: Path, job: dict[str, Any], threads: int, python: str) -> dict[str, Any]:
    """The worker's result, from an earlier run if it is there."""
    name = "-".join(job[key] for key in ("model", "compound", "side", "route") if key in job)
    path = work / f"{name}.json"
    if not path.is_file():
        print(f"{name} …", file=sys.stderr, flush=True)
        result = run_worker(__file__, job, threads, python=python)
        partial = path.with_suffix(".part")
        partial.write_text(json.dumps(result))
        partial.replace(path)
    return json.loads(path.read_text())


PIECES = ("finite-displacement", "ad", "original")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", help="interpreter with the originals and phono3py 3.30.0; without it ours alone")
    parser.add_argument("--models", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--compounds", nargs="+", choices=list(COMPOUNDS), default=list(COMPOUNDS))
    parser.add_argument("--pieces", nargs="*", choices=PIECES, default=PIECES, help="none: only the table")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights", help="folder of the model files")
    parser.add_argument("--work", type=Path, default=SCRATCH / "kappa_vs_originals", help="what is done already")
    parser.add_argument("--threads", type=int, default=1)
    add_output(parser)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    rows = read_rows(arguments.out)
    for compound in arguments.compounds:
        for model in arguments.models:
            row = rows.setdefault(f"{model} {compound}", {"model": model, "compound": compound})
            for name in PIECES:
                if name in arguments.pieces and name not in row and (name != "original" or arguments.python):
                    row[name] = piece(arguments.work, job_of(name, model, compound, arguments), *how(name, arguments))
                    save(arguments.out, rows)
    done = [row for row in rows.values() if {"original", "finite-displacement"} <= row.keys()]
    header = [
        "model, compound",
        "κ original",
        "ours, 0.03 Å",
        "difference",
        "ours, AD",
        "difference",
        "SRME",
        "AD",
        "DFT",
    ]
    print(table(header, [line(row) for row in done]))
    beyond = [f"{r['model']} {r['compound']}" for r in done if abs(difference(r, "finite-displacement")) > LIMIT]
    if beyond:
        raise SystemExit(f"κ differs by more than {100 * LIMIT:g} %: {', '.join(beyond)}")


def job_of(name: str, model: str, compound: str, arguments: argparse.Namespace) -> dict[str, Any]:
    job = {"model": model, "compound": compound, "weights": str(arguments.weights.resolve())}
    if name == "original":
        forces = arguments.work / f"{model}-{compound}-forces.npz"
        return {**job, "side": "original", "forces": str(forces.resolve())}
    return {**job, "side": "ours", "route": name}


def how(name: str, arguments: argparse.Namespace) -> tuple[int, str]:
    """Threads and interpreter; a virtual environment's interpreter is a link, not to be resolved."""
    return arguments.threads, str(Path(arguments.python).absolute()) if name == "original" else sys.executable


def save(path: Path | None, rows: dict[str, dict[str, Any]]) -> None:
    facts = {"benchmark": "kappa_vs_originals", **environment(PACKAGES)}
    save_rows(path, facts, [row for row in rows.values() if len(row) > 2])


def difference(row: dict[str, Any], name: str) -> float:
    return row[name]["kappa"] / row["original"]["kappa"] - 1


def line(row: dict[str, Any]) -> list[str]:
    steps, ad = row["finite-displacement"], row.get("ad")
    return [
        f"{row['model']} {row['compound']}",
        f"{row['original']['kappa']:.4f}",
        f"{steps['kappa']:.4f}",
        f"{100 * difference(row, 'finite-displacement'):+.2f} %",
        f"{ad['kappa']:.4f}" if ad else "",
        f"{100 * difference(row, 'ad'):+.2f} %" if ad else "",
        f"{steps['SRME']:.4f}",
        f"{ad['SRME']:.4f}" if ad else "",
        f"{steps['kappa_DFT']:.4f}",
    ]


if __name__ == "__main__" and not serve(worker):
    main()
