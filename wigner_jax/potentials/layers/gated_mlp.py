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

    from ..._core.pytree import Array

    Part = dict[str, Array]
    First = Callable[[list[Array], Array | float], Array]


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
    ends = []
    for name in ("core", "gate"):
        depth, norm = sum(k.startswith(f"{name}.") and k.endswith("weight") for k in part), part.get(f"{name}.norm")
        x: Array = None
        for k in range(depth):
            weight, bias = part[f"{name}.{k}.weight"], part.get(f"{name}.{k}.bias", 0.0)
            if norm is not None and k == depth - 1:
                # centred weights make centred results: no mean to be taken of these
                weight, bias = (w - jnp.mean(w, axis=-1, keepdims=True) for w in (weight, bias))
            x = first(_blocks(weight, widths), bias) if k == 0 else jax.nn.silu(x) @ weight + bias
        ends.append(x if norm is None else _scaled(x, norm))
    core, gate = ends
    return (core if linear else jax.nn.silu(core)) * jax.nn.sigmoid(gate)


def _blocks(weight: Array, widths: Sequence[int]) -> list[Array]:
    starts = [sum(widths[:k]) for k in range(len(widths) + 1)]
    return [weight[a:b] for a, b in pairwise(starts)]
