"""The Wigner conductivity against phono3py 3.30.0, the last release with the original Wigner equation.

phono3py 3.30.0 (`transport_type="MS-SMM19"`) cannot share an environment with 4.x. Make one for it:

    python -m venv p330
    p330/bin/pip install --prefer-binary phono3py==3.30.0    # brings phonopy 3.5.1
    python benchmarks/wigner_330.py --python p330/bin/python --out benchmarks/results/wigner_330.json

It runs there with its default flags on the stored force constants (300 K, isotope scattering, no non-analytic
correction), ours here. κ_TOT should agree within 0.5 %; the script says so and exits with 1 where it does not. More
numbers tell where a difference comes from:

- *ties*: the difference of κ_TOT when the peer's tetrahedron weights are the mean of those 1e-6 THz below and above the
  frequency. In 3.30.0 a tetrahedron with a corner exactly at the frequency has no weight at all (all its comparisons
  are strict). Elastic scattering meets its own star, and a phonon and an acoustic one at Γ or beside it add up to the
  phonon: such corners are many. 4.x counts them;
- *no isotopes*: the difference of κ_TOT when both leave out isotope scattering;
- *equation*: our Wigner equation with the peer's own linewidths against the peer's κ_TOT;
- *three-phonon*, *isotope*: what the peer's linewidths of the one kind in place of ours change of our κ_TOT;
- *gauge*: how much the peer's κ_TOT moves when LAPACK reads the other triangle of the dynamical matrix, which changes
  nothing but the eigenvectors inside degenerate blocks, on which its tetrahedron weights depend, and rounding: one
  other choice out of many, so a lower bound.

With Gaussian broadening there is nothing of all this.

`--gauges N` runs the peer N more times with tetrahedra and ties counted, each time with the eigenvectors of every
degenerate block turned by a random unitary matrix (its own `set_phonon_data`): physics knows no difference, and the mean
over such turns is what our average over blocks computes. κ_TOT from the mean of these linewidths is compared with ours,
and the spread of κ_TOT over the gauges is given beside it.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    TEMPERATURE,
    add_output,
    addresses,
    configure_jax,
    environment,
    find_case,
    join,
    run_worker,
    seconds_of,
    serve,
    table,
    version,
    write_json,
)

SIGMA = 0.1  # THz, of the plain Gaussian
PARTS = ("kappa_P", "kappa_C", "kappa_TOT")
SHARES = {  # key in the record: name in the table
    "ties": "ties", "without_isotope": "no isotopes", "equation": "equation", "three_phonon": "three-phonon",
    "isotope": "isotope", "gauge": "gauge",
}  # fmt: skip
TOLERANCE = 5e-3  # of κ_TOT
PEER = "3.30.0"
DEGENERATE = 1e-4  # THz
SIDE = 1e-6  # THz, more than the rounding of frequencies and what is left of them at Γ


def peer_worker(job: dict[str, Any]) -> dict[str, Any]:
    """κ_P, κ_C and κ_TOT (Voigt, W/(m K)) and linewidths (THz) by the phono3py of this environment."""
    import phono3py

    files = {f"fc{n}_filename": Path(job["yaml"]).with_name(f"fc{n}.hdf5") for n in (2, 3)}
    ph3 = phono3py.load(job["yaml"], **files, is_nac=False, log_level=0)
    ph3.sigmas = [SIGMA] if job["broadening"] == "gaussian" else None
    ph3.mesh_numbers = job["mesh"]
    ph3.init_phph_interaction(lapack_zheev_uplo=job["triangle"])
    if job.get("both_sides"):
        weigh_both_sides()
    if job.get("seed") is not None:
        turn_degenerate(ph3, job["seed"])
    run_s, _ = seconds_of(
        lambda: ph3.run_thermal_conductivity(
            is_isotope=job["isotope"],
            temperatures=[TEMPERATURE],
            transport_type="MS-SMM19",
            is_full_pp=bool(job.get("both_sides")),  # weights in Python's reach; changes nothing else
            log_level=0,
        )
    )
    result = ph3.thermal_conductivity
    return {
        "versions": {name: version(name) for name in ("phono3py", "phonopy", "spglib", "numpy")},
        "run_s": run_s,
        "kappa_P": result.kappa_P_RTA[0, 0].tolist(),
        "kappa_C": result.kappa_C[0, 0].tolist(),
        "kappa_TOT": result.kappa_TOT_RTA[0, 0].tolist(),
        "address": addresses(result.qpoints, job["mesh"]),
        "gamma": result.gamma[0, 0].tolist(),
        "gamma_isotope": result.gamma_isotope[0].tolist() if job["isotope"] else None,
    }


def weigh_both_sides() -> None:
    """Tetrahedron weights from here on are the mean of those a little below and a little above the frequency."""
    from phono3py.other import isotope
    from phono3py.phonon3 import imag_self_energy

    three, one = imag_self_energy.get_triplets_integration_weights, isotope.get_integration_weights

    def three_phonon(interaction: Any, points: Any, *rest: Any, **options: Any) -> tuple[Any, Any]:
        sides = [three(interaction, points + shift, *rest, **options) for shift in (-SIDE, SIDE)]
        return (sides[0][0] + sides[1][0]) / 2, sides[0][1] & sides[1][1]

    def elastic(points: Any, *rest: Any, **options: Any) -> Any:
        return (one(points - SIDE, *rest, **options) + one(points + SIDE, *rest, **options)) / 2

    imag_self_energy.get_triplets_integration_weights, isotope.get_integration_weights = three_phonon, elastic


def turn_degenerate(ph3: Any, seed: int) -> None:
    """Another gauge: a random unitary matrix inside every degenerate block of eigenvectors."""
    ph3.run_phonon_solver()
    frequencies, eigenvectors, address = ph3.get_phonon_data()
    eigenvectors = np.array(eigenvectors)
    random = np.random.default_rng(seed)
    for f, e in zip(frequencies, eigenvectors, strict=True):
        edges = [0, *(np.flatnonzero(np.diff(f) > DEGENERATE) + 1), len(f)]
        for start, stop in itertools.pairwise(edges):
            parts = random.normal(size=(2, stop - start, stop - start))
            q, r = np.linalg.qr(parts[0] + 1j * parts[1])
            e[:, start:stop] = e[:, start:stop] @ (q * (np.diag(r) / np.abs(np.diag(r))))
    ph3.set_phonon_data(np.array(frequencies), eigenvectors, address)


def our_worker(job: dict[str, Any]) -> dict[str, Any]:
    """Ours; and κ_TOT of our Wigner equation with the peer's linewidths: both kinds, or one and ours of the other."""
    configure_jax(job["threads"])

    from wigner_jax._solve import make_plan, solve
    from wigner_jax.io.phono3py import read_phono3py
    from wigner_jax.physics.broadening.gaussian import Gaussian
    from wigner_jax.physics.broadening.tetrahedron import Tetrahedron
    from wigner_jax.physics.conductivity import conductivity

    cells, fc, _ = read_phono3py(job["yaml"])
    plan = make_plan(cells, job["mesh"])
    broadening = Gaussian(SIGMA) if job["broadening"] == "gaussian" else Tetrahedron.for_plan(plan)
    solution = solve(plan, fc, [TEMPERATURE], broadening=broadening)
    points = np.asarray(plan.mesh.qpoints)[np.asarray(plan.mesh.irreducible)]
    order = join(addresses(points, job["mesh"]), job["address"])
    three, isotope = (np.array(job[name])[order] for name in ("gamma", "gamma_isotope"))

    three_ours, isotope_ours = (
        np.asarray(x) for x in (solution.linewidths.three_phonon[0], solution.linewidths.isotope)
    )

    def total(gamma: Any) -> list[float]:
        T = np.array([TEMPERATURE])
        return conductivity(solution.phonons, gamma[None], plan.mesh, plan.crystal, T).kappa_TOT[0].tolist()

    return {
        **{part: getattr(solution.conductivity, part)[0].tolist() for part in PARTS},
        "with_peer_widths": total(three + isotope),
        "with_peer_three_phonon": total(three + isotope_ours),
        "with_peer_isotope": total(three_ours + isotope),
        "without_isotope": total(three_ours),
    }


