"""Structures with energies, forces and stresses: what a potential should not forget while it learns conductivities."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.stress import voigt_6_to_full_3x3_stress

from .._core.programs import program
from .._core.pytree import pytree
from ..errors import InputError
from ..potentials.evaluate import energy_and_slopes, forces_and_stress
from ..potentials.neighbor_list import build_graph
from . import losses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import ase

    from .._core.pytree import Array
    from ..potentials.base import Energy, Params, Potential
    from ..potentials.graph import Graph


SCALES = (0.01, 0.05, 0.002)  # eV/atom, eV/Å, eV/Å³: errors that count alike


@pytree()
class Frame:
    """One structure with its targets and their weights; a weight of 0 leaves a target out."""

    graph: Graph
    energy: Array  # () eV
    forces: Array  # (N, 3) eV/Å
    stress: Array  # (3, 3) eV/Å³, ASE's sign
    weights: Array  # (3,) of energy, forces, stress
    scales: Array  # (3,) eV/atom, eV/Å, eV/Å³: an error of this size counts 1
    hessian: Array | None = None  # (3N, 3N) eV/Å², ∂²E/∂x∂x


def frame_of(
    atoms: ase.Atoms,
    potential: Potential,
    weights: Sequence[float] = (0.0, 1.0, 0.0),
    scales: Sequence[float] = SCALES,
    keys: Mapping[str, str] = MappingProxyType({}),
) -> Frame:
    """A frame from an ASE structure whose calculator (or `info`, `arrays`) holds the targets.

    Args:
        keys: names of energy, forces, stress and hessian where they are others than these. A stress has 6 (ASE's Voigt
            order) or 9 numbers, a Hessian 9 N² in any shape; it is taken only if its name is given.

    Raises:
        InputError: a target with a weight that the structure does not have, or one that is not finite.
    """
    graph, _ = build_graph(atoms, potential)
    stored, N = stored_values(atoms), len(atoms)
    shapes = {"energy": (), "forces": (N, 3), "stress": (3, 3), "hessian": (3 * N, 3 * N)}
    needed = dict(zip(shapes, [*weights, 0.0], strict=True))
    found: dict[str, Any] = {}
    for name, shape in shapes.items():
        key = keys.get(name, name)
        value = stored.get(key) if name != "hessian" or name in keys else None
        if value is None and needed[name]:
            raise InputError(f"a frame of {atoms.get_chemical_formula()} has no {key}: set its weight to 0")
        if value is None:
            found[name] = None if name == "hessian" else np.zeros(shape)
            continue
        try:
            value = np.asarray(value, float)
        except (TypeError, ValueError):
            raise InputError(f"a frame of {atoms.get_chemical_formula()}: {key} is no array of numbers") from None
        if name == "stress" and value.shape == (6,):
            value = voigt_6_to_full_3x3_stress(value)
        if name in ("stress", "hessian") and value.size == np.prod(shape):
            value = value.reshape(shape)
        if value.shape != shape or not np.isfinite(value).all():
            raise InputError(f"a frame of {atoms.get_chemical_formula()}: {key} of shape {value.shape}, or not finite")
        found[name] = value
    return Frame(
        graph,
        found["energy"],
        found["forces"],
        found["stress"],
        np.asarray(weights),
        np.asarray(scales),
        found["hessian"],
    )


def stored_values(atoms: ase.Atoms) -> dict[str, Any]:
    """All that is stored with a structure: `info`, `arrays`, and the results of its calculator."""
    return {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc is not None else {})}


def labelled(atoms: Sequence[ase.Atoms], potential: Potential, **options: Sequence[float]) -> list[Frame]:
    """Frames whose targets are the potential's own predictions: what it knew before training (self-distillation)."""
    frames = []
    for frame in same_size([frame_of(structure, potential, (0.0, 0.0, 0.0)) for structure in atoms]):
        E, F, S = predict(potential.energy, potential.params, None, frame.graph)
        weights, scales = options.get("weights", (1.0, 1.0, 1.0)), options.get("scales", SCALES)
        frames.append(Frame(frame.graph, *map(np.asarray, (E, F, S, weights, scales))))
    return frames


def same_size(frames: Sequence[Frame]) -> list[Frame]:
    """The same frames with lists of edges as long as the longest: one compilation for each number of atoms."""
    edges = max((len(f.graph.senders) for f in frames), default=0)
    angles = max((len(f.graph.angles) for f in frames), default=0)
    return [dataclasses.replace(f, graph=f.graph.padded(edges, angles)) for f in frames]


@program(static=0)
def predict(energy: Energy, params: Params, frozen: Params, graph: Graph) -> tuple[Array, Array, Array]:
    """E (eV), forces (N, 3) eV/Å and stress (3, 3) eV/Å³ of a graph, differentiable in `params`."""
    E, slope, virial = energy_and_slopes(energy, params if frozen is None else (params, frozen), graph)
    return E, *forces_and_stress(slope, virial, graph.cell)


def frame_loss(energy: Energy, params: Params, frozen: Params, frame: Frame) -> Array:
    """Weighted sum of the three losses of a frame."""
    E, F, S = predict(energy, params, frozen, frame.graph)
    N = frame.forces.shape[0]
    parts = [
        losses.energy_loss(E, frame.energy, N, frame.scales[0]),
        losses.force_loss(F, frame.forces, frame.scales[1]),
        losses.stress_loss(S, frame.stress, frame.scales[2]),
    ]
    return jnp.dot(frame.weights, jnp.stack(parts))


@program(static=0)
def frame_value_and_grad(energy: Energy, params: Params, frozen: Params, frame: Frame) -> tuple[Array, Params]:
    """`frame_loss` and its derivative by `params`."""
    return jax.value_and_grad(frame_loss, argnums=1)(energy, params, frozen, frame)


def force_error(energy: Energy, params: Params, frozen: Params, frames: Sequence[Frame]) -> float:
    """Root mean square error of all force components, eV/Å."""
    squares = [
        np.square(np.asarray(predict(energy, params, frozen, frame.graph)[1]) - frame.forces).ravel()
        for frame in frames
    ]
    return float(np.sqrt(np.concatenate(squares).mean())) if squares else float("nan")


def reweighted(frame: Frame, factor: float) -> Frame:
    """The same frame, counting `factor` times as much."""
    return dataclasses.replace(frame, weights=np.asarray(frame.weights) * factor)


__all__ = [
    "SCALES",
    "Frame",
    "force_error",
    "frame_loss",
    "frame_of",
    "frame_value_and_grad",
    "labelled",
    "predict",
    "reweighted",
    "same_size",
    "stored_values",
]
