"""The symmetric contraction: products of an atom's own features, in unique monomials."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from ..._core.chunking import chunk_size, map_chunks
from ..layers.equivariant import Constant, Features
from .config import Contraction, Degree, Product

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..._core.pytree import Array
    from .config import MaceParams


CACHE = 2**20  # bytes of temporaries of one chunk: what a core's cache holds


def product(
    spec: Product, params: MaceParams, message: Features, skip: Features | None, species: Array, chunk_bytes: int
) -> Features:
    """Linear(B) + skip, B_{LM} = Σ_ν Σ_k W^(ν)[z, k] Σ U^(ν)[M, i1 … iν, k] A_i1 … A_iν for every atom and channel.

    U is symmetric in what it multiplies, so that only unique monomials are formed (365 of 4096 products for l ≤ 3 and
    three factors), and of each only the components that it contributes to: U and W are contracted first, for each
    species, which no derivative with respect to positions passes through.

    The monomials of an atom are twenty times its features. They are made for a few atoms at a time, so that they stay
    in the cache, and made again in the backward pass: 5 ms instead of 52 for 64 atoms and 128 channels on one core, 22
    instead of 90 with the gradient.

    Args:
        message: A, one (N, 2l + 1, C) for every l.
        skip: what is added, or None.
        species: (N,).
        chunk_bytes: `Graph.chunk_bytes`.
    """
    A = jnp.concatenate(message, axis=1)
    kinds = jnp.zeros_like(species) if spec.agnostic else species
    tables = []
    for index, (_, degrees, _) in enumerate(spec.contractions):
        names = [f"symmetric_contractions.contractions.{index}.{d.weight}" for d in degrees]
        W = jnp.concatenate([params[name] for name in names], axis=1)
        few = W.shape[0] > A.shape[0]  # atoms than species: contract for atoms
        table = jnp.asarray(np.concatenate([d.coefficients.array for d in degrees], axis=1), W.dtype)
        tables.append(jnp.einsum("ek,zkc->zec", table, W[kinds] if few else W))
    kinds = jnp.arange(A.shape[0], dtype=kinds.dtype) if few else kinds

    def contract(items: tuple[Array, Array]) -> tuple[Array, ...]:
        own, kind = items
        # one more component is what a monomial of lower degree is filled up with
        padded = jnp.concatenate([own, jnp.ones_like(own[:, :1])], axis=1)
        return tuple(_polynomials(c, t[kind], padded) for c, t in zip(spec.contractions, tables, strict=True))

    entries = sum(c.factors.array.size for c in spec.contractions)
    chunk = chunk_size(A.dtype.itemsize * entries * A.shape[2], max(CACHE, chunk_bytes))
    outputs = map_chunks(contract, (A, kinds), chunk)
    h = spec.linear(params["linear.weight"], outputs)
    return tuple(a + b for a, b in zip(h, skip, strict=True)) if spec.residual and skip is not None else h


def _polynomials(contraction: Contraction, coefficients: Array, A: Array) -> Array:
    """Σ_e coefficients[e] Π_j A[factors[j, e]] over the entries e of each component. (n, e, C), (n, i, C) -> (n, M, C)

    Picking and summing are products with tables of zeros and ones: faster than gathers, and than their transposes.
    """
    factors, sizes = contraction.factors.array, contraction.sizes
    # the contracted index comes first on the right, so that no product needs a copy with its channels apart
    A = A.swapaxes(0, 1)
    terms = coefficients.swapaxes(0, 1)
    for column in factors:
        terms = terms * jnp.tensordot(jnp.asarray(np.eye(A.shape[0])[column], A.dtype), A, 1)
    belongs = np.repeat(np.eye(len(sizes)), sizes, axis=1)
    return jnp.tensordot(jnp.asarray(belongs, A.dtype), terms, 1).swapaxes(0, 1)


def build_product(
    tables: Sequence[Sequence[tuple[str, np.ndarray]]], linear, residual: bool, agnostic: bool
) -> Product:
    """The sparse form of a contraction.

    Args:
        tables: for every irrep, for every degree ν from 1, the name of the weight and U of shape (2L+1, dim^ν, K).
    """
    contractions = []
    for irrep in tables:
        sparse = [_unique(U) for _, U in irrep]
        components, one = irrep[0][1].shape[:2]
        # entries in the order of components, whatever their degree
        entries = [
            (m, v, r)
            for m in range(components)
            for v, (_, values) in enumerate(sparse)
            for r in np.flatnonzero(np.any(values[m] != 0, axis=1))
        ]
        degrees = []
        for v, ((_, values), (name, _)) in enumerate(zip(sparse, irrep, strict=True)):
            K = values.shape[2]
            rows = [values[m, r] if u == v else np.zeros(K) for m, u, r in entries]
            degrees.append(Degree(name, Constant(np.array(rows).reshape(len(entries), K))))
        factors = [[*sparse[v][0][r], *[one] * (len(irrep) - v - 1)] for _, v, r in entries]
        table = np.array(factors, np.int32).reshape(len(entries), len(irrep)).T
        sizes = tuple(sum(m == k for m, _, _ in entries) for k in range(components))
        contractions.append(Contraction(Constant(table), tuple(degrees), sizes))
    return Product(tuple(contractions), linear, residual, agnostic)


def _unique(U: np.ndarray) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Sums of U over the orders of each monomial: sorted index tuples, and (2L+1, monomials, K)."""
    M, *dims, K = U.shape
    indices = np.sort(np.indices(dims).reshape(len(dims), -1), axis=0)
    codes = np.ravel_multi_index(indices, dims)
    kept, inverse = np.unique(codes, return_inverse=True)
    sums = np.zeros((len(kept), M, K))
    np.add.at(sums, inverse, U.reshape(M, -1, K).swapaxes(0, 1))
    values = sums.swapaxes(0, 1)
    # sums that cancel leave rounding
    values[np.abs(values) < 1e-12 * max(np.abs(values).max(initial=0.0), 1e-300)] = 0.0
    alive = np.any(values != 0, axis=(0, 2))
    keys = [tuple(int(i) for i in np.unravel_index(code, dims)) for code in kept[alive]]
    return keys, values[:, alive]
