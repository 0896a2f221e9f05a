"""Relaxons: the eigenvectors of the collision operator, in which heat relaxes exponentially.

With Ω θ_α = λ_α θ_α (A. Cepellotti and N. Marzari, Phys. Rev. X 6, 041013 (2016)), and Z as in physics/boltzmann.py,

    κ = (units.KAPPA/NV) Σ_α (θ_α·Z)²/(2 λ_α),      τ_α = 1/(4π λ_α),      v_α² = (θ_α·Z)²/Σ C,      Λ_α = v_α τ_α.

Of vectors that have the crystal's symmetry, which carry heat; κ is the trace over the number of directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.as_numbers import real_numbers
from .._core.pytree import host_data
from .._core.tiling import tiling_for
from ..checks import check_transport
from ..crystal.low_dimensional import directions
from ..errors import InputError
from ..units import KAPPA
from .boltzmann import LIMIT, Operator, averaged_velocities
from .linewidths import state_for
from .taking_part import is_scattered, takes_part

if TYPE_CHECKING:
    from collections.abc import Sequence


@host_data
class Relaxons:
    """By relaxon, n of them, rates ascending. Host data.

    Attributes:
        temperatures: (T,) K.
        rates: (T, n) λ, THz, half widths: lifetimes are 1/(4πλ).
        kappa: (T, n) W/(m K), the trace over the number of directions: sums to that of the populations with velocities averaged over degenerate
            blocks.
        mean_free_path: (T, n) nm.
    """

    temperatures: np.ndarray
    rates: np.ndarray
    kappa: np.ndarray
    mean_free_path: np.ndarray

    def cumulative(self, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Mean free paths in ascending order, nm, and κ of all relaxons up to each, W/(m K), at one of the temperatures."""
        order = np.argsort(self.mean_free_path[index])
        return self.mean_free_path[index][order], np.cumsum(self.kappa[index][order])


def relaxons(solution: Any, temperatures: Sequence[float] | None = None, memory: float = LIMIT) -> Relaxons:
    """The relaxon spectrum of a `Solution`, whatever its `transport`: the whole operator is diagonalised.

    Args:
        temperatures: of the solution's; all unless given.
        memory: bytes that the operator may take.

    Raises:
        InputError: temperatures that the solution does not have; an operator that is too large, or not positive.
    """
    plan, every = solution.plan, np.asarray(solution.conductivity.temperatures)
    wanted = every if temperatures is None else np.atleast_1d(real_numbers(temperatures, "temperatures"))
    check_transport("lbte", memory)
    indices = [int(np.abs(every - T).argmin()) for T in wanted]
    if not len(wanted) or not all(abs(every[i] - T) <= 1e-9 for i, T in zip(indices, wanted, strict=True)):
        raise InputError("relaxons are those of a solution's temperatures", f"choose from {every.tolist()}")
    mesh, crystal = plan.mesh, plan.crystal
    state = state_for(
        plan, solution.force_constants, solution.phonons, every, solution.broadening, solution.nac, tiling_for()
    )
    operator = Operator(plan, state, every, None, solution.broadening, memory)
    frequencies = np.asarray(solution.phonons.frequencies)[np.asarray(mesh.irreducible)]
    velocities = averaged_velocities(frequencies, solution.phonons.velocity_operator)
    volume = abs(float(np.linalg.det(np.asarray(crystal.lattice)))) * float(
        1.0 if crystal.occupied is None else crystal.occupied
    )
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for index in indices:
        one = operator.at(index)
        if 16 * one.size**2 > memory:
            raise InputError(
                f"the collision operator of {one.size} unknowns takes {16 * one.size**2:.2g} bytes", "give more memory"
            )
        matrix = one.assembled()[1][0].dense()
        gamma = np.asarray(solution.linewidths.total)[index]
        capacity = np.asarray(solution.conductivity.heat_capacity)[index]
        alive = np.asarray(takes_part(frequencies)) & np.asarray(is_scattered(gamma))
        z = one.packed(np.where(alive, np.sqrt(np.maximum(capacity, 0.0)), 0.0)[..., None] * velocities)
        kept = one.repeated(alive.astype(float)) > 0
        matrix = matrix[np.ix_(kept, kept)]
        matrix[np.diag_indices(len(matrix))] += one.repeated(gamma)[kept]
        rates, vectors = np.linalg.eigh(matrix)
        if not rates[0] > 0:
            raise InputError(
                f"the collision operator has the eigenvalue {rates[0]:.3g} THz: it is not positive",
                "take a finer mesh or a wider broadening",
            )
        overlap = (vectors.T @ z[kept]) ** 2
        total = float((np.asarray(mesh.weights)[:, None] * np.where(alive, capacity, 0.0)).sum())
        speed = np.sqrt(overlap / total)  # THz Å
        kappa = overlap / (2 * rates) * (KAPPA / volume / len(mesh.qpoints) / directions(crystal))
        found.append((rates, kappa, speed / (4 * np.pi * rates) * 0.1))
    return Relaxons(wanted, *(np.stack([x[k] for x in found]) for k in range(3)))


__all__ = ["Relaxons", "relaxons"]
