"""Checks of what users hand over; every one raises `InputError` with one line: what was found, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import jax.numpy as jnp
import numpy as np

from ._core.as_numbers import as_numbers
from .errors import ImaginaryModes, InputError, say
from .types import Precision, Transport
from .units import CUTOFF_FREQUENCY, K_B

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._core.pytree import Array
    from .types import Conductivity, Mesh, Phonons

NO_CONDUCTIVITY = 1e-9  # W/(m K), and k_B for a heat capacity
BEYOND_NATURE = 200.0  # THz: the stretching of H2 has 125
NO_VELOCITY = 1e-6  # THz Å; sound has 20 to 200


def require_double_precision() -> None:
    """Raises ValueError if JAX computes in single precision, which it does unless told otherwise."""
    if jnp.zeros(()).dtype != jnp.float64:
        raise ValueError('double precision is off: run jax.config.update("jax_enable_x64", True) before anything else')


def check_precision(precision: str) -> None:
    """Raises InputError unless it is one of `Precision`."""
    if precision not in get_args(Precision):
        raise InputError(f"precision is {precision!r}", f"choose from {', '.join(get_args(Precision))}")


def check_transport(transport: str, memory: float) -> None:
    """Raises InputError unless it is one of `Transport`, and the limit a number of bytes."""
    if transport not in get_args(Transport):
        raise InputError(f"transport is {transport!r}", f"choose from {', '.join(get_args(Transport))}")
    if isinstance(memory, bool) or not isinstance(memory, (int, float)) or not memory >= 0:
        raise InputError(f"memory is {memory!r}", "give a number of bytes, such as 4e9")


def positive_integers(values: Sequence, name: str) -> tuple[int, ...]:
    """Three positive integers from as many numbers; raises InputError."""
    try:
        array = as_numbers(values).ravel()
    except ValueError:
        array = np.empty(0)
    if len(array) != 3 or not np.isfinite(array).all() or np.any(array != np.rint(array)) or np.any(array < 1):
        given = " ".join(str(v) for v in np.asarray(values).ravel())
        example = "2 2 2" if "supercell" in name else "11 11 11"
        raise InputError(f"{name} must be 3 positive integers, got {given!r}", f"give for example {name} {example}")
    return tuple(int(v) for v in array)


COLDEST = 1e-3  # K: below, occupations of all modes of any mesh underflow


def temperatures_above_zero(values: Sequence[float]) -> tuple[float, ...]:
    """Temperatures in K; raises InputError unless all are finite and positive."""
    if bad := [v for v in values if not (np.isfinite(v) and v > 0)]:
        raise InputError(
            f"temperatures must be above 0 K, got {bad[0]:g}: the conductivity diverges or is undefined there"
        )
    if bad := [v for v in values if v < COLDEST]:
        raise InputError(f"temperatures must be at least {COLDEST:g} K, got {bad[0]:g}")
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


def say_if_nothing_carries(conductivity: Conductivity, phonons: Phonons) -> None:
    """Warns with the reason where κ vanishes: a 0 among results looks like one.

    Warns:
        AccuracyWarning: no mode is excited, or no mode has a velocity, at temperatures whose κ, or κ_P alone, is below
            1e-9 W/(m K).
    """
    largest = np.abs(np.asarray(conductivity.kappa_TOT)).max(axis=1)
    nothing = largest < NO_CONDUCTIVITY
    standing = ~nothing & (np.abs(np.asarray(conductivity.kappa_P)).max(axis=1) < NO_CONDUCTIVITY)
    if standing.any():
        T = ", ".join(f"{t:g}" for t in np.asarray(conductivity.temperatures)[standing])
        say(
            f"κ_P is zero at {T} K, κ_C is not: velocities vanish at every point of this mesh, by symmetry where it has one"
            " or two points along each vector; take a finer mesh"
        )
    if not nothing.any():
        return
    T = ", ".join(f"{t:g}" for t in np.asarray(conductivity.temperatures)[nothing])
    velocities = np.abs(np.diagonal(np.asarray(phonons.velocity_operator), axis1=1, axis2=2)).max()
    capacity = np.asarray(conductivity.heat_capacity)[nothing].max() / K_B
    if not np.any(np.asarray(phonons.frequencies) > CUTOFF_FREQUENCY):
        why = "every mode is imaginary, or nothing holds the atoms"
    elif capacity < NO_CONDUCTIVITY:
        why = "no mode of the mesh is excited there: take a finer mesh"
    elif velocities < NO_VELOCITY:
        why = (
            "no mode of the mesh has a velocity: on one or two points along each vector they vanish by symmetry; on a finer"
            " mesh neighbouring cells do not interact (a molecule in a box?)"
        )
    else:
        why = "modes that have a velocity are not excited, or scatter without limit"
    say(f"κ is zero at {T} K: {why}")


def can_name_a_file(text: str) -> bool:
    """Whether records can be called by a name: printable, in one folder, and not the folder itself or the one above."""
    return bool(text) and text not in (".", "..") and text.isprintable() and not set(text) & set("/\\")


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
    worst = float(np.asarray(frequencies)[q, s])
    message = f"imaginary modes: {len(found)} of {np.size(frequencies)}, the worst {worst:{'.3f' if worst > -1e4 else '.3g'}} THz at q = ({where})"
    if worst < -BEYOND_NATURE:
        raise ImaginaryModes(
            message, "no crystal has such frequencies: check the units of masses, force constants and charges"
        )
    raise ImaginaryModes(
        message,
        "relax the structure, check the force constants and Born charges, enlarge the supercell, or allow imaginary modes",
    )
