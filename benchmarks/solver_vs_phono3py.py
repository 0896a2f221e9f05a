"""The solver against phono3py's Rust kernels: same force constants, mesh, cores and run.

    python benchmarks/solver_vs_phono3py.py --cases si-11 nacl-11 --threads 1 2 --out benchmarks/results/NAME.json

Every measurement is a process of its own, pinned to as many cores as threads. Temperature 300 K, isotope scattering on,
no non-analytic correction.

phono3py: its default flags, plain RTA. Each repeat is a fresh process, from which the reading of the force constants,
the set-up (grid and `init_phph_interaction`), `run_thermal_conductivity(is_isotope=True, temperatures=[300])` and the
whole process are timed. The ratios of this table are taken from *set-up + run*. From eight threads on it gets
PHONO3PY_RUST_GP_BATCH_SIZE, with which its Rust kernels treat several grid points in one call (`--peer-batch`): one
grid point alone has too few triplets for many cores. Its own default is 0, one grid point after the other.

Ours, in one process: `make_plan`; the first `solve`, whose excess over a warm one is what compilation cost; then the
median of warm repeats of `linewidths` alone (kernel), and of all of `solve` (phonons, counting pass, linewidths, Wigner
conductivity). A second and a third process run once from start to end, with an empty and with a filled compilation
cache. Ours computes coherences too; the peer's plain RTA does not.

Agreement: the peer's default flags leave linewidths of degenerate modes to the eigenvectors' gauge, so the linewidths
are compared with one more, untimed run of the peer with the flags that remove it (`--no-check` leaves it out).

Long, because the workers of both programs stand in one file.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import (
    TEMPERATURE,
    Case,
    Compilations,
    add_output,
    addresses,
    configure_jax,
    device_facts,
    environment,
    find_case,
    fresh_cache,
    join,
    median,
    number,
    peak_rss_mb,
    run_worker,
    seconds_of,
    serve,
    table,
    temporary_mb,
    times_of,
    write_json,
)

SIGMA = 0.1  # THz, of the plain Gaussian
EIGHT = [100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0]  # K
CHEAP = 20.0  # s: a peer faster than this is repeated, unless --peer-repeats says otherwise
PACKAGES = ("wigner-jax", "jax", "jaxlib", "numpy", "phono3py", "phonopy", "phonors")
MANY = 8  # threads from which the peer's grid points are batched, unless --peer-batch says otherwise
INVARIANT = {"average_degenerate_weights": True, "exclude_gamma_acoustic": True}


# -- the peer's process ------------------------------------------------------------------------------------------------


def peer_worker(job: dict[str, Any]) -> dict[str, Any]:
    """One run of phono3py, its parts timed apart."""
    from functools import partial

    import phono3py

    def read() -> Any:
        files = {f"fc{n}_filename": Path(job["yaml"]).with_name(f"fc{n}.hdf5") for n in (2, 3)}
        return phono3py.load(job["yaml"], **files, is_nac=False, log_level=0)

    def set_up(ph3: Any) -> None:
        ph3.sigmas = [SIGMA] if job["broadening"] == "gaussian" else None
        ph3.mesh_numbers = job["mesh"]
        ph3.init_phph_interaction(**(INVARIANT if job["invariant"] else {}))

    read_s, ph3 = seconds_of(read)
    set_up_s, _ = seconds_of(partial(set_up, ph3))
    run_s, _ = seconds_of(partial(ph3.run_thermal_conductivity, is_isotope=True, temperatures=[TEMPERATURE]))
    result = ph3.thermal_conductivity
    return {
        "read_s": read_s,
        "set_up_s": set_up_s,
        "run_s": run_s,
        "total_s": set_up_s + run_s,
        "rss_mb": peak_rss_mb(),
        "backend": getattr(ph3, "lang", None),
        "kappa": result.kappa[0, 0].tolist(),
        "address": addresses(result.qpoints, job["mesh"]),
        "gamma": result.gamma[0, 0].tolist(),
        "gamma_isotope": result.gamma_isotope[0].tolist(),
    }


# -- our process -------------------------------------------------------------------------------------------------------


def our_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Either the whole pipeline once (job["once"]), or plan, first and warm runs."""
    started = time.perf_counter()
    configure_jax(job["threads"])

    import jax
    import numpy as np

    from wigner_jax._solve import linewidths, make_plan, phonons, solve
    from wigner_jax.io.phono3py import read_phono3py
    from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian, Gaussian
    from wigner_jax.physics.broadening.tetrahedron import Tetrahedron

    import_s, compilations = time.perf_counter() - started, Compilations()
    wait = jax.block_until_ready
    read_s, (cells, fc, _) = seconds_of(lambda: read_phono3py(job["yaml"]))
    plan_s, plan = seconds_of(lambda: make_plan(cells, job["mesh"]))

    def broadening(name: str) -> Any:
        return {"tetrahedron": lambda: Tetrahedron.for_plan(plan), "gaussian": lambda: Gaussian(SIGMA)}[name]()

    def run(temperatures: list[float] | None = None, chosen: Any = None) -> Any:
        chosen = broadening(job["broadening"]) if chosen is None else chosen
        return wait(solve(plan, fc, temperatures or [TEMPERATURE], broadening=chosen))

    first_s, solution = seconds_of(run)
    irreducible = np.asarray(plan.mesh.qpoints)[np.asarray(plan.mesh.irreducible)]
    result = {
        "import_s": import_s,
        "read_s": read_s,
        "first_plan_s": plan_s,
        "first_solve_s": first_s,
        "xla_compile_s": compilations.seconds,
        "kappa_P": solution.conductivity.kappa_P[0].tolist(),
        "kappa_C": solution.conductivity.kappa_C[0].tolist(),
        "address": addresses(irreducible, job["mesh"]),
        "gamma": solution.linewidths.three_phonon[0].tolist(),
        "gamma_isotope": solution.linewidths.isotope.tolist(),
        "rss_mb": peak_rss_mb(),
        **device_facts(),
    }
    if job["once"]:
        return result

    repeats = job["repeats"]
    solve_times = times_of(run, repeats)
    ready = broadening(job["broadening"])
    if job["broadening"] == "tetrahedron":
        ready = ready.with_capacity(plan, fc, margin=0.0)
    waves = wait(phonons(plan, fc.fc2))
    arguments = (plan, fc, waves, np.array([TEMPERATURE]))
    wait(linewidths(*arguments, broadening=ready))
    result |= {
        "plan_s": median(times_of(lambda: make_plan(cells, job["mesh"]), repeats)),
        "kernel_s": median(times_of(lambda: wait(linewidths(*arguments, broadening=ready)), repeats)),
        "solve_s": median(solve_times),
        "solve_times": solve_times,
        "compile_s": max(0.0, first_s - median(solve_times)),
        "warm_rss_mb": peak_rss_mb(),
        "xla_temp_mb": _temporaries(plan, fc, waves, ready),
    }
    if job["temperatures"]:
        result["temperatures"] = _eight(run, repeats)
    if job["adaptive"]:
        adaptive = run(chosen=AdaptiveGaussian()).conductivity.kappa_TOT[0]
        result["adaptive"] = {"kappa_TOT": adaptive.tolist()}
    return result


