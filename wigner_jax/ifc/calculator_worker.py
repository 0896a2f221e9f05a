"""A process of a `CalculatorPool`: it makes its calculator once, then answers every structure with its forces.

It leads a group of processes, with the programs that its calculator starts. All of them end when the pool closes its end of
the pipe, which the system does for a pool that is gone, whatever became of it.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import threading
import traceback
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .calculator_factory import make_calculator

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Pickles come in: a factory, then structures. For each structure goes out its forces, or (reason, traceback)."""
    signal.signal(signal.SIGTERM, lambda *_: _end_group())
    messages, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:  # programs of the calculator do not read what is not for them
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # whatever prints does not disturb
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(messages, inbox), daemon=True).start()
    forces = _forces_by(inbox.get())
    while True:
        answer = forces(inbox.get())
        try:
            pickle.dump(answer, answers, pickle.HIGHEST_PROTOCOL)
            answers.flush()
        except BrokenPipeError:  # nobody waits for it any more
            _end_group()


def _forces_by(factory: bytes) -> Callable[[bytes], Any]:
    """From a pickled structure to the answer."""
    try:
        calculator = make_calculator(pickle.loads(factory))
    except BaseException as error:
        failure = _told(error)
        return lambda _: failure

    def forces(structure: bytes) -> Any:
        try:
            atoms = pickle.loads(structure)
            atoms.calc = calculator
            return np.array(atoms.get_forces())
        except BaseException as error:
            return _told(error)

    return forces


def _told(error: BaseException) -> tuple[str, str]:
    return f"{type(error).__name__}: {error}", traceback.format_exc()


def _receive(messages: BinaryIO, inbox: queue.SimpleQueue[bytes]) -> None:
    """A thread of its own, so that the end is noticed in the middle of the work too."""
    try:
        while True:
            inbox.put(pickle.load(messages))
    except (EOFError, OSError, pickle.UnpicklingError):
        _end_group()


def _end_group() -> None:
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


__all__ = ["main"]
