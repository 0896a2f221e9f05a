"""Training on energies, forces and stresses: that batches change nothing, that it learns, can be killed, what it refuses.

Long, because one small data set serves all of its tests.
"""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import ase.db
import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from ase.build import bulk

from wigner_jax import WignerCalculator
from wigner_jax.cli import app as cli
from wigner_jax.errors import InputError
from wigner_jax.potentials.base import Potential
from wigner_jax.potentials.mace.files import load_mace
from wigner_jax.potentials.registry import load_potential
from wigner_jax.training.dataset import label_keys, read_structures, train_validation_split
from wigner_jax.training.frames import SCALES, frame_loss, frame_of
from wigner_jax.training.frames import predict as predict_one
from wigner_jax.training.model import Model
from wigner_jax.training.on_forces.batches import (
    Batches,
    batch_loss,
    errors,
    predict,
    require_batchable,
    structure_losses,
)
from wigner_jax.training.on_forces.fit import TrainSettings, fit, validate
from wigner_jax.training.on_forces.initial import initial, usually_fixed
from wigner_jax.training.optimizers import make_optimizer, warm_cosine
from wigner_jax.training.parameters import adapt
from wigner_jax.training.train_state import Callbacks

MODEL = Path(__file__).parents[1] / "data/mace_reference/mace-mp-0-small.model"


@pytest.fixture(scope="module", autouse=True)
def _fast_compilation():
    """Correctness does not need optimised machine code, whose compilation is most of the time of these tests."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """E_i = E0[z_i] + ½ Σ_j d (1 - r_ij/4 Å)² (1 + h Σ_k(1 - r_ik/4 Å)²): many-body, and compiled in no time."""

    def __call__(self, params, graph):
        return jnp.sum(self.site_energies(params, graph))

    def site_energies(self, params, graph):
        r = jnp.sqrt(jnp.sum(graph.vectors() ** 2, axis=-1))
        near = jnp.where(graph.edge_mask, (1 - r / 4) ** 3, 0)
        density = jax.ops.segment_sum(near, graph.receivers, graph.n_atoms)
        return jnp.asarray(params["E0"])[graph.species] + 0.5 * params["d"] * density * (1 + params["h"] * density)


@pytest.fixture(scope="module")
def potential():
    return load_mace(MODEL)


@pytest.fixture(scope="module")
def pairs():
    params = {"E0": np.array([-1.0, 2.0, -3.0]), "d": np.array(5.0), "h": np.array(-0.3)}
    return Potential(params, Pairs(), "pairs", (8, 12, 14), 4.0)


def silicon(count: int, seed: int = 0) -> list[ase.Atoms]:
    """Rattled and strained silicon of two and four atoms with Tersoff's energy, forces and stress."""
    calculator = WignerCalculator(load_potential("tersoff-1989"))
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        atoms = bulk("Si", a=5.432) * ((1, 1, 2) if k % 3 == 0 else (1, 1, 1))
        atoms.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + 0.02 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += 0.08 * rng.standard_normal(atoms.positions.shape)
        atoms.calc = calculator
        energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
        atoms.calc = None
        atoms.info |= {"REF_energy": energy, "REF_stress": stress}
        atoms.arrays["REF_forces"] = forces
        found.append(atoms)
    return found


KEYS = {name: f"REF_{name}" for name in ("energy", "forces", "stress")}


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# --- batches ---------------------------------------------------------------------------------------------------------


def mixed(potential) -> list:
    """Frames of one to eight atoms of several elements, with random labels, some of them missing."""
    structures = [
        bulk("Si", a=5.3), bulk("MgO", "rocksalt", a=4.3), bulk("Mg", "bcc", a=3.6), bulk("Si", a=5.5, cubic=True),
        bulk("MgO", "rocksalt", a=4.2) * (1, 1, 2),
    ]  # fmt: skip
    rng, frames = np.random.default_rng(1), []
    for k, atoms in enumerate(structures):
        N = len(atoms)
        atoms.positions += 0.1 * rng.standard_normal((N, 3))
        atoms.info |= {"energy": rng.normal(), "stress": rng.standard_normal(6)}
        atoms.arrays["forces"] = rng.standard_normal((N, 3))
        if k != 1:
            atoms.info["H"] = rng.standard_normal(9 * N * N)
        frames.append(frame_of(atoms, potential, (1.0, 2.0, 0.0 if k == 2 else 3.0), keys={"hessian": "H"}))
    return frames


