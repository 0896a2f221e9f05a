"""Bring a published potential to the DFT conductivity of LiBr, mode by mode, and say what was reached.

    python benchmarks/finetune_libr.py --out benchmarks/results/finetune_libr_cpu.json

Start: nequix-mp-1 at the DFT geometry. Reference: that of κ_SRME (PBE, 300 K, no non-analytic term, 19×19×19, Φ2 of 512 atoms,
Φ3 of 64): frequencies and conductivities of all modes; no force, no energy, no frame from DFT. Three steps:

1. Φ2 whose frequencies are the reference's: least squares in its 168 independent parameters, from the potential's own Φ2, with
   a pull towards it that is let go in steps (the frequencies are only known in ascending order, and far away bands would be
   taken for each other).
2. Φ3 whose mode conductivities are the reference's: Σ K_D (ln K/K_D)² / Σ K_D + 10 (ln κ/κ_D)² over the 786 parameters by
   L-BFGS, with the derivative of the solver.
3. The smallest change of the potential's last layer and readout that gives these (`wigner_jax.training.least_change`): on
   three cells of 64 atoms with every atom displaced by 0.03 Å, the potential's own forces plus what the changes of Φ2 and
   Φ3 make of them,

       F = F(θ0) - ΔΦ2 u - ½ ΔΦ3 u u;

   the same with ΔΦ2 alone and 0.003 Å in the smallest cells that hold the waves of the 512 atoms (non-diagonal supercells,
   Lloyd-Williams and Monserrat, Phys. Rev. B 92, 184301 (2015)), which the 64 atoms do not; and no stress at the DFT cell.
   These targets have no noise, so that the strength is the weakest that is reached, and all is done again from there
   (`--rounds`).

What was not trained on is recorded for the zero-shot and the last weights: κ_P and κ_C from 100 to 800 K, the error of the
heat capacity, frequencies and linewidths of every mode, κ at each model's own relaxed cell, other halides at their DFT
geometry, and forces on DFT frames of NaCl (PBEsol).

A step that is in `--folder` is not done again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import SHARED, environment, write_json
from tuning import add_student, dft_frames, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

MP_ID = "mp-23259"
WIDE = (100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0)  # K
PULLS = (0.1, 0.03, 0.01, 1e-3, 1e-4)  # of the frequencies' fit: cost of a relative change of Φ2's parameters
THIRD_PULL = 1e-3
WHOLE = 10.0  # weight of κ beside that of the modes
FLOOR = 1e-3  # of the mean mode conductivity, added to both sides of the logarithm
STIFFNESS = 500.0  # L-BFGS sees changes of Φ3 in units of 1/500 of its size
WEAK = 1e-6  # strength to try for
DISPLACEMENT, SMALL = 0.03, 0.003  # Å


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_student(parser)
    parser.add_argument("--iterations", type=int, default=15, help="of the fit of Φ3")
    parser.add_argument("--frames", type=int, default=3, help="cells that carry the force constants to the potential")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of the change of weights, each from where the last ended"
    )
    parser.add_argument("--held-out", nargs="*", default=["LiCl", "LiI", "NaBr"], help="rocksalt halides, by formula")
    parser.add_argument("--folder", type=Path, default=Path("runs/libr"), help="finished steps and the tuned model")
    parser.add_argument("--out", type=Path, help="JSON record")
    arguments = parser.parse_args()
    import jax

    jax.config.update("jax_enable_x64", True)
    run(arguments)


def run(arguments: argparse.Namespace) -> None:
    import jax
    import numpy as np
    from jax.flatten_util import ravel_pytree

    from wigner_jax.io.phonondb import read_phonondb, read_phonondb_structure
    from wigner_jax.plan.defaults import default_cells
    from wigner_jax.potentials import load_potential
    from wigner_jax.potentials.saved import save_potential
    from wigner_jax.training.adapter import adapt
    from wigner_jax.training.least_change import least_change, tangent

    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    data = SHARED / "data/phonondb"
    structures = data / "phononDB-PBE-structures.extxyz"
    references = read_phonondb(data / "kappas_phononDB_PBE_noNAC.json.gz")
    reference = references[MP_ID]
    halides = {r.name: r.mp_id for r in references.values() if r.space_group == 225}
    for name in arguments.held_out:
        if name not in halides:
            raise SystemExit(f"no rocksalt {name} in the reference: choose from {' '.join(sorted(halides))}")
    atoms = read_phonondb_structure(structures, MP_ID)
    start = load_potential(arguments.potential)
    energy, trained, frozen = adapt(start, arguments.train)
    cells, test = default_cells(atoms), dft_frames(start)[-3:]
    record: dict[str, Any] = {"benchmark": "finetune_libr", **environment(("wigner-jax", "jax", "numpy", "scipy"))}
    record["arguments"] = {k: v for k, v in vars(arguments).items() if k not in ("potential", "folder", "out")}
    record["potential"] = Path(arguments.potential).name
    record["trained numbers"] = sum(int(np.size(x)) for x in trained.values())
    record["DFT"] = {"kappa": float(reference.kappa[0])}

    def step(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        known = folder / f"{name}.npz"
        if not known.exists():
            begun = time.perf_counter()
            found = make()
            np.savez(known, seconds=time.perf_counter() - begun, **found)
        stored = dict(np.load(known))
        numbers = {k: float(v) for k, v in stored.items() if v.ndim == 0}
        record[name] = numbers
        print(name, "  ".join(f"{k} {v:.5g}" for k, v in numbers.items()), flush=True)
        if arguments.out is not None:
            write_json(arguments.out, record)
        return stored

    before = step("before", lambda: evaluate(start, cells, reference, WIDE))
    inverse = Inverse(start, cells, reference)
    second = step("second", lambda: inverse.second(before["second"]))["second"]
    third = step("third", lambda: inverse.third(second, before["third"], arguments.iterations))["third"]
    changes = (second - before["second"], third - before["third"])
    frames = [*carrying(start, cells, changes, arguments.frames), *waves(start, cells, changes[0])]
    still = unstressed(start, atoms)

    def say(text: str) -> None:
        print("  " + text, flush=True)

    def fitted(first: int, weights: Any) -> dict[str, Any]:
        """The weights after a round, as one array; `first` numbers the rounds."""
        rows = []
        for k, frame in enumerate(frames):
            made = lambda f=frame: {"rows": np.asarray(tangent(energy, weights, frozen, f))}  # noqa: E731
            rows.append(step(f"tangent{first}-{k}", made)["rows"])
        both = [*rows, np.asarray(tangent(energy, weights, frozen, still))]
        found = least_change(energy, weights, frozen, [*frames, still], WEAK, tangents=both, report=say)
        facts = {"strength": found.strength, "loss": found.losses[-1], "first_loss": found.losses[0]}
        return {"weights": ravel_pytree(found.trained)[0], **facts, "change": found.change}

    unflatten, weights = ravel_pytree(trained)[1], trained
    for k in range(arguments.rounds):
        weights = unflatten(step(f"round{k}", lambda k=k, w=weights: fitted(k, w))["weights"])
    now = start.with_params(jax.tree.map(np.asarray, energy.merge(weights, frozen)))
    after = step("after", lambda: evaluate(now, cells, reference, WIDE))
    for label, potential, stored in (("before", start, before), ("after", now, after)):
        record[label] |= force_errors(potential, start, test)
        record[label] |= {f"error_{k}": relative_error(stored[k], x) for k, x in (("second", second), ("third", third))}
        record[f"beyond {label}"] = beyond(stored, reference)
    if arguments.out is not None:
        write_json(arguments.out, record)
    record["model"] = str(save_potential(now, folder / "libr.nqx", arguments.potential).name)
    record["relaxed"] = relaxed(start, now, atoms, reference)
    for name in arguments.held_out:
        target = references[halides[name]]
        other = default_cells(read_phonondb_structure(structures, target.mp_id))
        for label, potential in (("before", start), ("after", now)):
            step(f"{name} {label}", lambda p=potential, c=other, t=target: evaluate(p, c, t))
        record[f"{name} DFT"] = {"kappa": float(target.kappa[target.at(300.0)])}
    if arguments.out is not None:
        write_json(arguments.out, record)
    print(json.dumps({k: v for k, v in record.items() if not k.startswith("beyond")}, indent=1))


# -- force constants from a reference's modes ----------------------------------------------------------------------------


class Inverse:
    """Force constants whose modes are the reference's, near given ones, in the symmetric parameters of `plan_fit`."""

    def __init__(self, potential: Any, cells: Any, reference: Any) -> None:
        import jax
        import numpy as np

        from wigner_jax.physics.force_constants import plan_force_constants
        from wigner_jax.solve import make_plan

        self.reference, self.plan = reference, make_plan(cells, reference.mesh)
        self.points = np.asarray(self.plan.mesh.irreducible)
        self.qpoints = np.asarray(self.plan.mesh.qpoints)[self.points]
        reference.require_mesh(self.plan.mesh.dims, self.qpoints)
        constants = plan_force_constants(potential, cells)[0]
        self.fits = jax.device_put((constants.fit2, constants.fit3))

    @staticmethod
    def parameters(fit: Any, phi: Any) -> Any:
        """c of Φ = C c."""
        from wigner_jax.physics.fit import apply, design_transpose, expand, normal_solve

        c = normal_solve(fit, design_transpose(fit, apply(fit, phi)))
        return c + normal_solve(fit, design_transpose(fit, apply(fit, phi - expand(fit, c))))

    def second(self, start: Any) -> dict[str, Any]:
        """Φ2 from the frequencies: residuals f|f| / 2f̄, whose derivative does not vanish at Γ's neighbours."""
        import jax
        import jax.numpy as jnp
        import numpy as np
        from scipy.optimize import least_squares

        from wigner_jax.physics.fit import expand
        from wigner_jax.physics.phonons import frequencies_and_eigenvectors

        fit, reference, plan = self.fits[0], self.reference, self.plan
        c0 = self.parameters(fit, jnp.asarray(start))
        size = float(jnp.linalg.norm(c0))
        weights = np.sqrt(reference.weights / reference.weights.sum())[:, None] * np.ones(
            reference.frequencies.shape[1]
        )
        weights[np.linalg.norm(self.qpoints, axis=1) < 1e-9, :3] = 0.0  # acoustic modes at Γ
        mean = float(np.sqrt(np.mean(reference.frequencies**2)))

        @jax.jit
        def frequencies(x: Any) -> Any:
            return frequencies_and_eigenvectors(
                jnp.asarray(self.qpoints), expand(fit, c0 + size * x), plan.crystal, plan.second, None
            )[0]

        slopes = jax.jit(jax.jacfwd(frequencies))

        def square(f: Any) -> Any:
            return f * np.abs(f) / (2 * mean)

        def residuals(x: Any) -> Any:
            return (weights * (square(np.asarray(frequencies(x))) - square(reference.frequencies))).ravel()

        def jacobian(x: Any) -> Any:
            scale = weights * np.abs(np.asarray(frequencies(x))) / mean
            return (scale[..., None] * np.asarray(slopes(x))).reshape(-1, len(x))

        x = np.zeros(len(c0))
        for pull in PULLS:
            x = least_squares(
                lambda x, p=pull: np.concatenate([residuals(x), p * x]), x,
                lambda x, p=pull: np.concatenate([jacobian(x), p * np.eye(len(x))]), max_nfev=60,
            ).x  # fmt: skip
            left = (weights > 0) * (np.asarray(frequencies(x)) - reference.frequencies)
            print(
                f"  pull {pull:g}: largest error {np.abs(left).max():.2e} THz, change {np.linalg.norm(x):.4f}",
                flush=True,
            )
        found = np.asarray(expand(fit, c0 + size * x))
        return {"second": found, "largest_error": np.abs(left).max(), "change": relative_error(found, start)}

    def third(self, second: Any, start: Any, iterations: int) -> dict[str, Any]:
        """Φ3 from the mode conductivities, with Φ2 and all that follows from it fixed."""
        import jax
        import jax.numpy as jnp
        import numpy as np
        from scipy.optimize import minimize

        from wigner_jax import metrics
        from wigner_jax.physics.conductivity import conductivity
        from wigner_jax.physics.fit import expand
        from wigner_jax.solve import Scattering, linewidths, phonons, reserve
        from wigner_jax.types import ForceConstants

        fit, plan, reference = self.fits[1], self.plan, self.reference
        c0 = self.parameters(fit, jnp.asarray(start))
        size = float(jnp.linalg.norm(c0))
        second, T = jnp.asarray(second), jnp.asarray(reference.temperatures)
        waves, scattering = phonons(plan, second), Scattering(plan.variances)
        broadening = reserve(plan, ForceConstants(second, jnp.asarray(start)), margin=0.5)
        expected = jnp.asarray(reference.mode_kappa[0])
        floor = FLOOR * float(jnp.mean(expected))

        def loss(x: Any) -> tuple[Any, tuple[Any, Any]]:
            fc = ForceConstants(second, expand(fit, c0 + size * x))
            gamma = linewidths(plan, fc, waves, T, broadening, scattering)
            result = conductivity(waves, gamma.total, plan.mesh, plan.crystal, T)
            modes = metrics.mode_kappa(result)[0]
            ratio = jnp.log((jnp.maximum(modes, 0) + floor) / (jnp.maximum(expected, 0) + floor))
            score = metrics.srme(modes[None], expected[None], reference.weights)[0]
            value = jnp.sum((jnp.maximum(expected, 0) + floor) * ratio**2) / jnp.sum(expected)
            value = value + WHOLE * jnp.log(jnp.sum(modes) / jnp.sum(expected)) ** 2
            return value, (score, metrics.average(result.kappa_TOT)[0])

        slope = jax.value_and_grad(loss, has_aux=True)
        best: dict[str, Any] = {"loss": np.inf}

        def evaluated(y: Any) -> tuple[float, Any]:
            (value, (score, kappa)), bar = slope(jnp.asarray(y / STIFFNESS))
            total = float(value) + THIRD_PULL * float(y @ y) / STIFFNESS**2
            print(f"  loss {float(value):.6f}  SRME {float(score):.4f}  κ {float(kappa):.4f}", flush=True)
            if total < best["loss"]:
                best.update(loss=total, x=y / STIFFNESS, srme=float(score), kappa=float(kappa))
            return total, np.asarray(bar) / STIFFNESS + 2 * THIRD_PULL * y / STIFFNESS**2

        minimize(
            evaluated, np.zeros(len(c0)), jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 30}
        )
        found = np.asarray(expand(fit, c0 + size * best.pop("x")))
        return {"third": found, "change": relative_error(found, start), **best}


