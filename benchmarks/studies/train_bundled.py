"""The bundled MACE model: labels of a teacher, least squares, validation. Each step is one command; all together:

    python benchmarks/studies/train_bundled.py template label constants larger fit validate --teacher nequix-mp-1-pft --work build

    template   an untrained model file, by mace-torch (needs it; only the architecture of this file is used afterwards)
    label      energies, forces and stresses of the teacher for random supercells of the compounds, rattled and strained
    constants  Φ2 and Φ3 of the teacher in cells of 64 atoms at its lattice constants, and its κ
    larger     the teacher's κ with Φ2 of 512 atoms, the default of `wigner-jax kappa`: not trained on, for the card
    fit        the weights, by linear least squares (linear_mace.py): no steps, minutes on one core
    validate   errors on held-out structures; relaxed lattice constants and κ against the teacher's and DFT's; the card

`label`, `constants` and `larger` keep one file for each compound and go on where they were; most of their time is the teacher's.

Structures. A supercell of eight primitive cells with a random shape (Hermite normal form, then reduced) is commensurate
with eight wave vectors of the phonons, and a random set of shapes samples the whole zone: sixteen atoms teach what
usually takes hundreds. Amplitudes from 0.01 to 0.12 Å, each structure counted relative to its own forces, make the
smallest of them a measurement of Φ2 and the larger ones of Φ3 and beyond. What decides κ are Φ2 and Φ3 themselves: from
48 structures alone Φ3 of LiBr and NaCl was 20 to 30 % off and κ up to 20 %; with Φ2 and Φ3 among the equations 2 %
and below 1 % (over all ten compounds Φ3 up to 3 %, κ up to 10 %: AlAs).

Long, because its steps are one study.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import minkowski_reduce
from ase.io import read, write
from linear_mace import Design, constant_equations, frame_equations, least_squares, linear_model

from wigner_jax._solve import make_plan, solve
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.crystal.prototypes import prototype
from wigner_jax.errors import InputError
from wigner_jax.ifc.autodiff import force_constants, plan_force_constants
from wigner_jax.ifc.evaluations import evaluate
from wigner_jax.ifc.least_squares import recover
from wigner_jax.io.phonondb import read_phonondb
from wigner_jax.potentials import bundled
from wigner_jax.potentials.evaluate import energy_forces_stress
from wigner_jax.potentials.mace.files import export_mace, load_mace
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.registry import load_potential, restrict
from wigner_jax.relaxation.newton import relax
from wigner_jax.types import ForceConstants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wigner_jax.ifc.displacement_patterns import Fit
    from wigner_jax.potentials.base import Potential
    from wigner_jax.potentials.graph import Graph
    from wigner_jax.types import Supercells

ROOT = Path(__file__).resolve().parents[2]
ELEMENTS = tuple(sorted({int(z) for name in bundled.COMPOUNDS for z in prototype(name).numbers}))
CELLS = 8  # primitive cells in a structure
AMPLITUDES = (0.01, 0.02, 0.04, 0.07, 0.12)  # Å
STRAIN = 0.02  # largest isotropic strain; half of it, rms, for each component of the others
CHANNELS, CUTOFF = 64, 6.0
#: Every so many structures one is held out; coprime to the number of amplitudes, so that all are represented
HELD_OUT = 11
RIDGE = 1e-7
#: of a relative error of Φ2 or Φ3, where one of the forces of a structure counts 1
CONSTANTS = 10.0
#: of the comparison of κ: coarse, which teacher and student share
MESH, SUPERCELL, LARGER = (11, 11, 11), (2, 2, 2), (4, 4, 4)
#: Edges are filled up to one of these numbers: few compilations of the teacher, a minute or more each
ROOMS = (1000, 2000)
ROOMS_64 = (2048, 2560, 5120)
#: of the test that comes with the model
TESTED, TEST_MESH = "NaCl", (5, 5, 5)


# --- structures and labels -------------------------------------------------------------------------------------------


def primitive(name: str, a: float | None = None) -> Atoms:
    cell = prototype(name)
    small = Atoms([cell.symbols[0], cell.symbols[1]], cell=cell.cell.lengths()[0] * (1 - np.eye(3)) / 2, pbc=True)
    distance = min(cell.get_distances(0, range(1, 8), mic=True)) / cell.cell.lengths()[0]
    small.positions[1] = cell.cell.lengths()[0] * (0.5 if distance > 0.45 else 0.25)  # rocksalt, else tetrahedral
    if a is not None:
        small.set_cell(a * (1 - np.eye(3)) / 2, scale_atoms=True)
    return small


def random_supercell(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """CELLS primitive cells in a random shape, with reduced lattice vectors."""
    diagonals = [(a, b, CELLS // (a * b)) for a in (1, 2, 4, 8) for b in (1, 2, 4, 8) if CELLS % (a * b) == 0]
    # a Hermite normal form with diagonal (a, b, c) has b c² siblings
    weights = np.array([b * c**2 for _, b, c in diagonals], float)
    a, b, c = diagonals[rng.choice(len(diagonals), p=weights / weights.sum())]
    H = np.array([[a, rng.integers(b), rng.integers(c)], [0, b, rng.integers(c)], [0, 0, c]])
    cell = make_supercell(atoms, H)
    cell.set_cell(minkowski_reduce(np.asarray(cell.cell))[0])
    cell.wrap()
    return cell


def structures(name: str, a: float, count: int, rng: np.random.Generator) -> list[Atoms]:
    """Rattled supercells of one compound: half of them at the lattice constant, a quarter strained, a quarter sheared too."""
    small = primitive(name, a)
    frames = []
    for k in range(count):
        cell = random_supercell(small, rng)
        if k % 2:
            shear = 0.5 * STRAIN * rng.standard_normal((3, 3))
            F = np.eye(3) * (1 + STRAIN * rng.uniform(-1, 1)) + (0.5 * (shear + shear.T) if k % 4 == 3 else 0.0)
            cell.set_cell(np.asarray(cell.cell) @ F, scale_atoms=True)
        cell.positions += AMPLITUDES[k // 2 % len(AMPLITUDES)] * (k != 1) * rng.standard_normal(cell.positions.shape)
        cell.info = {"compound": name}
        frames.append(cell)
    return frames


def labelled(teacher: Potential, atoms: Atoms) -> Atoms:
    """The same structure with the teacher's energy, forces and stress."""
    graph, _ = build_graph(atoms, teacher)
    room = next((r for r in ROOMS if len(graph.senders) <= r), 0)
    energy, forces, stress = map(np.asarray, energy_forces_stress(teacher, graph.padded(room, 0)))
    atoms.info |= {"REF_energy": float(energy), "REF_stress": stress.ravel()}
    atoms.arrays["REF_forces"] = forces
    return atoms


