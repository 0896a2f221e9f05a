"""Gated networks, core(x) · σ(gate(x)), of the potentials that keep features on bonds: CHGNet and M3GNet.

Their input is a row of blocks: features of an atom, of a bond, of an angle. The first layer's product with each block is
taken where the block lives (once for an atom, not once for each of its bonds) and the products are added where they meet.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..types import Array

    Part = dict[str, Array]  # core.k.weight, gate.k.weight (in, out); with bias (out,); core.norm, gate.norm (2, out)
    First = Callable[[list[Array], Array], Array]

NAMES = ("core", "gate")
NORM_EPSILON = 1e-5  # of torch.nn.LayerNorm


def layer_norm(x: Array, weight: Array) -> Array:
    """(x − ⟨x⟩)/√(⟨(x − ⟨x⟩)²⟩ + ε) · weight[0] + weight[1], means over the last axis."""
    return _scaled(x - jnp.mean(x, axis=-1, keepdims=True), weight)


def _scaled(centred: Array, weight: Array) -> Array:
    square = jnp.einsum("...c,...c->...", centred, centred) / centred.shape[-1]
    return centred * jax.lax.rsqrt(square + NORM_EPSILON)[..., None] * weight[0] + weight[1]


def gated(part: Part, widths: Sequence[int], first: First, *, linear: bool = False) -> Array:
    """silu(core) · σ(gate), each a network with silu between its layers, the last one normalised where `part` has a norm.

    Args:
        widths: of the blocks of the input.
        first: the first layer from its weights, block by block (width, out), and its bias (out,): the sum of what each
            block contributes, in the shape of the result.
        linear: whether the core's last layer is left without silu.
    """
    norms = [part.get(f"{name}.norm") for name in NAMES]
    depth = sum(k.startswith("core.") and k.endswith("weight") for k in part)
    layers = [[_layer(part, name, k, norm is not None and k == depth - 1) for name, norm in zip(NAMES, norms, strict=True)]
              for k in range(depth)]  # fmt: skip
    # both networks see the same input: one product with their weights side by side
    weight, bias = (jnp.concatenate(x, axis=-1) for x in zip(*layers[0], strict=True))
    ends = jnp.split(first(_blocks(weight, widths), bias), 2, axis=-1)
    for layer in layers[1:]:
        ends = [jax.nn.silu(x) @ weight + bias for x, (weight, bias) in zip(ends, layer, strict=True)]
    core, gate = (x if norm is None else _scaled(x, norm) for x, norm in zip(ends, norms, strict=True))
    return (core if linear else jax.nn.silu(core)) * jax.nn.sigmoid(gate)


def _layer(part: Part, name: str, k: int, centred: bool) -> tuple[Array, Array]:
    """Weight and bias of a layer. `centred` weights make centred results, of which a norm need not take the mean."""
    weight = part[f"{name}.{k}.weight"]
    bias = part.get(f"{name}.{k}.bias", jnp.zeros(weight.shape[-1:], weight.dtype))
    return (weight - jnp.mean(weight, axis=-1, keepdims=True), bias - jnp.mean(bias)) if centred else (weight, bias)


def _blocks(weight: Array, widths: Sequence[int]) -> list[Array]:
    starts = [sum(widths[:k]) for k in range(len(widths) + 1)]
    return [weight[a:b] for a, b in pairwise(starts)]
