"""The pipeline: force constants in, Wigner conductivity out.

    cells ─make_plan─► Plan                              host, once per cells and mesh
    ForceConstants ─phonons─► ─linewidths─► ─conductivity─► Solution

`solve` is the entry for numbers: it checks its input, measures the room that tetrahedra need, and reports progress.
`kappa` is the pure function for jit and grad.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ._core.compile_cache import trim_malloc_after_compilation
from ._core.pytree import pytree
from .checks import refuse_imaginary, require_double_precision, require_finite, temperatures_above_zero
from .crystal.elements import ELEMENTS, SYMBOLS
from .physics import conductivity as transport
from .physics import linewidths as widths
from .physics import phonons as harmonic
from .physics.broadening.capacity import rounded_capacity
from .physics.broadening.gaussian import AdaptiveGaussian
from .physics.broadening.tetrahedron import Tetrahedron
from .plan.fc2_table import make_fc2_table
from .plan.fc3_table import make_fc3_table
from .plan.mesh import make_mesh
from .plan.tetrahedra import make_tetrahedra
from .plan.triplets import triplet_buckets
from .types import Linewidths, Phonons, Plan, Solution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ._core.pytree import Array
    from .physics.broadening.base import Broadening
    from .physics.phonons import LongRange
    from .types import Crystal, ForceConstants, Supercells, TripletBucket

    Progress = Callable[[int, int], None]


ROOM_SAMPLE = 24  # q-points whose on-shell processes are counted to reserve room for all
ROOM_MARGIN = 0.35  # extra share for the others: NaCl's busiest q-point needs 27 % more than the busiest of the sample
GROUPS_A_PIECE = 4  # groups of q-points per device between two reports of progress


@pytree()
class Scattering:
    """What scatters besides the three-phonon processes."""

    isotope: Array | None = None  # (n,) mass variances g; None: no isotope scattering
    boundary_mfp: Array | None = None  # () mean free path in µm; None: no boundary scattering


def natural_isotopes(crystal: Crystal) -> np.ndarray:
    """Mass variances of the natural abundances. (n,)"""
    return np.array([ELEMENTS[SYMBOLS[int(z)]][2] for z in crystal.numbers], float)


def make_plan(cells: Supercells, mesh: Sequence[int], symmetry: bool = True) -> Plan:
    """Everything that depends on the cells and the mesh alone.

    Args:
        mesh: subdivisions along the reciprocal vectors of the primitive cell.
        symmetry: False treats every mesh point and triplet alone; the answer is the same, the time is not.
    """
    q = make_mesh(cells.crystal, mesh, symmetry)
    return Plan(
        cells.crystal,
        natural_isotopes(cells.crystal),
        q,
        make_fc2_table(cells.crystal, cells.fc2_supercell),
        make_fc3_table(cells.crystal, cells.fc3_supercell, q.dims),
        triplet_buckets(cells.crystal, q, symmetry),
    )


def tetrahedron(plan: Plan, symmetrized: bool = False) -> Tetrahedron:
    """The linear tetrahedron method on the plan's mesh.

    Args:
        symmetrized: cut the mesh into its Delaunay cells, averaged over the ways to divide those (invariant under the
            point group and the choice of the primitive cell; one to four times the work), instead of the given
            micro-cell along its shortest diagonal (phono3py's choice).
    """
    return Tetrahedron(make_tetrahedra(plan.crystal, plan.mesh.dims, symmetrized))


@jax.jit
def phonons(plan: Plan, second: Array, nac: LongRange | None = None) -> Phonons:
    """Harmonic solution on the mesh. Args: second (n, N2, 3, 3) eV/Å²."""
    return harmonic.phonons(plan.mesh.qpoints, plan.mesh.irreducible, second, plan.crystal, plan.fc2_table, nac)


@jax.jit
def _velocities(plan: Plan, solution: tuple[Array, Array], second: Array, nac: LongRange | None) -> Array:
    return harmonic.group_velocities(plan.mesh.qpoints, solution, second, plan.crystal, plan.fc2_table, nac)


@jax.jit
def _state(plan: Plan, lattice_waves: Phonons, third: Array, temperatures: Array, broadening: Broadening,
           velocities: Array | None) -> widths.State:  # fmt: skip
    return widths.prepare(lattice_waves, third, plan, temperatures, broadening, velocities)


_room = jax.jit(widths.needed_capacity)


@jax.jit
def _bucket(bucket: TripletBucket, state: widths.State, plan: Plan, variances: Array | None,
            broadening: Broadening) -> tuple[Array, Array, Array]:  # fmt: skip
    """Linewidths of a bucket, its q-points dealt out to all devices of the default backend (GPUs, or CPU devices:
    ``jax.config.update("jax_num_cpu_devices", cores)``). Members come in order of cost, so they are dealt like cards."""
    devices = jax.device_count()
    if devices == 1:
        return widths.bucket_linewidths(bucket, state, plan, variances, broadening)
    each = jax.sharding.PartitionSpec("q")
    everywhere = jax.sharding.PartitionSpec()
    spread = jax.shard_map(
        widths.bucket_linewidths,
        mesh=jax.make_mesh((devices,), ("q",), axis_types=(jax.sharding.AxisType.Auto,)),
        in_specs=(each, everywhere, everywhere, everywhere, everywhere),
        out_specs=each,
        check_vma=False,
    )
    dealt = jax.tree.map(lambda x: x.reshape(-1, devices, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape), bucket)
    results = spread(dealt, state, plan, variances, broadening)
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape), results)


_conductivity = jax.jit(transport.conductivity)
_kappa_tensors = jax.jit(transport.kappa_tensors)


def reserve(
    plan: Plan, fc: ForceConstants, broadening: Tetrahedron | None = None, nac: LongRange | None = None,
    margin: float = 0.25,
) -> Tetrahedron:  # fmt: skip
    """The tetrahedron method with room for the on-shell processes of these force constants, for use under jit and grad.

    Args:
        margin: extra share, for force constants that will change. Linewidths are NaN where it does not suffice, and
            `Linewidths.overflow` says so.
    """
    trim_malloc_after_compilation()
    broadening = tetrahedron(plan) if broadening is None else broadening
    lattice_waves = phonons(plan, fc.fc2, nac)
    return _reserved(plan, _state(plan, lattice_waves, fc.fc3, jnp.ones(1), broadening, None), broadening, margin)


def _reserved(
    plan: Plan, state: widths.State, broadening: Tetrahedron, margin: float, sample: int | None = None
) -> Tetrahedron:
    """Rooms from the needs of all q-points, or of `sample` q-points of every bucket, evenly spread."""
    rooms = []
    for bucket in plan.triplets:
        count = len(bucket.members)
        chosen = np.arange(count) if sample is None else np.unique(np.linspace(0, count - 1, sample).astype(int))
        some = jax.tree.map(lambda x: x[chosen], bucket)  # noqa: B023
        needs = [int(x) for x in _room(some, state, plan, broadening)]
        rooms.append(rounded_capacity((needs[0], needs[1], needs[2]), margin))
    return dataclasses.replace(broadening, capacity=tuple(rooms))


def linewidths(
    plan: Plan, fc: ForceConstants, lattice_waves: Phonons, temperatures: Array, broadening: Broadening,
    scattering: Scattering, nac: LongRange | None = None, progress: Progress | None = None,
) -> Linewidths:  # fmt: skip
    """Half widths of the irreducible modes at every temperature; differentiable in `fc` and `lattice_waves`.

    Args:
        progress: called with (q-points done, q-points in all) after every batch; None runs each bucket in one call.
    """
    velocities = None
    if broadening.needs_velocities:
        solution = (lattice_waves.frequencies, lattice_waves.eigenvectors)
        velocities = _velocities(plan, solution, fc.fc2, nac)
    state = _state(plan, lattice_waves, fc.fc3, temperatures, broadening, velocities)
    return _linewidths(plan, state, lattice_waves, broadening, scattering, progress)


def _linewidths(
    plan: Plan, state: widths.State, lattice_waves: Phonons, broadening: Broadening, scattering: Scattering,
    progress: Progress | None,
) -> Linewidths:  # fmt: skip
    parts, overflow, done = [], jnp.zeros((), bool), 0
    variances = None if scattering.isotope is None else jnp.asarray(scattering.isotope)
    total = len(plan.mesh.irreducible)
    for number, bucket in enumerate(plan.triplets):
        chosen, count = broadening.reserved(number), len(bucket.members)
        for start, piece in _pieces(bucket, 3 * plan.crystal.n_atoms, progress):
            three, isotope, too_many = _bucket(piece, state, plan, variances, chosen)
            kept = min(len(piece.members), count - start)
            parts.append((three[:kept], isotope[:kept]))
            overflow = overflow | jnp.any(too_many)
            if progress is not None:
                jax.block_until_ready(three)
                done += kept
                progress(done, total)
    order = jnp.argsort(jnp.concatenate([jnp.asarray(b.members) for b in plan.triplets]))
    three, isotope = (jnp.concatenate(x)[order] for x in zip(*parts, strict=True))
    f = lattice_waves.frequencies[jnp.asarray(plan.mesh.irreducible)]
    boundary = jnp.zeros_like(f)
    if scattering.boundary_mfp is not None:
        boundary = transport.boundary_linewidth(lattice_waves.velocity_operator, f, scattering.boundary_mfp)
    three = jnp.where(overflow, jnp.nan, jnp.moveaxis(three, 1, 0))
    return Linewidths(three, isotope, boundary, overflow)


def kappa(
    plan: Plan, fc: ForceConstants, temperatures: Sequence[float] = (300.0,), broadening: Broadening | None = None,
    scattering: Scattering | None = None, nac: LongRange | None = None,
) -> tuple[Array, Array]:  # fmt: skip
    """Populations' and coherences' conductivity, (T, 6) each in W/(m K), Voigt order: a pure function of its arguments.

    Differentiable in `fc`, `nac`, `scattering` and the floats of `plan.crystal`; differentiate totals rather than the two
    parts, whose border is a threshold. The broadening is AdaptiveGaussian() unless given; tetrahedra need `reserve`.
    """
    trim_malloc_after_compilation()
    broadening = AdaptiveGaussian() if broadening is None else broadening
    scattering = Scattering(plan.mass_variances) if scattering is None else scattering
    T = jnp.asarray(temperatures, float)
    lattice_waves = phonons(plan, fc.fc2, nac)
    gamma = linewidths(plan, fc, lattice_waves, T, broadening, scattering, nac)
    return _kappa_tensors(lattice_waves, gamma.total, plan.mesh, plan.crystal, T)


def solve(
    plan: Plan, fc: ForceConstants, temperatures: Sequence[float] = (300.0,), broadening: Broadening | None = None,
    scattering: Scattering | None = None, nac: LongRange | None = None, *, allow_imaginary: bool = False,
    progress: Progress | None = None,
) -> Solution:  # fmt: skip
    """Phonons, linewidths and conductivity, with everything resolved by mode.

    Args:
        temperatures: K; phonons and matrix elements are computed once for all of them.
        broadening: the linear tetrahedron method unless given.
        scattering: isotopes at natural abundance unless given.
        nac: GonzeLee(…) or Wang(…), see physics/nac.py.
        allow_imaginary: go on with imaginary modes, which contribute nothing.

    Raises:
        InputError: bad input, imaginary modes; ValueError: double precision is off.
    """
    require_double_precision()
    trim_malloc_after_compilation()
    T = jnp.asarray(temperatures_above_zero(temperatures))
    require_finite(fc.fc2, "Φ2")
    require_finite(fc.fc3, "Φ3")
    scattering = Scattering(plan.mass_variances) if scattering is None else scattering
    broadening = tetrahedron(plan) if broadening is None else broadening
    lattice_waves = phonons(plan, fc.fc2, nac)
    if not allow_imaginary:
        refuse_imaginary(plan.mesh, lattice_waves.frequencies)
    if isinstance(broadening, Tetrahedron):
        state = _state(plan, lattice_waves, fc.fc3, T, broadening, None)
        if broadening.capacity is None:
            broadening = _reserved(plan, state, broadening, ROOM_MARGIN, ROOM_SAMPLE)
        gamma = _linewidths(plan, state, lattice_waves, broadening, scattering, progress)
        if gamma.overflow:  # a q-point outside the sample needed more: measure them all
            broadening = _reserved(plan, state, broadening, 0.0)
            gamma = _linewidths(plan, state, lattice_waves, broadening, scattering, progress)
    else:
        gamma = linewidths(plan, fc, lattice_waves, T, broadening, scattering, nac, progress)
    return Solution(lattice_waves, gamma, _conductivity(lattice_waves, gamma.total, plan.mesh, plan.crystal, T))


def _pieces(bucket: TripletBucket, modes: int, progress: Progress | None) -> list[tuple[int, TripletBucket]]:
    """(first member, piece) of a bucket, filled up to whole groups on every device with members of no weight.

    One piece if nobody listens to progress; else equal ones of a few groups, so that there is something to report.
    """
    count, unit = len(bucket.members), widths.group_size(bucket, modes) * jax.device_count()
    groups = -(-count // unit)
    size = unit * (groups if progress is None else -(-groups // max(1, round(groups / GROUPS_A_PIECE))))
    padding = -count % size

    def filled(x: Array) -> Array:
        return jnp.concatenate([x, jnp.zeros((padding, *x.shape[1:]), x.dtype)]) if padding else jnp.asarray(x)

    whole = jax.tree.map(filled, bucket)
    return [(i, jax.tree.map(lambda x: x[i : i + size], whole)) for i in range(0, count, size)]  # noqa: B023


__all__ = [
    "Scattering",
    "kappa",
    "linewidths",
    "make_plan",
    "natural_isotopes",
    "phonons",
    "reserve",
    "solve",
    "tetrahedron",
]
