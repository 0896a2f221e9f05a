"""Three-phonon matrix elements for all q' of a mesh at once.

For a fixed irreducible q (leg 0, mode s) the double lattice sum of the folded third-order force constants collapses,
because q'' = -q - q', onto one over D = R' - R'':

    Φ_{ijk}(q, q', q'') = Σ_D exp(2πi q'·D) G_{ijk}[D],      G_{ijk}[D] = Σ_R'' Φ_{ijk}[D, R''] exp(-2πi q·R'')

and G, once leg 0 is rotated into modes, goes to every q' of the mesh by a separable Fourier transform over the box of D:
planes of z, then y, then whole rods along x. Legs 1 and 2 are rotated last, per q'. The strength of a mode triplet is

    |V(q s, q' t, q'' u)|² = |Σ e_s(q) e_t(q') e_u(q'') Φ(q, q', q'')|² / (f_s f_t f_u)

with mass-weighted eigenvectors in the periodic gauge e·exp(2πi q·r_j)/√m_j; modes below CUTOFF_FREQUENCY give 0.
Everything is planar real arithmetic, and complex products are real-embedded matrix products: XLA's complex einsum is
2.5 times slower on a CPU. Real barriers against recomputation inside fusions are map, dot and scatter; hence the shape
of this code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ..types import pytree
from ..units import CUTOFF_FREQUENCY

if TYPE_CHECKING:
    from ..types import Array, Crystal, Mesh, ThirdTable

# which component of the folded block (α at the anchor, β, γ) becomes (a, b, c) of legs 0, 1, 2, by the anchor's leg
_COMPONENTS = np.arange(27).reshape(3, 3, 3)
_COMPONENTS = np.stack(
    [_COMPONENTS.ravel(), _COMPONENTS.transpose(1, 0, 2).ravel(), _COMPONENTS.transpose(2, 1, 0).ravel()]
)


@pytree()
class ModeTables:
    """What the kernel looks up per mesh point."""

    rotation: Array  # (Q, 2m, 2m) real-embedded: rows (re, im) of modes, columns (re, im) of components
    inverse: Array  # (Q, m) 1/f, 0 for modes below the cut-off; THz^-1


def mode_tables(frequencies: Array, eigenvectors: Array, mesh: Mesh, crystal: Crystal) -> ModeTables:
    """Eigenvectors in the periodic gauge, divided by √mass, and inverse frequencies.

    Args:
        frequencies: (Q, m) THz.
        eigenvectors: (Q, m, m) complex, columns are modes, smooth phase convention.
    """
    phase = 2 * jnp.pi * (mesh.qpoints @ jnp.asarray(crystal.positions).T)
    factor = jnp.repeat(jnp.exp(1j * phase) / jnp.sqrt(jnp.asarray(crystal.masses)), 3, axis=1)
    e = jnp.swapaxes(eigenvectors * factor[:, :, None], 1, 2)
    rotation = jnp.concatenate(
        [jnp.concatenate([e.real, -e.imag], axis=2), jnp.concatenate([e.imag, e.real], axis=2)], axis=1
    )
    alive = frequencies > CUTOFF_FREQUENCY
    return ModeTables(rotation, jnp.where(alive, 1 / jnp.where(alive, frequencies, 1.0), 0.0))


def gather_third(third: Array, table: ThirdTable) -> tuple[Array, ...]:
    """Folded Φ3 into the padded buckets of cells: linear in Φ3. Each (cells, entries, 27), eV/Å³."""
    blocks = jnp.reshape(third, (-1, 27))
    values = blocks[table.source[:, None], jnp.asarray(_COMPONENTS)[table.leg]] * table.scale[:, None]
    slots = sum(int(np.prod(b.shape)) for b in table.buckets)
    summed = jax.ops.segment_sum(values, table.slot, num_segments=slots, indices_are_sorted=True)
    result, start = [], 0
    for bucket in table.buckets:
        size = bucket.shape[0] * bucket.shape[1]
        result.append(summed[start : start + size].reshape(*bucket.shape, 27))
        start += size
    return tuple(result)


def collapse(q: Array, entries: tuple[Array, ...], table: ThirdTable) -> Array:
    """G_{ijk}[D] = Σ_R'' Φ[D, R''] exp(-2πi q·R''), by cells.

    Args:
        q: (..., 3) fractional; a few q at once read the entries only once.

    Returns:
        (cells + 1, 2 q, 27): real and imaginary parts of all q in turn; the last row is zero, for empty places of the box.
    """
    angle = 2 * jnp.pi * (jnp.atleast_2d(q) @ table.vectors.T)
    phases = jnp.stack([jnp.cos(angle), -jnp.sin(angle)], axis=1).reshape(-1, len(table.vectors))  # (q (re, im)), nR
    parts = [
        jnp.einsum("xce,cev->cxv", phases[:, index], block) for index, block in zip(table.buckets, entries, strict=True)
    ]
    parts.append(jnp.zeros((1, *parts[0].shape[1:])))
    return jnp.concatenate(parts)


def rotate_first_leg(cells: Array, e0: Array, table: ThirdTable) -> Array:
    """H_s[(j b)(k c), D] = Σ_ia e0[s, ia] G[ia, jb, kc, D].

    Args:
        cells: (cells + 1, 2, 27) of one q.
        e0: (2, s, n 3) real and imaginary part of the wanted modes of leg 0.

    Returns:
        (m, m, 2, s, X, Y, Z)
    """
    n = table.cells.shape[0]
    m = 3 * n
    index = table.cells.transpose(1, 2, 0, 3, 4, 5).reshape(n, n, n, -1)  # j k i D; -1 is the zero row
    G = cells.reshape(-1, 2, 3, 3, 3)[index]  # j k i D r a b c
    G = G.transpose(0, 6, 1, 7, 4, 2, 5, 3).reshape(m, m, 2 * m, -1)  # (j b) (k c) (r i a) D
    er, ei = e0
    embedded = jnp.concatenate([jnp.concatenate([er, -ei], 1), jnp.concatenate([ei, er], 1)])  # (r s), (r i a)
    H = jnp.einsum("xy,jkyd->jkxd", embedded, G)
    return H.reshape(m, m, 2, -1, *table.box)


def turn(product: Array, period: int) -> tuple[Array, Array]:
    """cos and sin of 2π product/period, the integers folded first."""
    angle = 2 * jnp.pi / period * jnp.mod(product, period)
    return jnp.cos(angle), jnp.sin(angle)


def transform_last(points: Array, offsets: Array, period: int, re: Array, im: Array) -> tuple[Array, Array]:
    """Σ_d exp(2πi p offsets[d]/period) A[..., d]; the points p become the first axis. Two GEMMs, cos and sin stacked."""
    stacked = jnp.concatenate(turn(points[:, None] * offsets, period))
    P, Q = (jnp.tensordot(stacked, x, axes=(1, x.ndim - 1)) for x in (re, im))
    k = len(points)
    return P[:k] - Q[k:], Q[:k] + P[k:]


def transform_axis(offsets: Array, period: int, re: Array, im: Array) -> tuple[Array, Array]:
    """`transform_last` to all points 0 … period - 1, at half the price: p and -p share their cosines and sines."""
    half = period // 2
    cos, sin = turn(jnp.arange(half + 1)[:, None] * offsets, period)
    stacked = jnp.concatenate([cos, sin[1:]])
    P, Q = (jnp.tensordot(stacked, x, axes=(1, x.ndim - 1)) for x in (re, im))
    (Pc, Ps), (Qc, Qs) = ((x[: half + 1], x[half + 1 :]) for x in (P, Q))
    back = slice((period - 1) // 2, 0, -1)  # -p for the points that are not their own opposites
    before = slice((period - 1) // 2 - 1, None, -1) if period > 2 else slice(0, 0)
    forward = (jnp.concatenate([Pc[:1], Pc[1:] - Qs]), jnp.concatenate([Qc[:1], Qc[1:] + Ps]))
    mirrored = (Pc[back] + Qs[before], Qc[back] - Ps[before])
    return jnp.concatenate([forward[0], mirrored[0]]), jnp.concatenate([forward[1], mirrored[1]])


def shifted(points: Array, start: Array, period: int, re: Array, im: Array) -> tuple[Array, Array]:
    """Times exp(2πi p start/period), for the first axis p and the trailing axes of `start`."""
    cos, sin = turn(points.reshape(-1, *[1] * start.ndim) * start, period)
    shape = (len(points), *[1] * (re.ndim - 1 - start.ndim), *start.shape)
    cos, sin = cos.reshape(shape), sin.reshape(shape)
    return re * cos - im * sin, re * sin + im * cos


def planes_to_rods(H: Array, planes: Array, table: ThirdTable, dims: tuple[int, int, int]) -> Array:
    """z and y passes, component block by component block so that the data stay in cache.

    Returns:
        (blocks, 2, Y points, planes, s, X): blocks are the (j b)(k c) pairs.
    """

    def block(h: Array) -> Array:
        z = transform_last(planes, jnp.arange(table.box[2]), dims[2], h[0], h[1])
        z = shifted(planes, table.z_start, dims[2], *z)
        y = transform_axis(jnp.arange(table.box[1]), dims[1], *z)
        return jnp.stack(shifted(jnp.arange(dims[1]), table.y_start, dims[1], *y))

    m = H.shape[0]
    return jax.lax.map(block, H.reshape(m * m, *H.shape[2:]))


def pick_rods(spectra: Array, rods: Array) -> Array:
    """The wanted rods. Args: spectra from planes_to_rods; rods (r, 2) y and plane index. (r, 2, (j k s), X)"""
    picked = spectra[:, :, rods[:, 0], rods[:, 1]]  # (j k) r' rod s X
    return picked.transpose(2, 1, 0, 3, 4).reshape(len(rods), 2, -1, spectra.shape[-1])


def strengths(picked: Array, e1: Array, e2: Array, table: ThirdTable, dims: tuple[int, int, int]) -> Array:
    """|Σ e e e Φ|² for all x of some rods, without the frequency factors.

    Args:
        picked: (r, 2, (j k s), X), some rods of planes_to_rods' spectra.
        e1, e2: (x r, 2m, 2m) rotations of q' and q'', x slow.

    Returns:
        (x r, u, t, s)
    """
    m = e1.shape[-1] // 2
    s = picked.shape[2] // m**2
    offsets = table.x_start + jnp.arange(table.box[0])
    re, im = transform_axis(offsets, dims[0], picked[:, 0], picked[:, 1])  # x rod (j k s)
    F = jnp.stack([re, im], axis=2).reshape(-1, 2 * m, m * s)  # (r j), (k s)
    X = jnp.matmul(e1, F).reshape(-1, 2, m, m, s).transpose(0, 1, 3, 2, 4).reshape(-1, 2 * m, m * s)  # (r k), (t s)
    V = jnp.matmul(e2, X).reshape(-1, 2, m, m, s)
    return V[:, 0] ** 2 + V[:, 1] ** 2


__all__ = [
    "ModeTables",
    "collapse",
    "gather_third",
    "mode_tables",
    "pick_rods",
    "planes_to_rods",
    "rotate_first_leg",
    "strengths",
]
