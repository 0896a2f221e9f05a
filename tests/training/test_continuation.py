"""A run that is continued equals one that was not interrupted; one process in a folder; a history at any time."""

from __future__ import annotations

import contextlib
import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ase.build import bulk
from ase.io import write
from killed_runs import contents, write_campaign, write_finetune, write_training

from wigner_jax import load_potential, save_potential
from wigner_jax._core.folder_lock import locked
from wigner_jax.cli.app import main
from wigner_jax.training.model import Model
from wigner_jax.training.on_conductivity.config import read_config
from wigner_jax.training.on_forces import fit as forces
from wigner_jax.training.train_state import changes, initial_state, load_state, save_state, settled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: fine-tunes on two devices, whose gradients come out of the solver on both, and ends after some checkpoints
DEVICES = """
import os, sys
from wigner_jax.training.on_conductivity import loop
from wigner_jax.cli.app import main
save, left = loop.save_state, int(sys.argv.pop(1))
def save_and_end(*arguments):
    global left
    save(*arguments)
    left -= 1
    if not left:
        os._exit(9)
loop.save_state = save_and_end
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_every_bit_on_any_number_of_devices(tmp_path, threads):
    """The bundled MACE: where trained numbers lay on all devices after a step, and on one after a continuation, the second
    loss differed. Fresh programs and those of the cache round alike, too: the first run finds none."""
    material = {
        "structure": "NaCl", "fc2_supercell": [2, 2, 2], "fc3_supercell": [2, 2, 2], "mesh": [3, 3, 3],
        "targets": {"kappa": {"value": 20.0}},
    }  # fmt: skip
    found = []
    for name, ends in (("a", [100]), ("b", [1, 100])):
        (tmp_path / name).mkdir()
        write_finetune(
            tmp_path / name, epochs=3, potential="mace-bundled", train=["readouts.*"], materials=[material], ema=0.0,
            optimizer={"name": "adam", "learning_rate": 1e-4},
        )  # fmt: skip
        for end in ends:
            run = subprocess.run(
                [sys.executable, "-c", DEVICES, str(end), "finetune", "config.yaml", "--threads", str(threads)],
                cwd=tmp_path / name, env=None, capture_output=True, text=True,
            )  # fmt: skip
            assert run.returncode == (9 if end == 1 else 0), run.stderr
        found.append(contents(tmp_path / name / "run"))
    assert found[0] == found[1]


def places(state: object) -> list[object]:
    return [(x.sharding, x.dtype, x.weak_type) for x in jax.tree.leaves(state) if isinstance(x, jax.Array)]


def test_a_state_is_the_same_before_and_after_a_checkpoint(tmp_path):
    """Arrays of all devices come to the default one, numpy's numbers and weak types become arrays as they are loaded."""
    params = {"A": np.arange(3.0), "b": np.float32(0.5), "c": 1.0}
    model = Model(lambda p, g: 0.0, params, {})
    state = initial_state(model, optax.adam(1e-3))
    everywhere = jax.NamedSharding(jax.make_mesh((jax.device_count(),), ("q",)), jax.P())
    moved = jax.device_put({**state.params, "c": jnp.asarray(1.0)}, everywhere)
    for each in (state, settled(state.replace(params=moved, update=moved))):
        save_state(tmp_path / "checkpoint.npz", each, {})
        back = load_state(tmp_path / "checkpoint.npz", each, {})
        for name in ("params", "opt_state", "average", "best", "update"):
            assert places(getattr(back, name)) == places(getattr(each, name)), name
    assert len(places(state.params)) == 3


@pytest.mark.parametrize("when", [3, 5])
def test_ctrl_c_in_an_epoch_saves_and_goes_on_to_the_same_bits(tmp_path, monkeypatch, when):
    """The epoch has three steps; the checkpoint is that of the step that was done."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")

    def asked_after(count: int) -> Callable[[], contextlib.AbstractContextManager[Callable[[], bool]]]:
        @contextlib.contextmanager
        def moment() -> Iterator[Callable[[], bool]]:
            steps = iter(range(count - 1))  # asked once in each step
            yield lambda: next(steps, None) is None

        return moment

    found = []
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
        write_training(tmp_path / name, epochs=2, batch=1, data={"train": "frames.extxyz", "validation": 0.5})
        monkeypatch.chdir(tmp_path / name)
        if name == "broken":
            monkeypatch.setattr(forces, "before_the_end", asked_after(when))
            assert main(["train", "config.yaml", "--quiet"]) == 130
            monkeypatch.undo()
            monkeypatch.chdir(tmp_path / name)
            with np.load("run/checkpoint.npz") as file:
                assert json.loads(str(file["_plain"]))["step"] == when
            with Path("run/history.csv").open() as file:
                assert [row["epoch"] for row in csv.DictReader(file)] == ["0"][: (when - 1) // 3]
        assert main(["train", "config.yaml", "--quiet"]) == 0
        found.append(contents(tmp_path / name / "run"))
    assert found[0] == found[1]


@pytest.mark.parametrize("command", ["train", "finetune"])
def test_one_process_in_a_folder(tmp_path, monkeypatch, capsys, command):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)
    {"train": write_training, "finetune": write_finetune}[command](tmp_path)
    Path("run").mkdir()
    for more in ((), ("--restart",)):
        with locked(Path("run")):
            assert main([command, "config.yaml", "--quiet", *more]) == 2
        error = capsys.readouterr().err
        assert "another run is at work in run (process" in error
        assert error.endswith("wait for it, or name another output\n")
        assert error.count("\n") == 1
    with locked(Path("run")):
        assert main([command, "config.yaml", "--check"]) == 0  # reads only


def test_what_changed_under_the_same_names(tmp_path, monkeypatch):
    """Potential, structures and references are known by their contents, and named where they changed."""
    monkeypatch.chdir(tmp_path)
    potential = load_potential("tersoff-1989")
    save_potential(potential, "model.json")
    write("Si.vasp", bulk("Si", cubic=True, a=5.43))
    write_campaign(tmp_path)
    material = {
        "structure": "Si.vasp", "fc2_supercell": [1, 1, 1], "fc3_supercell": [1, 1, 1], "mesh": [2, 2, 2],
        "targets": {"kappa": {"value": 60.0}},
    }  # fmt: skip
    other = {**material, "name": "C", "mp_id": "mp-1", "reference": "dft.json.gz"}
    write_finetune(tmp_path, potential="model.json", materials=[material, other])
    before = read_config("config.yaml").signature
    assert changes(before, read_config("config.yaml").signature) == ""
    write_campaign(tmp_path, scale=1.01)
    assert changes(before, read_config("config.yaml").signature) == "the reference of C changed"
    save_potential(potential.with_params({**potential.params, "A": potential.params["A"] * 1.0001}), "model.json")
    write("Si.vasp", bulk("Si", cubic=True, a=5.431))
    found = changes(before, read_config("config.yaml").signature)
    assert "the potential changed, the structure of Si changed" in found
    assert "the structure of C changed" in found
