"""Relaxation inside the symmetry of the crystal, by Newton's method.

The unknowns are the symmetry-allowed strains (one for a cubic crystal, two for a hexagonal one) and the
symmetry-allowed displacements (none in diamond, one in wurtzite), so that the Hessian is small, automatic
differentiation gives it exactly, and a handful of steps reach rounding. The cell's orientation (the deformation is a
pure strain, without rotation), the order of the atoms and the space group are kept.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.programs import Effort, program
from ..checks import require_double_precision
from ..crystal.elements import masses_of
from ..crystal.symmetry import SYMPREC, SpaceGroup, space_group, symmetrized
from ..crystal.validity import require_structure
from ..errors import say
from ..potentials.evaluate import energy_and_slopes
from ..potentials.neighbor_list import Room, graph_of
from ..types import Crystal

if TYPE_CHECKING:
    import ase

    from .._core.pytree import Array
    from ..potentials.base import Energy, Params, Potential
    from ..potentials.graph import Graph


ROOM_TO_MOVE = 0.15  # share of edges more than at the start before a relaxation compiles again


@dataclasses.dataclass(frozen=True)
class RelaxReport:
    """How a relaxation ended. It never raises for failing to converge: look at `converged` and `space_group`.

    Attributes:
        converged: force and stress below their tolerances, at a minimum.
        steps: Newton steps taken.
        energy: eV of the cell.
        max_force: eV/Å, largest component.
        max_stress: eV/Å³, largest component of (1/V) dE/dε; of all components, also those that were not relaxed.
        degrees_of_freedom: strains, displacements.
        lowest_curvature: smallest eigenvalue of the Hessian in these degrees of freedom, eV/Å²; negative: a saddle.
        space_group: before and after; a relaxation can only raise the symmetry.
        message: one line, empty if all is well.
    """

    converged: bool  #: force and stress below their tolerances, at a minimum
    steps: int  #: Newton steps taken
    energy: float  #: eV of the cell
    max_force: float  #: eV/Å, largest component
    max_stress: float  #: eV/Å³, largest component of (1/V) dE/dε; of all components, also those that were not relaxed
    degrees_of_freedom: tuple[int, int]  #: strains, displacements
    lowest_curvature: (
        float  #: smallest eigenvalue of the Hessian in these degrees of freedom, eV/Å²; negative: a saddle
    )
    space_group: tuple[str, str]  #: before and after; a relaxation can only raise the symmetry
    message: str  #: one line, empty if all is well

    @property
    def space_group_changed(self) -> bool:
        return self.space_group[0] != self.space_group[1]


def relax(
    atoms: ase.Atoms,
    potential: Potential,
    *,
    params: Params | None = None,
    cell: bool = True,
    max_steps: int = 50,
    tolerance: tuple[float, float] = (1e-8, 1e-9),
    symprec: float = SYMPREC,
) -> tuple[ase.Atoms, RelaxReport]:
    """The nearest minimum of the energy with the crystal's symmetry.

    Args:
        atoms: periodic structure, primitive or not; it is not modified.
        params: instead of the potential's own.
        cell: whether the cell relaxes too; if not, the stress is only reported.
        max_steps: Newton steps at most.
        tolerance: on the largest force component (eV/Å) and stress component (eV/Å³; 1e-9 is 160 Pa).
        symprec: Å, for finding the space group.

    Returns:
        a copy of `atoms` at the minimum (positions not wrapped), and the report.

    Warns:
        AccuracyWarning: with the report's message, if there is one.

    Raises:
        ValueError: without float64, for a structure that is not periodic, or an element the potential does not know.
    """
    require_double_precision()
    atoms = require_structure(atoms)
    params = potential.params if params is None else params
    numbers = tuple(int(z) for z in atoms.numbers)
    masses = np.asarray(atoms.get_masses()) if atoms.has("masses") else masses_of(numbers)
    crystal = Crystal(np.asarray(atoms.cell), atoms.get_scaled_positions(wrap=False), masses, numbers)
    group = space_group(crystal, symprec)
    crystal = symmetrized(crystal, group)
    lattice, positions = np.asarray(crystal.lattice), np.asarray(crystal.positions) @ crystal.lattice
    strains = allowed_strains(group, lattice) if cell else np.zeros((0, 3, 3))
    modes = allowed_displacements(group, lattice)
    length = float(np.cbrt(abs(np.linalg.det(lattice)) / len(numbers)))
    strains = strains / length  # so that all unknowns are in Å

    room = Room(ROOM_TO_MOVE, potential)

    def measure(lattice: np.ndarray, positions: np.ndarray) -> _State:
        graph = room.filled(graph_of(lattice, positions, np.asarray(numbers), potential)[0])
        values = [np.asarray(v) for v in _derivatives(potential.energy, params, graph, strains, modes)]
        stress = np.abs(values[4]).max() / abs(np.linalg.det(lattice))
        return _State(lattice, positions, float(values[0]), values[1], values[2], np.abs(values[3]).max(), stress)

    def done(state: _State) -> bool:
        return bool(state.force < tolerance[0] and (not cell or state.stress < tolerance[1]))

    state = measure(lattice, positions)
    radius, steps = 0.1 * float(np.sqrt(max(len(strains) + len(modes), 1))), 0
    while not done(state) and steps < max_steps and radius > 1e-12 and len(state.gradient):
        steps += 1
        step, predicted = _newton_step(state, radius)
        F = np.eye(3) + np.einsum("s,sab->ab", step[: len(strains)], strains)
        moved = state.positions + np.einsum("f,fja->ja", step[len(strains) :], modes)
        trial = measure(state.lattice @ F, moved @ F)
        # near the minimum energies differ by rounding only, and the gradient is the better judge
        flat = abs(predicted) < 1e-12 * max(abs(state.energy), 1.0)
        better = trial.energy - state.energy < 0.1 * predicted
        if not np.isfinite(trial.energy):
            better = flat = False
        if better or (flat and np.linalg.norm(trial.gradient) < np.linalg.norm(state.gradient)):
            if trial.energy - state.energy < 0.75 * predicted:
                radius = min(2 * radius, 0.5 * float(np.sqrt(len(step))))
            state = trial
        else:
            radius = min(radius, float(np.linalg.norm(step))) / 4
    freedom = (len(strains), len(modes))
    edges = bool(graph_of(state.lattice, state.positions, np.asarray(numbers), potential)[0].edge_mask.any())
    relaxed, report = _finish(atoms, crystal, group, state, steps, done(state), freedom, symprec, edges)
    if report.message:
        say(f"relaxation: {report.message}")
    return relaxed, report


@dataclasses.dataclass(frozen=True, eq=False)
class _State:
    lattice: np.ndarray
    positions: np.ndarray
    energy: float
    gradient: np.ndarray  #: eV/Å, along the allowed strains and displacements
    hessian: np.ndarray
    force: float
    stress: float


def _newton_step(state: _State, radius: float) -> tuple[np.ndarray, float]:
    """Newton step with the absolute values of the curvatures (downhill at a saddle), inside a trust radius.

    Returns:
        step in Å, and the change of energy that the quadratic model predicts (negative).
    """
    curvatures, vectors = np.linalg.eigh(state.hessian)
    floor = 1e-6 * max(np.abs(curvatures).max(), 1e-6)
    step = -vectors @ ((vectors.T @ state.gradient) / np.maximum(np.abs(curvatures), floor))
    step *= min(1.0, radius / max(float(np.linalg.norm(step)), 1e-300))
    predicted = float(state.gradient @ step + 0.5 * step @ state.hessian @ step)
    return step, predicted if predicted < 0 else float(state.gradient @ step)


def _finish(
    atoms: ase.Atoms,
    crystal: Crystal,
    group: SpaceGroup,
    state: _State,
    steps: int,
    small: bool,
    freedom: tuple[int, int],
    symprec: float,
    edges: bool,
) -> tuple[ase.Atoms, RelaxReport]:
    """The relaxed copy and its report; `edges` says whether any two atoms are in the potential's range."""
    curvature = float(np.linalg.eigvalsh(state.hessian)[0]) if len(state.gradient) else 0.0
    fractional = state.positions @ np.linalg.inv(state.lattice)
    after = space_group(dataclasses.replace(crystal, lattice=state.lattice, positions=fractional), symprec)
    messages = []
    if not small:
        messages.append(f"not converged after {steps} steps: largest force {state.force:.1e} eV/Å")
    if curvature < -1e-6:
        messages.append(f"a saddle point: curvature {curvature:.1e} eV/Å² along an allowed direction")
    if apart := not edges:
        messages.append("no atom is in the range of another: nothing holds the crystal together")
    if after.international != group.international:
        messages.append(f"the space group changed from {group.international} to {after.international}")
    relaxed = atoms.copy()
    # a product of strains is not a pure strain: L = L0 P Q with P symmetric, and the rotation Q is undone
    left, _, right = np.linalg.svd(np.linalg.inv(crystal.lattice) @ state.lattice)
    back = (left @ right).T
    relaxed.set_cell(state.lattice @ back)
    relaxed.positions[:] = state.positions @ back
    report = RelaxReport(
        converged=small and curvature >= -1e-6 and not apart,
        steps=steps,
        energy=state.energy,
        max_force=float(state.force),
        max_stress=float(state.stress),
        degrees_of_freedom=freedom,
        lowest_curvature=curvature,
        space_group=(group.international, after.international),
        message="; ".join(messages),
    )
    return relaxed, report


