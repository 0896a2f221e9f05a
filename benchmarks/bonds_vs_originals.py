"""Energy, forces and stress of CHGNet and M3GNet: this package against the originals, same weights, same cores.

    python benchmarks/bonds_vs_originals.py --torch bonds/bin/python --tensorflow bonds-tf/bin/python \
        --out benchmarks/results/bonds_vs_originals.json

`--torch` is an interpreter with chgnet 0.4.2 and matgl 1.1.3 (dgl 1.1.3, torch 2.13.0), `--tensorflow` one with m3gnet
0.2.4 (tensorflow 2.15.1); the weights are `--weights`, ../shared/weights by default. On the CPU, in float64, for which
tests/data/bond_reference/make.py removes the originals' roundings to float32, and the originals also in float32, as they come;
ours is float64 always. Neither side is charged for its list of neighbours, except that matgl lists angles in each
evaluation; both give energy, forces and stress: that is what one call of the originals gives. m3gnet is compiled
(`tf.function`), chgnet and matgl are eager torch.

Seconds are of the clock, and of the processor (`cpu`): on a machine that does other work at the same time only the
latter mean something.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from common import SHARED, environment, peak_rss_mb, run_worker, serve, temporary_mb, waited

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "data" / "bond_reference"
CRYSTALS = {"NaCl": 5.64, "MgO": 4.21}  # rocksalt, lattice constants in Å
FILES = {
    "chgnet-0.3.0": "chgnet_0.3.0_e29f68s314m37.pth.tar",
    "m3gnet-mp-2021.2.8": "M3GNet-MP-2021.2.8-EFS-tf",
    "m3gnet-mp-2021.2.8-matgl": "M3GNet-MP-2021.2.8-PES",
}
PACKAGES = ["chgnet", "matgl", "dgl", "torch", "m3gnet", "tensorflow-cpu", "jax", "jaxlib", "numpy"]


def structure(case: str) -> Any:
    """A rattled rocksalt supercell, "NaCl-64": formula and number of atoms (8 n³)."""
    from ase.build import bulk

    name, atoms = case.split("-")
    n = round((int(atoms) / 8) ** (1 / 3))
    cell = bulk(name, "rocksalt", a=CRYSTALS[name], cubic=True).repeat(n)
    cell.rattle(0.02, seed=1)
    return cell


def work(job: dict[str, Any]) -> dict[str, Any]:
    return {"peer": _peer, "ours": _ours}[job["side"]](job)


def _times(call: Any, repeats: int) -> dict[str, float]:
    """Least seconds of several calls: of the clock, and of the processor in all threads."""
    clock, processor = [], []
    for _ in range(repeats):
        started, busy = time.perf_counter(), time.process_time()
        call()
        clock.append(time.perf_counter() - started)
        processor.append(time.process_time() - busy)
    return {"min_s": min(clock), "cpu_s": min(processor)}


def _peer(job: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, str(REFERENCE))
    import make

    if job["model"] == "m3gnet-mp-2021.2.8":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(job["threads"])
        tf.config.threading.set_inter_op_parallelism_threads(1)
    else:
        import torch

        torch.set_num_threads(job["threads"])
        torch.set_num_interop_threads(1)
    prepare, evaluate = make.MODELS[job["model"]](Path(job["weights"]), double=job["double"])
    data = prepare(structure(job["case"]))
    evaluate(data)
    energy, forces, _ = evaluate(data)
    return {
        "energy": energy,
        "forces": forces.tolist(),
        **_times(lambda: evaluate(data), job["repeats"]),
        "peak_mb": peak_rss_mb(),
        "versions": environment(PACKAGES)["versions"],
    }


def _ours(job: dict[str, Any]) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    from wigner_jax.potentials.neighbor_list import build_graph
    from wigner_jax.potentials.registry import load_potential

    atoms = structure(job["case"])
    potential = load_potential(str(Path(job["weights"]) / FILES[job["model"]]))
    graph, _ = build_graph(atoms, potential)
    potential, graph = jax.device_put((potential, graph))

    def slopes(q: Any, g: Any) -> Any:
        def deformed(x: Any, strain: Any) -> Any:
            return q.energy(q.params, g.at(x).strained(0.5 * (strain + strain.T)))

        return jax.value_and_grad(deformed, argnums=(0, 1))(g.positions, jnp.zeros((3, 3)))

    started = time.perf_counter()
    run = jax.jit(slopes).lower(potential, graph).compile()
    compiled = time.perf_counter() - started
    value, (slope, _) = run(potential, graph)
    return {
        "energy": float(value),
        "forces": (-np.asarray(slope)).tolist(),
        **_times(partial(waited, run, potential, graph), job["repeats"]),
        "compile_s": compiled,
        "temporary_mb": temporary_mb(run),
        "edges": int(np.sum(np.asarray(graph.edge_mask))),
        "peak_mb": peak_rss_mb(),
    }


def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--cases", nargs="+", default=["NaCl-64", "MgO-64"])
    parser.add_argument("--weights", default=str(SHARED / "weights"))
    parser.add_argument("--torch", default=sys.executable, help="interpreter with chgnet and matgl")
    parser.add_argument("--tensorflow", default=sys.executable, help="interpreter with m3gnet")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--out", help="JSON file")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'model':26} {'case':8} | {'original':>9} {'float32':>9} | {'ours':>7} {'ratio':>6} {'float32':>7} |", end=""
    )
    print(f" {'cpu: orig.':>10} {'float32':>8} {'ours':>7} {'ratio':>6} {'float32':>7} | {'ΔE/E':>8} {'ΔF':>8}")
    for model in arguments.models:
        python = arguments.tensorflow if model == "m3gnet-mp-2021.2.8" else arguments.torch
        for case in arguments.cases:
            job = {"model": model, "case": case, "weights": arguments.weights, "repeats": arguments.repeats}
            peer, single = (
                run_worker(__file__, {**job, "side": "peer", "double": double}, arguments.threads, python)
                for double in (True, False)
            )
            ours = run_worker(__file__, {**job, "side": "ours"}, arguments.threads)
            error = abs(ours["energy"] / peer["energy"] - 1)
            force_error = float(np.abs(np.array(ours.pop("forces")) - np.array(peer.pop("forces"))).max())
            single.pop("forces")
            rows.append(
                {
                    "model": model, "case": case, "original": peer, "original, float32": single, "ours": ours,
                    "energy_error": error, "force_error": force_error,
                }
            )  # fmt: skip
            text = f"{model:26} {case:8} |"
            for kind, widths in (("min_s", (9, 9, 7)), ("cpu_s", (10, 8, 7))):
                a, b, c = peer[kind], single[kind], ours[kind]
                text += f" {a:{widths[0]}.3f} {b:{widths[1]}.3f}" + (" |" if kind == "min_s" else "")
                text += f" {c:{widths[2]}.3f} {a / c:6.2f} {b / c:7.2f} |"
            print(f"{text} {error:8.1e} {force_error:8.1e}", flush=True)
    if arguments.out:
        facts = environment(["wigner-jax", "jax", "jaxlib", "numpy"])
        settings = {"threads": arguments.threads, "repeats": arguments.repeats}
        Path(arguments.out).write_text(json.dumps({"environment": facts, "settings": settings, "rows": rows}, indent=1))


if __name__ == "__main__" and not serve(work):
    main()
