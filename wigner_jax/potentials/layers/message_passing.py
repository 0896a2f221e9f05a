"""What potentials of the NequIP family share: convolutions over neighbours, gates, radial networks.

The blocks of Batzner et al., Nat. Commun. 13, 2453 (2022), as Nequix and SevenNet use them. Features, irreps and
normalisations are those of `equivariant`; sums over neighbours run in the blocks of `edges`.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.chunking import chunk_size, map_chunks
from .edge_blocks import contract_blocks
from .equivariant import Constant, Features, Irreps, Linear, MulIrrep, Path, harmonic_table, wigner_3j

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..._core.pytree import Array
    from .edge_blocks import EdgeBlocks


CACHE = 2**21  # bytes of temporaries of one chunk of edges: what a core's cache holds


class ConvolutionPath(NamedTuple):
    """h[source] ⊗ Y_harmonic → channels of `target`, with a weight for each edge and channel."""

    source: int  # entry of the features that go along the edges
    harmonic: int  # l of the spherical harmonic
    target: int  # entry of the message
    coupling: Constant  # (2l1 + 1, 2l2 + 1, 2l3 + 1), normalisation included


@dataclasses.dataclass(frozen=True)
class Convolution:
    """message_i = Σ_j R(r_ij) h_j ⊗ Y(r̂_ij), every path into channels of its own.

    The radial weights of an edge are those of the paths one after the other, in the order of `paths`. The channels of
    an entry of the message are those of its paths in the same order.
    """

    sources: Irreps
    out: Irreps
    paths: tuple[ConvolutionPath, ...]

    @property
    def sizes(self) -> list[int]:
        """Channels, and so radial weights, of every path."""
        return [self.sources[path.source].mul for path in self.paths]

    def __call__(
        self, edges: EdgeBlocks, directions: Array, radial: tuple[Array, Sequence[Array]], h: Features
    ) -> Features:
        """The message of every atom.

        The coupling contracts with Y first, which leaves a small matrix for each edge; the sum over neighbours is then
        a matrix product, and no message of a single edge is ever formed. The radial weights, by far the largest array,
        are made for a few blocks of edges at a time and never kept.

        Args:
            directions: (S, K) `direction_monomials` up to the highest harmonic.
            radial: radial basis (S, K), zero where there is no edge, and the layers (in, out) of the network without biases
                that makes Σ sizes radial weights of it.
        """
        basis, (*layers, last) = radial
        items = jax.tree.map(edges.grouped, (basis, directions, gather(h, edges.senders)))

        def messages(items: tuple[Array, Array, Features]) -> tuple[Array, ...]:
            basis, directions, carried = items
            made = hidden_layers(layers, basis) @ last
            weights = jnp.split(made[:, :, None, :], np.cumsum(self.sizes)[:-1], axis=3)
            terms = [
                contract_blocks(T, w * carried[path.source])
                for path, T, w in zip(self.paths, self._matrices(directions), weights, strict=True)
            ]
            return tuple(jnp.concatenate([terms[k] for k in group], axis=1) for group in groups)

        # paths of equally many channels share an array, and so a scatter
        groups = [[k for k, n in enumerate(self.sizes) if n == channels] for channels in dict.fromkeys(self.sizes)]
        chunk = chunk_size(3 * basis.dtype.itemsize * edges.width * sum(self.sizes), max(CACHE, edges.chunk_bytes))
        live = jnp.any(edges.grouped(edges.mask), axis=1)
        terms: list[Array] = [None] * len(self.paths)
        for group, joined in zip(groups, map_chunks(messages, items, chunk, live), strict=True):
            ends = np.cumsum([self.out[self.paths[k].target].dim for k in group])
            for k, term in zip(group, jnp.split(edges.scatter(joined), ends[:-1], axis=1), strict=True):
                terms[k] = term
        return tuple(
            jnp.concatenate([x for x, path in zip(terms, self.paths, strict=True) if path.target == target], axis=-1)
            for target in range(len(self.out))
        )

    def _matrices(self, directions: Array) -> list[Array]:
        """Σ_m2 coupling[m1, m2, m3] Y[m2] of every path, all in one product: (..., 2l1 + 1, 2l3 + 1) each."""
        ls = tuple(range(max(path.harmonic for path in self.paths) + 1))
        tables, shapes = [], []
        for path in self.paths:
            d1, d2, d3 = path.coupling.array.shape
            table = np.zeros((len(ls) ** 2, d1, d3))
            table[path.harmonic**2 : path.harmonic**2 + d2] = path.coupling.array.transpose(1, 0, 2)
            tables.append(table.reshape(len(ls) ** 2, -1))
            shapes.append((d1, d3))
        table = harmonic_table(ls[-1], ls) @ np.concatenate(tables, axis=1)
        joined = directions[..., : table.shape[0]] @ jnp.asarray(table, directions.dtype)
        parts = jnp.split(joined, np.cumsum([t.shape[1] for t in tables])[:-1], axis=-1)
        return [x.reshape(*x.shape[:-1], *shape) for x, shape in zip(parts, shapes, strict=True)]


def gather(h: Features, index: Array) -> Features:
    """Features of the chosen atoms: one gather for all irreps of equally many channels."""
    results: list[Array] = [None] * len(h)
    for channels in {x.shape[2] for x in h}:
        members = [k for k, x in enumerate(h) if x.shape[2] == channels]
        joined = jnp.concatenate([h[k] for k in members], axis=1)[index]
        ends = np.cumsum([h[k].shape[1] for k in members])
        for k, x in zip(members, jnp.split(joined, ends[:-1], axis=1), strict=True):
            results[k] = x
    return tuple(results)


def convolution(
    sources: Irreps,
    harmonics: Irreps,
    targets: Irreps,
    *,
    sort: bool,
    couplings: Mapping[tuple[int, int, int], np.ndarray] | None = None,
) -> Convolution:
    """All paths from `sources` and `harmonics` to irreps that occur in `targets`.

    Couplings are √(2l3 + 1) w3j, so that products of components of variance 1 have variance 1.

    Args:
        harmonics: of multiplicity 1, l = 0, 1, 2, ….
        sort: whether radial weights are sorted by the irrep of the path's result, or stand in the order (source,
            harmonic, result).
        couplings: w3j of (l1, l2, l3), where they are not those of `wigner_3j` (signs are a convention).
    """
    wanted = sorted({(ir.l, ir.p) for ir in targets})
    rank = {key: k for k, key in enumerate(wanted)}
    paths = []
    for source, first in enumerate(sources):
        for second in harmonics:
            for l in range(abs(first.l - second.l), first.l + second.l + 1):
                if (l, first.p * second.p) in rank:
                    key = (first.l, second.l, l)
                    values = couplings[key] if couplings and key in couplings else wigner_3j(*key)
                    coupling = Constant(np.sqrt(2 * l + 1) * np.asarray(values, np.float64))
                    paths.append(ConvolutionPath(source, second.l, rank[l, first.p * second.p], coupling))
    sizes = [sum(sources[p.source].mul for p in paths if p.target == k) for k in range(len(wanted))]
    used = [k for k, size in enumerate(sizes) if size]
    paths = [p._replace(target=used.index(p.target)) for p in paths]
    if sort:
        paths.sort(key=lambda p: p.target)
    out = tuple(MulIrrep(sizes[k], *wanted[k]) for k in used)
    return Convolution(sources, out, tuple(paths))


def linear(sources: Irreps, targets: Irreps) -> Linear:
    """The map between all equal irreps, weights over the square root of the fan-in.

    Weights are blocks (channels in, channels out), ordered by source.
    """
    fan_in = [sum(s.mul for s in sources if s[1:] == t[1:]) for t in targets]
    paths = [
        Path(i, k, (s.mul, t.mul), fan_in[k] ** -0.5)
        for i, s in enumerate(sources)
        for k, t in enumerate(targets)
        if s[1:] == t[1:]
    ]
    return Linear(tuple(paths), targets)


def gated(irreps: Irreps) -> Irreps:
    """What a gate takes to give `irreps` (scalars first): as many scalars more as there are channels to gate."""
    scalars, *rest = irreps
    return (scalars._replace(mul=sum(ir.mul for ir in irreps)), *rest)


def gate(features: Features, irreps: Irreps, norm: float) -> Features:
    """norm · silu of the scalars; every other channel times norm · silu of a scalar of its own.

    Args:
        features: of `gated(irreps)`.
        norm: 1/√⟨silu(z)²⟩ for a normally distributed z, as the model was trained with.
    """
    activated = norm * jax.nn.silu(features[0])
    scalars, *gates = jnp.split(activated, np.cumsum([ir.mul for ir in irreps])[:-1], axis=-1)
    return (scalars, *(x * g for x, g in zip(features[1:], gates, strict=True)))


def hidden_layers(layers: Sequence[Array], x: Array) -> Array:
    """silu after each of a few linear layers without biases. Normalisation constants are in the weights."""
    for layer in layers:
        x = jax.nn.silu(x @ layer)
    return x


def message_passing(
    layers: Sequence[Any], parts: Sequence[Any], step: Callable[..., Features], h: Features
) -> Features:
    """h ← step(layer, part, h) for one layer after the other.

    Equal layers that follow each other share their machine code (`jax.lax.scan`): compilation, which takes longer than
    many evaluations, would otherwise grow with the depth.

    Args:
        parts: the parameters of every layer.
    """
    start = 0
    while start < len(layers):
        layer = layers[start]
        stop = next((t for t in range(start, len(layers)) if layers[t] != layer), len(layers))
        if stop == start + 1:
            h = step(layer, parts[start], h)
        else:
            stacked = jax.tree.map(lambda *x: jnp.stack(x), *parts[start:stop])
            h = _repeated(partial(step, layer), stacked, h)
        start = stop
    return h


def _repeated(step: Callable[[Any, Features], Features], stacked: Any, h: Features) -> Features:
    return jax.lax.scan(lambda h, part: (step(part, h), None), h, stacked)[0]


def under(params: dict[str, Array], prefix: str) -> dict[str, Array]:
    """The parameters of a part of a model, by their names within it."""
    return {name.removeprefix(prefix): value for name, value in params.items() if name.startswith(prefix)}
