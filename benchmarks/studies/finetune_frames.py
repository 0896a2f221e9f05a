"""Three DFT frames instead of a hundred: κ of NaCl after the smallest change of a published potential that fits them.

    python benchmarks/studies/finetune_frames.py --out benchmarks/results/finetune_frames_cpu.json

Data: 100 frames of 64 atoms (PBEsol, every atom displaced by 0.03 Å at random) and, for Φ2, frames of 512 atoms, as they come
with phono3py's example NaCl-rd. All of them give Φ2 and Φ3 by symfc, and κ at 300 K on 11×11×11 points (tetrahedra, isotopes,
no non-analytic term): 8.10 W/(m K) with Φ2 of the 64 atoms, 8.33 with Φ2 of the 512. That is the truth here.

Student: nequix-mp-1 (PBE, other frames), last layer and readout, by `wigner_jax.training.minimum_norm_update`, whose strength is chosen
by leaving out frames among those it is given. Draws of three frames: the first 15 of `default_rng(0).permutation(100)` in
fives, fixed before anything was run; number of frames: the first n of the same list (of one alone, with the strength of draw
0). Frames 16 to 35 of the list are never trained on and give the force error. The potential keeps its cell: no relaxation.

*kappa-trained* is the other way round: the same weights trained on the mode conductivities of the truth (64 atoms, adaptive
Gaussians) by Adam, with no frame at all.

A row that is in the record is not made again, nor a tangent that is in `--folder`.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what all benchmarks share
from common import SHARED, TEMPERATURE, add_output, environment, read_rows, save_rows, table
from tuning import NACL_FRAMES, add_student, dft_frames, mode_targets, relative_error

DRAWS, EACH, TESTS = 5, 3, 20
COUNTS = (1, 2, 3, 5, 10)
MESH = (11, 11, 11)
PACKAGES = ("wigner-jax", "jax", "numpy", "phono3py", "symfc", "optax")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_student(parser)
    parser.add_argument("--draws", nargs="*", type=int, choices=range(DRAWS), default=range(DRAWS))
    parser.add_argument("--counts", nargs="*", type=int, choices=COUNTS, default=COUNTS)
    parser.add_argument("--kappa-steps", type=int, default=20, help="of the kappa-trained model; 0: without it")
    parser.add_argument("--folder", type=Path, default=Path("runs/frames"), help="tangents, checkpoints")
    add_output(parser)
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    import jax
    import numpy as np

    from wigner_jax.potentials.registry import load_potential, restrict
    from wigner_jax.training.few_frames.minimum_norm import minimum_norm_update, tangent
    from wigner_jax.training.parameters import adapt

    arguments.folder.mkdir(parents=True, exist_ok=True)
    start = restrict(load_potential(arguments.potential), [11, 17])
    energy, trained, frozen = adapt(start, arguments.train)
    frames, order = dft_frames(start), np.random.default_rng(0).permutation(100)
    truth = Truth.of_all_frames(start)
    rows = read_rows(arguments.out, ("row",))
    facts = {
        "benchmark": "finetune_frames",
        **environment(PACKAGES),
        "trained numbers": sum(int(np.size(x)) for x in trained.values()),
        "truth": {"kappa_64": truth.kappa(truth.small), "kappa_512": truth.kappa(truth.full)},
    }

    def known_tangent(k: int) -> Any:
        path = arguments.folder / f"tangent{k}.npy"
        if not path.is_file():
            begun = time.perf_counter()
            np.save(path, np.asarray(tangent(energy, trained, frozen, frames[k])))
            print(f"tangent of frame {k}: {time.perf_counter() - begun:.0f} s", flush=True)
        return np.load(path)

    def add(name: str, weights: Any, **facts_of_row: Any) -> None:
        potential = start.with_params(jax.tree.map(np.asarray, energy.merge(weights, frozen)))
        error = relative_force_error(potential, [frames[k] for k in order[15 : 15 + TESTS]])
        rows[name] = {"row": name, **facts_of_row, "force_error": error, **truth.compare(potential)}
        print(name, {k: v for k, v in rows[name].items() if isinstance(v, float)}, flush=True)
        save_rows(arguments.out, facts, list(rows.values()))

    if "zero-shot" not in rows:
        add("zero-shot", trained)
    chosen = {f"draw {d}": order[EACH * d : EACH * (d + 1)] for d in arguments.draws}
    chosen |= {f"{n} frames": order[:n] for n in arguments.counts}
    for name, members in chosen.items():
        if name in rows:
            continue
        begun = time.perf_counter()
        found = minimum_norm_update(
            energy, trained, frozen, [frames[k] for k in members],
            strength=rows["draw 0"]["strength"] if len(members) == 1 else None,
            tangents=[known_tangent(k) for k in members], report=lambda text: print("  " + text, flush=True),
        )  # fmt: skip
        potential = start.with_params(jax.tree.map(np.asarray, energy.merge(found.trained, frozen)))
        add(
            name, found.trained, frames=[int(k) for k in members], strength=found.strength, change=found.change,
            losses=found.losses, converged=found.converged, fit_seconds=time.perf_counter() - begun,
            left_out={f"{k:.1e}": v for k, v in found.left_out.items()},
            trained_force_error=relative_force_error(potential, [frames[k] for k in members]),
        )  # fmt: skip
    if arguments.kappa_steps and "kappa-trained" not in rows:
        begun = time.perf_counter()
        weights, history = kappa_trained(arguments, start, truth, (energy, trained, frozen))
        add("kappa-trained", weights, history=history, fit_seconds=time.perf_counter() - begun)
    print(report(rows, facts["truth"]))


def relative_force_error(potential: Any, frames: list[Any]) -> float:
    """‖F - F_DFT‖/‖F_DFT‖ over all frames."""
    import numpy as np

    from wigner_jax.training.frames import force_error

    size = np.sqrt(np.mean([np.mean(np.square(f.forces)) for f in frames]))
    return force_error(potential.energy, potential.params, None, frames) / float(size)


@dataclasses.dataclass
class Truth:
    """Φ2 and Φ3 of all DFT frames, with Φ2 of 64 atoms (`small`) and of 512 (`full`), and plans for a potential."""

    small: tuple[Any, Any]  # cells, force constants
    full: tuple[Any, Any]
    plans: tuple[Any, Any] = (None, None)  # of the potential's force constants

    @classmethod
    def of_all_frames(cls, potential: Any) -> Truth:
        import jax
        import phono3py

        from wigner_jax.ifc.autodiff import plan_force_constants
        from wigner_jax.ifc.phono3py_bridge import peer_constants
        from wigner_jax.io.phono3py import read_phono3py

        full = read_phono3py(SHARED / NACL_FRAMES)[:2]
        loaded = phono3py.load(SHARED / NACL_FRAMES, produce_fc=False, log_level=0)
        alone = phono3py.Phono3py(
            loaded.unitcell, supercell_matrix=loaded.supercell_matrix, primitive_matrix=loaded.primitive_matrix,
            log_level=0,
        )  # fmt: skip
        alone.dataset = dict(loaded.dataset)
        alone.produce_fc3(fc_calculator="symfc", is_compact_fc=True)
        small = peer_constants(alone)[:2]
        plans = tuple(jax.device_put(plan_force_constants(cells, potential)[0]) for cells, _ in (small, full))
        return cls(small, full, plans)

    def kappa(self, pair: tuple[Any, Any]) -> float:
        """W/(m K), a third of the trace."""
        from wigner_jax import metrics
        from wigner_jax._solve import make_plan, solve

        result = solve(make_plan(pair[0], MESH), pair[1], (TEMPERATURE,)).conductivity
        return float(metrics.average(result.kappa_TOT)[0])

    def compare(self, potential: Any) -> dict[str, float]:
        """κ by the potential, and relative errors of its Φ2 and Φ3 (64 atoms)."""
        import jax

        from wigner_jax.ifc.autodiff import fitted, force_constants_at
        from wigner_jax.types import ForceConstants

        energy, params = potential.energy, potential.params
        small = jax.jit(force_constants_at, static_argnums=0)(energy, params, self.plans[0])
        second = jax.jit(fitted, static_argnums=0)(energy, params, self.plans[1].graph2, self.plans[1].fit2)

        return {
            "kappa_64": self.kappa((self.small[0], small)),
            "kappa_512": self.kappa((self.full[0], ForceConstants(second, small.fc3))),
            "error_second": relative_error(small.fc2, self.small[1].fc2),
            "error_third": relative_error(small.fc3, self.small[1].fc3),
        }


def kappa_trained(
    arguments: argparse.Namespace, start: Any, truth: Truth, parts: tuple[Any, Any, Any]
) -> tuple[Any, list[dict[str, Any]]]:
    """The weights of the best epoch, trained on the truth's mode conductivities."""
    import optax

    from wigner_jax._solve import make_plan, solve
    from wigner_jax.metrics import reference_of
    from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian
    from wigner_jax.training.model import Model
    from wigner_jax.training.on_conductivity.loop import FinetuneSettings, Task, finetune
    from wigner_jax.training.on_conductivity.material import make_material
    from wigner_jax.training.on_conductivity.targets import make_loss

    cells, constants = truth.small
    plan = make_plan(cells, MESH)
    solution = solve(plan, constants, (TEMPERATURE,), broadening=AdaptiveGaussian())
    reference = reference_of(solution, "NaCl-rd", "NaCl", 225)
    material = make_material("NaCl", cells, start, MESH, reference=reference)
    steps = arguments.kappa_steps
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-4, steps, alpha=0.1), b1=0.8, b2=0.95)
    folder = arguments.folder / "kappa-trained"
    folder.mkdir(exist_ok=True)
    state = finetune(
        Model(*parts), [Task(material, make_loss(material, mode_targets()))], optimizer,
        FinetuneSettings(epochs=steps, replay=0, l2sp=1e-2), folder=folder, report=lambda text: print(text, flush=True),
    )  # fmt: skip
    return state.best, state.history


def report(rows: dict[str, dict[str, Any]], truth: dict[str, float]) -> str:
    import statistics

    header = ["", "force error", "Φ2", "Φ3", "κ (64)", "error", "κ (512)", "error"]
    lines = []
    for name, row in rows.items():
        line = [name, *(f"{100 * row[k]:.3f} %" for k in ("force_error", "error_second", "error_third"))]
        for key in ("kappa_64", "kappa_512"):
            line += [f"{row[key]:.3f}", f"{100 * (row[key] / truth[key] - 1):+.2f} %"]
        lines.append(line)
    draws = [row for name, row in rows.items() if name.startswith("draw")]
    text = table(header, lines)
    for key in ("kappa_64", "kappa_512"):
        errors = [100 * abs(row[key] / truth[key] - 1) for row in draws]
        if errors:
            text += f"\n{key} of {len(errors)} draws of {EACH} frames: median error {statistics.median(errors):.2f} %, "
            text += f"largest {max(errors):.2f} %; truth {truth[key]:.4f}"
    return text


if __name__ == "__main__":
    main()
