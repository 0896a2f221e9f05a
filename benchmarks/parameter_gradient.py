"""Cost of dκ/dθ: κ of a potential alone against κ with its derivative by every parameter, stage by stage.

    python benchmarks/parameter_gradient.py --cases si-tersoff libr-nequix --out benchmarks/results/parameter_gradient_cpu.json

Progress, warm medians: *Φ* the force constants, *solver* phonons to ln κ, *solver′* the same with its cotangents of Φ2 and Φ3,
*pull* these cotangents through the potential to all its parameters. Forward is Φ + solver, gradient Φ + solver′ + pull. Memory
is the peak of the process after the forward and after the gradient, with compilation and, in a second process, with programs
from the cache that the first one filled; and XLA's temporaries of the two programs that hold most. *displacements* is what
phono3py's finite displacements need for their forward with the same potential: the number of its supercells times the warm
time of one force call. A last column compares the gradient with a central difference along one random direction of all
parameters.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from typing import Any

from common import (
    SHARED,
    Compilations,
    add_output,
    configure_jax,
    environment,
    fresh_cache,
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

CASES = {  # prototype, potential, supercells in units of the prototype's cubic cell, mesh, step of the differences
    "si-tersoff": ("Si", "tersoff-1989", 2, 2, 11, 2e-6),
    "libr-nequix": ("LiBr", "weights/nequix-mp-1.nqx", 2, 2, 11, 1e-5),
    "libr-sevennet": ("LiBr", "weights/checkpoint_sevennet_0.pth", 2, 2, 11, 1e-5),
}


def worker(job: dict[str, Any]) -> dict[str, Any]:
    """All stages of one case, in this process."""
    configure_jax(job["threads"])

    import jax
    import jax.numpy as jnp
    import numpy as np

    from wigner_jax import metrics
    from wigner_jax.crystal.defaults import default_supercells
    from wigner_jax.crystal.prototypes import prototype
    from wigner_jax.potentials.registry import load_potential
    from wigner_jax.training.on_conductivity.gradient import EXACT, pullback_to_params, value_and_fc_cotangent
    from wigner_jax.training.on_conductivity.material import _force_constants, make_material

    name, source, fc2, fc3, mesh, step = CASES[job["case"]]
    potential = load_potential(SHARED / source if "/" in source else source)
    atoms = prototype(name)
    cells = default_supercells(atoms, (fc2,) * 3, (fc3,) * 3)
    material = make_material(name, cells, potential, (mesh,) * 3)
    compilations, wait, repeats = Compilations(), jax.block_until_ready, job["repeats"]
    params = jax.tree.map(jnp.asarray, potential.params)
    energy = potential.energy

    def loss(solution: Any) -> tuple[Any, Any]:
        kappa = metrics.average(solution.conductivity.kappa_TOT)[0]
        return jnp.log(kappa), kappa

    def measured(function: Any) -> tuple[float, Any]:
        _, value = seconds_of(lambda: wait(function()))
        return median(times_of(lambda: wait(function()), repeats)), value

    times: dict[str, float] = {}
    times["constants"], fc = measured(lambda: material.force_constants(energy, params))
    times["solver"], value = measured(lambda: loss(material.solution(fc)))
    forward_mb = peak_rss_mb()
    rng = np.random.default_rng(0)
    times["solver_gradient"], found = measured(lambda: value_and_fc_cotangent(material, fc, loss, EXACT, rng)[:4])
    bars = found[3][0]
    times["pullback_to_params"], (slope, _) = measured(
        lambda: pullback_to_params(energy, params, None, material.constants, bars)
    )
    forward = times["constants"] + times["solver"]
    gradient = times["constants"] + times["solver_gradient"] + times["pullback_to_params"]
    result = {"times": times, "forward": forward, "gradient": gradient, "ratio": gradient / forward}
    result |= {"rss_forward_mb": forward_mb, "rss_gradient_mb": peak_rss_mb(), "compile_s": compilations.seconds}
    result |= temporaries(energy, params, material, bars, _force_constants)
    result["kappa"] = float(value[1])
    result["parameters"] = sum(int(np.size(x)) for x in jax.tree.leaves(params))
    result |= displacements(potential, cells, atoms, (fc2, fc3), repeats)
    result["error"] = check(material, energy, params, slope, loss, step)
    return result


def temporaries(energy: Any, params: Any, material: Any, bars: Any, force_constants: Any) -> dict[str, float]:
    """XLA's temporary memory of the potential's two programs, MB."""
    from wigner_jax.training.on_conductivity.gradient import _one_order

    forward = force_constants.lower(energy, params, material.constants).compile()
    plan = material.constants
    backward = _one_order.lower(energy, params, None, plan.graph3, plan.fit3, bars.fc3).compile()
    sizes = [temporary_mb(c) for c in (forward, backward)]
    return {"xla_forward_mb": sizes[0], "xla_gradient_mb": sizes[1]}


def displacements(potential: Any, cells: Any, atoms: Any, repeat: tuple[int, int], repeats: int) -> dict[str, Any]:
    """phono3py's number of supercells, and the time of their forces with this potential."""
    import numpy as np
    from phono3py import Phono3py
    from phonopy.structure.atoms import PhonopyAtoms

    from wigner_jax.potentials.neighbor_list import graph_of

    unit = PhonopyAtoms(
        atoms.get_chemical_symbols(), cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions()
    )
    peer = Phono3py(
        unit, supercell_matrix=np.eye(3) * repeat[1], phonon_supercell_matrix=np.eye(3) * repeat[0],
        primitive_matrix=atoms.info.get("primitive_matrix", "auto"), log_level=0,
    )  # fmt: skip
    peer.generate_displacements()
    peer.generate_fc2_displacements()
    total, calls = 0.0, {}
    for order, cell, supercells in (
        (3, cells.fc3_supercell, peer.supercells_with_displacements), (2, cells.fc2_supercell, peer.phonon_supercells_with_displacements),
    ):  # fmt: skip
        lattice = np.asarray(cells.crystal.lattice)
        positions = (np.asarray(cells.crystal.positions)[cell.primitive_index] + cell.lattice_vector) @ lattice
        numbers = np.asarray(cells.crystal.numbers)[cell.primitive_index]
        graph, _ = graph_of(cell.matrix @ lattice, positions, numbers, potential)
        call = partial(_forces, potential, graph)
        call()
        count = sum(s is not None for s in supercells)
        total += count * median(times_of(call, repeats))
        calls[f"calls{order}"] = count
    return {"displacements_s": total, **calls}


