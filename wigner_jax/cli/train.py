"""``wigner-jax train``: train a potential on energies, forces, stresses and Hessian columns, as a configuration says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from ..training.train_state import State


HELP = "train a potential on energies, forces and stresses"
DESCRIPTION = """\
Train a potential on energies, forces, stresses and Hessian columns. CONFIG is a YAML file:

  potential: my.model               a MACE, SevenNet or Nequix model: a name, or a file that load_potential reads
  from_scratch: false               true (MACE): random weights, energies of atoms and scale from the labels
  output: run                       folder for checkpoint.npz, history.csv and the model
  data:
    train: train.extxyz             a file or several: extxyz, ASE databases (.db), all that ASE reads
    validation: 0.1                 a share of them (default), or files
    energy: REF_energy              names of labels, and forces, stress, hessian; default: REF_energy, REF_forces,
                                    REF_stress, REF_hessian where they are, else the results of a calculator
  batch: 8                          structures in a batch
  epochs: 100                       or steps
  learning_rate: 1.0e-3
  schedule: cosine                  or constant; {name: cosine, warmup: 200, final: 0.0}: steps of warm-up (default: 5 %,
                                    at most 200), share of the rate at the end
  optimizer: {name: amsgrad}        any of optax, with its options; clip: 10.0 is the largest norm of a gradient, 0: any
  ema: 0.99                         decay of the moving average of weights, which is validated and saved; 0: none
  loss: {energy: 1.0, forces: 1.0, stress: 1.0, hessian: 0.0, hessian_columns: 2}
                                    weights of mean squares in units of 10 meV/atom, 50 meV/Å and 2 meV/Å³, and of the
                                    relative square error of columns, so many random ones of each structure and step
  freeze: []                        names of parameters that stay, or train: [...] those that change; default: all that
                                    the model's own program trains
  precision: float32                or float64
  seed: 0

A label REF_hessian has the 9 N² numbers ∂²E/∂x∂x in eV/Å²: an entry of the extxyz header line, or of a database's data.
Weights with the lowest validation loss are saved, in the format of the model's own program, whenever there are better ones.
With --resume a run that was interrupted goes on where it was: bit for bit on a CPU."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="what to train, and on what")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in the output folder")
    parser.add_argument("--check", action="store_true", help="read and check everything, and train nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the names of the files written")


def run(arguments: argparse.Namespace) -> int:
    """Read the configuration, train, write history and model."""
    from ..potentials.saving import ending
    from ..training.on_forces.config import read_config
    from ..training.on_forces.fit import fit
    from .finetune import write_history, write_model

    run = read_config(arguments.config)
    _check_folder(run.folder, arguments.resume)

    def report(text: str) -> None:
        if not arguments.quiet:
            print(text, flush=True)

    report(run.summary)
    if arguments.check:
        return 0
    if arguments.resume and not (run.folder / "checkpoint.npz").exists():
        report(f"no checkpoint in {run.folder}: training starts at the beginning")
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / f"model{ending(run.potential)}"

    def write(state: State) -> None:
        write_history(run.folder / "history.csv", state.history)
        write_model(run.potential, run.model, state.best, path, run.template)

    state = fit(
        run.model, run.optimizer, run.data, run.settings, run.folder,
        report=report, signature=run.signature, improved=write,
    )  # fmt: skip
    write(state)
    print(f"written: {path} (epoch {state.best_epoch}, validation loss {state.best_score:.5f})")
    return 0


def _check_folder(folder: Path, resume: bool) -> None:
    from ..errors import InputError

    if folder.exists() and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise InputError(f"output: {folder} is not a folder that can be written to: name another")
    if not resume and (folder / "checkpoint.npz").exists():
        raise InputError(f"output: {folder} holds a run: continue it with --resume, or name another folder")
