"""The smallest change of weights that makes a potential agree with a few frames. No learning rate, no epochs.

With few frames there are far fewer targets than weights. With the targets' errors r(θ), each divided by its scale such that
Σ r² is the sum of `frame_loss` over the frames, the change minimises

    Σ r(θ)² + μ |θ - θ0|²,        μ = strength · tr(J Jᵀ)/R,      J = -∂r/∂θ at θ0 of shape (R, P).

At a minimum Jᵀ r = μ (θ - θ0), so that the change is θ - θ0 = Jᵀ α with one number for every target. Newton's step for α,
with J kept,

    (J Jᵀ + μ) Δα = q,        q = r(θ) - μ α,

is a linear system with R unknowns. It is repeated until q = 0; from the second step on it starts at that combination of the
last few α whose q is smallest (Anderson, J. ACM 12, 547 (1965)), which makes up for J being that of θ0. Steps that do not
make q smaller are halved. The weak strength wanted is approached from strong ones, each the start of the next. The change
stays in the span of the rows of J at θ0, which for the small changes meant here is as good as the minimum itself.

The strength says how much errors of the frames are trusted: chosen by leaving out every frame in turn, with r linear in θ,

    e_k = r_k - J_k J_oᵀ (J_o J_oᵀ + μ)⁻¹ r_o,       o the other frames,

which needs no further evaluation. This is kernel ridge regression with the tangent kernel J Jᵀ of the potential (Jacot,
Gabriel and Hongler, arXiv:1806.07572), started from the potential's own prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from ..._core.programs import program
from ...errors import InputError
from ..frames import predict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._core.pytree import Array
    from ...potentials.base import Energy, Params
    from ...potentials.graph import Graph
    from ..frames import Frame


STRENGTHS = tuple(10.0 ** (-k / 2) for k in range(2, 15))  # 0.1 … 1e-7
HALVINGS = 6  # of one step
USEFUL = 0.8  # strengths on the way that would leave more of the loss than this are left out
HISTORY = 8  # points that are combined


class MinimumNormUpdate(NamedTuple):
    """Weights, and how they were found."""

    trained: Params  #: the weights
    strength: float  #: reached: the one wanted if `converged`
    losses: list[float]  #: Σ r² at the start and at every strength on the way
    left_out: dict[float, float]  #: strength → Σ e² of frames left out; empty if the strength was given
    change: float  #: |θ - θ0|/|θ0|
    converged: bool  #: whether that strength was reached

    def __repr__(self) -> str:
        state = "converged" if self.converged else "not converged"
        return (
            f"MinimumNormUpdate({state} at strength {self.strength:.1e}, loss {self.losses[0]:.3g} → {self.losses[-1]:.3g},"
            f" change {self.change:.1e})"
        )


def minimum_norm_update(
    energy: Energy,
    trained: Params,
    frozen: Params,
    frames: Sequence[Frame],
    strength: float | None = None,
    *,
    tangents: Sequence[Array] | None = None,
    steps: int = 20,
    tolerance: float = 1e-3,
    report: Callable[[str], None] = lambda _: None,
) -> MinimumNormUpdate:
    """See the module's docstring.

    Memory: the matrix J of all frames, 8 R P bytes (0.43 GB for the forces of 3 frames of 64 atoms and 93 000 weights).

    Args:
        energy: of (trained, frozen), as `adapt` returns it; of the trained parameters alone if `frozen` is None.
        frames: with their weights and scales; targets of weight 0 are left out.
        strength: chosen by leaving out one frame in turn, unless given.
        tangents: `tangent` of every frame, where they are known already.
        steps: at most, for one strength on the way.
        tolerance: of |r - μ α| relative to |r|, where the steps end.
        report: takes a line for every frame and strength.

    Raises:
        InputError: no frames or nothing to fit; one frame alone and no strength; an error that is not finite.
    """
    if not frames:
        raise InputError("minimum_norm_update needs at least one frame")
    if strength is None and len(frames) < 2:
        raise InputError("the strength is chosen by leaving out frames: give two frames at least, or the strength")
    if strength is not None and not strength > 0:
        raise InputError(f"strength must be above 0, got {strength}")
    rows = []
    for k, frame in enumerate(frames):
        rows.append(np.asarray(tangent(energy, trained, frozen, frame) if tangents is None else tangents[k]))
        report(f"frame {k + 1}/{len(frames)}: {len(rows[-1])} targets")
    J = np.concatenate(rows)
    if len(J) == 0:
        raise InputError("the weights of all targets are 0: there is nothing to fit")
    flat, unflatten = ravel_pytree(trained)
    start, K = np.asarray(flat), J @ J.T

    def errors(weights: np.ndarray) -> np.ndarray:
        return np.concatenate([residual(energy, unflatten(jnp.asarray(weights)), frozen, f) for f in frames])

    r = errors(start)
    if not np.all(np.isfinite(r)):
        raise InputError("the errors of the frames are not finite at the starting weights")
    scale = np.trace(K) / len(K)
    if not scale > 0:
        raise InputError("the targets do not depend on the trained weights: train others")
    left_out = {} if strength is not None else _left_out(K, r, [len(x) for x in rows])
    chosen = float(strength if strength is not None else min(left_out, key=lambda s: left_out[s]))
    alpha, weights, reached = np.zeros(len(K)), start, None
    cold, losses = (alpha, r), [float(r @ r)]
    report(f"strength {chosen:.1e}; loss {losses[0]:.6g} at the start")
    path = [*(s for s in STRENGTHS if s > 1.01 * chosen and _linear_loss(K, r, s * scale) < USEFUL * losses[0]), chosen]
    missed = False
    for level in path:
        if missed and level != chosen:
            continue  # only the one wanted is tried besides
        solved = None
        for at in ((alpha, r), cold) if level == chosen else ((alpha, r),):
            if solved is None:
                enough = tolerance if level == chosen else 10 * tolerance
                solved = _solve(K, J, start, errors, level * scale, at, steps, enough)
        if solved is None:
            report(f"strength {level:.1e} is not reached: the potential is not linear enough")
            missed = True
            continue
        alpha, r = solved
        weights, reached = start + J.T @ alpha, level
        losses.append(float(r @ r))
        report(f"strength {level:.1e}: loss {losses[-1]:.6g}")
    converged = reached == chosen
    chosen = chosen if reached is None else reached
    change = float(np.linalg.norm(weights - start) / np.linalg.norm(start))
    return MinimumNormUpdate(unflatten(jnp.asarray(weights)), chosen, losses, left_out, change, converged)


def _solve(
    K: np.ndarray, J: np.ndarray, start: np.ndarray, errors: Callable[[np.ndarray], np.ndarray], mu: float,
    at: tuple[np.ndarray, np.ndarray], steps: int, tolerance: float,
) -> tuple[np.ndarray, np.ndarray] | None:  # fmt: skip
    """α and r with r = μ α, from the (α, r) of another μ; None if the steps do not lead there."""
    alpha, r = at
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(steps):
        q = r - mu * alpha
        if np.linalg.norm(q) <= tolerance * np.linalg.norm(r):
            return alpha, r
        newton = np.linalg.solve(K + mu * np.eye(len(K)), q)
        history = [*history, (alpha, q)][-HISTORY:]
        combined, least = _combined(history)
        moves = [(1.0, newton * 0.5**k) for k in range(HALVINGS)]
        if len(history) > 1:  # may lead away for a step or two
            moves = [(10.0, combined - alpha + np.linalg.solve(K + mu * np.eye(len(K)), least)), *moves]
        for growth, move in moves:
            trial = alpha + move
            found = errors(start + J.T @ trial)
            if np.linalg.norm(found - mu * trial) < growth * np.linalg.norm(q):
                break
        else:
            return None
        alpha, r = trial, found
    return (alpha, r) if np.linalg.norm(r - mu * alpha) <= tolerance * np.linalg.norm(r) else None


def _combined(history: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Σ c (α, q) of the points with Σ c = 1 and the smallest |Σ c q|."""
    alpha, q = history[-1]
    if len(history) == 1:
        return alpha, q
    alphas, qs = (np.stack([h[k] - history[-1][k] for h in history[:-1]], axis=1) for k in (0, 1))
    c = np.linalg.lstsq(qs, -q, rcond=1e-10)[0]
    return alpha + alphas @ c, q + qs @ c


