"""The Wigner conductivity against phono3py 3.30.0, the last release with the original Wigner equation.

phono3py 3.30.0 (`transport_type="MS-SMM19"`) cannot share an environment with 4.x. Make one for it:

    python -m venv p330
    p330/bin/pip install --prefer-binary phono3py==3.30.0    # brings phonopy 3.5.1
    python benchmarks/wigner_330.py --python p330/bin/python --out benchmarks/results/wigner_330.json

For each case it is run there with its default flags on the stored force constants (300 K, isotope scattering, no
non-analytic correction), ours here; κ_TOT should agree within 0.5 %. It cannot agree better: the peer's tetrahedron
weights at degenerate modes depend on the eigenvectors' gauge, and where elastic scattering meets a tetrahedron's face at
exactly its own frequency rounding decides its isotope linewidths.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from common import (
    TEMPERATURE,
    add_output,
    configure_jax,
    environment,
    find_case,
    run_worker,
    seconds_of,
    serve,
    table,
    version,
    write_json,
)

PARTS = ("kappa_P", "kappa_C", "kappa_TOT")
TOLERANCE = 5e-3  # of κ_TOT
PEER = "3.30.0"


def peer_worker(job: dict[str, Any]) -> dict[str, Any]:
    """κ_P, κ_C and κ_TOT (Voigt, W/(m K)) by the phono3py of this environment."""
    import phono3py

    files = {f"fc{n}_filename": Path(job["yaml"]).with_name(f"fc{n}.hdf5") for n in (2, 3)}
    ph3 = phono3py.load(job["yaml"], **files, is_nac=False, log_level=0)
    ph3.mesh_numbers = job["mesh"]
    ph3.init_phph_interaction()
    run_s, _ = seconds_of(
        lambda: ph3.run_thermal_conductivity(
            is_isotope=True, temperatures=[TEMPERATURE], transport_type="MS-SMM19", log_level=0
        )
    )
    result = ph3.thermal_conductivity
    values = {
        "kappa_P": result.kappa_P_RTA[0, 0],
        "kappa_C": result.kappa_C[0, 0],
        "kappa_TOT": result.kappa_TOT_RTA[0, 0],
    }
    versions = {name: version(name) for name in ("phono3py", "phonopy", "spglib", "numpy")}
    return {"versions": versions, "run_s": run_s, **{k: v.tolist() for k, v in values.items()}}


def our_worker(job: dict[str, Any]) -> dict[str, Any]:
    """The same of ours."""
    configure_jax(job["threads"])

    from wigner_jax.io import read_phono3py
    from wigner_jax.solve import make_plan, solve

    cells, fc, _ = read_phono3py(job["yaml"])
    conductivity = solve(make_plan(cells, job["mesh"]), fc, [TEMPERATURE]).conductivity
    return {name: getattr(conductivity, name)[0].tolist() for name in PARTS}


def worker(job: dict[str, Any]) -> dict[str, Any]:
    return peer_worker(job) if job["code"] == "peer" else our_worker(job)


def one_case(name: str, python: str, threads: int) -> dict[str, Any]:
    """Both codes' κ, and the relative difference of each part's xx, yy, zz (the largest)."""
    case = find_case(name)
    job = {"yaml": case.yaml, "mesh": case.mesh}
    peer = run_worker(__file__, {**job, "code": "peer"}, threads, python=python)
    if peer["versions"]["phono3py"] != PEER:
        raise SystemExit(f"{python} has phono3py {peer['versions']['phono3py']}: install {PEER} there")
    ours = run_worker(__file__, {**job, "code": "ours"}, threads)
    difference = {
        part: max(abs(a / b - 1) for a, b in zip(ours[part][:3], peer[part][:3], strict=True)) for part in PARTS
    }
    return {
        "case": name,
        "mesh": case.mesh,
        "ours": {part: ours[part] for part in PARTS},
        "phono3py": {part: peer[part] for part in (*PARTS, "versions")},
        "difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help=f"interpreter of the environment with phono3py {PEER}")
    parser.add_argument("--cases", nargs="+", default=["si-11", "nacl-11"], help="NAME-N")
    parser.add_argument("--threads", type=int, default=1)
    add_output(parser)
    arguments = parser.parse_args()
    python = str(Path(arguments.python).absolute())  # not resolved: a virtual environment's interpreter is a link
    if not Path(python).is_file():
        raise SystemExit(f"no interpreter {arguments.python}: make the environment as --help says")
    rows = []
    for name in arguments.cases:
        print(f"{name} …", file=sys.stderr)
        rows.append(one_case(name, python, arguments.threads))
    header = ("case", *(f"{part} {who}" for part in PARTS for who in ("ours", PEER, "diff. %")))
    lines = []
    for row in rows:
        cells = [row["case"]]
        for part in PARTS:
            cells += [f"{row[who][part][0]:.5f}" for who in ("ours", "phono3py")]
            cells.append(f"{100 * row['difference'][part]:.3f}")
        lines.append(cells)
    print(table(header, lines))
    facts = environment(("wigner-jax", "jax", "numpy"))
    write_json(arguments.out, {"benchmark": "wigner_330", "temperature": TEMPERATURE, **facts, "rows": rows})
    worst = max(row["difference"]["kappa_TOT"] for row in rows)
    if worst > TOLERANCE:
        raise SystemExit(f"κ_TOT differs by {100 * worst:.2f} %, more than {100 * TOLERANCE} %")


if __name__ == "__main__" and not serve(worker):
    main()
