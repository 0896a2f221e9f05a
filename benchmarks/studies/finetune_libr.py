"""Bring a published potential to the DFT conductivity of LiBr, mode by mode, and say what was reached.

    python benchmarks/studies/finetune_libr.py --out benchmarks/results/finetune_libr_cpu.json

Start: nequix-mp-1 at the DFT geometry. Reference: that of κ_SRME (PBE, 300 K, no non-analytic term, 19×19×19, Φ2 of 512 atoms,
Φ3 of 64): frequencies and conductivities of all modes; no force, no energy, no frame from DFT. Three steps:

1. Φ2 whose frequencies are the reference's, from the potential's own Φ2, and
2. Φ3 whose mode conductivities are the reference's, with that Φ2, from the potential's own Φ3
   (`wigner_jax.training.few_frames.inverse`).
3. The smallest change of the potential's last layer and readout that gives these (`wigner_jax.training.minimum_norm_update`), by
   frames with the changes of Φ2 and Φ3 (`frames_from_force_constants`): three cells of 64 atoms, and small ones for the
   waves of 512 atoms; no stress at the DFT cell; and what shall be kept, the potential's own forces (replay) for every
   other rocksalt of the reference that is not held out in a cell of 8 atoms, and for NaCl in two of 64. These targets have
   no noise, so that the strength is the weakest that is reached, and all is done again from there (`--rounds`).

What was not trained on is recorded for the zero-shot and the last weights: κ_P and κ_C from 100 to 800 K, the error of the
heat capacity, frequencies and linewidths of every mode, κ at each model's own relaxed cell, other halides at their DFT
geometry, and forces on DFT frames of NaCl (PBEsol), none of which was trained on.

A step that is in `--folder` is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what all benchmarks share
from common import SHARED, environment, write_json
from tuning import add_student, dft_frames, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MP_ID = "mp-23259"
WIDE = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)  # K
WEAK = 1e-6  # strength to try for
MOVED = 0.03  # Å, of the atoms in replay cells
DENSE = ("NaCl",)  # rocksalts whose forces are kept in 64 atoms, too


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_student(parser)
    parser.add_argument("--iterations", type=int, default=15, help="of the fit of Φ3")
    parser.add_argument("--frames", type=int, default=3, help="cells that carry the force constants to the potential")
    parser.add_argument(
        "--rounds", type=int, default=4, help="of the change of weights, each from where the last ended"
    )
    parser.add_argument("--replay", type=int, default=99, help="rocksalts, at most, whose own forces are kept")
    parser.add_argument("--held-out", nargs="*", default=["LiCl", "LiI", "NaBr"], help="rocksalt halides, by formula")
    parser.add_argument("--folder", type=Path, default=Path("runs/libr"), help="finished steps and the tuned model")
    parser.add_argument("--out", type=Path, help="JSON record")
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    import jax
    import numpy as np
    from jax.flatten_util import ravel_pytree

    from wigner_jax._solve import make_plan
    from wigner_jax.crystal.defaults import default_supercells
    from wigner_jax.ifc.autodiff import plan_force_constants
    from wigner_jax.io.phonondb import read_phonondb, read_phonondb_structure
    from wigner_jax.potentials.registry import load_potential
    from wigner_jax.potentials.saving import save_potential
    from wigner_jax.training.few_frames.frames_from_constants import (
        frames_from_force_constants,
        nondiagonal_supercell_frames,
    )
    from wigner_jax.training.few_frames.inverse import fc2_from_frequencies, fc3_from_mode_kappa
    from wigner_jax.training.few_frames.minimum_norm import minimum_norm_update, tangent
    from wigner_jax.training.parameters import adapt

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
    cells, test = default_supercells(atoms), dft_frames(start)[-3:]
    record: dict[str, Any] = {"benchmark": "finetune_libr", **environment(("wigner-jax", "jax", "numpy", "scipy"))}
    record["arguments"] = {k: v for k, v in vars(arguments).items() if k not in ("potential", "folder", "out")}
    record["potential"] = Path(arguments.potential).name
    record["trained numbers"] = sum(int(np.size(x)) for x in trained.values())
    record["DFT"] = {"kappa": float(reference.kappa[0])}

    def step(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        known = folder / f"{name}.npz"
        if not known.exists():
            begun = time.perf_counter()
            found = make()
            np.savez(known, seconds=time.perf_counter() - begun, **found)
        stored = dict(np.load(known))
        numbers = {k: float(v) for k, v in stored.items() if v.ndim == 0}
        record[name] = numbers
        print(name, "  ".join(f"{k} {v:.5g}" for k, v in numbers.items()), flush=True)
        if arguments.out is not None:
            write_json(arguments.out, record)
        return stored

    before = step("before", lambda: evaluate(start, cells, reference, WIDE))

    def say(text: str) -> None:
        print("  " + text, flush=True)

    plan = make_plan(cells, reference.mesh)
    constants = plan_force_constants(cells, start)[0]

    def make_second() -> dict[str, Any]:
        return fc2_from_frequencies(plan, constants.fit2, before["second"], reference, report=say)._asdict()

    def make_third() -> dict[str, Any]:
        return fc3_from_mode_kappa(
            plan, constants.fit3, second, before["third"], reference, iterations=arguments.iterations, report=say
        )._asdict()  # fmt: skip

    second = step("second", make_second)["fc2"]
    third = step("third", make_third)["fc3"]
    changes = (second - before["second"], third - before["third"])
    frames = [
        *frames_from_force_constants(start, cells, *changes, arguments.frames),
        *nondiagonal_supercell_frames(start, cells, changes[0]),
    ]
    others = [r for r in references.values() if r.space_group == 225 and r.name not in ("LiBr", *arguments.held_out)]
    kept = {r.name: read_phonondb_structure(structures, r.mp_id) for r in others[: arguments.replay]}
    frames += [*replay(start, kept.values()), *replay(start, [kept[n] for n in DENSE if n in kept], copies=2, fc3=True)]
    still = unstressed(start, atoms)

    def fitted(first: int, weights: Any) -> dict[str, Any]:
        """The weights after a round, as one array; `first` numbers the rounds."""
        rows = []
        for k, frame in enumerate(frames):
            made = lambda f=frame: {"rows": np.asarray(tangent(energy, weights, frozen, f))}  # noqa: E731
            rows.append(step(f"tangent{first}-{k}", made)["rows"])
        both = [*rows, np.asarray(tangent(energy, weights, frozen, still))]
        found = minimum_norm_update(energy, weights, frozen, [*frames, still], WEAK, tangents=both, report=say)
        facts = {"strength": found.strength, "loss": found.losses[-1], "first_loss": found.losses[0]}
        return {"weights": ravel_pytree(found.trained)[0], **facts, "change": found.change}

    unflatten, weights = ravel_pytree(trained)[1], trained
    for k in range(arguments.rounds):
        weights = unflatten(step(f"round{k}", partial(fitted, k, weights))["weights"])
    now = start.with_params(jax.tree.map(np.asarray, energy.merge(weights, frozen)))
    after = step("after", lambda: evaluate(now, cells, reference, WIDE))
    for label, potential, stored in (("before", start, before), ("after", now, after)):
        record[label] |= force_errors(potential, start, test)
        record[label] |= {f"error_{k}": relative_error(stored[k], x) for k, x in (("second", second), ("third", third))}
        record[f"beyond {label}"] = beyond(stored, reference)
    if arguments.out is not None:
        write_json(arguments.out, record)
    record["model"] = str(save_potential(now, folder / "libr.nqx", arguments.potential).name)
    record["relaxed"] = relaxed(start, now, atoms, reference)
    for name in arguments.held_out:
        target = references[halides[name]]
        other = default_supercells(read_phonondb_structure(structures, target.mp_id))
        for label, potential in (("before", start), ("after", now)):
            step(f"{name} {label}", partial(evaluate, potential, other, target))
        record[f"{name} DFT"] = {"kappa": float(target.kappa[target.at(300.0)])}
    if arguments.out is not None:
        write_json(arguments.out, record)
    print(json.dumps({k: v for k, v in record.items() if not k.startswith("beyond")}, indent=1))


# -- from force constants to the potential ---------------------------------------------------------------------------------


def replay(potential: Any, structures: Iterable[Any], copies: int = 1, fc3: bool = False) -> list[Any]:
    """The potential's own forces on cells of 8 atoms (or those of Φ3), every atom displaced by 0.03 Å."""
    import numpy as np

    from wigner_jax.crystal.defaults import conventional_matrix, default_supercells
    from wigner_jax.crystal.supercells import make_supercell
    from wigner_jax.training.few_frames.frames_from_constants import displaced, random_displacements
    from wigner_jax.training.frames import labelled

    rng, moved = np.random.default_rng(2), []
    for atoms in structures:
        cells = default_supercells(atoms)
        crystal = cells.crystal
        cell = cells.fc3_supercell if fc3 else make_supercell(crystal, conventional_matrix(crystal))
        for _ in range(copies):
            moved.append(displaced(crystal, cell, random_displacements(rng, cell.n_atoms, MOVED)))
    return labelled(moved, potential, weights=(0.0, 1.0, 0.0))


