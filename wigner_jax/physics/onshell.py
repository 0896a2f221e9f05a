"""The linear tetrahedron broadening, on shell only.

Of all mode triplets a few percent conserve energy anywhere in the neighbourhood of (q', q''). They are found first, and
the weights are computed for them alone. For a channel and a pair of modes (t, u) the values ± f_t ± f_u at the vertices
span an interval; the leg-0 modes inside it are consecutive, so that a *window* (start, count) describes them. The items
are expanded into a list whose room is a static number: measured beforehand (plan_rooms in linewidths.py), checked here,
reported as an overflow. The selection is integer data and carries no derivative; it does not have to, since the weights
vanish at its border.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from ..types import Tetrahedra, pytree
from .blocks import degenerate_blocks
from .broadening import TRIPLET_CHUNK, Pairs, in_chunks
from .chunking import map_live
from .meshes import neighbours
from .tetrahedron import integration_weight

if TYPE_CHECKING:
    from ..types import Array, Mesh

ITEM_CHUNK = 4096  # on-shell items weighted at once: bounded by cache

TIE = 1e-7  # THz: in elastic scattering, frequencies closer than this are the same by symmetry

#: room for (three-phonon items, triplets with degenerate modes, isotope items) at any one q of a bucket
Room = tuple[int, int, int]

# f0 = sign_t f_t + sign_u f_u in the three channels, and the sign of (n_t, n_u, 1) in their occupation factors
SIGN_T, SIGN_U = (1.0, -1.0, 1.0), (1.0, 1.0, -1.0)


@pytree()
class TetrahedronTables:
    """Frequencies of the neighbours of every mesh point (negative ones clamped to 0), and blocks."""

    around: Array  # (V, m, Q) THz
    low: Array  # (m, Q) least of the neighbourhood
    high: Array  # (m, Q)
    blocks: Array  # (Q, m, m) averaging over degenerate blocks
    degenerate: Array  # (Q,) bool, has a block of several modes


@pytree("rooms")
class Tetrahedron:
    """Linear tetrahedron method with the tetrahedra of plan/tetrahedra.py."""

    tetrahedra: Tetrahedra
    rooms: tuple[Room, ...] | None = None  # per bucket; None until measured

    needs_velocities = False

    def reserved(self, bucket: int) -> Tetrahedron:
        """The same with the room of one bucket."""
        if self.rooms is None:
            raise ValueError(
                "tetrahedron integration needs its room reserved before it is traced (jit, grad): "
                "pass broadening=reserve(plan, force_constants, broadening), or use AdaptiveGaussian()"
            )
        return dataclasses.replace(self, rooms=(self.rooms[bucket],))

    def prepare(self, frequencies: Array, velocities: Array | None, mesh: Mesh) -> TetrahedronTables:
        Q, m = frequencies.shape
        index = neighbours(jnp.arange(Q), jnp.asarray(self.tetrahedra.neighbours), mesh.dims)
        clamped = jnp.where(frequencies > 0, frequencies, 0.0)
        around = jnp.swapaxes(clamped[index], 1, 2)
        blocks = degenerate_blocks(frequencies)
        degenerate = jnp.any(blocks[:, jnp.arange(m), jnp.arange(m)] < 1, axis=-1)
        return TetrahedronTables(around, around.min(axis=0), around.max(axis=0), blocks, degenerate)

    # -- three phonons ---------------------------------------------------------------------------------------------

    def windows(self, tables: TetrahedronTables, pairs: Pairs, f0: Array) -> tuple[Array, Array]:
        """First leg-0 mode on shell and their number, for windows (chunk, channel, t, u) × (triplet of the chunk)."""
        opposite = jnp.asarray(self.tetrahedra.opposite)

        def chunk(first: Array, second: Array, weight: Array) -> Array:
            F1 = tables.around[:, :, first]  # V t i
            F2 = tables.around[opposite][:, :, second]

            def widen(bounds: tuple[Array, ...], f: tuple[Array, Array]) -> tuple[tuple[Array, ...], None]:
                total, difference = f[0][:, None] + f[1][None], f[0][:, None] - f[1][None]
                lo, hi, dlo, dhi = bounds
                return (
                    jnp.where(total < lo, total, lo),
                    jnp.where(total > hi, total, hi),
                    jnp.where(difference < dlo, difference, dlo),
                    jnp.where(difference > dhi, difference, dhi),
                ), None

            total, difference = F1[0][:, None] + F2[0][None], F1[0][:, None] - F2[0][None]
            lo, hi, dlo, dhi = jax.lax.scan(widen, (total, total, difference, difference), (F1[1:], F2[1:]))[0]
            code = []
            for low, high in ((lo, hi), (-dhi, -dlo), (dlo, dhi)):
                start = sum((f0[s] < low).astype(jnp.int32) for s in range(len(f0)))
                stop = sum((f0[s] <= high).astype(jnp.int32) for s in range(len(f0)))
                code.append(start * 1024 + jnp.where(weight > 0, stop - start, 0))
            return jnp.stack(code)

        chunks = in_chunks(pairs, TRIPLET_CHUNK)
        code = map_live(chunk, jnp.any(chunks[2] > 0, axis=1), chunks).reshape(-1, TRIPLET_CHUNK)
        return code // 1024, code % 1024

    def count(self, tables: TetrahedronTables, pairs: Pairs, f0: Array) -> tuple[Array, Array]:
        """Room that one q needs: three-phonon items, triplets with degenerate modes."""
        return jnp.sum(self.windows(tables, pairs, f0)[1]), jnp.sum(self._degenerate(tables, pairs))

    @staticmethod
    def _degenerate(tables: TetrahedronTables, pairs: Pairs) -> Array:
        return (tables.degenerate[pairs.first] | tables.degenerate[pairs.second]) & (pairs.weight > 0)

    def _averaged(self, tables: TetrahedronTables, pairs: Pairs, strength: Array, room: int) -> Array:
        """|V|² averaged over degenerate blocks of legs 1 and 2, in the few rows that have any.

        The weights of degenerate modes differ, because they see how the modes split at the neighbours; without the
        average γ would depend on the eigenvectors' gauge.
        """
        rows = jnp.nonzero(self._degenerate(tables, pairs), size=room, fill_value=len(pairs.first))[0]
        q1, q2 = (x.at[rows].get(mode="fill", fill_value=0) for x in (pairs.first, pairs.second))
        some = strength.at[rows].get(mode="fill", fill_value=0.0)
        some = jnp.einsum("iuv,itr,ivrs->iuts", tables.blocks[q2], tables.blocks[q1], some)
        return strength.at[rows].set(some, mode="drop")

    def three_phonon(self, tables: TetrahedronTables, pairs: Pairs, f0: Array, strength: Array) -> tuple[Array, Array]:
        """γ of the leg-0 modes `f0` (s,) from `strength` (t, u, t, s). (T, s), and whether the room was too small."""
        assert self.rooms is not None
        (room, degenerate_room, _), m, S = self.rooms[0], strength.shape[1], strength.shape[3]
        start, count = self.windows(tables, pairs, f0)
        needed = self.count_of(count, tables, pairs)
        row, lane, mode, valid = expand(start, count, room)
        row, u = row // m, row % m
        row, t = row // m, row % m
        chunk, channel = row // 3, row % 3
        i = chunk * TRIPLET_CHUNK + lane
        power = self._averaged(tables, pairs, strength, degenerate_room).reshape(-1)
        flat = tables.around.reshape(tables.around.shape[0], -1)  # V, (t q)
        Q = tables.around.shape[2]
        occupation = pairs.occupation.reshape(-1, pairs.occupation.shape[-1])
        opposite = jnp.asarray(self.tetrahedra.opposite)

        def weigh(i: Array, t: Array, u: Array, s: Array, channel: Array, valid: Array) -> Array:
            q1, q2 = pairs.first[i], pairs.second[i]
            sign_t, sign_u = jnp.asarray(SIGN_T)[channel], jnp.asarray(SIGN_U)[channel]
            at1, at2, f = t * Q + q1, u * Q + q2, f0[s]

            def vertex(v: Array) -> Array:
                return sign_t * flat[v, at1] + sign_u * flat[opposite[v], at2] - f

            x = jax.lax.map(vertex, jnp.arange(len(flat)))
            weight = integration_weight(x, self.tetrahedra) * power[((i * m + u) * m + t) * S + s]
            weight = jnp.where(valid, weight * pairs.weight[i], 0.0)
            nt, nu = occupation[q1 * m + t], occupation[q2 * m + u]
            balance = jnp.where(channel == 1, 1.0, -1.0)[:, None] * (nt - nu)
            factor = jnp.where((channel == 0)[:, None], nt + nu + 1, balance)
            return jnp.einsum("iT,is->Ts", factor * weight[:, None], jax.nn.one_hot(s, S, dtype=weight.dtype))

        blocks = tuple(x.reshape(-1, ITEM_CHUNK) for x in (i, t, u, mode, channel, valid))
        gamma = jnp.sum(map_live(weigh, blocks[-1][:, 0], blocks), axis=0)
        return gamma, (needed[0] > room) | (needed[1] > degenerate_room)

    def count_of(self, count: Array, tables: TetrahedronTables, pairs: Pairs) -> tuple[Array, Array]:
        return jnp.sum(count), jnp.sum(self._degenerate(tables, pairs))

    # -- one phonon ------------------------------------------------------------------------------------------------

    def one_window(self, tables: TetrahedronTables, f0: Array) -> tuple[Array, Array]:
        """First leg-0 mode on shell and their number, for windows (t) × (q')."""
        low, high = tables.low - TIE, tables.high + TIE
        start = sum((f0[s] < low).astype(jnp.int32) for s in range(len(f0)))
        stop = sum((f0[s] <= high).astype(jnp.int32) for s in range(len(f0)))
        return start, stop - start

    def one_phonon(self, tables: TetrahedronTables, f0: Array, strength: Array) -> tuple[Array, Array]:
        """Σ_{q' t} strength δ(f0 - f_t). Args: strength (s, t, Q). Returns (s,), and whether the room was too small.

        Elastic scattering meets its own star: f_t = f0 exactly, often on whole faces of tetrahedra, where the weight
        jumps. Taken at face value, rounding errors of 1e-15 THz decide (phono3py's isotope linewidths of single modes
        move by up to 75 % with the triangle that LAPACK reads). Here each side of the jump counts half.
        """
        assert self.rooms is not None
        room, (S, m, Q) = self.rooms[0][2], strength.shape
        blocks = jnp.moveaxis(
            tables.blocks, 0, -1
        )  # a sum of few terms, vectorised over q'; a batched product is slower
        power = sum(blocks[None, :, r] * strength[:, r, None] for r in range(m)).reshape(-1)
        start, count = self.one_window(tables, f0)
        t, q, mode, valid = expand(start, count, room)
        flat = tables.around.reshape(tables.around.shape[0], -1)

        def weigh(t: Array, q: Array, s: Array, valid: Array) -> Array:
            row = t * Q + q

            def vertex(f: Array) -> Array:
                x = f[row] - f0[s]
                return jnp.where(jnp.abs(x) < TIE, 0.0, x)

            weight = integration_weight(jax.lax.map(vertex, flat), self.tetrahedra, elastic=True)
            weight = weight * power[s * m * Q + row]
            return jnp.where(valid, weight, 0.0) @ jax.nn.one_hot(s, S, dtype=weight.dtype)

        items = tuple(x.reshape(-1, ITEM_CHUNK) for x in (t, q, mode, valid))
        return jnp.sum(map_live(weigh, items[-1][:, 0], items), axis=0), jnp.sum(count) > room


def expand(start: Array, count: Array, room: int) -> tuple[Array, Array, Array, Array]:
    """A list of (row, lane, consecutive mode) from windows; lanes slowest, so that one triplet's items are neighbours.

    A running sum over the rows with all lanes at once, one scatter and one running maximum: three times faster on a
    CPU than jnp.repeat, whose prefix sums are logarithmic.

    Args:
        start, count: (rows, lanes) int, first mode and number of modes.

    Returns:
        row, lane, mode, valid: (room,) each; padding is 0.
    """
    rows, lanes = count.shape

    def step(total: Array, c: Array) -> tuple[Array, Array]:
        return total + c, total

    totals, before = jax.lax.scan(step, jnp.zeros(lanes, count.dtype), count)
    place = before + (jnp.cumsum(totals) - totals)  # of a window's first item
    label = jnp.arange(lanes, dtype=jnp.int32) * rows + jnp.arange(rows, dtype=jnp.int32)[:, None]
    # an empty window shares its place with the next one, whose label is larger
    label = jnp.zeros(room, jnp.int32).at[place].max(label, mode="drop")
    label = jax.lax.cummax(label)
    item = jnp.arange(room, dtype=jnp.int32)
    valid = item < jnp.sum(totals)
    row, lane = label % rows, label // rows
    mode = start[row, lane] + item - place[row, lane]
    return jnp.where(valid, row, 0), jnp.where(valid, lane, 0), jnp.where(valid, mode, 0), valid
