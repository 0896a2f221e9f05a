"""Programs: the numbers of `jax.jit`, kept on disk under keys that stand for all they depend on."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import uuid
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wigner_jax._core import program_files, programs
from wigner_jax._core.described import Undescribed, described
from wigner_jax._core.programs import Effort, compiler_options, forget_programs, program
from wigner_jax._core.tiling import CPU
from wigner_jax.ifc.least_squares import recover
from wigner_jax.physics.linewidths import bose_einstein
from wigner_jax.potentials.layers.equivariant import Constant
from wigner_jax.types import Mesh

if TYPE_CHECKING:
    from pathlib import Path


def scaled_sum(factor: float, x: dict[str, jax.Array], power: int) -> jax.Array:
    return factor * jnp.sum(x["a"] ** power) + jnp.sum(x["b"])


X = {"a": np.arange(4.0), "b": jnp.ones((2, 3))}


@pytest.mark.parametrize("effort", Effort)
def test_the_numbers_of_jit(effort) -> None:
    one = program(static=2, effort=effort)(scaled_sum)
    assert one(2.0, X, 2) == one(2.0, x=X, power=2) == 34
    assert one(2.0, X, 3) == 78
    assert isinstance(one(2.0, X, 3), jax.Array)
    assert one.__name__ == "scaled_sum"


def test_inside_transformations() -> None:
    one = program(static=2)(scaled_sum)
    a, b = X["a"], X["b"]
    slope = jax.grad(lambda a: one(2.0, {"a": a, "b": b}, 2))
    np.testing.assert_allclose(slope(a), 4 * a, rtol=1e-15)
    np.testing.assert_allclose(jax.jit(slope)(a), 4 * a, rtol=1e-15)
    np.testing.assert_allclose(jax.vmap(lambda f: one(f, X, 2))(jnp.arange(3.0)), [6, 20, 34], rtol=1e-15)
    assert jax.jit(lambda: one(2.0, X, 2))() == 34  # all arguments known
    np.testing.assert_allclose(jax.jit(jax.linearize(lambda f: one(f, X, 2), 2.0)[1])(1.0), 14, rtol=1e-15)


def test_one_compilation_for_a_shape_a_type_and_a_static_argument() -> None:
    one = program(static=2)(scaled_sum)
    for factor in (1.0, 2.0):
        one(factor, X, 2)
        one(np.float64(factor), {"a": 2 * X["a"], "b": X["b"]}, 2)
    assert len(one._compiled) == 2  # a number of Python, and one of numpy
    one(np.float32(1), X, 2)
    one(1.0, X, 3)
    one(1.0, {**X, "a": np.arange(5.0)}, 2)
    assert len(one._compiled) == 5
    forget_programs()
    assert not one._compiled


def test_effort_may_depend_on_the_arguments() -> None:
    chosen = []

    def effort(factor, x, power):
        chosen.append(x["a"].shape)
        return Effort.ONCE

    one = program(static=2, effort=effort)(scaled_sum)
    one(1.0, X, 2)
    one(1.0, X, 2)
    assert chosen == [(4,)]


def test_options_are_those_of_cpus_and_of_this_xla(monkeypatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=2")  # the user's choice stays the user's
    assert set(compiler_options(Effort.ONCE, "cpu")) == {"xla_cpu_use_fusion_emitters"}
    monkeypatch.delenv("XLA_FLAGS")
    assert set(compiler_options(Effort.ONCE, "cpu")) == set(programs.OPTIONS[Effort.ONCE])
    assert compiler_options(Effort.ONCE, "gpu") == compiler_options(Effort.KERNEL, "cpu") == {}
    monkeypatch.setattr(programs, "TRIED", ())  # also where the version is one that takes them
    programs._known.cache_clear()
    assert programs._known(Effort.ONCE)
    assert programs._known(Effort.COLD)
    monkeypatch.setitem(programs.OPTIONS, Effort.ONCE, {"xla_no_such_option": 1})
    programs._known.cache_clear()
    try:
        assert compiler_options(Effort.ONCE, "cpu") == {}
        assert program(static=2, effort=Effort.ONCE)(scaled_sum)(2.0, X, 2) == 34
    finally:
        programs._known.cache_clear()


class Pair(NamedTuple):
    first: int
    second: float


def test_descriptions_stand_for_values() -> None:
    mesh = jax.tree.structure(Mesh((2, 2, 2), *[np.zeros(1)] * 6))
    other = jax.tree.structure(Mesh((2, 2, 3), *[np.zeros(1)] * 6))
    values = [
        None, 1, 1.0, True, "1", (1,), (1, (2,)), (1, 2), [1], {"a": 1}, {"b": 1}, 0.1, 0.1 + 1e-16 * 2, CPU,
        CPU._replace(group=8), mesh, other, jax.tree.structure({"a": (1, 2)}), jax.tree.structure({"a": [1, 2]}), recover,
        partial(recover, 1), Effort.ONCE, Constant(np.arange(3)), Constant(np.arange(3.0)), np.dtype("f8"), Effort.COLD,
    ]  # fmt: skip
    assert len({described(value) for value in values}) == len(values) - 1  # a list and a tuple of the same are one
    assert described(Constant(np.arange(3))) == described(Constant(np.arange(3)))


@pytest.mark.parametrize(
    "value", [np.arange(3), object(), lambda: 1, scaled_sum, Pair(1, 2.0), jnp.sum, (1, {"a": [object()]})]
)
def test_what_is_not_ours_has_no_description(value) -> None:
    """The source of another module may change while the key would not."""
    with pytest.raises(Undescribed):
        described(value)


def test_elements_do_not_key_programs_of_mace() -> None:
    import wigner_jax as wj

    potential = wj.load_potential("mace-bundled")
    first, second = wj.restrict(potential, [3, 17]), wj.restrict(potential, [11, 35])
    assert first.energy == second.energy
    assert hash(first.energy) == hash(second.energy)
    assert described(first.energy) == described(second.energy)
    assert wj.restrict(potential, [14]).energy != first.energy
    assert first.species == (3, 17)


# a program with LAPACK in it, in a process that never lowered one that calls it
PROCESS = """
import sys, json
import jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_num_cpu_devices", 2)  # as the command line on two cores: programs of one and of two devices
jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)  # the linewidths take longer on any machine
import numpy as np
from ase.build import bulk
import wigner_jax as wj
traced, compiled = [], []
def heard(event, duration_secs, **more):
    if event.endswith("jaxpr_trace_duration"):
        traced.append(more.get("fun_name"))
