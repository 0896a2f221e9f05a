"""Φ2 and Φ3: automatic differentiation against phono3py's finite displacements, with the same compiled potential.

    python benchmarks/force_constants.py [Si SiC wurtzite] [--out benchmarks/results]

Both sides use the same warm, jitted energy function with a fixed neighbour list, in a compiled loop; compilation is
reported apart. phono3py only sees forces: its side is one force call per displaced supercell (and its own construction
of Φ3 from them, apart). The potential is a cheap one, so that planning outweighs everything; for a costly one the ratio
of the evaluations is what remains. The errors are those of Φ3 from finite displacements minus Φ3 from automatic
differentiation, at several displacements: a fall as h² says that it is the displacements that are in error. phono3py's
default leaves out the negative displacements that symmetry seems to spare; where the second atom's site has less
symmetry than that (wurtzite) an error linear in h stays, which the runs with every displacement in both signs do not
have.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ase.build import bulk
from phono3py import Phono3py
from phonopy.structure.atoms import PhonopyAtoms

from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.ifc import autodiff as ours
from wigner_jax.ifc.least_squares import recover
from wigner_jax.ifc.symmetry_basis import translation_table
from wigner_jax.potentials.neighbor_list import graph_of
from wigner_jax.potentials.registry import load_potential
from wigner_jax.relaxation.newton import relax

MATERIALS = {  # structure, fc2 supercell, fc3 supercell
    "Si": (lambda: bulk("Si", cubic=True, a=5.43), (4, 4, 4), (2, 2, 2)),
    "SiC": (lambda: bulk("SiC", "zincblende", a=4.32, cubic=True), (4, 4, 4), (2, 2, 2)),
    "wurtzite": (lambda: bulk("SiC", "wurtzite", a=3.05, c=4.99, u=0.376), (5, 5, 3), (3, 3, 2)),
}


_evaluate = jax.jit(ours.evaluate, static_argnums=(0, 4))
_recover = jax.jit(recover)


@jax.jit
def _forces(potential, graph, positions):
    """Of many displaced supercells, one after the other in one compiled loop, as our evaluations are. (calls, N, 3)"""
    gradient = jax.grad(lambda x: potential.energy(potential.params, graph.at(x)))
    return -jax.lax.map(gradient, positions)


def automatic(potential, cells, repeats, scheme):
    """Φ3, (info, residual) of each order, margin, and best seconds: plan, warm evaluations, warm recovery."""
    started = time.perf_counter()
    plan, (*infos, margin) = ours.plan_force_constants(cells, potential, scheme=scheme)
    seconds = {"plan": time.perf_counter() - started}
    plan = jax.device_put(plan)
    residuals = []
    for name, graph, fit in (("fc2", plan.graph2, plan.fit2), ("fc3", plan.graph3, plan.fit3)):
        along = (potential.energy, potential.params, graph, fit.patterns, fit.basis.order)
        G = _evaluate(*along)
        for part, run, inputs in (
            ("evaluate", _evaluate, along),
            ("recover", _recover, (fit, G)),
        ):
            times = []
            for _ in range(repeats):
                started = time.perf_counter()
                phi, residual = jax.block_until_ready(run(*inputs)) if part == "recover" else (run(*inputs), None)
                jax.block_until_ready(phi)
                times.append(time.perf_counter() - started)
            seconds[f"{name}_{part}"] = min(times)
        residuals.append(float(np.asarray(residual)))
    return np.asarray(phi), list(zip(infos, residuals, strict=True)), margin, seconds


def finite_displacements(potential, atoms, fc2, fc3, distance, plusminus="auto"):
    """phono3py's compact Φ3, its supercell, and seconds: force calls, construction."""
    cell = PhonopyAtoms(numbers=atoms.numbers, cell=np.asarray(atoms.cell), positions=atoms.positions)
    ph3 = Phono3py(
        cell,
        supercell_matrix=np.diag(fc3),
        phonon_supercell_matrix=np.diag(fc2),
        primitive_matrix="auto",
        log_level=0,
    )
    ph3.generate_displacements(distance=distance, is_plusminus=plusminus)
    ph3.generate_fc2_displacements(distance=distance)
    seconds, calls = {}, {}
    for name, perfect, displaced in (
        ("fc3", ph3.supercell, ph3.supercells_with_displacements),
        ("fc2", ph3.phonon_supercell, ph3.phonon_supercells_with_displacements),
    ):
        graph, _ = graph_of(perfect.cell, perfect.positions, perfect.numbers, potential)
        graph = jax.device_put(graph)
        positions = np.array([s.positions for s in displaced])
        _forces(potential, graph, positions).block_until_ready()
        started = time.perf_counter()
        forces = np.asarray(_forces(potential, graph, positions))
        seconds[f"{name}_forces"] = time.perf_counter() - started
        calls[name] = len(forces)
        forces = forces - np.asarray(_forces(potential, graph, positions[:1] * 0 + perfect.positions))
        if name == "fc3":
            ph3.forces = forces
        else:
            ph3.phonon_forces = forces
    started = time.perf_counter()
    ph3.produce_fc3(symmetrize_fc3r=False, is_compact_fc=True)
    seconds["fc3_construction"] = time.perf_counter() - started
    return ph3, calls, seconds