def lattice_constant(name: str, teacher: Potential) -> float:
    """Where the pressure vanishes, Å, by secants on a cell of sixteen atoms, which shares its compilation with others."""

    def pressure(a: float) -> float:
        cell = labelled(teacher, make_supercell(primitive(name, a), 2 * np.eye(3)))
        return float(np.trace(cell.info["REF_stress"].reshape(3, 3)) / 3)

    x = 1.005 * prototype(name).cell.lengths()[0]
    y = 1.005 * x
    px, py = pressure(x), pressure(y)
    while abs(y - x) > 1e-6 and abs(py - px) > 1e-15:
        x, y, px = y, y - py * (y - x) / (py - px), py
        py = pressure(y)
    return y


def label(arguments: argparse.Namespace) -> None:
    teacher = load_potential(arguments.teacher)
    for name in arguments.compounds:
        path, started = arguments.work / f"{name}.xyz", time.perf_counter()
        if path.exists():
            continue
        rng = np.random.default_rng([arguments.seed, *name.encode()])
        a = lattice_constant(name, teacher)
        frames = [labelled(teacher, frame) for frame in structures(name, a, arguments.frames, rng)]
        for frame in frames:
            frame.info["lattice_constant"] = a
        write(path, frames)
        print(f"{name}: a = {a:.4f} Å, {len(frames)} structures, {time.perf_counter() - started:.0f} s", flush=True)


