"""The bundled MACE model: labels from a teacher, training, validation. Each step is one command; all together:

    python benchmarks/train_bundled.py template label fit validate --teacher nequix-mp-1-pft --work build

    template   an untrained model file, by mace-torch (needs it; only the architecture of this file is used afterwards)
    label      energies, forces and stresses of the teacher for random supercells of the compounds, rattled and strained
    fit        training in single precision; the weights with the lowest validation error are kept
    validate   errors on held-out structures; lattice constants and κ of a few compounds against the teacher's; the card

Structures. A supercell of eight primitive cells with a random shape (Hermite normal form, then reduced) is commensurate
with eight wave vectors of the phonons, and a random set of shapes samples the whole zone: sixteen atoms teach what
usually takes hundreds. Amplitudes from 0.01 to 0.12 Å, each structure counted relative to its own forces, make the
smallest of them a measurement of Φ2 and the larger ones of Φ3 and beyond.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ase import Atoms
from ase.build import make_supercell
from ase.geometry import minkowski_reduce
from ase.io import read, write

from wigner_jax.calculator import WignerCalculator, energy_forces_stress, padded
from wigner_jax.errors import InputError
from wigner_jax.physics.force_constants import force_constants
from wigner_jax.plan.cells import cells_from_atoms
from wigner_jax.potentials import build_graph, load_potential, restrict
from wigner_jax.potentials.mace import export_mace, load_mace, trainable
from wigner_jax.prototypes import prototype
from wigner_jax.relax import relax
from wigner_jax.solve import make_plan, solve
from wigner_jax.training import Batch, Batches, Frame, frame_of, initial
from wigner_jax.training.batches import errors

ROOT = Path(__file__).resolve().parents[1]
COMPOUNDS = (
    "LiCl", "LiBr", "NaCl", "NaBr", "MgO", "CaO", "Si", "Ge", "GaAs", "AlAs",
)  # fmt: skip
ELEMENTS = tuple(sorted({int(z) for name in COMPOUNDS for z in prototype(name).numbers}))
CELLS = 8  # primitive cells in a structure
AMPLITUDES = (0.01, 0.02, 0.04, 0.07, 0.12)  # Å
STRAIN = 0.02  # largest isotropic strain; half of it, rms, for each component of the others
CHANNELS, CUTOFF = 24, 5.0
#: Every so many structures one is held out; coprime to the number of amplitudes, so that all are represented
HELD_OUT = 11
#: of the comparison of κ: coarse, which teacher and student share
MESH = (11, 11, 11)


# --- structures and labels -------------------------------------------------------------------------------------------


def primitive(name: str, a: float | None = None) -> Atoms:
    cell = prototype(name)
    small = Atoms([cell.symbols[0], cell.symbols[1]], cell=cell.cell.lengths()[0] * (1 - np.eye(3)) / 2, pbc=True)
    fractions = {"rocksalt": 0.5, "tetrahedral": 0.25}
    distance = min(cell.get_distances(0, range(1, 8), mic=True)) / cell.cell.lengths()[0]
    small.positions[1] = cell.cell.lengths()[0] * fractions["rocksalt" if distance > 0.45 else "tetrahedral"]
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


def lattice_constant(name: str, calculator: WignerCalculator) -> float:
    """Where the pressure vanishes, Å, by secants on the conventional cell."""
    cell = prototype(name)
    start = cell.cell.lengths()[0]

    def pressure(a: float) -> float:
        moved = cell.copy()
        moved.set_cell([a] * 3, scale_atoms=True)
        moved.calc = calculator
        return float(np.mean(moved.get_stress()[:3]))

    x, y = start, 1.01 * start
    px, py = pressure(x), pressure(y)
    while abs(y - x) > 1e-7 and abs(py - px) > 1e-15:
        x, y, px = y, y - py * (y - x) / (py - px), py
        py = pressure(y)
    return y


def structures(name: str, a: float, count: int, rng: np.random.Generator) -> list[Atoms]:
    """Rattled, strained supercells of one compound about a lattice constant; the first is only strained."""
    small = primitive(name, a)
    frames = []
    for k in range(count):
        cell = random_supercell(small, rng)
        shear = 0.5 * STRAIN * rng.standard_normal((3, 3))
        F = np.eye(3) * (1 + STRAIN * rng.uniform(-1, 1)) + (0.5 * (shear + shear.T) if k % 2 else 0.0)
        cell.set_cell(np.asarray(cell.cell) @ F, scale_atoms=True)
        cell.positions += AMPLITUDES[k % len(AMPLITUDES)] * (k > 0) * rng.standard_normal(cell.positions.shape)
        cell.info = {"compound": name}
        frames.append(cell)
    return frames


def label(arguments: argparse.Namespace) -> None:
    teacher = load_potential(arguments.teacher)
    calculator = WignerCalculator(teacher)
    rng = np.random.default_rng(arguments.seed)
    constants, frames = {}, []
    for name in COMPOUNDS:
        constants[name] = lattice_constant(name, calculator)
        frames += structures(name, constants[name], arguments.frames // len(COMPOUNDS), rng)
    print({name: round(a, 4) for name, a in constants.items()}, flush=True)
    for bucket in buckets(frames, teacher):
        room = max(len(graph.senders) for _, graph in bucket)
        for frame, graph in bucket:
            energy, forces, stress = map(np.asarray, energy_forces_stress(teacher, padded(graph, room, 0)))
            frame.info |= {"REF_energy": float(energy), "REF_stress": stress.ravel()}
            frame.arrays["REF_forces"] = forces
        print(f"{len(bucket)} structures with up to {room} edges labelled", flush=True)
    write(arguments.work / "frames.xyz", frames)
    (arguments.work / "lattice_constants.json").write_text(json.dumps(constants))


def buckets(frames: list[Atoms], potential) -> list[list]:
    """(frame, graph) in four groups of similar numbers of edges: four compilations."""
    pairs = [(frame, build_graph(frame, potential)[0]) for frame in frames]
    pairs.sort(key=lambda pair: len(pair[1].senders))
    limits = [len(pairs[len(pairs) * k // 4 - 1][1].senders) for k in (1, 2, 3, 4)]
    groups: list[list] = [[] for _ in limits]
    for pair in pairs:
        groups[next(k for k, limit in enumerate(limits) if len(pair[1].senders) <= limit)].append(pair)
    return [group for group in groups if group]


# --- training --------------------------------------------------------------------------------------------------------


def template(arguments: argparse.Namespace) -> None:
    """A model file by mace-torch."""
    code = f"""
