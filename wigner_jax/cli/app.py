"""The command line, ``wigner-jax kappa Si``: parsing, JAX's set-up, errors as one line. The work is in the module of each verb."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from .._core.interrupts import take_over_signals, wait_if_ending
from .._core.version import __version__
from ..errors import AccuracyWarning, ImaginaryModes, InputError, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


DESCRIPTION = """\
Lattice thermal conductivity from the Wigner transport equation, on JAX."""
EPILOG = """\
examples:
  wigner-jax kappa Si                                silicon with a built-in potential: relax, force constants, κ
  wigner-jax kappa Si -T 100 300 600 -o si.hdf5      several temperatures at once, everything kept in a file
  wigner-jax kappa phono3py.yaml --mesh 19 19 19     force constants (fc2.hdf5, fc3.hdf5) of a phono3py calculation
  wigner-jax kappa POSCAR --potential tersoff-1989   any structure that ASE reads, any potential that knows its elements
  wigner-jax screen crystals/ --potential nequix-mp-1 -o screening     many structures, one table
  wigner-jax plot si.hdf5 -o si.png                  linewidths, κ(T) and cumulative κ
  wigner-jax benchmark --potential nequix-mp-1 --structures solids.extxyz --reference dft.json.gz -o campaign
  wigner-jax train config.yaml                       a potential on energies, forces and stresses
"""


class _Parser(argparse.ArgumentParser):
    """Errors of usage in one line, like all others."""

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:  # argparse makes a list of it
            raise argparse.ArgumentError(action, "expected one argument")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


#: what follows `wigner-jax`: each has a module here with HELP, DESCRIPTION, add_arguments and run
COMMANDS = ("kappa", "screen", "plot", "benchmark", "models", "train", "finetune", "cache")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands; each sets `run`, the function that does it."""
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="wigner-jax", description=DESCRIPTION, epilog=EPILOG, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"wigner-jax {__version__}")
    subparsers = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f".{name}", __package__)
        command = subparsers.add_parser(name, help=module.HELP, description=module.DESCRIPTION, formatter_class=form)
        command.set_defaults(run=module.run)
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def configure_jax(threads: int | None) -> None:
    """Double precision, one JAX device for each core, and the persistent compilation cache. Command line only."""
    import jax

    from .._core.compile_cache import enable_compilation_cache, trim_malloc_after_compilation

    if threads is not None and threads < 1:
        raise InputError(f"--threads must be a positive number, got {threads}")
    if threads is not None and threads > (there := os.cpu_count() or threads):
        raise InputError(f"--threads is {threads}, and this machine has {there} cores", f"give at most {there}")
    jax.config.update("jax_enable_x64", True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # the backend runs already if a program calls main(): it keeps its devices
        jax.config.update("jax_num_cpu_devices", threads or cores)
    enable_compilation_cache()
    trim_malloc_after_compilation()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    With the arguments of the process, the default, it is the command itself: Ctrl-C and SIGTERM end the process with one
    line and 130 or 143 (_core/interrupts.py). A program that gives others keeps its own ways with signals.

    Returns:
        0; 1 for an error inside; 2 for bad input; 3 for imaginary modes; 130 if interrupted; 141 if nobody reads the
        output any more. Errors are one line on stderr. What was closed from the beginning (``>&-``) is written nowhere.
    """
    _open_closed_streams()
    if (
        (arguments is None or [*arguments] == sys.argv[1:])
        and take_over_signals()
        and isinstance(sys.stdout, io.TextIOWrapper)
    ):
        sys.stdout.reconfigure(line_buffering=True)  # what was printed is not lost
    code = _run(arguments)
    wait_if_ending()
    return code


def _open_closed_streams() -> None:
    """Python has no object for a closed stdout or stderr, and the next file that is opened would get its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the end


def _run(arguments: Sequence[str] | None) -> int:
    debug = False
    try:
        parsed = build_parser().parse_args(arguments)
        debug = parsed.debug
        if parsed.command != "models":
            configure_jax(getattr(parsed, "threads", None))
        with warnings.catch_warnings():
            warnings.showwarning = _notes()
            warnings.simplefilter("always", AccuracyWarning)
            code = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        wait_if_ending()
        print("wigner-jax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        return 141
    except ImaginaryModes as error:
        return _report(InputError(error.found, f"{error.remedy} (--allow-imaginary)"), 3, debug)
    except (ValueError, OSError, ImportError) as error:
        return _report(error, 2, debug)
    except Exception as error:
        return _report(error, 1, debug)


def _notes() -> Callable[..., None]:
    """Warnings of the package are one line on stderr, said once; others are not for those who use the command line."""
    said: set[str] = set()

    def note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, AccuracyWarning) and str(message) not in said:
            said.add(str(message))
            print(f"note: {message}", file=sys.stderr)

    return note


def _report(error: Exception, code: int, debug: bool) -> int:
    wait_if_ending()
    if debug:
        raise error
    message = one_line(" ".join(str(error).split())) or type(error).__name__
    if code == 1:
        message = f"internal error: {type(error).__name__}: {message[:300]} (run with --debug for the traceback)"
    print(f"wigner-jax: error: {message}", file=sys.stderr)
    return code
