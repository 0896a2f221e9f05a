"""A model before training: its architecture with random weights; energies of atoms and scale from the labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...potentials.mace.files import trainable
from ...potentials.mace.model import Mace
from ...potentials.nequix.model import Nequix
from ...potentials.sevennet.model import SevenNet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...potentials.base import Potential
    from ..frames import Frame


def initial(potential: Potential, frames: Sequence[Frame], seed: int) -> Potential:
    """The architecture of a MACE model with normal random weights, as mace-torch starts.

    Weights of symmetric contractions have a standard deviation of 1/(number of paths), all others of 1: normalisation is in
    the code. Energies of atoms are the least-squares solution of Σ_z n_z E0_z = E_D over the frames (the smallest one, if
    it is not unique), the scale is the root mean square of all force components, the shift 0.

    Args:
        frames: with targets; energies and forces count where their weight is above 0.

    Raises:
        InputError: a model of another kind.
    """
    if not isinstance(potential.energy, Mace):
        raise InputError(f"from_scratch is for MACE models: {potential.name} can only be trained from its weights")
    rng = np.random.default_rng(seed)
    free = trainable(potential.params)
    params = {}
    for name in sorted(potential.params):
        value = np.asarray(potential.params[name], float)
        if free[name]:
            scale = 1 / max(value.shape[1], 1) if "symmetric_contractions" in name else 1.0
            value = scale * rng.standard_normal(value.shape)
        params[name] = value
    energies = [f for f in frames if f.weights[0]]
    if energies:
        counts = np.array([np.bincount(f.graph.species, minlength=len(potential.species)) for f in energies], float)
        fitted = np.linalg.lstsq(counts, np.array([f.energy for f in energies]), rcond=None)[0]
        name = "atomic_energies_fn.atomic_energies"
        params[name] = np.broadcast_to(fitted, params[name].shape).copy()
    forces = [np.ravel(f.forces) for f in frames if f.weights[1]]
    if "scale_shift.scale" in params:
        if forces and (rms := np.sqrt(np.mean(np.concatenate(forces) ** 2))):
            params["scale_shift.scale"] = np.full_like(params["scale_shift.scale"], rms)
        params["scale_shift.shift"] = np.zeros_like(params["scale_shift.shift"])
    return potential.with_params(params)


def usually_fixed(potential: Potential) -> list[str]:
    """Names of the parameters that the model's own program does not train: energies of atoms, scales, radial constants."""
    if isinstance(potential.energy, Mace):
        return [name for name, free in trainable(potential.params).items() if not free]
    if isinstance(potential.energy, Nequix):
        return ["scale", "shift", "atom_energies"]
    if isinstance(potential.energy, SevenNet):
        return [n for n in potential.params if n.startswith("rescale_atomic_energy.") or n.endswith(".denominator")]
    return []


__all__ = [
    "initial",
    "usually_fixed",
]
