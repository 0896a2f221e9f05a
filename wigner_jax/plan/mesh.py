"""Regular q-meshes and their irreducible points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np
import spglib

from .._core.as_numbers import as_numbers
from ..crystal.symmetry import cartesian, reciprocal_operations, space_group
from ..errors import InputError, say
from ..types import Crystal, Mesh
from .lattice_geometry import second_moment

if TYPE_CHECKING:
    from collections.abc import Sequence


MOST_POINTS = 2**31 - 1  # their indices are 32-bit integers

#: a lattice vector and its 26 neighbours
NEXT = np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3, indexing="ij"), -1).reshape(-1, 3)


def addresses(dims: Sequence[int]) -> np.ndarray:
    """Integer coordinates of the mesh points, first axis fastest. (Q, 3)"""
    z, y, x = np.meshgrid(*[np.arange(d) for d in reversed(dims)], indexing="ij")
    return np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1)


def index_of(address: np.ndarray, dims: Sequence[int]) -> np.ndarray:
    """Index of integer coordinates (any integers; folded into the mesh). (..., 3) → (...)"""
    x, y, z = np.moveaxis(np.mod(address, dims), -1, 0)
    return x + dims[0] * (y + dims[1] * z)


def mesh_operations(crystal: Crystal, dims: Sequence[int], symmetry: bool = True) -> np.ndarray:
    """Operations on q that keep the crystal (or its time reverse) and map the mesh onto itself. (R, 3, 3) int

    An operation S maps the mesh onto itself if S_ij N_i / N_j is an integer; the others are left out, so that a mesh
    that is less symmetric than the crystal costs time but never changes the answer.
    """
    if not symmetry:
        return np.eye(3, dtype=int)[None]
    operations = reciprocal_operations(space_group(crystal))
    N = np.asarray(dims)
    scaled = operations * N[None, :, None]
    return operations[np.all(scaled % N[None, None, :] == 0, axis=(1, 2))]


def images(address: np.ndarray, operations: np.ndarray, dims: Sequence[int]) -> np.ndarray:
    """Index of S q for every operation and mesh point. (R, Q)"""
    N = np.asarray(dims)
    on_mesh = operations * N[None, :, None] // N[None, None, :]
    return np.stack([index_of(address @ S.T, dims) for S in on_mesh])


def star_of(crystal: Crystal, dims: Sequence[int]) -> np.ndarray:
    """For every mesh point the irreducible point of its star, as a position among `Mesh.irreducible`. (Q,) int"""
    first = images(addresses(dims), mesh_operations(crystal, dims), dims).min(axis=0)
    return np.unique(first, return_inverse=True)[1].ravel()


def reduced_reciprocal(lattice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The reciprocal vectors in columns, 1/Å, and reduced ones in rows, as integer combinations of them. (3, 3) each"""
    reciprocal = np.linalg.inv(lattice)
    reduced = spglib.delaunay_reduce(reciprocal.T.copy())
    if reduced is None:  # spglib's tolerances are lengths: those of a huge cell are too short for it
        scale = np.cbrt(abs(np.linalg.det(lattice)))
        reduced = spglib.delaunay_reduce(reciprocal.T * scale) / scale
    return reciprocal, np.rint(reduced @ lattice.T).astype(int)


def first_zone(qpoints: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """The shortest equivalent of each q (fractional), in the first Brillouin zone. (Q, 3)

    The non-analytic terms are not periodic in q term by term, so that the representative matters there.
    """
    reciprocal, basis = reduced_reciprocal(lattice)
    wrapped = qpoints - np.rint(qpoints @ np.linalg.inv(basis)) @ basis
    candidates = wrapped[:, None] + NEXT @ basis
    length = np.linalg.norm(candidates @ reciprocal.T, axis=-1)
    return candidates[np.arange(len(qpoints)), (length > length.min(axis=1, keepdims=True) + 1e-9).argmin(axis=1)]


def mesh_dims(dims: Sequence[int]) -> tuple[int, int, int]:
    """Three positive integers whose product numbers the points; raises InputError."""
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(dims)):
        raise InputError(
            "the mesh is traced by a transformation, and shapes depend on it",
            "make the plan outside, and close over it",
        )
    try:
        array = np.empty(0) if isinstance(dims, str) else as_numbers(dims)
    except ValueError:
        array = np.empty(0)
    if array.shape != (3,) or not np.all((array == np.rint(array)) & (array >= 1)):
        given = repr(dims) if isinstance(dims, str) else " ".join(str(x) for x in np.ravel(np.asarray(dims, object)))
        raise InputError(f"a mesh needs three positive integers, got {given}", "give for example 11 11 11")
    points = float(np.prod(array))
    if points > MOST_POINTS:
        raise InputError(f"a mesh of {points:.2g} points, where {MOST_POINTS} can be numbered", "take a coarser one")
    return int(array[0]), int(array[1]), int(array[2])


def say_if_mesh_breaks_symmetry(crystal: Crystal, mesh: Mesh) -> None:
    """Warns where a mesh has less symmetry than the crystal: κ has no more than the mesh.

    Warns:
        AccuracyWarning: with the numbers of operations.
    """
    kept, every = len(mesh.rotations), len(reciprocal_operations(space_group(crystal)))
    if kept < every:
        dims = "×".join(map(str, mesh.dims))
        say(
            f"the mesh {dims} keeps {kept} of the crystal's {every} operations, and κ too: take as many points along vectors that"
            " are equal by symmetry"
        )


def make_mesh(crystal: Crystal, dims: Sequence[int], symmetry: bool = True) -> Mesh:
    """The mesh and its irreducible points under the point group with time reversal.

    Args:
        dims: three positive integers, subdivisions along the reciprocal vectors of the primitive cell.
        symmetry: False keeps every point irreducible.
    """
    N = mesh_dims(dims)
    lattice = np.asarray(crystal.lattice)
    address = addresses(N)
    operations = mesh_operations(crystal, N, symmetry)
    first = images(address, operations, N).min(axis=0)
    irreducible, star, weights = np.unique(first, return_inverse=True, return_counts=True)
    qpoints = first_zone(address / np.array(N), lattice)
    moment = second_moment(np.linalg.inv(lattice).T / np.array(N)[:, None])
    values, vectors = np.linalg.eigh(12 * moment)
    steps = (vectors * np.sqrt(values)) @ vectors.T
    rotations = cartesian(operations, lattice)
    irreducible, weights = irreducible.astype(np.int32), weights.astype(np.int32)
    return Mesh(N, qpoints, irreducible, weights, star.ravel().astype(np.int32), rotations, steps)
