"""Which triplets q + q' + q'' = G are normal (G = 0) and which are umklapp processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .mesh import NEXT, addresses, reduced_reciprocal

if TYPE_CHECKING:
    from ..types import Mesh, TripletBucket

SAME_LENGTH = 1e-5  # relative: points on the zone's surface have several equivalents of one length
BASE = 64  # of the code of a lattice vector: components between -32 and 31


def normal_processes(lattice: np.ndarray, mesh: Mesh, triplets: tuple[TripletBucket, ...]) -> tuple[np.ndarray, ...]:
    """Where q, q' and q'' of the first Brillouin zone can be chosen so that they sum to 0.

    A point on the surface of the zone has several equivalents in it; a triplet is normal if any choice sums to 0, as in
    phono3py. The classes depend neither on the reciprocal vectors nor on the order of the legs.

    Args:
        lattice: (3, 3) Å, rows are the vectors of the primitive cell.

    Returns:
        Of every bucket, (members, rods, X) bool, in the order of its weights.
    """
    code = _zone_images(np.asarray(mesh.qpoints), np.asarray(lattice))
    dims = np.array(mesh.dims)
    address = addresses(mesh.dims)
    # q = address/dims + shift, so that sums are integers exactly
    shift = np.rint(np.asarray(mesh.qpoints) - address / dims).astype(int)
    result = []
    for bucket in triplets:
        masks = []
        for member, planes, rods in zip(bucket.members, bucket.planes, bucket.rods, strict=True):
            q = int(mesh.irreducible[member])
            rod = np.asarray(rods)[:, 0] + dims[1] * np.asarray(planes)[np.asarray(rods)[:, 1]]
            first = dims[0] * rod[:, None] + np.arange(dims[0])
            total = -address[q] - address  # of q''
            second = (np.mod(total, dims) @ [1, dims[0], dims[0] * dims[1]])[first]
            carried = (address[q] + address[first] + address[second]) // dims
            rest = _encoded(-(carried + shift[q] + shift[first] + shift[second]))
            found = np.zeros(first.shape, bool)
            for a in np.unique(code[q]):
                for b in range(code.shape[1]):
                    for c in range(code.shape[1]):
                        found |= a + code[first, b] + code[second, c] == rest
            masks.append(found)
        result.append(np.array(masks))
    return tuple(result)


def _encoded(vectors: np.ndarray) -> np.ndarray:
    return vectors @ np.array([1, BASE, BASE**2])


def _zone_images(qpoints: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Codes of the lattice vectors G for which q + G is in the first zone too, G = 0 first and for padding. (Q, K)"""
    reciprocal, basis = reduced_reciprocal(lattice)
    steps = NEXT @ basis
    length = np.linalg.norm((qpoints[:, None] + steps) @ reciprocal.T, axis=-1)
    shortest = length.min(axis=1, keepdims=True)
    inside = length <= shortest * (1 + SAME_LENGTH) + 1e-12
    codes = np.where(inside, _encoded(steps), 0)
    ordered = np.take_along_axis(codes, np.argsort(~inside, axis=1, kind="stable"), axis=1)
    return ordered[:, : int(inside.sum(axis=1).max())]


__all__ = ["normal_processes"]
