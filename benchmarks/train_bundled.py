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
import dataclasses
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
from wigner_jax.potentials import Graph, build_graph, load_potential, restrict
from wigner_jax.potentials.mace import export_mace, load_mace, trainable
from wigner_jax.prototypes import prototype
from wigner_jax.relax import relax
from wigner_jax.solve import make_plan, solve

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
    small = Atoms([cell.symbols[0], cell.symbols[4]], cell=cell.cell.lengths()[0] * (1 - np.eye(3)) / 2, pbc=True)
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


def initial(path: Path, frames: list[Atoms], seed: int):
    """The template's architecture with normal random weights; atomic energies and scale from the labels."""
    potential = load_mace(path)
    rng = np.random.default_rng(seed)
    free = trainable(potential.params)
    params = {}
    for name in sorted(potential.params):
        value = np.asarray(potential.params[name])
        if free[name]:
            scale = 1 / max(value.shape[1], 1) if "symmetric_contractions" in name else 1.0
            value = scale * rng.standard_normal(value.shape)
        params[name] = value
    counts = np.array([[np.sum(f.numbers == z) for z in potential.species] for f in frames])
    energies = np.array([f.info["REF_energy"] for f in frames])
    fitted = np.linalg.lstsq(counts.astype(float), energies, rcond=None)[0]
    params["atomic_energies_fn.atomic_energies"] = fitted.reshape(params["atomic_energies_fn.atomic_energies"].shape)
    rms = np.sqrt(np.mean(np.concatenate([f.arrays["REF_forces"] for f in frames]) ** 2))
    params["scale_shift.scale"] = np.full_like(params["scale_shift.scale"], rms)
    params["scale_shift.shift"] = np.zeros_like(params["scale_shift.shift"])
    return potential.with_params(params), free


class Batches:
    """Batches of one shape: structures sorted by their number of edges, one of each of `size` ranks to a batch.

    A batch is one graph of disconnected parts: `shifts` has three columns, and `cell` three rows, for each structure.
    """

    def __init__(self, frames: list[Atoms], potential, size: int) -> None:
        pairs = [(frame, build_graph(frame, potential)[0]) for frame in frames]
        pairs.sort(key=lambda pair: int(np.sum(pair[1].edge_mask)))
        self.count = len(pairs) // size
        self.ranks = [pairs[k * self.count : (k + 1) * self.count] for k in range(size)]
        self.room = sum(int(np.sum(rank[-1][1].edge_mask)) for rank in self.ranks)

    def __call__(self, rng: np.random.Generator | None = None):
        """All of them once, in random order if there is a generator."""
        orders = [np.arange(self.count) if rng is None else rng.permutation(self.count) for _ in self.ranks]
        for row in zip(*orders, strict=True):
            yield self._joined([rank[k] for rank, k in zip(self.ranks, row, strict=True)])

    def _joined(self, pairs: list) -> dict:
        B, N = len(pairs), len(pairs[0][0])
        masks = [np.asarray(graph.edge_mask) for _, graph in pairs]
        edges = sum(int(m.sum()) for m in masks)
        senders, receivers = np.zeros((2, self.room), np.int32)
        shifts = np.zeros((self.room, 3 * B), np.float32)
        shifts[edges:, 0] = 1
        start = 0
        for b, ((_, graph), mask) in enumerate(zip(pairs, masks, strict=True)):
            own = slice(start, start := start + int(mask.sum()))
            senders[own], receivers[own] = graph.senders[mask] + b * N, graph.receivers[mask] + b * N
            shifts[own, 3 * b : 3 * b + 3] = graph.shifts[mask]
        empty = np.zeros((0, 2), np.int32), np.zeros(0, bool)
        frames = [frame for frame, _ in pairs]
        graph = Graph(
            np.array([graph.positions for _, graph in pairs], np.float32),
            np.array([graph.cell for _, graph in pairs], np.float32),
            np.concatenate([graph.species for _, graph in pairs]),
            senders, receivers, shifts, np.arange(self.room) < edges, *empty,
        )  # fmt: skip
        stress = np.array([np.reshape(f.info["REF_stress"], (3, 3)) for f in frames])
        return {
            "graph": graph,
            "energy": single([f.info["REF_energy"] / N for f in frames]),
            "forces": single([f.arrays["REF_forces"] for f in frames]),
            "virial": single(stress * np.array([f.get_volume() / N for f in frames])[:, None, None]),
        }


