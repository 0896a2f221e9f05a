"""The command line, ``wigner-jax kappa Si``: parsing, JAX's set-up, errors as one line. The work is in commands.py."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from .. import __version__
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
KAPPA = """\
Thermal conductivity of a crystal in the relaxation-time approximation of the Wigner transport equation: populations
(κ_P, the Boltzmann value) and coherences (κ_C).

SOURCE is one of
  a name       a crystal with a built-in prototype, for example Si
  a structure  any file that ASE reads (POSCAR, cif, extxyz, ...)
  a yaml       phono3py.yaml with fc2.hdf5 and fc3.hdf5 beside it, phono3py_params.yaml[.xz] with forces,
               or phono3py_disp.yaml with FORCES_FC3 beside it
The force constants of a name or a structure come from a potential, by automatic differentiation."""


class _Parser(argparse.ArgumentParser):
    """Errors of usage in one line, like all others."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all subcommands; each sets `run`, the function of commands.py that does it."""
    form = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="wigner-jax", description=DESCRIPTION, epilog=EPILOG, formatter_class=form)
    parser.add_argument("--version", action="version", version=f"wigner-jax {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")

    kappa = commands.add_parser(
        "kappa", help="thermal conductivity of a crystal", description=KAPPA, formatter_class=form
    )
    kappa.set_defaults(run="kappa")
    kappa.add_argument("source", metavar="SOURCE", help="prototype name, structure file, or phono3py yaml")

    model = kappa.add_argument_group("force constants (from a name or a structure)")
    model.add_argument(
        "--potential",
        metavar="NAME|FILE",
        help="default: a built-in one that is meant for the compound; ase:module:factory takes any ASE calculator",
    )
    model.add_argument(
        "--force-constants",
        choices=("ad", "finite-displacement"),
        help="automatic differentiation, or phono3py's displacements of 0.03 Å (default: as `wigner-jax models` says)",
    )
    supercell = "in units of the given cell (default: what the file says, else conventional cells to a thickness of"
    model.add_argument("--fc2-supercell", nargs=3, metavar=("a", "b", "c"), help=f"{supercell} 10 Å)")
    model.add_argument("--fc3-supercell", nargs=3, metavar=("a", "b", "c"), help=f"{supercell} 8 Å)")
    model.add_argument(
        "--relax",
        action=argparse.BooleanOptionalAction,
        help="relax cell and atoms within the symmetry first (default)",
    )

    physics = kappa.add_argument_group("scattering and transport")
    physics.add_argument(
        "--mesh",
        nargs=3,
        metavar=("a", "b", "c"),
        help="q-mesh of the primitive cell (default: 35 Å long, 11 11 11 for Si)",
    )
    physics.add_argument(
        "-T", "--temperature", nargs="+", type=float, default=[300.0], metavar="K", help="default: 300"
    )
    physics.add_argument(
        "--broadening",
        choices=("tetrahedron", "gaussian", "adaptive"),
        default="tetrahedron",
        help="of energy conservation",
    )
    physics.add_argument(
        "--symmetrized",
        action="store_true",
        help="tetrahedra with the mesh's own symmetry, whatever the primitive cell; face-centred crystals have them anyway",
    )
    physics.add_argument("--sigma", type=float, metavar="THz", help="width of --broadening gaussian (default: 0.1)")
    physics.add_argument(
        "--nac",
        metavar="BORN|none",
        help="BORN file for the non-analytic correction, or none (default: what the source has)",
    )
    physics.add_argument(
        "--nac-method",
        choices=("gonze", "wang"),
        default="gonze",
        help="Gonze and Lee (default), or Wang's interpolation",
    )
    physics.add_argument("--no-isotope", action="store_true", help="leave out scattering by natural isotopes")
    physics.add_argument("--boundary-mfp", type=float, metavar="µm", help="add boundary scattering of this length")
    physics.add_argument(
        "--allow-imaginary", action="store_true", help="go on with imaginary modes (they do not scatter)"
    )

    run = kappa.add_argument_group("running")
    run.add_argument("-o", "--output", metavar="FILE.hdf5", help="write everything, in phono3py's kappa HDF5 schema")
    run.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    run.add_argument("--quiet", action="store_true", help="print nothing but the table of results")
    run.add_argument("--debug", action="store_true", help="show the traceback of an error")

    _add_plot(commands)
    _add_benchmark(commands)
    _add_models(commands)
    _add_train(commands)
    _add_finetune(commands)
    return parser


def _add_plot(commands: Any) -> None:
    from .plot import DESCRIPTION, add_arguments

    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "plot", help="figures of a kappa HDF5 file, or of a benchmark", description=DESCRIPTION, formatter_class=form
    )
    parser.set_defaults(run="plot", threads=None)
    add_arguments(parser)


def _add_benchmark(commands: Any) -> None:
    from .benchmark import DESCRIPTION, add_arguments

    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "benchmark", help="a potential against reference conductivities", description=DESCRIPTION, formatter_class=form
    )
    parser.set_defaults(run="benchmark")
    add_arguments(parser)


def _add_models(commands: Any) -> None:
    from .models import DESCRIPTION, add_arguments

    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "models", help="the potentials that go by name", description=DESCRIPTION, formatter_class=form
    )
    parser.set_defaults(run="models")
    add_arguments(parser)


def _add_train(commands: Any) -> None:
    from .train import DESCRIPTION, add_arguments

    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "train",
        help="train a potential on energies, forces and stresses",
        description=DESCRIPTION,
        formatter_class=form,
    )
    parser.set_defaults(run="train")
    add_arguments(parser)


def _add_finetune(commands: Any) -> None:
    from .finetune import DESCRIPTION, add_arguments

    form = argparse.RawDescriptionHelpFormatter
    parser = commands.add_parser(
        "finetune", help="train a potential on conductivities", description=DESCRIPTION, formatter_class=form
    )
    parser.set_defaults(run="finetune")
    add_arguments(parser)


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
        from . import kappa as commands

        if parsed.run in ("kappa", "plot", "benchmark", "train", "finetune"):
            configure_jax(parsed.threads)
        code = getattr(commands, parsed.run)(parsed)
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
