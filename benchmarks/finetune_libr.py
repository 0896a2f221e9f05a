"""Fine-tune a published potential on the DFT conductivity of LiBr, mode by mode, and say what was reached.

    python benchmarks/finetune_libr.py --out benchmarks/results/finetune_libr_cpu.json

Start: nequix-mp-1 at the DFT geometry. Trained: its last layer and readout. Targets: the reference of κ_SRME (PBE, 300 K, no
non-analytic term, 19×19×19): mode conductivities, κ and frequencies; zero stress at the DFT cell; forces of the zero-shot model
on rattled LiBr and its own NaCl, and the starting weights, hold the rest.

Two levels keep a step cheap. Training uses smaller supercells (64 atoms for Φ2, 32 for Φ3) and adaptive Gaussians; what these
change is measured at the start of every stage against the reference's own setting (512 and 64 atoms, tetrahedra) and moved
into the targets,

    target = DFT + (small - full)(θ_stage)        for K_qs and for f_qs,

so that the fixed point is the DFT value in the full setting. All numbers reported are of the full setting. The gradient
sees a random sample of the 220 irreducible q-points in every step (unbiased), the loss all of them. The learning rate is set
so that the first step lowers the loss by a given share to first order.

What was not trained on is recorded for the zero-shot and the last weights: κ_P and κ_C from 100 to 800 K, the error of the
heat capacity, frequencies and linewidths of every mode, κ at each model's own relaxed cell, and other halides at their DFT
geometry.

The run continues from its folder if it is interrupted. Force errors on NaCl are against DFT frames (PBEsol), which nothing
here was trained on; "shift" is how far the forces moved from the zero-shot model's.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from common import SHARED, environment, write_json
from tuning import dft_frames, light_cells, mode_targets, rattled

MP_ID = "mp-23259"
WIDE = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)  # K


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default=str(SHARED / "weights/nequix-mp-1.nqx"))
    parser.add_argument("--train", nargs="+", default=["layers.3.*", "readout"], help="patterns of parameter names")
    parser.add_argument("--stages", type=int, default=3, help="how often the two levels are compared")
    parser.add_argument("--steps", type=int, default=18, help="of each stage")
    parser.add_argument("--points", type=int, default=16, help="q-points in the gradient of a step")
    parser.add_argument("--share", type=float, default=0.35, help="of the loss, for the first step of a stage")
    parser.add_argument("--l2sp", type=float, default=1e-2)
    parser.add_argument("--held-out", nargs="*", default=["LiCl", "LiI", "NaBr"], help="rocksalt halides, by formula")
    parser.add_argument("--folder", type=Path, default=Path("runs/libr"), help="checkpoints and the tuned model")
    parser.add_argument("--out", type=Path, help="JSON record")
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    import jax
    import numpy as np
    import optax

    from wigner_jax.io.phonondb import read_phonondb, read_phonondb_structure
    from wigner_jax.plan.defaults import default_cells
    from wigner_jax.potentials import load_potential
    from wigner_jax.potentials.saved import save_potential
    from wigner_jax.training.adapter import adapt
    from wigner_jax.training.gradient import Sampling
    from wigner_jax.training.loop import Model, Settings, Task, finetune
    from wigner_jax.training.material import make_material
    from wigner_jax.training.targets import make_loss

    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = SHARED / "data/phonondb"
    structures = data / "phononDB-PBE-structures.extxyz"
    references = read_phonondb(data / "kappas_phononDB_PBE_noNAC.json.gz")
    reference = references[MP_ID]
    halides = {r.name: r.mp_id for r in references.values() if r.space_group == 225}
    for name in arguments.held_out:
        if name not in halides:
            raise SystemExit(f"no rocksalt {name} in the reference: choose from {' '.join(sorted(halides))}")
    atoms = read_phonondb_structure(structures, MP_ID)
    start = load_potential(arguments.potential)
    energy, trained, frozen = adapt(start, arguments.train)
    full = default_cells(atoms)
    light = make_material("LiBr", light_cells(full), start, reference.mesh, reference=reference)
    train, test = frames(start, atoms)
    targets = mode_targets()
    record: dict[str, Any] = {"benchmark": "finetune_libr", **environment(("wigner-jax", "jax", "numpy", "optax"))}
    record |= {"arguments": {k: str(v) for k, v in vars(arguments).items()}, "stages": []}
    record["trained numbers"] = sum(int(np.size(x)) for x in trained.values())
    print(
        f"{record['trained numbers']} of {sum(np.size(x) for x in start.params.values())} numbers are trained",
        flush=True,
    )

    for stage in range(arguments.stages + 1):
        now = start.with_params(jax.tree.map(np.asarray, energy.merge(trained, frozen)))
        known = folder / f"stage{stage}.npz"
        if known.exists():
            stored = dict(np.load(known))
        else:
            begun = time.perf_counter()
            ends = stage in (0, arguments.stages)
            stored = evaluate(now, full, reference, light, WIDE if ends else ())
            stored["seconds"] = np.array(time.perf_counter() - begun)
            np.savez(known, **stored)
        row = {k: float(stored[k]) for k in ("kappa", "sre", "srme", "kappa_small", "stress", "frequency", "seconds")}
        row |= force_errors(now, start, test)
        record["stages"].append(row)
        print(f"stage {stage}: " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
        if arguments.out is not None:
            write_json(arguments.out, record)
        if stage == arguments.stages:
            break
        moved = dataclasses.replace(
            reference,
            mode_kappa=reference.mode_kappa + stored["modes_small"] - stored["modes"],
            kappa=reference.kappa + stored["kappa_small"] - stored["kappa"],
            frequencies=reference.frequencies + stored["f_small"] - stored["f"],
        )
        task = Task(
            dataclasses.replace(light, reference=moved), make_loss(dataclasses.replace(light, reference=moved), targets)
        )
        settings = Settings(
            epochs=arguments.steps, sampling=Sampling(points=arguments.points, draws=1), l2sp=arguments.l2sp, seed=stage
        )
        model = Model(energy, trained, frozen)
        place = folder / f"stage{stage}"
        place.mkdir(exist_ok=True)
        rate = learning_rate(place, model, task, settings, train, arguments.share)
        schedule = optax.cosine_decay_schedule(rate, arguments.steps, alpha=0.1)
        optimizer = optax.adam(schedule, b1=0.8, b2=0.95)
        begun = time.perf_counter()
        state = finetune(model, [task], optimizer, settings, (train, []), place, report=lambda s: print(s, flush=True))
        trained = state.trained
        row |= {"learning_rate": rate, "train_seconds": time.perf_counter() - begun, "history": state.history}
    record["model"] = str(save_potential(now, folder / "libr.nqx", arguments.potential).name)
    record["relaxed"] = relaxed(start, now, atoms, reference, light)
    record["beyond"] = {
        label: beyond(dict(np.load(folder / f"stage{stage}.npz")), reference)
        for label, stage in (("before", 0), ("after", arguments.stages))
    }
    for name in arguments.held_out:
        target = references[halides[name]]
        cells = default_cells(read_phonondb_structure(structures, target.mp_id))
        record[f"held out {name}"] = {
            "DFT": float(target.kappa[target.at(300.0)]),
            **{
                label: {k: float(v) for k, v in evaluate(p, cells, target, None).items() if np.ndim(v) == 0}
                for label, p in (("before", start), ("after", now))
            },
        }
        if arguments.out is not None:
            write_json(arguments.out, record)
    print(json.dumps({k: v for k, v in record.items() if k.startswith(("relaxed", "held"))}, indent=1))
    if arguments.out is not None:
        write_json(arguments.out, record)


def learning_rate(place: Path, model: Any, task: Any, settings: Any, train: Any, share: float) -> float:
    """Adam's first step moves every number by the rate: the loss falls by rate · ‖gradient‖₁ to first order."""
    import jax
    import numpy as np
    import optax

    from wigner_jax.training.loop import _Runner

    known = place / "learning_rate.json"
    if not known.exists():
        runner = _Runner(model, [task], optax.sgd(1.0), settings, train)
        value, slope, *_ = runner.evaluate(runner.fresh(), np.array([0]))
        norm = sum(float(np.abs(x).sum()) for x in jax.tree.leaves(slope))
        known.write_text(json.dumps(share * value / norm))
    return float(json.loads(known.read_text()))


