"""Ctrl-C and SIGTERM for the command line: one line on stderr, exit code 130 or 143, at any moment.

Python runs a handler in the main thread between two of its instructions. While that thread is inside XLA it does not, for
minutes if a program is being compiled; an exception raised there later ends in a library's ``except`` or in a callback that
swallows it; and an interpreter that is torn down while XLA's threads compute ends in a segmentation fault. So nothing is
raised. The number of the signal goes into a pipe at once (`signal.set_wakeup_fd`), a thread waits at its other end, and that
thread ends the process: temporary files are removed, the line is written, and the operating system does the rest. All that
this package writes survives it, as it survives a kill (_core/atomic_write.py).

Work that holds what is worth saving asks for a moment with `before_the_end`. The second signal gives none.
"""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from .temporaries import remove_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


PATIENCE = 5.0  # s, for work that wants to save what it has
CODES = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}

_received = threading.Event()
_saved = threading.Event()
_saving = 0  # blocks of `before_the_end` that are open
_installed = False


def take_over_signals() -> bool:
    """From now on Ctrl-C and SIGTERM end this process as above. For the command line alone; the first call counts.

    Signals that whoever started the process has switched off (``nohup``, a job in the background) stay off.

    Returns:
        whether they are taken over now: not outside the main thread.
    """
    global _installed
    if _installed or threading.current_thread() is not threading.main_thread():
        return _installed
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_watch, args=(reading,), daemon=True, name="wigner-jax signals").start()
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in CODES:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _nothing)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_leave_to_python)
    atexit.register(_leave_in_peace)  # the first to be registered is the last to be called
    _installed = True
    return True


@contextlib.contextmanager
def before_the_end() -> Iterator[Callable[[], bool]]:
    """Work that saves its state when a signal comes; gives a function that says whether one has come.

    Ask it now and then, save, and raise KeyboardInterrupt. Who does not within `PATIENCE` seconds is ended without.
    Without `take_over_signals` the answer is always no, and Ctrl-C is Python's own KeyboardInterrupt.
    """
    global _saving
    _saving += 1
    try:
        yield _received.is_set
    finally:
        _saving -= 1
        if not _saving:
            _saved.set()


def wait_if_ending() -> None:
    """Where a signal has come, wait for the end of the process: nothing else is to be said or returned."""
    if _received.is_set():
        _saved.set()
        while True:
            threading.Event().wait()


def _nothing(number: int, frame: object) -> None:
    """Signals need some handler, else they end the process themselves."""


def _leave_to_python() -> None:
    """A worker that a library forks has no such thread, and its signals must not end this process through the pipe."""
    signal.set_wakeup_fd(-1)
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is _nothing:
            signal.signal(number, usual)


def _leave_in_peace() -> None:
    """The work is done, and only the interpreter is taken down, which gives signals back to the system: they change nothing.

    One that came before ends the process with its own code, also where the work ended because its programs were ended.
    """
    wait_if_ending()
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)


def _watch(reading: int) -> NoReturn:
    """Waits for the first signal, and ends the process."""
    number = _next(reading)
    _received.set()
    if _saving:
        _saved.clear()
        threading.Thread(target=_second, args=(reading,), daemon=True).start()
        _saved.wait(PATIENCE)
    _end(number)


def _second(reading: int) -> NoReturn:
    _end(_next(reading))


def _next(reading: int) -> int:
    """The next signal that ends the process."""
    while True:
        content = os.read(reading, 1)
        if content and content[0] in CODES:
            return content[0]


def _end(number: int) -> NoReturn:
    code, word = CODES[signal.Signals(number)]
    remove_open()
    _end_children()
    start = "\r\x1b[K" if sys.stderr is not None and sys.stderr.isatty() else ""  # where progress is shown
    try:
        os.write(2, f"{start}wigner-jax: {word}\n".encode())
    finally:
        os._exit(code)


def _end_children() -> None:
    """Programs that a calculator has started end too. Where the system does not list them, they are left to themselves."""
    for listed in glob.glob("/proc/self/task/*/children"):
        with contextlib.suppress(OSError, ValueError):
            with open(listed) as file:
                children = [int(word) for word in file.read().split()]
            for child in children:
                os.kill(child, signal.SIGTERM)


__all__ = ["before_the_end", "take_over_signals", "wait_if_ending"]