def _forces(potential: Any, graph: Any) -> Any:
    import jax

    from wigner_jax.potentials.calculator import energy_forces_stress

    return jax.block_until_ready(energy_forces_stress(potential, graph))


def check(material: Any, energy: Any, params: Any, slope: Any, loss: Any, h: float) -> float:
    """Relative difference of the gradient and a central difference of fourth order."""
    import jax
    import numpy as np

    rng = np.random.default_rng(1)
    leaves, structure = jax.tree.flatten(params)
    names = [str(path[-1]) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    moved = [
        np.abs(x) * rng.standard_normal(np.shape(x)) * ("'R'" not in n and "'S'" not in n)
        for n, x in zip(names, leaves, strict=True)
    ]
    direction = jax.tree.unflatten(structure, moved)

    def at(x: float) -> float:
        changed = jax.tree.map(lambda a, d: a + x * d, params, direction)
        return float(loss(material.solution(material.force_constants(energy, changed)))[0])

    f = {k: at(k * h) for k in (-2, -1, 1, 2)}
    expected = (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)
    found = sum(float(np.vdot(a, d)) for a, d in zip(jax.tree.leaves(slope), moved, strict=True))
    return abs(found / expected - 1)


HEADER = (
    "case", "θ", "| Φ", "solver", "solver′", "pullback_to_params", "| forward", "gradient", "ratio", "| displacements", "calls",
    "| RSS MB", "gradient", "| cached", "gradient", "| XLA MB", "gradient", "| error",
)  # fmt: skip


def line(row: dict[str, Any]) -> list[str]:
    t = row["times"]
    cells = [row["case"], str(row["parameters"])]
    cells += [
        "| " + number(t["constants"]),
        *(number(t[k]) for k in ("solver", "solver_gradient", "pullback_to_params")),
    ]
    cells += ["| " + number(row["forward"]), number(row["gradient"]), f"{row['ratio']:.2f}×"]
    cells += ["| " + number(row["displacements_s"]), f"{row['calls3']}+{row['calls2']}"]
    cells += ["| " + number(row["rss_forward_mb"]), number(row["rss_gradient_mb"])]
    cells += ["| " + number(row["rss_forward_mb_cached"]), number(row["rss_gradient_mb_cached"])]
    cells += ["| " + number(row["xla_forward_mb"]), number(row["xla_gradient_mb"])]
    return [*cells, "| " + number(row["error"], 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=["si-tersoff"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    add_output(parser)
    arguments = parser.parse_args()
    results: dict[str, Any] = {"benchmark": "parameter_gradient", "rows": []}
    results |= environment(("wigner-jax", "jax", "jaxlib", "phono3py", "numpy"))
    print(f"{results['processor']}, {results['cores']} cores; {results['date']}; {results['versions']}")
    for case in arguments.cases:
        print(f"{case} …", file=sys.stderr)
        job = {"case": case, "repeats": arguments.repeats}
        with tempfile.TemporaryDirectory() as folder:
            row = run_worker(__file__, job, arguments.threads, variables=fresh_cache(folder))
            again = run_worker(__file__, job, arguments.threads, variables=fresh_cache(folder))
        row |= {f"{name}_cached": again[name] for name in ("rss_forward_mb", "rss_gradient_mb", "compile_s")}
        results["rows"].append({"case": case, "threads": arguments.threads, **row})
        write_json(arguments.out, results)
    print("\nseconds | peak memory | XLA temporaries | relative error of the gradient")
    print(table(HEADER, [line(row) for row in results["rows"]]))


if __name__ == "__main__" and not serve(worker):
    main()
