"""What a material will take, before any of it is done."""

from __future__ import annotations

import dataclasses
from math import ceil, factorial
from typing import TYPE_CHECKING

import numpy as np

from ..checks import positive_integers
from ..crystal.defaults import default_supercells
from ..crystal.from_ase import in_units_of
from ..errors import InputError
from ..ifc.displacement_patterns import DENSE_LIMIT
from ..ifc.evaluations import devices_for
from ..ifc.finite_displacement import count_displacements
from ..ifc.symmetry_basis import operations_on, symmetric_basis
from ..io.ase_files import MOST_ATOMS
from ..pipeline import derivatives_of
from ..plan.memory import bytes_of_mesh, physical_memory
from ..potentials.base import Potential

if TYPE_CHECKING:
    import ase
    from ase.calculators.calculator import Calculator

    from ..types import Crystal, Supercell, Supercells
    from .settings import ScreenSettings

PROCESS = 0.75e9  # bytes of Python, JAX and what compiling takes for two atoms
COMPILED = 1.0e6  # bytes more, times modes squared, of compiling and running the solver (2, 4 and 8 atoms)
EXACT = 40_000  # tuples of atoms whose parameters are counted: a tenth of a second
ON_SHELL = 1.1e3  # bytes of a q-point's processes for every (mode)³ and point


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a material will take: about, from its cell alone. Memory was within a factor of 2 of the peak for 2 to 8 atoms."""

    atoms: tuple[int, int, int]  #: of the primitive cell and the supercells of Φ2 and Φ3
    mesh: tuple[int, int, int]
    evaluations: tuple[int, int]  #: derivatives of the potential, or displaced supercells, for Φ2 and Φ3
    memory: float  #: bytes at the peak

    def line(self) -> str:
        n, second, third = self.atoms
        return (
            f"{n:>3} atoms, supercells {second}/{third}, mesh {'×'.join(map(str, self.mesh))},"
            f" evaluations {self.evaluations[0]}/{self.evaluations[1]}, about {self.memory / 1e9:.1f} GB"
        )


def estimate(
    atoms: ase.Atoms, model: Potential | Calculator, settings: ScreenSettings, pair_cutoff: float | None = None
) -> Estimate:
    """From cell, supercells, mesh and potential; displacements are counted by phono3py.

    Args:
        pair_cutoff: Å, of finite displacements.

    Raises:
        InputError: the structure cannot be used.
    """
    if len(atoms) > MOST_ATOMS:
        raise InputError(f"it has {len(atoms)} atoms: cells of at most {MOST_ATOMS} are computed")
    cells = default_supercells(atoms, settings.fc2_supercell, settings.fc3_supercell)
    given = positive_integers(atoms.info["q_mesh"], "q_mesh") if "q_mesh" in atoms.info else None
    mesh = settings.mesh_of(cells.crystal, given)
    n = cells.crystal.n_atoms
    found = [_order(cells, cell, order) for order, cell in ((2, cells.fc2_supercell), (3, cells.fc3_supercell))]
    N2, N3 = cells.fc2_supercell.n_atoms, cells.fc3_supercell.n_atoms
    constants = 8.0 * n * (9 * N2 + 27 * N3**2)
    dense = 8.0 * max(p for p, _ in found if p <= DENSE_LIMIT) ** 2 if any(p <= DENSE_LIMIT for p, _ in found) else 0.0
    layers = max(
        _bytes_of_potential(model, N) * devices_for(count, N) for N, (_, count) in zip((N2, N3), found, strict=True)
    )
    evaluations = (found[0][1], found[1][1])
    if derivatives_of(model, settings.derivatives) == "finite-displacement":
        second, third = in_units_of(atoms, cells)
        evaluations = count_displacements(atoms, fc2_supercell=second, fc3_supercell=third, pair_cutoff=pair_cutoff)
    return Estimate(
        (n, N2, N3), mesh, evaluations,
        max(memory_of_solver(cells.crystal, mesh, 4 * constants), memory_of_solver(cells.crystal, None, dense + 12 * constants + layers)),
    )  # fmt: skip


def memory_of_solver(crystal: Crystal, mesh: tuple[int, int, int] | None, more: float = 0.0) -> float:
    """Bytes at the peak of a process that holds `more`: what every process takes, and a mesh if there is one."""
    modes = 3 * crystal.n_atoms
    solver = 0.0 if mesh is None else bytes_of_mesh(crystal, mesh) + ON_SHELL * modes**3 * float(np.prod(mesh)) / 16
    return PROCESS + COMPILED * modes**2 + more + solver


def _order(cells: Supercells, supercell: Supercell, order: int) -> tuple[int, int]:
    """Parameters of the force constants, and evaluations that determine them by patterns.

    Exact for small supercells; for large ones as if no operation left a tuple of atoms in place.
    """
    N, n = supercell.n_atoms, cells.crystal.n_atoms
    if n * N ** (order - 1) <= EXACT:
        parameters: float = symmetric_basis(cells.crystal, supercell, order).n_parameters
    else:
        operations = len(operations_on(cells.crystal, supercell)[0])
        parameters = n * N ** (order - 1) * 3**order / (operations * factorial(order))
    return ceil(parameters), max(1, ceil(1.05 * parameters / max(3 * N - 3, 3)))


def _bytes_of_potential(model: Potential | Calculator, atoms: int) -> float:
    """Of one directional derivative: some thousand numbers for every edge, about 40 of them an atom."""
    if not isinstance(model, Potential):
        return 0.0
    weights = sum(np.size(x) for x in model.params.values()) if isinstance(model.params, dict) else 0
    return 8.0 * 40 * atoms * min(4000.0, 50 + weights**0.5)


def too_much(found: Estimate, settings: ScreenSettings) -> str:
    """Why a material is left out; empty if it is not."""
    limit = physical_memory() if settings.max_memory is None else settings.max_memory * 1e9
    if found.memory > limit:
        return f"it needs about {found.memory / 1e9:.1f} GB, of {limit / 1e9:.1f} GB"
    if sum(found.evaluations) > settings.max_evaluations:
        return (
            f"its force constants need about {sum(found.evaluations)} evaluations of the potential,"
            f" more than {settings.max_evaluations}"
        )
    return ""


__all__ = ["Estimate", "estimate", "memory_of_solver", "too_much"]
