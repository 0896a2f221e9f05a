"""Training potentials: on conductivities, split at the force constants; on energies, forces, stresses and Hessian columns.

material = make_material("Si", cells, potential, mesh, temperatures, reference=...)
gradient = value_and_grad(material, potential.energy, loss)(potential.params)     one evaluation
state = finetune(model, tasks, optimizer, settings)                               a whole run on conductivities
state = fit(model, optimizer, (Batches(frames, 8), Batches(held, 8)), settings)   one on energies, forces, ...
tuned = least_change(energy, trained, frozen, frames).trained                     a few frames, exactly
"""

from __future__ import annotations

from .few_frames.frames_from_constants import frames_from_force_constants, nondiagonal_supercell_frames
from .few_frames.inverse import fc2_from_frequencies, fc3_from_mode_kappa
from .few_frames.minimum_norm import MinimumNormUpdate, minimum_norm_update
from .frames import Frame, frame_of, labelled
from .model import Model
from .on_conductivity.gradient import Gradient, Sampling, value_and_grad
from .on_conductivity.loop import FinetuneSettings, Task, finetune
from .on_conductivity.material import Conditions, Material, make_material, pad_to_common_shapes
from .on_conductivity.targets import Target, make_loss
from .on_forces.batches import Batch, Batches
from .on_forces.fit import TrainSettings, fit
from .on_forces.initial import initial
from .parameters import Adapted, adapt

__all__ = [
    "Adapted",
    "Batch",
    "Batches",
    "Conditions",
    "FinetuneSettings",
    "Frame",
    "Gradient",
    "Material",
    "MinimumNormUpdate",
    "Model",
    "Sampling",
    "Target",
    "Task",
    "TrainSettings",
    "adapt",
    "fc2_from_frequencies",
    "fc3_from_mode_kappa",
    "finetune",
    "fit",
    "frame_of",
    "frames_from_force_constants",
    "initial",
    "labelled",
    "make_loss",
    "make_material",
    "minimum_norm_update",
    "nondiagonal_supercell_frames",
    "pad_to_common_shapes",
    "value_and_grad",
]