jax.monitoring.register_event_duration_secs_listener(heard)
atoms = bulk("Si", cubic=True)
cells = wj.default_supercells(atoms, (1, 1, 1), (1, 1, 1))
fc, report = wj.force_constants(cells, wj.load_potential("tersoff-1989"))
solution = wj.solve(wj.make_plan(cells, (3, 3, 3)), fc, allow_imaginary=True)
print(json.dumps([solution.conductivity.kappa_TOT.tolist(), float(np.sum(fc.fc3**2)), traced]))
"""
OURS = {"evaluate_dealt", "recover", "compiled_phonons", "prepare", "_needed", "linewidths_of", "conductivity"}


def run(folder: Path) -> tuple[list, float, set[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROCESS, str(folder)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    kappa, squares, traced = json.loads(done.stdout)
    return kappa, squares, {re.sub("_[0-9a-f]{8,16}$", "", name) for name in traced} & OURS


def test_a_second_process_traces_nothing(tmp_path: Path) -> None:
    first = run(tmp_path)
    assert first[2] == OURS
    assert run(tmp_path) == (*first[:2], set())
    kept = sorted((tmp_path / program_files.FOLDER).iterdir())
    assert {path.name.rpartition("-")[0] for path in kept} == {name.strip("_") for name in OURS}
    # damage is found, and mended
    kept[0].write_bytes(kept[0].read_bytes()[:-1])
    kept[2].write_bytes(kept[3].read_bytes())  # another program under this name
    content = bytearray(kept[1].read_bytes())
    content[len(content) // 2] ^= 1
    kept[1].write_bytes(content)
    again = run(tmp_path)
    assert again[:2] == first[:2]
    assert {name.strip("_") for name in again[2]} == {path.name.rpartition("-")[0] for path in kept[:3]}
    assert run(tmp_path)[2] == set()
    # what was lost comes from JAX's cache, and no file is made of that: XLA could not load it
    (lost,) = (path for path in kept if path.name.startswith("linewidths_of"))  # large enough for JAX's cache
    lost.unlink()
    assert run(tmp_path)[:2] == run(tmp_path)[:2] == first[:2]
    assert not lost.exists()


def test_nothing_is_kept_without_a_cache(tmp_path: Path, monkeypatch) -> None:
    kept = []
    monkeypatch.setattr(programs, "keep", lambda path, _: kept.append(path))
    known = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        with jax.numpy_rank_promotion("allow"):
            assert np.shape(program()(bose_einstein)(np.ones((2, 3)), np.ones(1))) == (2, 3, 1)
    finally:
        jax.config.update("jax_compilation_cache_dir", known)
    assert kept == []


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(program_files, "LARGEST", 2500)
    for k in range(4):
        (tmp_path / str(k)).write_bytes(bytes(1000))
        os.utime(tmp_path / str(k), (k, k))
    program_files.prune(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2", "3"]


def test_defaults_stay_the_functions_own() -> None:
    def function(x, power=2, negative=len):  # a default that is no array
        return x**power

    one = program()(function)
    assert one(3.0) == one(x=3.0) == 9
    assert one(3.0, power=3) == 27


def test_a_name_stands_for_what_has_it() -> None:
    """functools.wraps gives a function of the user's the name of one of the package."""

    @functools.wraps(bose_einstein)
    def mine(*arguments):
        return 0.0

    assert described(bose_einstein) == "wigner_jax.physics.linewidths:bose_einstein"
    with pytest.raises(Undescribed):
        described(mine)


def test_links_and_pipes_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    for name in ("pipe", "endless", "link", "missing"):
        assert program_files.load(tmp_path / name, ()) is None

    def fresh(x):
        return x + 1

    fresh.__name__ = f"fresh_{uuid.uuid4().hex}"  # compiled here: of what JAX's cache gives no file can be made
    executable = jax.jit(fresh).lower(1.0).compile()
    program_files.keep(tmp_path / "link", executable)
    assert (tmp_path / "mine").read_text() == "mine"
    assert program_files.load(tmp_path / "link", (1.0,))(1.0) == 2
    (tmp_path / "other").write_bytes((tmp_path / "link").read_bytes())
    assert program_files.load(tmp_path / "other", (1.0,)) is None  # it is not the one that its name says


def test_a_loaded_program_runs_once(monkeypatch) -> None:
    calls = []

    def loaded(*arguments):
        calls.append(arguments)
        return 5.0

    monkeypatch.setattr(programs, "load", lambda *_: loaded)
    one = program()(bose_einstein)
    assert one(np.ones((1, 1)), np.ones(1)) == 5
    assert len(calls) == 1
    assert one(np.ones((1, 1)), np.ones(1)) == 5
    assert len(calls) == 2
