"""The command line, ``wigner-jax kappa Si``: parsing, JAX's set-up, errors as one line. The work is in the module of each verb."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import os
import re
import sys
import textwrap
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

from .._core.interrupts import take_over_signals, wait_if_ending
from .._core.version import __version__
from ..errors import AccuracyWarning, ImaginaryModes, InputError, MemoryWarning, nearest, one_line

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


COMMAND = "  wigner-jax "  # how a line begins that shows one


class _Text(argparse.HelpFormatter):
    """Help as wide as the terminal: paragraphs are filled, and so are the lines of a list beside their names."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines: list[str] = []
        for block in text.split("\n\n"):
            filled: list[str] = []
            for line in block.splitlines():
                inside = len(line) - len(line.lstrip())
                if (
                    filled and inside == len(_head(filled[-1])) and not line.startswith(COMMAND)
                ):  # the text above goes on
                    filled[-1] += f" {line.strip()}"
                else:
                    filled.append(line)
            lines += [*(_beside(line, width) for line in filled), ""]
        return "\n".join(lines).rstrip()


def _head(line: str) -> str:
    """What stands before the text of a line: an indented name with two blanks or more behind it, else blanks."""
    found = re.match(r" +\S.*? {2,}(?=\S)| *", line)
    assert found is not None
    return found[0]


def _beside(line: str, width: int) -> str:
    """A paragraph, or an entry of a list: its text beside the name, or below a long one."""
    head = _head(line)
    if len(line) <= width:
        return line
    if len(head) > width // 2 and head.strip():
        below = " " * 6
        return (
            head.rstrip()
            + "\n"
            + textwrap.fill(line[len(head) :], width, initial_indent=below, subsequent_indent=below)
        )
    if line.startswith(COMMAND) and not head.strip():
        return line  # it is copied
    return textwrap.fill(line[len(head) :], width, initial_indent=head, subsequent_indent=" " * len(head))


class _Parser(argparse.ArgumentParser):
    """Errors of usage in one line, like all others."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        close = nearest(str(value), map(str, action.choices))
        hint = f"did you mean {close}?" if close else f"choose from {', '.join(map(str, action.choices))}"
        raise argparse.ArgumentError(action, f"invalid choice: {value!r}: {hint}")

    def _match_argument(self, action: argparse.Action, arg_strings_pattern: str) -> int:
        try:
            return super()._match_argument(action, arg_strings_pattern)
        except argparse.ArgumentError as error:
            if not isinstance(action.nargs, int):
                raise
            found = len(arg_strings_pattern) - len(arg_strings_pattern.lstrip("A"))
            raise argparse.ArgumentError(action, f"expected {action.nargs} arguments, got {found}") from error

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and action.nargs is None and arg_strings == ["--"]:  # argparse makes a list of it
            raise argparse.ArgumentError(action, "expected one argument")
        return super()._get_values(action, arg_strings)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {one_line(message)} (see {self.prog} --help)\n")


class _Command(_Parser):
    """The parser of one command: it says itself what it does not know."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            option = unknown[0].partition("=")[0]
            close = nearest(option, self._option_string_actions) if option.startswith("-") else None
            self.error(f"unrecognized arguments: {' '.join(unknown)}" + (f": did you mean {close}?" if close else ""))
        return parsed, unknown


#: what follows `wigner-jax`: each has a module here with HELP, DESCRIPTION, add_arguments and run
COMMANDS = (
    "kappa",
    "fc",
    "converge",
    "screen",
    "plot",
    "benchmark",
    "models",
    "prototypes",
    "train",
    "finetune",
    "cache",
)


def build_parser(arguments: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands, or of the one that the arguments begin with, since the modules of the others take time to
    import. Each sets `run`, the function that does it."""
    names = arguments[:1] if arguments and arguments[0] in COMMANDS else COMMANDS
    parser = _Parser(prog="wigner-jax", description=DESCRIPTION, epilog=EPILOG, formatter_class=_Text)
    parser.add_argument("--version", action="version", version=f"wigner-jax {__version__}")
    subparsers = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND", parser_class=_Command
    )
    for name in names:
        module = importlib.import_module(f".{name}", __package__)
        command = subparsers.add_parser(name, help=module.HELP, description=module.DESCRIPTION, formatter_class=_Text)
        command.set_defaults(run=module.run)
        module.add_arguments(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def configure_jax(threads: int | None) -> None:
    """Double precision, one JAX device for each core, and the persistent compilation cache. Command line only."""
    import jax

    from .._core.compile_cache import enable_compilation_cache, trim_malloc_after_compilation

    if threads is not None and threads < 1:
        raise InputError(f"--threads must be a positive number, got {threads}", "leave it out to use all cores")
    if threads is not None and threads > (there := os.cpu_count() or threads):
        raise InputError(f"--threads is {threads}, and this machine has {there} cores", f"give at most {there}")
    jax.config.update("jax_enable_x64", True)
    if (
        "JAX_TRACEBACK_IN_LOCATIONS_LIMIT" not in os.environ
    ):  # which line of Python an operation comes from: 7 % of tracing
        jax.config.update("jax_traceback_in_locations_limit", 0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # the backend runs already if a program calls main(): it keeps its devices
        jax.config.update("jax_num_cpu_devices", threads or cores)
    if "JAX_PLATFORMS" in os.environ:
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:
            raise InputError(
                f"JAX finds no device: JAX_PLATFORMS is {os.environ['JAX_PLATFORMS'][:60]!r}",
                "unset it, or install JAX for that device",
            ) from error
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
    for stream in (sys.stdout, sys.stderr):  # a terminal that has no Greek letters loses them, not the result
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = _run(arguments)
    wait_if_ending()
    return code


def _open_closed_streams() -> None:
    """Python has no object for a closed stdout or stderr, and the next file that is opened would get its number."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the end


def _keep_xla_silent(arguments: Sequence[str]) -> None:
    """XLA's lines about itself, such as slow compilations on a slow machine, are not for users; its errors are exceptions.

    It reads the variable when JAX is imported, which is later. A user's own value stands, and ``--debug`` shows all.
    """
    if "--debug" not in arguments:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _run(arguments: Sequence[str] | None) -> int:
    debug = False
    try:
        given = sys.argv[1:] if arguments is None else arguments
        _keep_xla_silent(given)
        parsed = build_parser(given).parse_args(given)
        debug = parsed.debug
        if parsed.command not in ("models", "prototypes"):
            configure_jax(getattr(parsed, "threads", None))
        with warnings.catch_warnings():
            warnings.showwarning = _notes()
            for category in (AccuracyWarning, MemoryWarning):
                warnings.simplefilter("always", category)
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
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EIO) and error.filename is None:
            return _report(InputError(f"cannot write the output ({error.strerror})", "send it elsewhere"), 2, debug)
        return _report(error, 2, debug)
    except (ValueError, ImportError) as error:
        return _report(error, 2, debug)
    except Exception as error:
        return _report(error, 1, debug)


def _notes() -> Callable[..., None]:
    """Warnings of the package are one line on stderr, said once; others are not for those who use the command line."""
    said: set[str] = set()

    def note(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, (AccuracyWarning, MemoryWarning)) and str(message) not in said:
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
