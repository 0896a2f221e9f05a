"""Cost of the gradient: κ alone against κ with its derivative by every element of Φ2 and Φ3.

    python benchmarks/gradient.py --cases nacl-11 nacl-19 --out benchmarks/results/NAME.json

κ is tr(κ_TOT)/3 at 300 K with isotope scattering. Every row is a process of its own, pinned to as many cores as
threads.
Two compositions are measured: *eager*, `jax.value_and_grad` of `kappa` with nothing around it (its stages are compiled
one by one), and *outer*, one `jax.jit` around the whole. The plan, the force constants and the broadening are
arguments throughout, never constants of a program; except, in the outer composition, the plan's lists of triplets, which
the solver reads on the host.

Forward and gradient are warm medians of calls by turns; compile is the excess of the first call over a warm one. XLA MB is
the temporary memory of the compiled linewidths of the largest bucket of q-points (and of their gradient), RSS the peak of
a process that does nothing but compile and evaluate the one or the other (two more processes for every row). The
diagonalisations in both programs are counted: the backward pass must not repeat them. As a check the gradient is compared
with central differences along one direction of Φ2 and one of Φ3 that keep the crystal's symmetry. κ has small jumps where
an accidental degeneracy opens or closes (linewidths are averaged over modes closer than 1e-4 THz): a step across one shows
as a large error.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from typing import Any

from common import (
    TEMPERATURE,
    Compilations,
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
    temporary_mb,
    waited,
    write_json,
)

SIGMA = 0.1  # THz, of the plain Gaussian
STEP = 1e-5  # of the central differences: the directions are as large as the force constants
PACKAGES = ("wigner-jax", "jax", "jaxlib", "numpy")


# -- what is differentiated --------------------------------------------------------------------------------------------


def loss(plan: Any, fc: Any, broadening: Any) -> Any:
    """tr(κ_P + κ_C)/3, W/(m K)."""
    from wigner_jax._solve import kappa

    populations, coherences = kappa(plan, fc, (TEMPERATURE,), broadening=broadening)
    return (populations + coherences)[0, :3].sum() / 3


def broadening_of(name: str, plan: Any, fc: Any) -> Any:
    from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian, Gaussian
    from wigner_jax.physics.broadening.tetrahedron import Tetrahedron

    if name == "tetrahedron":
        return Tetrahedron.for_plan(plan).with_capacity(plan, fc)
    return Gaussian(SIGMA) if name == "gaussian" else AdaptiveGaussian()


def directions(cells: Any, fc: Any) -> dict[str, Any]:
    """Changes of Φ2 and of Φ3 that keep the space group and the permutation symmetry.

    Every element times a function of the distances of its atoms; the self term of Φ2 restores the acoustic sum rule.
    """
    import numpy as np

    from wigner_jax.types import ForceConstants

    second, third = np.asarray(fc.fc2), np.asarray(fc.fc3)
    near = distances(cells.crystal, cells.fc2_supercell)[cells.fc2_supercell.p2s_map]
    change = second * np.cos(near)[:, :, None, None]
    rows = np.arange(len(second))
    change[rows, cells.fc2_supercell.p2s_map] -= change.sum(axis=1)
    near = distances(cells.crystal, cells.fc3_supercell)
    perimeter = (
        near[cells.fc3_supercell.p2s_map][:, :, None] + near[None] + near[cells.fc3_supercell.p2s_map][:, None, :]
    )
    return {
        "second": ForceConstants(change, np.zeros_like(third)),
        "third": ForceConstants(np.zeros_like(second), third * np.cos(perimeter)[..., None, None, None]),
    }


def distances(crystal: Any, supercell: Any) -> Any:
    """Distance of every two atoms of a supercell to their nearest images, Å. (N, N)"""
    import itertools

    import numpy as np

    lattice = supercell.matrix @ crystal.lattice
    r = (np.asarray(crystal.positions)[supercell.primitive_index] + supercell.lattice_vector) @ np.linalg.inv(
        supercell.matrix
    )
    d = r[None] - r[:, None]
    images = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    return np.linalg.norm(((d - np.rint(d))[:, :, None] + images) @ lattice, axis=-1).min(axis=-1)


# -- one process -------------------------------------------------------------------------------------------------------


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """Forward and gradient of one case, broadening and composition; with `only`, the peak memory of one of them."""
    configure_jax(job["threads"])

    import jax

    from wigner_jax._solve import make_plan
    from wigner_jax.io.phono3py import read_phono3py

    compilations = Compilations()
    cells, fc, _ = read_phono3py(job["yaml"])
    plan = make_plan(cells, job["mesh"])
    broadening = broadening_of(job["broadening"], plan, fc)
    fc = jax.device_put(fc)
    functions = {"forward": loss, "gradient": jax.value_and_grad(loss, argnums=1)}
    if "only" in job:
        function = functions[job["only"]]
        waited(outer(function, plan) if job["composition"] == "outer" else function, plan, fc, broadening)
        return {"rss_mb": peak_rss_mb()}
    result: dict[str, Any] = {}
    runs = {}
    for name, function in functions.items():
        call = outer(function, plan) if job["composition"] == "outer" else function
        before = compilations.seconds
        runs[name] = partial(waited, call, plan, fc, broadening)
        first_s, value = seconds_of(runs[name])
        result[name] = {
            "first_s": first_s,
            "times": [],
            "xla_compile_s": compilations.seconds - before,
            "eigh": count_eigh(function, plan, fc, broadening),
        }
    for _ in range(job["repeats"]):  # by turns: what slows the machine slows both
        for name, run in runs.items():
            result[name]["times"].append(seconds_of(run)[0])
    for row in result.values():
        row["seconds"] = median(row["times"])
        row["compile_s"] = max(0.0, row.pop("first_s") - row["seconds"])
    kappa, slope = value
    result |= {"kappa": float(kappa), "ratio": result["gradient"]["seconds"] / result["forward"]["seconds"]}
    result |= device_facts()
    if job["check"]:
        result["check"] = check(plan, fc, broadening, slope, directions(cells, fc))
    if job["memory"]:
        result["forward"]["xla_temp_mb"], result["gradient"]["xla_temp_mb"] = temporaries(plan, fc, broadening)
    return result


def outer(function: Any, plan: Any) -> Any:
    """`function` under one jit; the triplets of `plan`, which the solver reads on the host, stay outside."""
    import dataclasses

    import jax

    def with_triplets(rest: Any, fc: Any, broadening: Any) -> Any:
        return function(dataclasses.replace(rest, triplets=plan.triplets), fc, broadening)

    compiled = jax.jit(with_triplets)
    return lambda plan, fc, broadening: compiled(dataclasses.replace(plan, triplets=()), fc, broadening)


def count_eigh(function: Any, plan: Any, fc: Any, broadening: Any) -> int:
    """Diagonalisations in the program of `function`, those of nested programs included."""
    import jax

    def inside(jaxpr: Any) -> int:
        total = 0
        for equation in jaxpr.eqns:
            total += equation.primitive.name == "eigh"
            for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                total += inside(inner) if hasattr(inner, "eqns") else 0
        return total

    return inside(jax.make_jaxpr(lambda x: function(plan, x, broadening))(fc).jaxpr)


def check(plan: Any, fc: Any, broadening: Any, slope: Any, changes: dict[str, Any]) -> dict[str, float]:
    """Relative difference of the gradient and a central difference, along each direction."""
    import jax
    import jax.numpy as jnp

    result = {}
    for name, change in changes.items():
        up, down = (
            loss(plan, jax.tree.map(lambda x, d, h=h: x + h * d, fc, change), broadening) for h in (STEP, -STEP)
        )
        expected = (up - down) / (2 * STEP)
        found = sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(slope), jax.tree.leaves(change), strict=True))
        result[name] = float(jnp.abs(found / expected - 1))
    return result


def temporaries(plan: Any, fc: Any, broadening: Any) -> tuple[float, float]:
    """XLA's temporary memory for the linewidths of the largest bucket and for their gradient, MB. Compiles anew."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from wigner_jax._core.tiling import tiling_for
    from wigner_jax._solve import phonons
    from wigner_jax.crystal.elements import natural_isotopes
    from wigner_jax.physics import linewidths as widths
    from wigner_jax.physics.phonons import group_velocities

    waves, velocities = phonons(plan, fc.fc2), None
    if broadening.needs_velocities:
        solution = (waves.frequencies, waves.eigenvectors)
        velocities = jax.jit(group_velocities)(plan.mesh.qpoints, solution, fc.fc2, plan.crystal, plan.fc2_table, None)
    state = widths.compiled_prepare(
        waves, fc.fc3, plan, jnp.array([TEMPERATURE]), broadening, velocities, tiling=tiling_for()
    )
    variances = jnp.asarray(natural_isotopes(plan.crystal))
    chosen = int(np.argmax([b.weights.shape[1] for b in plan.triplets]))
    rest = (plan, variances, broadening.for_bucket(chosen))

    def total(state: Any, bucket: Any, plan: Any, variances: Any, broadening: Any) -> Any:
        three, isotope, _ = widths.bucket_linewidths(bucket, state, plan, variances, broadening)
        return three.sum() + isotope.sum()

    sizes = []
    for function in (total, jax.grad(total, allow_int=True)):
        compiled = jax.jit(function).lower(state, plan.triplets[chosen], *rest).compile()
        sizes.append(temporary_mb(compiled))
    return sizes[0], sizes[1]


