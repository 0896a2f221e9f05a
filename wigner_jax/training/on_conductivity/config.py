"""``wigner-jax finetune config.yaml``: the file into materials, targets, frames and an optimizer.

    potential: nequix-mp-1
    output: runs/libr
    materials:
      - structure: LiBr.vasp
        mp_id: mp-23259
        reference: kappas_phononDB_PBE_noNAC.json.gz
        targets: {srme: {weight: 1.0}, kappa: {weight: 1.0, form: log}, imaginary: {weight: 1.0, floor: 0.1}}
    data: {train: frames.extxyz}
    loss: {forces: 1.0}
    train: ["layers.3.*"]
    optimizer: {name: adam, learning_rate: 0.001, schedule: cosine}
    epochs: 20

All keys are in training/config_schema.py. Every error is one line that names the key, such as ``materials[0].mesh``.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..._core.reading import reading
from ...checks import positive_integers
from ...crystal.defaults import default_mesh, default_supercells
from ...crystal.supercells import integer_matrix
from ...errors import InputError
from ...io.phonondb import read_phonondb, read_phonondb_structure
from ...io.structures import read_structure
from ...physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from ..config_schema import file_in, parse, read_yaml, within
from ..dataset import read_frames
from ..frames import Frame, frame_of, same_size
from ..on_forces.initial import usually_fixed, with_atom_energies
from ..optimizers import make_optimizer
from ..runs import Run, inputs_of, read_potential, require_folder, signature_of, split_parameters
from .gradient import Sampling
from .loop import FinetuneSettings, Task
from .material import make_material, pad_to_common_shapes
from .targets import MODES, Target, make_loss

if TYPE_CHECKING:
    import ase

    from ...potentials.base import Potential
    from ...reference import Reference


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class FinetuneRun(Run):
    """Everything that `loop.finetune` takes, and what its conductivities are computed from."""

    tasks: list[Task]  #: materials with their losses
    structures: list[ase.Atoms]  #: of each material, as it was used
    settings: FinetuneSettings  #: how to train
    frames: tuple[list[Frame], list[Frame]]  #: to train on, and to report force errors of
    notes: tuple[str, ...] = ()  #: what a user should know before the run


class _Entry(NamedTuple):
    """One material of a configuration, read."""

    task: Task
    atoms: ase.Atoms
    frame: Frame | None  # that holds the cell
    mp_id: str | None


def read_config(path: str | Path) -> FinetuneRun:
    """Read and check a configuration; structures, references and frames are read too. InputError names the key."""
    path = Path(path)
    data = read_yaml(path)
    with reading(path, "a configuration of `finetune`"):
        return build(data, path.parent)


def build(data: Any, folder: Path) -> FinetuneRun:
    """A run from the contents of a configuration; file names are relative to `folder`."""
    given = parse(data, "finetune")
    output = file_in(folder, given["output"])
    require_folder(output)
    make_optimizer(given["optimizer"], 10, "finetune")  # refused before anything is read
    potential, template = read_potential(given, folder)
    references: dict[Path, dict[str, Reference]] = {}
    entries = [
        _material(entry, f"materials[{k}]", folder, potential, given, references)
        for k, entry in enumerate(given["materials"])
    ]
    tasks = [entry.task for entry in _named(entries, given["materials"])]
    shared = pad_to_common_shapes([t.material for t in tasks])
    tasks = [dataclasses.replace(t, material=m) for t, m in zip(tasks, shared, strict=True)]
    frames, held, atom_energies = _frames(given, folder, potential)
    potential = with_atom_energies(potential, atom_energies)
    extra = [e.frame for e in entries if e.frame is not None]
    model = split_parameters(potential, given, usually_fixed)
    settings = _settings(given)
    training = sum(t.train for t in tasks)
    steps = given["steps"] or given["epochs"] * -(-training // settings.accumulate)
    count = sum(x.size for x in model.trained.values())
    signature = signature_of(
        given,
        the_potential=(model.trained, model.frozen),
        **_contents(tasks),
        the_structures_of_data=[(f.graph.positions, f.energy, f.forces, f.stress, f.weights) for f in frames + held],
    )
    return FinetuneRun(
        potential=potential, template=template, model=model,
        optimizer=make_optimizer(given["optimizer"], max(1, steps), "finetune"), folder=output, signature=signature,
        inputs=inputs_of(given, folder),
        summary=f"{potential.name}: {count} numbers are trained; {_counted(len(tasks), 'material')},"
        f" {_counted(len(extra + frames), 'frame')}",
        tasks=tasks, structures=[e.atoms for e in entries], settings=settings, frames=(extra + frames, held or frames),
        notes=tuple(_notes(tasks)),
    )  # fmt: skip


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _contents(tasks: list[Task]) -> dict[str, Any]:
    """Arrays of the materials that must be the same for a continuation, by names for people."""
    found: dict[str, Any] = {}
    for material in (t.material for t in tasks):
        cells, reference = material.supercells, material.reference
        crystal = cells.crystal
        found[f"the structure of {material.name}"] = (
            crystal.lattice, crystal.positions, np.array(crystal.numbers), crystal.masses, cells.fc2_supercell.matrix,
            cells.fc3_supercell.matrix, np.array(material.plan.mesh.dims),
        )  # fmt: skip
        if reference is not None:
            known = (reference.temperatures, reference.kappa, reference.mode_kappa)
            found[f"the reference of {material.name}"] = (*known, reference.frequencies, reference.heat_capacity)
    return found


def _notes(tasks: list[Task]) -> list[str]:
    found = []
    for material in (t.material for t in tasks):
        reference = material.reference
        if reference is not None and tuple(reference.mesh) != tuple(material.plan.mesh.dims):
            ours, theirs = ("×".join(map(str, x)) for x in (material.plan.mesh.dims, reference.mesh))
            found.append(f"{material.name}: the mesh {ours} is not the reference's {theirs}: no SRME")
    return found


def _named(entries: list[_Entry], given: list[dict[str, Any]]) -> list[_Entry]:
    """Materials of the same name get their Materials Project numbers too."""
    names = [e.task.material.name for e in entries]
    found = []
    for entry, settings, name in zip(entries, given, names, strict=True):
        if names.count(name) > 1 and settings["name"] is None and entry.mp_id is not None:
            material = dataclasses.replace(entry.task.material, name=f"{name} {entry.mp_id}")
            entry = entry._replace(task=dataclasses.replace(entry.task, material=material))
        found.append(entry)
    names = [e.task.material.name for e in found]
    if repeated := [n for n in names if names.count(n) > 1]:
        raise InputError(f"materials: the name {repeated[0]!r} is used twice: give each its own name")
    return found


def _material(
    entry: dict[str, Any], key: str, folder: Path, potential: Potential, given: dict[str, Any],
    references: dict[Path, dict[str, Reference]],
) -> _Entry:  # fmt: skip
    mp_id = entry["mp_id"]
    reference = _reference(entry, key, folder, references)
    atoms, stem = within(f"{key}.structure", lambda: _structure(folder, entry["structure"], mp_id))
    if entry["relax"]:
        from ...relaxation.newton import relax

        info = atoms.info
        atoms, done = relax(atoms, potential)
        if not done.converged:
            raise InputError(f"{key}.relax: {done.message}")
        atoms.info = {**info, **atoms.info}
    for name in ("fc2_supercell", "fc3_supercell"):
        if entry[name] is not None:
            within(f"{key}.{name}", partial(integer_matrix, entry[name], f"{key}.{name}"))
    cells = within(key, lambda: default_supercells(atoms, entry["fc2_supercell"], entry["fc3_supercell"]))
    targets = _targets(entry["targets"], f"{key}.targets")
    mesh = entry["mesh"]
    if mesh is None:
        mesh = reference.mesh if reference is not None else atoms.info.get("q_mesh", default_mesh(cells.crystal))
    mesh = positive_integers(mesh, f"{key}.mesh")
    if reference is not None:
        if any(t.kind in MODES for t in targets):
            within(f"{key}.mesh", lambda: reference.require_mesh(mesh))
        for t in entry["temperatures"]:
            within(f"{key}.temperatures", partial(reference.at, t))
    label = entry["name"] or (stem if reference is None else reference.name)
    broadening = given["broadening"]
    width = None if broadening == "adaptive" else broadening["gaussian"]
    material = within(key, lambda: make_material(
        label, cells, potential, mesh, entry["temperatures"], reference=reference,
        broadening=AdaptiveGaussian() if width is None else Gaussian(width), transport=given["transport"]))  # fmt: skip
    train = entry["split"] == "train"
    task = Task(material, within(f"{key}.targets", lambda: make_loss(material, targets)), train)
    frame = None
    if entry["stress"] and train:
        # the cell of the reference is a minimum of its energy: no stress, no forces
        held = atoms.copy()
        held.info["stress"], held.arrays["forces"] = np.zeros((3, 3)), np.zeros((len(held), 3))
        frame = frame_of(held, potential, (0.0, 0.0, entry["stress"]))
    return _Entry(task, atoms, frame, mp_id)


def _reference(
    entry: dict[str, Any], key: str, folder: Path, references: dict[Path, dict[str, Reference]]
) -> Reference | None:
    if entry["reference"] is None:
        return None
    file = file_in(folder, entry["reference"])
    if file not in references:
        references[file] = within(f"{key}.reference", lambda: read_phonondb(file))
    if entry["mp_id"] not in references[file]:
        raise InputError(f"{key}.mp_id: {file.name} has no {entry['mp_id']!r}")
    return references[file][entry["mp_id"]]


def _structure(folder: Path, source: str, mp_id: str | None) -> tuple[ase.Atoms, str]:
    """A structure, and what tables call it."""
    from ...crystal.prototypes import available_prototypes, prototype

    file = file_in(folder, source)
    if file.is_file():
        if mp_id is not None and file.suffix == ".extxyz":
            atoms = read_phonondb_structure(file, mp_id)
            return atoms, atoms.get_chemical_formula("metal", empirical=True)
        atoms = read_structure(file)
        nameless = file.stem.upper() in ("POSCAR", "CONTCAR", "GEOMETRY")
        return atoms, atoms.get_chemical_formula("metal", empirical=True) if nameless else file.stem
    if source in available_prototypes():
        return prototype(source), source
    raise InputError(f"{source!r} is neither a file nor a crystal with a prototype")


def _targets(given: dict[str, Any], key: str) -> list[Target]:
    found = []
    for kind, options in given.items():
        if options is not None:
            weight = options["weight"]
            found.append(Target(kind, weight, {k: v for k, v in options.items() if k != "weight" and v is not None}))
    if not found:
        raise InputError(f"{key} must name at least one of {', '.join(given)}")
    return found


def _frames(
    given: dict[str, Any], folder: Path, potential: Potential
) -> tuple[list[Frame], list[Frame], dict[int, float]]:
    """Frames to replay, those whose force errors are reported if they are others, and energies of isolated atoms."""
    if given["data"] is None:
        return [], [], {}
    found = read_frames(given["data"], given["loss"], folder, potential, given["seed"])
    padded = same_size(found.frames + found.held)
    return padded[: len(found.frames)], padded[len(found.frames) :], found.atom_energies


def _settings(given: dict[str, Any]) -> FinetuneSettings:
    return FinetuneSettings(
        epochs=given["epochs"] or 0,
        steps=given["steps"],
        accumulate=given["accumulate"],
        replay=given["batch"],
        ema=given["ema"],
        l2sp=given["l2sp"],
        sampling=Sampling(**given["sampling"]),
        patience=given["early_stopping"]["patience"],
        max_rejections=given["max_rejections"],
        seed=given["seed"],
    )


__all__ = [
    "FinetuneRun",
    "build",
    "read_config",
]
