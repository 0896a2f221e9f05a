"""Training potentials: on conductivities, split at the force constants; on energies, forces, stresses and Hessian columns.

material = make_material("Si", cells, potential, mesh, temperatures, reference=...)
gradient = value_and_grad(material, potential.energy, loss)(potential.params)     one evaluation
state = finetune(model, tasks, optimizer, settings)                               a whole run on conductivities
state = fit(model, optimizer, (Batches(frames, 8), Batches(held, 8)), settings)   one on energies, forces, ...
tuned = least_change(energy, trained, frozen, frames).trained                     a few frames, exactly
"""

from .adapter import Adapted, adapt
from .batches import Batch, Batches
from .carry import carrying_frames, wave_frames
from .fit import FitSettings, fit
from .frames import Frame, frame_of, labelled
from .gradient import Gradient, Sampling, value_and_grad
from .initial import initial
from .inverse import second_from_frequencies, third_from_modes
from .least_change import LeastChange, least_change
from .loop import Model, Settings, Task, finetune
from .material import Conditions, Material, make_material, share_shapes
from .targets import Target, make_loss

__all__ = [
    "Adapted", "Batch", "Batches", "Conditions", "FitSettings", "Frame", "Gradient", "LeastChange", "Material", "Model", "Sampling",
    "Settings", "Target", "Task", "adapt", "carrying_frames", "finetune", "fit", "frame_of", "initial", "labelled", "least_change",
    "make_loss", "make_material", "second_from_frequencies", "share_shapes", "third_from_modes", "value_and_grad", "wave_frames",
]  # fmt: skip