@pytest.mark.parametrize("name", ["pairs", "potential"])
def test_a_batch_equals_its_structures(request, name):
    """Energies, forces and stresses; of every structure once, whatever the order."""
    model = request.getfixturevalue(name)
    frames, seen = mixed(model)[: 5 if name == "pairs" else 3], []
    batches = Batches(frames, 3 if name == "pairs" else 2, np.float64)
    assert batches.count == 2
    edges = max(len(f.graph.senders) for f in frames)
    for batch in batches([3, 1]):
        E, F, S, _ = map(np.asarray, jax.jit(predict, static_argnums=0)(model.energy, model.params, batch))
        start = 0
        for b, N in enumerate(np.asarray(batch.atoms)):
            own = slice(start, start := start + N)
            for k in [k for k, f in enumerate(frames) if N and f.energy / N == batch.energy[b]]:
                seen.append(k)
                if name != "pairs" and N != 2:
                    continue  # another compilation
                e, f, s = predict_one(model.energy, model.params, None, frames[k].graph.padded(edges, 0))
                np.testing.assert_allclose(E[b] * N, e, rtol=1e-10)
                np.testing.assert_allclose(F[own], f, rtol=1e-10, atol=1e-10 * np.abs(f).max())
                np.testing.assert_allclose(S[b], s, rtol=1e-10, atol=1e-10 * np.abs(s).max())
        assert np.abs(F[start:]).max(initial=0) == 0
    assert sorted(seen) == list(range(len(frames)))


def test_the_loss_is_the_mean_over_structures(pairs):
    """With columns of dense Hessians, and labels that are missing."""
    frames = mixed(pairs)[:3]
    run = jax.jit(
        lambda batch: (batch_loss(pairs.energy, pairs.params, batch), errors(pairs.energy, pairs.params, batch))
    )
    for batch in Batches(frames, 2, np.float64, columns=2, hessian=0.5)([3, 1]):
        expected, start = [], 0
        for b, N in enumerate(np.asarray(batch.atoms)):
            own = slice(start, start := start + N)
            for frame in [f for f in frames if N and f.energy / N == batch.energy[b]]:
                expected.append(float(frame_loss(pairs.energy, pairs.params, None, frame)))
                u, target = (np.asarray(x)[:, own].reshape(2, -1) for x in (batch.vectors, batch.columns))
                if frame.hessian is not None:
                    assert np.array_equal(np.sort(u)[:, -2:], [[0, 1], [0, 1]])
                    np.testing.assert_array_equal(target, u @ frame.hessian.T)
                    off = u @ dense_hessian(pairs, frame.graph) - target
                    expected[-1] += 0.5 * np.mean(np.sum(off**2, axis=1) / np.sum(target**2, axis=1))
        value, found = run(batch)
        np.testing.assert_allclose(value, np.mean(expected), rtol=1e-10)
        losses = structure_losses(found, batch)
        assert np.all((np.asarray(losses) > 0) == (batch.atoms > 0))


@jax.jit
def dense_hessian(potential, graph):
    x = jnp.asarray(graph.positions)
    return jax.hessian(lambda y: potential.energy(potential.params, graph.at(y.reshape(x.shape))))(x.ravel())


def test_batches_are_functions_of_their_key(pairs):
    batches = Batches(mixed(pairs), 2, np.float64, columns=1, hessian=1.0)
    whole = list(batches([5, 0]))
    assert same(list(batches([5, 0], start=1)), whole[1:])
    assert not same(list(batches([5, 1])), whole)
    assert len({jax.tree.map(np.shape, jax.tree.leaves(b)).__repr__() for b in whole}) == 1
    assert Batches(mixed(pairs), 99, columns=3).columns == 0
    with pytest.raises(InputError, match="lists of angles"):
        require_batchable(load_potential("tersoff-1989"))


