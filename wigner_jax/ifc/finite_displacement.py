"""Φ2 and Φ3 from the forces of any ASE calculator, by phono3py's finite displacements.

The way in for potentials that are not JAX, and the route by which published numbers were made: displacements of 0.03 Å
(κ_SRME). It carries an error of second order in the displacement, about 2 % of Φ3 at 0.03 Å; automatic differentiation
(`force_constants`) has none. phono3py, an extra, chooses the displacements and solves for the force constants. Displaced
supercells go out in batches where the calculator takes them (`BatchedForces`), or to several processes (`CalculatorPool`).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ..checks import require_finite
from ..crystal.elements import masses_of
from ..crystal.low_dimensional import one_number
from ..crystal.supercells import integer_matrix, nine_numbers, primitive_matrix_of
from ..crystal.symmetry import SYMPREC, symmetrized
from ..crystal.validity import require_structure
from ..errors import InputError, say
from ..types import Crystal, Supercells
from .batched_forces import calculator_for, forces_as_they_come, own_processes_end
from .phono3py_bridge import make_supercell_map, peer_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import ase
    from ase.calculators.calculator import Calculator

    from ..types import ForceConstants
    from .calculator_factory import Factory


DISTANCE = 0.03  # Å: that of κ_SRME and of phono3py
ASYMMETRY = 0.1  # of the norm of force constants: more than this is said


@dataclasses.dataclass(frozen=True)
class DisplacementReport:
    """What it took. Pairs are (Φ2, Φ3).

    Attributes:
        calls: evaluations of the forces.
        distance: Å.
        asymmetry: how much of the norm the projection onto the symmetries changed: some 1e-4 and 0.01 at 0.03 Å for smooth
            forces, and less for smaller displacements; NaN without the projection.
    """

    calls: tuple[int, int]  #: evaluations of the forces
    distance: float  #: Å
    asymmetry: tuple[float, float] = (float("nan"), float("nan"))  #: of the norm, taken out by the projection


def finite_displacements(
    atoms: ase.Atoms,
    calculator: Calculator | Factory,
    *,
    fc2_supercell: Sequence | None = None,
    fc3_supercell: Sequence | None = None,
    distance: float = DISTANCE,
    pair_cutoff: float | None = None,
    symmetrize: bool = True,
    symprec: float = SYMPREC,
    processes: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[tuple[Supercells, ForceConstants], DisplacementReport]:
    """Φ2 and Φ3 of a crystal by finite displacements of one and of two atoms.

    Args:
        atoms: periodic structure, at a minimum of the calculator's energy; primitive or not.
        calculator: anything that gives ASE forces, a torch-sim model, or a factory of either: ``ase:module:factory``, or a
            function or class without arguments. Forces are taken as they are: nothing is subtracted.
        fc2_supercell, fc3_supercell: in units of the cell of `atoms`, 3 or 9 integers; by default what ``atoms.info`` says
            (``fc2_supercell``, ``fc3_supercell``).
        distance: of the displacements, Å.
        pair_cutoff: Å: two atoms further apart are not displaced together, and Φ3 of three atoms of which no pair is
            nearer is zero (phono3py's ``--cutoff-pair``). None: all pairs.
        symmetrize: project onto the space group, the permutations and the acoustic sum rules (symfc's projector);
            otherwise what the finite differences give.
        symprec: Å, for finding the space group.
        processes: that share the displaced supercells. More than one need a factory; see `CalculatorPool`.
        progress: called as progress("fc2" | "fc3", calls done, calls in all).

    Returns:
        (supercells, force constants), report. The crystal is phono3py's primitive cell (``atoms.info["primitive_matrix"]``,
        else found by spglib).

    Raises:
        InputError: phono3py is missing; no supercell is given, or one so small that symmetry leaves nothing of its force
            constants; forces that are not finite or of the wrong shape; processes for what cannot be made in them.

    Warns:
        AccuracyWarning: the displacements break the symmetry of the force constants by more than 10 %.
    """
    peer = _displaced(atoms, fc2_supercell, fc3_supercell, distance, pair_cutoff, symprec)
    found = calculator_for(calculator, processes)
    displaced = {"fc2": peer.phonon_supercells_with_displacements, "fc3": peer.supercells_with_displacements}
    with own_processes_end(found, calculator):
        forces = {name: _forces(name, cells, found, progress) for name, cells in displaced.items()}
    peer.phonon_forces, peer.forces = forces["fc2"], forces["fc3"]
    peer.produce_fc2()
    peer.produce_fc3()
    asymmetry = (float("nan"), float("nan"))
    if symmetrize:
        before = [np.array(x) for x in (peer.fc2, peer.fc3)]
        try:
            peer.symmetrize_fc2(use_symfc_projector=True)
            peer.symmetrize_fc3(use_symfc_projector=True)
        except AssertionError:  # symfc's, of an empty basis
            raise InputError(
                "symmetry leaves no force constants in one of the supercells", "take a larger one"
            ) from None
        asymmetry = (_change(before[0], np.asarray(peer.fc2)), _change(before[1], np.asarray(peer.fc3)))
        _say_asymmetry(asymmetry, distance, pair_cutoff)
    calls = [sum(cell is not None for cell in cells) for cells in displaced.values()]
    return peer_constants(peer), DisplacementReport((calls[0], calls[1]), distance, asymmetry)


def _change(before: np.ndarray, after: np.ndarray) -> float:
    return float(np.linalg.norm(before - after) / np.linalg.norm(after)) if np.any(after) else float("nan")


def _say_asymmetry(asymmetry: tuple[float, float], distance: float, pair_cutoff: float | None) -> None:
    """Warns where symmetry had to change force constants by more than displacements of smooth forces need: some 1 % of Φ3."""
    broken = [f"{name} by {100 * x:.0f} %" for name, x in zip(("Φ2", "Φ3"), asymmetry, strict=True) if x > ASYMMETRY]
    if broken and pair_cutoff is None:
        say(
            f"finite displacements of {distance:g} Å break the symmetry of {' and of '.join(broken)}: the forces jump within that"
            " distance (a pair crosses the cutoff of the potential, say) or are noise; compare another displacement"
        )


def count_displacements(
    atoms: ase.Atoms,
    *,
    fc2_supercell: Sequence | None = None,
    fc3_supercell: Sequence | None = None,
    distance: float = DISTANCE,
    pair_cutoff: float | None = None,
    symprec: float = SYMPREC,
) -> tuple[int, int]:
    """Evaluations of the forces that `finite_displacements` will take, in the supercells of Φ2 and Φ3; nothing is computed."""
    peer = _displaced(atoms, fc2_supercell, fc3_supercell, distance, pair_cutoff, symprec)
    second, third = peer.phonon_supercells_with_displacements, peer.supercells_with_displacements
    return len(second), sum(cell is not None for cell in third)


def _displaced(
    atoms: ase.Atoms, fc2_supercell: Sequence | None, fc3_supercell: Sequence | None, distance: float,
    pair_cutoff: float | None, symprec: float,
) -> Any:  # fmt: skip
    """phono3py's object with its displacements."""
    unit, primitive = _unit_cell(atoms, distance, symprec)
    pair_cutoff = None if pair_cutoff is None else one_number(pair_cutoff, "the cutoff of pairs")
    if pair_cutoff is not None and not (np.isfinite(pair_cutoff) and pair_cutoff > 0):
        raise InputError(f"the cutoff of pairs is {pair_cutoff:g} Å", "it must be above 0")
    from phono3py import Phono3py

    peer = Phono3py(
        unit,
        supercell_matrix=_matrix(atoms, fc3_supercell, "fc3_supercell"),
        phonon_supercell_matrix=_matrix(atoms, fc2_supercell, "fc2_supercell"),
        primitive_matrix=primitive,
        symprec=symprec,
        log_level=0,
    )
    peer.generate_displacements(distance=distance, cutoff_pair_distance=pair_cutoff)
    peer.generate_fc2_displacements(distance=distance)
    return peer


def harmonic_displacements(
    atoms: ase.Atoms,
    calculator: Calculator,
    *,
    fc2_supercell: Sequence | None = None,
    distance: float = DISTANCE,
    symmetrize: bool = True,
    symprec: float = SYMPREC,
) -> tuple[Supercells, np.ndarray, int]:
    """Φ2 alone, by phonopy's displacements (along diagonals where that saves one, as gamma_SRME makes them).

    Arguments and errors are those of `finite_displacements`.

    Returns:
        cells (the Φ2 supercell stands for both), Φ2 (n, N2, 3, 3) eV/Å², evaluations of the forces.
    """
    unit, primitive = _unit_cell(atoms, distance, symprec)
    from phonopy import Phonopy

    matrix = _matrix(atoms, fc2_supercell, "fc2_supercell")
    peer = Phonopy(unit, supercell_matrix=matrix, primitive_matrix=primitive, symprec=symprec, log_level=0)
    peer.generate_displacements(distance=distance)
    peer.forces = _forces("fc2", peer.supercells_with_displacements or [], calculator, None)
    peer.produce_force_constants(calculate_full_force_constants=False, show_drift=False)
    if symmetrize:
        peer.symmetrize_force_constants(show_drift=False, use_symfc_projector=True)
    cell, supercell, rows = peer.primitive, peer.supercell, np.asarray(peer.primitive.p2s_map)
    crystal = Crystal(cell.cell, cell.scaled_positions, cell.masses, tuple(int(z) for z in cell.numbers))
    places = make_supercell_map(crystal, supercell.cell, supercell.scaled_positions, supercell.numbers)
    order = np.argsort(places.primitive_index[rows])
    places = dataclasses.replace(places, p2s_map=rows[order])
    return Supercells(symmetrized(crystal), places, places), np.asarray(peer.force_constants)[order], len(peer.forces)


def _unit_cell(atoms: ase.Atoms, distance: float, symprec: float) -> tuple[Any, np.ndarray]:
    """phonopy's cell of a structure, and its primitive matrix; refuses what displacements cannot be made of."""
    try:
        import phono3py  # noqa: F401 (it brings phonopy)
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError:
        raise InputError("finite displacements are phono3py's", "pip install 'wigner-jax[phono3py]'") from None
    atoms = require_structure(atoms)
    if not distance > 0:
        raise InputError(f"the displacement must be above zero, got {distance:g} Å")
    masses = atoms.get_masses() if atoms.has("masses") else masses_of(atoms.numbers)
    unit = PhonopyAtoms(
        numbers=atoms.numbers, cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions(), masses=masses
    )
    primitive = atoms.info.get("primitive_matrix")
    if primitive is None:
        types = np.unique(np.column_stack([atoms.numbers, masses]), axis=0, return_inverse=True)[1].ravel()
        primitive = primitive_matrix_of(atoms.cell.array, atoms.get_scaled_positions(wrap=False), types, symprec)
    return unit, nine_numbers(primitive, "primitive_matrix")


def _matrix(atoms: ase.Atoms, given: Sequence | None, name: str) -> np.ndarray:
    value = atoms.info.get(name) if given is None else given
    if value is None:
        raise InputError(f"no {name.replace('_', ' ')}", "give one, as three integers")
    return integer_matrix(value, name)


def _forces(
    name: str, cells: Sequence[Any], calculator: Calculator, progress: Callable[[str, int, int], None] | None
) -> np.ndarray:
    """Forces of displaced supercells, 0 where there is none (None, beyond a cutoff of pairs). (cells, N, 3) eV/Å"""
    from ase import Atoms

    every, wanted = cells, [k for k, cell in enumerate(cells) if cell is not None]
    cells = [every[k] for k in wanted]

    def structures() -> Iterator[ase.Atoms]:
        for cell in cells:
            yield Atoms(numbers=cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)

    found: dict[int, np.ndarray] = {}
    with forces_as_they_come(calculator, structures()) as pairs:
        for index, given in pairs:
            forces, atoms = np.asarray(given), len(cells[index].numbers)
            if forces.shape != (atoms, 3):
                raise InputError(f"the calculator gave forces of shape {forces.shape} for {atoms} atoms")
            require_finite(forces, "a force")
            found[index] = forces
            if progress is not None:
                progress(name, len(found), len(cells))
    if len(found) < len(cells):
        raise InputError(f"the calculator gave forces of {len(found)} of {len(cells)} displaced supercells")
    result = np.zeros((len(every), *found[0].shape))
    for index, k in enumerate(wanted):
        result[k] = found[index]
    return result


__all__ = [
    "DISTANCE",
    "DisplacementReport",
    "count_displacements",
    "finite_displacements",
    "harmonic_displacements",
]
