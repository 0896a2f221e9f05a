"""Energy, forces and stress of Nequix and SevenNet: this package against the originals, same weights, same cores.

    python benchmarks/zoo_vs_originals.py --python zoo/bin/python --out benchmarks/results/zoo_vs_originals.json

`--python` is an interpreter with nequix 0.4.5 (e3nn-jax 0.21.0) and sevenn 0.13.0 (e3nn 0.6.0, torch 2.13.0); the weights
are `--weights`, ../shared/weights by default. Float64 on the CPU, for which tests/data/zoo_reference/make.py removes the
originals' roundings to float32. Neither side is charged for its neighbour list, and both give energy, forces and stress:
that is what one call of the originals gives. nequix is JAX too and compiled as a whole, sevenn is eager torch.

Times are the shortest of the repeats. On a machine that others use too the processor's time is the fairer of the two: it
does not count waiting, and on one thread it is the wall time of a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import SHARED, environment, median, peak_rss_mb, run_worker, serve, temporary_mb, times_of, waited

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "data" / "zoo_reference"
CRYSTALS = {"NaCl": 5.64, "MgO": 4.21}  # rocksalt, lattice constants in Å
PACKAGES = ["nequix", "e3nn-jax", "jax", "jaxlib", "sevenn", "e3nn", "torch", "numpy"]


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


def _peer(job: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, str(REFERENCE))
    from make import original

    if not job["model"].startswith("nequix"):
        import torch

        torch.set_num_threads(job["threads"])
        torch.set_num_interop_threads(1)
    prepare, evaluate = original(job["model"], Path(job["weights"]))
    data = prepare(structure(job["case"]))
    started = time.perf_counter()
    evaluate(data)
    first = time.perf_counter() - started
    energy, forces, _ = evaluate(data)
    seconds, cpu = _times(lambda: evaluate(data), job["repeats"])
    return {
        "energy": energy,
        "forces": forces.tolist(),
        "first_s": first,
        "min_s": min(seconds),
        "median_s": median(seconds),
        "cpu_s": min(cpu),
        "peak_mb": peak_rss_mb(),
        "versions": environment(PACKAGES)["versions"],
    }


def _ours(job: dict[str, Any]) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    sys.path.insert(0, str(REFERENCE))
    from make import FILES

    from wigner_jax.potentials.neighbor_list import build_graph
    from wigner_jax.potentials.registry import load_potential

    atoms = structure(job["case"])
    potential = load_potential(Path(job["weights"]) / FILES[job["model"]])
    graph, _ = build_graph(atoms, potential)
    graph, potential = jax.device_put((graph, potential))
    u = jnp.asarray(np.random.default_rng(0).standard_normal((len(atoms), 3)))

    def energy(q, g, y, strain):
        return q.energy(q.params, g.at(y).strained(strain))

    def slopes(q, g, y):
        return jax.value_and_grad(energy, argnums=(2, 3))(q, g, y, jnp.zeros((3, 3)))

    def gradient(q, g, y):
        return jax.grad(lambda z: q.energy(q.params, g.at(z)))(y)

    def product(q, g, y):
        return jax.jvp(lambda z: gradient(q, g, z), (y,), (u,))[1]

    def third(q, g, y):
        return jax.jvp(lambda z: product(q, g, z), (y,), (u,))[1]

    tasks = {"energy+forces+stress": slopes}
    if job["derivatives"]:
        tasks |= {"Hessian product": product, "third derivative": third}
    results: dict[str, Any] = {}
    for task, function in tasks.items():
        started = time.perf_counter()
        lowered = jax.jit(function).lower(potential, graph, graph.positions)
        traced = time.perf_counter()
        run = lowered.compile()
        compiled = time.perf_counter()
        value = jax.block_until_ready(run(potential, graph, graph.positions))
        seconds, cpu = _times(partial(waited, run, potential, graph, graph.positions), job["repeats"])
        results[task] = {
            "trace_s": traced - started,
            "compile_s": compiled - traced,
            "min_s": min(seconds),
            "median_s": median(seconds),
            "cpu_s": min(cpu),
            "temporary_mb": temporary_mb(run),
        }
        if task == "energy+forces+stress":
            results["energy"], results["forces"] = float(value[0]), (-np.asarray(value[1][0])).tolist()
    results["edges"] = int(np.sum(np.asarray(graph.edge_mask)))
    results["peak_mb"] = peak_rss_mb()
    return results


def _times(function: Callable[[], Any], repeats: int) -> tuple[list[float], list[float]]:
    """Wall and processor times of several calls."""
    started, spent = time.process_time(), []

    def timed() -> None:
        function()
        spent.append(time.process_time())

    seconds = times_of(timed, repeats)
    return seconds, [end - start for start, end in pairwise([started, *spent])]


def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["NaCl-64", "MgO-64"])
    parser.add_argument("--models", nargs="+", default=["nequix-mp-1", "sevennet-0", "sevennet-l3i5"])
    parser.add_argument("--weights", type=Path, default=SHARED / "weights", help="folder of the model files")
    parser.add_argument("--python", default=sys.executable, help="interpreter with the originals")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--derivatives", action="store_true", help="time second and third derivatives too (1st case)")
    parser.add_argument("--out", help="JSON file")
    arguments = parser.parse_args()
    rows = []
    print(f"{'model':14} {'case':8} {'threads':>7} {'edges':>6} | {'original':>8} {'ours':>7} {'ratio':>6} |", end="")
    print(f" {'CPU':>8} {'ours':>7} {'ratio':>6} |", end="")
    print(f" {'trace+compile':>13} {'original':>9} | {'MB':>5} {'original':>8} | {'ΔE/E':>8} {'ΔF':>8}")
    versions: dict[str, Any] = {}
    for model in arguments.models:
        for case in arguments.cases:
            for threads in arguments.threads:
                job = {"model": model, "case": case, "weights": str(arguments.weights), "repeats": arguments.repeats}
                more = arguments.derivatives and case == arguments.cases[0]
                peer = run_worker(__file__, {**job, "side": "peer"}, threads, arguments.python)
                ours = run_worker(__file__, {**job, "side": "ours", "derivatives": more}, threads)
                versions |= {k: v for k, v in peer.pop("versions").items() if v}
                error = abs(ours["energy"] / peer["energy"] - 1)
                forces = float(np.abs(np.array(ours.pop("forces")) - np.array(peer.pop("forces"))).max())
                differences = {"energy_error": error, "force_error": forces}
                rows.append({"model": model, "case": case, "threads": threads, "original": peer, "ours": ours})
                rows[-1] |= differences
                mine = ours["energy+forces+stress"]
                print(
                    f"{model:14} {case:8} {threads:7} {ours['edges']:6} | {peer['min_s']:8.3f} {mine['min_s']:7.3f}"
                    f" {peer['min_s'] / mine['min_s']:6.2f} | {peer['cpu_s']:8.3f} {mine['cpu_s']:7.3f}"
                    f" {peer['cpu_s'] / mine['cpu_s']:6.2f} | {mine['trace_s'] + mine['compile_s']:13.1f}"
                    f" {peer['first_s'] - peer['min_s']:9.1f} | {ours['peak_mb']:5.0f} {peer['peak_mb']:8.0f} |"
                    f" {error:8.1e} {forces:8.1e}",
                    flush=True,
                )
                for name in ("Hessian product", "third derivative"):
                    if value := ours.get(name):
                        print(
                            f"{'':24} {name}: {value['min_s']:.2f} s, traced and compiled in"
                            f" {value['trace_s'] + value['compile_s']:.1f} s, temporaries {value['temporary_mb']:.0f} MB"
                        )
    if arguments.out:
        facts = environment(["wigner-jax", "jax", "jaxlib", "numpy"])
        record = {"environment": facts, "originals": versions, "rows": rows}
        Path(arguments.out).write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__" and not serve(work):
    main()
