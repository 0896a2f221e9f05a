"""The linear tetrahedron broadening, on shell only.

Of all mode triplets a few percent conserve energy anywhere in the neighbourhood of (q', q''). They are found first, and
the weights are computed for them alone. For a channel and a pair of modes (t, u) the values ± f_t ± f_u at the vertices
span an interval; the leg-0 modes inside it are consecutive, so that a *window* (start, count) describes them. The items
are expanded into a list whose length is a static number: measured beforehand (`Tetrahedron.with_capacity`), checked here,
reported as an overflow. The selection is integer data and carries no derivative; it does not have to, since the weights
vanish at its border.

More than 350 lines: selection, expansion and weights of one list, of no use without each other.
"""

from __future__ import annotations

import dataclasses
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.chunking import map_nonempty, with_derivative_of
from ..._core.prefix_sum import prefix_sum
from ..._core.programs import program
from ..._core.pytree import pytree
from ...crystal.distances import roundness
from ...errors import InputError, say
from ...plan.tetrahedra import make_tetrahedra
from ..degeneracy import degenerate_averages
from ..linewidths import group_size, legs, state_of
from ..mesh_index import neighbours
from ..pairs import Deviations, Pairs, State, Strength, coupling_signs, in_chunks, inverse_sinh_of
from ..taking_part import takes_part
from .capacity import SHARED, measured
from .elastic import TIE, ElasticParts, elastic_item_by_item, elastic_table_by_table
from .tetrahedron_values import TetrahedronTables, on_shell_values
from .tetrahedron_weights import _least, _most, integration_weight, weighted
from .windows import Fields, Windows, expand, in_blocks

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..._core.tiling import Tiling
    from ...types import ForceConstants, Mesh, Plan, Tetrahedra, TripletBucket
    from ..phonons import LongRange
    from .capacity import Capacity


# f0 = sign_t f_t + sign_u f_u in the three channels, and the sign of (n_t, n_u, 1) in their occupation factors
SIGN_T, SIGN_U = (1.0, -1.0, 1.0), (1.0, 1.0, -1.0)


LONG = 1.5  # of `roundness`, above which primitive vectors are said to be long