@pytest.mark.parametrize("name", ["nequix-mp-1.nqx", "checkpoint_sevennet_0.pth"])
@pytest.mark.slow
def test_batches_of_other_models(shared, name):
    potential = load_potential(shared / "weights" / name)
    frames = mixed(potential)
    for batch in Batches(frames, 3, np.float64)():
        E, F, S, _ = map(np.asarray, jax.jit(predict, static_argnums=0)(potential.energy, potential.params, batch))
        start = 0
        for b, N in enumerate(np.asarray(batch.atoms)):
            for frame in frames:
                if N and frame.energy / N == batch.energy[b]:
                    e, f, s = predict_one(potential.energy, potential.params, None, frame.graph)
                    np.testing.assert_allclose(E[b] * N, e, rtol=1e-9)
                    np.testing.assert_allclose(F[start : start + N], f, atol=1e-9 * np.abs(f).max())
                    np.testing.assert_allclose(S[b], s, atol=1e-9 * np.abs(s).max())
            start += N
        slope = jax.jit(jax.grad(batch_loss, argnums=1), static_argnums=0)(potential.energy, potential.params, batch)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(slope))


# --- the start -------------------------------------------------------------------------------------------------------


def test_initial_weights(potential):
    """Energies of atoms are exact for labels that are sums over atoms; the scale is the force; the rest is drawn by the seed."""
    structures = [bulk("MgO", "rocksalt", a=4.2), bulk("Mg", "bcc", a=3.6), bulk("Si", a=5.43)]
    E0 = {8: -3.0, 12: 1.5, 14: -7.0}
    frames = []
    for atoms in structures:
        atoms.info["energy"] = sum(E0[z] for z in atoms.numbers)
        atoms.arrays["forces"] = np.full((len(atoms), 3), 0.3)
        frames.append(frame_of(atoms, potential, (1.0, 1.0, 0.0)))
    start = initial(potential, frames, 4)
    np.testing.assert_allclose(np.ravel(start.params["atomic_energies_fn.atomic_energies"]), [-3, 1.5, -7], atol=1e-12)
    np.testing.assert_allclose(start.params["scale_shift.scale"], 0.3)
    assert same(start.params, initial(potential, frames, 4).params)
    name = "interactions.0.linear_up.weight"
    assert not np.array_equal(start.params[name], initial(potential, frames, 5).params[name])
    assert "scale_shift.scale" in usually_fixed(potential)
    assert name not in usually_fixed(potential)


# --- data ------------------------------------------------------------------------------------------------------------


def test_databases_and_names_of_labels(tmp_path):
    structures = silicon(3)
    for k, atoms in enumerate(structures):
        atoms.info["REF_hessian"] = np.random.default_rng(k).standard_normal(9 * len(atoms) ** 2)
    ase.io.write(tmp_path / "a.extxyz", structures)
    with ase.db.connect(tmp_path / "a.db") as db:
        for atoms in structures:
            db.write(
                atoms, REF_energy=atoms.info["REF_energy"],
                data={key: {**atoms.info, **atoms.arrays}[key] for key in ("REF_forces", "REF_stress", "REF_hessian")},
            )  # fmt: skip
    potential = load_mace(MODEL)
    both = [read_structures(tmp_path / name) for name in ("a.extxyz", "a.db")]
    keys = {**KEYS, "hessian": "REF_hessian"}
    assert label_keys(both[0], {}) == label_keys(both[1], {}) == keys
    for one, other in zip(*both, strict=True):
        a, b = (frame_of(x, potential, (1, 1, 1), keys=keys) for x in (one, other))
        for name in keys:
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=1e-7)
    with pytest.raises(InputError, match="no structure has 'E'; they have"):
        label_keys(structures, {"energy": "E"})
    train, held = train_validation_split(list(range(20)), 0.25, 3)
    assert (len(train), len(held), sorted(train + held)) == (15, 5, list(range(20)))


# --- the loop --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def problem(pairs):
    """A model, batches, and an optimizer."""
    frames = [frame_of(a, pairs, (1, 1, 1), keys=KEYS) for a in silicon(7)]
    energy, trained, frozen = adapt(pairs, freeze=["E0"])
    trained, frozen = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (trained, frozen))
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.amsgrad(warm_cosine(0.01, 6, 2, 0.0)))
    return Model(energy, trained, frozen), optimizer, (Batches(frames[2:], 2), Batches(frames[:2], 2))