def unstressed(potential: Any, atoms: Any) -> Any:
    """The DFT cell as a frame: no stress."""
    from wigner_jax.training.frames import frame_of

    still = atoms.copy()
    still.info["stress"] = [0.0] * 6
    return frame_of(still, potential, (0.0, 0.0, 0.1))


# -- what was reached ------------------------------------------------------------------------------------------------------


def evaluate(potential: Any, cells: Any, reference: Any, temperatures: Any = ()) -> dict[str, Any]:
    """Force constants, κ, modes, linewidths and C_V in the reference's setting; κ at other temperatures."""
    import jax
    import numpy as np

    from wigner_jax import metrics
    from wigner_jax._solve import make_plan, solve
    from wigner_jax.ifc.autodiff import force_constants
    from wigner_jax.potentials.neighbor_list import graph_of
    from wigner_jax.training.frames import predict

    plan = make_plan(cells, reference.mesh)
    fc = jax.tree.map(np.asarray, force_constants(cells, potential, chunk=1)[0])
    solution = solve(plan, fc, reference.temperatures, allow_imaginary=True)
    points = np.asarray(plan.mesh.irreducible)
    sre, srme = metrics.srme_of(solution, plan.mesh, reference)
    crystal = cells.crystal
    lattice = np.asarray(crystal.lattice)
    graph, _ = graph_of(lattice, np.asarray(crystal.positions) @ lattice, np.asarray(crystal.numbers), potential)
    weights, expected = reference.weights[:, None], reference.heat_capacity[0]
    capacity = np.asarray(solution.conductivity.heat_capacity)[0]
    found = {
        "second": fc.fc2, "third": fc.fc3,
        "f": np.asarray(solution.phonons.frequencies)[points],
        "linewidths": np.asarray(solution.linewidths.total)[0],
        "kappa": metrics.average(solution.conductivity.kappa_TOT)[0], "sre": sre[0], "srme": srme[0],
        "capacity_error": np.sum(weights * capacity) / np.sum(weights * expected) - 1,
        "stress": np.trace(predict(potential.energy, potential.params, None, graph)[2]) / 3 * 160.2176634,  # GPa
    }  # fmt: skip
    if temperatures:
        wide = solve(plan, fc, temperatures, allow_imaginary=True).conductivity
        found |= {"temperatures": temperatures, "kappa_P": metrics.average(wide.kappa_P)}
        found["kappa_C"] = metrics.average(wide.kappa_C)
    found["frequency"] = metrics.frequency_distance(found["f"], reference.frequencies, reference.weights)
    return {k: np.asarray(v) for k, v in found.items()}