@pytree("capacity")
class Tetrahedron:
    """Linear tetrahedron method with the tetrahedra of plan/tetrahedra.py.

    Attributes:
        tetrahedra: how the neighbourhood of a point is cut.
        capacity: per bucket; None until measured.
    """

    tetrahedra: Tetrahedra
    capacity: tuple[Capacity, ...] | None = None  #: per bucket; None until measured

    needs_velocities = False
    averages = True

    @property
    def has_capacity(self) -> bool:
        return self.capacity is not None

    @classmethod
    def for_plan(cls, plan: Plan, symmetrized: bool = False) -> Tetrahedron:
        """The linear tetrahedron method on the plan's mesh.

        Args:
            symmetrized: cut the mesh into its Delaunay cells, averaged over the ways to divide those (invariant under the
                point group and the choice of the primitive cell; one to four times the work), instead of the given
                micro-cell along its shortest diagonal (phono3py's choice).

        Warns:
            AccuracyWarning: primitive vectors much longer than they need to be, without `symmetrized`.
        """
        lattice = np.asarray(plan.crystal.lattice)
        if not symmetrized and (times := roundness(lattice)) > LONG:
            say(
                f"the primitive vectors are long (the product of their lengths is {times:.2g} times that of the shortest ones), and so are"
                " the tetrahedra: κ may be off by tens of per cent; take a reduced cell, or --symmetrized"
                " (Tetrahedron.for_plan(plan, symmetrized=True))"
            )
        return cls(make_tetrahedra(plan.crystal, plan.mesh.dims, symmetrized))

    def with_capacity(
        self, plan: Plan, fc: ForceConstants, nac: LongRange | None = None, margin: float = 0.25
    ) -> Tetrahedron:
        """The same with capacity for the on-shell processes of these force constants, for use under jit and grad.

        Args:
            nac: what `kappa` will be given.
            margin: extra share, for force constants that will change. Linewidths are NaN where it does not suffice, and
                `Linewidths.overflow` says so.
        """
        return self._measured(plan, state_of(plan, fc, self, nac), margin)

    def sized(self, plan: Plan, state: State, margin: float, sample: int | None = None) -> Tetrahedron:
        """See physics/pairs.py."""
        return self._measured(plan, state, margin, sample, SHARED)

    def _measured(self, plan: Plan, state: State, *how: Any) -> Tetrahedron:
        needs = partial(self._needs, state=state, plan=plan)
        return dataclasses.replace(self, capacity=measured(plan.triplets, needs, *how))

    def _needs(self, bucket: TripletBucket, state: State, plan: Plan) -> tuple[int, int, int]:
        three, degenerate, one = (int(x) for x in _needed(bucket, state, plan, self))
        return three, degenerate, one

    def for_bucket(self, bucket: int) -> Tetrahedron:
        """The same with the capacity of one bucket."""
        if self.capacity is None:
            raise InputError(
                "the tetrahedron method has no capacity for its lists, which must be measured before tracing (jit, grad)",
                "pass broadening=Tetrahedron.for_plan(plan).with_capacity(plan, fc), or AdaptiveGaussian()",
            )
        return dataclasses.replace(self, capacity=(self.capacity[bucket],))

    def prepare(
        self, frequencies: Array, levels: Array, velocities: Array | None, mesh: Mesh, tiling: Tiling
    ) -> TetrahedronTables:
        Q, m = frequencies.shape
        index = neighbours(jnp.arange(Q, dtype=jnp.int32), jnp.asarray(self.tetrahedra.neighbours), mesh.dims)
        # what takes no part is at zero: the acoustic modes at Γ are rounding errors of some 1e-7 THz
        clamped = jnp.where(takes_part(frequencies), frequencies, 0.0)
        around = jax.lax.stop_gradient(clamped)[index]
        blocks = degenerate_averages(frequencies)
        degenerate = jnp.any(blocks[:, jnp.arange(m), jnp.arange(m)] < 1, axis=-1)
        elastic = jax.lax.stop_gradient(levels)[index]
        low, high, flat = elastic.min(axis=0).T, elastic.max(axis=0).T, around.reshape(len(around), -1)
        mirror = jnp.asarray(self.tetrahedra.opposite)
        opposite = flat[mirror]
        single = (flat.astype(jnp.float32), opposite.astype(jnp.float32))
        index = (index, index[mirror])
        energies = (clamped.ravel(), levels.ravel(), elastic.reshape(flat.shape))
        return TetrahedronTables(*energies, index, flat, opposite, single, low, high, blocks, degenerate, tiling)

    def windows(self, tables: TetrahedronTables, pairs: Pairs, f0: Array) -> tuple[Array, Array]:
        """First leg-0 mode on shell and their number, for windows (chunk, channel, t, u) × (triplet of the chunk).

        The intervals are found in single precision and widened by its rounding: a window may hold a mode too many,
        whose weight is 0.
        """
        m, (around, opposite) = len(tables.low), tables.single
        modes = jnp.arange(m, dtype=jnp.int32)[:, None]
        slack = 8 * float(jnp.finfo(around.dtype).eps) * jax.lax.stop_gradient(jnp.max(tables.frequencies))
        least, most = ((f0 + shift).astype(around.dtype) for shift in (-slack, slack))

        def chunk(first: Array, second: Array, weight: Array) -> Array:
            F1, F2 = around[:, first * m + modes], opposite[:, second * m + modes]  # V t i
            sums, differences = [], []
            for f1, f2 in zip(F1, F2, strict=True):  # unrolled: one loop whose bounds stay in registers
                sums.append(f1[:, None] + f2)
                differences.append(f1[:, None] - f2)
            lo, hi, dlo, dhi = (reduce(f, x) for x in (sums, differences) for f in (_least, _most))
            code = []
            for low, high in ((lo, hi), (-dhi, -dlo), (dlo, dhi)):
                start = sum((most[s] < low).astype(jnp.int32) for s in range(len(f0)))
                stop = sum((least[s] <= high).astype(jnp.int32) for s in range(len(f0)))
                code.append((start << 10) + jnp.where(weight > 0, stop - start, 0))
            return jnp.stack(code)

        chunks = in_chunks(pairs, _triplet_chunk(pairs, tables.tiling))
        live = jnp.any(chunks[2] > 0, axis=1)
        code = map_nonempty(chunk, live, chunks, vectorised=tables.tiling.vectorised).reshape(-1, chunks[0].shape[1])
        return code >> 10, code & 1023

    def count(self, tables: TetrahedronTables, pairs: Pairs, f0: Array) -> tuple[Array, Array]:
        """Capacity that one q needs: three-phonon items, triplets with degenerate modes."""
        return self.count_of(self.windows(tables, pairs, f0)[1], tables, pairs)

    @staticmethod
    def _degenerate(tables: TetrahedronTables, pairs: Pairs) -> Array:
        return (tables.degenerate[pairs.first] | tables.degenerate[pairs.second]) & (pairs.weight > 0)

    def _averaged(self, tables: TetrahedronTables, pairs: Pairs, strength: Array, length: int) -> Array:
        """|V|² averaged over degenerate blocks of legs 1 and 2, in the few rows that have any.

        The weights of degenerate modes differ, because they see how the modes split at the neighbours; without the
        average γ would depend on the eigenvectors' gauge.
        """
        n = len(pairs.first)
        degenerate = self._degenerate(tables, pairs)
        place = jnp.where(degenerate, prefix_sum(degenerate.astype(jnp.int32)) - 1, length)
        rows = n + jnp.arange(length, dtype=jnp.int32)  # unique, so that the derivative of `set` is a `set`
        rows = rows.at[place].set(jnp.arange(n, dtype=jnp.int32), mode="drop")
        q1, q2 = (x.at[rows].get(mode="fill", fill_value=0) for x in (pairs.first, pairs.second))
        some = strength.at[rows].get(mode="fill", fill_value=0.0)
        some = jnp.einsum("iuv,itr,ivrs->iuts", tables.blocks[q2], tables.blocks[q1], some)
        return strength.at[rows].set(some.astype(strength.dtype), mode="drop", unique_indices=True)

    def three_phonon(
        self, tables: TetrahedronTables, pairs: Pairs, f0: Array, strength: Strength
    ) -> tuple[Array, Array]:
        """γ of the leg-0 modes `f0` (s,) from |V|². (T, s), and whether the capacity was too small."""
        parts, items, overflow = self._on_shell(tables, pairs, f0, strength)
        return with_derivative_of(_item_by_item, _table_by_table, parts, items), overflow

    def bilinear(
        self, tables: TetrahedronTables, pairs: Pairs, f0: Array, strength: Strength, deviations: Deviations
    ) -> tuple[Array, Array, Array]:
        """See physics/pairs.py."""
        parts, items, overflow = self._on_shell(tables, pairs, f0, strength, deviations)
        gamma, sums = with_derivative_of(_item_by_item, _table_by_table, parts, items)
        return gamma, sums, overflow

    def couplings(
        self,
        tables: TetrahedronTables,
        pairs: Pairs,
        f0: Array,
        strength: Strength,
        share: Array,
        slots: Array,
        count: int,
        even: bool,
    ) -> tuple[Array, Array, Array]:
        """See physics/pairs.py."""
        parts, items, overflow = self._on_shell(tables, pairs, f0, strength)
        return *_coupled(parts, items, share, slots, count, even), overflow

    def _on_shell(
        self,
        tables: TetrahedronTables,
        pairs: Pairs,
        f0: Array,
        strength: Strength,
        deviations: Deviations | None = None,
    ) -> tuple[Parts, Items, Array]:
        """What the sums over processes are made of, the list of those on shell, and whether the capacity was too small."""
        assert self.capacity is not None
        length, most_degenerate, _ = self.capacity[0]
        start, count = self.windows(tables, pairs, f0)
        needed = self.count_of(count, tables, pairs)
        power = self._averaged(tables, pairs, strength.all(), most_degenerate)
        parts = Parts(power, pairs, f0, tables, self.tetrahedra, deviations)
        items = expand(start, count, parts.fields, length, tables.tiling)
        return parts, items, (needed[0] > length) | (needed[1] > most_degenerate)

    def count_of(self, count: Array, tables: TetrahedronTables, pairs: Pairs) -> tuple[Array, Array]:
        return jnp.sum(count), jnp.sum(self._degenerate(tables, pairs))

    def one_window(self, tables: TetrahedronTables, f0: Array) -> tuple[Array, Array]:
        """First leg-0 mode on shell and their number, for windows (t) × (q')."""
        low, high = tables.low - TIE, tables.high + TIE
        start = sum((f0[s] < low).astype(jnp.int32) for s in range(len(f0)))
        stop = sum((f0[s] <= high).astype(jnp.int32) for s in range(len(f0)))
        return start, stop - start

    def delta(self, tables: TetrahedronTables, first: Array, second: Array, at: Array) -> tuple[Array, Array, Array]:
        """See physics/pairs.py."""
        m, count = len(tables.low), len(first)
        triplet, u, t = jnp.indices((count, m, m)).reshape(3, -1)
        places = (first[triplet], t, second[triplet], u)

        def sums(sign_t: float, sign_u: float) -> Array:
            signs = tuple(jnp.full(len(t), sign) for sign in (sign_t, sign_u))
            zero = jnp.zeros(len(t))
            return on_shell_values(tables.frequencies, zero, tables, (first, second), (*places, *signs, triplet))

        def weights(x: Array) -> Array:
            return integration_weight(x[:, :, None] - at, self.tetrahedra).reshape(count, m, m, -1)

        total, difference = sums(1.0, 1.0), sums(1.0, -1.0)
        return weights(total), weights(-difference), weights(difference)

    def one_phonon(self, tables: TetrahedronTables, f0: Array, strength: Array) -> tuple[Array, Array]:
        """Σ_{q' t} strength δ(f0 - f_t). Args: strength (s, t Q). Returns (s,), and whether the capacity was too small.

        Elastic scattering meets its own star: f_t = f0 exactly, often on whole faces of tetrahedra, where the weight
        jumps. Taken at face value, rounding errors of 1e-15 THz decide (phono3py's isotope linewidths of single modes
        move by up to 75 % with the triangle that LAPACK reads; Φ2 rounded to 1e-6 eV/Å² splits a star by 4e-6 THz, and a
        tetrahedron of nothing but its points weighs 1/4e-6). So a star has one level, to all digits, and each side of the
        jump counts half.
        """
        assert self.capacity is not None
        length = self.capacity[0][2]
        start, count = self.one_window(tables, f0)
        parts = ElasticParts(strength.reshape(-1), f0, tables, self.tetrahedra)
        items = expand(start, count, parts.fields, length, tables.tiling)
        gamma = with_derivative_of(elastic_item_by_item, elastic_table_by_table, parts, items)
        return gamma, jnp.sum(count) > length