class Lost:
    """Batches that end a run at the n-th."""

    def __init__(self, batches: Batches, n: int) -> None:
        self.batches, self.left, self.count = batches, n, batches.count

    def __call__(self, *arguments):
        for batch in self.batches(*arguments):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            yield batch


def test_an_interrupted_run_continues_bit_for_bit(problem, tmp_path):
    """In the middle of an epoch and at its end, with checkpoints after every step; other settings are refused."""
    model, optimizer, data = problem
    settings = TrainSettings(steps=6, ema=0.9, seed=2, interval=0.0)
    run = partial(fit, model, optimizer, report=lambda _: None)
    whole = run(data, settings)
    assert (whole.step, len(whole.history)) == (6, 2)
    for n in (4, 1):
        with pytest.raises(KeyboardInterrupt):
            run((Lost(data[0], n), data[1]), settings, tmp_path, signature={"clip": 1})
    with pytest.raises(InputError, match="other settings: clip was 1, now 2"):
        run(data, settings, tmp_path, signature={"clip": 2})
    state = run(data, settings, tmp_path, signature={"clip": 1})
    for name in ("params", "opt_state", "average", "best"):
        assert same(getattr(state, name), getattr(whole, name)), name
    assert state.history == whole.history
    assert {x.dtype for x in jax.tree.leaves(state.best)} == {np.dtype("float32")}


def test_a_loss_that_is_not_finite_is_refused(problem, tmp_path):
    model, _, data = problem
    with pytest.raises(InputError, match=r"not finite .* lower learning_rate"):
        fit(model, optax.sgd(1e30), data, TrainSettings(steps=6), tmp_path, report=lambda _: None)
    assert not (tmp_path / "checkpoint.npz").exists()


def test_callbacks_and_early_stopping(problem, tmp_path):
    """With a rate of zero nothing becomes better after the first epoch; every epoch is told when its checkpoint is there."""
    model, _, data = problem
    called = []

    def after(state) -> None:
        assert (tmp_path / "checkpoint.npz").exists()
        called.append(state.epoch)

    callbacks, settings = Callbacks(after_epoch=after), TrainSettings(steps=30, patience=2)
    for _ in range(2):
        state = fit(model, optax.sgd(0.0), data, settings, tmp_path, report=lambda _: None, callbacks=callbacks)
        assert (state.epoch, state.best_epoch) == (3, 0)
    assert called == [1, 2, 3, 3]


def test_errors_of_the_table(problem):
    """Means over structures, atoms and components, in meV, here of a model that predicts nothing."""
    _, _, (_, checks) = problem
    frames = [frame for rank in checks.ranks for frame in rank]

    def evaluate(batch):
        found = jax.jit(errors, static_argnums=0)(Constant(), None, batch)
        return found, structure_losses(found, batch)

    row = validate(evaluate, checks)
    forces = np.concatenate([f.forces.ravel() for f in frames])
    energies = np.array([f.energy / f.graph.n_atoms for f in frames])
    assert row["forces_mae"] == pytest.approx(1e3 * np.abs(forces).mean(), rel=1e-5)
    assert row["forces_rmse"] == pytest.approx(1e3 * np.sqrt(np.mean(forces**2)), rel=1e-5)
    assert row["energy_mae"] == pytest.approx(1e3 * np.abs(energies).mean(), rel=1e-5)
    assert row["stress_rmse"] == pytest.approx(1e3 * np.sqrt(np.mean([f.stress**2 for f in frames])), rel=1e-5)
    assert "hessian" not in row
    squares = energies**2 / SCALES[0] ** 2, np.array([np.mean(f.forces**2) for f in frames]) / SCALES[1] ** 2
    stress = np.array([np.mean(f.stress**2) for f in frames]) / SCALES[2] ** 2
    assert row["validation"] == pytest.approx(np.mean(sum(squares) + stress), rel=1e-5)


@dataclasses.dataclass(frozen=True)
class Constant:
    """No energy at all."""

    def site_energies(self, params, graph):
        return 0.0 * graph.positions[:, 0]


def test_rates():
    rates = np.array([float(warm_cosine(2.0, 100, 10, 0.1)(t)) for t in range(101)])
    np.testing.assert_allclose(rates[0], 0.2)
    np.testing.assert_allclose(rates[-1], 0.2)
    assert rates.argmax() == 9
    assert {float(warm_cosine(2.0, 100, 0, 0.1, cosine=False)(t)) for t in (0, 50, 200)} == {2.0}