def _temporaries(plan: Any, fc: Any, waves: Any, broadening: Any) -> float:
    """Largest temporary memory of the compiled linewidths of any bucket, MB. Compiles anew: call it last."""
    import jax
    import jax.numpy as jnp

    from wigner_jax._core.tiling import tiling_for
    from wigner_jax.crystal.elements import natural_isotopes
    from wigner_jax.physics import linewidths as widths

    state = widths.compiled_prepare(
        waves, fc.fc3, plan, jnp.array([TEMPERATURE]), broadening, None, tiling=tiling_for()
    )
    variances = jnp.asarray(natural_isotopes(plan.crystal))
    sizes = []
    for number_, bucket in enumerate(plan.triplets):
        lowered = jax.jit(widths.bucket_linewidths).lower(
            bucket, state, plan, variances, broadening.for_bucket(number_)
        )
        sizes.append(temporary_mb(lowered.compile()))
    return max(sizes)


def _eight(run: Any, repeats: int) -> dict[str, Any]:
    """Warm `solve` at eight temperatures and at one, taken in turn so that both see the same machine."""
    run(EIGHT)
    pairs = [(seconds_of(run)[0], seconds_of(lambda: run(EIGHT))[0]) for _ in range(repeats)]
    one, eight = (median(x) for x in zip(*pairs, strict=True))
    return {"one_s": one, "eight_s": eight, "ratio": eight / one}


# -- the parent --------------------------------------------------------------------------------------------------------


def measure_ours(job: dict[str, Any], threads: int) -> dict[str, Any]:
    """Warm measurements, and the whole process with an empty and with a filled compilation cache."""
    warm = run_worker(__file__, {**job, "code": "ours", "once": False}, threads)
    with tempfile.TemporaryDirectory() as folder:
        once = {**job, "code": "ours", "once": True}
        cold, cached = (run_worker(__file__, once, threads, variables=fresh_cache(folder)) for _ in range(2))
    return {
        **warm,
        "process_s": cold["process_s"],
        "cached_process_s": cached["process_s"],
        "process_parts": {"cold": parts_of(cold), "cached": parts_of(cached)},
        "rss_mb": max(x["rss_mb"] for x in (warm, cold, cached)),
    }


