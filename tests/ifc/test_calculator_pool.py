"""Processes with warm calculators: the same numbers, nothing lost when one dies, nothing left when the work ends."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from killed_runs import in_foreground

from wigner_jax import CalculatorPool, finite_displacements, load_potential
from wigner_jax.errors import InputError
from wigner_jax.ifc.batched_forces import calculator_for, forces_as_they_come, one_by_one
from wigner_jax.ifc.calculator_pool import THREADS
from wigner_jax.pipeline import any_model, prepare

MODULE = """
import os, subprocess, sys, time
from pathlib import Path
from ase.calculators.emt import EMT

HERE = Path(__file__).parent

def counted():
    (HERE / f"made-{os.getpid()}").touch()
    return EMT()

class Late(EMT):
    "Those whose first atom is furthest along x last."
    def get_forces(self, atoms):
        time.sleep(0.3 if atoms.info["number"] == 0 else 0.0)
        return super().get_forces(atoms)

class Told(EMT):
    "The third structure is one that it does not bear: as often as the file says."
    def get_forces(self, atoms):
        left = HERE / "deaths"
        if atoms.info["number"] == 2 and int(left.read_text()):
            left.write_text(str(int(left.read_text()) - 1))
            self.fail()
        return super().get_forces(atoms)

class Dies(Told):
    def fail(self):
        os.kill(os.getpid(), 9)

class Raises(Told):
    def fail(self):
        raise RuntimeError("no convergence")

def only_here():
    if os.getpid() != int((HERE / "parent").read_text()):
        raise RuntimeError("the device is taken")
    return EMT()

def broken():
    raise RuntimeError("no weights")

class Talks(EMT):
    def get_forces(self, atoms):
        print("a calculator that prints", flush=True)
        subprocess.run(["cat"], check=True)
        sys.stdin.read()
        return super().get_forces(atoms)

def facts():
    (HERE / f"facts-{os.getpid()}").write_text(repr((dict(os.environ), "jax" in sys.modules, sys.argv)))
    return EMT()

class Slow(EMT):
    def get_forces(self, atoms):
        program = subprocess.Popen(["sleep", "300"])
        (HERE / f"pids-{os.getpid()}.part").write_text(f"{os.getpid()} {program.pid}")
        (HERE / f"pids-{os.getpid()}.part").rename(HERE / f"pids-{os.getpid()}")
        program.wait()

