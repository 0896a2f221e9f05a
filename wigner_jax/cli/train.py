"""``wigner-jax train``: train a potential on energies, forces, stresses and Hessian columns, as a configuration says."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..training.config_schema import help_text
from .finetune import add_arguments, reporter

if TYPE_CHECKING:
    import argparse

HELP = "train a potential on energies, forces and stresses"
DESCRIPTION = f"""\
Train a potential on energies, forces, stresses and Hessian columns. CONFIG is a YAML file:

{help_text("train")}

The output folder gets the model (best weights so far, after every epoch), history.csv and checkpoint.npz. The same command
given again goes on where the run was, to the same numbers bit for bit on the same CPU with the same --threads; --restart
begins anew. A run with changed settings or data is refused."""


def run(arguments: argparse.Namespace) -> int:
    """Read the configuration, train, write history and model."""
    from ..training.on_forces.config import read_config
    from ..training.on_forces.fit import fit
    from ..training.runs import open_folder, write_epoch, write_history, write_model, write_step
    from ..training.train_state import Callbacks

    run, report = read_config(arguments.config), reporter(arguments.quiet)
    report(run.summary)
    if arguments.check:
        return 0
    callbacks = Callbacks(after_step=partial(write_step, run), after_epoch=partial(write_epoch, run))
    with open_folder(run, arguments.restart):
        state = fit(
            run.model, run.optimizer, run.data, run.settings, run.folder, report=report, signature=run.signature,
            callbacks=callbacks,
        )  # fmt: skip
        write_history(run.folder / "history.csv", state.history)
        write_model(run, state.best)
    print(f"written: {run.model_file} (epoch {state.best_epoch}, score {state.best_score:.5f})")
    return 0


__all__ = ["DESCRIPTION", "HELP", "add_arguments", "run"]
