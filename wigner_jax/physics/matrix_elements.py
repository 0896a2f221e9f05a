"""Three-phonon matrix elements for all q' of a mesh at once.

For a fixed irreducible q (leg 0, mode s) the double lattice sum of the folded third-order force constants collapses,
because q'' = -q - q', onto one over D = R' - R'':

    Φ_{ijk}(q, q', q'') = Σ_D exp(2πi q'·D) G_{ijk}[D],      G_{ijk}[D] = Σ_R'' Φ_{ijk}[D, R''] exp(-2πi q·R'')

and G, once leg 0 is rotated into modes, goes to every q' of the mesh by a separable Fourier transform over the box of D:
planes of z, then y, then whole rods along x. Legs 1 and 2 are rotated last, per q'. The strength of a mode triplet is

    |V(q s, q' t, q'' u)|² = |Σ e_s(q) e_t(q') e_u(q'') Φ(q, q', q'')|² / (f_s f_t f_u)

with mass-weighted eigenvectors in the periodic gauge e·exp(2πi q·r_j)/√m_j; modes below CUTOFF_FREQUENCY give 0. Their
factors 1/√f are part of the rotations.
Everything is planar real arithmetic, and complex products are real-embedded matrix products: XLA's complex einsum is
2.5 times slower on a CPU. Real barriers against recomputation inside fusions are map, dot and scatter; hence the shape
of this code.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .taking_part import takes_part

if TYPE_CHECKING:
    from .._core.pytree import Array
    from .._core.tiling import Tiling
    from ..types import Crystal, FC3Table, Mesh


# which component of the folded block (α at the anchor, β, γ) becomes (a, b, c) of legs 0, 1, 2, by the anchor's leg;
# in the order (b, c, a)
_COMPONENTS = np.arange(27).reshape(3, 3, 3)
_COMPONENTS = np.stack(
    [_COMPONENTS.transpose(*axes).transpose(1, 2, 0).ravel() for axes in ((0, 1, 2), (1, 0, 2), (2, 1, 0))]
)


def mode_transforms(frequencies: Array, eigenvectors: Array, mesh: Mesh, crystal: Crystal) -> Array:
    """Every point's rotation into modes: eigenvectors in the periodic gauge divided by √(mass · frequency).

    Args:
        frequencies: (Q, m) THz; modes below CUTOFF_FREQUENCY get zeros.
        eigenvectors: (Q, m, m) complex, columns are modes, smooth phase convention.

    Returns:
        (Q, 2m, 2m) real-embedded: rows (re, im) of modes, columns (re, im) of components; (amu THz)^-1/2.
    """
    phase = 2 * jnp.pi * (mesh.qpoints @ jnp.asarray(crystal.positions).T)
    factor = jnp.repeat(jnp.exp(1j * phase) / jnp.sqrt(jnp.asarray(crystal.masses)), 3, axis=1)
    alive = takes_part(frequencies)
    scale = jnp.where(alive, jax.lax.rsqrt(jnp.where(alive, frequencies, 1.0)), 0.0)
    e = jnp.swapaxes(eigenvectors * factor[:, :, None], 1, 2) * scale[:, :, None]
    return jnp.concatenate(
        [jnp.concatenate([e.real, -e.imag], axis=2), jnp.concatenate([e.imag, e.real], axis=2)], axis=1
    )


def gather_third(third: Array, table: FC3Table, dtype: Any = None) -> tuple[Array, ...]:
    """Folded Φ3 into the padded buckets of cells: linear in Φ3. Each (cells, entries, 27), eV/Å³, of Φ3's type unless given."""
    blocks = jnp.reshape(third, (-1, 27))
    values = blocks[table.source[:, None], jnp.asarray(_COMPONENTS)[table.leg]] * table.scale[:, None]
    slots = sum(int(np.prod(b.shape)) for b in table.buckets)
    summed = jax.ops.segment_sum(values, table.slot, num_segments=slots, indices_are_sorted=True)
    result, start = [], 0
    for bucket in table.buckets:
        size = bucket.shape[0] * bucket.shape[1]
        result.append(summed[start : start + size].reshape(*bucket.shape, 27).astype(dtype or summed.dtype))
        start += size
    return tuple(result)


def contract_over_R2(q: Array, entries: tuple[Array, ...], table: FC3Table) -> Array:
    """G_{ijk}[D] = Σ_R'' Φ[D, R''] exp(-2πi q·R''), by cells.

    Args:
        q: (k, 3) fractional; a few q at once read the entries only once.

    Returns:
        (k, 9, cells + 1, 6): components (b c), and (re, im) of a; the last cell is zero, for empty places of the box.
    """
    angle = 2 * jnp.pi * (table.vectors @ q.T)
    phases = jnp.stack([jnp.cos(angle), -jnp.sin(angle)], axis=-1).reshape(len(table.vectors), -1)  # nR, (q (re, im))
    phases = phases.astype(entries[0].dtype)
    parts = [
        jnp.einsum("cex,cev->cxv", phases[index], block) for index, block in zip(table.buckets, entries, strict=True)
    ]
    parts.append(jnp.zeros((1, *parts[0].shape[1:]), parts[0].dtype))
    cells = jnp.concatenate(parts).reshape(-1, len(q), 2, 9, 3)
    return cells.transpose(1, 3, 0, 2, 4).reshape(len(q), 9, -1, 6)


