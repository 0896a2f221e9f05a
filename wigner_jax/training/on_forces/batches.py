"""Structures in batches of one shape: energies, forces, stresses and Hessian columns of many in one evaluation.

A batch is one graph of disconnected parts. Structures are sorted by their number of edges and divided into as many ranks as
a batch has slots; a batch takes one structure of each rank, so that the sum of the largest of every rank, a few per cent
above the mean, is enough for any batch: one compilation, whatever the structures.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.pytree import pytree
from ...errors import InputError
from ...potentials.graph import Graph
from ..frames import SCALES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..._core.pytree import Array
    from ...potentials.base import Params, Potential
    from ..frames import Frame


class SiteEnergies(Protocol):
    """An energy that is a sum over atoms: MACE, SevenNet, Nequix, or `Adapted` of one of them."""

    def site_energies(self, params: Params, graph: Graph, /) -> Array: ...


@pytree()
class Batch:
    """B structures, some of which may be missing, in A atoms and E edges.

    Atoms of one structure follow those of the one before. Padding atoms come last, have no edges and belong to structure
    B. `graph.cell` has three rows, `graph.shifts` three columns for each structure; a missing one has no atoms, weights of
    0 and a cell of 1 Å.
    """

    graph: Graph
    owners: Array  # (A,) int, structure of each atom
    atoms: Array  # (B,) number of atoms, 0 for a missing structure
    volumes: Array  # (B,) Å³
    energy: Array  # (B,) eV per atom
    forces: Array  # (A, 3) eV/Å
    stress: Array  # (B, 3, 3) eV/Å³
    weights: Array  # (B, 4) of energy, forces, stress, Hessian columns; 0 where there is no target
    vectors: Array  # (K, A, 3), in each structure with a Hessian one element 1, the rest 0: the column u
    columns: Array  # (K, A, 3) eV/Å², Φu

    def sums(self, values: Array) -> Array:
        """Sums over the atoms of each structure. (A, ...) -> (B, ...)"""
        return jax.ops.segment_sum(values, self.owners, self.atoms.shape[0] + 1, indices_are_sorted=True)[:-1]

    def means(self, values: Array) -> Array:
        """Means over the atoms of each structure, 0 for a missing one. (A,) -> (B,)"""
        return self.sums(values) / jnp.maximum(self.atoms, 1)


class Errors(NamedTuple):
    """How far off each structure of a batch is; (B,), and (B, 3, 3) for the stress."""

    energy: Array  # E - E_D, eV per atom
    force_square: Array  # mean over components, (eV/Å)²
    force_absolute: Array  # mean over components, eV/Å
    stress: Array  # σ - σ_D, eV/Å³
    hessian: Array  # mean over the columns of ‖Φu - (Φu)_D‖²/‖(Φu)_D‖²


def require_batchable(potential: Potential) -> None:
    """InputError for a potential whose graphs cannot be joined: those with lists of angles or bonds."""
    if not hasattr(potential.energy, "site_energies") or potential.needs_angles or potential.bond_cutoff is not None:
        raise InputError(
            f"{potential.name} needs lists of angles, which batches do not have: train a MACE, SevenNet or Nequix model"
        )


class Batches:
    """Every structure once, `size` of them at a time.

    Args:
        frames: any numbers of atoms; `weights` of a frame are those of its targets.
        size: structures in a batch.
        dtype: of all floating-point numbers, and so of the computation.
        columns: of the Hessian, drawn for each structure that has one; none if `hessian` is 0.
        hessian: the weight of the columns.
    """

    def __init__(
        self, frames: Sequence[Frame], size: int, dtype: Any = np.float32, columns: int = 0, hessian: float = 0.0
    ) -> None:
        if not frames:
            raise InputError("no structures: check the data")
        ordered = sorted(frames, key=_edges)
        size = min(size, len(ordered))
        self.ranks = [ordered[k * len(ordered) // size : (k + 1) * len(ordered) // size] for k in range(size)]
        self.count = max(len(rank) for rank in self.ranks)  # batches
        self.edges = max(1, sum(_edges(rank[-1]) for rank in self.ranks))
        self.atoms = sum(max(frame.graph.n_atoms for frame in rank) for rank in self.ranks)
        self.dtype, self.hessian, self.chunk_bytes = dtype, hessian, ordered[0].graph.chunk_bytes
        self.columns = columns if hessian else 0

    def __call__(self, key: Sequence[int] | None = None, start: int = 0) -> Iterator[Batch]:
        """All batches from number `start` on. Order and columns are functions of `key` alone; without one they stay the same."""
        rng = None if key is None else np.random.default_rng(key)
        orders = [np.arange(self.count) if rng is None else rng.permutation(self.count) for _ in self.ranks]
        for k in range(start, self.count):
            chosen = [rank[o[k]] if o[k] < len(rank) else None for rank, o in zip(self.ranks, orders, strict=True)]
            yield self._joined(chosen, np.random.default_rng([*(key or ()), k]))

    def _joined(self, frames: list[Frame | None], rng: np.random.Generator) -> Batch:
        B, A, E, K = len(frames), self.atoms, self.edges, self.columns
        positions, forces = np.zeros((2, A, 3), self.dtype)
        species, numbers, owners = np.zeros(A, np.int32), np.ones(A, np.int32), np.full(A, B, np.int32)
        senders, receivers = np.zeros((2, E), np.int32)
        shifts, cells = np.zeros((E, 3 * B), self.dtype), np.tile(np.eye(3, dtype=self.dtype), (B, 1))
        energy, volumes, stress = np.zeros(B, self.dtype), np.ones(B, self.dtype), np.zeros((B, 3, 3), self.dtype)
        atoms, weights = np.zeros(B, np.int32), np.zeros((B, 4), self.dtype)
        vectors, columns = np.zeros((2, K, A, 3), self.dtype)
        first, edge = 0, 0
        for b, frame in enumerate(frames):
            if frame is None:
                continue
            graph, mask, N = frame.graph, np.asarray(frame.graph.edge_mask), frame.graph.n_atoms
            own, listed = slice(first, first + N), slice(edge, edge + int(mask.sum()))
            positions[own], forces[own], species[own], owners[own] = graph.positions, frame.forces, graph.species, b
            numbers[own] = graph.numbers
            senders[listed], receivers[listed] = graph.senders[mask] + first, graph.receivers[mask] + first
            three = slice(3 * b, 3 * b + 3)
            shifts[listed, three], cells[three] = graph.shifts[mask], graph.cell
            atoms[b], volumes[b] = N, abs(np.linalg.det(graph.cell))
            energy[b], stress[b], weights[b, :3] = frame.energy / N, frame.stress, frame.weights
            if K and frame.hessian is not None:
                weights[b, 3] = self.hessian
                chosen = rng.choice(3 * N, K, replace=K > 3 * N)
                vectors[np.arange(K), first + chosen // 3, chosen % 3] = 1
                columns[:, own] = frame.hessian[:, chosen].T.reshape(K, N, 3)
            first, edge = own.stop, listed.stop
        shifts[edge:, 0] = 1
        graph = Graph(
            positions, cells, species, numbers, senders, receivers, shifts, np.arange(E) < edge,
            np.zeros((0, 2), np.int32), np.zeros(0, bool), chunk_bytes=self.chunk_bytes,
        )  # fmt: skip
        return Batch(graph, owners, atoms, volumes, energy, forces, stress, weights, vectors, columns)


def _edges(frame: Frame) -> int:
    return int(np.sum(frame.graph.edge_mask))


def predict(energy: SiteEnergies, params: Params, batch: Batch) -> tuple[Array, Array, Array, Array]:
    """Energies per atom (B,) eV, forces (A, 3) eV/Å, stresses (B, 3, 3) eV/Å³, and Φu (K, A, 3) eV/Å².

        F_i = -∂E/∂x_i,   σ_b = (1/V_b) ∂E/∂ε_b at the deformation x → x (1 + ε_b) of structure b, symmetrised

    Since structures do not interact, one derivative along u, with a column of every structure in it, has all of Φu.
    """
    with jax.default_matmul_precision("float32"):  # else GPUs round products of single precision to 10 bits
        return _predict(energy, params, batch)


def _predict(energy: SiteEnergies, params: Params, batch: Batch) -> tuple[Array, Array, Array, Array]:
    graph, x = batch.graph, jnp.asarray(batch.graph.positions)
    B = batch.atoms.shape[0]

    def total(positions: Array, strain: Array) -> tuple[Array, Array]:
        F = jnp.eye(3, dtype=positions.dtype) + strain
        moved = dataclasses.replace(
            graph,
            positions=jnp.einsum("ai,aij->aj", positions, F[batch.owners]),
            cell=jnp.einsum("bri,bij->brj", graph.cell.reshape(B, 3, 3), F[:B]).reshape(3 * B, 3),
        )
        energies = batch.sums(energy.site_energies(params, moved))
        return energies.sum(), energies

    zero = jnp.zeros((B + 1, 3, 3), x.dtype)
    (slope, virial), energies = jax.grad(total, argnums=(0, 1), has_aux=True)(x, zero)
    stress = 0.5 * (virial + virial.swapaxes(1, 2))[:B] / batch.volumes[:, None, None]
    columns = jnp.zeros_like(jnp.asarray(batch.vectors))
    if columns.shape[0]:
        gradient = jax.grad(lambda y: total(y, zero)[0])
        columns = jax.lax.map(lambda u: jax.jvp(gradient, (x,), (u,))[1], jnp.asarray(batch.vectors))
    return energies / jnp.maximum(batch.atoms, 1).astype(x.dtype), -slope, stress, columns


def errors(energy: SiteEnergies, params: Params, batch: Batch) -> Errors:
    """Predictions minus targets, structure by structure."""
    E, F, S, columns = predict(energy, params, batch)
    d = F - batch.forces
    norm, off = (
        jax.vmap(lambda x: batch.sums(jnp.sum(x**2, axis=-1)))(jnp.asarray(x))
        for x in (batch.columns, columns - batch.columns)
    )
    relative = jnp.where(norm > 0, off / jnp.where(norm > 0, norm, 1.0), 0.0)
    return Errors(
        E - batch.energy, batch.means(jnp.mean(d**2, axis=-1)).astype(d.dtype),
        batch.means(jnp.mean(jnp.abs(d), axis=-1)).astype(d.dtype), S - batch.stress,
        jnp.sum(relative, axis=0) / max(1, columns.shape[0]),
    )  # fmt: skip


def structure_losses(found: Errors, batch: Batch) -> Array:
    """Weighted sum of the losses of every structure, as `frames.frame_loss` has them, and of the columns. (B,)

    w_E (δE/N s_E)² + w_F ⟨|δF|²⟩/(3 s_F²) + w_σ ⟨δσ²⟩/s_σ² + w_H ⟨‖δΦu‖²/‖Φu‖²⟩,   s = frames.SCALES
    """
    sE, sF, sS = SCALES
    parts = [
        (found.energy / sE) ** 2, found.force_square / sF**2, jnp.mean(found.stress**2, axis=(1, 2)) / sS**2, found.hessian,
    ]  # fmt: skip
    return jnp.sum(batch.weights * jnp.stack(parts, axis=-1), axis=-1)


def batch_loss(energy: SiteEnergies, params: Params, batch: Batch) -> Array:
    """Mean of `structure_losses` over the structures that are there."""
    losses = structure_losses(errors(energy, params, batch), batch)
    return jnp.sum(losses) / jnp.sum(batch.atoms > 0).astype(losses.dtype)


__all__ = [
    "Batch",
    "Batches",
    "Errors",
    "SiteEnergies",
    "batch_loss",
    "errors",
    "predict",
    "require_batchable",
    "structure_losses",
]