def in_our_order(ph3, cells):
    """phono3py's compact Φ3 with our rows and our atoms."""
    cell = cells.fc3_supercell
    lattice = cell.matrix @ cells.crystal.lattice
    mine = (cells.crystal.positions[cell.primitive_index] + cell.lattice_vector) @ np.linalg.inv(cell.matrix)
    theirs = ph3.supercell.positions @ np.linalg.inv(lattice)
    shift = (
        theirs[0]
        - mine[np.flatnonzero(np.asarray(cells.crystal.numbers)[cell.primitive_index] == ph3.supercell.numbers[0])]
    )

    def match(offset):
        difference = theirs[:, None] - mine[None] - offset
        distance = np.linalg.norm((difference - np.rint(difference)) @ lattice, axis=-1)
        return distance.argmin(axis=1), distance.min(axis=1).max()

    for offset in shift:
        order, worst = match(offset)
        if worst < 1e-4:
            break
    else:
        raise AssertionError("phono3py's supercell is not ours")
    translations, homing = translation_table(cells.crystal, cells.fc3_supercell)
    third = np.empty((cells.crystal.n_atoms, cell.n_atoms, cell.n_atoms, 3, 3, 3))
    for row, atom in enumerate(order[ph3.primitive.p2s_map]):
        moved = translations[homing[atom]][order]
        third[cell.primitive_index[atom], moved[:, None], moved[None, :]] = ph3.fc3[row]
    return third


