"""``wigner-jax converge``: κ against the mesh, a supercell or a cutoff, until it changes no more."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.atomic_write import check_folder, check_output, write_text
from .._core.own_files import is_figure
from .._core.progress import Progress, progress_stream
from ..convergence import converge
from ..convergence.study import OVER
from ..errors import InputError
from ..io.constants.own import is_own, write_own
from ..plan.mesh import mesh_dims
from ..types import Scattering
from .checks import positive
from .options import mesh_and_supercells
from .sources import SOURCES, add_model, add_source, source_of

if TYPE_CHECKING:
    import argparse

    from ..convergence import Convergence
    from ..convergence.study import Step
    from ..pipeline import Problem

HELP = "κ against mesh, supercell or cutoff, until it changes no more"
DESCRIPTION = (
    """\
κ against the q-mesh, the supercell of Φ2 or Φ3, or the cutoff of Φ3, from coarse to fine, until the uncertainty is below the tolerance. The crystal
is relaxed once, and force constants that do not change are made once.

Over the mesh, κ with linear tetrahedra is taken as linear in 1/N and fitted to the last three: the value is the extrapolated
one, its uncertainty the distance from the last that was computed. Over supercells and cutoffs there is no law: the value is the
last one, the uncertainty what the last step changed.

"""
    + SOURCES
)
UNFINISHED = 6  # the tolerance was not reached
HEAD = ("over", "value", "size", "temperature", "kappa", "kappa_xx", "kappa_yy", "kappa_zz", "kappa_yz", "kappa_xz", "kappa_xy",
        "next_to_gamma", "seconds")  # fmt: skip
ADVICE = "name another folder"
FILES = ("convergence.csv", "convergence.png", "force_constants.hdf5")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    add_source(parser)
    study = parser.add_argument_group("study")
    study.add_argument("--over", choices=OVER, default="mesh", help="what is varied (default: mesh)")
    study.add_argument(
        "--values", nargs="+", metavar="a,b,c",
        help="meshes, supercells or cutoffs (Å) from coarse to fine, such as 9,9,9 11,11,11 (default: 15 Å and a quarter longer"
        " each; conventional cells from 5 Å thick on, 2 Å thicker each; one shell of atoms more each)",
    )  # fmt: skip
    study.add_argument("--tolerance", type=float, default=0.02, metavar="x", help="relative (default: 0.02)")
    study.add_argument("-T", "--temperature", type=float, default=300.0, metavar="K", help="default: 300")
    study.add_argument(
        "--mesh", nargs=3, metavar=("a", "b", "c"), help="of a study over supercells or cutoffs (default: as `kappa`)"
    )
    study.add_argument("--no-isotope", action="store_true", help="leave out scattering by natural isotopes")
    study.add_argument(
        "-o",
        "--out",
        metavar="FOLDER",
        help="convergence.csv, convergence.png and, where they are made once, the force constants",
    )
    add_model(parser, processes=False)
    run = parser.add_argument_group("running")
    run.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    run.add_argument("--quiet", action="store_true", help="print nothing but the result")


def run(arguments: argparse.Namespace) -> int:
    """The table as it grows, then the value."""
    mesh, second, third = mesh_and_supercells(arguments)
    positive(arguments.tolerance, "--tolerance")
    folder = None if arguments.out is None else _places(arguments.out)
    source, model = source_of(arguments)
    stages = Progress(progress_stream(arguments.quiet))
    rows: list[Step] = []

    def show(step: Step) -> None:
        rows.append(step)
        if folder is not None:
            write_text(folder / FILES[0], _table(rows, arguments), ADVICE)
        if not arguments.quiet:
            if len(rows) == 1:
                print(f"{arguments.over:>12} {'κ':>12} {'change':>10} {'next to Γ':>11} {'seconds':>9}", flush=True)
            change = f"{100 * (step.average / rows[-2].average - 1):+8.2f} %" if len(rows) > 1 else ""
            print(
                f"{step.label:>12} {step.average:12.4f} {change:>10} {100 * step.next_to_gamma:9.1f} % {step.seconds:9.1f}",
                flush=True,
            )

    def keep(problem: Problem) -> None:
        if folder is not None and problem.report.derivatives != "given":
            write_own(folder / FILES[2], problem.given)

    study = converge(
        source, model, over=arguments.over, values=_values(arguments), tolerance=arguments.tolerance,
        temperature=arguments.temperature, mesh=mesh, fc2_supercell=second, fc3_supercell=third,
        relax=arguments.relax is not False, derivatives=arguments.derivatives, symprec=arguments.symprec,
        scattering=Scattering(None if arguments.no_isotope else "natural"), on_step=show, after_constants=keep, progress=stages,
    )  # fmt: skip
    print(summary(study))
    if folder is not None:
        written = [
            FILES[0],
            *_figure(folder, study, str(arguments.source or arguments.fc)),
            *([FILES[2]] if (folder / FILES[2]).exists() else []),
        ]
        print(f"written: {', '.join(str(folder / name) for name in written)}")
    return 0 if study.converged else UNFINISHED


def summary(study: Convergence) -> str:
    """The value, in two lines."""
    share = study.uncertainty / abs(study.average) if study.average else np.inf
    number = f"{study.average:.4f} ± {study.uncertainty:.4f}" if np.isfinite(share) else f"{study.average:.4f}"
    percent = f" ({100 * share:.2g} %)" if np.isfinite(share) else ""
    end = "reached" if study.converged else "not reached: give finer values, or a larger --tolerance"
    return f"\nκ = {number} W/(m K) at {study.temperature:g} K{percent}; {study.law}\ntolerance of {100 * study.tolerance:g} % {end}"


def _values(arguments: argparse.Namespace) -> list[Any] | None:
    if arguments.values is None:
        return None
    if arguments.over == "cutoff":
        try:
            return [float(text) for text in arguments.values]
        except ValueError:
            raise InputError(
                f"--values has {' '.join(arguments.values)!r}", "give lengths in Å, such as 3 4 5"
            ) from None
    found = []
    for text in arguments.values:
        try:
            numbers = [int(x) for x in text.replace("x", ",").replace("×", ",").split(",")]
        except ValueError:
            raise InputError(f"--values has {text!r}", "write them as 11,11,11") from None
        numbers = numbers * 3 if len(numbers) == 1 else numbers
        if arguments.over == "mesh":
            mesh_dims(numbers)
        found.append(numbers)
    return found


def _places(path: str) -> Path:
    folder = check_folder(path, 0.0, ADVICE)
    kinds = (_is_table, is_figure, is_own)
    for name, ours in zip(FILES, kinds, strict=True):
        if folder.is_dir():
            check_output(folder / name, what="a file of a study", ours=ours, advice=ADVICE)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _is_table(path: Path) -> bool:
    with path.open(errors="replace") as file:
        return file.readline().strip() == ",".join(HEAD)


def _table(rows: list[Step], arguments: argparse.Namespace) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HEAD)
    for step in rows:
        numbers = [step.average, *step.kappa.tolist(), step.next_to_gamma, round(step.seconds, 2)]
        writer.writerow([arguments.over, step.label, step.size, arguments.temperature, *numbers])
    return text.getvalue()


def _figure(folder: Path, study: Convergence, title: str) -> list[str]:
    """Its name, or nothing where matplotlib is not installed."""
    from .._core.atomic_write import atomic_write
    from ..convergence.figure import convergence_figure

    try:
        figure = convergence_figure(study, Path(title).name)
    except InputError:
        return []
    with atomic_write(folder / FILES[1], ADVICE) as part:
        figure.savefig(part, format="png", dpi=200)
    return [FILES[1]]
