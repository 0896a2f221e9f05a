"""The solver: force constants in, Wigner conductivity out.

    supercells ─make_plan─► Plan                              host, once per crystal and mesh
    ForceConstants ─phonons─► ─linewidths─► ─conductivity─► Solution

`solve` is the entry for numbers: it checks its input, measures the capacity that tetrahedra need, and reports progress.
`kappa` is the pure function for jit and grad.

More than 350 lines: both entries share one chain, and half of it is what their arguments mean.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ._core.as_numbers import real_numbers
from ._core.chunking import BYTES
from ._core.programs import Effort, program
from ._core.tiling import Tiling, in_fitting_pieces, tiling_for
from .checks import check_precision, check_transport, refuse_imaginary, require_finite, say_if_nothing_carries
from .crystal.elements import natural_isotopes
from .errors import InputError, say
from .ifc.residuals import check_force_constants, require_some, star_residual
from .physics import boltzmann
from .physics import conductivity as kinetics
from .physics import linewidths as widths
from .physics import phonons as harmonic
from .physics.broadening.tetrahedron import Tetrahedron
from .physics.collisions import make_stars
from .physics.conductivity import wigner_heat_capacity
from .physics.dealt_buckets import linewidths_of, pieces
from .physics.diagnostics import judge_unlimited, require_scattering, say_if_width_is_off
from .physics.domain import check_harmonic, check_problem, check_ways, is_concrete, temperature_array
from .physics.variational import full_populations
from .plan.fc2_table import make_fc2_table
from .plan.fc3_table import make_fc3_table
from .plan.memory import require_memory
from .plan.mesh import make_mesh, mesh_dims, say_if_mesh_breaks_symmetry
from .plan.triplets import triplet_buckets
from .solution import Solution
from .types import KappaTensors, Linewidths, Plan, Residuals, Scattering

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._core.pytree import Array
    from .physics.collisions import Stars
    from .physics.conductivity import HeatCapacityMatrix
    from .physics.pairs import Broadening, State
    from .physics.phonons import LongRange
    from .physics.symmetric_matrix import SymmetricMatrix
    from .types import Conductivity, ForceConstants, Phonons, Precision, Supercells, Transport

    Progress = Callable[[int, int], None]


CAPACITY_SAMPLE = 24  # q-points whose on-shell processes are counted to size the lists for all
CAPACITY_MARGIN = 0.35  # extra share: NaCl's busiest q-point needs 27 % more than the busiest of the sample
SCATTERING = Scattering()


def make_plan(supercells: Supercells, mesh: Sequence[int], symmetry: bool = True) -> Plan:
    """Everything that depends on the supercells and the mesh alone.

    Args:
        mesh: subdivisions along the reciprocal vectors of the primitive cell.
        symmetry: False treats every mesh point and triplet alone; the answer is the same, the time is not.

    Raises:
        InputError: a mesh that is no three positive integers, or that takes more memory than this machine has.
    """
    crystal = supercells.crystal
    require_memory(crystal, mesh_dims(mesh), symmetry)
    q = make_mesh(crystal, mesh, symmetry)
    if symmetry:
        say_if_mesh_breaks_symmetry(crystal, q)
    return Plan(
        crystal,
        natural_isotopes(crystal),
        q,
        make_fc2_table(crystal, supercells.fc2_supercell),
        make_fc3_table(crystal, supercells.fc3_supercell, q.dims),
        triplet_buckets(crystal, q, symmetry),
        supercells,
    )


def phonons(plan: Plan, fc2: Array, nac: LongRange | None = None, *, tiling: Tiling | None = None) -> Phonons:
    """Harmonic solution on the mesh: frequencies, eigenvectors, velocity operator.

    Args:
        fc2: (n, N2, 3, 3) eV/Å², compact.
        nac: GonzeLee(…) or Wang(…).
        tiling: sizes of pieces; those of JAX's default device unless given.

    Raises:
        InputError: arrays that do not fit the plan or are outside their domain; ValueError: double precision is off.
    """
    check_harmonic(plan, fc2, nac)
    return phonons_of(plan, fc2, nac, tiling)


def phonons_of(plan: Plan, fc2: Array, nac: LongRange | None = None, tiling: Tiling | None = None) -> Phonons:
    """`phonons` of what is checked, or must not be: NaN where it is undefined."""
    tiling = tiling_for() if tiling is None else tiling
    return harmonic.compiled_phonons(plan, fc2, nac, max(BYTES, tiling.least_bytes))


_conductivity = program(static=5, effort=Effort.ONCE)(kinetics.conductivity)
_kappa_tensors = program(static=5, effort=Effort.ONCE)(kinetics.kappa_tensors)


def linewidths(
    plan: Plan,
    fc: ForceConstants,
    phonons: Phonons,
    temperatures: Array,
    *,
    broadening: Broadening,
    scattering: Scattering = SCATTERING,
    nac: LongRange | None = None,
    progress: Progress | None = None,
    tiling: Tiling | None = None,
    precision: Precision = "double",
) -> Linewidths:
    """Half widths of the irreducible modes at every temperature; differentiable in `fc` and `phonons`.

    Args:
        phonons: from `phonons`, with the same `nac`.
        temperatures: (T,) K.
        progress: called with (q-points done, q-points in all) after every batch; None runs each bucket in one call.
        tiling: sizes of pieces; those of JAX's default device unless given.
        precision: see `solve`.
    """
    check_problem(plan, fc, temperatures, broadening, scattering, nac)
    check_precision(precision)
    temperatures = temperature_array(temperatures)
    tiling = tiling_for() if tiling is None else tiling
    state = widths.state_for(plan, fc, phonons, temperatures, broadening, nac, tiling, precision)
    return _linewidths(plan, state, phonons, broadening, scattering, progress)


def _linewidths(
    plan: Plan, state: State, phonons: Phonons, broadening: Broadening, scattering: Scattering,
    progress: Progress | None,
) -> Linewidths:  # fmt: skip
    # what is known goes through numpy: small operations of JAX outside a compiled function are a program each
    xp: Any = np if is_concrete(plan, state, phonons, broadening, scattering) else jnp
    parts, done = [], 0
    variances = scattering.variances(plan)
    if variances is not None:
        variances = xp.where(xp.asarray(variances) >= 0, variances, xp.nan)
    total = len(plan.mesh.irreducible)
    for number, bucket in enumerate(plan.triplets):
        chosen, count = broadening.for_bucket(number), len(bucket.members)
        for start, piece in pieces(bucket, 3 * plan.crystal.n_atoms, state.tiling, progress is not None):
            three, isotope, too_many = linewidths_of(piece, state, plan, variances, chosen)
            kept = min(len(piece.members), count - start)
            parts.append((three, isotope, too_many, kept))
            if progress is not None:
                jax.block_until_ready(three)
                done += kept
                progress(done, total)
    order = xp.argsort(xp.concatenate([xp.asarray(b.members) for b in plan.triplets]))
    # looked at here only: until now an accelerator works on, piece by piece, and nobody waits
    three, isotope = (xp.concatenate([xp.asarray(part[k])[: part[3]] for part in parts])[order] for k in (0, 1))
    overflow = xp.any(xp.concatenate([xp.asarray(part[2]) for part in parts]))
    boundary = _boundary(plan, phonons, scattering.boundary_mfp, xp)
    three = xp.where(overflow, xp.nan, xp.moveaxis(three, 1, 0))
    return Linewidths(three, isotope, boundary, overflow)


def kappa(
    plan: Plan,
    fc: ForceConstants,
    temperatures: Sequence[float] = (300.0,),
    *,
    broadening: Broadening,
    scattering: Scattering = SCATTERING,
    nac: LongRange | None = None,
    heat_capacity_matrix: HeatCapacityMatrix = wigner_heat_capacity,
    tiling: Tiling | None = None,
    precision: Precision = "double",
    transport: Transport = "rta",
    deviations: Array | None = None,
) -> KappaTensors:
    """Populations' and coherences' conductivity, (T, 6) each in W/(m K), Voigt order: a pure function of its arguments.

    Along changes of `fc` that keep the crystal's symmetry, such as those of a potential's parameters, a derivative is κ's own.
    Single elements of Φ2 also split degenerate modes, where κ has no derivative: project a raw cotangent before using it.

    Differentiable in `fc`, `nac`, `scattering`, `temperatures` and the floats of `plan.crystal`; differentiate the total
    rather than the two parts, whose border is a threshold.

    Args:
        broadening: must be named, since it decides the number: AdaptiveGaussian() is smooth, the choice for gradients;
            ``Tetrahedron.for_plan(plan).with_capacity(plan, fc)`` is what `solve` uses.
        heat_capacity_matrix: of the pairs of modes; another one makes another theory of transport.
        tiling: sizes of pieces; those of JAX's default device unless given.
        precision: see `solve`.
        transport: "lbte": populations by the full linearised equation, with a derivative that costs one pass over the triplets:
            at fixed deviations, by the variational identity of physics/collisions.py. The plan must not be traced.
        deviations: (T, P, m, 3) of `Solution.full`, of a solution with the same broadening, scattering, temperatures and (but for
            small changes) force constants; else they are found anew, with the whole collision operator in memory.

    Returns:
        κ; NaN where something that went in is outside its domain (a temperature, mean free path or width not above 0, a
        negative variance, NaN) and only a transformation such as jit knows its value, or where no mode takes part: all
        are imaginary. Single imaginary modes are left out; `solve` refuses them.

    Raises:
        InputError: arrays do not fit the plan, or numbers are outside their domain; concrete force constants that `solve`
            refuses; deviations of another equation (NaN inside transformations); ValueError: double precision is off.
    """
    if broadening is None:
        raise InputError(
            "broadening is None",
            "name it, since it decides the number: AdaptiveGaussian(), or Tetrahedron.for_plan(plan).with_capacity(plan, fc)",
        )
    check_problem(plan, fc, temperatures, broadening, scattering, nac)
    check_ways(tiling, heat_capacity_matrix)
    check_precision(precision)
    check_transport(transport, 0)
    if is_concrete(plan, fc):
        _check_constants(plan, fc)
    T = temperature_array(temperatures)
    if transport == "rta":
        return _kappa(plan, fc, T, broadening, scattering, nac, heat_capacity_matrix, tiling, precision)
    tiling = tiling_for() if tiling is None else tiling
    shape = (len(T), len(plan.mesh.irreducible), 3 * plan.crystal.n_atoms, 3)
    if deviations is not None:
        if np.shape(deviations) != shape:
            raise InputError(
                f"deviations of shape {np.shape(deviations)} where the plan has {shape}", "take them from `solve`"
            )
        if is_concrete(deviations):
            require_finite(real_numbers(deviations, "deviations"), "deviations")
    if not is_concrete(plan.mesh, plan.crystal.lattice):
        raise InputError(
            "the full collision operator needs a plan that is known", "close over it instead of tracing it"
        )
    stars = make_stars(plan.crystal, plan.mesh)
    waves = phonons_of(plan, fc.fc2, nac, tiling)
    more, gamma = beyond_rta(plan, fc, waves, T, broadening, scattering, nac, stars, deviations, tiling, precision)
    if deviations is not None and is_concrete(more, gamma) and np.isnan(more).any() and not np.isnan(gamma.total).any():
        raise InputError(
            "the deviations are not those of this equation",
            "take them from a solution with the same broadening and scattering",
        )
    populations, coherences = _kappa_tensors(waves, gamma.total, plan.mesh, plan.crystal, T, heat_capacity_matrix)
    return KappaTensors(populations + more, coherences)


def _kappa(
    plan: Plan, fc: ForceConstants, T: Array, broadening: Broadening, scattering: Scattering,
    nac: LongRange | None, heat_capacity_matrix: HeatCapacityMatrix = wigner_heat_capacity, tiling: Tiling | None = None,
    precision: Precision = "double",
) -> KappaTensors:  # fmt: skip
    """`kappa` of what is checked, or must not be: NaN where it is undefined, traced or not."""
    tiling = tiling_for() if tiling is None else tiling
    waves = phonons_of(plan, fc.fc2, nac, tiling)
    state = widths.state_for(plan, fc, waves, T, broadening, nac, tiling, precision)
    gamma = _linewidths(plan, state, waves, broadening, scattering, None)
    return KappaTensors(*_kappa_tensors(waves, gamma.total, plan.mesh, plan.crystal, T, heat_capacity_matrix))


def beyond_rta(
    plan: Plan, fc: ForceConstants, waves: Phonons, T: Array, broadening: Broadening, scattering: Scattering,
    nac: LongRange | None, stars: Stars, deviations: Array | None = None, tiling: Tiling | None = None,
    precision: Precision = "double",
) -> tuple[Array, Linewidths]:  # fmt: skip
    """`full_populations` of force constants and phonons: what the full operator adds to κ_P, and the linewidths."""
    tiling = tiling_for() if tiling is None else tiling
    state = widths.state_for(plan, fc, waves, T, broadening, nac, tiling, precision)
    boundary = _boundary(plan, waves, scattering.boundary_mfp, jnp)
    return full_populations(
        plan, waves, state, T, scattering.variances(plan), boundary, broadening, stars, deviations, boltzmann.TOLERANCE,
        boltzmann.MOST_ITERATIONS,
    )  # fmt: skip


def solve(
    plan: Plan,
    fc: ForceConstants,
    temperatures: Sequence[float] = (300.0,),
    *,
    broadening: Broadening | None = None,
    scattering: Scattering = SCATTERING,
    nac: LongRange | None = None,
    heat_capacity_matrix: HeatCapacityMatrix = wigner_heat_capacity,
    allow_imaginary: bool = False,
    progress: Progress | None = None,
    tiling: Tiling | None = None,
    precision: Precision = "double",
    transport: Transport = "rta",
    memory: float = boltzmann.LIMIT,
) -> Solution:
    """Phonons, linewidths and conductivity, with everything resolved by mode.

    Args:
        temperatures: K, one number or several; phonons and matrix elements are computed once for all of them.
        broadening: the linear tetrahedron method unless given.
        scattering: three phonons and isotopes at natural abundance unless given.
        nac: GonzeLee(…) or Wang(…), see physics/nac.py.
        heat_capacity_matrix: of the pairs of modes; another one makes another theory of transport.
        allow_imaginary: go on with imaginary modes, which contribute nothing.
        progress: called with (q-points done, q-points in all).
        tiling: sizes of pieces; those of JAX's default device unless given, and smaller ones if its memory is too small.
        precision: "mixed" computes the matrix elements in single precision, for accelerators that are slow in double: phonons,
            energy conservation and κ stay in double. κ moves by some 1e-6 of itself (benchmarks/precision.py).
        transport: "lbte" solves the linearised equation with the full collision operator besides (`Solution.full`), in 1.1 to 1.2
            times the time of the relaxation-time approximation.
        memory: bytes that assembled collision operators may take; where one does not fit, its rows are made anew in every
            iteration, which takes as long as a dozen solutions.

    Raises:
        InputError: bad input, force constants that are zero or do not obey the crystal's symmetry
            (`check_force_constants`), imaginary modes, a result that is not finite or that modes carry which nothing limits (`judge_unlimited`);
            ValueError: double precision is off.

    Warns:
        AccuracyWarning: residuals of the force constants, κ that vanishes, mean free paths above 1 m, an iteration that did not
            converge.
    """
    check_transport(transport, memory)
    check_problem(plan, fc, temperatures, broadening, scattering, nac)
    check_ways(tiling, heat_capacity_matrix)
    if progress is not None and not callable(progress):
        raise InputError(f"progress is {progress!r}", "give a function of (q-points done, q-points in all)")
    check_precision(precision)
    T = temperature_array(temperatures)
    residuals = _check_constants(plan, fc)
    run = partial(
        _solution, plan, fc, T, residuals, broadening, scattering, nac, heat_capacity_matrix, allow_imaginary, progress,
        precision, transport, memory,
    )  # fmt: skip
    return in_fitting_pieces(run) if tiling is None else run(tiling)


def _solution(
    plan: Plan, fc: ForceConstants, T: Array, residuals: Residuals, broadening: Broadening | None, scattering: Scattering,
    nac: LongRange | None, heat_capacity_matrix: HeatCapacityMatrix, allow_imaginary: bool, progress: Progress | None,
    precision: Precision, transport: Transport, memory: float, tiling: Tiling,
) -> Solution:  # fmt: skip
    """`solve` with one size of pieces."""
    broadening = Tetrahedron.for_plan(plan) if broadening is None else broadening
    waves = phonons_of(plan, fc.fc2, nac, tiling)
    residuals = _judged_phonons(plan, waves, residuals, allow_imaginary)
    state = widths.state_for(plan, fc, waves, T, broadening, nac, tiling, precision)
    if not broadening.has_capacity:
        broadening = broadening.sized(plan, state, CAPACITY_MARGIN, CAPACITY_SAMPLE)

    def rates(broadening: Broadening) -> tuple[Linewidths, boltzmann.Operator | None, list[SymmetricMatrix] | None]:
        if transport == "lbte":
            return _collisions(plan, state, waves, T, broadening, scattering, progress, memory)
        return _linewidths(plan, state, waves, broadening, scattering, progress), None, None

    gamma, operator, matrices = rates(broadening)
    if gamma.overflow:  # a q-point outside the sample needed more: measure them all
        broadening = broadening.sized(plan, state, 0.0)
        gamma, operator, matrices = rates(broadening)
    found = _judged_conductivity(plan, waves, gamma, T, heat_capacity_matrix)
    say_if_width_is_off(broadening, waves, plan.mesh)
    full = None
    if operator is not None:
        full = boltzmann.full_solution(operator, matrices, T, waves.velocity_operator, gamma.total, found)
        require_finite(full.kappa_P, "κ beyond the relaxation-time approximation")
        boltzmann.say_how_it_ended(full)
    return Solution(
        waves, gamma, found, plan, fc, scattering, broadening, nac, residuals=residuals, precision=precision, full=full
    )


def _collisions(
    plan: Plan, state: State, waves: Phonons, T: Array, broadening: Broadening, scattering: Scattering,
    progress: Progress | None, memory: float,
) -> tuple[Linewidths, boltzmann.Operator, list[SymmetricMatrix] | None]:  # fmt: skip
    """Linewidths and the collision operator of the same processes, assembled where it fits."""
    operator = boltzmann.Operator(plan, state, T, scattering.variances(plan), broadening, memory)
    if not operator.fits:
        return _linewidths(plan, state, waves, broadening, scattering, progress), operator, None
    (three, isotope, overflow), matrices = operator.assembled(progress)
    boundary = _boundary(plan, waves, scattering.boundary_mfp, np)
    three = np.where(overflow, np.nan, three)
    return Linewidths(three, isotope, boundary, np.array(overflow)), operator, matrices


def _judged_phonons(plan: Plan, waves: Phonons, residuals: Residuals, allow_imaginary: bool) -> Residuals:
    """The residuals with that of equivalent q-points; raises where phonons are not finite, or imaginary and not allowed."""
    require_finite(waves.frequencies, "frequencies of the phonons")
    second = None if plan.supercells is None else plan.supercells.fc2_supercell
    residuals = residuals._replace(stars=star_residual(plan.crystal, plan.mesh, waves, second))
    if not allow_imaginary:
        refuse_imaginary(plan.mesh, waves.frequencies)
    return residuals


def _judged_conductivity(
    plan: Plan, waves: Phonons, gamma: Linewidths, T: Array, heat_capacity_matrix: HeatCapacityMatrix
) -> Conductivity:
    """κ of phonons and linewidths, refused or said where it means nothing."""
    found = _conductivity(waves, gamma.total, plan.mesh, plan.crystal, T, heat_capacity_matrix)
    require_finite(found.kappa_TOT, "κ")
    require_scattering(waves, gamma)
    say_if_nothing_carries(found, waves)
    judge_unlimited(found, gamma, waves, plan.mesh)
    return found


def _boundary(plan: Plan, waves: Phonons, boundary_mfp: Array | float | None, xp: Any) -> Array:
    """Half widths by boundaries, 0 without. (P, m) THz"""
    f = xp.asarray(waves.frequencies)[xp.asarray(plan.mesh.irreducible)]
    return (
        xp.zeros_like(f)
        if boundary_mfp is None
        else kinetics.boundary_linewidth(waves.velocity_operator, f, boundary_mfp)
    )


def with_boundary(
    solution: Solution, boundary_mfp: float | None, heat_capacity_matrix: HeatCapacityMatrix = wigner_heat_capacity
) -> Solution:
    """A solution with another mean free path between boundaries; nothing but κ is computed anew.

    Args:
        boundary_mfp: µm; None for no boundaries.
        heat_capacity_matrix: what `solve` was given.

    Raises, warns: as `solve`, and InputError for a length that is not above 0.
    """
    if solution.full is not None:
        raise InputError(
            "beyond the relaxation-time approximation boundaries change more than linewidths",
            "call solve with transport='lbte' and this boundary_mfp",
        )
    scattering = dataclasses.replace(solution.scattering, boundary_mfp=boundary_mfp)
    plan, waves, T = solution.plan, solution.phonons, solution.conductivity.temperatures
    check_problem(plan, solution.force_constants, T, solution.broadening, scattering, solution.nac)
    gamma = dataclasses.replace(solution.linewidths, boundary=_boundary(plan, waves, boundary_mfp, jnp))
    found = _judged_conductivity(plan, waves, gamma, temperature_array(T), heat_capacity_matrix)
    return dataclasses.replace(solution, linewidths=gamma, conductivity=found, scattering=scattering)


def _check_constants(plan: Plan, fc: ForceConstants) -> Residuals:
    """Refuse concrete force constants that are zero, or that do not obey the crystal that the plan was made for."""
    require_some(fc)
    if plan.supercells is None:
        say(
            "the plan has lost its supercells (transformations such as jax.device_put and jax.tree.map drop what is no array):"
            " the force constants are not compared with the crystal; give the plan that make_plan returned"
        )
        return Residuals()
    return check_force_constants(plan.supercells, fc, space_group=len(plan.mesh.rotations) > 1)


__all__ = ["kappa", "linewidths", "make_plan", "phonons", "solve", "with_boundary"]