def constants(arguments: argparse.Namespace) -> None:
    teacher = load_potential(arguments.teacher)
    for name in arguments.compounds:
        path, started = arguments.work / f"{name}.npz", time.perf_counter()
        if path.exists():
            continue
        (first,) = read(arguments.work / f"{name}.xyz", "0:1")
        a = first.info["lattice_constant"]
        cells = cells_at(name, a)
        plan, _ = plan_force_constants(cells, teacher)
        room = next((r for r in ROOMS_64 if len(plan.graph2.senders) <= r), 0)
        graph = plan.graph2.padded(room, 0)  # both supercells are the same
        found = [recover(fit, evaluate_one_by_one(teacher, graph, fit))[0] for fit in (plan.fit2, plan.fit3)]
        result = solve(make_plan(cells, MESH), ForceConstants(*found))
        κ = float(result.conductivity.kappa_TOT[0, 0])
        np.savez(path, second=found[0], third=found[1], a=a, kappa=κ)
        print(f"{name}: κ = {κ:.3f} W/(m K) at 300 K, {time.perf_counter() - started:.0f} s", flush=True)


def larger(arguments: argparse.Namespace) -> None:
    teacher = load_potential(arguments.teacher)
    for name in arguments.compounds:
        path, started = arguments.work / f"{name}.larger.json", time.perf_counter()
        if path.exists():
            continue
        with np.load(arguments.work / f"{name}.npz") as stored:
            a, third = float(stored["a"]), stored["third"]
        cells = cells_at(name, a, LARGER)
        plan, _ = plan_force_constants(cells, teacher)
        second = recover(plan.fit2, evaluate_one_by_one(teacher, plan.graph2, plan.fit2))[0]
        result = solve(make_plan(cells, MESH), ForceConstants(second, jnp.asarray(third)))
        path.write_text(json.dumps({"kappa": float(result.conductivity.kappa_TOT[0, 0])}))
        print(f"{name}: {path.read_text()}, {time.perf_counter() - started:.0f} s", flush=True)


def cells_at(name: str, a: float, second: tuple[int, int, int] = SUPERCELL) -> Supercells:
    atoms = prototype(name)
    atoms.set_cell([a] * 3, scale_atoms=True)
    return supercells_from_atoms(atoms, second, SUPERCELL)


_evaluate = jax.jit(evaluate, static_argnums=(0, 4))


def evaluate_one_by_one(potential: Potential, graph: Graph, fit: Fit) -> jax.Array:
    """Derivatives of the forces along all patterns; one compilation for all compounds with as many edges."""
    inputs = potential.energy, potential.params, graph
    return jnp.concatenate([_evaluate(*inputs, u[None], fit.basis.order) for u in fit.patterns])


# --- the model -------------------------------------------------------------------------------------------------------


