"""``wigner-jax finetune``: train a potential on conductivities, as a configuration says."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from ..potentials.base import Params, Potential
    from ..training.model import Model
    from ..training.on_conductivity.config import Run
    from ..training.train_state import State


HELP = "train a potential on conductivities"
DESCRIPTION = """\
Train a potential on reference conductivities. CONFIG is a YAML file:

  potential: nequix-mp-1.nqx        a name, or a file that load_potential reads
  output: run                       folder for checkpoint.npz, history.csv and the tuned model
  materials:                        any number of them
    - structure: LiBr.vasp          a file or a prototype's name; an .extxyz of many, with mp_id
      reference: dft.json.gz        mode conductivities; with mp_id
      mp_id: mp-23259
      mesh: [19, 19, 19]            and fc2_supercell, fc3_supercell, temperatures, name, relax: true,
      split: train                  or validation; stress: 1.0 holds the cell at its minimum
      targets:                      kappa (form: log, relative or sre; value), srme (smooth), frequencies,
        srme: {weight: 1.0}         heat_capacity, gruneisen (value: γ(T) from Φ3), imaginary (floor),
                                    experiment (points: [[T, κ, σ], ...])
  replay: {file: frames.extxyz, forces: 1.0, energy: 0.0, stress: 0.0, per_step: 1}
  train: ["layers.3.*"]             names of parameters; freeze: [...], lora: {layers: [...], rank: 4}
  optimizer: {name: adam, learning_rate: 1.0e-3, clip: 1.0}      any of optax, with its options;
                                    learning_rate: {schedule: cosine_decay_schedule, init_value: ..., ...}
  epochs: 20                        and accumulate, ema, l2sp, early_stopping: {patience: 5}, seed,
                                    broadening: adaptive or {gaussian: 0.1}, sampling: {points, draws, patterns}

A run that was interrupted goes on where it was when the same command is given again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the subcommand."""
    parser.add_argument("config", metavar="CONFIG.yaml", help="what to train, and on what")
    parser.add_argument("--check", action="store_true", help="read and check everything, and train nothing")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Read the configuration, train, write history and model."""
    from ..training.on_conductivity.config import read_config
    from ..training.on_conductivity.loop import finetune as train

    run = read_config(arguments.config)
    count = sum(x.size for x in run.model.trained.values())
    print(f"{run.potential.name}: {count} numbers are trained; {len(run.tasks)} materials, {len(run.frames[0])} frames")
    if arguments.check:
        return 0
    run.folder.mkdir(parents=True, exist_ok=True)
    state = train(run.model, run.tasks, run.optimizer, run.settings, run.frames, run.folder, signature=run.signature)
    print(f"written: {write_results(run, state)}")
    return 0


def write_results(run: Run, state: State) -> Path:
    """history.csv, and the model of the best epoch."""
    from ..potentials.saving import ending

    write_history(run.folder / "history.csv", state.history)
    path = run.folder / f"model{ending(run.potential)}"
    write_model(run.potential, run.model, state.best, path, run.template)
    return path


def write_history(path: Path, history: list[dict[str, Any]]) -> None:
    """A table of the epochs, written aside and renamed."""
    from .._core.atomic_write import atomic_write

    columns = dict.fromkeys(key for row in history for key in row)
    with atomic_write(path) as part, part.open("w", newline="") as file:
        writer: Any = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(history)


def write_model(potential: Potential, model: Model, trained: Params, path: Path, template: Path | None) -> None:
    """The potential with these numbers in the place of those that were trained."""
    import jax
    import numpy as np

    from ..potentials.saving import save_potential

    merge: Any = model.energy
    params = jax.tree.map(lambda x: np.asarray(x, float), merge.merge(trained, model.frozen))
    save_potential(potential.with_params(params), path, template)
