"""Checks of what users hand over; every one raises `InputError` with one line: what was found, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from .errors import ImaginaryModes, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._core.pytree import Array
    from .types import Mesh


def require_double_precision() -> None:
    """Raises ValueError if JAX computes in single precision, which it does unless told otherwise."""
    if jnp.zeros(()).dtype != jnp.float64:
        raise ValueError('double precision is off: run jax.config.update("jax_enable_x64", True) before anything else')


def positive_integers(values: Sequence, name: str, count: int = 3) -> tuple[int, ...]:
    """`count` positive integers from as many numbers; raises InputError."""
    try:
        array = np.asarray(values, dtype=float).ravel()
    except (TypeError, ValueError):
        array = np.empty(0)
    if len(array) != count or not np.isfinite(array).all() or np.any(array != np.rint(array)) or np.any(array < 1):
        given = " ".join(str(v) for v in np.asarray(values).ravel())
        raise InputError(
            f"{name} must be {count} positive integers, got {given!r}", f"give for example {name} 11 11 11"
        )
    return tuple(int(v) for v in array)


def temperatures_above_zero(values: Sequence[float]) -> tuple[float, ...]:
    """Temperatures in K; raises InputError unless all are finite and positive."""
    if bad := [v for v in values if not (np.isfinite(v) and v > 0)]:
        raise InputError(
            f"temperatures must be above 0 K, got {bad[0]:g}: the conductivity diverges or is undefined there"
        )
    if len(values) == 0:
        raise InputError("no temperature was given", "name at least one, in K")
    return tuple(float(v) for v in values)


def require_finite(array: Array, name: str) -> None:
    """Raises InputError if any element is NaN or infinite, with where the first one is."""
    bad = ~np.isfinite(np.asarray(array))
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{name} holds {int(bad.sum())} non-finite numbers (first at index {where})", "check what it was made from"
        )


def imaginary_modes(mesh: Mesh, frequencies: Array, tolerance: float = 0.01) -> np.ndarray:
    """(point, mode) of every imaginary mode: negative frequencies, save acoustic ones at Γ above -`tolerance` THz.

    Args:
        frequencies: (Q, m) THz on the full mesh; imaginary ones are negative.

    Returns:
        (count, 2) int, the most imaginary first.
    """
    f = np.asarray(frequencies)
    bad = f < -1e-4
    gamma = np.flatnonzero(np.all(np.asarray(mesh.qpoints) == 0, axis=1))
    bad[gamma, :3] &= f[gamma, :3] < -tolerance
    found = np.argwhere(bad)
    return found[np.argsort(f[bad], kind="stable")]


def refuse_imaginary(mesh: Mesh, frequencies: Array) -> None:
    """Raises ImaginaryModes, naming the worst mode, if there are any."""
    found = imaginary_modes(mesh, frequencies)
    if len(found) == 0:
        return
    q, s = found[0]
    where = " ".join(f"{x:.4g}" for x in np.asarray(mesh.qpoints)[q])
    raise ImaginaryModes(
        f"imaginary modes: {len(found)} of {np.size(frequencies)}, the worst {np.asarray(frequencies)[q, s]:.3f} THz at"
        f" q = ({where})",
        "relax the structure, check the force constants, enlarge the supercell, or allow imaginary modes",
    )
