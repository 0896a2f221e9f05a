"""What `--precision mixed` changes in κ, and in time: eight compounds from stored forces, others from potentials.

    python benchmarks/precision.py --mesh 11 --out benchmarks/results/precision_NAME.json

*From forces*: Φ2 and Φ3 of MACE-MP-0b's stored forces, so that the matrix elements alone are in single precision. *From
potentials*: the third derivatives of the potential as well. 300 K, tetrahedra, isotopes; the difference is that of κ_TOT (a
third of the trace). Seconds are CPU seconds of warm calls, the least of the repeats, both precisions by turns.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from common import (
    SHARED,
    add_output,
    configure_jax,
    constants_from_forces,
    device_facts,
    environment,
    number,
    run_worker,
    serve,
    table,
    write_json,
)

PACKAGES = ("wigner-jax", "jax", "jaxlib", "numpy")
POTENTIALS = (("Si", "mace-bundled"), ("NaCl", "nequix-mp-1-pft"), ("BeO-wurtzite", "nequix-mp-1-pft"))
PRECISIONS = ("double", "mixed")


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """One compound: κ and seconds of both precisions."""
    configure_jax(job["threads"])

    import time

    import jax
    import numpy as np

    from wigner_jax import make_plan, read_phono3py, solve
    from wigner_jax.pipeline import make_force_constants, model_of, relax_with, structure_of

    def by_turns(run: Any) -> tuple[dict[str, Any], dict[str, float]]:
        results: dict[str, Any] = {}
        seconds: dict[str, float] = {}
        for repeat in range(1 + job["repeats"]):
            for precision in PRECISIONS:
                started = time.process_time()
                results[precision] = jax.block_until_ready(run(precision))
                if repeat:
                    seconds[precision] = min(time.process_time() - started, seconds.get(precision, np.inf))
        return results, seconds

    found: dict[str, Any] = {}
    if "yaml" in job:
        data = read_phono3py(job["yaml"])
        cells, constants = data.supercells, dict.fromkeys(PRECISIONS, data.force_constants)
    else:
        atoms = structure_of(job["structure"])
        model = model_of(job["potential"], atoms)
        atoms, _ = relax_with(atoms, model)
        made, found["force_constants_s"] = by_turns(lambda p: make_force_constants(atoms, model, "ad", precision=p)[0])
        cells, constants = made["double"][0], {p: x[1] for p, x in made.items()}
        third = [np.asarray(constants[p].fc3) for p in PRECISIONS]
        found["fc3_difference"] = float(np.abs(third[1] - third[0]).max() / np.abs(third[0]).max())
    n = job["mesh"]
    plan = make_plan(cells, (n, n, n))
    solved, found["solve_s"] = by_turns(lambda p: solve(plan, constants[p], (300.0,), precision=p).conductivity)
    kappa = {p: float(np.asarray(x.kappa_TOT)[0, :3].mean()) for p, x in solved.items()}
    return device_facts() | found | {"kappa": kappa, "difference": kappa["mixed"] / kappa["double"] - 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", type=int, default=11, metavar="N", help="N × N × N points (default: 11)")
    parser.add_argument("--repeats", type=int, default=2, metavar="N", help="warm calls of each (default: 2)")
    parser.add_argument("--threads", type=int, default=1)
    add_output(parser)
    arguments = parser.parse_args()
    common = {"mesh": arguments.mesh, "repeats": arguments.repeats, "threads": arguments.threads}
    jobs: list[dict[str, Any]] = [
        {"name": f"{file.stem.split('-')[2]}, stored forces", "stored": file.stem}
        for file in sorted((SHARED / "data" / "mace-force-sets").glob("*.npz"))
    ]
    jobs += [{"name": f"{s}, {p}", "structure": s, "potential": p} for s, p in POTENTIALS]
    rows = []
    for job in jobs:
        if "stored" in job:
            job |= {"yaml": str(constants_from_forces(job["stored"]))}
        row = run_worker(
            __file__, job | common, arguments.threads, variables={"WIGNER_JAX_MODELS": str(SHARED / "weights")}
        )
        rows.append({"name": job["name"]} | row)
        print(job["name"], f"{row['difference']:.1e}", file=sys.stderr, flush=True)
    header = ["compound", "κ W/(m K)", "mixed − double", "solve s", "mixed s", "Φ3 s", "mixed s", "Φ3 differs by"]
    lines = []
    for row in rows:
        seconds = [row["solve_s"], row.get("force_constants_s", dict.fromkeys(PRECISIONS, float("nan")))]
        times = [number(part[p]) for part in seconds for p in PRECISIONS]
        lines.append(
            [
                row["name"],
                number(row["kappa"]["double"]),
                f"{row['difference']:.1e}",
                *times,
                f"{row.get('fc3_difference', 0):.0e}",
            ]
        )
    print(table(header, lines))
    write_json(arguments.out, {"benchmark": "precision", **environment(PACKAGES), "rows": rows})


if __name__ == "__main__":
    if not serve(worker):
        main()
