"""Fine-tuning: that it learns, that it can be killed, what it refuses, and what it writes.

Long, because one small run serves all of its tests.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import yaml
from ase.build import bulk

from wigner_jax.cli import app as cli
from wigner_jax.crystal.defaults import default_supercells
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.errors import InputError
from wigner_jax.io.kappa_hdf5 import read_kappa_hdf5
from wigner_jax.io.phonondb import write_phonondb
from wigner_jax.io.structures import read_structure
from wigner_jax.potentials.mace.files import load_mace
from wigner_jax.potentials.registry import load_potential
from wigner_jax.potentials.saving import save_potential
from wigner_jax.reference import Reference
from wigner_jax.training.frames import force_error, frame_loss, frame_of, frame_value_and_grad, labelled, predict
from wigner_jax.training.model import Model
from wigner_jax.training.on_conductivity import loop, reproduce
from wigner_jax.training.on_conductivity.config import build
from wigner_jax.training.on_conductivity.loop import FinetuneSettings, Task, finetune
from wigner_jax.training.on_conductivity.material import make_material
from wigner_jax.training.on_conductivity.targets import Target, make_loss
from wigner_jax.training.parameters import adapt, matrices
from wigner_jax.training.train_state import Callbacks

MACE = Path(__file__).parents[1] / "data/mace_reference/mace-mp-0-small.model"
KAPPA = Target("kappa", 1.0, {"value": 1.1})  # on these coarse meshes silicon has 0.9


@pytest.fixture(scope="module")
def tersoff():
    return load_potential("tersoff-1989")


def silicon(potential, name: str = "Si", a: float = 5.432, targets=(KAPPA,), train: bool = True) -> Task:
    cells = supercells_from_atoms(bulk("Si", a=a), (2, 2, 2), (2, 2, 2))
    material = make_material(name, cells, potential, (2, 2, 2))
    return Task(material, make_loss(material, targets), train)


@pytest.fixture(scope="module")
def tasks(tersoff):
    return [silicon(tersoff), silicon(tersoff, "wide", 5.45), silicon(tersoff, "check", 5.44, train=False)]


def model_of(potential, names=("A", "B", "beta", "c", "h")) -> Model:
    return Model(*adapt(potential, train=names))


def same(a, b) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# --- the loop --------------------------------------------------------------------------------------------------------


def relative(rate: float) -> optax.GradientTransformation:
    """Adam for parameters of very different sizes: updates in units of the parameter."""
    scale = optax.stateless(lambda u, p: jax.tree.map(lambda x, y: x * jnp.abs(y), u, p))
    before = optax.stateless(lambda g, p: jax.tree.map(lambda x, y: x * jnp.abs(y), g, p))
    return optax.chain(before, optax.adam(rate), scale)


def test_it_learns_and_reports(tersoff, tasks, capsys):
    settings = FinetuneSettings(epochs=8, accumulate=2, ema=0.9, l2sp=1e-8)
    state = finetune(model_of(tersoff), tasks, relative(3e-3), settings)
    losses = [row["loss"] for row in state.history]
    assert losses[-1] < 0.5 * losses[0]
    assert state.step == 8
    assert all(row["check.kappa"] > 0 for row in state.history)
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 9
    assert "Si: κ" in table[0]
    assert "check (val): κ" in table[0]
    assert not same(state.average, state.params)
    assert (
        repr(state)
        == f"TrainState(step 8, 8 epochs done, best epoch {state.best_epoch} (score {state.best_score:.6g}), 15 numbers are trained)"
    )


def interrupted(task: Task, calls: int) -> Task:
    """The same task, but the run is lost at its n-th evaluation."""
    count = iter(range(calls))

    def loss(solution):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return task.loss(solution)

    return dataclasses.replace(task, loss=loss)


def test_an_interrupted_run_continues_bit_for_bit(tersoff, tasks, tmp_path):
    """In the middle of an epoch, with every part of the state in use."""
    settings = FinetuneSettings(epochs=3, ema=0.9, l2sp=1e-6, seed=5)
    frames = labelled([bulk("Si", a=5.5, cubic=True)], tersoff)
    optimizer = relative(1e-3)
    whole = finetune(model_of(tersoff), tasks, optimizer, settings, (frames, []), report=lambda _: None)
    lost = [interrupted(tasks[0], 2), *tasks[1:]]
    with pytest.raises(KeyboardInterrupt):
        finetune(model_of(tersoff), lost, optimizer, settings, (frames, []), tmp_path, report=lambda _: None)
    said: list[str] = []
    state = finetune(model_of(tersoff), tasks, optimizer, settings, (frames, []), tmp_path, report=said.append)
    assert "continued" in said[0]
    for name in ("params", "opt_state", "average", "best"):
        assert same(getattr(state, name), getattr(whole, name)), name
    assert state.history == whole.history


def test_rejected_steps(tersoff, tasks):
    """A rate that wrecks the crystal: modes become imaginary, the step is taken back by halves, nothing is NaN."""
    said: list[str] = []
    state = finetune(
        model_of(tersoff), tasks[:1], relative(0.5), FinetuneSettings(epochs=3, max_rejections=20), report=said.append
    )
    assert state.rejected > 0
    assert any("update halved" in line for line in said)
    assert all(np.isfinite(row["loss"]) for row in state.history)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert state.damping < 1


def test_an_unstable_start_is_made_stable_by_the_penalty(tersoff):
    """Imaginary modes from the beginning: κ has no gradient by them, the penalty has."""
    soft = tersoff.with_params({**tersoff.params, "h": np.array([-0.57058, 0.5, -0.43884])})
    task = silicon(soft, targets=(Target("imaginary", 1.0, {"floor": 1.0}),))
    fc = task.material.force_constants(soft.energy, soft.params)
    assert np.asarray(task.material.solution(fc).phonons.frequencies).min() < -1
    state = finetune(
        model_of(soft, ("h",)), [task], optax.adam(0.05), FinetuneSettings(epochs=14), report=lambda _: None
    )
    losses = [row["loss"] for row in state.history]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.5 * losses[0]


def test_early_stopping_and_the_best_weights(tersoff, tasks):
    """With a rate of zero nothing improves after the first epoch."""
    settings = FinetuneSettings(epochs=9, patience=2)
    state = finetune(model_of(tersoff), tasks[:1], optax.sgd(0.0), settings, report=lambda _: None)
    assert (state.epoch, state.best_epoch) == (3, 0)


def test_a_number_of_steps(tersoff, tasks):
    """It ends in the middle of an epoch, which is finished with what it has."""
    state = finetune(
        model_of(tersoff), tasks[:2], relative(1e-3), FinetuneSettings(epochs=1, steps=3), report=lambda _: None
    )
    assert (state.step, state.epoch) == (3, 2)
    assert sum(key.endswith(".kappa") for key in state.history[1]) == 1


def test_callbacks(tersoff, tasks, tmp_path):
    """Before every material; after steps and epochs, when the checkpoint is there; and when a run is continued."""
    called: list[str] = []

    def after(state) -> None:
        assert (tmp_path / "checkpoint.npz").exists()
        called.append(f"epoch {state.epoch}")

    callbacks = Callbacks(lambda: called.append("material"), lambda state: called.append(f"step {state.step}"), after)
    run = (model_of(tersoff), [tasks[0], tasks[2]], relative(1e-3), FinetuneSettings(epochs=1), ((), ()), tmp_path)
    finetune(*run, report=lambda _: None, callbacks=callbacks)
    assert called == ["material", "step 1", "material", "epoch 1"]
    finetune(*run, report=lambda _: None, callbacks=callbacks)
    assert called[4:] == ["epoch 1"]


# --- what is trained -------------------------------------------------------------------------------------------------


def test_patterns_choose_parameters(tersoff):
    _, trained, frozen = adapt(tersoff, train=["*"], freeze=["R", "S", "chi"])
    assert set(frozen) == {"R", "S", "chi"}
    assert set(trained) | set(frozen) == set(tersoff.params)
    for options, text in (
        ({"train": ["nope*"]}, "nope"),
        ({"freeze": ["*"]}, "nothing of"),
        ({"lora": ["A"]}, "matrix"),
    ):
        with pytest.raises(InputError, match=text):
            adapt(tersoff, **options)


def test_low_rank_changes():
    """The start is the model itself, bit for bit; a change has the rank asked for, in every block."""
    potential = load_mace(MACE)
    name = "interactions.1.linear_up.weight"
    energy, trained, frozen = adapt(potential, train=["readouts.0.*"], lora=[name], rank=2)
    merged = energy.merge(trained, frozen)
    assert same(merged, potential.params)
    shapes = matrices(potential, name)
    assert sum(n * m for n, m in shapes) == potential.params[name].size
    trained = {k: v + 0.1 * jnp.cos(jnp.arange(v.size)).reshape(v.shape) for k, v in trained.items()}
    change = np.asarray(energy.merge(trained, frozen)[name]) - potential.params[name]
    start = 0
    for n, m in shapes:
        block = change[start : start + n * m].reshape(n, m)
        assert np.linalg.matrix_rank(block, 1e-10) == min(2, n, m)
        start += n * m
    untouched = [k for k in potential.params if k != name and not k.startswith("readouts.0.")]
    assert all(np.array_equal(energy.merge(trained, frozen)[k], potential.params[k]) for k in untouched)


# --- frames ----------------------------------------------------------------------------------------------------------


def test_frames(tersoff):
    """Labels of the model itself cost nothing; the gradient is the slope; the error is a root mean square."""
    atoms = bulk("Si", a=5.5, cubic=True)
    atoms.rattle(0.05, seed=1)
    (frame,) = labelled([atoms], tersoff)
    assert frame_loss(tersoff.energy, tersoff.params, None, frame) < 1e-20
    changed = {**tersoff.params, "B": 1.01 * tersoff.params["B"]}
    value, slope = frame_value_and_grad(tersoff.energy, changed, None, frame)
    assert value > 1
    h = 1e-6
    ends = [
        float(frame_loss(tersoff.energy, {**changed, "B": changed["B"] * (1 + s * h)}, None, frame)) for s in (1, -1)
    ]
    np.testing.assert_allclose(np.vdot(slope["B"], changed["B"]), (ends[0] - ends[1]) / (2 * h), rtol=1e-6)
    moved = np.asarray(predict(tersoff.energy, changed, None, frame.graph)[1]) - frame.forces
    assert force_error(tersoff.energy, changed, None, [frame]) == pytest.approx(np.sqrt(np.mean(moved**2)), rel=1e-12)
    with pytest.raises(InputError, match="has no forces"):
        frame_of(atoms, tersoff)
    atoms.info["stress"] = np.array([1.0, 2, 3, 4, 5, 6])  # ASE's Voigt order: xx, yy, zz, yz, xz, xy
    stress = frame_of(atoms, tersoff, (0, 0, 1)).stress
    np.testing.assert_array_equal(stress, [[1, 6, 5], [6, 2, 4], [5, 4, 3]])


# --- files -----------------------------------------------------------------------------------------------------------


def test_saved_analytic_potentials(tersoff, tmp_path):
    changed = tersoff.with_params({k: np.asarray(v) * 1.01 for k, v in tersoff.params.items()})
    save_potential(changed, tmp_path / "model.json")
    back = load_potential(tmp_path / "model.json")
    assert same(back.params, changed.params)
    assert back.energy is tersoff.energy
    assert back.cutoff == pytest.approx(1.01 * tersoff.cutoff)
    sw = load_potential("sw-si")
    save_potential(sw, tmp_path / "sw.json")
    assert load_potential(tmp_path / "sw.json").cutoff == sw.cutoff
    with pytest.raises(InputError, match=r"must end in \.json"):
        save_potential(tersoff, tmp_path / "model.nqx")
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(InputError, match="not a potential saved by wigner-jax"):
        load_potential(tmp_path / "bad.json")
    with pytest.raises(InputError, match="non-finite"):
        save_potential(tersoff.with_params({**tersoff.params, "A": np.array([np.nan] * 3)}), tmp_path / "model.json")
    assert load_potential(tmp_path / "model.json").cutoff == back.cutoff  # what was there is still whole


@pytest.mark.parametrize(
    "name",
    [*(pytest.param(n, marks=pytest.mark.shared) for n in ("nequix-mp-1.nqx", "checkpoint_sevennet_0.pth")), "mace"],
)
def test_saved_models(request, tmp_path, name):
    template = MACE if name == "mace" else request.getfixturevalue("shared") / "weights" / name
    if not template.is_file():
        pytest.skip(f"weights not found: {template}")
    potential = load_potential(template)
    changed = potential.with_params({k: np.asarray(v) * 1.001 for k, v in potential.params.items()})
    path = tmp_path / f"tuned{template.suffix}"
    with pytest.raises(InputError, match="template"):
        save_potential(changed, path)
    written = save_potential(changed, path, template)
    back = load_potential(path)
    assert back.energy == potential.energy
    assert same(back.params, written.params)
    for key, value in changed.params.items():
        np.testing.assert_allclose(back.params[key], value, rtol=1e-7, atol=1e-30)
    save_potential(potential, path, template)
    assert same(load_potential(path).params, potential.params)


# --- configuration ---------------------------------------------------------------------------------------------------

CONFIG = {
    "potential": "tersoff-1989",
    "output": "run",
    "materials": [
        {
            "name": "Si", "structure": "Si", "fc2_supercell": [1, 1, 1], "fc3_supercell": [1, 1, 1], "mesh": [2, 2, 2],
            "temperatures": [300], "targets": {"kappa": {"value": 60.0}},
        }
    ],
    "train": ["A", "B"],
    "optimizer": {"name": "adam", "learning_rate": 0.5, "schedule": "constant"},
    "ema": 0,
    "epochs": 6,
}  # fmt: skip


def written(folder: Path, **changes) -> Path:
    """A configuration file; keys with dots reach into the first material."""
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    for key, value in changes.items():
        if key.startswith("material_"):
            config["materials"][0][key.removeprefix("material_")] = value
        else:
            config[key] = value
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


BAD = {
    "unknown key": ({"epoch": 3}, r"unknown key epoch: did you mean epochs\?"),
    "unknown key of a material": ({"material_mesch": [2, 2, 2]}, r"unknown key materials\[0\].mesch: did you mean mesh"),
    "misplaced keys": (
        {"clip": 1.0, "mesh": [2, 2, 2], "learning_rate": 1.0},
        r"clip belongs under optimizer: optimizer.clip; learning_rate belongs under optimizer: optimizer.learning_rate;"
        r" mesh belongs under materials\[\]: materials\[\].mesh"),
    "a key of train": ({"from_scratch": True}, "unknown key from_scratch: `from_scratch` is a key of `train`"),
    "an old section": ({"replay": {"file": "a"}}, "replay is called data: data.train names the files"),
    "an old schedule": (
        {"optimizer": {"learning_rate": {"schedule": "cosine_decay_schedule"}}},
        "optimizer.learning_rate must be a number: a schedule belongs under optimizer: optimizer.schedule"),
    "misplaced in the optimizer": ({"optimizer": {"warmup": 3}}, "warmup belongs under optimizer.schedule"),
    "misplaced in a material": ({"material_ema": 3}, r"materials\[0\].ema belongs at the top level: ema"),
    "unknown target": ({"material_targets": {"kapa": {}}}, r"unknown key materials\[0\].targets.kapa: did you mean kappa"),
    "unknown option": (
        {"material_targets": {"kappa": {"smoth": 1}}},
        r"materials\[0\].targets.kappa.smoth: did you mean materials\[\].targets.srme.smooth"),
    "no target": ({"material_targets": {}}, r"materials\[0\].targets must name at least one of kappa"),
    "no reference for a target": ({"material_targets": {"srme": {}}}, r"materials\[0\].targets: .*needs a reference"),
    "missing reference file": ({"material_reference": "none.json"}, r"materials\[0\].reference: no reference file"),
    "bad temperature": ({"material_temperatures": [-3]}, r"materials\[0\].temperatures must be above 0"),
    "bad mesh": ({"material_mesh": [2, 0, 2]}, r"materials\[0\].mesh must be integers of at least 1"),
    "bad supercell": ({"material_fc3_supercell": [1, -1, 1]}, r"materials\[0\].fc3_supercell is .* of determinant -1: give"),
    "bad split": ({"material_split": "test"}, r"materials\[0\].split must be train or validation"),
    "unknown structure": ({"material_structure": "Xx"}, r"materials\[0\].structure"),
    "unknown elements": ({"material_structure": "LiBr"}, r"materials\[0\]: .*does not know"),
    "unknown potential": ({"potential": "terssoff"}, "potential: unknown potential"),
    "unknown optimizer": ({"optimizer": {"name": "adamm"}}, "optimizer.name: optax has no 'adamm'"),
    "bad option of it": ({"optimizer": {"name": "adam", "beta": 1}}, "optimizer.beta: .*adam of optax takes b1, b2"),
    "bad value of it": ({"optimizer": {"name": "adam", "mu_dtype": "x"}}, "optimizer.name: adam cannot be made"),
    "single precision": ({"precision": "float32"}, "precision must be float64 for finetune"),
    "nothing matches": ({"train": ["X*"]}, "train: no parameter"),
    "no number": ({"ema": "much"}, "ema must be a number"),
    "no materials": ({"materials": []}, "materials must be a list"),
    "two of one name": ({"materials": CONFIG["materials"] * 2}, "the name 'Si' is used twice"),
    "no frames": ({"data": {"train": "none.xyz"}}, "data.train: no file"),
    "no weight": ({"data": {"train": "none.xyz", "hessian": "H"}}, "unknown key data.hessian: `hessian` is a key of `train`"),
    "experiment elsewhere": (
        {"material_targets": {"experiment": {"points": [[500, 40, 4]]}}}, "500 K, which is not in temperatures"),
    "output is a file": ({"output": "config.yaml"}, "output: .* is not a folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_configurations_are_one_line_that_names_the_key(tmp_path, capsys, monkeypatch, name):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    changes, text = BAD[name]
    assert cli.main(["finetune", str(written(tmp_path, **changes)), "--check"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(text, error), error


def test_a_reference_on_another_mesh_or_temperature(tmp_path, shared, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    data = shared / "data/phonondb"
    sic = {
        "material_structure": str(data / "phononDB-PBE-structures.extxyz"), "material_mp_id": "mp-8062",
        "material_reference": str(data / "kappas_phononDB_PBE_noNAC.json.gz"), "material_targets": {"srme": {}},
    }  # fmt: skip
    for change, text in (
        ({"material_mesh": [5, 5, 5]}, "materials[0].mesh: the reference of SiC is on the mesh 19 19 19, not 5 5 5"),
        (
            {"material_mesh": [19, 19, 19], "material_temperatures": [300, 400]},
            "materials[0].temperatures: the reference",
        ),
        ({"material_mp_id": "mp-1"}, "materials[0].mp_id"),
    ):
        assert cli.main(["finetune", str(written(tmp_path, **{**sic, **change})), "--check"]) == 2
        assert text in capsys.readouterr().err


def small_reference(path: Path) -> None:
    """Mode conductivities of nothing in particular, on 3 × 3 × 3 points."""
    P, m = 4, 6
    some = np.ones((1, P, m))
    write_phonondb(path, [Reference(
        "mp-1", "Si", 227, (3, 3, 3), np.array([300.0]), np.zeros((P, 3)), np.array([1, 8, 6, 12]), some[0], some, 1.1 * 27 / some.size * some, np.array([1.1])
    )])  # fmt: skip


def test_a_reference_on_another_mesh_serves_targets_without_modes(tmp_path, capsys, monkeypatch):
    """κ by value or from the reference; SRE is reported and SRME is not. Modes are refused."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    small_reference(tmp_path / "reference.json")
    known = {"material_reference": "reference.json", "material_mp_id": "mp-1", "epochs": 1}
    for target in ({"value": 60.0}, {}):
        path = written(tmp_path, **known, material_targets={"kappa": target})
        assert cli.main(["finetune", str(path), "--restart"]) == 0
        assert "Si: the mesh 2×2×2 is not the reference's 3×3×3: no SRME" in capsys.readouterr().out
        header = (tmp_path / "run/history.csv").read_text().splitlines()[0].split(",")
        assert "Si.sre" in header
        assert "Si.srme" not in header
    for target in ("srme", "frequencies", "heat_capacity"):
        path = written(tmp_path, **known, material_targets={"kappa": {}, target: {}})
        assert cli.main(["finetune", str(path), "--check"]) == 2
        assert "materials[0].mesh: the reference of Si is on the mesh 3 3 3, not 2 2 2" in capsys.readouterr().err


