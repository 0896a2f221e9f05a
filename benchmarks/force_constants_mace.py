"""Φ2 and Φ3 of a MACE of the published size: automatic differentiation against finite displacements of the same function.

    python benchmarks/force_constants_mace.py --python mace/bin/python [MgO GaAs BeO] [--variants] [--out FILE.json]

`--python` is an interpreter with mace-torch 0.3.16, which makes a file with the hyper-parameters of MACE-MP-0-medium and
random weights (or give `--model FILE`); costs do not depend on the weights. Both sides call warm, compiled functions of
the same potential, restricted to the crystal's elements, with a fixed neighbour list, in float64. Ours makes every
evaluation; phono3py's protocol is its number of displaced supercells times the mean of `--calls` force calls (ten unless
said otherwise), each in a different displaced supercell. Compilation and the plan of the patterns, which is the same for
every potential and can be cached, are given apart, as is phono3py's construction of Φ3, which is left out of the ratios.

`--variants` times one third derivative of the first material in other ways: the order of differentiation (Taylor mode,
which is what `force_constants` uses, nested jvp, or `jax.experimental.jet` inside or outside of the gradient), chunks of edges
and atoms or all at once, with and without making them again in the backward pass, and two patterns at once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.build import bulk
from common import environment, run_worker, temporary_mb
from jax.experimental.jet import jet
from phono3py import Phono3py
from phonopy.structure.atoms import PhonopyAtoms

from wigner_jax._core import chunking
from wigner_jax._core.taylor_mode import second_derivative
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.ifc import autodiff as ours
from wigner_jax.ifc.least_squares import recover
from wigner_jax.potentials.mace import interaction, product
from wigner_jax.potentials.neighbor_list import graph_of
from wigner_jax.potentials.registry import load_potential, restrict

MATERIALS = {  # structure, fc2 supercell, fc3 supercell
    "MgO": (lambda: bulk("MgO", "rocksalt", cubic=True, a=4.21), (4, 4, 4), (2, 2, 2)),
    "GaAs": (lambda: bulk("GaAs", "zincblende", cubic=True, a=5.65), (4, 4, 4), (2, 2, 2)),
    "BeO": (lambda: bulk("BeO", "wurtzite", a=2.70, c=4.38, u=0.378), (5, 5, 3), (3, 3, 2)),
}
_evaluate = jax.jit(ours.evaluate, static_argnums=(0, 4))
_recover = jax.jit(recover)


@jax.jit
def _forces(potential, graph, positions):
    return -jax.grad(lambda x: potential.energy(potential.params, graph.at(x)))(positions)


def timed(function, *arguments):
    started = time.perf_counter()
    result = jax.block_until_ready(function(*arguments))
    return result, time.perf_counter() - started


def displaced(atoms, fc2, fc3):
    """phono3py's displaced supercells: (perfect, positions) of both orders."""
    cell = PhonopyAtoms(numbers=atoms.numbers, cell=np.asarray(atoms.cell), positions=atoms.positions)
    ph3 = Phono3py(
        cell, supercell_matrix=np.diag(fc3), phonon_supercell_matrix=np.diag(fc2), primitive_matrix="auto", log_level=0
    )
    ph3.generate_displacements(distance=0.03)
    ph3.generate_fc2_displacements(distance=0.03)
    return {
        "fc2": (ph3.phonon_supercell, [s.positions for s in ph3.phonon_supercells_with_displacements]),
        "fc3": (ph3.supercell, [s.positions for s in ph3.supercells_with_displacements]),
    }


