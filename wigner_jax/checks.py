"""Checks of what users hand over; every one raises `InputError` with one line: what was found, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from .errors import ImaginaryModes, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._core.pytree import Array
    from .types import ForceConstants, Mesh, Supercells


#: Force constants whose sums over the last atom exceed this share of the largest element are refused. Unsymmetrised
#: DFT sets stay below 0.03; a file read in the wrong units or for another cell is near 1.
SUM_RULE_TOLERANCE = 0.1


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
            f"{name} holds {int(bad.sum())} non-finite numbers (first at index {where})", "make the file anew"
        )


def check_force_constants(
    supercells: Supercells, fc: ForceConstants, tolerance: float = SUM_RULE_TOLERANCE
) -> tuple[float, float]:
    """Refuse force constants that cannot belong to the cells: shapes, non-finite numbers, broken sum rules.

    A rigid shift costs no energy: Σ_J Φ2[i, J] = 0 and Σ_K Φ3[i, J, K] = 0. Small residues are normal (files of the
    field have them); a gross one says that the file belongs to another cell, or is damaged.

    Returns:
        The residues, relative to the largest element of Φ2 and of Φ3.
    """
    second, third = np.asarray(fc.fc2), np.asarray(fc.fc3)
    n, N2, N3 = supercells.crystal.n_atoms, supercells.fc2_supercell.n_atoms, supercells.fc3_supercell.n_atoms
    for array, shape, name in ((second, (n, N2, 3, 3), "Φ2"), (third, (n, N3, N3, 3, 3, 3), "Φ3")):
        if array.shape != shape:
            raise InputError(
                f"{name} has shape {array.shape} where the cells need {shape}", "check which supercell it is for"
            )
        require_finite(array, name)
    residues = []
    for array, sums, name in ((second, second.sum(axis=1), "Φ2"), (third, third.sum(axis=2), "Φ3")):
        largest = float(np.abs(array).max())
        if largest == 0:
            raise InputError(f"{name} is zero everywhere: the file holds no force constants")
        residue = float(np.abs(sums).max()) / largest
        if residue > tolerance:
            raise InputError(
                f"{name} breaks the acoustic sum rule by {100 * residue:.0f} % of its largest element: the force"
                " constants are damaged or belong to another supercell",
                "make them anew, symmetrised",
            )
        residues.append(residue)
    return residues[0], residues[1]


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