def evaluate(potential: Any, full: Any, reference: Any, light: Any, temperatures: Any = ()) -> dict[str, Any]:
    """κ, modes, linewidths and C_V in the reference's setting; the light one beside it, κ at other temperatures."""
    import jax
    import numpy as np

    from wigner_jax import metrics
    from wigner_jax.physics.force_constants import force_constants
    from wigner_jax.potentials import graph_of
    from wigner_jax.solve import make_plan, solve
    from wigner_jax.training.frames import predict

    plan = make_plan(full, reference.mesh)
    fc, _ = force_constants(potential, full, chunk=1)
    solution = solve(plan, jax.tree.map(np.asarray, fc), reference.temperatures, allow_imaginary=True)
    points = np.asarray(plan.mesh.irreducible)
    sre, srme = metrics.srme_of(solution, plan.mesh, reference)
    crystal = full.crystal
    lattice = np.asarray(crystal.lattice)
    graph, _ = graph_of(lattice, np.asarray(crystal.positions) @ lattice, np.asarray(crystal.numbers), potential)
    found = {
        "modes": np.asarray(metrics.mode_kappa(solution.conductivity)),
        "f": np.asarray(solution.phonons.frequencies)[points],
        "kappa": metrics.average(solution.conductivity.kappa_TOT)[0], "sre": sre[0], "srme": srme[0],
        "stress": np.trace(predict(potential.energy, potential.params, None, graph)[2]) / 3 * 160.2176634,  # GPa
    }  # fmt: skip
    weights, expected = reference.weights[:, None], reference.heat_capacity[0]
    capacity = np.asarray(solution.conductivity.heat_capacity)[0]
    found["capacity_error"] = np.sum(weights * capacity) / np.sum(weights * expected) - 1
    found["linewidths"] = np.asarray(solution.linewidths.total)[0]
    if temperatures:
        wide = solve(plan, jax.tree.map(np.asarray, fc), temperatures, allow_imaginary=True).conductivity
        found |= {"temperatures": temperatures, "kappa_P": metrics.average(wide.kappa_P)}
        found["kappa_C"] = metrics.average(wide.kappa_C)
    found["frequency"] = metrics.frequency_distance(found["f"], reference.frequencies, reference.weights)
    if light is not None:
        near = light.solution(light.force_constants(potential.energy, potential.params))
        found |= {
            "modes_small": np.asarray(metrics.mode_kappa(near.conductivity)),
            "f_small": np.asarray(near.phonons.frequencies)[points],
            "kappa_small": metrics.average(near.conductivity.kappa_TOT)[0],
        }
    return {k: np.asarray(v) for k, v in found.items()}


