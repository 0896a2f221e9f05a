"""Units of phonopy's and phono3py's files, which are those of the calculator that made the forces.

A yaml names the calculator (nothing means VASP: eV and Å), and newer ones also the units themselves (`physical_unit`).
The units of each calculator are phonopy's own table, so that phonopy has to be installed for others than eV and Å.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import InputError
from ..units import BOHR, HARTREE

if TYPE_CHECKING:
    from pathlib import Path

#: calculators of eV and Å, as phonopy.physical_units has them
EV_ANGSTROM = (None, "vasp", "aims", "lammps", "pwmat", "crystal", "castep")
_ENERGIES = {
    "ev": 1.0,
    "hartree": HARTREE,
    "ha": HARTREE,
    "ry": HARTREE / 2,
    "rydberg": HARTREE / 2,
    "mry": HARTREE / 2e3,
}
_LENGTHS = {"angstrom": 1.0, "ang": 1.0, "å": 1.0, "au": BOHR, "a.u.": BOHR, "bohr": BOHR, "nm": 10.0}


class Units(NamedTuple):
    """What numbers of a file are multiplied by. Force constants are forces over lengths, of either order."""

    length: float  #: Å
    fc2: float  #: eV/Å²

    @property
    def fc3(self) -> float:
        """eV/Å³"""
        return self.fc2 / self.length

    @property
    def nac(self) -> float:
        """eV Å: a unit factor of Born charges is an energy times a length, written as fc2 · length³."""
        return self.fc2 * self.length**3


def units_of(data: dict[str, Any], path: Path) -> Units:
    """The units of a yaml: its `physical_unit` where it has one, else its calculator's.

    Raises:
        InputError: a unit or a calculator that is not known, masses that are not in amu, or phonopy is missing.
    """
    given = data.get("physical_unit") or {}
    if not isinstance(given, dict):
        raise InputError(f"physical_unit of {path} is {str(given)[:40]!r}", "it must be a table of units by name")
    if str(given.get("atomic_mass", "amu")).lower() not in ("amu", "u", "dalton"):
        raise InputError(f"{path} has masses in {given['atomic_mass']!r}", "they must be in AMU")
    calculator = _calculator_of(data)
    length = str(given["length"] if "length" in given else _words_of(calculator, path)[0]).lower()
    if length not in _LENGTHS:
        raise InputError(f"{path} is in length unit {length!r}, which is not known", "convert it to Å with phono3py")
    Å = _LENGTHS[length]
    if "force_constants" in given:
        return Units(Å, conversion(str(given["force_constants"]), 2, path))
    if "force" in given:
        return Units(Å, conversion(str(given["force"]), 1, path) / Å)
    if calculator is None and Å != 1:
        raise InputError(f"{path} is in {length} but names no unit of force", "name one under physical_unit: force")
    return Units(Å, conversion(_words_of(calculator, path)[1], 1, path) / Å)


def conversion(unit: str, power: int, where: Path | str) -> float:
    """What a number in `unit`, an energy over `power` lengths such as "mRy/au^2" or "eV/angstrom.au", is in eV and Å.

    Raises:
        InputError: a unit that is not known.
    """
    energy, _, lengths = unit.strip().strip("\"'").partition("/")
    factor, found = _ENERGIES.get(energy.strip().lower(), float("nan")), 0
    for name, times in re.findall(r"(a\.u\.|[^\W\d_]+)\^?(\d*)", lengths.lower()):
        factor /= _LENGTHS.get(name, float("nan")) ** int(times or 1)
        found += int(times or 1)
    if found != power or not factor > 0:
        raise InputError(f"{where} has the unit {unit!r}, which is not known", "convert it to eV and Å with phono3py")
    return factor


def _calculator_of(data: dict[str, Any]) -> str | None:
    for block in (data.get("phono3py"), data.get("phonopy"), data):
        if isinstance(block, dict) and block.get("calculator") is not None:
            return str(block["calculator"]).lower()
    return None


def _words_of(calculator: str | None, path: Path) -> tuple[str, str]:
    """The names of a calculator's units of length and force."""
    if calculator in EV_ANGSTROM:
        return "angstrom", "eV/angstrom"
    try:
        from phonopy.physical_units import get_calculator_physical_units
    except ImportError:
        raise InputError(
            f"{path} is in the units of {calculator}, which phonopy knows", "pip install 'wigner-jax[phono3py]'"
        ) from None
    try:
        units = get_calculator_physical_units(calculator)
    except ValueError:
        raise InputError(
            f"{path} names the calculator {calculator!r}, whose units phonopy does not know",
            "convert it to eV and Å with phono3py, or name its units under physical_unit",
        ) from None
    return units.length_unit, units.force_unit


__all__ = ["Units", "conversion", "units_of"]