def test_schedules_of_optax():
    """Any schedule multiplies the rate; sgd's update is the rate times the gradient."""
    schedule = {
        "name": "exponential_decay",
        "warmup": 4,
        "final": 0.0,
        "init_value": 1.0,
        "transition_steps": 1,
        "decay_rate": 0.5,
    }
    section = {"name": "sgd", "learning_rate": 2.0, "schedule": schedule, "clip": 0.0}
    optimizer = make_optimizer(section, 10)
    state, rates = optimizer.init(jnp.ones(())), []
    for _ in range(6):
        update, state = optimizer.update(jnp.ones(()), state)
        rates.append(-float(update))
    np.testing.assert_allclose(rates, [2 * min(1, (t + 1) / 4) * 0.5**t for t in range(6)])


# --- the command -----------------------------------------------------------------------------------------------------

CONFIG = {
    "potential": str(MODEL), "from_scratch": True, "output": "run",
    "data": {"train": "train.extxyz", "validation": 0.2}, "batch": 4, "epochs": 10,
    "optimizer": {"learning_rate": 0.1}, "ema": 0.9, "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data")
    ase.io.write(path / "train.extxyz", silicon(30))
    return path


def written(folder: Path, **changes) -> str:
    """A configuration; data_train stands for the key train of data; None takes a key away."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    for key, value in changes.items():
        table, name = (config["data"], key[5:]) if key.startswith("data_") else (config, key)
        table[name] = value
        if value is None:
            del table[name]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_the_command(folder, capsys, monkeypatch):
    """Silicon by Tersoff: errors fall, the saved model has them, and a finished run is not overwritten."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    assert cli.main(["train", written(folder)]) == 0
    table = capsys.readouterr().out
    tuned = load_potential(folder / "run/model.model")
    rows = list(csv.DictReader((folder / "run/history.csv").read_text().splitlines()))
    _, held = train_validation_split(read_structures(folder / "train.extxyz"), 0.2, 1)
    best = min(rows, key=lambda row: float(row["validation"]))
    labels = 1e3 * np.sqrt(np.mean(np.concatenate([a.arrays["REF_forces"] for a in held]) ** 2))
    assert float(best["forces_rmse"]) < 0.25 * labels
    assert f"{float(best['forces_rmse']):.2f}" in table
    (batch,) = Batches([frame_of(a, tuned, (1, 1, 1), keys=KEYS) for a in held], 6, np.float64)()
    found = batch.sums(jax.jit(tuned.energy.site_energies)(tuned.params, batch.graph)) / batch.atoms - batch.energy
    assert 1e3 * np.sqrt(np.mean(found**2)) == pytest.approx(float(best["energy_rmse"]), rel=1e-3)
    assert cli.main(["train", written(folder), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("written: ")
    assert out.count("\n") == 1
    assert cli.main(["train", written(folder, optimizer={"learning_rate": 0.02})]) == 2
    assert "other settings: optimizer.learning_rate was 0.1, now 0.02: set it back" in capsys.readouterr().err
    ase.io.write(folder / "more.extxyz", silicon(1, 9))
    assert cli.main(["train", written(folder, data_train=["train.extxyz", "more.extxyz"])]) == 2
    error = capsys.readouterr().err
    assert "the structures of data changed" in error
    assert "data.train" not in error
    lora = {"layers": ["interactions.1.linear_up.weight"], "rank": 1}
    short = {"from_scratch": None, "epochs": None, "steps": 1, "lora": lora}
    assert cli.main(["train", written(folder, **short), "--restart"]) == 0
    before, after = load_potential(MODEL), load_potential(folder / "run/model.model")
    changed = [k for k, v in before.params.items() if not np.allclose(v, after.params[k], rtol=1e-6)]
    assert changed == lora["layers"]
    assert len((folder / "run/history.csv").read_text().splitlines()) == 2


BAD = {
    "unknown key": ({"epoch": 3}, r"unknown key epoch: did you mean epochs\?"),
    "misplaced keys": (
        {"clip": 1.0, "learning_rate": 1, "schedule": "cosine", "materials": []},
        "clip belongs under optimizer: optimizer.clip; learning_rate belongs under optimizer: optimizer.learning_rate;"
        " unknown key materials: `materials` is a key of `finetune`; schedule belongs under optimizer: optimizer.schedule"),
    "unknown key of data": ({"data_file": "x"}, "data.file is called data.train"),
    "unknown key of loss": ({"loss": {"force": 1}}, "unknown key loss.force: did you mean forces"),
    "no potential": ({"potential": None}, "needs the key potential"),
    "no data": ({"data_train": None}, "data needs the key train"),
    "missing file": ({"data_train": "none.extxyz"}, r"data.train: no file .*none.extxyz"),
    "no structures": ({"data_train": []}, "data.train names no file"),
    "unreadable file": ({"data_train": "config.yaml"}, r"data.train: ASE does not know the format of"),
    "missing validation file": ({"data_validation": ["none.db"]}, r"data.validation: no file"),
    "bad share": ({"data_validation": 1.5}, "data.validation must be a file, or a share"),
    "nothing left": ({"data_validation": 0.99}, "data.validation: 30 structures leave nothing"),
    "unknown label": ({"data_forces": "DFT"}, "data: forces: no structure has 'DFT'"),
    "label that is no name": ({"data_forces": 3}, "data.forces must be the name of a label"),
    "label of a wrong shape": ({"data_energy": "REF_stress"}, r"data.train: structure \d+ of train.extxyz: .*shape"),
    "no such labels": ({"loss": {"hessian": 1.0}}, "loss.hessian: no structure has REF_hessian"),
    "all weights 0": ({"loss": {"energy": 0, "forces": 0, "stress": 0}}, "weight above 0"),
    "unknown potential": ({"potential": "maace"}, "potential: unknown potential"),
    "angles": ({"potential": "tersoff-1989"}, "potential: tersoff-1989 needs lists of angles"),
    "no number": ({"optimizer": {"learning_rate": "fast"}}, "optimizer.learning_rate must be a number"),
    "no integer": ({"batch": 2.5}, "batch must be an integer"),
    "no flag": ({"from_scratch": "yes please"}, "from_scratch must be true or false"),
    "two lengths": ({"steps": 3}, "epochs and steps were both given"),
    "bad precision": ({"precision": "float16"}, "precision must be float32 or float64"),
    "bad schedule": ({"optimizer": {"schedule": "linear"}}, "optimizer.schedule.name: optax has no 'linear'"),
    "bad warm-up": ({"optimizer": {"schedule": {"warmup": -1}}}, "optimizer.schedule.warmup must be an integer"),
    "bad optimizer": ({"optimizer": {"name": "adamm"}}, "optimizer.name: optax has no 'adamm'"),
    "bad average": ({"ema": 1.0}, "ema must be at least 0 and below 1"),
    "nothing matches": ({"freeze": ["X*"]}, "freeze: no parameter"),
    "output is a file": ({"output": "train.extxyz"}, "output: .* is not a folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_configurations_are_one_line_that_names_the_key(folder, capsys, monkeypatch, name):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    changes, text = BAD[name]
    before = sorted(p.name for p in folder.iterdir())
    assert cli.main(["train", written(folder, **changes)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(text, error), error
    assert {p.name for p in folder.iterdir()} <= {*before, "config.yaml"}


@pytest.mark.slow
def test_killed_and_continued(folder, tmp_path, monkeypatch):
    """kill -9 at random moments; the final model and history are those of an undisturbed run, bit for bit."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache"))

    def command(output: str) -> list[str]:
        config = Path(written(folder, output=str(tmp_path / output), epochs=60)).rename(tmp_path / f"{output}.yaml")
        config.write_text(config.read_text().replace("train.extxyz", str(folder / "train.extxyz")))
        return [sys.executable, "-m", "wigner_jax", "train", str(config), "--threads", "1"]

    subprocess.run(command("a"), check=True, capture_output=True)
    rng, resumed, checkpoint = np.random.default_rng(), command("b"), tmp_path / "b/checkpoint.npz"
    for _ in range(3):
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(resumed, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == seen):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    subprocess.run(resumed, check=True, capture_output=True)
    for name in ("model.model", "history.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
