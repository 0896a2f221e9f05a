"""The high-symmetry path of a crystal's Brillouin zone, and which mesh points lie on it. Needs seekpath (extra `plot`)."""

from __future__ import annotations

import importlib.util
import warnings
from typing import TYPE_CHECKING

import numpy as np

from .._core.pytree import host_data
from .mesh import addresses, star_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Crystal


NEAR_CENTRE = 1e-3  # of a segment: so near Γ what depends on the direction is taken
POINTS = 240  # of a path, whatever the crystal: shapes key compilation


@host_data
class BandPath:
    """Straight segments between points of high symmetry. Host data.

    Segments follow each other; where the end of one is not the beginning of the next, the path jumps and the distance
    does not grow.

    Attributes:
        qpoints: (K, 3) fractional.
        distance: (K,) 1/Å without 2π, along the path.
        segment: (K,) int, ascending.
        labels: of the two ends of each segment, seekpath's: GAMMA, X, SIGMA_0.
    """

    qpoints: np.ndarray  #: (K, 3) fractional
    distance: np.ndarray  #: (K,) 1/Å without 2π, along the path
    segment: np.ndarray  #: (K,) int, ascending
    labels: tuple[tuple[str, str], ...]  #: of the two ends of each segment, seekpath's: GAMMA, X, SIGMA_0


def has_seekpath() -> bool:
    """Whether there can be a path at all."""
    return importlib.util.find_spec("seekpath") is not None


def high_symmetry_path(crystal: Crystal, points: int = POINTS) -> BandPath | None:
    """The path of Hinuma et al., Comp. Mat. Sci. 128, 140 (2017), in the crystal's own reciprocal basis.

    Args:
        points: K, shared out among the segments by length; each has at least two.

    Returns:
        None without seekpath, or where it finds no symmetry.
    """
    try:
        import seekpath
        from seekpath.hpkot import SymmetryDetectionError
    except ImportError:
        return None
    lattice = np.asarray(crystal.lattice)
    structure = (lattice.tolist(), np.asarray(crystal.positions).tolist(), list(crystal.numbers))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of spglib's interfaces, and of crystals between two Bravais types
            found = seekpath.get_path_orig_cell(structure)
    except (SymmetryDetectionError, ValueError, KeyError, TypeError):
        return None
    labels = tuple((str(a), str(b)) for a, b in found["path"])
    ends = np.array([[found["point_coords"][name] for name in pair] for pair in labels], float)
    length = np.linalg.norm((ends[:, 1] - ends[:, 0]) @ np.linalg.inv(lattice).T, axis=1)
    counts = _shared_out(length, points)
    start = np.concatenate([[0.0], np.cumsum(length)[:-1]])
    steps = [np.linspace(0, 1, n) for n in counts]
    return BandPath(
        np.concatenate([a + t[:, None] * (b - a) for (a, b), t in zip(ends, steps, strict=True)]),
        np.concatenate([s + t * n for s, t, n in zip(start, steps, length, strict=True)]),
        np.repeat(np.arange(len(labels)), counts),
        labels,
    )


def off_centre(path: BandPath) -> np.ndarray:
    """The path with its Γ points moved a little into their segments."""
    qpoints = path.qpoints.copy()
    for number in range(len(path.labels)):
        on = np.flatnonzero(path.segment == number)
        for end, other in ((on[0], on[-1]), (on[-1], on[0])):
            if np.abs(path.qpoints[end]).max() < 1e-9:
                qpoints[end] += NEAR_CENTRE * (path.qpoints[other] - path.qpoints[end])
    return qpoints


def _shared_out(length: np.ndarray, points: int) -> np.ndarray:
    """Numbers of points in proportion to length, at least 2, that sum to `points` (or 2 for each, if that is more)."""
    free = max(points - 2 * len(length), 0)
    wanted = free * length / length.sum()
    counts = np.floor(wanted).astype(int)
    largest = np.argsort(counts - wanted, kind="stable")[: free - counts.sum()]
    counts[largest] += 1
    return counts + 2


def mesh_points_on_path(
    qpoints: np.ndarray, distance: np.ndarray, segment: np.ndarray, crystal: Crystal, dims: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Where a path meets a mesh: the distance along the path, and the irreducible point whose star it is. (M,) each

    Args:
        qpoints, distance, segment: of a `BandPath`.
        dims: of a mesh made with the crystal's symmetry.
    """
    shifts = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    mesh = addresses(dims) / np.asarray(dims)
    candidates = (mesh[None] + shifts[:, None]).reshape(-1, 3)
    star = np.tile(star_of(crystal, dims), len(shifts))
    where, which = [], []
    for number in np.unique(segment):
        on = np.flatnonzero(segment == number)
        a, b = qpoints[on[0]], qpoints[on[-1]]
        t = (candidates - a) @ (b - a) / ((b - a) @ (b - a))
        away = np.abs(candidates - a - t[:, None] * (b - a)).max(axis=1)
        hit = np.flatnonzero((away < 1e-5) & (t > -1e-5) & (t < 1 + 1e-5))
        where.append(distance[on[0]] + t[hit] * (distance[on[-1]] - distance[on[0]]))
        which.append(star[hit])
    return np.concatenate(where), np.concatenate(which)
