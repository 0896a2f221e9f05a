"""A model before training: its architecture with random weights; energies of atoms and scale from the labels."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError, say
from ...potentials.family import resolve
from ...potentials.registry import family_of, registered_families

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...potentials.base import Potential
    from ..frames import Frame


NO_ENERGIES: Mapping[int, float] = MappingProxyType({})


def initial(
    potential: Potential, frames: Sequence[Frame], seed: int, known: Mapping[int, float] = NO_ENERGIES
) -> Potential:
    """The architecture of a model with random weights, as the model's own program starts (MACE: `mace.files.initial`).

    Energies of atoms are those of `known` (eV by atomic number, from isolated atoms), and of other elements the
    least-squares solution of Σ_z n_z E0_z = E_D over the frames (the smallest one, if it is not unique); the scale is the
    root mean square of all force components.

    Args:
        frames: with targets; energies and forces count where their weight is above 0.

    Raises:
        InputError: a model of a family that has no random weights to start from.
    """
    family = family_of(potential)
    if family is None or family.initial is None:
        able = " and ".join(f.name for f in registered_families() if f.initial is not None)
        raise InputError(f"from_scratch is for {able} models: {potential.name} can only be trained from its weights")
    atom_energies = force_scale = None
    energies = [f for f in frames if f.weights[0]]
    if energies:
        counts = np.array([np.bincount(f.graph.species, minlength=len(potential.species)) for f in energies], float)
        fixed = np.array([known.get(z, np.nan) for z in potential.species])
        rest = np.array([f.energy for f in energies]) - counts @ np.nan_to_num(fixed)
        free = np.isnan(fixed)
        atom_energies = np.nan_to_num(fixed)
        atom_energies[free] = np.linalg.lstsq(counts[:, free], rest, rcond=None)[0]
    forces = [np.ravel(f.forces) for f in frames if f.weights[1]]
    if forces and (rms := np.sqrt(np.mean(np.concatenate(forces) ** 2))):
        force_scale = rms
    return resolve(family.initial)(potential, np.random.default_rng(seed), atom_energies, force_scale)


def with_atom_energies(potential: Potential, known: Mapping[int, float]) -> Potential:
    """The potential with the energies of isolated atoms (eV by atomic number) in place of its own, as MACE's E0s.

    Warns:
        AccuracyWarning: a model that has no energies of free atoms; it stays as it is.
    """
    family = family_of(potential)
    if not known:
        return potential
    if family is None or family.atom_energies is None:
        message = f"the energies of isolated atoms are not used: {potential.name} has none of its own to replace"
        say(message)
        return potential
    energies = np.array(potential.params[family.atom_energies], float)
    for k, z in enumerate(potential.species):
        energies[..., k] = known.get(z, energies[..., k])
    return potential.with_params({**potential.params, family.atom_energies: energies})


def usually_fixed(potential: Potential) -> list[str]:
    """Names of the parameters that the model's own program does not train: energies of atoms, scales, radial constants."""
    family = family_of(potential)
    return [] if family is None or family.usually_fixed is None else resolve(family.usually_fixed)(potential)


__all__ = [
    "initial",
    "usually_fixed",
    "with_atom_energies",
]