def benchmark(name, whole, calls):
    structure, fc2, fc3 = MATERIALS[name]
    atoms = structure()
    potential = restrict(whole, atoms.numbers)
    cells = supercells_from_atoms(atoms, fc2, fc3)
    row = {"material": name, "atoms": {"fc2": cells.fc2_supercell.n_atoms, "fc3": cells.fc3_supercell.n_atoms}}
    (plan, infos, _), row["plan_s"] = timed(ours.plan_force_constants, potential, cells)
    plan = jax.device_put(plan)
    potential = jax.device_put(potential)
    peer = displaced(atoms, fc2, fc3)
    for order, graph, fit, info in (
        ("fc2", plan.graph2, plan.fit2, infos[0]),
        ("fc3", plan.graph3, plan.fit3, infos[1]),
    ):

        def evaluate(patterns, graph=graph, order=fit.basis.order):
            return _evaluate(potential.energy, potential.params, graph, patterns, order)

        first, cold = timed(evaluate, fit.patterns[:1])
        rows, seconds = [first], []
        for k in range(info.n_evaluations):
            G, spent = timed(evaluate, fit.patterns[k : k + 1])
            rows[k:] = [G]
            seconds.append(spent)
        G = jnp.concatenate(rows)
        _recover(fit, G)[0].block_until_ready()
        (_, residual), recovery = timed(_recover, fit, G)

        perfect, positions = peer[order]
        own, _ = graph_of(perfect.cell, perfect.positions, perfect.numbers, potential)
        own = jax.device_put(own)
        forces = partial(_forces, potential, own)
        _, force_cold = timed(forces, jnp.asarray(positions[0]))
        chosen = np.resize(np.linspace(0, len(positions) - 1, calls).astype(int), max(calls, 1))
        each = [timed(forces, jnp.asarray(positions[k]))[1] for k in chosen]
        row[order] = {
            "evaluations": info.n_evaluations,
            "evaluation_s": float(np.mean(seconds)),
            "total_s": float(sum(seconds)),
            "recovery_s": recovery,
            "first_s": cold,
            "residual": float(residual),
            "edges": int(np.sum(np.asarray(graph.edge_mask))),
            "force_calls": len(positions),
            "timed_calls": len(each),
            "force_call_s": float(np.mean(each)),
            "force_calls_s": float(np.mean(each)) * len(positions),
            "force_first_s": force_cold,
        }
        row[order]["ratio"] = row[order]["force_calls_s"] / (row[order]["total_s"] + recovery)
    mine = sum(row[o]["total_s"] + row[o]["recovery_s"] for o in ("fc2", "fc3"))
    row["ratio"] = sum(row[o]["force_calls_s"] for o in ("fc2", "fc3")) / mine
    row["ratio_with_plan"] = sum(row[o]["force_calls_s"] for o in ("fc2", "fc3")) / (mine + row["plan_s"])
    return row


# --- other ways to one third derivative ------------------------------------------------------------------------------


@contextlib.contextmanager
def settings(chunked, again):
    """Chunks of the kernels on or off, and their recomputation in the backward pass."""
    caches, checkpoint = (interaction.CACHE, product.CACHE), jax.checkpoint
    if not chunked:
        interaction.CACHE = product.CACHE = 2**60
    if not again:
        chunking.jax.checkpoint = lambda f, **_: f
    try:
        yield
    finally:
        interaction.CACHE, product.CACHE = caches
        chunking.jax.checkpoint = checkpoint


def nested(energy, u):
    def along(f):
        return lambda x: jax.jvp(f, (x,), (u,))[1]

    return along(along(jax.grad(energy)))


def taylor(energy, u):
    return lambda x: second_derivative(jax.grad(energy), x, u)


def jet_of_gradient(energy, u):
    return lambda x: jet(jax.grad(energy), (x,), ((u, jnp.zeros_like(u)),))[1][1]


def gradient_of_jet(energy, u):
    return jax.grad(lambda x: jet(energy, (x,), ((u, jnp.zeros_like(u)),))[1][1])