class Batches(EMT):
    def batched_forces(self, structures):
        return ((k, EMT().get_forces(a)) for k, a in enumerate(structures))
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The folder of the module `factories`, importable here and in processes."""
    (tmp_path / "factories.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "factories", raising=False)
    yield tmp_path
    sys.modules.pop("factories", None)


def structures(count=6):
    """Displacements that leave the neighbour list as it is: EMT keeps the one that it has, and adds in its order."""
    for number in range(count):
        atoms = bulk("Al", cubic=True)
        atoms.positions += 0.2
        atoms.positions[number % 4] += 0.01 * np.array([number + 1, 2, -1])
        atoms.info["number"] = number
        yield atoms


def forces_by(name, count=6):
    with CalculatorPool(f"ase:factories:{name}", 2) as pool:
        return dict(pool.batched_forces(structures(count)))


def check(found, count=6):
    expected = dict(one_by_one(EMT(), structures(count)))
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[k], expected[k]) for k in expected)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not condition():
        time.sleep(0.05)
    assert condition()


@pytest.mark.parametrize("factory", [EMT, partial(LennardJones, sigma=2.3, epsilon=0.1, rc=5.0)])
def test_constants_are_the_same_bit_for_bit(factory):
    options = {"fc2_supercell": (2, 2, 1), "fc3_supercell": (2, 1, 1)}
    seen = []
    (_, serial), report = finite_displacements(bulk("Al", cubic=True), factory(), **options)
    (_, shared), again = finite_displacements(
        bulk("Al", cubic=True), factory, **options, processes=2, progress=lambda *x: seen.append(x)
    )
    assert np.array_equal(serial.fc2, shared.fc2)
    assert np.array_equal(serial.fc3, shared.fc3)
    assert report == again
    assert seen == [(name, k + 1, n) for name, n in zip(("fc2", "fc3"), report.calls, strict=True) for k in range(n)]


def test_every_process_makes_its_calculator_once(module):
    with CalculatorPool("ase:factories:counted", 2) as pool:
        for _ in range(2):
            check(dict(pool.batched_forces(structures())))
    assert len(list(module.glob("made-*"))) == 3  # this one too, for single structures


def test_it_is_an_ase_calculator():
    atoms, other = bulk("Al", cubic=True), bulk("Al", cubic=True)
    atoms.calc, other.calc = CalculatorPool(EMT, 2), EMT()
    assert atoms.get_potential_energy() == other.get_potential_energy()
    assert np.array_equal(atoms.get_stress(), other.get_stress())
    with pytest.raises(AttributeError):
        _ = atoms.calc.no_such_name


def test_forces_come_as_they_are_done_and_structures_are_read_when_needed(module):
    read = []

    def told():
        for atoms in structures():
            read.append(atoms.info["number"])
            yield atoms

    order = []
    with CalculatorPool("ase:factories:Late", 2) as pool:
        for index, _ in pool.batched_forces(told()):
            order.append(index)
            assert len(read) <= len(order) + 2
    assert sorted(order) == list(range(6))
    assert order[0] != 0


@pytest.mark.parametrize("name", ["Dies", "Raises"])
def test_one_failure_is_tried_again(module, name):
    (module / "deaths").write_text("1")
    check(forces_by(name))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Dies", "failed at displaced supercell 3 in two processes (ended by signal 9): if memory ran out, use fewer processes"),
        ("Raises", "failed at displaced supercell 3 in two processes (RuntimeError: no convergence)"),
    ],
)  # fmt: skip
def test_two_failures_end_the_work(module, name, message):
    (module / "deaths").write_text("2")
    with CalculatorPool(f"ase:factories:{name}", 2) as pool:
        with pytest.raises(InputError) as caught:
            list(pool.batched_forces(structures()))
        assert str(caught.value) == f"the calculator {message}"
        assert ("in get_forces" in str(caught.value.__cause__)) == (name == "Raises")
        check(dict(pool.batched_forces(structures(2))), 2)  # and the pool goes on with new ones


def test_a_factory_that_fails(module):
    with pytest.raises(InputError, match=r"factories:broken raised RuntimeError \(no weights\)"):
        CalculatorPool("ase:factories:broken", 2)
    (module / "parent").write_text(str(os.getpid()))
    with pytest.raises(
        InputError, match=r"in two processes .*factories:only_here raised RuntimeError \(the device is taken\)"
    ):
        forces_by("only_here")


def test_what_a_calculator_prints_and_reads_does_not_disturb(module):
    check(forces_by("Talks", 3), 3)


def test_what_a_process_is_given_and_loads(module, monkeypatch):
    """One thread unless told otherwise; no JAX, but its precision for calculators that bring it."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    with CalculatorPool("ase:factories:facts", 1) as pool:
        list(pool.batched_forces(structures(1)))
    (facts,) = (f for f in module.glob("facts-*") if f.name != f"facts-{os.getpid()}")
    variables, jax_is_loaded, arguments = eval(facts.read_text())
    assert [variables[name] for name in THREADS] == ["1"] * len(THREADS)
    assert not jax_is_loaded
    assert arguments == ["-c"]
    assert variables.get("JAX_ENABLE_X64") == ("1" if jax.config.read("jax_enable_x64") else None)


@pytest.mark.parametrize(("threads", "expected"), [(None, "3"), (2, "2")])
def test_threads_that_are_told(monkeypatch, threads, expected):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    pool = CalculatorPool(EMT, 1, threads)
    assert {pool._variables[name] for name in THREADS} == {expected}