@program()
def _needed(bucket: TripletBucket, state: State, plan: Plan, broadening: Tetrahedron) -> tuple[Array, ...]:
    """Largest numbers of three-phonon items, degenerate triplets and isotope items at any q of a bucket."""

    def one(member: TripletBucket) -> tuple[Array, ...]:
        q = jnp.asarray(plan.mesh.irreducible)[member.members]
        f0 = state.frequencies[q]
        pairs = Pairs(*legs(member, q, plan.mesh.dims, 1), state.occupation)
        isotope_items = jnp.sum(broadening.one_window(state.broadening, state.levels[q])[1])
        return (*broadening.count(state.broadening, pairs, f0), isotope_items)

    tiling = state.tiling
    at_once = group_size(bucket, state.frequencies.shape[1], tiling) if tiling.vectorised else None
    return tuple(x.max() for x in jax.lax.map(one, bucket, batch_size=at_once))


Items = tuple["Array", Windows]  # label of each, and the windows


class Parts(NamedTuple):
    """What γ of one q is made of."""

    power: Array  #: (t, u, t, s) |V|²
    pairs: Pairs
    f0: Array  #: (s,) THz
    tables: TetrahedronTables
    tetrahedra: Tetrahedra
    deviations: Deviations | None = None

    @property
    def fields(self) -> Fields:
        """Of the windows: chunk of triplets, channel, t, u."""
        m, lanes = len(self.tables.low), _triplet_chunk(self.pairs, self.tables.tiling)
        return Fields((-(-len(self.pairs.first) // lanes), 3, m, m), lanes)


def _triplet_chunk(pairs: Pairs, tiling: Tiling) -> int:
    """Triplets in a chunk of windows."""
    return tiling.pieces(len(pairs.first), tiling.triplets)


def _item_by_item(parts: Parts, items: Items) -> Any:
    """γ (T, s) of the items, each block of them looked up by itself; with deviations also F·E_r O F, (T, r)."""
    (label, windows), tiling = items, parts.tables.tiling
    blocks = in_blocks((label, jnp.arange(len(label), dtype=jnp.int32)), tiling)
    weighed = map_nonempty(
        lambda *b: _weigh(parts, *_look_up(parts, windows.at(parts.fields, *b))),
        blocks[1][:, 0] < windows.total, blocks, vectorised=tiling.vectorised,
    )  # fmt: skip
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), weighed)


def _table_by_table(parts: Parts, items: Items) -> Any:
    """The same, all items looked up at once."""
    (label, windows), tiling = items, parts.tables.tiling
    listed = windows.at(parts.fields, label, jnp.arange(len(label), dtype=jnp.int32))
    blocks = in_blocks(_look_up(parts, listed), tiling)
    live = in_blocks(listed[-1:], tiling)[0][:, 0]
    weighed = map_nonempty(lambda *b: _weigh(parts, *b), live, blocks, vectorised=tiling.vectorised)
    return jax.tree.map(lambda x: jnp.sum(x, axis=0), weighed)


def _coupled(parts: Parts, items: Items, share: Array, slots: Array, count: int, even: bool) -> tuple[Array, Array]:
    """γ (T, s), and what couples leg 0 to the modes t in all slots, (slots, t, s, T)."""
    (label, windows), tiling = items, parts.tables.tiling
    m, S = len(parts.tables.low), len(parts.f0)
    T = share.shape[-1]
    labels, index = in_blocks((label, jnp.arange(len(label), dtype=jnp.int32)), tiling)
    shares = share.reshape(-1, T)
    signs = [jnp.asarray(x) for x in coupling_signs(even)]

    def add(number: Array, sums: tuple[Array, Array]) -> tuple[Array, Array]:
        gamma, couplings = sums
        listed = windows.at(parts.fields, labels[number], index[number])
        (_, channel, t, u), _, mode, valid = listed
        amplitude, f, _, *places = _look_up(parts, listed)
        first, second, i = places[0], places[2], places[-1]
        x = on_shell_values(
            parts.tables.frequencies, f, parts.tables, (parts.pairs.first, parts.pairs.second), tuple(places)
        )
        delta = integration_weight(x, parts.tetrahedra)
        strength = parts.power.reshape(-1)[((i * m + u) * m + t) * S + mode] * parts.pairs.weight[i]
        on_shell = jnp.where(valid, strength * delta, 0.0)[:, None]
        gamma = gamma + (amplitude * delta[:, None]).T @ jax.nn.one_hot(mode, S, dtype=gamma.dtype)
        couplings = couplings.at[(slots[first] * m + t) * S + mode].add(
            on_shell * signs[0][channel][:, None] * shares[second * m + u]
        )
        return gamma, couplings.at[(slots[second] * m + u) * S + mode].add(
            on_shell * signs[1][channel][:, None] * shares[first * m + t]
        )

    blocks = -(-windows.total // labels.shape[1])
    gamma, couplings = jax.lax.fori_loop(
        0, jnp.minimum(blocks, len(labels)), add, (jnp.zeros((T, S)), jnp.zeros((count * m * S, T)))
    )
    return gamma, couplings.reshape(count, m, S, T)


def _look_up(parts: Parts, items: tuple[Any, ...]) -> tuple[Array, ...]:
    """Amplitude (items, T), f0, mode of leg 0, and the places of `on_shell_values`; with deviations (items, T + T r)."""
    (power, pairs, f0, tables, _, deviations), ((chunk, channel, t, u), lane, mode, valid) = parts, items
    m, S, T = len(tables.low), len(f0), pairs.occupation.shape[-1]
    i = chunk * _triplet_chunk(pairs, tables.tiling) + lane
    strength = jnp.where(valid, power.reshape(-1)[((i * m + u) * m + t) * S + mode] * pairs.weight[i], 0.0)
    first, second = pairs.first[i], pairs.second[i]
    occupation = pairs.occupation.reshape(-1, T)
    nt, nu = occupation[first * m + t], occupation[second * m + u]
    balance = jnp.where(channel == 1, 1.0, -1.0)[:, None] * (nt - nu)
    amplitude = jnp.where((channel == 0)[:, None], nt + nu + 1, balance) * strength[:, None]
    if deviations is not None:
        products = deviations.products.reshape(S, -1, *deviations.products.shape[3:])
        sums = products[mode, first * m + t] * inverse_sinh_of(nu)[..., None]
        sums += products[mode, second * m + u] * inverse_sinh_of(nt)[..., None]
        sums *= strength[:, None, None]
        amplitude = jnp.concatenate([amplitude, sums.reshape(len(i), -1)], axis=1)
    sign_t, sign_u = jnp.asarray(SIGN_T)[channel], jnp.asarray(SIGN_U)[channel]
    return amplitude, f0[mode], mode, first, t, second, u, sign_t, sign_u, i


def _weigh(parts: Parts, amplitude: Array, f: Array, s: Array, *places: Array) -> Any:
    """Their γ, (T, s); with deviations their F·E_r O F too, (T, r)."""
    _, pairs, f0, tables, tetrahedra, deviations = parts
    x = on_shell_values(tables.frequencies, f, tables, (pairs.first, pairs.second), places)
    found = weighted(amplitude, x, tetrahedra)
    modes = jax.nn.one_hot(s, len(f0), dtype=found.dtype)
    if deviations is None:
        return found.T @ modes
    T = pairs.occupation.shape[-1]
    return found[:, :T].T @ modes, jnp.sum(found[:, T:], axis=0).reshape(T, -1)