def template(arguments: argparse.Namespace) -> None:
    """A model file by mace-torch: one interaction, linear readout."""
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests" / "data" / "mace_reference")!r})
import make; from pathlib import Path
make.BRANCHES["bundled"] = {{"num_interactions": 1, "hidden": "{{C}}x0e"}}
make._store(make.build("bundled", {CHANNELS}, {ELEMENTS}, {CUTOFF}), Path({str(arguments.work / "template.model")!r}))
"""
    subprocess.run([arguments.python, "-c", code], check=True)


def fit(arguments: argparse.Namespace) -> None:
    design = Design(linear_model(load_mace(arguments.work / "template.model"), arguments.seed))
    equations, held = [], {}
    for name in arguments.compounds:
        started = time.perf_counter()
        frames = [frame_equations(design, frame) for frame in read(arguments.work / f"{name}.xyz", ":")]
        held[name] = [e for k, e in enumerate(frames) if k % HELD_OUT == 3]
        equations += [e for k, e in enumerate(frames) if k % HELD_OUT != 3]
        if (path := arguments.work / f"{name}.npz").exists():
            with np.load(path) as stored:
                plan, _ = plan_force_constants(cells_at(name, float(stored["a"])), design.potential)
                equations += constant_equations(design, plan, stored["second"], stored["third"], CONSTANTS)
        print(f"{name}: equations in {time.perf_counter() - started:.0f} s", flush=True)
    started = time.perf_counter()
    w, energies = least_squares(equations, len(design.potential.species), RIDGE)
    print(f"least squares in {time.perf_counter() - started:.0f} s")
    for name, some in held.items():
        errors = [np.sum((e.A @ w[e.species].ravel() - e.y)[:-7] ** 2) for e in some]
        print(f"{name}: forces of {len(some)} held-out structures {100 * np.sqrt(np.mean(errors)):.1f} % off")
    arguments.model.parent.mkdir(parents=True, exist_ok=True)
    export_mace(design.with_weights(w, energies), arguments.work / "template.model", arguments.model)


# --- validation ------------------------------------------------------------------------------------------------------


def conductivity(
    name: str, potential: Potential, mesh: tuple[int, int, int] = MESH, second: tuple[int, int, int] = SUPERCELL
) -> tuple[float, float, str]:
    """Relaxed lattice constant in Å, κ at 300 K in W/(m K) (supercell of Φ3: 64 atoms), and what went wrong."""
    atoms, report = relax(prototype(name), potential)
    if not report.converged:
        return np.nan, np.nan, report.message
    a = float(atoms.cell.lengths()[0])
    cells = supercells_from_atoms(atoms, second, SUPERCELL)
    found, _ = force_constants(cells, restrict(potential, atoms.numbers))
    try:
        solution = solve(make_plan(cells, mesh), found)
    except InputError as error:
        return a, np.nan, str(error)
    return a, float(solution.conductivity.kappa_TOT[0, 0]), ""


def held_out_errors(names: Sequence[str], work: Path, student: Potential) -> tuple[int, np.ndarray]:
    """Number of structures; mean absolute errors of energy (meV/atom), force (meV/Å), stress (meV/Å³), relative force error."""
    rows = []
    for name in names:
        for frame in read(work / f"{name}.xyz", ":")[3::HELD_OUT]:
            graph, _ = build_graph(frame, student)
            room = next(r for r in ROOMS if len(graph.senders) <= r)
            energy, forces, stress = map(np.asarray, energy_forces_stress(student, graph.padded(room, 0)))
            exact = frame.arrays["REF_forces"]
            rows.append((
                1e3 * abs(energy - frame.info["REF_energy"]) / len(frame), 1e3 * np.abs(forces - exact).mean(),
                1e3 * np.abs(stress.ravel() - frame.info["REF_stress"]).mean(),
                np.mean((forces - exact) ** 2) / (np.mean(exact**2) + 0.02**2),
            ))  # fmt: skip
    means = np.mean(rows, axis=0)
    return len(rows), np.array([*means[:3], 100 * np.sqrt(means[3])])


def validate(arguments: argparse.Namespace) -> None:
    """The card beside the model, and the numbers of its test."""
    student = load_mace(arguments.model)
    cubic = (216, 225, 227)  # space groups: the table has wurtzites of the same names
    found = read_phonondb(arguments.dft) if arguments.dft else {}
    dft = {r.name: r for r in found.values() if r.space_group in cubic}
    count, (energy, forces, stress, relative) = held_out_errors(arguments.compounds, arguments.work, student)
    rows = []
    for name in arguments.compounds:
        with np.load(arguments.work / f"{name}.npz") as stored:
            a0, k0 = float(stored["a"]), float(stored["kappa"])
        a, k, problem = conductivity(name, student)
        reference = f"{dft[name].kappa[dft[name].at(300.0)]:.2f}" if name in dft else "–"
        beyond = "– | – | –"
        if (path := arguments.work / f"{name}.larger.json").exists():
            k1, k2 = json.loads(path.read_text())["kappa"], conductivity(name, student, second=LARGER)[1]
            beyond = f"{k1:.2f} | {k2:.2f} | {k2 / k1:.3f}"
        rows.append(
            f"| {name} | {a0:.4f} | {a:.4f} | {k0:.2f} | {k:.2f} | {k / k0:.3f} | {beyond} | {reference} |{problem}"
        )
        print(rows[-1], flush=True)
    total = sum(len(read(arguments.work / f"{name}.xyz", ":")) for name in arguments.compounds)
    teacher = load_potential(arguments.teacher).name
    text = f"""\
