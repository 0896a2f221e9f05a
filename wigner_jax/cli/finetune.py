"""``wigner-jax finetune``: train a potential on conductivities, as a configuration says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..training.config_schema import help_text

if TYPE_CHECKING:
    import argparse

HELP = "train a potential on conductivities"
DESCRIPTION = f"""\
Train a potential on reference conductivities. CONFIG is a YAML file:

{help_text("finetune")}

The output folder gets the tuned model (best weights so far, after every epoch), history.csv, checkpoint.npz, and README.txt
with the commands that compute κ of the tuned model. The same command given again goes on where the run was; --restart begins
anew. A run with changed settings is refused."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand; those of `train` too."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="what to train, and on what")
    parser.add_argument("--restart", action="store_true", help="begin anew, whatever is in the output folder")
    parser.add_argument("--check", action="store_true", help="read and check everything, and train nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the names of the files written")


def reporter(quiet: bool) -> partial[None]:
    """What prints a line at once, so that a log has it; nothing if `quiet`."""
    return partial(_silent) if quiet else partial(print, flush=True)


def _silent(_: str) -> None:
    pass


def run(arguments: argparse.Namespace) -> int:
    """Read the configuration, train, write history, model and README.txt."""
    from .._core.compile_cache import evict_compiled_programs
    from ..training.on_conductivity.config import read_config
    from ..training.on_conductivity.loop import finetune
    from ..training.on_conductivity.reproduce import kappa_line, structure_file, write_inputs, write_results
    from ..training.runs import open_folder, write_epoch, write_history, write_model, write_step
    from ..training.train_state import Callbacks

    run, report = read_config(arguments.config), reporter(arguments.quiet)
    report(run.summary)
    for note in run.notes:
        report(note)
    if arguments.check:
        return 0

    def before_material() -> None:
        evict_compiled_programs()

    callbacks = Callbacks(before_material, after_step=partial(write_step, run), after_epoch=partial(write_epoch, run))
    more = ("README.txt", *(structure_file(task.material) for task in run.tasks))
    with open_folder(run, arguments.restart, more):
        write_inputs(run)
        state = finetune(
            run.model, run.tasks, run.optimizer, run.settings, run.frames, run.folder, report=report,
            signature=run.signature, callbacks=callbacks,
        )  # fmt: skip
        write_history(run.folder / "history.csv", state.history)
        written = write_model(run, state.best)
        found = write_results(run, written, state.best, before_material)
    for task in run.tasks:
        report(kappa_line(task.material, found[task.material.name]))
    print(f"written: {run.model_file} (epoch {state.best_epoch}, score {state.best_score:.5f})")
    return 0