def beyond(stored: dict[str, Any], reference: Any) -> dict[str, Any]:
    """What was not trained on, as JSON values: κ(T), heat capacity, the modes' frequencies and linewidths in THz."""
    import numpy as np

    names = ("temperatures", "kappa_P", "kappa_C", "capacity_error")
    numbers = {k: np.asarray(stored[k], float).round(6).tolist() for k in names}
    modes = {"frequencies": stored["f"], "linewidths": stored["linewidths"], "frequencies_DFT": reference.frequencies}
    return {**numbers, **{k: np.asarray(v, float).round(5).tolist() for k, v in modes.items()}}


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


def relaxed(start: Any, now: Any, atoms: Any, reference: Any) -> dict[str, dict[str, float]]:
    """κ and SRME by the benchmark's protocol: at each model's own relaxed geometry."""
    from wigner_jax.crystal.defaults import default_supercells
    from wigner_jax.relaxation.newton import relax

    result = {}
    for label, potential in (("before", start), ("after", now)):
        moved, _ = relax(atoms, potential)
        found = evaluate(potential, default_supercells(moved), reference)
        result[label] = {"a": float(moved.cell[0, 0]), **{k: float(found[k]) for k in ("kappa", "sre", "srme")}}
    return result


if __name__ == "__main__":
    main()
