"""Masses and mass variances of isotopic mixtures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from .._core.as_numbers import as_numbers
from ..errors import InputError
from .elements import ELEMENTS, SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..types import Crystal

COMPLETE = 0.01  # abundances must sum to 1 within this; they are divided by their sum
HEAVIEST = 1e6  # amu
EXAMPLE = "give for example Si=27.9769:0.95,28.9765:0.05, or C=12 for one isotope"


def isotope_mixture(masses: Sequence[float], abundances: Sequence[float]) -> tuple[float, float]:
    """m̄ = Σ c_i m_i and g = Σ c_i (1 - m_i/m̄)² (S. Tamura, Phys. Rev. B 27, 858 (1983)).

    Args:
        masses: amu.
        abundances: c_i, of sum 1 within 0.01; divided by their sum.

    Returns:
        (mean mass in amu, mass variance).

    Raises:
        InputError: masses that are not above 0, abundances below 0 or whose sum is not 1, or not as many.
    """
    m, c = (np.atleast_1d(as_numbers(x)).astype(float) for x in (masses, abundances))
    if m.shape != c.shape or m.ndim != 1 or not len(m):
        raise InputError(f"{m.size} masses and {c.size} abundances", "give one abundance for every mass")
    if not np.all((m > 0) & (m < HEAVIEST)):
        raise InputError(f"masses of isotopes must be above 0 and below {HEAVIEST:g} amu", EXAMPLE)
    if not np.all(np.isfinite(c) & (c >= 0)) or not abs(c.sum() - 1) <= COMPLETE:
        raise InputError(f"abundances sum to {c.sum():g}", "they must not be negative, and sum to 1")
    c = c / c.sum()
    mean = float(c @ m)
    return mean, float(c @ (1 - m / mean) ** 2)


def mixtures(words: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Mean mass and mass variance by element from words like ``Si=27.9769:0.95,28.9765:0.05``; raises InputError."""
    found = {}
    for word in words:
        symbol, equals, parts = word.partition("=")
        pairs = [part.split(":") for part in parts.split(",")]
        try:
            numbers = [tuple(float(x) for x in pair) for pair in pairs]
        except ValueError:
            numbers = []
        sizes = {len(pair) for pair in numbers}
        if symbol not in ELEMENTS or not equals or sizes not in ({1}, {2}) or (sizes == {1} and len(numbers) > 1):
            raise InputError(f"--isotopes {word}: not ELEMENT=MASS:ABUNDANCE,...", EXAMPLE)
        if symbol in found:
            raise InputError(f"--isotopes names {symbol} twice", "list all its isotopes in one word")
        found[symbol] = isotope_mixture([p[0] for p in numbers], [p[1] if len(p) == 2 else 1.0 for p in numbers])
    return found


def with_isotopes(
    crystal: Crystal, variances: np.ndarray, found: Mapping[str, tuple[float, float]]
) -> tuple[Crystal, np.ndarray]:
    """The crystal with the masses of mixtures, and the mass variances (n,) of all atoms.

    Args:
        variances: of the atoms that no mixture names, (n,).

    Raises:
        InputError: an element that the crystal does not hold.
    """
    require_elements(found, crystal.numbers)
    symbols = [SYMBOLS[int(z)] for z in crystal.numbers]
    masses, variances = np.array(crystal.masses, float), np.array(variances, float)
    for k, symbol in enumerate(symbols):
        if symbol in found:
            masses[k], variances[k] = found[symbol]
    return dataclasses.replace(crystal, masses=masses), variances


def require_elements(found: Mapping[str, tuple[float, float]], numbers: Sequence[int]) -> None:
    """Raises InputError where a mixture is of an element that is not among the atomic numbers."""
    symbols = {SYMBOLS[int(z)] for z in numbers}
    if missing := sorted(set(found) - symbols):
        raise InputError(
            f"--isotopes names {missing[0]}, which the crystal does not hold",
            f"it has {', '.join(sorted(symbols))}",
        )


__all__ = ["isotope_mixture", "mixtures", "require_elements", "with_isotopes"]