# -- from force constants to the potential ---------------------------------------------------------------------------------


def carrying(potential: Any, cells: Any, changes: tuple[Any, Any], count: int) -> list[Any]:
    """Frames of the Φ3 supercell whose forces are the potential's plus those of the changes of Φ2 and Φ3."""
    import jax.numpy as jnp
    import numpy as np
    from ase import Atoms

    from wigner_jax.physics.fit import apply
    from wigner_jax.plan.patterns import plan_fit
    from wigner_jax.training.frames import labelled

    crystal, small = cells.crystal, cells.fc3
    lattice = np.asarray(crystal.lattice)
    positions = (np.asarray(crystal.positions)[small.atom] + small.cell) @ lattice
    numbers = np.asarray(crystal.numbers)[small.atom]
    second, third = folded(cells, changes[0]), jnp.asarray(changes[1])
    fit2, fit3 = (plan_fit(crystal, small, order)[0] for order in (2, 3))
    rng, frames = np.random.default_rng(0), []
    moves = rng.standard_normal((count, len(numbers), 3))
    moves *= DISPLACEMENT / np.linalg.norm(moves, axis=-1, keepdims=True)
    base = [Atoms(numbers, cell=small.matrix @ lattice, positions=positions + u, pbc=True) for u in moves]
    for frame, u in zip(labelled(base, potential, weights=(0.0, 1.0, 0.0)), moves, strict=True):
        one = apply(dataclasses.replace(fit2, patterns=jnp.asarray(u)[None, None]), second)[0]
        two = apply(dataclasses.replace(fit3, patterns=jnp.asarray(np.stack([u, u]))[None]), third)[0]
        frames.append(dataclasses.replace(frame, forces=frame.forces - np.asarray(one + 0.5 * two)))
    return frames


