"""Self-energies, spectral functions and joint densities of states where the mesh meets the high-symmetry path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.pytree import host_data
from ..errors import InputError
from ..plan.band_path import high_symmetry_path, mesh_points_on_path
from .self_energy import joint_density_of_states, self_energy

if TYPE_CHECKING:
    from collections.abc import Sequence


@host_data
class PathSpectra:
    """Functions of the frequency at the K mesh points that lie on the high-symmetry path. Host data.

    Attributes:
        frequencies: (F,) THz.
        temperatures: (T,) K.
        qpoints: (K, 3) fractional.
        distance: (K,) 1/Å without 2π, along the path, ascending.
        segment: (K,) int, of the path.
        ends: (segments, 2) 1/Å, where each segment begins and ends along the path.
        labels: of the two ends of each segment, seekpath's names.
        modes: (K, m) THz, the harmonic frequencies.
        imaginary, real: (T, K, m, F) THz, Γ and Δ: see `SelfEnergy`.
        spectral_function: (T, K, m, F) 1/THz.
        absorption, decay: (K, F) 1/THz, D1 and D2: see `JointDensityOfStates`.
        weighted_absorption, weighted_decay: (T, K, F) 1/THz, N1 and N2.
    """

    frequencies: np.ndarray
    temperatures: np.ndarray
    qpoints: np.ndarray
    distance: np.ndarray
    segment: np.ndarray
    ends: np.ndarray
    labels: tuple[tuple[str, str], ...]
    modes: np.ndarray
    imaginary: np.ndarray
    real: np.ndarray
    spectral_function: np.ndarray
    absorption: np.ndarray
    decay: np.ndarray
    weighted_absorption: np.ndarray
    weighted_decay: np.ndarray


def path_spectra(
    solution: Any, frequencies: Sequence[float] | None = None, *, temperatures: Sequence[float] | None = None
) -> PathSpectra:
    """`self_energy` and `joint_density_of_states` along the high-symmetry path, at the points that are on the mesh.

    Even meshes of face-centred crystals hold X and L, odd ones Γ alone.

    Args:
        solution: from `solve` or `conductivity`.
        frequencies: (F,) THz, equidistant from 0 on; 201 from 0 to twice the highest unless given.
        temperatures: K; the solution's unless given.

    Raises:
        InputError: seekpath is not installed or finds no path; see `self_energy`.
    """
    plan = solution.plan
    path = high_symmetry_path(plan.crystal)
    if path is None:
        raise InputError(
            "there is no high-symmetry path: seekpath is not installed, or finds none",
            "python -m pip install seekpath, or give points to self_energy",
        )
    places, rows, segments, qpoints, ends = [], [], [], [], []
    for number in range(len(path.labels)):
        on = path.segment == number
        q, distance = path.qpoints[on], path.distance[on]
        ends.append(distance[[0, -1]])
        where, which = mesh_points_on_path(q, distance, path.segment[on], plan.crystal, plan.mesh.dims)
        order = np.unique(np.round(where, 9), return_index=True)[1]
        places.append(where[order])
        rows.append(which[order])
        segments.append(np.full(len(order), number))
        share = (where[order] - distance[0]) / (distance[-1] - distance[0])
        qpoints.append(q[0] + share[:, None] * (q[-1] - q[0]))
    every = np.concatenate(rows)
    unique, back = np.unique(every, return_inverse=True)
    points = unique.tolist()
    energy = self_energy(solution, points, frequencies, temperatures=temperatures)
    pairs = joint_density_of_states(solution, points, frequencies, temperatures=temperatures)
    modes = np.asarray(solution.phonons.frequencies)[np.asarray(plan.mesh.irreducible)]
    T = solution.conductivity.temperatures if temperatures is None else temperatures
    imaginary, real, function = (
        np.asarray(x)[:, back] for x in (energy.imaginary, energy.real, energy.spectral_function)
    )
    return PathSpectra(
        np.asarray(energy.frequencies), np.atleast_1d(np.asarray(T, float)), np.concatenate(qpoints),
        np.concatenate(places), np.concatenate(segments), np.array(ends), path.labels, modes[every], imaginary, real, function,
        np.asarray(pairs.absorption)[back], np.asarray(pairs.decay)[back],
        np.asarray(pairs.weighted_absorption)[:, back], np.asarray(pairs.weighted_decay)[:, back],
    )  # fmt: skip


__all__ = ["PathSpectra", "path_spectra"]
