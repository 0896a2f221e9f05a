"""Phonon bands along the crystal's high-symmetry path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._core.programs import Effort, program
from .._core.pytree import host_data
from ..plan.band_path import BandPath, high_symmetry_path, off_centre
from ..plan.mesh import first_zone
from .domain import check_harmonic
from .phonons import frequencies_and_eigenvectors

if TYPE_CHECKING:
    from .._core.pytree import Array
    from ..types import Plan
    from .phonons import LongRange


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

    Raises:
        InputError: arrays that do not fit the plan or are outside their domain; ValueError: double precision is off.
    """
    check_harmonic(plan, second, nac)
    path = high_symmetry_path(plan.crystal)
    if path is None:
        return None
    qpoints = path.qpoints if nac is None else off_centre(path)
    reduced = first_zone(qpoints, np.asarray(plan.crystal.lattice))  # non-analytic terms are not periodic in q
    return Bands(path, np.asarray(_frequencies(reduced, plan, second, nac)))


__all__ = [
    "Bands",
    "phonon_bands",
]
