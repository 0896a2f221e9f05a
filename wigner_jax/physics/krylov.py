"""Conjugate gradients for symmetric systems, with what they say of the operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

CONVERGED, NEGATIVE, UNFINISHED = "converged", "negative curvature", "not converged"


class Solved(NamedTuple):
    """How an iteration ended.

    Attributes:
        x: (n,) the last iterate.
        residual: ‖b - A x‖/‖b‖, in the norm of D⁻¹.
        iterations: applications of A.
        status: "converged", "negative curvature" (x is the iterate before it was met) or "not converged".
        lowest: the lowest Ritz value of D⁻¹A in the space that was searched: an upper bound of its lowest eigenvalue.
    """

    x: np.ndarray
    residual: float
    iterations: int
    status: str
    lowest: float


def conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray], b: np.ndarray, diagonal: np.ndarray, tolerance: float, most: int
) -> Solved:
    """A x = b with a symmetric A and its positive diagonal D as preconditioner.

    Args:
        apply: x → A x.
        tolerance: of the residual.
        most: iterations.
    """
    x = np.zeros_like(b)
    r = b.copy()
    z = r / diagonal
    p, rho = z.copy(), float(r @ z)
    start = rho
    alphas: list[float] = []
    betas: list[float] = []
    status = CONVERGED if start == 0 else UNFINISHED
    while status == UNFINISHED and len(alphas) < most:
        Ap = apply(p)
        curvature = float(p @ Ap)
        if not np.isfinite(curvature):
            break
        if curvature <= 0:
            status = NEGATIVE
            break
        alpha = rho / curvature
        x, r = x + alpha * p, r - alpha * Ap
        z = r / diagonal
        rho, before = float(r @ z), rho
        alphas.append(alpha)
        if rho <= tolerance**2 * start:
            status = CONVERGED
            break
        betas.append(rho / before)
        p = z + betas[-1] * p
    residual = float(np.sqrt(rho / start)) if start else 0.0
    return Solved(x, residual, len(alphas), status, _lowest(alphas, betas))


def _lowest(alphas: list[float], betas: list[float]) -> float:
    """The lowest eigenvalue of the tridiagonal matrix that the coefficients of the iteration make (Lanczos)."""
    k = len(alphas)
    if k == 0:
        return float("nan")
    a, b = np.array(alphas), np.array(betas[: k - 1])
    diagonal = 1 / a
    diagonal[1:] += b / a[:-1]
    off = np.sqrt(b) / a[:-1]
    return float(np.linalg.eigvalsh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))[0])


__all__ = ["CONVERGED", "NEGATIVE", "UNFINISHED", "Solved", "conjugate_gradients"]