def variants(name, whole, repeats):
    structure, _, fc3 = MATERIALS[name]
    atoms = structure()
    potential = restrict(whole, atoms.numbers)
    plan, _ = ours.plan_force_constants(supercells_from_atoms(atoms, (1, 1, 1), fc3), potential)
    graph, u = jax.device_put((plan.graph3, plan.fit3.patterns[:, 0]))
    reference, rows = None, []
    cases = [
        ("Taylor mode", taylor, True, True, 1),
        ("nested jvp", nested, True, True, 1),
        ("nested jvp, two patterns at once", nested, True, True, 2),
        ("nested jvp", nested, True, False, 1),
        ("nested jvp", nested, False, True, 1),
        ("nested jvp", nested, False, False, 1),
        ("jet of the gradient", jet_of_gradient, False, False, 1),
        ("gradient of jet", gradient_of_jet, False, False, 1),
    ]
    for label, way, chunked, again, batch in cases:

        def one(potential, graph, u, way=way):
            return way(lambda x: potential.energy(potential.params, graph.at(x)), u)(graph.positions)

        function = one if batch == 1 else jax.vmap(one, (None, None, 0))
        with settings(chunked, again):
            started = time.perf_counter()
            run = jax.jit(function).lower(potential, graph, u[0] if batch == 1 else u[:batch]).compile()
            compiled = time.perf_counter() - started
        spent = []
        for _ in range(repeats + 1):
            value, seconds = timed(run, potential, graph, u[0] if batch == 1 else u[:batch])
            spent.append(seconds / batch)
        value = np.asarray(value).reshape(-1, *np.shape(graph.positions))[0]
        reference = value if reference is None else reference
        row = {
            "way": label,
            "chunks": chunked,
            "made again": again,
            "seconds": min(spent[1:]),
            "compile_s": compiled,
            "temporary_mb": temporary_mb(run),
            "difference": float(np.abs(value - reference).max() / np.abs(reference).max()),
        }
        rows.append(row)
        print(
            f"  {label:34} {'chunks' if chunked else 'whole':7} {'made again' if again else 'kept':10}"
            f" {row['seconds']:7.3f} s a pattern, {row['temporary_mb']:7.0f} MB, compiled in {compiled:5.1f} s,"
            f" differs by {row['difference']:.0e}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("materials", nargs="*", default=list(MATERIALS), metavar="MATERIAL")
    parser.add_argument("--model", type=Path, help="a MACE file, instead of making one")
    parser.add_argument("--python", default=sys.executable, help="interpreter with mace-torch")
    parser.add_argument("--calls", type=int, default=10, help="force calls that are timed")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--repeats", type=int, default=2, help="of the variants")
    parser.add_argument("--out", type=Path, help="JSON file")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results: dict[str, Any] = {
        "environment": environment(["wigner-jax", "jax", "jaxlib", "numpy", "phono3py"]),
        "materials": [],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.model or Path(folder) / "mace-mp-0-medium.model"
        if arguments.model is None:
            job = {"side": "make", "model": "mace-mp-0-medium", "path": str(path)}
            run_worker(str(Path(__file__).with_name("mace_vs_torch.py")), job, 1, arguments.python)
        whole = load_potential(path)
    for name in arguments.materials:
        row = benchmark(name, whole, arguments.calls)
        results["materials"].append(row)
        print(f"{name}: plan {row['plan_s']:.1f} s")
        for order in ("fc2", "fc3"):
            x = row[order]
            print(
                f"  {order}  {row['atoms'][order]:4d} atoms, {x['edges']} edges | ours {x['evaluations']:3d} x"
                f" {x['evaluation_s']:.3f} s + recovery {x['recovery_s']:.2f} s (first call {x['first_s']:.0f} s), residual"
                f" {x['residual']:.0e} | forces {x['force_calls']:5d} x {x['force_call_s']:.3f} s (mean of"
                f" {x['timed_calls']}) = {x['force_calls_s']:.1f} s | ratio {x['ratio']:.2f}"
            )
        print(f"  total ratio {row['ratio']:.2f}, with the plan {row['ratio_with_plan']:.2f}", flush=True)
    if arguments.variants:
        print(f"variants, one pattern of Φ3 of {arguments.materials[0]}:")
        results["variants"] = variants(arguments.materials[0], whole, arguments.repeats)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
