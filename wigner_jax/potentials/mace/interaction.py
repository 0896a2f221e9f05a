"""Message passing: the published interaction blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.chunking import chunk_size, map_chunks
from ..._core.pytree import Array
from ..layers.equivariant import Features, Linear, harmonic_table, wigner_3j
from ..layers.message_passing import hidden_layers

if TYPE_CHECKING:
    from ..layers.edge_blocks import EdgeBlocks
    from .config import Gate, Interaction, MaceConfig, MaceParams, Nonlinearity, Selector


CACHE = 2**21  # bytes of temporaries of one chunk of edges: what a core's cache holds
#: Blocks by name: (the skip connection reads the old features, messages are divided by a density)
BLOCKS = {
    "RealAgnosticInteractionBlock": (False, False),
    "RealAgnosticResidualInteractionBlock": (True, False),
    "RealAgnosticDensityInteractionBlock": (False, True),
    "RealAgnosticDensityResidualInteractionBlock": (True, True),
    "RealAgnosticResidualNonLinearInteractionBlock": (True, True),
}
Columns = Any  # indices of a network's outputs
Network = Callable[..., Callable[[Array], Array]]  # a network by the outputs that are wanted of it, all unless given


class EdgeData(NamedTuple):
    """What every interaction needs to know of the edges."""

    blocks: EdgeBlocks
    kinds: tuple[Array, Array]  # (S,) species of sender and receiver
    directions: Array  # (S, K) `direction_monomials`
    features: Array  # (S, F) radial basis
    cutoff: Array | None  # (S, 1), if it multiplies the radial network's output and not its input


def interaction(
    config: MaceConfig, block: Interaction, params: MaceParams, edges: EdgeData, species: Array, h: Features
) -> tuple[Features, Features | None]:
    """The message of every atom, one (N, 2l + 1, C) per l, and the skip connection (None for blocks without).

        A_i = Linear[Σ_j R(r_ij) Y(r̂_ij) ⊗ h_j] / n,   n = average number of neighbours, or 1 + Σ_j tanh(ρ(r_ij)²)

    Blocks without a residual pass A through a species-dependent linear map; with one, the same map of h is the skip.
    """
    if block.nonlinearity is not None:
        return _nonlinear(config, block, block.nonlinearity, params, edges, h)
    residual, density = BLOCKS[block.kind]
    old, h = h, block.linear_up(params["linear_up.weight"], h)
    network = _network(params, "conv_tp_weights", block.activation_norm)
    weight = params["linear.weight"] if density else params["linear.weight"] / block.neighbors
    message = block.linear(weight, _convolve(config, block, edges, edges.features, network, h))
    if density:
        rho = _network(params, "density_fn", block.activation_norm)()
        norm = 1 + _density(rho(edges.features), edges)
        message = tuple(x / norm for x in message)
    if residual:
        return message, select(block.skip, params["skip_tp.weight"], species, old)
    return select(block.skip, params["skip_tp.weight"], species, message), None


def _nonlinear(
    config: MaceConfig,
    block: Interaction,
    nonlinearity: Nonlinearity,
    params: MaceParams,
    edges: EdgeData,
    h: Features,
) -> tuple[Features, Features]:
    """The block of mace-mh: networks with layer norms that see both species, n = α + β Σ_j tanh(ρ²), and a gate.

    A_i = Linear_2 gate[Linear_1(Σ_j …)/n + Linear_res(h)]
    """
    skip = select(block.skip, params["skip_tp.weight"], edges.kinds[0], h)
    h = block.linear_up(params["linear_up.weight"], h)
    count = config.n_species
    ends = [params[f"{end}_embedding.weight"].reshape(count, -1) / np.sqrt(count) for end in ("source", "target")]
    parts = [edges.features, *(table[kind] for table, kind in zip(ends, edges.kinds, strict=True))]
    joined = jnp.concatenate(parts, axis=-1)
    network = _layer_norm_network(params, "conv_tp_weights")
    message = block.linear(params["linear_1.weight"], _convolve(config, block, edges, joined, network, h))
    norm = params["alpha"] + params["beta"] * _density(_layer_norm_network(params, "density_fn")()(joined), edges)
    own = nonlinearity.linear_res(params["linear_res.weight"], h)
    message = _gate(nonlinearity.gate, tuple(a / norm + b for a, b in zip(message, own, strict=True)))
    return nonlinearity.linear_2(params["linear_2.weight"], message), skip


def _density(rho: Array, edges: EdgeData) -> Array:
    """Σ_j tanh(ρ²), times the cutoff if ρ has not seen it. (N, 1, 1)"""
    value = jnp.where(edges.blocks.mask[:, None], jnp.tanh(rho**2), 0.0)
    return edges.blocks.total(value if edges.cutoff is None else value * edges.cutoff)[:, :, None]


def _convolve(
    config: MaceConfig, block: Interaction, edges: EdgeData, features: Array, network: Network, h: Features
) -> Features:
    """Σ_j R(r_ij) [h_j ⊗ Y(r̂_ij)] for every path, R = network(features) of every edge.

    The coupling contracts with Y first, which leaves a small (2l1+1) × (2l3+1) matrix for each edge and path; the sum
    over neighbours is then a matrix product, and no message of a single edge is ever formed. All paths of one source
    share a product, padded to the largest l3: few kernels compile quickly. R, by far the largest array (1280 numbers an
    edge for 128 channels), is made for a few blocks of edges at a time and never kept.
    """
    blocks = edges.blocks
    muls = [block.sources[path.source].mul for path in block.paths]
    paths = [[k for k, path in enumerate(block.paths) if path.source == s] for s in range(len(block.sources))]
    starts = np.cumsum([0, *muls])
    columns = np.concatenate([np.arange(starts[k], starts[k + 1]) for own in paths for k in own])
    radial_of = network(columns)
    # networks with biases make something of slots without an edge, which must not count
    weight = blocks.mask[:, None] if edges.cutoff is None else edges.cutoff
    items = jax.tree.map(blocks.grouped, (features, edges.directions, weight, _gather(h, blocks.senders)))

    def messages(items: tuple[Array, Array, Array, Features]) -> tuple[Array, ...]:
        features, directions, weight, carried = items
        R = radial_of(features)
        R = jnp.where(weight, R, 0.0) if weight.dtype == bool else R * weight
        ends = np.cumsum([len(own) * ir.mul for own, ir in zip(paths, block.sources, strict=True)])
        sums = []
        for own, radial, x in zip(paths, jnp.split(R, ends[:-1], axis=2), carried, strict=True):
            if not own:
                continue
            weighted = radial.reshape(*radial.shape[:2], len(own), 1, -1) * x[:, :, None]
            coupled = jnp.einsum(
                "bwd,dpxy->bwpxy", directions, jnp.asarray(_couplings(block, tuple(own), config.single))
            )
            padded = jnp.einsum("bwpxy,bwpxc->bpyc", coupled, weighted)
            dims = [block.middle[block.paths[k].target].dim for k in own]
            sums.append(jnp.concatenate([padded[:, p, :dim] for p, dim in enumerate(dims)], axis=1))
        return tuple(sums)

    chunk = chunk_size(3 * features.dtype.itemsize * blocks.width * sum(muls), max(CACHE, blocks.chunk_bytes))
    live = jnp.any(blocks.grouped(blocks.mask), axis=1)
    results: list[Array | None] = [None] * len(block.middle)
    for own, joined in zip([own for own in paths if own], map_chunks(messages, items, chunk, live), strict=True):
        targets = [block.paths[k].target for k in own]
        ends = np.cumsum([block.middle[target].dim for target in targets])
        for target, term in zip(targets, jnp.split(blocks.scatter(joined), ends[:-1], axis=1), strict=True):
            previous = results[target]
            results[target] = term if previous is None else previous + term
    return tuple(
        jnp.zeros((blocks.atoms, ir.dim, ir.mul), features.dtype) if r is None else r
        for r, ir in zip(results, block.middle, strict=True)
    )


def _gather(h: Features, index: Array) -> Features:
    """Features of the senders: one gather for all irreps of equally many channels."""
    results: list[Array] = [None] * len(h)
    for channels in {x.shape[2] for x in h}:
        members = [k for k, x in enumerate(h) if x.shape[2] == channels]
        joined = jnp.concatenate([h[k] for k in members], axis=1)[index]
        ends = np.cumsum([h[k].shape[1] for k in members])
        for k, x in zip(members, jnp.split(joined, ends[:-1], axis=1), strict=True):
            results[k] = x
    return tuple(results)


@cache
def _couplings(block: Interaction, paths: tuple[int, ...], single: bool) -> np.ndarray:
    """Σ_m2 w3j[m1, m2, m3] Y[m2], times its scale, for several paths, from the monomials of the direction.

    Components beyond a path's own are zero. (monomials, paths, 2l1+1, 2·max(l3)+1)
    """
    Y = harmonic_table(max(block.harmonics), block.harmonics)
    first = np.cumsum([0] + [2 * l + 1 for l in block.harmonics])
    chosen = [block.paths[k] for k in paths]
    size = max(block.middle[path.target].dim for path in chosen)
    tables = np.zeros((Y.shape[0], len(chosen), block.sources[chosen[0].source].dim, size))
    for k, path in enumerate(chosen):
        l1, l2, l3 = block.sources[path.source].l, block.harmonics[path.harmonic], block.middle[path.target].l
        coupling = wigner_3j(l1, l2, l3)
        if single and 0 not in (l1, l2, l3):  # couplings to a scalar are not tabulated
            coupling = coupling.astype(np.float32).astype(np.float64)
        own = Y[:, first[path.harmonic] : first[path.harmonic + 1]]
        tables[:, k, :, : 2 * l3 + 1] = path.scale * np.einsum("kb,abc->kac", own, coupling)
    return tables


def select(spec: Selector | Linear, weight: Array, species: Array, features: Features) -> Features:
    """Linear map of every atom's features, with weights of its own for each species if it is a `Selector`."""
    if isinstance(spec, Linear):
        return spec(weight, features)
    results: list[Array | None] = [None] * len(spec.out)
    start = 0
    for path in spec.paths:
        stop = start + path.shape[0] * path.shape[1] * path.shape[2]
        own = weight[start:stop].reshape(path.shape)[:, species]  # (in, N, out)
        start = stop
        term = path.scale * jnp.einsum("nmc,cnd->nmd", features[path.source], own)
        previous = results[path.target]
        results[path.target] = term if previous is None else previous + term
    head = features[0]
    return tuple(
        jnp.zeros((head.shape[0], ir.dim, ir.mul), head.dtype) if r is None else r
        for r, ir in zip(results, spec.out, strict=True)
    )


