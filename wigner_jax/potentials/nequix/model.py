"""Nequix (T. Koker, M. Kotak and T. Smidt, arXiv:2508.16067): its energy written for XLA."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import jax.numpy as jnp
import numpy as np

from ..layers.edge_blocks import EdgeBlocks, edge_blocks
from ..layers.equivariant import Features, Irreps, bessel, direction_monomials, polynomial_cutoff
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


NequixParams = dict[str, "Array"]
Geometry = tuple[EdgeBlocks, "Array", "Array"]  # with the radial basis and the monomials of the directions
#: √⟨silu(z)²⟩ over a million quantiles of the normal distribution: e3nn-jax's normalisation of silu (torch e3nn's
#: differs by 0.16 %)
SILU_NORM = 1 / 0.5964586854233045
EPSILON = 1e-12  # of the layer norm


@dataclasses.dataclass(frozen=True)
class Layer:
    """One message-passing step."""

    linear_1: Linear
    convolution: Convolution
    linear_2: Linear
    skip: Linear
    out: Irreps  # after the gate

    def shapes(self, basis: int, hidden: int, depth: int, norm: bool) -> dict[str, tuple[tuple[int, ...], ...]]:
        """The arrays of each parameter in the order of the file; those of a linear map are its blocks."""
        sizes = [basis, *[hidden] * depth, sum(self.convolution.sizes)]
        found: dict[str, tuple[tuple[int, ...], ...]] = {}
        for k in range(depth + 1):
            found[f"radial_mlp.{k}"] = ((sizes[k], sizes[k + 1]),)
        for name, part in (("linear_1", self.linear_1), ("linear_2", self.linear_2), ("skip", self.skip)):
            found[name] = tuple(path.shape for path in part.paths)
        if norm:
            found["layer_norm"] = tuple((ir.mul,) for ir in self.linear_2.out)
        return found


@dataclasses.dataclass(frozen=True)
class NequixConfig:
    """Everything that is not a weight. Keys compilation."""

    numbers: tuple[int, ...]  # atomic numbers, in the order of the weights
    cutoff: float  # Å
    basis: int  # Bessel functions
    p: int  # of the polynomial cutoff
    hidden: int  # neurons of the radial networks
    depth: int  # their hidden layers
    neighbors: float  # average number; its square root divides the messages
    norm: bool  # whether the layers are normalised
    layers: tuple[Layer, ...]


@dataclasses.dataclass(frozen=True)
class Nequix:
    """E(params, graph) of one architecture; hashable, compares by value.

        E = Σ_i [scale · (w · h_i / √C) + shift + E0(z_i)]
        h ← gate(norm(linear_2(Σ_j R(r_ij) linear_1(h)_j ⊗ Y(r̂_ij) / √n) + skip(h)))

    h is the one-hot species at first; R a network of Bessel functions times a polynomial cutoff; norm divides all
    channels of an atom by a common root of their squares. The energy and its first three derivatives are continuous where a
    pair crosses the cutoff (6 Å): polynomial and Bessel functions vanish there with the fourth power together.

    `params`: atom_energies (Z,) eV, scale and shift () eV, readout (C,), and for every layer radial_mlp.k (in, out),
    linear_1, linear_2, skip (blocks of channels in × channels out, flat), layer_norm (channels of all irreps, flat).
    """

    config: NequixConfig

    skips_padding: ClassVar[bool] = True

    @property
    def message_layers(self) -> int:
        return len(self.config.layers)

    def __call__(self, params: NequixParams, graph: Graph) -> Array:
        """Energy of the cell, eV."""
        return jnp.sum(self.site_energies(params, graph))

    def site_energies(self, params: NequixParams, graph: Graph) -> Array:
        """Energy of every atom, eV. (N,)"""
        config = self.config
        params = {name: jnp.asarray(value) for name, value in params.items()}
        species = jnp.asarray(graph.species)
        edges = edge_blocks(graph)
        r = edges.lengths
        cutoff = jnp.where(edges.mask, polynomial_cutoff(r, config.cutoff, config.p), 0.0)
        waves = jnp.arange(1, config.basis + 1, dtype=r.dtype) * (math.pi / config.cutoff)
        radial = bessel(r, waves, jnp.asarray(2 / config.cutoff, r.dtype)) * cutoff[:, None]
        # from the receiver to the sender
        degree = max(path.harmonic for layer in config.layers for path in layer.convolution.paths)
        directions = direction_monomials(degree, -edges.units)

        geometry = edges, radial, directions
        first, *layers = config.layers
        part, *parts = (under(params, f"layers.{t}.") for t in range(len(config.layers)))
        # one-hot species: a linear map takes rows of its weights
        carried, skip = (_rows(getattr(first, name), part[name], species) for name in ("linear_1", "skip"))
        h = self._update(geometry, first, part, carried, skip)
        (scalars,) = message_passing(layers, parts, partial(self._step, geometry), h)
        site = scalars[:, 0] @ params["readout"] / math.sqrt(scalars.shape[-1])
        return params["scale"] * site + params["shift"] + params["atom_energies"][species]

    def _step(self, geometry: Geometry, layer: Layer, params: NequixParams, h: Features) -> Features:
        carried, skip = layer.linear_1(params["linear_1"], h), layer.skip(params["skip"], h)
        return self._update(geometry, layer, params, carried, skip)

    def _update(
        self, geometry: Geometry, layer: Layer, params: NequixParams, carried: Features, skip: Features
    ) -> Features:
        """Features of every atom from what its neighbours send and what it keeps."""
        edges, radial, directions = geometry
        *hidden, last = (params[f"radial_mlp.{k}"] for k in range(self.config.depth + 1))
        network = radial, (*hidden, last / math.sqrt(self.config.neighbors))
        message = layer.convolution(edges, directions, network, carried)
        out = tuple(a + b for a, b in zip(layer.linear_2(params["linear_2"], message), skip, strict=True))
        if self.config.norm:
            out = _norm(out, params["layer_norm"])
        return gate(out, layer.out, SILU_NORM)


def _rows(part: Linear, weight: Array, species: Array) -> Features:
    """A linear map of one-hot scalars: rows of its only block."""
    (path,) = part.paths
    rows = (path.scale * weight.reshape(path.shape))[species][:, None, :]
    return tuple(
        rows if k == path.target else jnp.zeros((len(species), ir.dim, ir.mul), rows.dtype)
        for k, ir in enumerate(part.out)
    )


def _norm(features: Features, weight: Array) -> Features:
    """x · weight / √(⟨Σ x²/(2l + 1)²⟩ + ε): the sum over channels and components, the mean over irreps.

    This is what the published models were trained with; the factor meant was 1/(2l + 1)/channels.
    """
    square = sum(jnp.sum(x**2, axis=(1, 2)) / x.shape[1] ** 2 for x in features) / len(features)
    scale = 1 / jnp.sqrt(square + EPSILON)
    parts = jnp.split(weight, np.cumsum([x.shape[-1] for x in features])[:-1])
    return tuple(x * scale[:, None, None] * w for x, w in zip(features, parts, strict=True))