def _linear_loss(K: np.ndarray, r: np.ndarray, mu: float) -> float:
    """Σ r² at the minimum for μ, with r linear in θ: r = μ (K + μ)⁻¹ r(θ0)."""
    left = mu * np.linalg.solve(K + mu * np.eye(len(K)), r)
    return float(left @ left)


def _left_out(K: np.ndarray, r: np.ndarray, sizes: Sequence[int]) -> dict[float, float]:
    """Σ e_k² over the frames, each predicted from the others, for every one of `STRENGTHS`."""
    mean, stop, result = np.trace(K) / len(K), np.cumsum(sizes), dict.fromkeys(STRENGTHS, 0.0)
    for begin, end in zip(stop - np.asarray(sizes), stop, strict=True):
        others = np.concatenate([np.arange(begin), np.arange(end, len(r))])
        for strength in STRENGTHS:
            alpha = np.linalg.solve(K[np.ix_(others, others)] + strength * mean * np.eye(len(others)), r[others])
            result[strength] += float(np.sum((r[begin:end] - K[begin:end, others] @ alpha) ** 2))
    return result


def residual(energy: Energy, trained: Params, frozen: Params, frame: Frame) -> np.ndarray:
    """Scaled errors, target minus prediction: Σ residual² is `frame_loss`. Energy, forces, stress, those of weight 0 left out."""
    E, F, S = predict(energy, trained, frozen, frame.graph)
    parts = (frame.energy - E, frame.forces - F, frame.stress - S)
    return np.concatenate([
        f * np.ravel(np.asarray(x)) for f, x in zip(_factors(frame), parts, strict=True) if f > 0
    ])  # fmt: skip


