"""Phonon bands along the crystal's high-symmetry path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._core.programs import Effort, program
from .._core.pytree import host_data
from ..plan.band_path import BandPath, high_symmetry_path
from ..plan.mesh import first_zone
from .phonons import frequencies_and_eigenvectors

if TYPE_CHECKING:
    from .._core.pytree import Array
    from ..types import Plan
    from .phonons import LongRange


NEAR_CENTRE = 1e-3  # of a segment: so near Γ the non-analytic term is taken, in the direction of the segment


@host_data
class Bands:
    """Frequencies along a path. Host data.

    Attributes:
        path: the points, with the names of the ends of its segments.
        frequencies: (K, m) THz, ascending; imaginary ones are negative.
    """

    path: BandPath
    frequencies: np.ndarray  #: (K, m) THz, ascending; imaginary ones are negative


@program(effort=Effort.ONCE)
def _frequencies(qpoints: Array, plan: Plan, second: Array, nac: LongRange | None) -> Array:
    return frequencies_and_eigenvectors(qpoints, second, plan.crystal, plan.fc2_table, nac)[0]


def phonon_bands(plan: Plan, second: Array, nac: LongRange | None = None) -> Bands | None:
    """Bands along the path that seekpath gives for the crystal; None where there is none (see `high_symmetry_path`).

    With a non-analytic term, Γ is approached along each segment, so that LO and TO modes split as they do there.

    Args:
        second: (n, N2, 3, 3) eV/Å².
    """
    path = high_symmetry_path(plan.crystal)
    if path is None:
        return None
    qpoints = path.qpoints if nac is None else _off_centre(path)
    reduced = first_zone(qpoints, np.asarray(plan.crystal.lattice))  # non-analytic terms are not periodic in q
    return Bands(path, np.asarray(_frequencies(reduced, plan, second, nac)))


def _off_centre(path: BandPath) -> np.ndarray:
    """The path with its Γ points moved a little into their segments."""
    qpoints = path.qpoints.copy()
    for number in range(len(path.labels)):
        on = np.flatnonzero(path.segment == number)
        for end, other in ((on[0], on[-1]), (on[-1], on[0])):
            if np.abs(path.qpoints[end]).max() < 1e-9:
                qpoints[end] += NEAR_CENTRE * (path.qpoints[other] - path.qpoints[end])
    return qpoints


__all__ = [
    "Bands",
    "phonon_bands",
]
