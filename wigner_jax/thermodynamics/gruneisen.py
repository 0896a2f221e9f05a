"""Volume Grüneisen parameters of all modes by three routes, and their mean at a temperature.

    γ_s(q) = -∂ ln f_s / ∂ ln V = -(1/2λ_s) ⟨e_s| ∂D/∂ ln V |e_s⟩,      γ(T) = Σ w C γ / Σ w C

    gruneisen_by_third_order   from Φ3, with `thermodynamics/strain_derivatives.py`'s sum over the nearest images
    gruneisen_by_strain        ∂Φ2/∂ ln V by automatic differentiation, in one supercell, exact
    gruneisen_by_volumes       ΔD/Δ ln V between V (1 ± 0.01): gamma_SRME's protocol, for any ASE calculator

The first two are derivatives at the structure given; the third is a difference over 2 % of the volume, and a potential
that is not smooth answers it differently, the more so by displacements of 0.03 Å. In all three the atoms follow the volume
where symmetry lets them; by volumes the shape of the cell does, too.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from .._core.programs import program
from .._core.pytree import host_data, pytree
from ..checks import imaginary_modes
from ..crystal.defaults import default_supercells
from ..errors import InputError
from ..ifc.autodiff import fitted
from ..ifc.displacement_patterns import plan_fit
from ..physics.conductivity import heat_capacity
from ..physics.phonons import dynamical_matrix, frequencies_and_eigenvectors
from ..plan.band_path import BandPath, high_symmetry_path, off_centre
from ..plan.fc2_table import make_fc2_table
from ..plan.mesh import make_mesh
from ..potentials.base import Potential
from ..potentials.neighbor_list import supercell_graph
from ..relaxation.ase_protocols import relax_at_volume
from ..types import Phonons
from .expansion import internal_response
from .strain_derivatives import constants_and_slope, gruneisen, mode_gruneisen, mode_slopes, strain_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ase
    from ase.calculators.calculator import Calculator

    from .._core.pytree import Array
    from ..ifc.displacement_patterns import Fit
    from ..potentials.graph import Graph
    from ..solution import Solution
    from ..types import Crystal, FC2Table, ForceConstants, Mesh, Supercells
    from .strain_derivatives import StrainTables


GAMMA_CUTOFF = 1e-3  # THz: modes below have no part in γ(T) (gamma_SRME)


@pytree()
class ModeGruneisen:
    """Volume Grüneisen parameters on the irreducible points of a mesh.

    Attributes:
        qpoints: (P, 3) fractional.
        weights: (P,) sizes of the stars.
        frequencies: (P, m) THz, ascending.
        modes: (P, m) -∂ ln f/∂ ln V, averages over degenerate blocks.
    """

    qpoints: Array  #: (P, 3) fractional
    weights: Array  #: (P,) sizes of the stars
    frequencies: Array  #: (P, m) THz, ascending
    modes: Array  #: (P, m) -∂ ln f/∂ ln V, averages over degenerate blocks

    def heat_capacity(self, temperatures: Sequence[float] | Array) -> Array:
        """w C of the modes that count: above 1e-3 THz, not acoustic at Γ. (T, P, m) eV/K"""
        f = jnp.asarray(self.frequencies)
        centre = jnp.all(jnp.abs(jnp.asarray(self.qpoints)) < 1e-9, axis=-1)
        acoustic = centre[:, None] & (jnp.arange(f.shape[-1]) < 3)
        counted = jnp.where((f > GAMMA_CUTOFF) & ~acoustic, f, 0.0)
        return heat_capacity(counted, jnp.asarray(temperatures, float)) * jnp.asarray(self.weights)[:, None]

    def contributions(self, temperatures: Sequence[float] | Array) -> Array:
        """w C γ / Σ w C of every mode; they sum to γ(T). (T, P, m)"""
        capacity = self.heat_capacity(temperatures)
        total = jnp.sum(capacity, axis=(1, 2), keepdims=True)
        safe = jnp.where(total > 0, total, 1.0)
        return jnp.where(total > 0, capacity * jnp.asarray(self.modes) / safe, 0.0)

    def average(self, temperatures: Sequence[float] | Array) -> Array:
        """γ(T). (T,)"""
        return jnp.sum(self.contributions(temperatures), axis=(1, 2))


@host_data
class PathGruneisen:
    """Volume Grüneisen parameters along a path. Host data.

    Attributes:
        path: the points, with the names of the ends of its segments.
        frequencies: (K, m) THz, ascending.
        modes: (K, m) -∂ ln f/∂ ln V, averages over degenerate blocks.
    """

    path: BandPath
    frequencies: np.ndarray  #: (K, m) THz, ascending
    modes: np.ndarray  #: (K, m) -∂ ln f/∂ ln V, averages over degenerate blocks


@dataclasses.dataclass(frozen=True)
class VolumeSteps:
    """How `gruneisen_by_volumes` goes about it. The defaults are gamma_SRME's.

    Attributes:
        step: ΔV/V to either side.
        distance: Å, of displacements; None: Φ2 by automatic differentiation.
        fmax: eV/Å, of the relaxation at constant volume.
        max_steps: of each of its stages.
    """

    step: float = 0.01  #: ΔV/V to either side
    distance: float | None = 0.03  #: Å, of displacements; None: Φ2 by automatic differentiation
    fmax: float = 1e-4  #: eV/Å, of the relaxation at constant volume
    max_steps: int = 300  #: of each of its stages

    def __post_init__(self) -> None:
        if not 0 < self.step < 0.5:
            raise InputError(f"the step in volume must lie between 0 and 0.5, got {self.step:g}")
        if self.distance is not None and not self.distance > 0:
            raise InputError(f"the displacement must be above zero, got {self.distance:g} Å")


@dataclasses.dataclass(frozen=True)
class VolumesReport:
    """What was met at the volumes V (1 - h), V, V (1 + h).

    Attributes:
        volumes: Å³, of the primitive cell.
        imaginary: whether there are imaginary modes.
        calls: evaluations of the forces by displacements, or of Hessian-vector products, in all.
        message: of the relaxations; empty if all is well.
    """

    volumes: tuple[float, ...]  #: Å³, of the primitive cell
    imaginary: tuple[bool, ...]  #: whether there are imaginary modes
    calls: int  #: evaluations of the forces by displacements, or of Hessian-vector products, in all
    message: str  #: of the relaxations; empty if all is well


def gruneisen_by_third_order(
    supercells: Supercells, fc: ForceConstants, mesh: Sequence[int], relaxed_ions: bool = True
) -> ModeGruneisen:
    """From Φ3 and the frequencies of Φ2.

    Args:
        fc: of `supercells`.
        mesh: subdivisions of the reciprocal cell.
        relaxed_ions: whether atoms follow the strain where symmetry lets them.
    """
    plan = make_mesh(supercells.crystal, mesh)
    f, modes = _third(plan.qpoints[plan.irreducible], fc, supercells, relaxed_ions)
    return _of(plan, f, modes)


def gruneisen_along_path(
    supercells: Supercells, fc: ForceConstants, path: BandPath | None = None, relaxed_ions: bool = True
) -> PathGruneisen:
    """`gruneisen_by_third_order` along a path; Γ is approached along each segment, where acoustic modes have their limits.

    Args:
        path: the crystal's high-symmetry path unless given.

    Raises:
        InputError: no path is given, and seekpath is not installed or finds none.
    """
    path = high_symmetry_path(supercells.crystal) if path is None else path
    if path is None:
        raise InputError("there is no high-symmetry path", "install seekpath (extra plot), or give a BandPath")
    f, modes = _third(off_centre(path), fc, supercells, relaxed_ions)
    return PathGruneisen(path, np.asarray(f), np.asarray(modes))


def gruneisen_of(solution: Solution, tables: StrainTables, relaxed_ions: bool = True) -> ModeGruneisen:
    """`gruneisen_by_third_order` from a solution that is there already, for losses: differentiable in its phonons and
    force constants.

    Args:
        solution: without a non-analytic correction.
        tables: of its supercells, from `strain_tables`.
    """
    mesh = solution.mesh
    at = jnp.asarray(mesh.irreducible)
    points = (mesh.qpoints, at)
    modes = gruneisen(solution.phonons, points, solution.force_constants, tables, solution.crystal, relaxed_ions)
    return _of(mesh, solution.phonons.frequencies[at], jnp.mean(modes[..., :3], axis=-1))


def gruneisen_by_strain(
    supercells: Supercells, potential: Potential, mesh: Sequence[int], relaxed_ions: bool = True
) -> tuple[ModeGruneisen, Array]:
    """∂Φ2/∂ ln V by automatic differentiation in the Φ2 supercell, for an isotropic strain.

    Args:
        supercells: of a relaxed structure; the Φ3 supercell is not used.
        relaxed_ions: whether atoms follow the strain where symmetry lets them, by the exact linear response of the
            primitive cell.

    Returns:
        the Grüneisen parameters, and Φ2 (n, N2, 3, 3) eV/Å².
    """
    crystal, supercell = supercells.crystal, supercells.fc2_supercell
    graph, fit = _graph(potential, crystal, supercells)
    moves = np.zeros((crystal.n_atoms, 3))
    if relaxed_ions:
        moves = internal_response(crystal, potential)[:, :, :3].sum(axis=-1)
    direction = (np.eye(3) / 3, moves[supercell.primitive_index] / 3)
    second, change, _ = _slope(potential.energy, potential.params, graph, fit, direction)
    plan = make_mesh(crystal, mesh)
    f, modes = _change(plan.qpoints[plan.irreducible], second, change, crystal, make_fc2_table(crystal, supercell))
    return _of(plan, f, modes), second


def gruneisen_by_volumes(
    atoms: ase.Atoms, potential: Potential | Calculator, mesh: Sequence[int], options: VolumeSteps | None = None
) -> tuple[ModeGruneisen, VolumesReport]:
    """From Φ2 at V (1 - h), V and V (1 + h): γ_s = -(1/2λ_s) ⟨e_s| D₊ - D₋ |e_s⟩ / 2h, e_s and λ_s of V.

    The protocol of gamma_SRME (Póta, Ahlawat, Csányi, Simoncelli): the structure is scaled, relaxed at constant volume
    (`relax_at_volume`; nothing to do for most cubic crystals), and its Φ2 made by phonopy's displacements of 0.03 Å.
    The formula is that of phonopy's Grüneisen parameters, so that bands cannot be mistaken for each other.

    Args:
        atoms: relaxed structure, with fc2_supercell (and primitive_matrix) in its info.
        potential: a JAX potential, or any ASE calculator (displacements then).
        mesh: subdivisions of the reciprocal cell.
    """
    options = VolumeSteps() if options is None else options
    points, frequencies, volumes, imaginary, messages, calls = None, [], [], [], [], 0
    matrices, plan, vectors = [], None, None
    for scale in (1.0, 1 - options.step, 1 + options.step):
        here = atoms
        if scale != 1.0:
            here, message = relax_at_volume(atoms, potential, scale, fmax=options.fmax, max_steps=options.max_steps)
            messages += [f"at {scale:g} V: {message}"] if message else []
        cells, second, used = harmonic_constants(here, potential, options.distance)
        if plan is None:
            plan = make_mesh(cells.crystal, mesh)
            points = plan.qpoints[plan.irreducible]
        D, f, e = _harmonic(points, second, cells.crystal, make_fc2_table(cells.crystal, cells.fc2_supercell))
        matrices.append(D)
        frequencies.append(np.asarray(f))
        vectors = e if vectors is None else vectors
        volumes.append(float(abs(np.linalg.det(cells.crystal.lattice))))
        imaginary.append(has_imaginary(plan, frequencies[-1]))
        calls += used
    span = (volumes[2] - volumes[1]) / volumes[0]
    modes = _modes(frequencies[0], vectors, (matrices[2] - matrices[1])[None] / span)[..., 0]
    order = (1, 0, 2)
    report = VolumesReport(
        tuple(volumes[k] for k in order), tuple(imaginary[k] for k in order), calls, "; ".join(messages)
    )
    assert plan is not None
    return _of(plan, frequencies[0], modes), report


def harmonic_constants(
    atoms: ase.Atoms, potential: Potential | Calculator, distance: float | None
) -> tuple[Supercells, Array, int]:
    """Φ2 of a structure alone, by phonopy's displacements (Å) or, for None, by automatic differentiation.

    Args:
        atoms: with fc2_supercell in its info (by default a cell of 10 Å, for automatic differentiation).

    Returns:
        cells (Φ2's supercell stands for both), Φ2 (n, N2, 3, 3) eV/Å², evaluations.
    """
    if distance is not None:
        from ..ifc.finite_displacement import harmonic_displacements
        from ..potentials.calculator import WignerCalculator

        calculator = WignerCalculator(potential) if isinstance(potential, Potential) else potential
        return harmonic_displacements(atoms, calculator, distance=distance)
    if not isinstance(potential, Potential):
        raise InputError("automatic differentiation needs a JAX potential", "give a displacement for an ASE calculator")
    cells = default_supercells(atoms)
    cells = dataclasses.replace(cells, fc3_supercell=cells.fc2_supercell)
    graph, fit = _graph(potential, cells.crystal, cells)
    return cells, _fitted(potential.energy, potential.params, graph, fit), fit.n_evaluations


def has_imaginary(mesh: Mesh, frequencies: np.ndarray) -> bool:
    """κ_SRME's gate, from the frequencies (P, m) at the irreducible points."""
    whole = np.full((len(mesh.qpoints), frequencies.shape[1]), np.inf)
    whole[np.asarray(mesh.irreducible)] = frequencies
    return len(imaginary_modes(mesh, whole)) > 0


def _of(mesh: Mesh, frequencies: Array, modes: Array) -> ModeGruneisen:
    return ModeGruneisen(mesh.qpoints[mesh.irreducible], mesh.weights, frequencies, modes)


def _graph(potential: Potential, crystal: Crystal, supercells: Supercells) -> tuple[Graph, Fit]:
    supercell = supercells.fc2_supercell
    graph, _ = supercell_graph(crystal, supercell, potential)
    return graph, plan_fit(crystal, supercell, 2, parity=potential.parity)[0]


_slope = program(static=0)(constants_and_slope)
_fitted = program(static=0)(fitted)
_modes = program()(mode_slopes)


@program()
def _harmonic(points: Array, second: Array, crystal: Crystal, table: FC2Table) -> tuple[Array, Array, Array]:
    """D, frequencies and eigenvectors."""
    return (
        dynamical_matrix(points, second, crystal, table),
        *frequencies_and_eigenvectors(points, second, crystal, table),
    )


@program()
def _change(points: Array, second: Array, change: Array, crystal: Crystal, table: FC2Table) -> tuple[Array, Array]:
    waves = frequencies_and_eigenvectors(points, second, crystal, table)
    return waves[0], mode_gruneisen(points, waves, change[..., None], crystal, table)[..., 0]


def _third(points: Array, fc: ForceConstants, supercells: Supercells, relaxed_ions: bool) -> tuple[Array, Array]:
    crystal, tables = supercells.crystal, strain_tables(supercells)
    table = make_fc2_table(crystal, supercells.fc2_supercell)
    f, e = frequencies_and_eigenvectors(points, fc.fc2, crystal, table)
    waves = Phonons(f, e, None)
    modes = gruneisen(waves, (points, np.arange(len(points))), fc, tables, crystal, relaxed_ions)
    return f, jnp.mean(modes[..., :3], axis=-1)


__all__ = [
    "GAMMA_CUTOFF",
    "ModeGruneisen",
    "PathGruneisen",
    "VolumeSteps",
    "VolumesReport",
    "gruneisen_along_path",
    "gruneisen_by_strain",
    "gruneisen_by_third_order",
    "gruneisen_by_volumes",
    "gruneisen_of",
    "harmonic_constants",
    "has_imaginary",
]
