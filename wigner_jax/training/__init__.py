"""Training potentials: on conductivities, split at the force constants; on energies, forces, stresses and Hessian columns.

material = make_material("Si", cells, potential, mesh, temperatures, reference=...)
gradient = value_and_grad(material, potential.energy, loss)(potential.params)     one evaluation
state = finetune(model, tasks, optimizer, settings)                               a whole run on conductivities
state = fit(model, optimizer, (Batches(frames, 8), Batches(held, 8)), settings)   one on energies, forces, ...
tuned = least_change(energy, trained, frozen, frames).trained                     a few frames, exactly
"""

from __future__ import annotations

from .few_frames.frames_from_constants import carrying_frames, wave_frames
from .few_frames.inverse import second_from_frequencies, third_from_modes
from .few_frames.minimum_norm import LeastChange, least_change
from .frames import Frame, frame_of, labelled
from .model import Model
from .on_conductivity.gradient import Gradient, Sampling, value_and_grad
from .on_conductivity.loop import Settings, Task, finetune
from .on_conductivity.material import Conditions, Material, make_material, share_shapes
from .on_conductivity.targets import Target, make_loss
from .on_forces.batches import Batch, Batches
from .on_forces.fit import FitSettings, fit
from .on_forces.initial import initial
from .parameters import Adapted, adapt

__all__ = [
    "Adapted",
    "Batch",
    "Batches",
    "Conditions",
    "FitSettings",
    "Frame",
    "Gradient",
    "LeastChange",
    "Material",
    "Model",
    "Sampling",
    "Settings",
    "Target",
    "Task",
    "adapt",
    "carrying_frames",
    "finetune",
    "fit",
    "frame_of",
    "initial",
    "labelled",
    "least_change",
    "make_loss",
    "make_material",
    "second_from_frequencies",
    "share_shapes",
    "third_from_modes",
    "value_and_grad",
    "wave_frames",
]
