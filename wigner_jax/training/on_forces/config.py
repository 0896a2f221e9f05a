"""``wigner-jax train config.yaml``: the file, checked key by key, into a model, batches and an optimizer.

    potential: my.model               # a name, or a file that load_potential reads
    from_scratch: false               # true: random weights (MACE), energies of atoms and scale from the labels
    output: run                       # folder: checkpoint.npz, history.csv, the model
    data:
      train: [train.extxyz, more.db]  # a file or several
      validation: 0.1                 # a share of them, drawn by `seed`, or files
      energy: REF_energy              # names of labels; so for forces, stress, hessian
    batch: 8
    epochs: 100                       # or steps: 20000
    learning_rate: 0.001
    schedule: {name: cosine, warmup: 200, final: 0.0}      # or constant
    optimizer: {name: amsgrad}        # of optax, with its options
    ema: 0.99
    clip: 10.0                        # largest norm of a gradient; 0: any
    loss: {energy: 1.0, forces: 1.0, stress: 1.0, hessian: 0.0, hessian_columns: 2}
    train: ["*"]                      # patterns of parameters; freeze: [...]
    precision: float32                # float64 where atoms have energies of thousands of eV
    seed: 0

Every error is one line that names the key.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...errors import InputError
from ...potentials.registry import load_potential
from ...potentials.saving import template_of
from ..config_schema import choice, file_in, flag, integer, number, optax_of, read_yaml, strings, table, within
from ..model import Model
from ..parameters import adapt
from .batches import Batches, require_batchable
from .dataset import LABELS, frames_of, label_keys, read_structures, train_validation_split
from .fit import TrainSettings, warm_cosine
from .initial import initial, usually_fixed

if TYPE_CHECKING:
    from collections.abc import Callable

    import ase

    from ...potentials.base import Potential
    from ..frames import Frame


TOP = {
    "potential", "from_scratch", "output", "data", "batch", "epochs", "steps", "learning_rate", "schedule", "optimizer",
    "ema", "clip", "loss", "train", "freeze", "precision", "seed",
}  # fmt: skip


class FitRun(NamedTuple):
    """Everything that `fit.fit` takes, and where to write."""

    potential: Potential
    template: Path | None  # the file of the potential
    model: Model
    optimizer: optax.GradientTransformation
    data: tuple[Batches, Batches]
    settings: TrainSettings
    folder: Path
    signature: str
    summary: str  # one line


def read_config(path: str | Path) -> FitRun:
    """Read and check a configuration; potential and structures are read too. InputError names the key."""
    path = Path(path)
    return build(read_yaml(path), path.parent)


def build(data: Any, folder: Path) -> FitRun:
    """A run from the contents of a configuration; file names are relative to `folder`."""
    data = table(data, "the configuration", TOP, ("potential", "output", "data"))
    seed = integer(data.get("seed", 0), "seed", least=0)
    dtype = np.dtype(choice(data.get("precision", "float32"), "precision", ("float32", "float64")))
    weights, columns = _loss(data.get("loss") or {})
    size = integer(data.get("batch", 8), "batch")
    settings_of, optimizer_of = _settings(data, seed), _optimizer(data)
    name = str(data["potential"])
    file = file_in(folder, name)
    potential = within("potential", lambda: load_potential(file if file.is_file() else name))
    within("potential", lambda: require_batchable(potential))
    scratch = flag(data.get("from_scratch", False), "from_scratch")

    frames, held, labels = _frames(data["data"], folder, potential, weights, seed)
    if scratch:
        potential = initial(potential, frames, seed)
    chosen = data.get("train")
    adapted, trained, frozen = adapt(
        potential,
        ["*"] if chosen is None else strings(chosen, "train"),
        [*strings(data.get("freeze", []), "freeze"), *(usually_fixed(potential) if chosen is None else [])],
    )
    trained, frozen = jax.tree.map(lambda x: jnp.asarray(x, dtype), (trained, frozen))
    batches = Batches(frames, size, dtype, columns, weights["hessian"])
    checks = Batches(held, size, dtype, columns, weights["hessian"])
    settings = settings_of(batches.count)
    summary = (
        f"{potential.name}: {sum(x.size for x in trained.values())} numbers are trained in {dtype.name} for"
        f" {settings.steps} steps, {batches.count} an epoch; {len(frames)} structures, {len(held)} for validation; labels: {labels}"
    )
    # with a constant rate a run may be prolonged; a cosine depends on the steps
    length = {"epochs", "steps"} if optimizer_of.constant else set()
    plain = {k: v for k, v in data.items() if k not in {"output", "potential", *length}}
    digest = hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode())
    for array in jax.tree.leaves(
        (trained, frozen, [(f.graph.positions, f.energy, f.forces) for f in [*frames, *held]])
    ):
        digest.update(np.ascontiguousarray(array).tobytes())
    return FitRun(
        potential, template_of(potential, file), Model(adapted, trained, frozen), optimizer_of.make(settings.steps),
        (batches, checks), settings, file_in(folder, str(data["output"])), digest.hexdigest()[:16], summary,
    )  # fmt: skip


def _loss(value: Any) -> tuple[dict[str, float], int]:
    """Weights of energy, forces, stress and hessian, and the number of columns; NaN marks a weight left to the data."""
    given = table(value, "loss", {*LABELS, "hessian_columns"})
    weights = {k: number(given[k], f"loss.{k}") if k in given else np.nan for k in LABELS}
    weights["hessian"] = weights["hessian"] if "hessian" in given else 0.0
    return weights, integer(given.get("hessian_columns", 2), "loss.hessian_columns")


def _frames(
    value: Any, folder: Path, potential: Potential, weights: dict[str, float], seed: int
) -> tuple[list[Frame], list[Frame], str]:
    """Training and validation frames, and what labels they have. Weights that were not given are set: 1 if there are labels."""
    given = table(value, "data", {"train", "validation", *LABELS}, ("train",))
    structures, sources = _read(given["train"], "data.train", folder)
    split = given.get("validation", 0.1)
    if isinstance(split, (str, list)):
        held, held_sources = _read(split, "data.validation", folder)
    else:
        share = number(split, "data.validation")
        if not 0 < share < 1:
            raise InputError(f"data.validation must be a file, or a share between 0 and 1, got {split!r}")
        both = list(zip(structures, sources, strict=True))
        parts = within("data.validation", lambda: train_validation_split(both, share, seed))
        (structures, sources), (held, held_sources) = (tuple(map(list, zip(*p, strict=True))) for p in parts)
    names = {k: v for k, v in given.items() if k in LABELS}
    if wrong := [k for k, v in names.items() if not isinstance(v, str)]:
        raise InputError(f"data.{wrong[0]} must be the name of a label such as REF_{wrong[0]}, got {names[wrong[0]]!r}")
    keys = within("data", lambda: label_keys([*structures, *held], names))
    for label in LABELS:
        if label not in keys and weights[label] > 0:
            raise InputError(
                f"loss.{label}: no structure has REF_{label} or {label}: set it to 0, or name it in data.{label}"
            )
        if np.isnan(weights[label]):
            weights[label] = float(label in keys)
    if not any(weights.values()):
        raise InputError(
            "data: no structure has energy, forces or stress with a weight above 0: name them in data.energy, ..."
        )
    frames, held_frames = (
        frames_of(x, names, potential, keys, weights) for x, names in ((structures, sources), (held, held_sources))
    )
    there = np.sum([f.weights > 0 for f in [*frames, *held_frames]], axis=0)
    counted = [f"{keys[label]} {count}" for label, count in zip(LABELS, there, strict=False) if count]
    return frames, held_frames, ", ".join([*counted, *([keys["hessian"]] if weights["hessian"] else [])])


def _read(value: Any, key: str, folder: Path) -> tuple[list[ase.Atoms], list[str]]:
    """Structures of all files, and for each what it is called in an error."""
    structures, sources = [], []
    for name in strings(value, key, "files"):
        found = within(key, partial(read_structures, file_in(folder, name)))
        structures += found
        sources += [f"{key}: structure {k} of {name}" for k in range(len(found))]
    if not structures:
        raise InputError(f"{key} names no file")
    return structures, sources


def _settings(data: dict[str, Any], seed: int) -> Callable[[int], TrainSettings]:
    """batches of an epoch → settings."""
    if "epochs" in data and "steps" in data:
        raise InputError("epochs and steps were both given: leave one out")
    epochs = integer(data.get("epochs", 100), "epochs")
    steps = integer(data["steps"], "steps") if "steps" in data else None
    ema = number(data.get("ema", 0.99), "ema")
    if ema >= 1:
        raise InputError(f"ema must be at least 0 and below 1, got {ema:g}")
    return lambda count: TrainSettings(epochs * count if steps is None else steps, ema, seed)


class _Optimizer(NamedTuple):
    make: Callable[[int], optax.GradientTransformation]  # from the number of steps
    constant: bool  # whether these make no difference


def _optimizer(data: dict[str, Any]) -> _Optimizer:
    """Already tried for ten steps."""
    rate = number(data.get("learning_rate", 1e-3), "learning_rate")
    schedule = data.get("schedule", "cosine")
    given = table(
        {"name": schedule} if isinstance(schedule, str) else schedule, "schedule", {"name", "warmup", "final"}
    )
    cosine = choice(given.get("name", "cosine"), "schedule.name", ("cosine", "constant")) == "cosine"
    final = number(given.get("final", 0.0), "schedule.final")
    warmup = None if "warmup" not in given else integer(given["warmup"], "schedule.warmup", least=0)
    options = table(data.get("optimizer") or {}, "optimizer", None)
    if "learning_rate" in options:
        raise InputError("optimizer.learning_rate: give it as learning_rate, beside optimizer")
    name = options.pop("name", "amsgrad")
    clip = number(data.get("clip", 10.0), "clip")

    def make(steps: int) -> optax.GradientTransformation:
        first = (min(200, steps // 20) if cosine else 0) if warmup is None else warmup
        rates = warm_cosine(rate, steps, first, final, cosine)
        chain = [optax.clip_by_global_norm(clip)] if clip else []
        return optax.chain(*chain, optax_of(name, "optimizer.name", {"learning_rate": rates, **options}))

    make(10)
    return _Optimizer(make, not cosine)


__all__ = [
    "FitRun",
    "build",
    "read_config",
]
