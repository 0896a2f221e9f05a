"""``wigner-jax train config.yaml``: the file into a model, batches and an optimizer.

    potential: my.model
    output: run
    data: {train: [train.extxyz, more.db], validation: 0.1}
    batch: 8
    epochs: 100
    optimizer: {name: amsgrad, learning_rate: 0.001, schedule: cosine, clip: 10.0}
    ema: 0.99
    loss: {energy: 1.0, forces: 1.0, stress: 1.0, hessian: 0.0}

All keys are in training/config_schema.py. Every error is one line that names the key.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.reading import reading
from ..config_schema import file_in, parse, read_yaml, within
from ..dataset import read_frames
from ..model import Model
from ..optimizers import make_optimizer
from ..runs import Run, inputs_of, read_potential, require_folder, signature_of, split_parameters
from .batches import Batches, require_batchable
from .fit import TrainSettings
from .initial import initial, usually_fixed, with_atom_energies


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FitRun(Run):
    """Everything that `fit.fit` takes."""

    data: tuple[Batches, Batches]  #: for training and validation
    settings: TrainSettings  #: how long, and from which random numbers


def read_config(path: str | Path) -> FitRun:
    """Read and check a configuration; potential and structures are read too. InputError names the key."""
    path = Path(path)
    data = read_yaml(path)
    with reading(path, "a configuration of `train`"):
        return build(data, path.parent)


def build(data: Any, folder: Path) -> FitRun:
    """A run from the contents of a configuration; file names are relative to `folder`."""
    given = parse(data, "train")
    output = file_in(folder, given["output"])
    require_folder(output)
    make_optimizer(given["optimizer"], 10)  # refused before anything is read
    seed, dtype, loss = given["seed"], np.dtype(given["precision"]), given["loss"]
    potential, template = read_potential(given, folder)
    within("potential", lambda: require_batchable(potential))
    found = read_frames(given["data"], loss, folder, potential, seed)
    if given["from_scratch"]:
        potential = initial(potential, found.frames, seed, found.atom_energies)
    potential = with_atom_energies(potential, found.atom_energies)
    model = split_parameters(potential, given, usually_fixed)
    trained, frozen = jax.tree.map(lambda x: jnp.asarray(x, dtype), (model.trained, model.frozen))
    batches, checks = (
        Batches(x, given["batch"], dtype, loss["hessian_columns"], found.weights["hessian"])
        for x in (found.frames, found.held)
    )
    steps = given["steps"] or given["epochs"] * batches.count
    settings = TrainSettings(steps, given["ema"], seed, patience=given["early_stopping"]["patience"])
    summary = (
        f"{potential.name}: {sum(x.size for x in trained.values())} numbers are trained in {dtype.name} for"
        f" {steps} steps, {batches.count} an epoch; {len(found.frames)} structures, {len(found.held)} for validation;"
        f" labels: {found.labels}"
    )
    frames = [(f.graph.positions, f.energy, f.forces, f.stress, f.weights) for f in [*found.frames, *found.held]]
    signature = signature_of(given, the_potential=(trained, frozen), the_structures_of_data=frames)
    return FitRun(
        potential=potential, template=template, model=Model(model.energy, trained, frozen),
        optimizer=make_optimizer(given["optimizer"], steps), folder=output, signature=signature, summary=summary,
        inputs=inputs_of(given, folder),
        data=(batches, checks), settings=settings,
    )  # fmt: skip


__all__ = [
    "FitRun",
    "build",
    "read_config",
]