def _cartesian_rotations(group: SpaceGroup, lattice: np.ndarray) -> np.ndarray:
    """Of each operation. (G, 3, 3)"""
    return lattice.T @ group.rotations @ np.linalg.inv(lattice.T)


def _range(projector: np.ndarray) -> np.ndarray:
    """Orthonormal basis of the range of an orthogonal projector, one row each."""
    values, vectors = np.linalg.eigh(0.5 * (projector + projector.T))
    return vectors.T[values > 0.5]


def allowed_strains(group: SpaceGroup, lattice: np.ndarray) -> np.ndarray:
    """Symmetric strains that keep the space group, orthonormal: ε with R ε Rᵀ = ε for all R. (s, 3, 3)"""
    R = _cartesian_rotations(group, lattice)
    swap = np.eye(9).reshape(3, 3, 3, 3)
    symmetric = 0.5 * (swap + swap.transpose(1, 0, 2, 3)).reshape(9, 9)
    rotate = np.einsum("gac,gbd->abcd", R, R).reshape(9, 9) / len(R)
    return _range(symmetric @ rotate).reshape(-1, 3, 3)


def allowed_displacements(group: SpaceGroup, lattice: np.ndarray) -> np.ndarray:
    """Displacement patterns that keep the space group, orthonormal and without uniform translations. (f, N, 3)"""
    R = _cartesian_rotations(group, lattice)
    N = group.permutations.shape[1]
    projector = np.zeros((N, 3, N, 3))
    atoms = np.arange(N)
    for rotation, permutation in zip(R, group.permutations, strict=True):
        projector[permutation, :, atoms, :] += rotation / len(R)
    rigid = np.einsum("JK,ab->JaKb", np.full((N, N), 1 / N), np.eye(3)).reshape(3 * N, 3 * N)
    flat = projector.reshape(3 * N, 3 * N)
    return _range(flat - rigid @ flat).reshape(-1, N, 3)