def waves(potential: Any, cells: Any, second: Any) -> list[Any]:
    """Frames of the smallest supercells that hold each wave of the Φ2 supercell, moved a little: the change of Φ2 alone."""
    import numpy as np
    from ase import Atoms

    from wigner_jax.plan.cells import make_supercell
    from wigner_jax.training.frames import labelled

    crystal, rng, groups = cells.crystal, np.random.default_rng(1), {}
    lattice = np.asarray(crystal.lattice)
    for matrix in wave_cells(cells):
        small = make_supercell(crystal, matrix)
        u = rng.standard_normal((small.n_atoms, 3))
        u *= SMALL / np.linalg.norm(u, axis=1, keepdims=True)
        positions = (np.asarray(crystal.positions)[small.atom] + small.cell) @ lattice
        numbers = np.asarray(crystal.numbers)[small.atom]
        atoms = Atoms(numbers, cell=small.matrix @ lattice, positions=positions + u, pbc=True)
        groups.setdefault(small.n_atoms, []).append((atoms, linear_forces(cells.fc2, second, small, u)))
    frames = []
    for group in groups.values():
        scales = (0.01, 0.05 * SMALL / DISPLACEMENT, 0.002)
        made = labelled([a for a, _ in group], potential, weights=(0.0, 1.0, 0.0), scales=scales)
        frames += [dataclasses.replace(f, forces=f.forces + F) for f, (_, F) in zip(made, group, strict=True)]
    return frames


