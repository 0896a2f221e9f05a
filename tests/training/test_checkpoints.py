"""Checkpoints: numbers come back, kill -9 leaves a complete one, damage and other settings are named."""

from __future__ import annotations

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from wigner_jax._core.temporaries import remove_forgotten
from wigner_jax.errors import InputError
from wigner_jax.training.model import Model
from wigner_jax.training.train_state import (
    TrainState,
    changes,
    initial_state,
    load_state,
    save_state,
)


def fresh(size: int = 7) -> TrainState:
    params = {"A": jnp.arange(float(size)), "b": jnp.float32(0.5)}
    return initial_state(
        Model(lambda p, g: 0.0, params, {}), optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))
    )


def test_everything_comes_back(tmp_path):
    """Also after steps of Flax's own; types too."""
    state = fresh()
    for _ in range(3):
        state = state.apply_gradients(grads=jax.tree.map(jnp.ones_like, state.params))
    state = state.replace(
        epoch=2, position=1, best_score=0.25, best_epoch=1, damping=0.5, rejected=3, stable=True, sums={"loss": [1.0]},
        history=[{"epoch": 0, "loss": 0.1}, {"epoch": 1, "loss": 1e-300}],
    )  # fmt: skip
    save_state(tmp_path / "checkpoint.npz", state, {"a": 1})
    back = load_state(tmp_path / "checkpoint.npz", fresh(), {"a": 1})
    assert back.step == 3
    for name in ("params", "opt_state", "average", "best"):
        assert jax.tree.structure(getattr(back, name)) == jax.tree.structure(getattr(state, name))
        for a, b in zip(*(jax.tree.leaves(getattr(x, name)) for x in (back, state)), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
    for name in ("epoch", "position", "best_score", "best_epoch", "damping", "rejected", "stable", "sums", "history"):
        assert getattr(back, name) == getattr(state, name), name
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.npz"]


def test_damage_is_noticed(tmp_path):
    """A file cut at any place, one with a changed byte, one of other arrays."""
    path = tmp_path / "checkpoint.npz"
    save_state(path, fresh(500), {})
    content = path.read_bytes()
    for length in (0, 10, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"not a checkpoint of this run .* remove it to begin anew"):
            load_state(path, fresh(500), {})
    where = content.index(np.arange(500.0).tobytes()) + 1000
    path.write_bytes(content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :])
    with pytest.raises(InputError, match="not a checkpoint"):
        load_state(path, fresh(500), {})
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a checkpoint of this run"):
        load_state(path, fresh(3), {})
    assert load_state(path, fresh(500), {}).step == 0


def test_what_changed_is_named(tmp_path):
    path = tmp_path / "checkpoint.npz"
    save_state(path, fresh(), {"ema": 0.9, "train": ["a"], "data": "sha256:1", "gone": 1})
    with pytest.raises(InputError) as error:
        load_state(path, fresh(), {"ema": 0.5, "train": ["a"], "data": "sha256:2", "new": "x"})
    assert (
        'settings: ema was 0.9, now 0.5, data changed, gone was 1, now not given, new was not given, now "x":'
        in str(error.value)
    )
    assert changes({"a": [1.0]}, {"a": (1.0,)}) == ""
    assert changes(dict.fromkeys("abcdef", 0), {}).endswith("and 2 more")


#: forks processes that save one state after the other, kills each at a random moment, and reads what is there
KILLS = """
import json, os, random, resource, signal, sys, time
import numpy as np
from pathlib import Path
from wigner_jax.errors import InputError
from wigner_jax.training.train_state import TrainState, save_state

folder, rng = Path(sys.argv[1]), random.Random()
path = folder / "checkpoint.npz"

def state(number):
    arrays = {"a": np.full(60000, float(number)), "b": np.full(7, float(number))}
    return TrainState(step=number, apply_fn=None, params=arrays, tx=None, opt_state=arrays, average=arrays, best=arrays)

def number():
    with np.load(path) as file:
        found = {float(x) for name in file.files if name != "_plain" for x in np.unique(file[name])}
        found.add(float(json.loads(str(file["_plain"]))["step"]))
    assert len(found) == 1, found
    return found.pop()

save_state(path, state(0), {})
last, moments = 0, set()
for k in range(int(sys.argv[2])):
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        n = last
        while True:
            n += 1
            save_state(path, state(n), {})
            os.write(writing, b"x")  # said to be done
    os.close(writing)
    time.sleep(rng.uniform(0, 0.06))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    said = last + len(os.read(reading, 100000))
    os.close(reading)
    found = number()
    assert found in (said, said + 1), (found, said)
    last = int(found)
    moments.add(len(list(folder.iterdir())))
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))  # as a disk that is full
try:
    save_state(path, state(last + 1), {})
except InputError as error:
    assert "cannot write" in str(error) and "still whole" in str(error), error
else:
    raise AssertionError("written to a full disk")
assert number() == last
print(last, max(moments))
"""


def kills(folder, count: int) -> int:
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLS, str(folder), str(count)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return int(run.stdout.split()[0])


def test_a_kill_while_saving_leaves_a_complete_checkpoint(tmp_path):
    """SIGKILL at random moments, then a disk that is full; what it left aside is removed by the next run."""
    last = kills(tmp_path, 40)
    arrays = {"a": np.zeros(60000), "b": np.zeros(7)}
    like = TrainState(step=0, apply_fn=None, params=arrays, tx=None, opt_state=arrays, average=arrays, best=arrays)
    state = load_state(tmp_path / "checkpoint.npz", like, {})
    assert state.step == last > 0
    assert all(np.all(x == last) for x in jax.tree.leaves((state.params, state.best, state.opt_state)))
    remove_forgotten(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.npz"]


@pytest.mark.slow
def test_many_kills(tmp_path):
    assert kills(tmp_path, 1500) > 100