def _network(params: MaceParams, name: str, norm: float) -> Network:
    """e3nn's FullyConnectedNet: no biases, weights over √fan-in, normalised silu, the last layer linear."""
    weights = [params[f"{name}.layer{k}.weight"] for k in range(sum(key.startswith(f"{name}.layer") for key in params))]
    scales = [(norm if k else 1.0) / np.sqrt(W.shape[0]) for k, W in enumerate(weights)]
    *hidden, final = (W * scale for W, scale in zip(weights, scales, strict=True))

    def outputs(columns: Columns = ...) -> Callable[[Array], Array]:
        own = final[:, columns]
        return lambda x: hidden_layers(hidden, x) @ own

    return outputs


def _layer_norm_network(params: MaceParams, name: str) -> Network:
    """Linear, LayerNorm, silu, …, with biases, the last layer linear. The modules are numbered through, three a layer."""
    depth = max(int(key.split(".")[2]) for key in params if key.startswith(f"{name}.net.")) // 3
    weight, bias = (params[f"{name}.net.{3 * depth}.{part}"] for part in ("weight", "bias"))

    def hidden(x: Array) -> Array:
        for layer in range(depth):
            at, norm = f"{name}.net.{3 * layer}", f"{name}.net.{3 * layer + 1}"
            x = x @ params[f"{at}.weight"].T + params[f"{at}.bias"]
            x = x - jnp.mean(x, axis=-1, keepdims=True)
            x = x / jnp.sqrt(jnp.mean(x**2, axis=-1, keepdims=True) + 1e-5)
            x = jax.nn.silu(x * params[f"{norm}.weight"] + params[f"{norm}.bias"])
        return x

    def outputs(columns: Columns = ...) -> Callable[[Array], Array]:
        own, shift = weight[columns].T, bias[columns]
        return lambda x: hidden(x) @ own + shift

    return outputs


def _gate(gate: Gate, features: Features) -> Features:
    """silu of the scalars, every other irrep times the sigmoid of its gate."""
    scalars, *gated = features
    gates = gate.gate_norm * jax.nn.sigmoid(scalars[..., gate.scalars :])
    results = [gate.scalar_norm * jax.nn.silu(scalars[..., : gate.scalars])]
    start = 0
    for x, ir in zip(gated, gate.gated, strict=True):
        results.append(x * gates[..., start : start + ir.mul])
        start += ir.mul
    return tuple(results)
