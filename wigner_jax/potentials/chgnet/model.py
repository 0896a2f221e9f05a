"""CHGNet 0.3.0 (B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023)): its energy written for XLA."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ..layers.edge_blocks import EdgeBlocks, edge_blocks
from ..layers.equivariant import bessel, polynomial_cutoff
from ..layers.gated_mlp import gated, layer_norm
from ..layers.message_passing import under

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..graph import Bonds, Graph


CHGNetParams = dict[str, "Array"]
STRAIGHT = 1 - 1e-6  # cos θ is multiplied by this, so that θ is not a multiple of π


@dataclasses.dataclass(frozen=True)
class CHGNetConfig:
    """Everything that is not a weight. Keys compilation."""

    numbers: tuple[int, ...]  # atomic numbers, in the order of the weights
    cutoff: float  # Å, of the edges between atoms
    bond_cutoff: float  # Å, of the bonds between which there are angles
    p: int  # of the polynomial cutoff
    layers: int  # updates of the atoms; one less of bonds


@dataclasses.dataclass(frozen=True)
class CHGNet:
    """E(params, graph) of one architecture; hashable, compares by value.

        E = Σ_i [readout(norm(v_i)) + E0(z_i)]
        v_i  ← v_i + W Σ_j gated(v_i, e_ij, v_j) · (W_6 R_6(r_ij))
        e_ij ← e_ij + W' Σ_{angles a = (ij, ik), (ji, jk)} gated'(e_ij, e_ik, a, v_i) · (W_3 R_3(r_ij)) · (W_3 R_3(r_ik))
        a    ← a + gated''(e_ij, e_ik, a, v_i)

    v are features of atoms, e of undirected bonds, a of ordered pairs of bonds shorter than 3 Å with a common atom;
    R_c are Bessel functions with fitted wave numbers times a polynomial cutoff at c Å, which is C². A new angle starts
    from sin and cos of multiples of θ = arccos((1 − 10⁻⁶) cos θ_jik).

    Smoothness. The multiples of θ are fitted, not integers, so that E has a cusp at every straight angle, rounded over
    1.4e-3 rad by the factor 1 − 10⁻⁶. In crystals with short bonds through an inversion centre every atom sits in such
    cusps. In rocksalt NaCl (a = 5.69 Å, 64 atoms) Φxx of an atom on itself is −0.219 eV/Å² by AD, −0.219, −0.199, 0.638,
    1.154 and 1.346 by differences with steps of 1e-4, 1e-3, 1e-2, 3e-2 and 6e-2 Å; in MgO (a = 4.26 Å) 4.56 by AD, 4.57,
    5.21, 8.64, 8.83 and 8.56. AD is exact and describes the rounded tip of the cusp, which no vibrating atom feels; the
    published κ come from displacements of 0.03 Å, and so do the force constants that mean something here. E is C² where
    a bond crosses 3 or 6 Å; the shell of oxygen in MgO is at 3.01 Å.

    `params`: embedding (Z, C), references (Z,) eV, wave numbers waves_6, waves_3 (R,), angles (F,), bonds.weight,
    bonds.weight_6, bonds.weight_3 (R, C), angle.weight (2 F + 1, C); t.atoms.*, t.bonds.*, t.angles.* (gated networks
    with norms, and t.atoms.out, t.bonds.out (C, C)); readout.norm (2, C), readout.k.weight, readout.k.bias.
    """

    config: CHGNetConfig

    @property
    def message_layers(self) -> int:
        return self.config.layers

    def __call__(self, params: CHGNetParams, graph: Graph) -> Array:
        """Energy of the cell, eV."""
        return jnp.sum(self.site_energies(params, graph))

    def site_energies(self, params: CHGNetParams, graph: Graph) -> Array:
        """Energy of every atom, eV. (N,)"""
        config = self.config
        if graph.bonds is None:
            raise ValueError("this graph lists no bonds: make it with build_graph for this potential")
        params = {name: jnp.asarray(value) for name, value in params.items()}
        species = jnp.asarray(graph.species)
        edges, bonds = edge_blocks(graph), short_bonds(graph, graph.bonds)

        far = self._radial(params, edges.lengths, edges.mask)
        weight_6 = far @ params["bonds.weight_6"]
        near = self._radial(params, bonds.lengths, bonds.mask)
        weight_3 = self._radial(params, bonds.lengths, bonds.mask, short=True) @ params["bonds.weight_3"]
        v = params["embedding"][species]
        e_far = far @ params["bonds.weight"]
        e = start = near @ params["bonds.weight"]
        a = self._angles(params, bonds)
        for t in range(config.layers):
            # bonds longer than 3 Å stay what they were
            features = e_far if t == 0 else e_far + bonds.at_edges(e - start)[edges.edges]
            v = v + self._to_atoms(edges, under(params, f"{t}.atoms."), v, features, weight_6)
            if t == config.layers - 1:
                break
            e = e + self._to_bonds(bonds, under(params, f"{t}.bonds."), v, e, a, weight_3)
            if t < config.layers - 2:  # the last angles have no effect
                a = a + bonds.gated(under(params, f"{t}.angles."), v, e, a)
        x, k = layer_norm(v, params["readout.norm"]), 0
        while f"readout.{k}.weight" in params:
            x = (jax.nn.silu(x) if k else x) @ params[f"readout.{k}.weight"] + params[f"readout.{k}.bias"]
            k += 1
        return x[:, 0] + params["references"][species]

    def _radial(self, params: CHGNetParams, r: Array, mask: Array, short: bool = False) -> Array:
        """√(2/c) sin(k r/c)/r times the cutoff; 0 in empty slots. (S,) -> (S, R)"""
        cutoff = self.config.bond_cutoff if short else self.config.cutoff
        waves = params["waves_3" if short else "waves_6"] / cutoff
        envelope = jnp.where(mask, polynomial_cutoff(r, cutoff, self.config.p), 0.0)
        return bessel(r, waves, jnp.asarray(math.sqrt(2 / cutoff), r.dtype)) * envelope[:, None]

    def _angles(self, params: CHGNetParams, bonds: ShortBonds) -> Array:
        """Features of every ordered pair of bonds of one atom, to begin with. (N, K, K, C)"""
        N, K = bonds.shape
        units = bonds.units.reshape(N, K, 3)
        cosine = jnp.where(bonds.pair_mask, jnp.einsum("nia,nja->nij", units, units), 0.0)
        phase = jnp.arccos(cosine * STRAIGHT)[..., None] * params["angles"]
        # 1/√2, sines, cosines
        constant, sines, cosines = jnp.split(params["angle.weight"], [1, 1 + len(params["angles"])])
        total = jnp.sin(phase) @ sines + jnp.cos(phase) @ cosines + constant[0] / math.sqrt(2)
        return total / math.sqrt(math.pi)

    def _to_atoms(self, edges: EdgeBlocks, part: CHGNetParams, v: Array, e: Array, weight: Array) -> Array:
        C = v.shape[-1]

        def first(W: list[Array], bias: Array | float) -> Array:
            return edges.repeated(v @ W[0] + bias) + e @ W[1] + (v @ W[2])[edges.senders]

        return edges.total(gated(part, (C, e.shape[-1], C), first) * weight) @ part["out"]

    def _to_bonds(self, bonds: ShortBonds, part: CHGNetParams, v: Array, e: Array, a: Array, weight: Array) -> Array:
        N, K = bonds.shape
        weight = weight.reshape(N, K, -1)
        terms = jnp.where(bonds.pair_mask[..., None], bonds.gated(part, v, e, a), 0.0)
        total = (jnp.sum(terms * weight[:, None], axis=2) * weight).reshape(N * K, -1)
        # a bond collects the angles at both its ends
        return jnp.where(bonds.mask[:, None], total + total[bonds.reverse], 0.0) @ part["out"]


@dataclasses.dataclass(frozen=True, eq=False)
class ShortBonds:
    """The short edges of a graph in N rows of K slots, with their geometry. S = N K."""

    edges: Array  # (S,) int
    reverse: Array  # (S,) int
    mask: Array  # (S,) bool
    pair_mask: Array  # (N, K, K) bool: two different bonds
    lengths: Array  # (S,) Å; 1 where the mask is False
    units: Array  # (S, 3)
    count: int  # of all edges of the graph
    shape: tuple[int, int]  # (N, K)

    def at_edges(self, values: Array) -> Array:
        """Values of bonds at their edges, 0 at longer edges. (S, C) -> (E, C)"""
        place = jnp.where(self.mask, self.edges, self.count)
        slot = jnp.full(self.count + 1, len(values), jnp.int32).at[place].set(jnp.arange(len(values), dtype=jnp.int32))
        return jnp.concatenate([values, jnp.zeros_like(values[:1])])[slot[:-1]]

    def gated(self, part: CHGNetParams, v: Array, e: Array, a: Array) -> Array:
        """A gated network of (first bond, second bond, angle, atom). (N, K, K, C)"""
        N, K = self.shape
        C, width = v.shape[-1], e.shape[-1]

        def first(W: list[Array], bias: Array | float) -> Array:
            at_first = (e @ W[0]).reshape(N, K, 1, -1) + (v @ W[3] + bias)[:, None, None]
            return a @ W[2] + at_first + (e @ W[1]).reshape(N, 1, K, -1)

        return gated(part, (width, width, a.shape[-1], C), first)


def short_bonds(graph: Graph, bonds: Bonds) -> ShortBonds:
    """Two atoms in the same place give finite numbers without meaning, not NaN."""
    N, K = bonds.edges.shape
    edges, mask = jnp.asarray(bonds.edges).reshape(-1), jnp.asarray(bonds.mask)
    listed = dataclasses.replace(
        graph,
        senders=jnp.asarray(graph.senders)[edges],
        receivers=jnp.repeat(jnp.arange(N, dtype=jnp.int32), K),
        shifts=jnp.asarray(graph.shifts)[edges],
    )
    vectors, flat = listed.vectors(), mask.reshape(-1)
    square = jnp.sum(vectors**2, axis=-1)
    usable = flat & (square > 0)
    vectors = jnp.where(usable[:, None], vectors, jnp.array([1.0, 0.0, 0.0], vectors.dtype))
    lengths = jnp.sqrt(jnp.where(usable, square, 1.0))
    pair_mask = mask[:, :, None] & mask[:, None] & ~np.eye(K, dtype=bool)
    reverse = jnp.asarray(bonds.reverse).reshape(-1)
    return ShortBonds(
        edges, reverse, flat, pair_mask, lengths, vectors / lengths[:, None], graph.edge_mask.shape[0], (N, K)
    )