def worker(job: dict[str, Any]) -> dict[str, Any]:
    return peer_worker(job) if job["code"] == "peer" else our_worker(job)


def difference(a: list[float], b: list[float]) -> float:
    """Largest relative difference of xx, yy, zz."""
    return max(abs(x / y - 1) for x, y in zip(a[:3], b[:3], strict=True))


def one_case(name: str, broadening: str, python: str, threads: int, gauges: int) -> dict[str, Any]:
    """Both codes' κ, and the relative differences that the module's docstring names."""
    case = find_case(name)
    job = {"yaml": case.yaml, "mesh": case.mesh, "broadening": broadening, "code": "peer", "isotope": True}
    peer, other = (run_worker(__file__, {**job, "triangle": t}, threads, python=python) for t in ("L", "U"))
    if peer["versions"]["phono3py"] != PEER:
        raise SystemExit(f"{python} has phono3py {peer['versions']['phono3py']}: install {PEER} there")
    pure = run_worker(__file__, {**job, "triangle": "L", "isotope": False}, threads, python=python)
    counted = peer
    if broadening == "tetrahedron":
        counted = run_worker(__file__, {**job, "triangle": "L", "both_sides": True}, threads, python=python)
    widths = {key: peer[key] for key in ("address", "gamma", "gamma_isotope")}
    ours = run_worker(__file__, {**job, **widths, "code": "ours"}, threads)
    turned = {}
    if gauges and broadening == "tetrahedron":
        runs = [
            run_worker(__file__, {**job, "triangle": "L", "both_sides": True, "seed": k}, threads, python=python)
            for k in range(gauges)
        ]
        widths |= {key: np.mean([run[key] for run in runs], axis=0).tolist() for key in ("gamma", "gamma_isotope")}
        mean = run_worker(__file__, {**job, **widths, "code": "ours"}, threads)
        kappas = [run["kappa_TOT"][0] for run in runs]
        turned = {
            "gauges": gauges,
            "gauges_kappa_TOT": kappas,
            "gauges_difference": difference(ours["kappa_TOT"], mean["with_peer_widths"]),
            "gauges_three_phonon": difference(mean["with_peer_three_phonon"], ours["kappa_TOT"]),
            "gauges_spread": float(np.std(kappas) / np.mean(kappas)),
        }
    return {
        **turned,
        "case": name,
        "mesh": case.mesh,
        "broadening": broadening,
        "ours": {part: ours[part][:3] for part in PARTS},
        "phono3py": {part: peer[part][:3] for part in PARTS},
        "phono3py_versions": peer["versions"],
        "difference": {part: difference(ours[part], peer[part]) for part in PARTS},
        "ties": difference(ours["kappa_TOT"], counted["kappa_TOT"]),
        "without_isotope": difference(ours["without_isotope"], pure["kappa_TOT"]),
        "equation": difference(ours["with_peer_widths"], peer["kappa_TOT"]),
        "three_phonon": difference(ours["with_peer_three_phonon"], ours["kappa_TOT"]),
        "isotope": difference(ours["with_peer_isotope"], ours["kappa_TOT"]),
        "gauge": difference(other["kappa_TOT"], peer["kappa_TOT"]),
    }


