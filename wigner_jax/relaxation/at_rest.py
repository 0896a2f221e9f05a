"""How far from rest a crystal is that was not relaxed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, PropertyNotImplementedError

from ..errors import say
from ..ifc.batched_forces import speaking_for
from ..potentials.base import Potential

if TYPE_CHECKING:
    import ase

STRESSED = 1.0  # GPa; relaxations leave thousandths
AT_REST = 0.01  # eV/Å, largest component of a force that relaxations of the field leave


def forces_left(atoms: ase.Atoms, model: Potential | Any) -> tuple[float, float]:
    """Largest components of the forces (eV/Å) and of the stress (GPa); NaN where the model does not say.

    Warns:
        AccuracyWarning: forces above 0.01 eV/Å, about which phonons are no expansion around a minimum; stress above 1 GPa.
    """
    if isinstance(model, Potential):
        from ..potentials.calculator import WignerCalculator

        model = WignerCalculator(model)
    if not isinstance(model, Calculator):  # a pool of processes has forces of many structures alone
        return float("nan"), float("nan")
    found = atoms.copy()
    found.calc = model
    with speaking_for(model):
        force = float(np.abs(found.get_forces()).max())
    try:
        stress = float(np.abs(found.get_stress()).max()) / units.GPa
    except (NotImplementedError, PropertyNotImplementedError):
        stress = float("nan")
    if force > AT_REST:
        say(
            f"forces of up to {force:.3g} eV/Å act on the atoms: phonons are expansions around a minimum, so relax them"
        )
    if stress > STRESSED:
        say(
            f"the crystal is under a stress of up to {stress:.3g} GPa, and is not relaxed: κ is that of the strained crystal"
        )
    return force, stress


__all__ = ["forces_left"]