def turn(product: Array, period: int, dtype: Any) -> tuple[Array, Array]:
    """cos and sin of 2π product/period, the integers folded first; rounded to a type at the end."""
    angle = 2 * jnp.pi / period * jnp.mod(product, period)
    return jnp.cos(angle).astype(dtype), jnp.sin(angle).astype(dtype)


def transform_last(points: Array, offsets: Array, period: int, re: Array, im: Array) -> tuple[Array, Array]:
    """Σ_d exp(2πi p offsets[d]/period) A[..., d]; the points p become the first axis. Two GEMMs, cos and sin stacked."""
    stacked = jnp.concatenate(turn(points[:, None] * offsets, period, re.dtype))
    P, Q = (jnp.tensordot(stacked, x, axes=(1, x.ndim - 1)) for x in (re, im))
    k = len(points)
    return P[:k] - Q[k:], Q[:k] + P[k:]


def transform_axis(offsets: Array, period: int, re: Array, im: Array) -> tuple[Array, Array]:
    """`transform_last` to all points 0 … period - 1, at half the price: p and -p share their cosines and sines."""
    half = period // 2
    cos, sin = turn(jnp.arange(half + 1)[:, None] * offsets, period, re.dtype)
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
    cos, sin = turn(points.reshape(-1, *[1] * start.ndim) * start, period, re.dtype)
    shape = (len(points), *[1] * (re.ndim - 1 - start.ndim), *start.shape)
    cos, sin = cos.reshape(shape), sin.reshape(shape)
    return re * cos - im * sin, re * sin + im * cos


def planes_to_rods(
    cells: Array, e0: Array, planes: Array, table: FC3Table, dims: tuple[int, int, int], tiling: Tiling
) -> Array:
    """Leg 0 rotated into modes, H_s[(j b)(k c), D] = Σ_ia e0[s, ia] G[ia, jb, kc, D], and its z and y passes.

    Component block by component block (on a CPU), so that the data stay in cache; D runs last, so that nothing is
    transposed.

    Args:
        cells: (9, cells + 1, 6) of one q, from `contract_over_R2`.
        e0: (2, s, n 3) real and imaginary part of the wanted modes of leg 0.
        planes: (p,) the wanted z.

    Returns:
        (b c, j k, 2, Y points, planes, s, X)
    """
    n, S = table.cells.shape[0], e0.shape[1]
    er, ei = e0.reshape(2, S, n, 3)
    embedded = jnp.stack([jnp.stack([er, -ei], 2), jnp.stack([ei, er], 2)]).reshape(2 * S, -1)  # (r s), (i r a)
    places = jnp.asarray(table.cells).transpose(1, 2, 3, 4, 5, 0).reshape(n * n, -1)  # (j k), (D i)

    @jax.checkpoint
    def rotate(embedded: Array, rows: Array, place: Array) -> Array:
        G = rows.at[place].get(mode="promise_in_bounds").reshape(-1, n * 6)  # D, (i r a)
        return jax.lax.dot_general(embedded, G, (((1,), (1,)), ((), ())))

    def components(rows: Array) -> Array:
        def atoms(place: Array) -> Array:
            h = rotate(embedded, rows, place).reshape(2, S, *table.box)
            z = transform_last(planes, jnp.arange(table.box[2]), dims[2], h[0], h[1])
            z = shifted(planes, table.z_start, dims[2], *z)
            y = transform_axis(jnp.arange(table.box[1]), dims[1], *z)
            return jnp.stack(shifted(jnp.arange(dims[1]), table.y_start, dims[1], *y))

        return tiling.map(atoms, places)

    return tiling.map(components, cells)


def pick_rods(spectra: Array, rods: Array) -> Array:
    """The wanted rods. Args: spectra from planes_to_rods; rods (r, 2) y and plane index. (r, 2, (j b)(k c) s, X)"""
    n = math.isqrt(spectra.shape[1])
    picked = spectra[:, :, :, rods[:, 0], rods[:, 1]]  # (b c) (j k) r' rod s X
    picked = picked.reshape(3, 3, n, n, *picked.shape[2:]).transpose(5, 4, 2, 0, 3, 1, 6, 7)
    return picked.reshape(len(rods), 2, -1, spectra.shape[-1])


def interaction_strength(dims: tuple[int, int, int], table: FC3Table, picked: Array, e1: Array, e2: Array) -> Array:
    """|Σ e e e Φ|² for all x of some rods.

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
    "contract_over_R2",
    "gather_third",
    "interaction_strength",
    "mode_transforms",
    "pick_rods",
    "planes_to_rods",
]