def beyond(stored: dict[str, Any], reference: Any) -> dict[str, Any]:
    """What was not trained on, as JSON values: κ(T), heat capacity, the modes' frequencies and linewidths in THz."""
    import numpy as np

    names = ("temperatures", "kappa_P", "kappa_C", "capacity_error")
    numbers = {k: np.asarray(stored[k], float).round(6).tolist() for k in names}
    modes = {"frequencies": stored["f"], "linewidths": stored["linewidths"], "frequencies_DFT": reference.frequencies}
    return {**numbers, **{k: np.asarray(v, float).round(5).tolist() for k, v in modes.items()}}


def frames(start: Any, atoms: Any) -> tuple[list[Any], list[Any]]:
    """Replay: the start's own forces on rattled LiBr, NaCl, KCl; no stress at LiBr's DFT cell. Test: DFT frames of NaCl."""
    import numpy as np
    from ase.build import bulk

    from wigner_jax.training.frames import frame_of, labelled, same_size

    others = (bulk("NaCl", "rocksalt", a=5.69, cubic=True), bulk("KCl", "rocksalt", a=6.38, cubic=True))
    replay = rattled((atoms, atoms, *others))
    held = atoms.copy()
    held.info["stress"], held.arrays["forces"] = np.zeros((3, 3)), np.zeros((len(held), 3))
    train = labelled(replay, start, weights=(0.1, 0.1, 0.0))
    return same_size([*train, frame_of(held, start, (0.0, 0.0, 1.0))]), dft_frames(start)[-3:]


def force_errors(now: Any, start: Any, test: list[Any]) -> dict[str, float]:
    """Root mean square of force errors on the DFT frames, and of the shift from the zero-shot model, eV/Å."""
    import numpy as np

    from wigner_jax.training.frames import force_error, predict

    moved = [
        dataclasses.replace(f, forces=np.asarray(predict(start.energy, start.params, None, f.graph)[1])) for f in test
    ]
    return {
        "force_error": force_error(now.energy, now.params, None, test),
        "force_shift": force_error(now.energy, now.params, None, moved),
    }


def relaxed(start: Any, now: Any, atoms: Any, reference: Any, light: Any) -> dict[str, dict[str, float]]:
    """κ and SRME by the benchmark's protocol: at each model's own relaxed geometry."""
    from wigner_jax.plan.defaults import default_cells
    from wigner_jax.relax import relax

    result = {}
    for label, potential in (("before", start), ("after", now)):
        moved, _ = relax(atoms, potential)
        found = evaluate(potential, default_cells(moved), reference, None)
        result[label] = {"a": float(moved.cell[0, 0]), **{k: float(found[k]) for k in ("kappa", "sre", "srme")}}
    return result


if __name__ == "__main__":
    main()
