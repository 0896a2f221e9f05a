"""The energy of MACE (Batatia et al., NeurIPS 2022, arXiv:2206.07697), written for XLA."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np

from ..layers.edge_blocks import edge_blocks
from ..layers.equivariant import ACTIVATIONS, Features, direction_monomials
from .interaction import EdgeData, interaction
from .product import product
from .radial import edge_features, repulsion

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..graph import Graph
    from .config import MaceConfig, MaceParams, Readout


@dataclasses.dataclass(frozen=True)
class Mace:
    """E(params, graph) of one architecture; hashable, compares by value.

        E = Σ_i E0[z_i] + scale · (Σ_i Σ_t readout_t(h_i^(t)) + E_ZBL) + shift · N

    and h^(t) = product_t(interaction_t(h^(t−1)), skip_t(h^(t−1))), h^(0) an embedding of the species.

    `params` has the names and shapes of the torch model's `state_dict()` (its parameters, and those buffers that are
    physical: atomic energies, scale and shift, radial constants), so that reading and writing checkpoints copies
    numbers and nothing else. All normalisation constants are applied in the code.
    """

    config: MaceConfig

    skips_padding: ClassVar[bool] = True

    @property
    def message_layers(self) -> int:
        return len(self.config.interactions)

    def __call__(self, params: MaceParams, graph: Graph) -> Array:
        """Energy of the cell, eV."""
        return jnp.sum(self.site_energies(params, graph))

    def site_energies(self, params: MaceParams, graph: Graph) -> Array:
        """Energy of every atom, eV. (N,)"""
        config = self.config
        params = {name: jnp.asarray(value) for name, value in params.items()}
        species = jnp.asarray(graph.species)
        blocks = edge_blocks(graph)
        kinds = species[blocks.senders], species[blocks.receivers]
        numbers = jnp.asarray(graph.numbers)
        elements = numbers[blocks.senders], numbers[blocks.receivers]
        features, cutoff = edge_features(config.radial, params, blocks, elements)
        directions = direction_monomials(max(config.interactions[0].harmonics), blocks.units)
        edges = EdgeData(blocks, kinds, directions, features, cutoff)

        embedding = params["node_embedding.linear.weight"].reshape(config.n_species, -1)
        embedding = embedding / np.sqrt(config.n_species)
        h: Features = (embedding[species][:, None, :],)
        states = []
        for t, (block, many_body) in enumerate(zip(config.interactions, config.products, strict=True)):
            message, skip = interaction(config, block, _under(params, f"interactions.{t}."), edges, species, h)
            h = product(many_body, _under(params, f"products.{t}."), message, skip, species, graph.chunk_bytes)
            states.append(h)

        site = jnp.zeros(graph.n_atoms, features.dtype)
        for t, readout in enumerate(config.readouts):
            state = states[-1] if len(config.readouts) == 1 else states[t]
            site = site + _read(config, readout, _under(params, f"readouts.{t}."), state)
        pair = repulsion(config.radial, params, blocks, elements) if config.radial.repulsion else 0.0
        if config.scaled:
            scale = jnp.atleast_1d(params["scale_shift.scale"])[config.head]
            shift = jnp.atleast_1d(params["scale_shift.shift"])[config.head]
            site = scale * (site + pair) + shift
        else:
            site = site + pair
        atomic = jnp.atleast_2d(params["atomic_energies_fn.atomic_energies"])[config.head]
        return site + atomic[species]


def _under(params: MaceParams, prefix: str) -> MaceParams:
    """The parameters of a submodule, by their names within it."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}


def _read(config: MaceConfig, readout: Readout, params: MaceParams, h: Features) -> Array:
    """The chosen head's site energies. (N,)"""
    for depth, (layer, name) in enumerate(zip(readout.layers, readout.names, strict=True)):
        h = layer(params[f"{name}.weight"], h, params.get(f"{name}.bias"))
        if depth < len(readout.layers) - 1:
            (x,) = h
            x = readout.activation_norm * ACTIVATIONS[readout.activation](x) if readout.activation else x
            if readout.masked:
                size = x.shape[-1] // len(config.heads)
                x = jnp.where(np.arange(x.shape[-1]) // size == config.head, x, 0.0)
            h = (x,)
    return h[0][:, 0, config.head]
