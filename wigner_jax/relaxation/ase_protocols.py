"""Relaxations as published benchmarks prescribe them, through ASE, for comparing like with like. `relax` is faster."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ..crystal.elements import masses_of
from ..crystal.symmetry import SYMPREC, space_group
from ..crystal.validity import require_structure
from ..errors import InputError, say
from ..ifc.batched_forces import speaking_for
from ..potentials.base import Potential
from ..potentials.calculator import WignerCalculator
from ..types import Crystal
from .newton import allowed_displacements, allowed_strains

if TYPE_CHECKING:
    import ase
    from ase.calculators.calculator import Calculator


@dataclasses.dataclass(frozen=True)
class ProtocolReport:
    """How a two-stage relaxation ended. Pairs are (with symmetry fixed, free). It never raises: look at the message.

    Attributes:
        converged: whether the forces came below their limit.
        steps: steps taken.
        energy: eV of the cell that is returned.
        max_force: eV/Å, largest norm of an atom's force.
        max_stress: eV/Å³, largest component.
        space_group: before, after the first stage, after the second.
        reverted: the free stage changed the space group, and the result of the first stage is returned.
        message: one line, empty if all is well.
    """

    converged: tuple[bool, bool]
    steps: tuple[int, int]
    energy: float  #: eV of the cell that is returned
    max_force: float  #: eV/Å, largest norm of an atom's force
    max_stress: float  #: eV/Å³, largest component
    space_group: tuple[str, str, str]  #: before, after the first stage, after the second
    reverted: bool  #: the free stage changed the space group, and the result of the first stage is returned
    message: str  #: one line, empty if all is well


def relax_k_srme(
    atoms: ase.Atoms,
    potential: Potential | Calculator,
    *,
    free: bool = True,
    fmax: float = 1e-4,
    max_steps: int = 300,
    symprec: float = SYMPREC,
) -> tuple[ase.Atoms, ProtocolReport]:
    """The two-stage relaxation of the k_SRME benchmark (Póta, Ahlawat, Csányi, Simoncelli, arXiv:2408.00755).

    FIRE on atoms and cell (FrechetCellFilter), first with the symmetry fixed, then free from there; if the free stage
    ends in another space group, the first stage's structure is the result. Every step reuses the compiled energy: the
    neighbour lists are padded to the largest size met.

    Args:
        atoms: periodic structure; not modified, calculator and constraints are not used.
        potential: a JAX potential, or any ASE calculator with stress.
        free: False leaves the second stage out, as matbench-discovery's conductivity task does.
        fmax: eV/Å, on forces and on the filter's cell forces.
        max_steps: of each stage.
        symprec: Å, for the space groups.

    Returns:
        a copy at the end of the protocol, without calculator and constraints, and the report.
    """
    calculator: Any = WignerCalculator(potential) if isinstance(potential, Potential) else potential
    current = require_structure(atoms).copy()
    current.calc = calculator
    stages = _stages(current, (True, False) if free else (True,), fmax, max_steps, symprec)
    converged, steps, groups = stages.converged, stages.steps, stages.groups
    report = ProtocolReport(
        converged=(converged[0], converged[1] if free else True),
        steps=(steps[0], steps[1] if free else 0),
        energy=float(current.get_potential_energy()),
        max_force=float(np.linalg.norm(current.get_forces(), axis=1).max()),
        max_stress=float(np.abs(current.get_stress()).max()),
        space_group=(groups[0], groups[1], groups[-1]),
        reverted=stages.reverted,
        message="; ".join(stages.messages),
    )
    current.calc = None
    if report.message:
        say(f"relaxation: {report.message}")
    return current, report


def relax_at_volume(
    atoms: ase.Atoms,
    potential: Potential | Calculator,
    scale: float,
    *,
    fmax: float = 1e-4,
    max_steps: int = 300,
    symprec: float = SYMPREC,
) -> tuple[ase.Atoms, str]:
    """A structure at `scale` times its volume, with atoms and shape of the cell relaxed.

    gamma_SRME's relaxation at constant volume: FIRE with FrechetCellFilter(constant_volume=True), in the two stages of
    `relax_k_srme`. Where symmetry leaves neither atoms nor shape free (rocksalt, zincblende, diamond) scaling is all there
    is to do.

    Args:
        scale: V/V0, above zero.
        fmax: eV/Å, on forces and on the filter's cell forces.
        max_steps: of each stage.

    Returns:
        a copy, its info kept, and one line on what went wrong (empty if all is well).
    """
    if not scale > 0:
        raise InputError(f"a volume must be above zero, got {scale:g} times the present one")
    scaled = atoms.copy()
    scaled.info = dict(atoms.info)
    scaled.set_cell(atoms.cell.array * scale ** (1 / 3), scale_atoms=True)
    numbers = tuple(int(z) for z in scaled.numbers)
    crystal = Crystal(scaled.cell.array, scaled.get_scaled_positions(wrap=False), np.ones(len(numbers)), numbers)
    group = space_group(crystal, symprec)
    if len(allowed_strains(group, crystal.lattice)) == 1 and not len(allowed_displacements(group, crystal.lattice)):
        return scaled, ""
    scaled.calc = WignerCalculator(potential) if isinstance(potential, Potential) else potential
    stages = _stages(scaled, (True, False), fmax, max_steps, symprec, constant_volume=True)
    scaled.calc = None
    return scaled, "; ".join(stages.messages)


@dataclasses.dataclass(frozen=True)
class _Stages:
    converged: list[bool]
    steps: list[int]
    groups: list[str]  #: before, and after each stage
    reverted: bool
    messages: list[str]


def _stages(
    atoms: ase.Atoms, fixed: tuple[bool, ...], fmax: float, max_steps: int, symprec: float, constant_volume: bool = False
) -> _Stages:  # fmt: skip
    """FIRE in place, one stage with the symmetry `fixed` or not after the other; one that breaks it is taken back."""
    from ase.constraints import FixSymmetry
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    converged, steps, groups, messages, reverted = [], [], [_group(atoms, symprec)], [], False
    for number, fix in enumerate(fixed, 1):
        cell, positions = np.array(atoms.cell), atoms.positions.copy()
        atoms.set_constraint(FixSymmetry(atoms, symprec=symprec) if fix else None)
        optimiser = FIRE(FrechetCellFilter(atoms, constant_volume=constant_volume), logfile=None)
        with speaking_for(atoms.calc):
            converged.append(bool(optimiser.run(fmax=fmax, steps=max_steps)))
        steps.append(int(optimiser.get_number_of_steps()))
        atoms.set_constraint(None)
        groups.append(_group(atoms, symprec))
        if not converged[-1]:
            messages.append(f"stage {number} did not converge in {steps[-1]} steps")
        if groups[-1] != groups[-2]:
            if fix:
                messages.append(f"the space group rose from {groups[-2]} to {groups[-1]} with the symmetry fixed")
            else:
                messages.append(
                    f"the free stage changed the space group from {groups[-2]} to {groups[-1]} and was reverted"
                )
                atoms.set_cell(cell)
                atoms.positions[:] = positions
                reverted = True
    return _Stages(converged, steps, groups, reverted, messages)


def _group(atoms: ase.Atoms, symprec: float) -> str:
    numbers = tuple(int(z) for z in atoms.numbers)
    masses = np.asarray(atoms.get_masses()) if atoms.has("masses") else masses_of(numbers)
    crystal = Crystal(np.asarray(atoms.cell), atoms.get_scaled_positions(wrap=False), masses, numbers)
    return space_group(crystal, symprec).international


__all__ = [
    "ProtocolReport",
    "relax_at_volume",
    "relax_k_srme",
]
