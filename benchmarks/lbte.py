"""The linearised Boltzmann equation against phono3py's direct solution, and against the relaxation-time approximation here.

    python benchmarks/lbte.py --cases nacl-11 nacl-19 si-19 --threads 2 --out benchmarks/results/NAME.json

300 K, linear tetrahedra, isotopes, no non-analytic correction; processes of their own, pinned to as many cores as threads.
Ours, in one process: warm `solve` by turns with `transport="rta"` and `"lbte"`, the collision operator assembled; medians.
Then the gradient of κ by Φ2 and Φ3, likewise by turns: in the relaxation-time approximation, beyond it with the deviations of
the solution at hand, and with their search. phono3py (`--peer-most` limits the mesh): `run_thermal_conductivity(is_LBTE=True)`,
which assembles the collision matrix and diagonalises it, with its gauge-invariant flags. Agreement: κ by both operators with
phono3py's group velocities, which lack components in degenerate blocks.

`--once` solves one case a single time, beyond the relaxation-time approximation alone and compilation included, on meshes
that take long: peak memory, and beside it the bytes of phono3py's collision matrix, (points × bands × 3)² doubles.
"""

from __future__ import annotations

import argparse
import re
from functools import partial
from typing import Any

from common import (
    TEMPERATURE,
    add_output,
    configure_jax,
    device_facts,
    environment,
    find_case,
    median,
    number,
    peak_rss_mb,
    run_worker,
    seconds_of,
    serve,
    table,
    waited,
    write_json,
)  # fmt: skip

PACKAGES = ("wigner-jax", "jax", "jaxlib", "numpy", "phono3py", "phonopy", "phonors")
GRADIENT_MOST = 11  # points along each vector, above which gradients are left out
MOST_MEMORY = 16e9  # bytes of the assembled operator with --once


def peer_worker(job: dict[str, Any]) -> dict[str, Any]:
    from pathlib import Path

    import phono3py

    files = {f"fc{n}_filename": Path(job["yaml"]).with_name(f"fc{n}.hdf5") for n in (2, 3)}
    ph3 = phono3py.load(job["yaml"], **files, is_nac=False, log_level=0)
    ph3.mesh_numbers = job["mesh"]

    def run() -> None:
        ph3.init_phph_interaction(average_degenerate_weights=True, exclude_gamma_acoustic=True)
        ph3.run_thermal_conductivity(is_LBTE=True, is_isotope=True, temperatures=[TEMPERATURE])

    seconds, _ = seconds_of(run)
    found = ph3.thermal_conductivity
    return {
        "seconds": seconds, "rss_mb": peak_rss_mb(), "kappa": found.kappa[0, 0].tolist(),
        "kappa_RTA": found.kappa_RTA[0, 0].tolist(), "velocities": found.group_velocities.tolist(),
        "isotope": found.gamma_isotope[0].tolist(),
    }  # fmt: skip


def our_worker(job: dict[str, Any]) -> dict[str, Any]:
    configure_jax(job["threads"])
    import jax
    import numpy as np

    import wigner_jax as wj
    from wigner_jax.io.phono3py import read_phono3py

    cells, fc, _ = read_phono3py(job["yaml"])
    plan = wj.make_plan(cells, job["mesh"])
    n = 3 * len(plan.mesh.irreducible) * 3 * plan.crystal.n_atoms
    sizes = {"points": len(plan.mesh.irreducible), "peer_matrix_gb": 8e-9 * n**2}

    def run(transport: Any) -> Any:
        options: dict[str, Any] = {"memory": MOST_MEMORY} if job["once"] else {}
        return jax.block_until_ready(wj.solve(plan, fc, [TEMPERATURE], transport=transport, **options))

    if job["once"]:
        alone, solution = seconds_of(partial(run, "lbte"))
        return {"once_s": alone, **described(solution), **sizes, **device_facts()}
    first = {t: seconds_of(partial(run, t))[0] for t in ("rta", "lbte")}
    times: dict[str, list[float]] = {"rta": [], "lbte": []}
    for _ in range(job["repeats"]):
        for transport, seconds in times.items():
            took, solution = seconds_of(partial(run, transport))
            seconds.append(took)
    result = {
        "first": first, "times": times, "rta_s": median(times["rta"]), "lbte_s": median(times["lbte"]), **described(solution), **sizes,
        **device_facts(),
    }  # fmt: skip
    if job["velocities"] is not None:
        result["with_peer_velocities"] = _with(solution, np.array(job["velocities"]), np.array(job["isotope"]))
    if job["gradient"]:
        result["gradient"] = _gradients(plan, fc, solution, job["repeats"])
    return result


def described(solution: Any) -> dict[str, Any]:
    full = solution.full
    return {
        "rss_mb": peak_rss_mb(), "unknowns": full.size, "operator_mb": full.size**2 * 4 / 2**20, "assembled": full.assembled,
        "iterations": int(full.iterations[0]), "residual": float(full.residual[0]), "status": full.status[0],
        "asymmetry": float(full.asymmetry[0]), "kappa_P_RTA": full.kappa_P_RTA[0].tolist(), "kappa_P": full.kappa_P[0].tolist(),
        "kappa_C": solution.conductivity.kappa_C[0].tolist(),
    }  # fmt: skip