def single(x):
    x = np.asarray(x)
    return x.astype(np.float32) if x.dtype == np.float64 else x


def predict(potential, params, graph):
    """Energy and virial per atom, (B,) and (B, 3, 3), and forces (B, N, 3)."""

    def total(positions, strain):
        F = jnp.eye(3, dtype=positions.dtype) + strain
        moved = dataclasses.replace(
            graph, positions=(positions @ F).reshape(-1, 3), cell=(graph.cell @ F).reshape(-1, 3)
        )
        energies = potential.energy.site_energies(params, moved).reshape(positions.shape[:2]).sum(axis=1)
        return energies.sum(), energies

    B, N = graph.positions.shape[:2]
    zero = jnp.zeros((B, 3, 3), graph.positions.dtype)
    (slope, virial), energy = jax.grad(total, argnums=(0, 1), has_aux=True)(jnp.asarray(graph.positions), zero)
    return energy / N, -slope, 0.5 * (virial + virial.swapaxes(1, 2)) / N


def errors(potential, params, batch):
    """Per structure: relative squared force error, and the errors of energy (eV), virial (eV) per atom, force (MAE, eV/Å)."""
    energy, forces, virial = predict(potential, params, batch["graph"])
    d = forces - batch["forces"]
    relative = jnp.mean(d**2, (1, 2)) / (jnp.mean(batch["forces"] ** 2, (1, 2)) + 0.02**2)
    return relative, energy - batch["energy"], virial - batch["virial"], jnp.mean(jnp.abs(d), (1, 2))


def score(found) -> jax.Array:
    """Relative force errors; energies and virials count like 10 % of the force where they are off by 5 and 10 meV an atom."""
    relative, energy, virial, _ = found
    return jnp.mean(relative + (energy / 0.05) ** 2 + jnp.mean(virial**2, (1, 2)) / 0.1**2)


def fit(arguments: argparse.Namespace) -> None:
    frames = [f for f in read(arguments.work / "frames.xyz", ":") if f.info["compound"] in COMPOUNDS]
    held = np.arange(len(frames)) % HELD_OUT == 3
    train = [f for f, h in zip(frames, held, strict=True) if not h]
    test = [f for f, h in zip(frames, held, strict=True) if h]
    potential, free = initial(arguments.work / "template.model", train, arguments.seed)
    batches, checks = Batches(train, potential, arguments.batch), list(Batches(test, potential, arguments.batch)())
    fixed = {name: single(value) for name, value in potential.params.items() if not free[name]}
    params = {name: jnp.asarray(single(value)) for name, value in potential.params.items() if free[name]}
    state_file = arguments.work / "state.npz"

    def optimiser(rate):
        return optax.chain(optax.clip_by_global_norm(10.0), optax.amsgrad(rate))

    @jax.jit
    def step(params, average, state, batch, rate):
        value, slope = jax.value_and_grad(lambda p: score(errors(potential, fixed | p, batch)))(params)
        update, state = optimiser(rate).update(slope, state, params)
        params = optax.apply_updates(params, update)
        average = jax.tree.map(lambda a, p: 0.995 * a + 0.005 * p, average, params)
        return params, average, state, value

    @jax.jit
    def check(params, batch):
        return errors(potential, fixed | params, batch)

    saved = arguments.work / "training.npz"
    state, average = optimiser(0.0).init(params), params
    best, done, rng = np.inf, 0, np.random.default_rng(arguments.seed)
    if arguments.resume:
        with np.load(saved) as stored:
            leaves = [jnp.asarray(stored[f"arr_{k}"]) for k in range(len(stored.files) - 2)]
            best, done = float(stored["best"]), int(stored["done"])
        params, average, state = jax.tree.unflatten(jax.tree.structure((params, average, state)), leaves)
    started = time.perf_counter()
    while done < arguments.steps:
        values = []
        for batch in batches(rng):
            rate = arguments.rate * min(1.0, (done + 1) / 200) * (0.5 + 0.5 * np.cos(np.pi * done / arguments.steps))
            params, average, state, value = step(params, average, state, batch, rate)
            values.append(float(value))
            done += 1
            if done >= arguments.steps:
                break
        found = [np.concatenate(x) for x in zip(*[map(np.asarray, check(average, b)) for b in checks], strict=True)]
        now = float(score(found))
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
