"""Training potentials: on conductivities, split at the force constants; on energies, forces, stresses and Hessian columns.

    material = make_material("Si", cells, potential, mesh, temperatures, reference=...)
    gradient = value_and_grad(material, potential.energy, loss)(potential.params)     one evaluation
    state = finetune(model, tasks, optimizer, settings)                               a whole run on conductivities
    state = fit(model, optimizer, (Batches(frames, 8), Batches(held, 8)), settings)   one on energies, forces, ...
    tuned = minimum_norm_update(energy, trained, frozen, frames).trained              a few frames, exactly
    shells = triplet_shells(material, fc, gradient.constants)                         where a conductivity comes from

`losses` has the functions to train on. Names are imported when they are first used, so that the command line can read
`config_schema` without loading Flax and optax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .attribution import (
        ModeShares,
        Shells,
        frame_influence,
        mode_shares,
        pair_shells,
        plot_modes,
        plot_shells,
        triplet_shells,
    )
    from .few_frames.frames_from_constants import (
        displaced,
        frames_from_force_constants,
        nondiagonal_supercell_frames,
        random_displacements,
    )
    from .few_frames.inverse import fc2_from_frequencies, fc3_from_mode_kappa
    from .few_frames.minimum_norm import MinimumNormUpdate, minimum_norm_update, tangent
    from .frames import Frame, force_error, frame_of, labelled, predict, same_size
    from .model import Model
    from .on_conductivity.gradient import (
        EXACT,
        Gradient,
        Sampling,
        pullback_to_params,
        value_and_fc_cotangent,
        value_and_grad,
    )
    from .on_conductivity.loop import FinetuneSettings, Task, evaluate, finetune
    from .on_conductivity.material import Conditions, Material, make_material, pad_to_common_shapes
    from .on_conductivity.targets import Target, make_loss
    from .on_forces.batches import Batch, Batches
    from .on_forces.fit import TrainSettings, fit
    from .on_forces.initial import initial
    from .optimizers import warm_cosine
    from .parameters import Adapted, adapt
    from .train_state import Callbacks, TrainState, load_state, save_state

__all__ = [
    "EXACT",
    "Adapted",
    "Batch",
    "Batches",
    "Callbacks",
    "Conditions",
    "FinetuneSettings",
    "Frame",
    "Gradient",
    "Material",
    "MinimumNormUpdate",
    "ModeShares",
    "Model",
    "Sampling",
    "Shells",
    "Target",
    "Task",
    "TrainSettings",
    "TrainState",
    "adapt",
    "displaced",
    "evaluate",
    "fc2_from_frequencies",
    "fc3_from_mode_kappa",
    "finetune",
    "fit",
    "force_error",
    "frame_influence",
    "frame_of",
    "frames_from_force_constants",
    "initial",
    "labelled",
    "load_state",
    "make_loss",
    "make_material",
    "minimum_norm_update",
    "mode_shares",
    "nondiagonal_supercell_frames",
    "pad_to_common_shapes",
    "pair_shells",
    "plot_modes",
    "plot_shells",
    "predict",
    "pullback_to_params",
    "random_displacements",
    "same_size",
    "save_state",
    "tangent",
    "triplet_shells",
    "value_and_fc_cotangent",
    "value_and_grad",
    "warm_cosine",
]

_HOMES = {
    "attribution": (
        "ModeShares",
        "Shells",
        "frame_influence",
        "mode_shares",
        "pair_shells",
        "plot_modes",
        "plot_shells",
        "triplet_shells",
    ),
    "few_frames.frames_from_constants": (
        "displaced",
        "frames_from_force_constants",
        "nondiagonal_supercell_frames",
        "random_displacements",
    ),
    "few_frames.inverse": (
        "fc2_from_frequencies",
        "fc3_from_mode_kappa",
    ),
    "few_frames.minimum_norm": (
        "MinimumNormUpdate",
        "minimum_norm_update",
        "tangent",
    ),
    "frames": (
        "Frame",
        "force_error",
        "frame_of",
        "labelled",
        "predict",
        "same_size",
    ),
    "model": ("Model",),
    "on_conductivity.gradient": (
        "EXACT",
        "Gradient",
        "Sampling",
        "pullback_to_params",
        "value_and_fc_cotangent",
        "value_and_grad",
    ),
    "on_conductivity.loop": (
        "FinetuneSettings",
        "Task",
        "evaluate",
        "finetune",
    ),
    "on_conductivity.material": (
        "Conditions",
        "Material",
        "make_material",
        "pad_to_common_shapes",
    ),
    "on_conductivity.targets": (
        "Target",
        "make_loss",
    ),
    "on_forces.batches": (
        "Batch",
        "Batches",
    ),
    "on_forces.fit": (
        "TrainSettings",
        "fit",
    ),
    "on_forces.initial": ("initial",),
    "optimizers": ("warm_cosine",),
    "parameters": (
        "Adapted",
        "adapt",
    ),
    "train_state": (
        "Callbacks",
        "TrainState",
        "load_state",
        "save_state",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