def parts_of(process: dict[str, Any]) -> dict[str, float]:
    """Where a whole process of ours spent its time."""
    names = ("import_s", "read_s", "first_plan_s", "first_solve_s", "xla_compile_s", "process_s")
    return {name: process[name] for name in names}


def batch_variables(threads: int, batch: int | None) -> dict[str, str]:
    """phono3py's variable for the number of grid points that its Rust kernels treat in one call."""
    return {"PHONO3PY_RUST_GP_BATCH_SIZE": str((threads if threads >= MANY else 0) if batch is None else batch)}


def measure_peer(
    job: dict[str, Any], threads: int, repeats: int | None, most: int, variables: dict[str, str]
) -> dict[str, Any]:
    """Medians over fresh processes; `most` of them if the first was cheap and `repeats` is None."""
    job = {**job, "code": "peer", "invariant": False}
    runs = [run_worker(__file__, job, threads, variables=variables)]
    count = repeats or (most if runs[0]["total_s"] < CHEAP else 1)
    runs += [run_worker(__file__, job, threads, variables=variables) for _ in range(count - 1)]
    keys = ("read_s", "set_up_s", "run_s", "total_s", "process_s")
    medians = {key: median([r[key] for r in runs]) for key in keys}
    return {**runs[0], **medians, "rss_mb": max(r["rss_mb"] for r in runs), "repeats": count, "variables": variables}