def _with(solution: Any, velocities: Any, isotope: Any) -> list[float]:
    """κ_P xx, yy, zz by our operator with other group velocities and isotope widths."""
    import numpy as np

    from wigner_jax._core.tiling import tiling_for
    from wigner_jax.physics.boltzmann import Operator, solve_full
    from wigner_jax.physics.linewidths import state_for
    from wigner_jax.units import KAPPA

    plan, T = solution.plan, np.array([TEMPERATURE])
    state = state_for(plan, solution.force_constants, solution.phonons, T, solution.broadening, None, tiling_for())
    operator = Operator(plan, state, T, None, solution.broadening)
    gamma = np.asarray(solution.linewidths.three_phonon)[0] + isotope
    capacity = np.asarray(solution.conductivity.heat_capacity)[0]
    change = solve_full(operator, operator.assembled()[1][0], gamma, capacity, velocities)[0]
    mean = np.divide(capacity, 2 * gamma, out=np.zeros_like(gamma), where=gamma > 0)
    volume = abs(np.linalg.det(plan.crystal.lattice))
    weights = np.asarray(plan.mesh.weights)[:, None, None] * KAPPA / volume
    total = (weights * mean[..., None] * (velocities**2).mean(axis=-1, keepdims=True)).sum() + change[..., :3].sum() / 3
    return [float(total / len(plan.mesh.qpoints))] * 3


def _gradients(plan: Any, fc: Any, solution: Any, repeats: int) -> dict[str, float]:
    import jax

    import wigner_jax as wj

    def average(fc: Any, **options: Any) -> Any:
        found = wj.kappa(plan, fc, (TEMPERATURE,), broadening=solution.broadening, **options)
        return found.kappa_TOT[0, :3].mean()

    ways = {
        "rta_s": lambda fc, F: average(fc),
        "lbte_known_s": lambda fc, F: average(fc, transport="lbte", deviations=F),
        "lbte_s": lambda fc, F: average(fc, transport="lbte"),
    }
    compiled = {name: jax.jit(jax.value_and_grad(way)) for name, way in ways.items()}
    F = solution.full.deviations
    for way in compiled.values():
        jax.block_until_ready(way(fc, F))
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in compiled.items():
            times[name].append(seconds_of(partial(waited, way, fc, F))[0])
    return {name: median(x) for name, x in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["nacl-11"], metavar="NAME-N")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--peer-most", type=int, default=19, help="points along a vector, above which phono3py is left out"
    )
    parser.add_argument("--once", metavar="NAME-N", help="this case alone, solved once")
    add_output(parser)
    arguments = parser.parse_args()
    if arguments.once is not None:
        case = find_case(arguments.once)
        once = {"yaml": case.yaml, "mesh": case.mesh, "code": "ours", "once": True}
        measured = run_worker(__file__, once, arguments.threads)
        about = {"case": arguments.once, "mesh": case.mesh, "threads": arguments.threads}
        print(about | measured)
        write_json(arguments.out, {"benchmark": "lbte", **environment(PACKAGES), "once": about | measured})
        return
    rows = []
    for name in arguments.cases:
        case, points = find_case(name), int(re.split("-", name)[1])
        job: dict[str, Any] = {"yaml": case.yaml, "mesh": case.mesh}
        row: dict[str, Any] = {"case": name, "mesh": case.mesh, "threads": arguments.threads}
        peer = None
        if points <= arguments.peer_most:
            peer = run_worker(__file__, {**job, "code": "peer"}, arguments.threads)
        ours = run_worker(
            __file__,
            {
                **job, "code": "ours", "once": False, "repeats": arguments.repeats, "gradient": points <= GRADIENT_MOST,
                "velocities": peer and peer["velocities"], "isotope": peer and peer["isotope"],
            },
            arguments.threads,
        )  # fmt: skip
        row["ours"] = ours
        if peer is not None:
            row["peer"] = {k: v for k, v in peer.items() if k not in ("velocities", "isotope")}
            row["times_faster"] = peer["seconds"] / ours["lbte_s"]
            row["agreement"] = abs(ours["with_peer_velocities"][0] / (sum(peer["kappa"][:3]) / 3) - 1)
        rows.append(row)
        print(table(HEADER, [line(r) for r in rows]), flush=True)
        write_json(arguments.out, {"benchmark": "lbte", **environment(PACKAGES), "rows": rows})


HEADER = ("case", "threads", "rta s", "lbte s", "ratio", "unknowns", "its", "κ_P RTA", "κ_P", "RSS MB", "| peer s", "RSS MB", "times", "dκ",
          "| grad rta", "known", "all")  # fmt: skip


def line(row: dict[str, Any]) -> list[str]:
    ours, peer, gradient = row["ours"], row.get("peer", {}), row["ours"].get("gradient", {})
    mean = [sum(ours[k][:3]) / 3 for k in ("kappa_P_RTA", "kappa_P")]
    cells = [row["case"], str(row["threads"]), number(ours["rta_s"]), number(ours["lbte_s"])]
    cells += [
        number(ours["lbte_s"] / ours["rta_s"]),
        str(ours["unknowns"]),
        str(ours["iterations"]),
        *map(number, mean),
    ]
    cells += [number(ours["rss_mb"]), "| " + number(peer.get("seconds")), number(peer.get("rss_mb"))]
    cells += [number(row.get("times_faster"), unit="×" if peer else ""), number(row.get("agreement"), 1)]
    return [
        *cells,
        "| " + number(gradient.get("rta_s")),
        number(gradient.get("lbte_known_s")),
        number(gradient.get("lbte_s")),
    ]


if __name__ == "__main__" and not serve(lambda job: {"peer": peer_worker, "ours": our_worker}[job["code"]](job)):
    main()
