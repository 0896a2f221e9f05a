"""The command line, ``wigner-jax kappa Si``: parsing, JAX's set-up, errors as one line. The work is in the module of each verb."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from .._core.version import __version__
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


DESCRIPTION = """\
Lattice thermal conductivity from the Wigner transport equation, on JAX."""
EPILOG = """\
examples:
  wigner-jax kappa Si                                silicon with a built-in potential: relax, force constants, κ
  wigner-jax kappa Si -T 100 300 600 -o si.hdf5      several temperatures at once, everything kept in a file
  wigner-jax kappa phono3py.yaml --mesh 19 19 19     force constants (fc2.hdf5, fc3.hdf5) of a phono3py calculation
  wigner-jax kappa POSCAR --potential tersoff-1989   any structure that ASE reads, any potential that knows its elements
  wigner-jax plot si.hdf5 -o si.png                  linewidths, κ(T) and cumulative κ
  wigner-jax benchmark --potential nequix-mp-1 --structures solids.extxyz --reference dft.json.gz --out campaign
  wigner-jax train config.yaml                       a potential on energies, forces and stresses
"""


class _Parser(argparse.ArgumentParser):
    """Errors of usage in one line, like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


#: what follows `wigner-jax`: each has a module here with HELP, DESCRIPTION, add_arguments and run
COMMANDS = ("kappa", "plot", "benchmark", "models", "train", "finetune")


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


def cache_folder() -> Path | None:
    """Where compiled programs are kept between runs: the user's cache folder, or None where that cannot be written."""
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") is not None:
        return None  # the user has chosen, JAX reads it itself
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache")
    folder = base / "wigner-jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def configure_jax(threads: int | None) -> None:
    """Double precision, one JAX device for each core, and the persistent compilation cache. Command line only."""
    import jax

    if threads is not None and threads < 1:
        raise InputError(f"--threads must be a positive number, got {threads}")
    jax.config.update("jax_enable_x64", True)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # the backend runs already if a program calls main(): it keeps its devices
        jax.config.update("jax_num_cpu_devices", threads or cores)
    if (folder := cache_folder()) is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0; 1 for an error inside; 2 for bad input; 3 for imaginary modes; 130 if interrupted; 141 if nobody reads the
        output any more. Errors are one line on stderr.
    """
    parsed = build_parser().parse_args(arguments)
    try:
        if parsed.command != "models":
            configure_jax(getattr(parsed, "threads", None))
        code = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("wigner-jax: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        return 141
    except (ValueError, OSError, ImportError, PackageNotFoundError) as error:
        return _report(error, getattr(error, "exit_code", 2), parsed.debug)
    except Exception as error:
        return _report(error, 1, parsed.debug)


def _report(error: Exception, code: int, debug: bool) -> int:
    if debug:
        raise error
    message = " ".join(str(error).split()) or type(error).__name__
    if code == 1:
        message = f"internal error: {type(error).__name__}: {message[:300]} (run with --debug for the traceback)"
    print(f"wigner-jax: error: {message}", file=sys.stderr)
    return code