def compare(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """Largest difference of γ (over the largest γ), of isotope γ, and of the populations' κ_xx, κ_yy, κ_zz (relative).

    Points are joined by their address on the mesh. Where elastic scattering meets a tetrahedron's face at exactly its
    own frequency, rounding decides the peer's isotope γ: the share of the modes that agree to 1e-6 of the largest is
    given too. κ differs by definition too: plain RTA leaves out the degenerate pairs that ours counts as populations.
    """
    import numpy as np

    order, result = join(ours["address"], peer["address"]), {}
    for key in ("gamma", "gamma_isotope"):
        a, b = np.array(ours[key]), np.array(peer[key])[order]
        difference = np.abs(a - b) / b.max()
        result[key] = float(difference.max())
        if key == "gamma_isotope":
            result["gamma_isotope_share"] = float(np.mean(difference < 1e-6))
    kappa = np.array(peer["kappa"][:3])
    result["kappa"] = float(np.abs(np.array(ours["kappa_P"][:3]) / kappa - 1).max())
    return result


def ratios(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float]:
    """How many times faster ours is; see the module's docstring."""
    return {
        "kernel": peer["total_s"] / ours["kernel_s"],
        "solve": peer["total_s"] / ours["solve_s"],
        "solve_with_plan": peer["total_s"] / (ours["solve_s"] + ours["plan_s"]),
        "process": peer["process_s"] / ours["process_s"],
        "cached_process": peer["process_s"] / ours["cached_process_s"],
    }


def without_modes(result: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in result.items() if k not in ("address", "gamma", "gamma_isotope")}


def one_case(case: Case, threads: int, broadening: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements of one row of the table."""
    job = {
        "yaml": case.yaml, "mesh": case.mesh, "broadening": broadening, "repeats": arguments.repeats,
        "temperatures": arguments.temperatures, "adaptive": arguments.adaptive and broadening == "tetrahedron",
    }  # fmt: skip
    ours = measure_ours(job, threads)
    row: dict[str, Any] = {"case": case.name, "mesh": case.mesh, "threads": threads, "broadening": broadening}
    if "adaptive" in ours:
        total = [p + c for p, c in zip(ours["kappa_P"], ours["kappa_C"], strict=True)]
        pairs = zip(ours["adaptive"]["kappa_TOT"][:3], total[:3], strict=True)
        ours["adaptive"]["deviation"] = max(abs(a / b - 1) for a, b in pairs)
    row["ours"] = without_modes(ours)
    if arguments.skip_peer:
        return row
    variables = batch_variables(threads, arguments.peer_batch)
    peer = measure_peer(job, threads, arguments.peer_repeats, arguments.repeats, variables)
    row |= {"peer": without_modes(peer), "ratios": ratios(ours, peer), "agreement": {"default": compare(ours, peer)}}
    if arguments.check:
        invariant = run_worker(__file__, {**job, "code": "peer", "invariant": True}, threads, variables=variables)
        row["agreement"]["invariant"] = compare(ours, invariant)
    return row


HEADER = (
    "case", "threads", "broadening", "plan", "compile", "kernel", "solve", "process", "cached", "RSS MB", "XLA MB",
    "| peer", "process", "RSS MB", "| kernel", "solve", "+plan", "process", "cached", "| dγ", "dκ",
)  # fmt: skip


def line(row: dict[str, Any]) -> list[str]:
    """A row of the table: seconds of ours, | the peer's, | ratios, | agreement."""
    ours, peer, ratio = row["ours"], row.get("peer", {}), row.get("ratios", {})
    agreement = row.get("agreement", {})
    agreement = agreement.get("invariant") or agreement.get("default") or {}
    cells = [row["case"], str(row["threads"]), row["broadening"]]
    cells += [number(ours[k]) for k in ("plan_s", "compile_s", "kernel_s", "solve_s", "process_s", "cached_process_s")]
    cells += [number(ours["rss_mb"]), number(ours["xla_temp_mb"])]
    cells += ["| " + number(peer.get("total_s")), number(peer.get("process_s")), number(peer.get("rss_mb"))]
    names = ("kernel", "solve", "solve_with_plan", "process", "cached_process")
    cells += ["| " * (n == "kernel") + number(ratio.get(n), unit="×" if ratio else "") for n in names]
    return [*cells, "| " + number(agreement.get("gamma"), 1), number(agreement.get("kappa"), 2)]


def extras(row: dict[str, Any]) -> list[str]:
    """Sentences on what the table has no column for."""
    ours, name = row["ours"], f"{row['case']} {row['broadening']}, {row['threads']} thread(s)"
    parts = ours["process_parts"]
    lines = [
        f"{name}: {kind} process: import {p['import_s']:.3g}, read {p['read_s']:.3g}, plan {p['first_plan_s']:.3g},"
        f" solve {p['first_solve_s']:.3g} s, of which XLA {p['xla_compile_s']:.3g} s; in all {p['process_s']:.3g} s"
        for kind, p in parts.items()
    ]
    if (eight := ours.get("temperatures")) is not None:
        lines.append(
            f"{name}: eight temperatures {eight['eight_s']:.3g} s, one {eight['one_s']:.3g} s: {eight['ratio']:.2f}×"
        )
    if (adaptive := ours.get("adaptive")) is not None:
        lines.append(f"{name}: adaptive Gaussian's κ_TOT differs by at most {100 * adaptive['deviation']:.2f} %")
    for kind, a in row.get("agreement", {}).items():
        lines.append(
            f"{name}: against {kind} flags: γ {a['gamma']:.1e} of the largest; isotope γ {a['gamma_isotope']:.1e}, the"
            f" same for {100 * a['gamma_isotope_share']:.0f} % of the modes; κ (populations) {100 * a['kappa']:.3f} %"
        )
    if (peer := row.get("peer")) is not None:
        lines.append(
            f"{name}: phono3py ({peer['backend']}, median of {peer['repeats']}): read {peer['read_s']:.3g} s, set-up"
            f" {peer['set_up_s']:.3g} s, run {peer['run_s']:.3g} s"
        )
    return lines


def worker(job: dict[str, Any]) -> dict[str, Any]:
    return peer_worker(job) if job["code"] == "peer" else our_worker(job)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["si-11", "si-19", "nacl-11", "nacl-19", "beo-9"], help="NAME-N")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3, help="warm runs of ours; processes of a cheap peer")
    parser.add_argument("--peer-repeats", type=int, help=f"processes of the peer (default: 1 if above {CHEAP:g} s)")
    parser.add_argument(
        "--peer-batch",
        type=int,
        help=f"grid points of the peer in one call (default: as many as threads if those are {MANY} or more, else 0)",
    )
    parser.add_argument("--broadening", nargs="+", choices=["tetrahedron", "gaussian"], default=["tetrahedron"])
    parser.add_argument("--temperatures", action="store_true", help="also the cost of eight temperatures")
    parser.add_argument("--adaptive", action="store_true", help="also κ by AdaptiveGaussian beside the tetrahedra's")
    parser.add_argument("--skip-peer", action="store_true", help="ours alone")
    parser.add_argument("--no-check", dest="check", action="store_false", help="no run of the gauge-invariant peer")
    add_output(parser)
    arguments = parser.parse_args()
    cases = [find_case(name) for name in arguments.cases]
    results: dict[str, Any] = {"benchmark": "solver_vs_phono3py", **environment(PACKAGES), "rows": []}
    print(f"{results['processor']}, {results['cores']} cores; {results['date']}; {results['versions']}")
    for case in cases:
        for broadening in arguments.broadening:
            for threads in arguments.threads:
                print(f"{case.name} {broadening}, {threads} thread(s) …", file=sys.stderr)
                results["rows"].append(one_case(case, threads, broadening, arguments))
    print(f"\nours on {results['rows'][0]['ours']['device']}: seconds | the peer's | times faster | differences")
    print(table(HEADER, [line(row) for row in results["rows"]]), end="\n\n")
    print("\n".join(sentence for row in results["rows"] for sentence in extras(row)))
    write_json(arguments.out, results)


if __name__ == "__main__" and not serve(worker):
    main()
