"""``wigner-jax finetune config.yaml``: the file, checked key by key, into materials, targets, frames and an optimizer.

    potential: nequix-mp-1            # a name, or a file that load_potential reads
    output: runs/libr                 # folder: checkpoint.npz, history.csv, the model
    materials:
      - name: LiBr
        structure: LiBr.vasp          # a file, a prototype's name, or the phononDB extxyz with mp_id below
        mp_id: mp-23259               # chooses structure and reference
        reference: kappas_phononDB_PBE_noNAC.json.gz
        mesh: [19, 19, 19]            # default: the reference's, else by length
        temperatures: [300]
        split: train                  # or validation
        targets: {srme: {weight: 1.0}, kappa: {weight: 1.0, form: log}, imaginary: {weight: 1.0, floor: 0.1}}
    replay: {file: frames.extxyz, forces: 1.0, per_step: 1}
    train: ["layers.3.*"]
    optimizer: {name: adam, learning_rate: {init_value: 1.0e-3, decay_steps: 100, schedule: cosine_decay_schedule}}
    epochs: 20

Every error is one line that names the key, for example ``materials[0].mesh``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import optax

from ...checks import positive_integers
from ...crystal.defaults import default_mesh, default_supercells
from ...errors import InputError
from ...io.phonondb import read_phonondb, read_phonondb_structure
from ...io.structures import read_structure
from ...physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from ...potentials.registry import load_potential
from ...potentials.saving import template_of
from ..config_schema import file_in, integer, number, numbers, optax_of, read_yaml, strings, table, within
from ..frames import Frame, frame_of, same_size
from ..model import Model
from ..parameters import adapt
from .gradient import Sampling
from .loop import FinetuneSettings, Task
from .material import make_material, pad_to_common_shapes
from .targets import KINDS, Target, make_loss

if TYPE_CHECKING:
    import ase

    from ...potentials.base import Potential
    from ...reference import Reference


TOP = {
    "potential", "output", "materials", "replay", "train", "freeze", "lora", "optimizer", "broadening", "sampling",
    "epochs", "accumulate", "ema", "l2sp", "early_stopping", "max_rejections", "seed",
}  # fmt: skip
MATERIAL = {
    "name", "structure", "mp_id", "reference", "fc2_supercell", "fc3_supercell", "mesh", "temperatures", "split",
    "relax", "stress", "targets",
}  # fmt: skip
TARGET = {
    "kappa": {"form", "value"}, "srme": {"smooth"}, "frequencies": set(), "heat_capacity": set(),
    "gruneisen": {"value"}, "experiment": {"points"}, "imaginary": {"floor"},
}  # fmt: skip


class Run(NamedTuple):
    """Everything that `loop.finetune` takes, and where to write."""

    potential: Potential
    template: Path | None  # the file of the potential
    model: Model
    tasks: list[Task]
    optimizer: optax.GradientTransformation
    settings: FinetuneSettings
    frames: tuple[list[Frame], list[Frame]]
    folder: Path
    signature: str


def read_config(path: str | Path) -> Run:
    """Read and check a configuration; structures, references and frames are read too. InputError names the key."""
    path = Path(path)
    return build(read_yaml(path), path.parent)


def build(data: Any, folder: Path) -> Run:
    """A run from the contents of a configuration; file names are relative to `folder`."""
    data = table(data, "the configuration", TOP, ("potential", "output", "materials"))
    name = str(data["potential"])
    file = file_in(folder, name)
    potential = within("potential", lambda: load_potential(file if file.is_file() else name))
    settings = _settings(data)
    entries = data["materials"]
    if not isinstance(entries, list) or not entries:
        raise InputError("materials must be a list with at least one material")
    references: dict[Path, dict[str, Reference]] = {}
    tasks, extra = [], []
    for k, entry in enumerate(entries):
        task, frame = _material(entry, f"materials[{k}]", folder, potential, data, references)
        tasks.append(task)
        extra += [frame] if frame is not None else []
    names = [t.material.name for t in tasks]
    if repeated := [n for n in names if names.count(n) > 1]:
        raise InputError(f"materials: the name {repeated[0]!r} is used twice: give each its own name")
    shared = pad_to_common_shapes([t.material for t in tasks])
    tasks = [dataclasses.replace(t, material=m) for t, m in zip(tasks, shared, strict=True)]
    replay = _replay(data.get("replay"), folder, potential)
    lora = table(data.get("lora") or {}, "lora", {"layers", "rank"})
    adapted, trained, frozen = adapt(
        potential,
        strings(data.get("train", [] if lora else ["*"]), "train"),
        strings(data.get("freeze", []), "freeze"),
        strings(lora.get("layers", []), "lora.layers"),
        integer(lora.get("rank", 4), "lora.rank"),
        settings.seed,
    )
    output = folder / str(data["output"])
    text = json.dumps({k: v for k, v in data.items() if k not in ("epochs", "output")}, sort_keys=True, default=str)
    return Run(
        potential, template_of(potential, file), Model(adapted, trained, frozen), tasks, _optimizer(data), settings,
        (extra + replay, replay), output, hashlib.sha256(text.encode()).hexdigest()[:16],
    )  # fmt: skip


def _material(
    entry: Any, key: str, folder: Path, potential: Potential, data: dict[str, Any],
    references: dict[Path, dict[str, Reference]],
) -> tuple[Task, Frame | None]:  # fmt: skip
    entry = table(entry, key, MATERIAL, ("structure", "targets"))
    split = entry.get("split", "train")
    if split not in ("train", "validation"):
        raise InputError(f"{key}.split must be train or validation, got {split!r}")
    mp_id = entry.get("mp_id")
    reference = _reference(entry, key, folder, references)
    atoms = within(f"{key}.structure", lambda: _structure(folder, str(entry["structure"]), mp_id))
    if entry.get("relax", False):
        from ...relaxation.newton import relax

        atoms, done = relax(atoms, potential)
        if not done.converged:
            raise InputError(f"{key}.relax: {done.message}")
    cells = within(f"{key}.fc2_supercell, fc3_supercell", lambda: default_supercells(
        atoms, entry.get("fc2_supercell"), entry.get("fc3_supercell")))  # fmt: skip
    mesh = entry.get("mesh")
    if mesh is None:
        mesh = reference.mesh if reference is not None else atoms.info.get("q_mesh", default_mesh(cells.crystal))
    mesh = positive_integers(mesh, f"{key}.mesh")
    temperatures = numbers(entry.get("temperatures", [300.0]), f"{key}.temperatures")
    if reference is not None:
        within(f"{key}.mesh", lambda: reference.require_mesh(mesh))
        for t in temperatures:
            within(f"{key}.temperatures", partial(reference.at, t))
    label = str(entry.get("name") or (reference.name if reference is not None else entry["structure"]))
    broadening = _broadening(data.get("broadening", "adaptive"))
    material = within(key, lambda: make_material(
        label, cells, potential, mesh, temperatures, broadening=broadening, reference=reference))  # fmt: skip
    targets = _targets(entry["targets"], f"{key}.targets")
    task = Task(material, within(f"{key}.targets", lambda: make_loss(material, targets)), split == "train")
    frame = None
    if entry.get("stress"):
        # the cell of the reference is a minimum of its energy: no stress, no forces
        held = atoms.copy()
        held.info["stress"], held.arrays["forces"] = np.zeros((3, 3)), np.zeros((len(held), 3))
        frame = frame_of(held, potential, (0.0, 0.0, number(entry["stress"], f"{key}.stress")))
    return task, frame if split == "train" else None


def _reference(
    entry: dict[str, Any], key: str, folder: Path, references: dict[Path, dict[str, Reference]]
) -> Reference | None:
    if "reference" not in entry:
        return None
    file = file_in(folder, str(entry["reference"]))
    if file not in references:
        references[file] = within(f"{key}.reference", lambda: read_phonondb(file))
    if entry.get("mp_id") not in references[file]:
        raise InputError(f"{key}.mp_id: {file.name} has no {entry.get('mp_id')!r}")
    return references[file][entry["mp_id"]]


def _structure(folder: Path, source: str, mp_id: str | None) -> ase.Atoms:
    from ...crystal.prototypes import available_prototypes, prototype

    file = file_in(folder, source)
    if file.is_file():
        many = mp_id is not None and file.suffix == ".extxyz"
        return read_phonondb_structure(file, str(mp_id)) if many else read_structure(file)
    if source in available_prototypes():
        return prototype(source)
    raise InputError(f"{source!r} is neither a file nor a crystal with a prototype")


def _targets(value: Any, key: str) -> list[Target]:
    found = []
    for kind, options in table(value, key, set(KINDS)).items():
        options = table(options or {}, f"{key}.{kind}", {"weight", *TARGET[kind]})
        weight = number(options.pop("weight", 1.0), f"{key}.{kind}.weight")
        found.append(Target(kind, weight, options))
    return found


def _replay(value: Any, folder: Path, potential: Potential) -> list[Frame]:
    if value is None:
        return []
    given = table(value, "replay", {"file", "energy", "forces", "stress", "per_step"}, ("file",))
    import ase.io

    file = file_in(folder, str(given["file"]))
    if not file.is_file():
        raise InputError(f"replay.file: no file {file}")
    weights = [number(given.get(k, d), f"replay.{k}") for k, d in (("energy", 0.0), ("forces", 1.0), ("stress", 0.0))]
    structures = within("replay.file", lambda: list(ase.io.iread(file, ":")))
    frames = []
    for i, structure in enumerate(structures):
        make = partial(frame_of, structure, potential, weights)
        frames.append(within(f"replay.file: frame {i}", make))
    return same_size(frames)


def _settings(data: dict[str, Any]) -> FinetuneSettings:
    sampling = table(data.get("sampling") or {}, "sampling", {"points", "draws", "patterns"})
    stop = table(data.get("early_stopping") or {}, "early_stopping", {"patience"})
    replay = data.get("replay") or {}
    counts = {k: integer(v, f"sampling.{k}") for k, v in sampling.items()}
    ema = number(data.get("ema", 0.0), "ema")
    if not 0 <= ema < 1:
        raise InputError(f"ema must be at least 0 and below 1, got {ema:g}")
    return FinetuneSettings(
        epochs=integer(data.get("epochs", 20), "epochs"),
        accumulate=integer(data.get("accumulate", 1), "accumulate"),
        replay=integer(replay.get("per_step", 1), "replay.per_step") if isinstance(replay, dict) else 1,
        ema=ema,
        l2sp=number(data.get("l2sp", 0.0), "l2sp"),
        sampling=Sampling(**counts),
        patience=integer(stop["patience"], "early_stopping.patience") if "patience" in stop else None,
        max_rejections=integer(data.get("max_rejections", 10), "max_rejections"),
        seed=integer(data.get("seed", 0), "seed", least=0),
    )


def _optimizer(data: dict[str, Any]) -> optax.GradientTransformation:
    given = table(data.get("optimizer") or {}, "optimizer", None)
    name, clip = given.pop("name", "adam"), given.pop("clip", None)
    rate = given.pop("learning_rate", 1e-3)
    if isinstance(rate, dict):
        rate = dict(rate)
        kind = rate.pop("schedule", None)
        rate = optax_of(kind, "optimizer.learning_rate.schedule", rate)
    chain = [] if clip is None else [optax.clip_by_global_norm(number(clip, "optimizer.clip"))]
    return optax.chain(*chain, optax_of(name, "optimizer.name", {"learning_rate": rate, **given}))


def _broadening(value: Any) -> AdaptiveGaussian | Gaussian:
    if value == "adaptive":
        return AdaptiveGaussian()
    given = table(value, "broadening", {"gaussian"}, ("gaussian",)) if isinstance(value, dict) else None
    if given is None:
        raise InputError(f"broadening must be adaptive or {{gaussian: σ in THz}}, got {value!r}")
    return Gaussian(number(given["gaussian"], "broadening.gaussian"))


__all__ = [
    "Run",
    "build",
    "read_config",
]
