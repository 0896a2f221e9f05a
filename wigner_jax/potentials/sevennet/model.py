"""SevenNet (Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024)): its energy written for XLA."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp

from ..layers.edge_blocks import EdgeBlocks, edge_blocks
from ..layers.equivariant import (
    ACTIVATION_NORMS,
    Features,
    Irreps,
    bessel,
    direction_monomials,
    polynomial_cutoff,
)
from ..layers.message_passing import (
    Convolution,
    gate,
    message_passing,
    under,
)

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..graph import Graph
    from ..layers.equivariant import Linear


SevenNetParams = dict[str, "Array"]
_NORM = ACTIVATION_NORMS["silu"]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One message-passing step. Names of its weights are those of the file."""

    skip: Linear
    linear_1: Linear
    convolution: Convolution
    linear_2: Linear
    out: Irreps  # after the gate


@dataclasses.dataclass(frozen=True)
class SevenNetConfig:
    """Everything that is not a weight. Keys compilation."""

    numbers: tuple[int, ...]  # atomic numbers, in the order of the weights
    cutoff: float  # Å
    cutoff_on: float  # Å; XPLOR's smoothing starts here; 0 for a polynomial cutoff
    p: int  # of the polynomial cutoff
    channels: int  # of the embedding
    depth: int  # hidden layers of the radial networks
    layers: tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class SevenNet:
    """E(params, graph) of one architecture; hashable, compares by value.

        E = Σ_i [scale_z · W2 W1 h_i + shift_z]
        h ← gate(linear_2(Σ_j R(r_ij) linear_1(h)_j ⊗ Y(r̂_ij) / denominator) + skip(h))

    h is an embedding of the species at first; R a network of Bessel functions with fitted wave numbers, times a cutoff.

    Smoothness. SevenNet-0 has the XPLOR cutoff from 4.5 to 5 Å, which is C¹ only: its second derivative jumps by −21.5
    and −26.6 Å⁻² at the two ends, so that force constants change when a shell of neighbours crosses one of them. These
    distances are the potential's `nonsmooth_distances`, and a graph's margin says how near the nearest pair is.
    SevenNet-l3i5 has a polynomial cutoff, C² at 5 Å; prefer it for third-order force constants.

    Symmetry. The features have no parity, so that the energy is invariant under rotations but not under inversions and
    mirrors: for SevenNet-0 forces of a mirrored cell differ by 3e-4 eV/Å, and Φ2 and Φ3 of MgO without their symmetric
    average by 1e-4 and 2e-3 of themselves. Force constants are those of the average over mirror images.

    `params` has the names and shapes of the torch model's `state_dict()`. All normalisation constants are in the code.
    """

    config: SevenNetConfig

    skips_padding: ClassVar[bool] = True

    @property
    def message_layers(self) -> int:
        return len(self.config.layers)

    def __call__(self, params: SevenNetParams, graph: Graph) -> Array:
        """Energy of the cell, eV."""
        return jnp.sum(self.site_energies(params, graph))

    def site_energies(self, params: SevenNetParams, graph: Graph) -> Array:
        """Energy of every atom, eV. (N,)"""
        config = self.config
        params = {name: jnp.asarray(value) for name, value in params.items()}
        species = jnp.asarray(graph.species)
        edges = edge_blocks(graph)
        r = edges.lengths
        waves = params["edge_embedding.basis_function.coeffs"]
        radial = bessel(r, waves, jnp.asarray(2 / config.cutoff, r.dtype)) * self._cutoff(edges)[:, None]
        # from the receiver to the sender: the model is not symmetric under inversion of its directions
        degree = max(path.harmonic for layer in config.layers for path in layer.convolution.paths)
        geometry = edges, radial, direction_monomials(degree, -edges.units)

        count = len(config.numbers)
        embedding = params["onehot_to_feature_x.linear.weight"].reshape(count, config.channels) / math.sqrt(count)
        h: Features = (embedding[species][:, None, :],)
        parts = [under(params, f"{t}_") for t in range(len(config.layers))]
        (scalars,) = message_passing(config.layers, parts, partial(self._step, geometry), h)
        C = scalars.shape[-1]
        hidden = scalars[:, 0] @ params["reduce_input_to_hidden.linear.weight"].reshape(C, -1) / math.sqrt(C)
        site = hidden @ params["reduce_hidden_to_energy.linear.weight"] / math.sqrt(hidden.shape[-1])
        scale, shift = (params[f"rescale_atomic_energy.{name}"] for name in ("scale", "shift"))
        return scale[species] * site + shift[species]

    def _cutoff(self, edges: EdgeBlocks) -> Array:
        """1 below `cutoff_on` and (s_c − s)² (s_c + 2s − 3s_on)/(s_c − s_on)³ above, s = r² (XPLOR), or a polynomial. (S,)"""
        config, r = self.config, edges.lengths
        if not config.cutoff_on:
            return jnp.where(edges.mask, polynomial_cutoff(r, config.cutoff, config.p), 0.0)
        s, on, end = r**2, config.cutoff_on**2, config.cutoff**2
        value = (end - s) ** 2 * (end + 2 * s - 3 * on) / (end - on) ** 3
        value = jnp.where(r < config.cutoff_on, 1.0, value)
        return jnp.where(edges.mask & (r < config.cutoff), value, 0.0)

    def _step(
        self, geometry: tuple[EdgeBlocks, Array, Array], layer: Layer, params: SevenNetParams, h: Features
    ) -> Features:
        edges, radial, directions = geometry
        networks = [params[f"convolution.weight_nn.layer{k}.weight"] for k in range(self.config.depth + 1)]
        # normalised silu, weights over the square root of the fan-in
        norms = [(_NORM if k else 1.0) / math.sqrt(W.shape[0]) for k, W in enumerate(networks)]
        *hidden, last = (norm * W for norm, W in zip(norms, networks, strict=True))
        network = radial, (*hidden, last / params["convolution.denominator"])
        skip = layer.skip(params["self_connection_intro.linear.weight"], h)
        carried = layer.linear_1(params["self_interaction_1.linear.weight"], h)
        message = layer.convolution(edges, directions, network, carried)
        out = layer.linear_2(params["self_interaction_2.linear.weight"], message)
        return gate(tuple(a + b for a, b in zip(out, skip, strict=True)), layer.out, _NORM)