# {arguments.model.stem}

A MACE model with one interaction ({CHANNELS} channels, l up to 3, products of three, cutoff {CUTOFF:g} Å, linear readout)
for {", ".join(arguments.compounds)}, made by `benchmarks/studies/train_bundled.py`.

Distilled from {teacher} (MIT): it is meant to give that model's conductivities, whatever those are worth. The teacher
labelled {total - count} random supercells of sixteen atoms (rattled by up to {max(AMPLITUDES)} Å, strained by a few per cent),
and Φ2 and Φ3 of every compound in a cell of 64 atoms. Radial functions and embeddings are random; the weights of the
products solve a linear least-squares problem. Other compounds, other structures of these, mixtures, surfaces, defects and
melts are out of reach. The file has no TorchScript, so that mace-torch does not load it.

Errors on {count} structures that were held out: energy {energy:.2f} meV/atom, forces {forces:.1f} meV/Å ({relative:.1f} % of
the forces), stress {stress:.2f} meV/Å³.

κ in W/(m K) at 300 K with natural isotopes, mesh 11 × 11 × 11, no non-analytic correction, each model at its own lattice
constant. The columns "64" are with Φ2 and Φ3 of 64 atoms, **which were trained on**: they say how well the model fits. The
columns "512" have Φ2 of 512 atoms, the default of `wigner-jax kappa`, which was not trained on (Φ3 again of 64). DFT is PBE
(arXiv:2408.00755) in its own supercells and on its own mesh.

| | a, teacher (Å) | a (Å) | κ, teacher, 64 | κ, 64 | ratio | κ, teacher, 512 | κ, 512 | ratio | κ, DFT |
|---|---|---|---|---|---|---|---|---|---|
""" + "\n".join(rows)
    arguments.model.with_suffix(".md").write_text(text + "\n")
    a, k, _ = conductivity(TESTED, student, TEST_MESH)
    numbers = {"compound": TESTED, "mesh": TEST_MESH, "lattice_constant": a, "kappa": k}
    arguments.model.with_suffix(".json").write_text(json.dumps(numbers) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = {f.__name__: f for f in (template, label, constants, larger, fit, validate)}
    parser.add_argument("tasks", nargs="+", choices=list(tasks), metavar="TASK", help=", ".join(tasks))
    parser.add_argument("--teacher", default="nequix-mp-1-pft", help="name or path of a potential")
    parser.add_argument("--work", type=Path, default=Path("build"), help="folder for the intermediate files")
    parser.add_argument("--model", type=Path, default=bundled.FILE)
    parser.add_argument("--python", default=sys.executable, help="interpreter with mace-torch, for `template`")
    parser.add_argument("--frames", type=int, default=48, help="structures of each compound")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compounds", nargs="+", default=bundled.COMPOUNDS)
    parser.add_argument("--dft", type=Path, help="table of DFT conductivities (kappas_phononDB_PBE_noNAC.json.gz)")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.tasks:
        tasks[name](arguments)


if __name__ == "__main__":
    main()
