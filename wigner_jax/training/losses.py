"""What a potential is trained on: plain functions of arrays that return one number, to be weighted and added.

Every one is 0 where the prediction equals the target, and finite with a finite gradient for any finite prediction. Solver
quantities come from a `Solution`; energies, forces and stresses (for replay) from the potential itself. The exact SRE and
SRME are in metrics.py; they have a kink at their minimum, so that gradient descent needs the smooth forms here:

    |x| → √(x² + ε²) - ε      with ε a share of the mean |K_D|
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from .._core.pytree import Array


LOWEST = 1e-3  # of the target: below, logarithms go on along their tangent


def _mean(values: Array, weights: Array | None) -> Array:
    """Mean over all axes; `weights` (P,) belong to the axis before the last."""
    if weights is None:
        return jnp.mean(values)
    w = jnp.broadcast_to(jnp.asarray(weights, values.dtype)[:, None], values.shape)
    return jnp.sum(w * values) / jnp.sum(w)


def _log_ratio(value: Array, target: Array) -> Array:
    """ln(value/target), continued below LOWEST·target by its tangent there, so that it is defined for every value."""
    ratio = jnp.asarray(value) / jnp.asarray(target)
    above = ratio > LOWEST
    low = jnp.where(above, LOWEST, ratio)
    return jnp.where(above, jnp.log(jnp.where(above, ratio, 1.0)), jnp.log(LOWEST) + (low - LOWEST) / LOWEST)


def log_loss(value: Array, target: Array) -> Array:
    """⟨ln²(κ/κ_D)⟩, of conductivities or any other positive numbers."""
    return jnp.mean(_log_ratio(value, target) ** 2)


def relative_loss(value: Array, target: Array) -> Array:
    """⟨(κ/κ_D - 1)²⟩."""
    return jnp.mean((jnp.asarray(value) / jnp.asarray(target) - 1) ** 2)


def tensor_loss(kappa: Array, target: Array) -> Array:
    """⟨‖κ - κ_D‖²/‖κ_D‖²⟩, Frobenius norms of tensors in Voigt order (T, 6): off-diagonal elements count twice."""
    twice = jnp.array([1.0, 1, 1, 2, 2, 2])
    target = jnp.asarray(target)
    return jnp.mean(jnp.sum(twice * (kappa - target) ** 2, axis=-1) / jnp.sum(twice * target**2, axis=-1))


def experiment_loss(value: Array, measured: Array, error: Array) -> Array:
    """χ² per point, ⟨(κ(T) - κ_exp(T))²/σ(T)²⟩, of measured points with their error bars."""
    return jnp.mean(((jnp.asarray(value) - measured) / error) ** 2)


def smooth_sre(value: Array, target: Array, epsilon: float = 0.01) -> Array:
    """⟨2 (√((κ - κ_D)² + ε²κ_D²) - εκ_D)/(|κ| + κ_D)⟩; the SRE for ε = 0."""
    target = jnp.asarray(target)
    return jnp.mean(2 * _soft(jnp.asarray(value) - target, epsilon * target) / (jnp.abs(value) + target))


def smooth_srme(modes: Array, reference: Array, weights: Array, epsilon: float = 0.05) -> Array:
    """SRME with smooth absolute values, averaged over temperatures; ε is in units of the mean mode's |K_D|.

    Args:
        modes, reference: (..., P, m) with the star weights in them (metrics.mode_kappa).
        weights: (P,).
        epsilon: 0 gives the SRME itself, whose gradient does not vanish at the minimum.
    """
    modes, reference = jnp.asarray(modes), jnp.asarray(reference)
    total = jnp.sum(jnp.asarray(weights))
    scale = epsilon * jnp.mean(jnp.abs(reference), axis=(-2, -1), keepdims=True)
    error = jnp.sum(_soft(modes - reference, scale), axis=(-2, -1)) / total
    kappa = jnp.abs(jnp.sum(modes, axis=(-2, -1))) / total
    return jnp.mean(2 * error / (kappa + jnp.sum(reference, axis=(-2, -1)) / total))


def _soft(x: Array, width: Array | float) -> Array:
    """√(x² + ε²) - ε; |x| with a guarded derivative where ε = 0."""
    square = x**2 + jnp.asarray(width) ** 2
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0) - width


def frequency_loss(frequencies: Array, target: Array, weights: Array | None = None) -> Array:
    """⟨(f - f_D)²⟩/⟨f_D²⟩ over stars and bands. (P, m) THz, weights (P,)"""
    target = jnp.asarray(target)
    return _mean((frequencies - target) ** 2, weights) / _mean(target**2, weights)


def imaginary_penalty(frequencies: Array, floor: float = 0.0) -> Array:
    """⟨max(0, f_floor² - f|f|)⟩/THz²: how far squared frequencies are below a floor, linear in the eigenvalues.

    f|f| is the eigenvalue itself, smooth through 0: the penalty has a gradient where modes are imaginary, which nothing
    else has, because these do not conduct. Three acoustic modes at Γ below a positive floor add a constant.
    """
    f = jnp.asarray(frequencies)
    return jnp.mean(jnp.maximum(0.0, floor**2 - f * jnp.abs(f)))


def linewidth_loss(linewidths: Array, target: Array, weights: Array | None = None) -> Array:
    """⟨ln²(γ/γ_D)⟩ over the modes where γ_D > 0. (..., P, m) THz, weights (P,)"""
    target = jnp.asarray(target)
    alive = target > 0
    ratio = _log_ratio(jnp.where(alive, linewidths, 1.0), jnp.where(alive, target, 1.0))
    share = jnp.maximum(_mean(alive.astype(ratio.dtype), weights), 1e-12)
    return _mean(ratio**2, weights) / share


def heat_capacity_loss(heat_capacity: Array, target: Array, weights: Array) -> Array:
    """⟨(C/C_D - 1)²⟩ of the whole C_V at every temperature: (T, P, m), weights (P,)."""
    w = jnp.asarray(weights, float)[:, None]
    return relative_loss(jnp.sum(w * heat_capacity, axis=(-2, -1)), jnp.sum(w * jnp.asarray(target), axis=(-2, -1)))


def gruneisen_loss(gamma: Array, target: Array) -> Array:
    """⟨(γ - γ_D)²⟩/⟨γ_D²⟩ of Grüneisen parameters: γ(T), or those of all modes. They may be negative."""
    target = jnp.asarray(target)
    return jnp.mean((gamma - target) ** 2) / jnp.mean(target**2)


def energy_loss(energy: Array, target: Array, atoms: int, scale: float = 0.01) -> Array:
    """((E - E_D)/(N · scale))², scale in eV per atom."""
    return ((energy - target) / (atoms * scale)) ** 2


def force_loss(forces: Array, target: Array, scale: float = 0.05) -> Array:
    """⟨|F - F_D|²⟩/(3 scale²) over atoms (N, 3), scale in eV/Å."""
    return jnp.mean((forces - jnp.asarray(target)) ** 2) / scale**2


def stress_loss(stress: Array, target: Array, scale: float = 0.002) -> Array:
    """⟨(σ - σ_D)²⟩/scale² over the components (3, 3), scale in eV/Å³ (0.002 is 0.3 GPa)."""
    return jnp.mean((stress - jnp.asarray(target)) ** 2) / scale**2


def hessian_column_loss(column: Array, target: Array) -> Array:
    """‖Φu - (Φu)_D‖²/‖(Φu)_D‖² of Hessian–vector products, columns of Φ2 for instance. (N, 3) eV/Å²"""
    target = jnp.asarray(target)
    return jnp.sum((column - target) ** 2) / jnp.sum(target**2)


__all__ = [
    "energy_loss",
    "experiment_loss",
    "force_loss",
    "frequency_loss",
    "gruneisen_loss",
    "heat_capacity_loss",
    "hessian_column_loss",
    "imaginary_penalty",
    "linewidth_loss",
    "log_loss",
    "relative_loss",
    "smooth_sre",
    "smooth_srme",
    "stress_loss",
    "tensor_loss",
]
