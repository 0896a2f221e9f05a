"""Training potentials on conductivities: gradients split at the seam, losses, the loop, configurations.

material = make_material("Si", cells, potential, mesh, temperatures, reference=...)
gradient = value_and_grad(material, potential.energy, loss)(potential.params)     one evaluation
state = finetune(model, tasks, optimizer, settings)                               a whole run
"""

from .adapter import Adapted, adapt
from .frames import Frame, frame_of, labelled
from .gradient import Gradient, Sampling, value_and_grad
from .loop import Model, Settings, Task, finetune
from .material import Conditions, Material, make_material
from .targets import Target, make_loss

__all__ = [
    "Adapted", "Conditions", "Frame", "Gradient", "Material", "Model", "Sampling", "Settings", "Target", "Task", "adapt",
    "finetune", "frame_of", "labelled", "make_loss", "make_material", "value_and_grad",
]  # fmt: skip