import sys; sys.path.insert(0, {str(ROOT / "tests" / "mace_reference")!r})
import make; from pathlib import Path
make.BRANCHES["bundled"] = {{"max_ell": 2}}
make._store(make.build("bundled", {CHANNELS}, {ELEMENTS}, {CUTOFF}), Path({str(arguments.work / "template.model")!r}))
"""
    subprocess.run([arguments.python, "-c", code], check=True)


def labelled(frames: list[Atoms], potential) -> list[Frame]:
    keys = {name: f"REF_{name}" for name in ("energy", "forces", "stress")}
    return [frame_of(frame, potential, (1.0, 1.0, 1.0), keys=keys) for frame in frames]


def relative_errors(potential, params, batch: Batch):
    """Per structure: relative squared force error, and the errors of energy (eV), virial (eV) per atom, force (MAE, eV/Å)."""
    found = errors(potential.energy, params, batch)
    size = batch.means(jnp.mean(batch.forces**2, axis=1))
    virial = found.stress * (batch.volumes / jnp.maximum(batch.atoms, 1))[:, None, None]
    return found.force_square / (size + 0.02**2), found.energy, virial, found.force_absolute


def score(found, there) -> jax.Array:
    """Relative force errors; energies and virials count like 10 % of the force where they are off by 5 and 10 meV an atom.

    Averaged over the structures that are `there`.
    """
    relative, energy, virial, _ = found
    terms = relative + (energy / 0.05) ** 2 + jnp.mean(virial**2, (1, 2)) / 0.1**2
    return jnp.sum(terms * there) / jnp.sum(there)


def fit(arguments: argparse.Namespace) -> None:
    frames = [f for f in read(arguments.work / "frames.xyz", ":") if f.info["compound"] in COMPOUNDS]
    held = np.arange(len(frames)) % HELD_OUT == 3
    train = [f for f, h in zip(frames, held, strict=True) if not h]
    test = [f for f, h in zip(frames, held, strict=True) if h]
    potential = load_mace(arguments.work / "template.model")
    train, test = labelled(train, potential), labelled(test, potential)
    potential = initial(potential, train, arguments.seed)
    batches, checks = Batches(train, arguments.batch), list(Batches(test, arguments.batch)())
    there = np.concatenate([batch.atoms > 0 for batch in checks])
    single = {name: jnp.asarray(value, jnp.float32) for name, value in potential.params.items()}
    free = trainable(potential.params)
    fixed = {name: value for name, value in single.items() if not free[name]}
    params = {name: value for name, value in single.items() if free[name]}
    state_file = arguments.work / "state.npz"

    def optimiser(rate):
        return optax.chain(optax.clip_by_global_norm(10.0), optax.amsgrad(rate))

    @jax.jit
    def step(params, average, state, batch, rate):
        value, slope = jax.value_and_grad(
            lambda p: score(relative_errors(potential, fixed | p, batch), batch.atoms > 0)
        )(params)
        update, state = optimiser(rate).update(slope, state, params)
        params = optax.apply_updates(params, update)
        average = jax.tree.map(lambda a, p: 0.995 * a + 0.005 * p, average, params)
        return params, average, state, value

    @jax.jit
    def check(params, batch):
        return relative_errors(potential, fixed | params, batch)

    saved = arguments.work / "training.npz"
    state, average = optimiser(0.0).init(params), params
    best, done = np.inf, 0
    if arguments.resume:
        with np.load(saved) as stored:
            leaves = [jnp.asarray(stored[f"arr_{k}"]) for k in range(len(stored.files) - 2)]
            best, done = float(stored["best"]), int(stored["done"])
        params, average, state = jax.tree.unflatten(jax.tree.structure((params, average, state)), leaves)
    started = time.perf_counter()
    while done < arguments.steps:
        values = []
        for batch in batches([arguments.seed, done]):
            rate = arguments.rate * min(1.0, (done + 1) / 200) * (0.5 + 0.5 * np.cos(np.pi * done / arguments.steps))
            params, average, state, value = step(params, average, state, batch, rate)
            values.append(float(value))
            done += 1
            if done >= arguments.steps:
                break
        found = [
            np.concatenate(x)[there] for x in zip(*[map(np.asarray, check(average, b)) for b in checks], strict=True)
        ]
        now = float(score(found, np.ones(len(found[0]))))
        print(
            f"{done:6d} steps {time.perf_counter() - started:6.0f} s  training {np.mean(values):.5f}"
            f"  validation {now:.5f}: forces {1e3 * found[3].mean():.2f} meV/Å ({100 * np.sqrt(found[0].mean()):.2f} %), energy"
            f" {1e3 * np.abs(found[1]).mean():.2f}, virial {1e3 * np.abs(found[2]).mean():.2f} meV/atom",
            flush=True,
        )
        if now < best:
            best = now
            np.savez(state_file, **fixed, **average)
        np.savez(saved, *jax.tree.leaves((params, average, state)), best=best, done=done)
    print(f"best validation {best:.5f}")
    finish(arguments)


def finish(arguments: argparse.Namespace) -> None:
    """The best weights into a model file."""
    with np.load(arguments.work / "state.npz") as stored:
        params = {name: stored[name].astype(float) for name in stored.files}
    potential = load_mace(arguments.work / "template.model").with_params(params)
    arguments.model.parent.mkdir(parents=True, exist_ok=True)
    export_mace(potential, arguments.work / "template.model", arguments.model)


# --- validation ------------------------------------------------------------------------------------------------------


def conductivity(name: str, potential) -> tuple[float, float, str]:
    """Relaxed lattice constant in Å, κ at 300 K in W/(m K) (both supercells of 64 atoms, mesh MESH), and what went wrong."""
    atoms, report = relax(prototype(name), potential)
    if not report.converged:
        return np.nan, np.nan, report.message
    a = float(atoms.cell.lengths()[0])
    cells = cells_from_atoms(atoms, (2, 2, 2), (2, 2, 2))
    constants, _ = force_constants(restrict(potential, atoms.numbers), cells)
    try:
        solution = solve(make_plan(cells, MESH), constants)
    except InputError as error:
        return a, np.nan, str(error)
    return a, float(solution.conductivity.kappa_TOT[0, 0]), ""


def validate(arguments: argparse.Namespace) -> None:
    """The card beside the model: errors on held-out structures, lattice constants and κ against the teacher's."""
    student, teacher = load_mace(arguments.model), load_potential(arguments.teacher)
    frames = [f for f in read(arguments.work / "frames.xyz", ":") if f.info["compound"] in COMPOUNDS]
    held = [f for k, f in enumerate(frames) if k % HELD_OUT == 3]
    calculator = WignerCalculator(student)
    rows = []
    for frame in held:
        atoms = frame.copy()
        atoms.calc = calculator
        forces = atoms.get_forces() - frame.arrays["REF_forces"]
        stress = atoms.get_stress(voigt=False) - np.reshape(frame.info["REF_stress"], (3, 3))
        energy = (atoms.get_potential_energy() - frame.info["REF_energy"]) / len(atoms)
        rows.append((np.abs(energy), np.abs(forces).mean(), np.abs(stress).mean()))
    energy, forces, stress = 1e3 * np.mean(rows, axis=0)
    lines = [
        f"# {arguments.model.stem}",
        "",
        f"A MACE model ({CHANNELS}x0e + {CHANNELS}x1o, two layers, l up to 2, three-body products, cutoff {CUTOFF:g} Å) for"
        f" {', '.join(COMPOUNDS)}.",
        f"Distilled from {arguments.teacher} (MIT) by `benchmarks/train_bundled.py`: {len(frames) - len(held)} random"
        f" supercells of sixteen atoms, rattled by up to {max(AMPLITUDES)} Å and strained by a few per cent; single"
        " precision. Nothing else was trained on: other compounds, mixtures, surfaces, defects and melts are out of reach.",
        "",
        f"Errors on {len(held)} structures that were held out: energy {energy:.2f} meV/atom, forces {forces:.1f} meV/Å,"
        f" stress {stress:.2f} meV/Å³ (mean absolute).",
        "",
        "κ at 300 K, supercells of 64 atoms, mesh 11 x 11 x 11, each model at its own lattice constant:",
        "",
        "| | a, teacher (Å) | a (Å) | κ, teacher (W/mK) | κ (W/mK) | ratio | |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in arguments.compounds:
        (a0, k0, m0), (a1, k1, m1) = conductivity(name, teacher), conductivity(name, student)
        lines.append(f"| {name} | {a0:.4f} | {a1:.4f} | {k0:.2f} | {k1:.2f} | {k1 / k0:.2f} | {m0} {m1} |")
        print(lines[-1], flush=True)
    arguments.model.with_suffix(".md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = {f.__name__: f for f in (template, label, fit, finish, validate)}
    parser.add_argument("tasks", nargs="+", choices=list(tasks), metavar="TASK", help=", ".join(tasks))
    parser.add_argument("--teacher", default="nequix-mp-1-pft", help="name or path of a potential")
    parser.add_argument("--work", type=Path, default=Path("build"), help="folder for the intermediate files")
    parser.add_argument("--model", type=Path, default=ROOT / "wigner_jax" / "data" / "mace-wigner-small.model")
    parser.add_argument("--python", default=sys.executable, help="interpreter with mace-torch, for `template`")
    parser.add_argument("--frames", type=int, default=900)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=0.01)
    parser.add_argument("--steps", type=int, default=12000, help="of training; seven a second on one core")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint of `fit`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compounds", nargs="+", default=["LiBr", "MgO", "GaAs"], help="whose κ is validated")
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    arguments.work.mkdir(parents=True, exist_ok=True)
    for name in arguments.tasks:
        tasks[name](arguments)


if __name__ == "__main__":
    main()
