"""Which modes take part in transport and scattering."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..units import CUTOFF_FREQUENCY, LEAST_LINEWIDTH

if TYPE_CHECKING:
    from .._core.pytree import Array


def takes_part(frequencies: Array) -> Array:
    """False for modes below CUTOFF_FREQUENCY: the acoustic ones at Γ, and imaginary ones. (...) THz → (...) bool

    NaN takes part: it spreads into everything that is computed from it, where leaving it out would hide it.
    """
    return ~(frequencies <= CUTOFF_FREQUENCY)


def is_scattered(linewidths: Array) -> Array:
    """False for modes that nothing scatters: half widths of no more than LEAST_LINEWIDTH, such as 3e-45 THz for atoms that fell
    onto each other. They are left out: v²/γ of rounding errors is any number. (...) THz → (...) bool; True for NaN, as above.
    """
    return ~(linewidths <= LEAST_LINEWIDTH)