@program(static=0, effort=Effort.ONCE)
def _derivatives(energy: Energy, params: Params, graph: Graph, strains: Array, modes: Array) -> tuple[Any, ...]:
    """E; gradient and Hessian along allowed strains and displacements z; forces' negative (N, 3); dE/dε (3, 3).

    The deformation is x → (x + Σ f u_f)(1 + Σ s ε_s), about the current structure.
    """

    positions, none = jnp.asarray(graph.positions), jnp.zeros((3, 3))
    # strains, then displacements, then a direction of zeros so that there is one
    moved = jnp.concatenate([jnp.zeros((len(strains), *positions.shape)), modes, jnp.zeros((1, *positions.shape))])
    strained = jnp.concatenate([strains, jnp.zeros((len(modes) + 1, 3, 3))])

    def slopes(positions: Array, strain: Array) -> tuple[Array, Array, Array]:
        return energy_and_slopes(energy, params, graph.at(positions), strain)

    # one by one: the memory of one Hessian–vector product, whatever the number of unknowns; one copy of the energy's
    # derivative in the program, which values and Hessian share
    def along(direction: tuple[Array, Array]) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
        return jax.jvp(slopes, (positions, none), direction)

    values, changes = jax.lax.map(along, (moved, strained))
    value, slope, virial = (x[-1] for x in values)

    def reduced(slope: Array, virial: Array) -> Array:
        gradient = jnp.einsum("zja,...ja->...z", moved, slope) + jnp.einsum("zab,...ab->...z", strained, virial)
        return gradient[..., :-1]

    return value, reduced(slope, virial), reduced(*changes[1:])[:-1], slope, virial
