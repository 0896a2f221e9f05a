"""What a record was made from, by fingerprints: a campaign goes on only with the same contents, whatever files are called."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.fingerprint import fingerprint, fingerprint_of_file
from ..ifc.calculator_pool import CalculatorPool
from ..ifc.torch_sim_calculator import TorchSimCalculator
from ..potentials.base import Potential
from ..potentials.registry import path_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ase
    from ase.calculators.calculator import Calculator

    from ..reference import Reference
    from .settings import EvaluationSettings

    #: fingerprints by what they are of, in words for people
    Contents = Mapping[str, str]


POTENTIAL, STRUCTURE, REFERENCE, SETTINGS = "the potential", "the structure", "the reference", "the settings"
NAMES = ("potential", "gruneisen_reference")  # of files in the settings: contents count, names do not
GEOMETRY = ("fc2_supercell", "fc3_supercell", "q_mesh", "primitive_matrix")  # in the info of a structure


def contents_of(
    potential: str, settings: EvaluationSettings, atoms: ase.Atoms, reference: Reference, gamma: float | None = None
) -> Contents:
    """Everything that decides the record of one material.

    Args:
        potential: `potential_contents`, the same for all materials.
        gamma: published Grüneisen parameter, if there is one.
    """
    chosen = {k: v for k, v in dataclasses.asdict(settings).items() if k not in NAMES}
    cell = [atoms.numbers, atoms.cell.array, atoms.positions, atoms.get_masses()]
    cell += [np.asarray(atoms.info[k], float) for k in GEOMETRY if k in atoms.info]
    known = dataclasses.asdict(reference)
    arrays = [np.asarray(known[k]) for k in sorted(known) if k not in ("mp_id", "name")]
    return {
        POTENTIAL: potential,
        STRUCTURE: fingerprint(cell),
        REFERENCE: fingerprint([*arrays, np.asarray(np.nan if gamma is None else gamma)]),
        SETTINGS: fingerprint(np.frombuffer(json.dumps(chosen, sort_keys=True).encode(), np.uint8)),
    }


def potential_contents(name: str, potential: Potential | Calculator) -> str:
    """The bytes of its file; of a potential without one its numbers, of a calculator of ASE the source of what makes it."""
    if isinstance(potential, Potential):
        path = path_of(name)
        if path is not None and path.is_file():
            return fingerprint_of_file(path)
        return fingerprint((potential.params, np.asarray(potential.cutoff)))
    if isinstance(potential, CalculatorPool):  # how many processes there are decides no numbers
        name, potential = potential.name, potential.calculator
    if isinstance(potential, TorchSimCalculator):
        potential = potential.model
    module = inspect.getmodule(_factory(name)) or inspect.getmodule(type(potential))
    source = None if module is None else getattr(module, "__file__", None)
    if source is None or not Path(source).is_file():
        return fingerprint(np.frombuffer(name.encode(), np.uint8))
    return fingerprint_of_file(Path(source))


def _factory(name: str) -> Any:
    """What ``ase:module:factory`` names, which is imported already."""
    import sys

    _, _, rest = name.partition(":")
    module, _, factory = rest.partition(":")
    return getattr(sys.modules.get(module), factory, None)


def changed(record: Mapping[str, Any], now: Contents) -> list[str]:
    """What a record was made from otherwise. Records of version 0.2.0 and before do not say."""
    before = record.get("contents")
    return [] if before is None else [name for name in now if before.get(name) != now[name]]


__all__ = ["NAMES", "POTENTIAL", "SETTINGS", "changed", "contents_of", "potential_contents"]
