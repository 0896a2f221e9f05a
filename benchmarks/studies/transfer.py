"""Does fine-tuning on the conductivity of some compounds help others? Rotating folds, with and without replay.

    python benchmarks/studies/transfer.py --out benchmarks/results/transfer_cpu.json

Twenty rocksalt and zincblende compounds, chosen before anything was run: four folds of three rocksalts and two
zincblendes. For every fold the last layer and the readout of nequix-mp-1 are trained on the DFT mode conductivities of the
other fifteen (targets and learning rate for all alike), and κ_SRME is measured on the five left out, before and after.
*Replay* adds, at every step, one of the zero-shot model's own forces on rattled cells of all twenty; without it nothing but the
l2sp term holds the rest.

Everything here is in a light setting, before and after: DFT geometry, 64 atoms for Φ2, 32 for Φ3, adaptive Gaussians, the
reference's 19×19×19 points. Scores differ a little from those of the benchmark's setting; differences are what is asked.

The record goes on where it stopped: finished folds from `--out`, the one under way from `--folder`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what all benchmarks share
from common import SHARED, add_output, environment, read_rows, save_rows, table
from tuning import add_student, light_cells, mode_targets, rattled

FOLDS = (
    ("LiBr rocksalt", "NaCl rocksalt", "MgO rocksalt", "GaAs zincblende", "ZnS zincblende"),
    ("LiF rocksalt", "KCl rocksalt", "CaO rocksalt", "AlP zincblende", "CdTe zincblende"),
    ("LiCl rocksalt", "NaBr rocksalt", "CaS rocksalt", "InP zincblende", "ZnSe zincblende"),
    ("NaF rocksalt", "KBr rocksalt", "SrO rocksalt", "AlAs zincblende", "GaP zincblende"),
)
KINDS = ("with replay", "without replay")
GROUPS = {"rocksalt": 225, "zincblende": 216}
DATA = SHARED / "data/phonondb"
PACKAGES = ("wigner-jax", "jax", "numpy", "optax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_student(parser)
    parser.add_argument("--folds", nargs="+", type=int, choices=range(len(FOLDS)), default=list(range(len(FOLDS))))
    parser.add_argument("--replay", nargs="+", type=int, choices=(0, 1), default=[1, 0], help="with, without")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--accumulate", type=int, default=3, help="compounds in one update")
    parser.add_argument("--points", type=int, default=16, help="q-points in the gradient of a step")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--l2sp", type=float, default=1e-2)
    parser.add_argument("--folder", type=Path, default=Path("runs/transfer"), help="checkpoints and patterns")
    add_output(parser)
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    import numpy as np
    import optax

    from wigner_jax._core.compile_cache import evict_compiled_programs
    from wigner_jax.io.phonondb import read_phonondb
    from wigner_jax.potentials.registry import load_potential
    from wigner_jax.training.frames import force_error, labelled
    from wigner_jax.training.model import Model
    from wigner_jax.training.on_conductivity.gradient import Sampling
    from wigner_jax.training.on_conductivity.loop import FinetuneSettings, evaluate, finetune
    from wigner_jax.training.on_conductivity.material import pad_to_common_shapes
    from wigner_jax.training.parameters import adapt
    from wigner_jax.training.train_state import Callbacks

    arguments.folder.mkdir(parents=True, exist_ok=True)
    start = load_potential(arguments.potential)
    energy, trained, frozen = adapt(start, arguments.train)
    model = Model(energy, trained, frozen)
    rows = read_rows(arguments.out, ("row",))
    facts = {
        "benchmark": "transfer",
        **environment(PACKAGES),
        "potential": Path(arguments.potential).name,
        "arguments": {k: getattr(arguments, k) for k in ("epochs", "accumulate", "points", "learning_rate", "l2sp")},
        "trained numbers": sum(int(np.size(x)) for x in trained.values()),
    }
    names = [name for fold in FOLDS for name in fold]
    references = read_phonondb(DATA / "kappas_phononDB_PBE_noNAC.json.gz")
    made = [make_task(name, start, arguments.folder, references) for name in names]
    shared = pad_to_common_shapes([task.material for task, _ in made])
    tasks = {n: dataclasses.replace(t, material=m) for n, (t, _), m in zip(names, made, shared, strict=True)}

    def before_material() -> None:
        evict_compiled_programs()

    def scores(chosen: Any, weights: Any) -> dict[str, dict[str, float]]:
        found = {}
        for name in chosen:
            before_material()
            found[name] = {k: round(v, 6) for k, v in evaluate(model, tasks[name], weights).items()}
        return found

    if "zero-shot" not in rows:
        rows["zero-shot"] = {"row": "zero-shot", "scores": scores(names, trained)}
        save_rows(arguments.out, facts, list(rows.values()))
    frames = labelled(rattled([atoms for _, atoms in made]), start, weights=(0.0, 0.1, 0.0))
    for fold, replay in ((f, r) for f in arguments.folds for r in arguments.replay):
        key = f"fold {fold} {KINDS[0] if replay else KINDS[1]}"
        if key in rows:
            continue
        others = [name for name in names if name not in FOLDS[fold]]
        steps = arguments.epochs * -(-len(others) // arguments.accumulate)
        schedule = optax.cosine_decay_schedule(arguments.learning_rate, steps, alpha=0.1)
        settings = FinetuneSettings(
            epochs=arguments.epochs, accumulate=arguments.accumulate, replay=replay, l2sp=arguments.l2sp,
            sampling=Sampling(points=arguments.points, draws=1), seed=fold,
        )  # fmt: skip
        folder = arguments.folder / key.replace(" ", "-")
        folder.mkdir(exist_ok=True)
        begun = time.perf_counter()
        state = finetune(
            model, [tasks[n] for n in others], optax.adam(schedule, b1=0.8, b2=0.95), settings, (frames, []),
            folder, report=lambda text: print(text, flush=True), callbacks=Callbacks(before_material=before_material),
        )  # fmt: skip
        rows[key] = {
            "row": key,
            "left out": scores(FOLDS[fold], state.params),
            "trained on": scores(others, state.params),
            "force_shift": force_error(energy, state.params, frozen, frames),  # of the rattled cells, eV/Å
            "seconds": time.perf_counter() - begun,
            "rejected": state.rejected,
            "history": state.history,
        }
        save_rows(arguments.out, facts, list(rows.values()))
    print(report(rows))


def make_task(name: str, start: Any, folder: Path, references: dict[str, Any]) -> tuple[Any, Any]:
    """The compound in the light setting, and its stored structure."""
    from wigner_jax.crystal.defaults import default_supercells
    from wigner_jax.io.phonondb import read_phonondb_structure
    from wigner_jax.training.on_conductivity.loop import Task
    from wigner_jax.training.on_conductivity.material import make_material
    from wigner_jax.training.on_conductivity.targets import make_loss

    formula, kind = name.split()
    (reference,) = (r for r in references.values() if (r.name, r.space_group) == (formula, GROUPS[kind]))
    atoms = read_phonondb_structure(DATA / "phononDB-PBE-structures.extxyz", reference.mp_id)
    cells = light_cells(default_supercells(atoms))
    material = make_material(name, cells, start, reference.mesh, reference=reference, cache=folder / "patterns")
    return Task(material, make_loss(material, mode_targets())), atoms


def report(rows: dict[str, dict[str, Any]]) -> str:
    """κ_SRME of every compound left out, before and after, and the means."""
    before = rows["zero-shot"]["scores"]
    lines: list[list[str]] = []
    sums: dict[str, list[tuple[float, float]]] = {}
    for name in before:
        line = [name, f"{before[name]['srme']:.3f}"]
        for kind in KINDS:
            row = next((r for k, r in rows.items() if k.endswith(kind) and name in r["left out"]), None)
            line.append(f"{row['left out'][name]['srme']:.3f}" if row else "")
            if row:
                sums.setdefault(kind, []).append((before[name]["srme"], row["left out"][name]["srme"]))
        lines.append(line)
    for kind, pairs in sums.items():
        first, last = (sum(x) / len(x) for x in zip(*pairs, strict=True))
        lines.append(
            [f"mean of {len(pairs)}, {kind}", f"{first:.3f}", *(f"{last:.3f}" if k == kind else "" for k in KINDS)]
        )
    return table(["compound", "zero-shot", *KINDS], lines)


if __name__ == "__main__":
    main()