def tangent(energy: Energy, trained: Params, frozen: Params, frame: Frame, chunk: int = 8) -> Array:
    """∂(prediction)/∂θ of a frame, scaled like `residual`: (R, P).

    Forces and stress are slopes of E, so their rows are slopes of ∂E/∂θ along displacements and strains, `chunk` of them at
    a time: a row costs about one evaluation of the forces.
    """
    graph = jax.tree.map(jnp.asarray, frame.graph)
    N, factors = graph.n_atoms, _factors(frame)
    none, still = np.zeros((0, N, 3)), np.zeros((0, 3, 3))
    rows = []
    if factors[0] > 0:
        rows.append(factors[0] * _slope(energy, trained, frozen, graph)[None])
    moves, strains = none, still
    if factors[1] > 0:
        moves, strains = -factors[1] * np.eye(3 * N).reshape(-1, N, 3), np.zeros((3 * N, 3, 3))
    if factors[2] > 0:
        volume = abs(np.linalg.det(np.asarray(frame.graph.cell)))
        both = np.eye(9).reshape(9, 3, 3) + np.eye(9).reshape(9, 3, 3).transpose(0, 2, 1)
        moves = np.concatenate([moves, np.zeros((9, N, 3))])
        strains = np.concatenate([strains, factors[2] * 0.5 * both / volume])
    count = len(moves)
    padding = -count % chunk
    moves, strains = (np.concatenate([x, np.zeros((padding, *x.shape[1:]))]) for x in (moves, strains))
    for begin in range(0, count, chunk):
        part = slice(begin, begin + chunk)
        rows.append(_changes(energy, trained, frozen, graph, moves[part], strains[part])[: count - begin])
    return jnp.concatenate(rows) if rows else jnp.zeros((0, ravel_pytree(trained)[0].size))


def _factors(frame: Frame) -> tuple[float, float, float]:
    """What errors of energy, forces and stress are multiplied by."""
    energy, forces, stress = (float(np.sqrt(w) / s) for w, s in zip(frame.weights, frame.scales, strict=True))
    N = frame.forces.shape[0]
    return energy / N, forces / (3 * N) ** 0.5, stress / 3


def _parameter_slope(energy: Energy, trained: Params, frozen: Params, graph: Graph) -> Array:
    def of(weights: Params) -> Array:
        return energy(weights if frozen is None else (weights, frozen), graph)

    return ravel_pytree(jax.grad(of)(trained))[0]


_slope = program(static=0)(_parameter_slope)


@program(static=0)
def _changes(
    energy: Energy, trained: Params, frozen: Params, graph: Graph, moves: Array, strains: Array
) -> Array:  # fmt: skip
    """∂/∂ε ∂E/∂θ along displacements (c, N, 3) and strains (c, 3, 3). (c, P)"""

    def slope(positions: Array, strain: Array) -> Array:
        return _parameter_slope(energy, trained, frozen, graph.at(positions).strained(strain))

    at = (graph.positions, jnp.zeros((3, 3)))
    return jax.vmap(lambda move, strain: jax.jvp(slope, at, (move, strain))[1])(moves, strains)


__all__ = [
    "STRENGTHS",
    "MinimumNormUpdate",
    "minimum_norm_update",
    "residual",
    "tangent",
]