def test_short_names_of_materials(tmp_path, monkeypatch):
    """The stem of a file; the formula where that says nothing; the Materials Project number where two are alike."""
    (tmp_path / "deep").mkdir()
    for name in ("deep/silicon.vasp", "POSCAR"):
        ase.io.write(tmp_path / name, bulk("Si", a=5.432), format="vasp")
    many = [bulk("Si", a=a) for a in (5.43, 5.44)]
    for k, atoms in enumerate(many):
        atoms.info["mp_id"] = f"mp-{k}"
    ase.io.write(tmp_path / "many.extxyz", many)
    material = {**CONFIG["materials"][0], "fc2_supercell": 2, "fc3_supercell": 2}
    del material["name"]
    entries = [{"structure": "deep/silicon.vasp"}, {"structure": "POSCAR"}]
    entries += [{"structure": "many.extxyz", "mp_id": f"mp-{k}"} for k in range(2)]
    run = build({**CONFIG, "materials": [{**material, **e} for e in entries]}, tmp_path)
    assert [t.material.name for t in run.tasks] == ["silicon", "Si", "Si mp-0", "Si mp-1"]


def test_a_supercell_that_is_too_small_names_the_key(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    ase.io.write(tmp_path / "MgO.vasp", bulk("MgO", "rocksalt", a=4.2, cubic=True))
    path = written(tmp_path, potential="mace-bundled", material_structure="MgO.vasp", train=["readouts.*"])
    assert cli.main(["finetune", str(path), "--check"]) == 2
    error = capsys.readouterr().err
    assert re.search(r"materials\[0\]: symmetry leaves no .* choose a larger fc3_supercell", error)
    assert "--" not in error


def command(path: Path, cache: Path) -> list[str]:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    return [sys.executable, "-m", "wigner_jax", "finetune", str(path), "--threads", "1"]


@pytest.mark.slow
def test_killed_and_continued(tmp_path):
    """kill -9 at random moments, again and again; the final weights are those of an undisturbed run, bit for bit."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    changes = {"epochs": 30, "ema": 0.9, "seed": 3, "sampling": {"points": 2, "draws": 1}}
    whole, broken = (written(tmp_path / x, **changes) for x in "ab")
    subprocess.run(command(whole, tmp_path / "cache"), check=True, capture_output=True)
    rng, kills = np.random.default_rng(), 0
    checkpoint = tmp_path / "b/run/checkpoint.npz"
    while True:
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(
            command(broken, tmp_path / "cache"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline and kills < 3:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns > seen:
                time.sleep(rng.uniform(0, 0.5))
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        output, _ = process.communicate(timeout=600)
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, output.decode()
        kills += 1
    assert kills == 3
    assert (tmp_path / "a/run/model.json").read_bytes() == (tmp_path / "b/run/model.json").read_bytes()
    assert (tmp_path / "a/run/history.csv").read_text() == (tmp_path / "b/run/history.csv").read_text()
    shutil.rmtree(tmp_path / "cache")


def test_the_command(tmp_path, capsys, monkeypatch):
    """From a configuration to a model that load_potential reads; a second call finds nothing left to do."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    path = written(tmp_path)
    assert cli.main(["finetune", str(path)]) == 0
    table = capsys.readouterr().out
    tuned = load_potential(tmp_path / "run/model.json")
    start = load_potential("tersoff-1989")
    assert not np.array_equal(tuned.params["A"], start.params["A"])
    assert np.array_equal(tuned.params["beta"], start.params["beta"])
    rows = (tmp_path / "run/history.csv").read_text().splitlines()
    assert len(rows) == 7
    losses = [float(row.split(",")[rows[0].split(",").index("loss")]) for row in rows[1:]]
    assert losses[-1] < losses[0]
    assert f"{losses[-1]:.5f}" in table
    assert cli.main(["finetune", str(path)]) == 0
    assert "continued" in capsys.readouterr().out
    # with a constant rate it may be prolonged, other settings are named, and --restart takes them
    assert cli.main(["finetune", str(written(tmp_path, epochs=7)), "--quiet"]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert len((tmp_path / "run/history.csv").read_text().splitlines()) == 8
    changed = str(written(tmp_path, ema=0.5, material_temperatures=[300, 400], epochs=1))
    assert cli.main(["finetune", changed]) == 2
    error = capsys.readouterr().err
    assert "other settings: materials[0].temperatures was [300.0], now [300.0, 400.0], ema was 0.0, now 0.5" in error
    assert cli.main(["finetune", changed, "--restart"]) == 0
    assert len((tmp_path / "run/history.csv").read_text().splitlines()) == 2


def test_history_is_there_after_a_kill(tmp_path, capsys, monkeypatch):
    """The table, the model and the commands of every epoch that is done, before the run has ended."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    whole, count = loop.value_and_grad, iter(range(4))

    def interrupted(*arguments):
        if next(count, None) is None:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(loop, "value_and_grad", interrupted)
    assert cli.main(["finetune", str(written(tmp_path))]) == 130
    assert len((tmp_path / "run/history.csv").read_text().splitlines()) == 5
    assert load_potential(tmp_path / "run/model.json").name == "tersoff-1989"
    assert "wigner-jax kappa structures/Si.extxyz" in (tmp_path / "run/README.txt").read_text()
    monkeypatch.setattr(loop, "value_and_grad", whole)
    capsys.readouterr()
    assert cli.main(["finetune", str(written(tmp_path))]) == 0
    assert "continued from" in capsys.readouterr().out


@pytest.mark.slow
def test_kappa_can_be_computed_again_by_the_command_in_the_folder(tmp_path, capsys, monkeypatch):
    """README.txt has a command for each material, and its κ, which the table printed too; here of a cell that was relaxed."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    ase.io.write(tmp_path / "Si.extxyz", bulk("Si", a=5.40))
    primitive = {
        **CONFIG["materials"][0], "name": "primitive, relaxed", "structure": "Si.extxyz", "relax": True,
        "fc2_supercell": [[-2, 2, 2], [2, -2, 2], [2, 2, -2]], "fc3_supercell": [2, 2, 2], "temperatures": [300, 450.5],
    }  # fmt: skip
    path = written(tmp_path, materials=[CONFIG["materials"][0], primitive], broadening={"gaussian": 0.3}, epochs=2)
    assert cli.main(["finetune", str(path)]) == 0
    table = capsys.readouterr().out
    monkeypatch.chdir(tmp_path / "run")
    text = Path("README.txt").read_text()
    commands = re.findall(r"^ +wigner-jax (kappa .*)$", text, re.MULTILINE)
    kappas = re.findall(r"^.*: κ = .*$", text, re.MULTILINE)
    assert len(commands) == len(kappas) == 2
    assert "--fc2-supercell 1 1 1 --fc3-supercell 1 1 1 --mesh 2 2 2 -T 300" in commands[0]
    for command, line in zip(commands, kappas, strict=True):
        assert line in table
        assert cli.main([*shlex.split(command), "-o", "kappa.hdf5"]) == 0
        assert "not relaxed" in capsys.readouterr().out
        found = np.mean(read_kappa_hdf5("kappa.hdf5")["kappa_TOT_RTA"][:, :3], axis=1)
        values = [float(x) for x in re.findall(r"([\d.]+) W/", line)]
        np.testing.assert_allclose(found, values, atol=6e-5)
        assert len(found) == len(values)


def test_structures_are_written_to_all_digits(tmp_path):
    atoms = bulk("NaCl", "rocksalt", a=5.6123456789012345)
    atoms.set_masses([23.0, 36.0])
    atoms.positions += 1 / 3
    cells = default_supercells(atoms, 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]), (2, 3, 4))
    reproduce.write_structure(tmp_path / "a.extxyz", atoms, cells)
    back = read_structure(tmp_path / "a.extxyz")
    assert np.array_equal(back.positions, atoms.positions)
    assert np.array_equal(back.cell.array, atoms.cell.array)
    assert np.array_equal(back.get_masses(), [23.0, 36.0])
    again = default_supercells(back)
    for name in ("fc2_supercell", "fc3_supercell"):
        assert np.array_equal(getattr(again, name).matrix, getattr(cells, name).matrix)


def test_rounded_weights_are_those_of_the_file():
    """Also where a low-rank change was trained."""
    potential = load_mace(MACE)
    model = Model(*adapt(potential, train=["readouts.0.*"], lora=["interactions.1.linear_up.weight"], rank=2))
    trained = {k: v + 0.1 * jnp.cos(jnp.arange(v.size)).reshape(v.shape) for k, v in model.trained.items()}
    written = {k: np.asarray(v, np.float32).astype(float) for k, v in model.energy.merge(trained, model.frozen).items()}
    merged = model.energy.merge(*reproduce.rounded(model, trained, written))
    for name, value in written.items():
        np.testing.assert_allclose(merged[name], value, rtol=0, atol=1e-15)
