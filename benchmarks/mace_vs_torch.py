"""Energy and forces of MACE: this package against mace-torch, same model file, same structures, same cores.

    python benchmarks/mace_vs_torch.py --python mace/bin/python --out benchmarks/results/mace_vs_torch.json

`--python` is an interpreter with mace-torch 0.3.16 (by default this one); it makes the model, with the hyper-parameters
of MACE-MP-0-medium (or `--model`) and random weights, and writes it as mace-torch does. Neither side is charged for its
neighbour list: mace-torch is timed from a ready batch, ours from a ready graph. Float64 on the CPU. Ours is timed with
all 89 elements and restricted to those of the crystal (`restrict`), which is what a calculation of one crystal uses.

Floors: the operations that cannot be avoided are the matrix products of the radial networks (forward, and once more for
the derivative with respect to the distance), which are counted here and divided by what one large float64 product
reaches on the same threads; and reading every weight per edge and channel from memory and writing it once.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

from common import environment, median, peak_rss_mb, run_worker, serve, temporary_mb, times_of, waited

REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "data" / "mace_reference"
CRYSTALS = {"NaCl": 5.64, "MgO": 4.21}  # rocksalt, lattice constants in Å


def structure(case: str) -> Any:
    """A rattled rocksalt supercell, "NaCl-64": formula and number of atoms (8 n³)."""
    from ase.build import bulk

    name, atoms = case.split("-")
    n = round((int(atoms) / 8) ** (1 / 3))
    cell = bulk(name, "rocksalt", a=CRYSTALS[name], cubic=True).repeat(n)
    cell.rattle(0.02, seed=1)
    return cell


def work(job: dict[str, Any]) -> dict[str, Any]:
    return {"make": _make, "torch": _torch, "jax": _jax}[job["side"]](job)


def _make(job: dict[str, Any]) -> dict[str, Any]:
    sys.path.insert(0, str(REFERENCE))
    import make
    import torch

    model = make.build(job["model"], channels=128, elements=tuple(range(1, 90)), r_max=6.0)
    torch.save(model, job["path"])
    return {"parameters": sum(p.numel() for p in model.parameters())}


def _torch(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from mace.calculators import MACECalculator

    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    calculator = MACECalculator(model_paths=job["path"], device="cpu", default_dtype="float64")
    batch = calculator._atoms_to_batch(structure(job["case"]))
    model = calculator.models[0]
    for parameter in model.parameters():  # no gradients for the weights
        parameter.requires_grad_(False)

    def call() -> Any:
        return model(batch.clone().to_dict(), compute_force=True)

    started = time.perf_counter()
    value = call()
    first = time.perf_counter() - started
    call()
    seconds = times_of(call, job["repeats"])
    energy, forces = float(value["energy"]), value["forces"].detach().numpy()
    return {
        "energy": energy,
        "forces": forces.tolist(),
        "first_s": first,
        "min_s": min(seconds),
        "median_s": median(seconds),
        "peak_mb": peak_rss_mb(),
    }


def _jax(job: dict[str, Any]) -> dict[str, Any]:
    import jax

    jax.config.update("jax_enable_x64", True)
    import jax.numpy as jnp
    import numpy as np

    from wigner_jax.potentials.mace.files import load_mace, restrict
    from wigner_jax.potentials.neighbor_list import build_graph

    atoms = structure(job["case"])
    whole = load_mace(job["path"])
    rng = np.random.default_rng(0)
    u = jnp.asarray(rng.standard_normal((len(atoms), 3)))
    results: dict[str, Any] = {}
    for label, potential in (("restricted", restrict(whole, atoms.numbers)), ("all elements", whole)):
        graph, _ = build_graph(atoms, potential)
        graph, potential = jax.device_put((graph, potential))
        x = graph.positions

        def energy(q, g, y):
            return q.energy(q.params, g.at(y))

        def forces(q, g, y):
            return jax.value_and_grad(energy, argnums=2)(q, g, y)

        def product(q, g, y):
            return jax.jvp(lambda z: forces(q, g, z)[1], (y,), (u,))[1]

        def third(q, g, y):
            return jax.jvp(lambda z: product(q, g, z), (y,), (u,))[1]

        tasks = {"energy": energy, "energy+forces": forces}
        if label == "restricted" and job["derivatives"]:
            tasks |= {"Hessian product": product, "third derivative": third}
        for task, function in tasks.items():
            started = time.perf_counter()
            lowered = jax.jit(function).lower(potential, graph, x)
            traced = time.perf_counter()
            run = lowered.compile()
            compiled = time.perf_counter()
            value = jax.block_until_ready(run(potential, graph, x))
            seconds = times_of(partial(waited, run, potential, graph, x), job["repeats"])
            results[f"{task}, {label}"] = {
                "trace_s": traced - started,
                "compile_s": compiled - traced,
                "min_s": min(seconds),
                "median_s": median(seconds),
                "temporary_mb": temporary_mb(run),
            }
            if task == "energy+forces":
                results["energy"], results["forces"] = float(value[0]), (-np.asarray(value[1])).tolist()
    results["edges"] = int(np.sum(np.asarray(graph.edge_mask)))
    results["slots"] = len(graph.edge_mask)
    results["floor"] = _floor(restrict(whole, atoms.numbers), results["edges"])
    results["peak_mb"] = peak_rss_mb()
    return results


def _floor(potential: Any, edges: int) -> dict[str, float]:
    """Operations of the radial networks for energy and forces, bytes of their outputs, and the least time for each."""
    import jax
    import jax.numpy as jnp

    shapes = [p.shape for name, p in potential.params.items() if "conv_tp_weights" in name]
    operations = 2 * 2 * edges * sum(a * b for a, b in shapes)
    outputs = 2 * 2 * 8 * edges * sum(b for _, b in shapes)
    a = jnp.ones((2048, 1024))
    multiply = jax.jit(lambda a: a @ a.T)
    jax.block_until_ready(multiply(a))
    rate = 2 * 2048 * 2048 * 1024 / min(times_of(lambda: jax.block_until_ready(multiply(a)), 5))
    b = jnp.ones(2**24)
    copy = jax.jit(lambda b: b + 1)
    jax.block_until_ready(copy(b))
    bandwidth = 16 * 2**24 / min(times_of(lambda: jax.block_until_ready(copy(b)), 5))
    return {
        "gflop": operations / 1e9,
        "gflop_per_s": rate / 1e9,
        "products_s": operations / rate,
        "mb": outputs / 1e6,
        "gb_per_s": bandwidth / 1e9,
        "memory_s": outputs / bandwidth,
    }


def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["NaCl-64", "NaCl-216", "MgO-64"])
    parser.add_argument(
        "--model", default="mace-mp-0-medium", help="a name that tests/data/mace_reference/make.py knows"
    )
    parser.add_argument("--python", default=sys.executable, help="interpreter with mace-torch")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--derivatives", action="store_true", help="time second and third derivatives too")
    parser.add_argument("--out", help="JSON file")
    arguments = parser.parse_args()
    rows = []
    print(
        f"{'case':10} {'edges':>7} | {'mace-torch':>10} {'ours':>8} {'ratio':>6} | {'89 elements':>11} {'ratio':>6} |",
        end="",
    )
    print(f" {'compile':>7} | {'floor':>7} | {'ΔE/E':>8} {'ΔF':>8}")
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"{arguments.model}.model")
        make = {"side": "make", "model": arguments.model, "path": path}
        made = run_worker(__file__, make, arguments.threads, arguments.python)
        for case in arguments.cases:
            job = {"path": path, "case": case, "repeats": arguments.repeats, "derivatives": arguments.derivatives}
            peer = run_worker(__file__, {**job, "side": "torch"}, arguments.threads, arguments.python)
            ours = run_worker(__file__, {**job, "side": "jax"}, arguments.threads)
            error = abs(ours["energy"] / peer["energy"] - 1)
            forces = float(np.abs(np.array(ours.pop("forces")) - np.array(peer.pop("forces"))).max())
            few, all_ = ours["energy+forces, restricted"], ours["energy+forces, all elements"]
            rows.append({"case": case, "mace-torch": peer, "ours": ours, "energy_error": error, "force_error": forces})
            t, floor = peer["min_s"], ours["floor"]["products_s"] + ours["floor"]["memory_s"]
            print(
                f"{case:10} {ours['edges']:7} | {t:10.3f} {few['min_s']:8.3f} {t / few['min_s']:6.2f} |"
                f" {all_['min_s']:11.3f} {t / all_['min_s']:6.2f} | {few['compile_s'] + few['trace_s']:7.1f} |"
                f" {floor:7.3f} | {error:8.1e} {forces:8.1e}"
            )
            for name in ("Hessian product", "third derivative"):
                if value := ours.get(f"{name}, restricted"):
                    print(
                        f"{'':10} {name}: {value['min_s']:.3f} s, compiled in"
                        f" {value['compile_s'] + value['trace_s']:.1f} s, temporaries {value['temporary_mb']:.0f} MB"
                    )
    if arguments.out:
        facts = environment(["wigner-jax", "jax", "jaxlib", "numpy"])
        settings = {"model": arguments.model, "threads": arguments.threads, **made}
        Path(arguments.out).write_text(json.dumps({"environment": facts, "settings": settings, "rows": rows}, indent=1))


if __name__ == "__main__" and not serve(work):
    main()