def report(rows: list[dict[str, Any]]) -> str:
    """κ_xx of both, differences in percent."""
    header = ["case", "broadening"]
    header += [f"{part} {who}" for part in PARTS for who in ("ours", PEER)]
    header += [f"{name} %" for name in ("dP", "dC", "dTOT", *SHARES.values())]
    lines = []
    for row in rows:
        values = [f"{row[who][part][0]:.5f}" for part in PARTS for who in ("ours", "phono3py")]
        shares = [row["difference"][part] for part in PARTS]
        shares += [row[key] for key in SHARES]
        lines.append([row["case"], row["broadening"], *values, *(f"{100 * x:.2g}" for x in shares)])
    return table(header, lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help=f"interpreter of the environment with phono3py {PEER}")
    parser.add_argument("--cases", nargs="+", default=["si-11", "nacl-11"], help="NAME-N")
    kinds = ["tetrahedron", "gaussian"]
    parser.add_argument("--broadening", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--gauges", type=int, default=0, metavar="N", help="random gauges of the peer's eigenvectors")
    add_output(parser)
    arguments = parser.parse_args()
    python = str(Path(arguments.python).absolute())  # not resolved: a virtual environment's interpreter is a link
    if not Path(python).is_file():
        raise SystemExit(f"no interpreter {arguments.python}: make the environment as --help says")
    rows = []
    for name in arguments.cases:
        for broadening in arguments.broadening:
            print(f"{name} {broadening} …", file=sys.stderr)
            rows.append(one_case(name, broadening, python, arguments.threads, arguments.gauges))
    print(report(rows))
    for row in rows:
        if "gauges" in row:
            print(
                f"{row['case']}, mean linewidths of {row['gauges']} gauges: dTOT {100 * row['gauges_difference']:.2g} %, "
                f"three-phonon {100 * row['gauges_three_phonon']:.2g} %, spread of κ_TOT {100 * row['gauges_spread']:.2g} %"
            )
    facts = environment(("wigner-jax", "jax", "numpy"))
    write_json(arguments.out, {"benchmark": "wigner_330", "temperature": TEMPERATURE, **facts, "rows": rows})
    beyond = [f"{r['case']} {r['broadening']}" for r in rows if r["difference"]["kappa_TOT"] > TOLERANCE]
    if beyond:
        raise SystemExit(f"κ_TOT differs by more than {100 * TOLERANCE} %: {', '.join(beyond)}")


if __name__ == "__main__" and not serve(worker):
    main()
