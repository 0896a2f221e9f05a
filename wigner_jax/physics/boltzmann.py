"""The linearised Boltzmann equation beyond the relaxation-time approximation, on the host around compiled kernels.

With Z_s = √C_s v_s, v averaged over degenerate blocks, and Ω of physics/collisions.py in half widths,

    κ_P = κ_P,RTA + (units.KAPPA/NV) Σ over the mesh of [Z · (2Ω)⁻¹ Z - Z · Z/(2γ)]:

off the diagonal of degenerate blocks the velocity operator relaxes with γ alone, and what carries heat there is in κ_P,RTA.
Ω is symmetric but for the integration of energy conservation, whose weights are not the same from all three legs. (Ω + Ωᵀ)/2
is taken, as in phono3py, in the scalar product of the full mesh. Conjugate gradients with γ as preconditioner.

Ω is assembled where it fits into a limit of bytes; else it is recomputed, row by row, in every iteration.

More than 350 lines: the right-hand side, both forms of Ω and the sums over the mesh share one layout.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from .._core.programs import program
from .._core.pytree import host_data
from ..errors import InputError, say
from ..units import KAPPA
from .collisions import Stars, collisions_of, inverse_sinh, make_stars, scalar_stars
from .conductivity import VOIGT, star_average
from .dealt_buckets import pieces
from .degeneracy import degenerate_averages
from .krylov import CONVERGED, Solved, conjugate_gradients
from .symmetric_matrix import SymmetricMatrix
from .taking_part import is_scattered, takes_part

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.pytree import Array
    from ..types import Plan, TripletBucket
    from .pairs import Broadening, State

LIMIT = 4 * 2**30  # bytes of assembled operators
TOLERANCE = 1e-8  # of the residual; κ is off by about its square
MOST_ITERATIONS = 200
WORST = 0.1  # residual of what is still taken as a solution, with a warning


@host_data
class FullSolution:
    """What the linearised equation gives. Host data.

    Attributes:
        temperatures: (T,) K.
        kappa_P: (T, 6) W/(m K), Voigt order: populations by the full collision operator.
        kappa_P_RTA: (T, 6) in the relaxation-time approximation, of the same linewidths and velocities.
        mode_kappa_P: (T, P, m, 6) over the star of each irreducible point: Σ over (p, s) divided by the points is kappa_P.
        residual: (T,) of the iteration, relative.
        iterations: (T,) int.
        status: "converged", "negative curvature" or "not converged", for each temperature.
        asymmetry: (T,) ‖O - Oᵀ‖/‖O‖ of what couples different modes, before it is symmetrised; NaN if Ω was not assembled.
        lowest: (T,) lowest Ritz value of γ⁻¹Ω: below 0 it is not positive.
        deviations: (T, P, m, 3) F = Ω⁻¹Z of the irreducible points, √(eV/K) Å.
        assembled: whether Ω was held in memory.
        size: unknowns.
    """

    temperatures: np.ndarray
    kappa_P: np.ndarray
    kappa_P_RTA: np.ndarray
    mode_kappa_P: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray
    status: tuple[str, ...]
    asymmetry: np.ndarray
    lowest: np.ndarray
    deviations: np.ndarray
    assembled: bool
    size: int


class Operator:
    """Rows of O for all irreducible points, compressed to the components that there are."""

    def __init__(
        self,
        plan: Plan,
        state: State,
        temperatures: Array,
        variances: Any,
        broadening: Broadening,
        limit: float = LIMIT,
    ) -> None:
        self.plan, self.state, self.variances, self.broadening, self.limit = plan, state, variances, broadening, limit
        # a mesh that uses symmetry has time reversal at least
        self.stars: Stars = make_stars(plan.crystal, plan.mesh)
        self.share, self.even = inverse_sinh(state.frequencies, temperatures), False
        P, m = len(plan.mesh.irreducible), state.frequencies.shape[1]
        there = np.linalg.norm(np.asarray(self.stars.basis), axis=1) > 0.5  # (P, 3)
        self.live = np.flatnonzero(np.broadcast_to(there[:, None], (P, m, 3)).ravel())
        self.shape = (P, m, 3)
        #: √(points of the star) of every unknown: the scalar product of the full mesh
        self.root = np.sqrt(
            np.broadcast_to(np.asarray(plan.mesh.weights)[:, None, None], self.shape).ravel()[self.live]
        )

    @property
    def size(self) -> int:
        """Unknowns."""
        return len(self.live)

    @property
    def fits(self) -> bool:
        """Whether the matrices of all temperatures stay within the limit of bytes."""
        return self.share.shape[-1] * self.size**2 * 4 <= self.limit

    def at(self, index: int) -> Operator:
        """The same at one of the temperatures."""
        other = copy.copy(self)
        other.share = self.share[..., index : index + 1]
        other.state = dataclasses.replace(self.state, occupation=self.state.occupation[..., index : index + 1])
        return other

    def packed(self, x: np.ndarray) -> np.ndarray:
        """Vectors of all modes (P, m, 3), invariant under the little groups, as unknowns. (n,)"""
        inside = np.einsum("pai,psa->psi", np.asarray(self.stars.basis), x)
        return inside.ravel()[self.live] * self.root

    def unpacked(self, y: np.ndarray) -> np.ndarray:
        """The vectors of unknowns. (P, m, 3)"""
        full = np.zeros(int(np.prod(self.shape)))
        full[self.live] = y / self.root
        return np.einsum("pai,psi->psa", np.asarray(self.stars.basis), full.reshape(self.shape))

    def repeated(self, x: np.ndarray) -> np.ndarray:
        """One number for each mode (P, m), for its unknowns. (n,)"""
        return np.broadcast_to(x[..., None], self.shape).ravel()[self.live]

    def rows(self, progress: Callable[[int, int], None] | None = None) -> Any:
        """(members, γ by three phonons (B, T, m), isotopes (B, m), overflow, rows (B, T, m, 3, P, m, 3)), piece by piece."""
        done, total = 0, self.shape[0]
        for number, bucket in enumerate(self.plan.triplets):
            chosen, count = self.broadening.for_bucket(number), len(bucket.members)
            for start, piece in pieces(bucket, self.shape[1], self.state.tiling, True):
                kept = min(len(piece.members), count - start)
                three, isotope, overflow, rows = self._of(piece, chosen)
                members = np.asarray(bucket.members)[start : start + kept]
                yield members, three[:kept], isotope[:kept], overflow, rows[:kept]
                done += kept
                if progress is not None:
                    progress(done, total)

    def _of(self, piece: TripletBucket, chosen: Broadening) -> tuple[Array, ...]:
        return collisions_of(piece, self.state, self.plan, self.variances, chosen, self.share, self.stars, self.even)

    def assembled(self, progress: Callable[[int, int], None] | None = None) -> tuple[Any, list[SymmetricMatrix]]:
        """((γ (T, P, m), γ by isotopes (P, m), overflow), O √w-scaled and symmetrised of every temperature)."""
        P, m, _ = self.shape
        T = self.share.shape[-1]
        gamma, disorder, overflow = np.empty((T, P, m)), np.empty((P, m)), False
        points = self.live // (3 * m)
        counts, first = np.bincount(points, minlength=P), np.searchsorted(points, np.arange(P))
        matrices = [SymmetricMatrix(counts.tolist()) for _ in range(T)]
        for members, three, isotope, many, rows in self.rows(progress):
            gamma[:, members], disorder[members] = np.moveaxis(np.asarray(three), 1, 0), np.asarray(isotope)
            overflow |= bool(np.any(np.asarray(many)))
            block = np.asarray(rows).reshape(len(members), T, m * 3, -1)
            for k, p in enumerate(members):
                mine = slice(first[p], first[p] + counts[p])
                kept = block[k][:, self.live[mine] - p * m * 3][:, :, self.live]
                kept *= self.root[mine, None] / self.root
                for matrix, part in zip(matrices, kept, strict=True):
                    matrix.put(first[p], part)
        return (gamma, disorder, overflow), matrices

    def apply(self, y: np.ndarray) -> np.ndarray:
        """(O + Oᵀ)/2 y of the first temperature, every row computed anew."""
        full = np.zeros(int(np.prod(self.shape)))
        full[self.live] = y / self.root
        down = np.zeros_like(full)
        down[self.live] = y * self.root
        x, scaled = full.reshape(self.shape), down.reshape(self.shape)
        out, back = np.zeros(self.shape), np.zeros(self.shape)
        for number, bucket in enumerate(self.plan.triplets):
            chosen, count = self.broadening.for_bucket(number), len(bucket.members)
            for start, piece in pieces(bucket, self.shape[1], self.state.tiling, True):
                kept = min(len(piece.members), count - start)
                rows = self._of(piece, chosen)[3]
                members = np.asarray(bucket.members)[start : start + kept]
                one, other = _both_ways(rows[:kept, 0], x, scaled[members])
                out[members] += np.asarray(one)
                back += np.asarray(other)
        return 0.5 * (out.ravel()[self.live] * self.root + back.ravel()[self.live] / self.root)


@program()
def _both_ways(rows: Array, x: Array, own: Array) -> tuple[Array, Array]:
    """rows (B, m, 3, P, m, 3) x, and their transpose on the part of their own points."""
    return jnp.einsum("bsiptj,ptj->bsi", rows, x), jnp.einsum("bsiptj,bsi->ptj", rows, own)


def energy_residual(plan: Plan, state: State, temperatures: Array, broadening: Broadening) -> np.ndarray:
    """‖Ω F‖/‖γ F‖ for a change of temperature, F = hf/(2 sinh(hf/2kT)): 0 where collisions conserve energy exactly.

    Of the physical signs, for deviations that are even in q. What is left is what the broadening leaves of energy
    conservation, and falls with the mesh.

    Returns:
        (T,)
    """
    operator = Operator(plan, state, temperatures, None, broadening)
    operator.stars, operator.even = scalar_stars(operator.stars), True
    frequencies = np.asarray(state.frequencies)[np.asarray(plan.mesh.irreducible)]
    share = np.asarray(operator.share)[np.asarray(plan.mesh.irreducible)]
    F = np.where(np.asarray(takes_part(frequencies))[..., None], frequencies[..., None] * share, 0.0)  # p m T
    left, all_ = np.zeros(F.shape[-1]), np.zeros(F.shape[-1])
    weights = np.asarray(plan.mesh.weights)
    for members, three, _, _, rows in operator.rows():
        gamma = np.moveaxis(np.asarray(three), 1, 2)  # B m T
        coupled = np.einsum("bTsptj,ptT->bsT", np.asarray(rows)[:, :, :, 0, :, :, :1], F)
        own = gamma * F[members]
        left += np.einsum("b,bsT->T", weights[members], (own + coupled) ** 2)
        all_ += np.einsum("b,bsT->T", weights[members], own**2)
    return np.sqrt(left / all_)


def averaged_velocities(frequencies: np.ndarray, velocity_operator: np.ndarray) -> np.ndarray:
    """Group velocities averaged over degenerate blocks. (P, m, 3) THz Å"""
    diagonal = np.einsum("pssa->psa", np.asarray(velocity_operator)).real
    return np.einsum("pst,pta->psa", degenerate_averages(np.asarray(frequencies)), diagonal)


def solve_full(
    operator: Operator, matrix: SymmetricMatrix | None, gamma: np.ndarray, capacity: np.ndarray, velocities: np.ndarray,
    tolerance: float = TOLERANCE,
) -> tuple[np.ndarray, Solved, np.ndarray, float]:  # fmt: skip
    """The increment of κ_P of every mode over the relaxation-time approximation, at one temperature.

    Args:
        matrix: of `Operator.assembled`; None to apply the operator row by row.
        gamma: (P, m) THz, total half widths.
        capacity: (P, m) eV/K.
        velocities: (P, m, 3) THz Å.

    Returns:
        (P, m, 6) W/(m K) over the stars; how the iteration ended; F (P, m, 3); the asymmetry.
    """
    plan = operator.plan
    mesh, crystal = plan.mesh, plan.crystal
    frequencies = np.asarray(operator.state.frequencies)[np.asarray(mesh.irreducible)]
    alive = np.asarray(takes_part(frequencies)) & np.asarray(is_scattered(gamma))
    width = np.where(alive, gamma, 1.0)
    Z = np.where(alive, np.sqrt(np.maximum(capacity, 0.0)), 0.0)[..., None] * velocities
    diagonal, b = operator.repeated(width), operator.packed(Z)
    mask = operator.repeated(alive.astype(float))
    asymmetry = np.nan
    if matrix is not None:
        asymmetry = matrix.asymmetry

        def coupled(y: np.ndarray) -> np.ndarray:
            return matrix @ y
    else:
        coupled = operator.apply

    def apply(y: np.ndarray) -> np.ndarray:
        return diagonal * y + mask * coupled(mask * y)

    found = conjugate_gradients(apply, b, diagonal, tolerance, MOST_ITERATIONS)
    F = operator.unpacked(found.x)
    first, second = (np.asarray(i) for i in VOIGT)
    both = 0.5 * (Z[..., first] * F[..., second] + Z[..., second] * F[..., first])
    alone = Z[..., first] * Z[..., second] / width[..., None]
    volume = abs(float(np.linalg.det(np.asarray(crystal.lattice))))
    volume *= 1.0 if crystal.occupied is None else float(crystal.occupied)
    scale = np.asarray(mesh.weights)[:, None, None] * (KAPPA / volume)
    change = scale * (0.5 * (both - alone) @ np.asarray(star_average(mesh.rotations)).T)
    return change, found, F, asymmetry


def full_solution(
    operator: Operator, matrices: list[SymmetricMatrix] | None, temperatures: Array, velocity_operator: Any, linewidths: Any,
    conductivity: Any, tolerance: float = TOLERANCE,
) -> FullSolution:  # fmt: skip
    """The solution at all temperatures, of linewidths and κ in the relaxation-time approximation that are there.

    Args:
        operator: of all temperatures.
        matrices: of `Operator.assembled`; None to make them anew: one temperature at a time where one fits
            into the operator's limit, else every row in every iteration.
        linewidths: total, (T, P, m) THz.
        conductivity: `Conductivity` of these.
    """
    at = np.asarray(operator.plan.mesh.irreducible)
    velocities = averaged_velocities(np.asarray(operator.state.frequencies)[at], velocity_operator)
    modes, ends, fields, asymmetry = [], [], [], []
    assembled = True
    for index in range(len(np.asarray(temperatures))):
        one = operator if matrices is not None else operator.at(index)
        matrix = matrices[index] if matrices is not None else one.assembled()[1][0] if one.fits else None
        assembled &= matrix is not None
        change, end, F, part = solve_full(
            one,
            matrix,
            np.asarray(linewidths)[index],
            np.asarray(conductivity.heat_capacity)[index],
            velocities,
            tolerance,
        )
        modes.append(np.asarray(conductivity.mode_kappa_P)[index] + change)
        ends.append(end)
        fields.append(F)
        asymmetry.append(part)
    mode_kappa = np.stack(modes)
    return FullSolution(
        np.asarray(temperatures), mode_kappa.sum(axis=(1, 2)) / len(operator.plan.mesh.qpoints),
        np.asarray(conductivity.kappa_P), mode_kappa, np.array([e.residual for e in ends]),
        np.array([e.iterations for e in ends]), tuple(e.status for e in ends), np.array(asymmetry),
        np.array([e.lowest for e in ends]), np.stack(fields), assembled, operator.size,
    )  # fmt: skip


def say_how_it_ended(found: FullSolution) -> None:
    """Warns of temperatures at which the iteration did not converge.

    Warns:
        AccuracyWarning: with the residual.

    Raises:
        InputError: a residual above `WORST`: the iterate is no solution.
    """
    for T, status, residual, lowest in zip(found.temperatures, found.status, found.residual, found.lowest, strict=True):
        if status != CONVERGED and not residual < WORST:
            raise InputError(
                f"the linearised equation has no solution at {T:g} K: {status} (residual {residual:.1e}, lowest Ritz value {lowest:.2g})",
                "take a finer mesh or a wider broadening",
            )
        if status != CONVERGED:
            say(
                f"the linearised equation at {T:g} K: {status} (residual {residual:.1e}, lowest Ritz value {lowest:.2g}); κ is that of"
                " the last iterate: take a finer mesh or a wider broadening"
            )


__all__ = [
    "LIMIT",
    "FullSolution",
    "Operator",
    "averaged_velocities",
    "energy_residual",
    "full_solution",
    "say_how_it_ended",
    "solve_full",
]