def benchmark(name, distances, repeats, scheme):
    structure, fc2, fc3 = MATERIALS[name]
    potential = load_potential("tersoff-1989")
    atoms, report = relax(structure(), potential)
    if not report.converged:
        raise SystemExit(f"{name}: {report.message}")
    cells = supercells_from_atoms(atoms, fc2, fc3)
    third, fits, margin, seconds = automatic(potential, cells, repeats, scheme)
    infos = [info for info, _ in fits]
    errors: list[Any] = []
    calls: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for distance in distances:
        (ph3, calls), spent = finite_displacements(potential, atoms, fc2, fc3, distance)
        theirs = spent if not theirs else {key: min(theirs[key], spent[key]) for key in spent}
        (both, _), _ = finite_displacements(potential, atoms, fc2, fc3, distance, plusminus=True)
        row = {"distance": distance}
        for key, result in (("", ph3), ("_plusminus", both)):
            difference = in_our_order(result, cells) - third
            row[f"max{key}"] = float(np.abs(difference).max())
            row[f"rms_relative{key}"] = float(np.linalg.norm(difference) / np.linalg.norm(third))
        errors.append(row)
    own = sum(seconds[f"{order}_{part}"] for order in ("fc2", "fc3") for part in ("evaluate", "recover"))
    other = theirs["fc2_forces"] + theirs["fc3_forces"]
    return {
        "material": name,
        "potential": potential.name,
        "atoms": {"fc2": cells.fc2_supercell.n_atoms, "fc3": cells.fc3_supercell.n_atoms},
        "parameters": [info.n_parameters for info in infos],
        "evaluations": {name: info.n_evaluations for name, info in zip(("fc2", "fc3"), infos, strict=True)},
        "force_calls": calls,
        "condition": [info.condition for info in infos],
        "residual": [residual for _, residual in fits],
        "scheme": [info.scheme for info in infos],
        "margin": margin,
        "seconds": seconds,
        "phono3py_seconds": theirs,
        "ratio_evaluations": other / (seconds["fc2_evaluate"] + seconds["fc3_evaluate"]),
        "ratio": other / own,
        "ratio_with_plan": (other + theirs["fc3_construction"]) / (own + seconds["plan"]),
        "largest_third": float(np.abs(third).max()),
        "errors": errors,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("materials", nargs="*", default=list(MATERIALS), metavar="MATERIAL")
    parser.add_argument("--distances", type=float, nargs="+", default=[0.03, 0.01, 0.003], help="Å")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scheme", choices=["auto", "patterns", "columns"], default="auto")
    parser.add_argument("--out", type=Path, help="folder for a JSON file named after the device")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    device = jax.devices()[0]
    results: dict[str, Any] = {
        "device": f"{device.platform}: {device.device_kind}, host {platform.machine()}",
        "jax": jax.__version__,
        "materials": [],
    }
    print(f"{results['device']}, jax {jax.__version__}")
    for name in arguments.materials:
        row = benchmark(name, arguments.distances, arguments.repeats, arguments.scheme)
        results["materials"].append(row)
        seconds, theirs = row["seconds"], row["phono3py_seconds"]
        print(
            f"\n{name}: {row['atoms']['fc2']} and {row['atoms']['fc3']} atoms, {row['parameters']} parameters,"
            f" cond {row['condition'][0]:.0f}, {row['condition'][1]:.0f},"
            f" residual {max(row['residual']):.0e}, margin {row['margin']:.3f} Å ({'/'.join(row['scheme'])})\n"
            f"  evaluations  Φ2 {row['evaluations']['fc2']:5d}  Φ3 {row['evaluations']['fc3']:5d}"
            f"   warm {seconds['fc2_evaluate']:.3f} + {seconds['fc3_evaluate']:.3f} s,"
            f" recovery {seconds['fc2_recover'] + seconds['fc3_recover']:.3f} s, plan {seconds['plan']:.2f} s\n"
            f"  force calls  Φ2 {row['force_calls']['fc2']:5d}  Φ3 {row['force_calls']['fc3']:5d}"
            f"   warm {theirs['fc2_forces']:.3f} + {theirs['fc3_forces']:.3f} s,"
            f" construction of Φ3 {theirs['fc3_construction']:.2f} s\n"
            f"  ratio {row['ratio_evaluations']:.1f} (evaluations alone), {row['ratio']:.1f} (with recovery),"
            f" {row['ratio_with_plan']:.1f} (all in)"
        )
        for error in row["errors"]:
            print(
                f"  displacement {error['distance']:.4f} Å: largest error {error['max']:.1e} eV/Å³,"
                f" relative rms {error['rms_relative']:.1e}; with every displacement in both signs"
                f" {error['max_plusminus']:.1e}, {error['rms_relative_plusminus']:.1e}"
            )
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        path = arguments.out / f"force_constants_{device.platform}.json"
        path.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwritten to {path}")


if __name__ == "__main__":
    main()