def wave_cells(cells: Any) -> list[Any]:
    """Matrices of supercells, compact, that together hold every q of the Φ2 supercell up to symmetry."""
    import itertools

    import numpy as np
    from ase.geometry import minkowski_reduce

    from wigner_jax.plan.symmetry import space_group

    lattice, inverse = np.asarray(cells.crystal.lattice), np.linalg.inv(cells.fc2.matrix)
    count = round(abs(np.linalg.det(cells.fc2.matrix)))
    span = range(-count, count + 1) if count < 4 else range(-8, 9)
    qs = {
        tuple(np.rint((inverse @ n % 1) * 2 * count).astype(int) % (2 * count))
        for n in itertools.product(span, repeat=3)
    }
    rotations, found = space_group(cells.crystal).point_group(), []

    def whole(x: Any) -> bool:
        return bool(np.allclose(x, np.rint(x), atol=1e-6))

    def order(q: Any) -> int:
        return next(k for k in itertools.count(1) if whole(k * q))

    for q in sorted((np.array(q) / (2 * count) for q in qs), key=order, reverse=True):
        if any(whole(matrix @ (rotation.T @ q)) for matrix in found for rotation in rotations):
            continue
        n = order(q)
        divisors = [(a, b, n // (a * b)) for a in range(1, n + 1) for b in range(1, n + 1) if n % (a * b) == 0]
        matrix = next(
            m
            for a, b, c in divisors
            for x, y, z in itertools.product(range(b), range(c), range(c))
            if whole((m := np.array([[a, x, y], [0, b, z], [0, 0, c]])) @ q)
        )
        found.append(np.rint(minkowski_reduce(matrix @ lattice)[0] @ np.linalg.inv(lattice)).astype(int))
    return found


def linear_forces(large: Any, second: Any, small: Any, u: Any) -> Any:
    """-Φ u for displacements (N, 3) that repeat with a smaller supercell."""
    import numpy as np

    place = placing(small)
    index = {place(a, t): J for J, (a, t) in enumerate(zip(small.atom, small.cell, strict=True))}
    forces = np.zeros_like(u)
    for J, (i, t) in enumerate(zip(small.atom, small.cell, strict=True)):
        moved = [
            index[place(a, c)] for a, c in zip(large.atom, large.cell - large.cell[large.home[i]] + t, strict=True)
        ]
        forces[J] = -np.einsum("kab,kb->a", np.asarray(second)[i], u[moved])
    return forces


def placing(small: Any) -> Callable[[int, Any], tuple[int, ...]]:
    """(atom, cell) → the same for all periodic images in a supercell."""
    import numpy as np

    inverse = np.linalg.inv(small.matrix)

    def place(atom: int, cell: Any) -> tuple[int, ...]:
        inside = cell @ inverse
        inside = (inside - np.floor(inside + 1e-9)) @ small.matrix
        return (int(atom), *(int(x) for x in np.rint(inside)))

    return place


def folded(cells: Any, second: Any) -> Any:
    """Compact Φ2 of the Φ2 supercell in the smaller one of Φ3: images are summed. (n, N3, 3, 3)"""
    import numpy as np

    large, small = cells.fc2, cells.fc3
    place = placing(small)
    index = {place(a, t): J for J, (a, t) in enumerate(zip(small.atom, small.cell, strict=True))}
    result = np.zeros((len(second), small.n_atoms, 3, 3))
    for i in range(len(second)):
        shift = small.cell[small.home[i]] - large.cell[large.home[i]]
        for J in range(large.n_atoms):
            result[i, index[place(large.atom[J], large.cell[J] + shift)]] += np.asarray(second)[i, J]
    return result


def unstressed(potential: Any, atoms: Any) -> Any:
    """The DFT cell as a frame: no stress."""
    from wigner_jax.training.frames import frame_of

    still = atoms.copy()
    still.info["stress"] = [0.0] * 6
    return frame_of(still, potential, (0.0, 0.0, 0.1))


# -- what was reached ------------------------------------------------------------------------------------------------------


def evaluate(potential: Any, cells: Any, reference: Any, temperatures: Any = ()) -> dict[str, Any]:
    """Force constants, κ, modes, linewidths and C_V in the reference's setting; κ at other temperatures."""
    import jax
    import numpy as np

    from wigner_jax import metrics
    from wigner_jax.physics.force_constants import force_constants
    from wigner_jax.potentials import graph_of
    from wigner_jax.solve import make_plan, solve
    from wigner_jax.training.frames import predict

    plan = make_plan(cells, reference.mesh)
    fc = jax.tree.map(np.asarray, force_constants(potential, cells, chunk=1)[0])
    solution = solve(plan, fc, reference.temperatures, allow_imaginary=True)
    points = np.asarray(plan.mesh.irreducible)
    sre, srme = metrics.srme_of(solution, plan.mesh, reference)
    crystal = cells.crystal
    lattice = np.asarray(crystal.lattice)
    graph, _ = graph_of(lattice, np.asarray(crystal.positions) @ lattice, np.asarray(crystal.numbers), potential)
    weights, expected = reference.weights[:, None], reference.heat_capacity[0]
    capacity = np.asarray(solution.conductivity.heat_capacity)[0]
    found = {
        "second": fc.second, "third": fc.third,
        "f": np.asarray(solution.phonons.frequencies)[points],
        "linewidths": np.asarray(solution.linewidths.total)[0],
        "kappa": metrics.average(solution.conductivity.kappa_TOT)[0], "sre": sre[0], "srme": srme[0],
        "capacity_error": np.sum(weights * capacity) / np.sum(weights * expected) - 1,
        "stress": np.trace(predict(potential.energy, potential.params, None, graph)[2]) / 3 * 160.2176634,  # GPa
    }  # fmt: skip
    if temperatures:
        wide = solve(plan, fc, temperatures, allow_imaginary=True).conductivity
        found |= {"temperatures": temperatures, "kappa_P": metrics.average(wide.kappa_P)}
        found["kappa_C"] = metrics.average(wide.kappa_C)
    found["frequency"] = metrics.frequency_distance(found["f"], reference.frequencies, reference.weights)
    return {k: np.asarray(v) for k, v in found.items()}


def beyond(stored: dict[str, Any], reference: Any) -> dict[str, Any]:
    """What was not trained on, as JSON values: κ(T), heat capacity, the modes' frequencies and linewidths in THz."""
    import numpy as np

    names = ("temperatures", "kappa_P", "kappa_C", "capacity_error")
    numbers = {k: np.asarray(stored[k], float).round(6).tolist() for k in names}
    modes = {"frequencies": stored["f"], "linewidths": stored["linewidths"], "frequencies_DFT": reference.frequencies}
    return {**numbers, **{k: np.asarray(v, float).round(5).tolist() for k, v in modes.items()}}


def force_errors(now: Any, start: Any, test: list[Any]) -> dict[str, float]:
    """Root mean square of force errors on the DFT frames, and of the shift from the zero-shot model, eV/Å."""
    import numpy as np

    from wigner_jax.training.frames import force_error, predict

    moved = [
        dataclasses.replace(f, forces=np.asarray(predict(start.energy, start.params, None, f.graph)[1])) for f in test
    ]
    return {
        "force_error": force_error(now.energy, now.params, None, test),
        "force_shift": force_error(now.energy, now.params, None, moved),
    }


def relaxed(start: Any, now: Any, atoms: Any, reference: Any) -> dict[str, dict[str, float]]:
    """κ and SRME by the benchmark's protocol: at each model's own relaxed geometry."""
    from wigner_jax.plan.defaults import default_cells
    from wigner_jax.relax import relax

    result = {}
    for label, potential in (("before", start), ("after", now)):
        moved, _ = relax(atoms, potential)
        found = evaluate(potential, default_cells(moved), reference)
        result[label] = {"a": float(moved.cell[0, 0]), **{k: float(found[k]) for k in ("kappa", "sre", "srme")}}
    return result


if __name__ == "__main__":
    main()
