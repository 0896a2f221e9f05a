"""What a structure has and the work with a potential has not: moments; symmetry lost in noise, put back on request."""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, say
from ..types import Crystal
from .elements import masses_of
from .symmetry import SYMPREC, operations_found, space_group, symmetrized

if TYPE_CHECKING:
    import ase

LOOSER = (1e-4, 1e-3, 1e-2)  # Å, at which a structure is looked at again
LOOSEST = 0.5  # Å


def snapped(atoms: ase.Atoms, symprec: float | None = None) -> ase.Atoms:
    """A structure on the space group that it has within `symprec` Å, to machine precision.

    Args:
        symprec: Å, 1e-5 or more; None leaves the structure as it is, and says if a looser tolerance finds more symmetry.

    Returns:
        `atoms`, or a copy with cell and positions moved.

    Warns:
        AccuracyWarning: how far atoms were moved; or which tolerance finds more symmetry; magnetic moments.

    Raises:
        InputError: a tolerance out of range, or one at which the operations found form no group.
    """
    _say_moments(atoms)
    kinds = tuple(int(z) for z in atoms.numbers)
    masses = atoms.get_masses() if atoms.has("masses") else masses_of(kinds)
    crystal = Crystal(np.asarray(atoms.cell), atoms.get_scaled_positions(wrap=False), masses, kinds)
    if symprec is None:
        say_lost(crystal)
        return atoms
    if not (isinstance(symprec, numbers.Real) and SYMPREC <= symprec <= LOOSEST):
        value = f"{symprec:g} Å" if isinstance(symprec, numbers.Real) else repr(symprec)
        raise InputError(f"symprec is {value}", f"give a tolerance from {SYMPREC:g} to {LOOSEST:g} Å")
    group = space_group(crystal, symprec)
    exact = symmetrized(crystal, group)
    after = space_group(exact)
    if after.number != group.number or len(after.rotations) != len(group.rotations):
        raise InputError(
            f"a tolerance of {symprec:g} Å finds {group.international} with operations that do not fit together",
            "give a smaller one",
        )
    result = atoms.copy()
    result.set_cell(exact.lattice)
    result.positions[:] = np.asarray(exact.positions) @ exact.lattice
    say_moved(crystal, exact, symprec)
    return result


def say_moved(before: Crystal, after: Crystal, symprec: float) -> None:
    """Warns if a crystal was moved onto its space group by more than rounding."""
    moved = max(
        np.linalg.norm((after.positions - before.positions) @ after.lattice, axis=1).max(),
        np.abs(after.lattice - before.lattice).max(),
    )
    if moved > SYMPREC:
        group = space_group(after)
        message = (
            f"the structure is {group.international} ({len(group.rotations)} operations) within {symprec:g} Å; cell and"
            f" atoms are moved by up to {moved:.1g} Å onto it"
        )
        say(message)


def say_lost(crystal: Crystal) -> None:
    """Warns if a looser tolerance finds more operations than the default one."""
    default = best = operations_found(crystal, SYMPREC)
    tolerance = SYMPREC
    for looser in LOOSER:
        found = operations_found(crystal, looser)
        if found[0] > best[0]:
            best, tolerance = found, looser
    if tolerance == SYMPREC:
        return
    message = (
        f"the structure is {default[1]} within {SYMPREC:g} Å, but {best[1]} within {tolerance:g} Å"
        f" ({best[0]} operations instead of {default[0]}): if the difference is noise, symprec {tolerance:g} removes it and makes the work much less"
    )
    say(message)


def _say_moments(atoms: ase.Atoms) -> None:
    """Warns of magnetic moments, which a potential does not know."""
    if atoms.has("initial_magmoms") and np.any(atoms.get_initial_magnetic_moments()):
        message = "the structure has magnetic moments, which no potential here knows: they are ignored"
        say(message)


__all__ = ["say_lost", "say_moved", "snapped"]