# -- the parent --------------------------------------------------------------------------------------------------------

HEADER = (
    "case", "threads", "broadening", "composition", "| forward", "gradient", "ratio", "| compile", "gradient",
    "| RSS MB", "gradient", "| XLA MB", "gradient", "| eigh", "gradient", "| dΦ2", "dΦ3",
)  # fmt: skip


def line(row: dict[str, Any]) -> list[str]:
    cells = [row["case"], str(row["threads"]), row["broadening"], row["composition"]]
    pair = (row["forward"], row["gradient"])
    cells += ["| " + number(pair[0]["seconds"]), number(pair[1]["seconds"]), f"{row['ratio']:.2f}×"]
    for key in ("compile_s", "rss_mb", "xla_temp_mb"):
        cells += ["| " + number(pair[0].get(key)), number(pair[1].get(key))]
    cells += ["| " + str(pair[0]["eigh"]), str(pair[1]["eigh"])]
    errors = row.get("check", {})
    return [*cells, "| " + number(errors.get("second"), 1), number(errors.get("third"), 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=["nacl-11", "nacl-19"], help="NAME-N")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--repeats", type=int, default=3)
    kinds = ["gaussian", "adaptive", "tetrahedron"]
    parser.add_argument("--broadening", nargs="+", choices=kinds, default=kinds)
    compositions = ["eager", "outer"]
    parser.add_argument("--composition", nargs="+", choices=compositions, default=compositions)
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="neither RSS nor XLA's temporaries")
    parser.add_argument("--no-check", dest="check", action="store_false", help="no central differences")
    add_output(parser)
    arguments = parser.parse_args()
    cases = [find_case(name) for name in arguments.cases]
    results: dict[str, Any] = {"benchmark": "gradient", **environment(PACKAGES), "rows": []}
    print(f"{results['processor']}, {results['cores']} cores; {results['date']}; {results['versions']}")
    choices = [
        (case, threads, broadening, composition)
        for case in cases
        for broadening in arguments.broadening
        for threads in arguments.threads
        for composition in arguments.composition
    ]
    for case, threads, broadening, composition in choices:
        print(f"{case.name} {broadening} {composition}, {threads} thread(s) …", file=sys.stderr)
        job = {"yaml": case.yaml, "mesh": case.mesh, "broadening": broadening, "composition": composition}
        job |= {"repeats": arguments.repeats, "check": arguments.check, "memory": arguments.memory}
        row = {"case": case.name, "mesh": case.mesh, "threads": threads, "broadening": broadening}
        row |= {"composition": composition, **run_worker(__file__, job, threads)}
        for name in ("forward", "gradient") if arguments.memory else ():
            row[name] |= {"rss_mb": run_worker(__file__, {**job, "only": name}, threads)["rss_mb"]}
        results["rows"].append(row)
    print("\nseconds | compile seconds | peak memory | XLA temporaries | diagonalisations | errors of the gradient")
    print(table(HEADER, [line(row) for row in results["rows"]]))
    write_json(arguments.out, results)


if __name__ == "__main__" and not serve(worker):
    main()