def test_an_interrupt_leaves_no_processes(module):
    """Ctrl-C as a Python program meets it, between two answers."""
    with CalculatorPool("ase:factories:counted", 2) as pool:
        pids = []

        def interrupted():
            with forces_as_they_come(pool, structures()) as pairs:
                for _ in pairs:
                    pids.extend(worker.process.pid for worker in pool._workers)
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert pids
        wait_until(lambda: not any(map(runs, pids)))
        check(dict(pool.batched_forces(structures())))
        pids = [worker.process.pid for worker in pool._workers]
        assert all(map(runs, pids))
    assert not any(map(runs, pids))


def test_processes_end_with_the_pool():
    pool = CalculatorPool(EMT, 1)
    list(pool.batched_forces(structures(1)))
    (pid,) = (worker.process.pid for worker in pool._workers)
    assert runs(pid)
    del pool
    assert not runs(pid)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are not listed here")
@pytest.mark.parametrize(
    ("program", "number"),
    [("python", signal.SIGINT), ("python", signal.SIGKILL), ("command line", signal.SIGTERM)],
)
def test_however_the_program_ends_its_processes_and_theirs_end(module, program, number):
    """In the middle of a calculation that would take minutes, of a program that the calculator has started."""
    start = {
        "python": "",
        "command line": "from wigner_jax._core.interrupts import take_over_signals; take_over_signals(); ",
    }
    code = (
        f"{start[program]}import factories; from ase.build import bulk; from wigner_jax import CalculatorPool;"
        "pool = CalculatorPool('ase:factories:Slow', 2); list(pool.batched_forces([bulk('Al')] * 4))"
    )
    process = subprocess.Popen(
        in_foreground("-c", code), cwd=module, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        wait_until(lambda: len(list(module.glob("pids-*[0-9]"))) == 2, 60)
        pids = [int(pid) for file in module.glob("pids-*[0-9]") for pid in file.read_text().split()]
        assert all(map(runs, pids))
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not any(map(runs, pids)))
    if program == "command line":
        assert errors == "wigner-jax: terminated\n"


def in_main():
    return EMT()


def test_misuse(module, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="processes must be a whole number above zero, got 0"):
        calculator_for(EMT(), 0)
    with pytest.raises(InputError, match="threads must be at least 1"):
        CalculatorPool(EMT, 2, 0)
    with pytest.raises(InputError, match="each process makes its own calculator, and a EMT is one already"):
        calculator_for(EMT(), 2)
    with pytest.raises(InputError, match="cannot be sent to another process"):
        CalculatorPool(lambda: EMT(), 2)
    monkeypatch.setattr(in_main, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "in_main", in_main, raising=False)
    with pytest.raises(InputError, match=r"of the main program, .*: put the function into a module"):
        CalculatorPool(in_main, 2)
    with pytest.raises(InputError, match="takes whole batches of supercells: leave processes out"):
        CalculatorPool("ase:factories:Batches", 2)
    with pytest.raises(InputError, match="processes are for ASE calculators, and tersoff-1989 is a potential in JAX"):
        any_model("tersoff-1989", 2)
    with pytest.raises(InputError, match="potential in JAX"):
        any_model(load_potential("tersoff-1989"), 2)
    with pytest.raises(InputError, match="potential in JAX"):
        prepare("Si", processes=2)
    with pytest.raises(InputError, match="processes must be"):
        any_model("tersoff-1989", 0)


def test_a_pool_that_is_given_stays(module):
    options = {"fc2_supercell": (2, 1, 1), "fc3_supercell": (2, 1, 1)}
    with CalculatorPool("ase:factories:counted", 1) as pool:
        for _ in range(2):
            finite_displacements(bulk("Al", cubic=True), pool, **options)
        assert len(pool._workers) == 1
    assert len(list(module.glob("made-*"))) == 2
