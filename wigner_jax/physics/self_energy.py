"""Three-phonon self-energies at given frequencies, joint densities of states, spectral functions, N and U processes.

Π_s(q, f) = Δ_s - iΓ_s of a mode s is that of the bubble diagram, with the conventions of the linewidths, γ_s = Γ_s(f_s):

    Γ_s(q, f) = (1/N) Σ w |V|²_uts {(n_t + n_u + 1) δ(f - f_t - f_u) + (n_t - n_u) [δ(f + f_t - f_u) - δ(f - f_t + f_u)]}
    Δ_s(q, f) = (1/πN) Σ w |V|²_uts {(n_t + n_u + 1) [P(f - f_t - f_u) - P(f + f_t + f_u)]
                                     + (n_t - n_u) [P(f + f_t - f_u) - P(f - f_t + f_u)]},      P(x) = x/(x² + ε²)

(A. A. Maradudin and A. E. Fein, Phys. Rev. 128, 2589 (1962); A. Togo, L. Chaput, I. Tanaka, Phys. Rev. B 91, 094306
(2015), eqs. 11 and 22.) The joint densities of states (eqs. 18 to 21 there) are the same sums with 1 in the place of |V|²:

    D1(q, f) = (1/N) Σ w [δ(f + f_t - f_u) + δ(f - f_t + f_u)],        D2(q, f) = (1/N) Σ w δ(f - f_t - f_u)
    N1(q, f) = (1/N) Σ w (n_t - n_u) [δ(f + f_t - f_u) - δ(f - f_t + f_u)],   N2 = (1/N) Σ w (n_t + n_u + 1) δ(f - f_t - f_u)

(in N1 and N2 of pairs that both take part)
and the spectral function is that of the dressed phonon,

    A_s(q, f) = (1/π) 4 f_s² Γ_s / ([f² - f_s² - 2 f_s Δ_s]² + 4 f_s² Γ_s²).

Everything is averaged over degenerate blocks, and differentiable where the broadening is.

Long, because all of these are one sum over the triplets of a point, read in several ways.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.as_numbers import as_numbers
from .._core.programs import program
from .._core.pytree import pytree
from .._core.tiling import tiling_for
from ..errors import InputError, say
from ..plan.normal_processes import normal_processes
from ..units import INTERACTION, LINEWIDTH
from .dealt_buckets import linewidths_of, pieces
from .degeneracy import degenerate_averages
from .domain import is_concrete, temperature_array
from .linewidths import interaction, legs, rods_at_once, state_for
from .matrix_elements import contract_over_R2
from .taking_part import takes_part

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.pytree import Array
    from ..types import Plan, TripletBucket
    from .pairs import Broadening, State

EPSILON = 0.05  # THz, of the principal value; phono3py's
SAMPLE = 16  # irreducible points of `normal_share`
POINTS = 201  # frequencies where none are given, from 0 to twice the highest
WEIGHT_BYTES = 2**26  # of tetrahedron values held at a time


@pytree()
class SelfEnergy:
    """Of all modes of some irreducible points.

    Attributes:
        frequencies: (F,) THz, where it was evaluated.
        imaginary: (T, P, m, F) THz, Γ: half width at half maximum.
        real: (T, P, m, F) THz, Δ: shift of the frequency.
        spectral_function: (T, P, m, F) 1/THz; its integral over f is near 1.
    """

    frequencies: Array  #: (F,) THz
    imaginary: Array  #: (T, P, m, F) THz
    real: Array  #: (T, P, m, F) THz
    spectral_function: Array  #: (T, P, m, F) 1/THz


@pytree()
class JointDensityOfStates:
    """Of pairs of modes that meet momentum conservation with some irreducible points.

    Attributes:
        frequencies: (F,) THz.
        absorption: (P, F) 1/THz, D1: one phonon more, one less.
        decay: (P, F) 1/THz, D2: into two.
        weighted_absorption: (T, P, F) 1/THz, N1.
        weighted_decay: (T, P, F) 1/THz, N2.
    """

    frequencies: Array  #: (F,) THz
    absorption: Array  #: (P, F) 1/THz
    decay: Array  #: (P, F) 1/THz
    weighted_absorption: Array  #: (T, P, F) 1/THz
    weighted_decay: Array  #: (T, P, F) 1/THz


def self_energy(
    solution: Any,
    points: Sequence[int] | None = None,
    frequencies: Sequence[float] | None = None,
    *,
    temperatures: Sequence[float] | None = None,
    real_part: str = "kramers-kronig",
    epsilon: float = EPSILON,
) -> SelfEnergy:
    """Γ, Δ and the spectral function A of a `Solution`, as functions of the frequency.

    Args:
        solution: from `solve` or `conductivity`; its broadening is used.
        points: rows of `solution.mesh.irreducible`; all unless given.
        frequencies: (F,) THz; 201 from 0 to twice the highest unless given.
        temperatures: K; the solution's unless given.
        real_part: "kramers-kronig" transforms Γ, for which frequencies must be equidistant from 0 on to where Γ vanishes
            (phono3py's spectral function); "sum" sums Δ over the triplets with `epsilon` (phono3py's `--rse`).
        epsilon: THz, width of the principal value.

    Warns:
        AccuracyWarning: frequencies that are too short or too coarse for Kramers and Kronig.

    Raises:
        InputError: points that are not there, frequencies or temperatures outside their domain.
    """
    if real_part not in ("kramers-kronig", "sum"):
        raise InputError(f"real_part is {real_part!r}", "choose from kramers-kronig, sum")
    if not epsilon > 0:
        raise InputError(f"epsilon is {epsilon!r} THz", "give a width above 0")
    rows, at = _points(solution, points), _frequencies(solution, frequencies)
    if real_part == "kramers-kronig":
        _require_equidistant(at)
        if is_concrete(at, solution.phonons.frequencies):
            _say_if_short(np.asarray(at), float(np.max(solution.phonons.frequencies)))
    state = _state(solution, temperatures)
    plan, broadening = solution.plan, solution.broadening
    parts = [_at_point(_member(plan, row), state, plan, at, broadening, jnp.asarray(epsilon)) for row in rows]
    imaginary, real = (jnp.stack([p[k] for p in parts], axis=1) for k in (0, 1))
    if real_part == "kramers-kronig":
        real = kramers_kronig(imaginary, at)
    f = state.frequencies[jnp.asarray(plan.mesh.irreducible)[rows]]
    return SelfEnergy(at, imaginary, real, spectral_function(f, imaginary, real, at))


def joint_density_of_states(
    solution: Any,
    points: Sequence[int] | None = None,
    frequencies: Sequence[float] | None = None,
    *,
    temperatures: Sequence[float] | None = None,
) -> JointDensityOfStates:
    """D1, D2, and both weighted by occupations. Arguments and errors as in `self_energy`."""
    rows, at = _points(solution, points), _frequencies(solution, frequencies)
    state = _state(solution, temperatures)
    parts = [
        _pairs_at_point(_member(solution.plan, row), state, solution.plan, at, solution.broadening) for row in rows
    ]
    plain, weighted = (jnp.stack([p[k] for p in parts], axis=-2) for k in (0, 1))  # channel ... P F
    return JointDensityOfStates(at, plain[0], plain[1], weighted[0], weighted[1])


def averaged_interaction(solution: Any, points: Sequence[int] | None = None) -> Array:
    """P_s(q) = (1/(3n)²) Σ_{q' t u} |Φ_stu|²/N in eV², the average strength of a mode's couplings (phono3py's `--ave-pp`).

    A. Togo, L. Chaput, I. Tanaka, Phys. Rev. B 91, 094306 (2015), eq. 13. Averaged over degenerate blocks.

    Args:
        points: rows of `solution.mesh.irreducible`; all unless given.

    Returns:
        (P, m) eV².
    """
    state = _state(solution, None)
    plan = solution.plan
    return jnp.stack([_strength_at_point(_member(plan, row), state, plan) for row in _points(solution, points)])


def normal_umklapp(solution: Any) -> tuple[Array, Array]:
    """Half widths by normal (q + q' + q'' = 0 in the first Brillouin zone) and by umklapp processes; they sum to γ.

    phono3py's `--nu`. A triplet whose points lie on the surface of the zone is normal if any choice of their equivalents
    in it sums to 0.

    Returns:
        (normal, umklapp), (T, P, m) THz each.
    """
    plan, broadening = solution.plan, solution.broadening
    state = _state(solution, None)
    masks = normal_processes(np.asarray(plan.crystal.lattice), plan.mesh, plan.triplets)
    count, modes = len(plan.mesh.irreducible), state.frequencies.shape[1]
    normal = jnp.zeros((state.occupation.shape[-1], count, modes))
    for number, (bucket, mask) in enumerate(zip(plan.triplets, masks, strict=True)):
        kept = dataclasses.replace(bucket, weights=jnp.where(mask, bucket.weights, 0))
        chosen = broadening.for_bucket(number)
        for start, piece in pieces(kept, modes, state.tiling, False):
            three, _, overflow = linewidths_of(piece, state, plan, None, chosen)
            rows = np.asarray(bucket.members)[start : start + len(three)]
            part = jnp.where(jnp.any(overflow), jnp.nan, jnp.moveaxis(three[: len(rows)], 1, 0))
            normal = normal.at[:, rows].set(part)
    return normal, solution.linewidths.three_phonon - normal


def normal_share(solution: Any, points: int = SAMPLE, listened: bool = False) -> float:
    """Σ γ of normal processes over Σ γ of all three-phonon processes, of some irreducible points evenly spread over the mesh.

    A few per cent of the work of all linewidths, with the programs that made those. Of six crystals, those above 0.6 have
    a κ_P that the relaxation-time approximation underestimates by 13 to 21 %, the others by 2 to 3 % (docs: Beyond RTA). κ-weighted
    shares tell them less apart: near Γ everything is normal.

    Args:
        listened: whether the solution was made with a listener to progress, whose pieces have other shapes.

    Returns:
        0 to 1, at the first temperature.
    """
    plan, broadening = solution.plan, solution.broadening
    every = np.asarray(solution.linewidths.three_phonon)[0]
    chosen = np.zeros(len(every), bool)
    chosen[np.linspace(0, len(every) - 1, min(points, len(every))).round().astype(int)] = True
    state, variances = _state(solution, None), solution.scattering.variances(plan)
    normal = np.zeros_like(every)
    masks = normal_processes(np.asarray(plan.crystal.lattice), plan.mesh, plan.triplets)
    for number, (bucket, mask) in enumerate(zip(plan.triplets, masks, strict=True)):
        kept = np.asarray(mask) & chosen[np.asarray(bucket.members)][:, None, None]
        few = dataclasses.replace(bucket, weights=np.where(kept, np.asarray(bucket.weights), 0))
        for start, piece in pieces(few, state.frequencies.shape[1], state.tiling, listened):
            three = linewidths_of(piece, state, plan, variances, broadening.for_bucket(number))[0]
            rows = np.asarray(bucket.members)[start : start + len(three)]
            normal[rows] = np.asarray(three)[: len(rows), 0]
    total = every[chosen].sum()
    return float(normal[chosen].sum() / total) if total > 0 else 0.0


def kramers_kronig(imaginary: Array, frequencies: Array) -> Array:
    """Δ(f) = -(1/π) P∫ Γ(g)/(g - f) dg over all g, with Γ(-g) = -Γ(g), by the sum over the other points (phono3py's way).

    Args:
        imaginary: (..., F) THz at equidistant frequencies from 0 on.

    Returns:
        (..., F) THz.
    """
    step = (frequencies[-1] - frequencies[0]) / (len(frequencies) - 1)
    everywhere = jnp.concatenate([-frequencies[::-1], frequencies[1:]])
    odd = jnp.concatenate([-imaginary[..., ::-1], imaginary[..., 1:]], axis=-1)
    distance = everywhere[:, None] - frequencies
    near = jnp.abs(distance) < step / 2
    kernel = jnp.where(near, 0.0, 1 / jnp.where(near, 1.0, distance))
    return -(odd @ kernel) * (step / jnp.pi)


def spectral_function(modes: Array, imaginary: Array, real: Array, frequencies: Array) -> Array:
    """A_s(f) of the module's docstring; 0 where Γ vanishes and f is not the dressed frequency.

    Args:
        modes: (P, m) THz.
        imaginary, real: (T, P, m, F) THz.
        frequencies: (F,) THz.

    Returns:
        (T, P, m, F) 1/THz.
    """
    f = modes[..., None]
    width = (2 * f * imaginary) ** 2
    below = (frequencies**2 - f**2 - 2 * f * real) ** 2 + width
    some = below > 0
    return jnp.where(some, 4 * f**2 * imaginary / (jnp.pi * jnp.where(some, below, 1.0)), 0.0)


# ---------------------------------------------------------------- one point


def _member(plan: Plan, row: int) -> TripletBucket:
    """The triplets of one irreducible point: a bucket without its leading axis."""
    for bucket in plan.triplets:
        found = np.flatnonzero(np.asarray(bucket.members) == row)
        if len(found):
            return jax.tree.map(lambda x, k=int(found[0]): jnp.asarray(x)[k], bucket)
    raise AssertionError(row)


def _triplets(bucket: TripletBucket, state: State, plan: Plan) -> tuple[Array, Array, Array]:
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    chunk = rods_at_once(bucket, state.frequencies.shape[1], state.tiling)
    return legs(bucket, q, plan.mesh.dims, chunk)


def _power(bucket: TripletBucket, state: State, plan: Plan) -> Array:
    """|V|² of all triplets, before units. (t, u, t, s)"""
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    m = state.frequencies.shape[1]
    cells = contract_over_R2(jnp.asarray(plan.mesh.qpoints)[q][None], state.entries, plan.fc3_table)[0]
    e0 = state.rotation[q].reshape(2, m, 2 * m)[:, :, :m]
    return interaction(bucket, e0, cells, state, plan, _triplets(bucket, state, plan)).all()


def _sums(
    bucket: TripletBucket, state: State, plan: Plan, at: Array, broadening: Broadening, power: Array | None,
    epsilon: Array | None,
) -> Array:  # fmt: skip
    """Σ over the triplets, (channels, T, s, F) / N.

    Channels: with `power` None (s of length 1, |V|² of 1) absorption and decay without occupations, then with them; else Γ
    and, with `epsilon`, Δ.
    """
    first, second, weight = _triplets(bucket, state, plan)
    m, T = state.occupation.shape[1:]
    size = max(1, WEIGHT_BYTES // (8 * 16 * m * m * len(at)))
    count = -(-len(first) // size)
    padding = count * size - len(first)

    def split(x: Array) -> Array:
        return jnp.pad(x, [(0, padding)] + [(0, 0)] * (x.ndim - 1)).reshape(count, size, *x.shape[1:])

    blocks = degenerate_averages(state.frequencies) if broadening.averages else None

    def some(items: tuple[Array, ...]) -> Array:
        one, two, weight, *strength = items
        decay, absorb, emit = broadening.delta(state.broadening, one, two, at)  # c u t F
        nt, nu = state.occupation[one][:, None], state.occupation[two][:, :, None]
        both, difference = nt + nu + 1, nt - nu  # c u t T
        w = weight[:, None, None, None]
        if power is None:
            part = [takes_part(state.frequencies[q]) for q in (one, two)]
            alive = (part[0][:, None] & part[1][:, :, None])[..., None]
            both, difference = jnp.where(alive, both, 0.0), jnp.where(alive, difference, 0.0)
            ones = jnp.ones((*both.shape[:3], 1))
            kinds = [(ones, absorb + emit), (ones, decay), (difference, absorb - emit), (both, decay)]
            return jnp.stack(
                [jnp.broadcast_to(jnp.einsum("iutT,iutf->Tf", n * w, d), (T, len(at)))[:, None] for n, d in kinds]
            )
        V = strength[0]
        if blocks is not None:
            V = jnp.einsum("iuv,itr,ivrs->iuts", blocks[two], blocks[one], V)
        amplitude = [jnp.einsum("iutT,iuts->iutTs", n * w, V) for n in (both, difference)]

        def contract(decay: Array, absorb: Array) -> Array:
            pairs = zip(amplitude, (decay, absorb), strict=True)
            return sum(jnp.einsum("iutTs,iutf->Tsf", a, d) for a, d in pairs)

        found = [contract(decay, absorb - emit)]
        if epsilon is not None:
            ft, fu = state.frequencies[one][:, None, :, None], state.frequencies[two][:, :, None, None]

            def principal(x: Array) -> Array:
                return x / (x**2 + epsilon**2)

            found.append(
                contract(
                    principal(at - ft - fu) - principal(at + ft + fu), principal(at + ft - fu) - principal(at - ft + fu)
                )
                / jnp.pi
            )
        return jnp.stack(found)

    items = tuple(split(x) for x in (first, second, weight, *(() if power is None else (power,))))
    shape = jax.eval_shape(some, jax.tree.map(lambda x: x[0], items))

    def add(total: Array, block: tuple[Array, ...]) -> tuple[Array, None]:
        return total + jax.checkpoint(some)(block), None

    total = jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), items)[0]
    return total / (plan.mesh.dims[0] * plan.mesh.dims[1] * plan.mesh.dims[2])


@program()
def _at_point(
    bucket: TripletBucket, state: State, plan: Plan, at: Array, broadening: Broadening, epsilon: Array
) -> tuple[Array, Array]:
    """Γ and Δ, (T, m, F) THz each."""
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    f = state.frequencies[q]
    power = jnp.where(takes_part(f), _power(bucket, state, plan), 0.0) * (INTERACTION * LINEWIDTH)
    total = _sums(bucket, state, plan, at, broadening, power, epsilon)
    imaginary, real = (jnp.einsum("st,Ttf->Tsf", degenerate_averages(f), x) for x in total)
    return imaginary, real


@program()
def _pairs_at_point(
    bucket: TripletBucket, state: State, plan: Plan, at: Array, broadening: Broadening
) -> tuple[Array, Array]:
    """D1 and D2 (2, F), N1 and N2 (2, T, F), 1/THz."""
    total = _sums(bucket, state, plan, at, broadening, None, None)[:, :, 0]
    return total[:2, 0], total[2:]


@program()
def _strength_at_point(bucket: TripletBucket, state: State, plan: Plan) -> Array:
    """(m,) eV²"""
    q = jnp.asarray(plan.mesh.irreducible)[bucket.members]
    power, weight = _power(bucket, state, plan), _triplets(bucket, state, plan)[2]
    m, points = power.shape[-1], plan.mesh.dims[0] * plan.mesh.dims[1] * plan.mesh.dims[2]
    mean = jnp.einsum("i,iuts->s", weight, power) * (INTERACTION / (m * m * points))
    return degenerate_averages(state.frequencies[q]) @ mean


# ---------------------------------------------------------------- arguments


def _state(solution: Any, temperatures: Sequence[float] | None) -> State:
    T = temperature_array(solution.conductivity.temperatures if temperatures is None else temperatures)
    return state_for(
        solution.plan, solution.force_constants, solution.phonons, T, solution.broadening, solution.nac, tiling_for()
    )


def _points(solution: Any, points: Sequence[int] | None) -> np.ndarray:
    count = len(solution.mesh.irreducible)
    if points is None:
        return np.arange(count)
    rows = as_numbers(np.atleast_1d(np.asarray(points)))
    if rows.ndim != 1 or not np.all((rows == np.rint(rows)) & (rows >= 0) & (rows < count)):
        raise InputError(
            f"points are {points!r}", f"give rows of solution.mesh.irreducible: integers from 0 to {count - 1}"
        )
    return rows.astype(int)


def _frequencies(solution: Any, frequencies: Sequence[float] | None) -> Array:
    if frequencies is None:
        return jnp.linspace(0.0, 2 * float(jnp.max(solution.phonons.frequencies)), POINTS)
    at = np.atleast_1d(as_numbers(frequencies))
    if at.ndim != 1 or not len(at) or not np.all(np.isfinite(at) & (at >= 0)):
        raise InputError("frequencies must be numbers of 0 THz or more", "give for example numpy.linspace(0, 30, 201)")
    return jnp.asarray(at)


def _say_if_short(x: np.ndarray, highest: float) -> None:
    """Warns where the real part by Kramers and Kronig means little."""
    if not x[-1] >= 1.9 * highest:
        say(f"the frequencies end at {x[-1]:.3g} THz, and Γ at {2 * highest:.3g}: the real part lacks what is beyond")
    elif not x[1] <= highest / 15:
        say(f"frequencies {x[1]:.3g} THz apart are too coarse for the real part of modes up to {highest:.3g} THz")


def _require_equidistant(at: Array) -> None:
    x = np.asarray(at)
    if len(x) < 2 or abs(x[0]) > 1e-8 or np.ptp(np.diff(x)) > 1e-6 or not x[1] > x[0]:
        raise InputError(
            "Kramers-Kronig needs frequencies that are equidistant and begin at 0",
            "give numpy.linspace(0, maximum, count), or real_part='sum'",
        )


__all__ = [
    "JointDensityOfStates",
    "SelfEnergy",
    "averaged_interaction",
    "joint_density_of_states",
    "kramers_kronig",
    "normal_share",
    "normal_umklapp",
    "self_energy",
    "spectral_function",
]
