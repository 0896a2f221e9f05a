"""Born effective charges and the dielectric tensor: phonopy's BORN file and the nac block of its yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.reading import reads
from ..crystal.symmetry import SYMPREC, space_group
from ..errors import InputError, say
from ..plan.dipoles import require_charges
from ..types import BornCharges, Crystal

if TYPE_CHECKING:
    from pathlib import Path


NAC_FACTOR = 14.39965172592227  # e²/(4πε0) in eV Å, phonopy's value for VASP units
FACTOR_TOLERANCE = 0.01  # relative; 14.4 is 2e-5 off


@reads("a BORN file")
def read_born(path: str | Path, crystal: Crystal, symprec: float = SYMPREC, unit: float = 1.0) -> BornCharges:
    """Read phonopy's BORN file.

    Line 1 is the unit factor (anything that is not a number means e²/4πε0), line 2 the dielectric tensor, then
    one line of nine numbers for each symmetry-independent atom of the primitive cell in its order; charges of all atoms
    are accepted too. Charges of the other atoms follow by the space group: Z[g(i)] = R Z[i] R^T. The values themselves
    are taken as they are, as phonopy does.

    Args:
        unit: eV Å of the unit factor, `Units.nac` of the calculator that the force constants are from.

    Warns:
        AccuracyWarning: the unit factor is not e²/4πε0.

    Raises:
        InputError: not a BORN file, a wrong number of atoms, or what `require_charges` refuses.
    """
    tensors, word = born_tensors(path)
    charges = _expand(tensors[1:], crystal, symprec, path)
    return _checked(charges, tensors[0], None if word is None else word * unit, path)


def born_tensors(path: str | Path) -> tuple[np.ndarray, float | None]:
    """The dielectric tensor and the charges of a BORN file as they stand, (1 + atoms, 3, 3), and its unit factor."""
    try:
        with open(path) as file:
            lines = [line.split("#")[0].split() for line in file]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read the BORN file {path}: {getattr(error, 'strerror', None) or 'it is not text'}"
        ) from error
    while lines and not lines[-1]:
        lines.pop()
    try:
        rows = np.array([[float(x) for x in line] for line in lines[1:]])
        if rows.ndim != 2 or rows.shape[1] != 9 or len(rows) < 2 or not np.isfinite(rows).all():
            raise ValueError
    except ValueError:
        raise InputError(
            f"{path} is not a BORN file: after the first line (unit factor) it needs lines of nine numbers,"
            " the dielectric tensor and the Born charges of the independent atoms"
        ) from None
    return rows.reshape(-1, 3, 3), _factor(lines[0])


def _factor(words: list[str]) -> float | None:
    try:
        return float(words[0].lower().replace("d", "e"))
    except (IndexError, ValueError):
        return None


def _checked(charges: np.ndarray, dielectric: np.ndarray, factor: float | None, where: str | Path) -> BornCharges:
    """Charges that `require_charges` accepts; the factor is said where it is not e²/4πε0, which it always is in nature."""
    born = BornCharges(charges, dielectric, np.array(NAC_FACTOR if factor is None else factor))
    require_charges(born, str(where))
    if not abs(float(born.factor) / NAC_FACTOR - 1) < FACTOR_TOLERANCE:
        message = (
            f"{where} has a unit factor of {float(born.factor):.4g} eV Å for the Born charges, where e²/4πε0 is"
            f" {NAC_FACTOR:.2f}: the correction is {float(born.factor) / NAC_FACTOR:.3g} times that of nature"
        )
        say(message)
    return born


def _expand(charges: np.ndarray, crystal: Crystal, symprec: float, path: str | Path) -> np.ndarray:
    """Charges of all primitive atoms from those of the independent ones, (n, 3, 3)."""
    n = crystal.n_atoms
    group = space_group(crystal, symprec)
    representative = group.permutations.min(axis=0)  # the lowest atom of each orbit, phonopy's choice
    independent = np.unique(representative)
    if len(charges) == n:
        return charges
    if len(charges) != len(independent):
        wanted = ", ".join(str(i + 1) for i in independent)
        raise InputError(
            f"{path} has Born charges of {len(charges)} atoms where the primitive cell has {len(independent)}"
            f" independent atoms of {n}",
            f"give one line for each of the atoms {wanted}",
        )
    lattice = np.asarray(crystal.lattice)
    expanded = np.empty((n, 3, 3))
    for i in range(n):
        g = int(np.flatnonzero(group.permutations[:, representative[i]] == i)[0])
        R = lattice.T @ group.rotations[g] @ np.linalg.inv(lattice.T)
        expanded[i] = R @ charges[np.searchsorted(independent, representative[i])] @ R.T
    return expanded


def born_from_yaml(data: dict[str, Any], n: int, path: str | Path, unit: float = 1.0) -> BornCharges | None:
    """The nac block of a phono3py yaml (or the same keys at its top level, as older versions wrote), or None.

    Arguments, warnings and errors are those of `read_born`.
    """
    block = data.get("nac") or data
    if "born_effective_charge" not in block or "dielectric_constant" not in block:
        return None
    try:
        charges = np.array(block["born_effective_charge"], dtype=float).reshape(n, 3, 3)
        dielectric = np.array(block["dielectric_constant"], dtype=float).reshape(3, 3)
        factor = block.get("unit_conversion_factor", (data.get("phono3py") or {}).get("nac_unit_conversion_factor"))
        factor = None if factor is None else float(factor) * unit
    except (AttributeError, TypeError, ValueError):
        raise InputError(
            f"the Born charges in {path} are not {n} tensors and a dielectric tensor", "check its nac block"
        ) from None
    return _checked(charges, dielectric, factor, path)
