"""Processes with a calculator each, which share the forces of many structures."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import subprocess
import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..errors import InputError
from .calculator_factory import make_calculator, name_of_factory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

    import ase

    from .calculator_factory import Factory


THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
BOOT = "import sys; sys.path[:], sys.argv[1:] = sys.argv[1:], []; from {} import main; main()"


class CalculatorPool:
    """An ASE calculator that has the forces of many structures made by several processes.

        with CalculatorPool("ase:my_module:make_calculator", processes=8) as pool:
            solution = wj.conductivity(atoms, pool)

    Each process makes a calculator of its own, once, and then receives displaced supercells, one at a time. The forces are
    those of one process, bit for bit, if the calculator's depend on nothing but the structure. In memory are as many
    calculators as there are processes and one more: that of this process, which does single structures (relaxations).

    Processes start with the first supercells and end with `close`, with the pool, or with this process, by Ctrl-C too. They
    are new processes and no forks, so that JAX and torch in this one do not matter; the main program is not run again.

    Args:
        factory: ``ase:module:factory``, or a function or class without arguments that other processes can import.
        processes: how many.
        threads: of each process (OMP_NUM_THREADS and its like). None: what the environment says, else 1.

    Raises:
        InputError: the factory fails, is one of the main program, or makes a calculator that takes whole batches.
    """

    def __init__(self, factory: Factory, processes: int, threads: int | None = None) -> None:
        require_processes(processes)
        if threads is not None and not threads >= 1:
            raise InputError(f"threads must be at least 1, got {threads}")
        self.name, self.processes = name_of_factory(factory), processes
        self.calculator = make_calculator(factory)
        if hasattr(self.calculator, "batched_forces"):
            raise InputError(f"{self.name} takes whole batches of supercells", "leave processes out")
        self._factory = _pickled(factory, self.name)
        self._variables = _variables(threads)
        self._workers: list[_Worker] = []
        weakref.finalize(self, _close_all, self._workers)

    def __getattr__(self, name: str) -> Any:
        """Everything that ASE asks of a calculator is answered by that of this process."""
        if name.startswith("__") or name == "calculator":
            raise AttributeError(name)
        return getattr(self.calculator, name)

    def batched_forces(self, structures: Iterable[ase.Atoms]) -> Iterator[tuple[int, np.ndarray]]:
        """(index, forces (N, 3) eV/Å) of every structure, as they come. See `BatchedForces`.

        A process that dies or raises is replaced, and its structure is tried once more.

        Raises:
            InputError: two processes have failed at one structure.
        """
        tasks = enumerate(structures)
        again: deque[tuple[int, ase.Atoms]] = deque()
        failed: set[int] = set()
        finished = False
        try:
            while True:
                while (worker := self._free()) is not None:
                    if (task := again.popleft() if again else next(tasks, None)) is None:
                        break
                    worker.begin(*task)
                busy = [worker for worker in self._workers if worker.task is not None]
                if not busy:
                    break
                for worker in _answering(busy):
                    assert worker.task is not None
                    index, atoms = worker.task
                    answer = worker.answer()
                    if isinstance(answer, np.ndarray):
                        yield index, answer
                        continue
                    told = answer or worker.death()
                    self._workers.remove(worker)
                    worker.close()
                    if index in failed:
                        raise _failure(index, told)
                    failed.add(index)
                    again.append((index, atoms))
            finished = True
        finally:
            if not finished:  # answers are still to come, which the next structures would take for theirs
                self.close()

    def close(self) -> None:
        """End the processes. The next structures start new ones."""
        _close_all(self._workers)

    def __enter__(self) -> CalculatorPool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _free(self) -> _Worker | None:
        """A process without work, a new one while there are fewer than there may be."""
        for worker in self._workers:
            if worker.task is None:
                return worker
        if len(self._workers) == self.processes:
            return None
        self._workers.append(_Worker(self._factory, self._variables))
        return self._workers[-1]


class _Worker:
    """A process of `calculator_worker`. One answer at most is under way, so that none waits in a buffer unseen by `select`."""

    def __init__(self, factory: bytes, variables: dict[str, str]) -> None:
        boot = BOOT.format(f"{__package__}.calculator_worker")
        self.process = subprocess.Popen(
            [sys.executable, "-c", boot, *sys.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=variables, process_group=0,
        )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.answers = self.process.stdin, self.process.stdout
        self.task: tuple[int, ase.Atoms] | None = None
        self._send(factory)

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it died, which its answer will say
            pickle.dump(message, self.stdin, pickle.HIGHEST_PROTOCOL)
            self.stdin.flush()

    def begin(self, index: int, atoms: ase.Atoms) -> None:
        self.task = (index, atoms)
        self._send(pickle.dumps(atoms, pickle.HIGHEST_PROTOCOL))

    def answer(self) -> Any:
        """Forces, or (reason, traceback), or None if it died."""
        self.task = None
        try:
            return pickle.load(self.answers)
        except (EOFError, OSError, pickle.UnpicklingError):
            return None

    def death(self) -> tuple[str, str]:
        """(how it ended, no traceback)."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return "its pipe was closed", ""
        return f"ended by signal {-code}" if code < 0 else f"ended with code {code}", ""

    def close(self) -> None:
        """End it, with the programs that its calculator has started."""
        with contextlib.suppress(OSError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        self.answers.close()
        self.process.wait()


def require_processes(processes: int) -> None:
    """Raises InputError for what is no number of processes."""
    if not (isinstance(processes, (int, np.integer)) and processes >= 1):
        raise InputError(f"processes must be a whole number above zero, got {processes!r}")


def _answering(busy: Sequence[_Worker]) -> list[_Worker]:
    """Those that have answered or died, at least one."""
    ready, _, _ = select.select([worker.answers for worker in busy], [], [])
    return [worker for worker in busy if worker.answers in ready]


def _close_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().close()


def _failure(index: int, told: tuple[str, str]) -> InputError:
    """The error of a structure, with the traceback of the process as its cause."""
    reason, trace = told
    error = InputError(
        f"the calculator failed at displaced supercell {index + 1} in two processes ({reason})",
        "" if trace else "if memory ran out, use fewer processes",
    )
    error.__cause__ = RuntimeError(f"in a process of the calculator\n{trace}") if trace else None
    return error


def _pickled(factory: Factory, name: str) -> bytes:
    try:
        content = pickle.dumps(factory, pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        reason = f"{name} cannot be sent to another process ({error})"
    else:
        if isinstance(factory, str) or b"__main__" not in content:
            return content
        reason = f"{name} is of the main program, which other processes cannot import"
    raise InputError(reason, 'put the function into a module, and give it or "ase:module:function"')


def _variables(threads: int | None) -> dict[str, str]:
    """The environment of a process: its threads, and double precision in JAX where it is on here."""
    told = {name: os.environ.get(name, os.environ.get("OMP_NUM_THREADS", "1")) for name in THREADS}
    wanted = told if threads is None else dict.fromkeys(THREADS, str(threads))
    precision = {"JAX_ENABLE_X64": "1"} if jax.config.read("jax_enable_x64") else {}
    return {**os.environ, **wanted, **precision}


__all__ = ["CalculatorPool", "require_processes"]
