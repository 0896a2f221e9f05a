"""One crystal made ready for many evaluations: everything that does not depend on the potential's parameters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ..._core.programs import Effort, program
from ..._core.pytree import host_data, pytree
from ..._solve import SCATTERING, beyond_rta, linewidths, make_plan, phonons_of
from ...checks import check_transport
from ...errors import InputError
from ...ifc.autodiff import ForceConstantsPlan, force_constants_at, plan_force_constants
from ...physics import conductivity as kinetics
from ...physics.broadening.gaussian import AdaptiveGaussian
from ...physics.collisions import make_stars
from ...solution import Solution
from ...types import ForceConstants, Scattering, TripletBucket

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..._core.pytree import Array
    from ...physics.collisions import Stars
    from ...physics.pairs import Broadening
    from ...physics.phonons import LongRange
    from ...potentials.base import Energy, Params, Potential
    from ...reference import Reference
    from ...types import Plan, Supercells, Transport


CAPACITY_MARGIN = 0.5  # of the tetrahedra's lists: force constants change in training


@pytree()
class Conditions:
    """What the solution depends on besides force constants, differentiable in every float."""

    temperatures: Array  # (T,) K
    masses: Array  # (n,) amu
    scattering: Scattering  # isotope variances, boundary mean free path

    def plan(self, plan: Plan) -> Plan:
        """The plan under these conditions."""
        return dataclasses.replace(plan, crystal=dataclasses.replace(plan.crystal, masses=self.masses))


@host_data
class Material:
    """A crystal with its supercells, mesh, patterns, broadening and reference. Host data, made once (`make_material`)."""

    name: str
    supercells: Supercells
    plan: Plan
    constants: ForceConstantsPlan
    conditions: Conditions
    broadening: Broadening
    nac: LongRange | None = None
    reference: Reference | None = None
    stars: Stars | None = None  #: of ``transport="lbte"``; None: relaxation-time approximation

    def force_constants(self, energy: Energy, params: Params) -> ForceConstants:
        """Φ2 and Φ3 by the energy of the potential that this material was made for; differentiable in `params`."""
        return _force_constants(energy, params, self.constants)

    def solution(self, fc: ForceConstants, conditions: Conditions | None = None) -> Solution:
        """Phonons, linewidths, conductivity and their source: a pure function, differentiable in both arguments.

        Imaginary modes contribute nothing; a loss sees them as negative frequencies. With ``transport="lbte"`` κ_P and its
        derivative are those of the full equation; what is resolved by mode stays in the relaxation-time approximation.
        """
        return solution_of(self.plan, fc, conditions or self.conditions, self.broadening, self.nac, self.stars)


_force_constants = program(static=0)(force_constants_at)
conductivity = program(effort=Effort.ONCE)(kinetics.conductivity)


def solution_of(
    plan: Plan, fc: ForceConstants, conditions: Conditions, broadening: Broadening, nac: LongRange | None,
    stars: Stars | None = None,
) -> Solution:  # fmt: skip
    """The solver without its host checks: differentiable in `fc` and `conditions`."""
    plan, T = conditions.plan(plan), conditions.temperatures
    waves = phonons_of(plan, fc.fc2, nac)
    if stars is None:
        gamma = linewidths(plan, fc, waves, T, broadening=broadening, scattering=conditions.scattering, nac=nac)
        more = None
    else:
        more, gamma = beyond_rta(plan, fc, waves, T, broadening, conditions.scattering, nac, stars)
    found = conductivity(waves, gamma.total, plan.mesh, plan.crystal, T)
    if more is not None:
        found = dataclasses.replace(found, kappa_P=found.kappa_P + more)
    return Solution(waves, gamma, found, plan, fc, conditions.scattering, broadening, nac)


def make_material(
    name: str,
    supercells: Supercells,
    potential: Potential,
    mesh: Sequence[int],
    temperatures: Sequence[float] = (300.0,),
    *,
    broadening: Broadening | None = None,
    scattering: Scattering = SCATTERING,
    nac: LongRange | None = None,
    reference: Reference | None = None,
    cache: Path | None = None,
    transport: Transport = "rta",
) -> Material:
    """Plans, graphs and patterns of a crystal for one potential (other parameters of the same architecture share them).

    Args:
        temperatures: K, of everything that a loss can see.
        broadening: the adaptive Gaussian unless given; tetrahedra without a capacity get that of the potential's force
            constants, with half as much again to spare.
        scattering: isotopes at natural abundance unless given.
        reference: mode conductivities at these temperatures. Targets of modes need them on the same mesh.
        cache: folder for factorised patterns.
        transport: "lbte" for κ by the full linearised equation; losses of single modes know the relaxation-time approximation
            alone.

    Raises:
        InputError: a reference without one of the temperatures.
    """
    plan = make_plan(supercells, mesh)
    T = np.asarray(temperatures, float)
    if T.ndim != 1 or len(T) == 0 or not np.all(T > 0):
        raise InputError(f"{name}: temperatures must be above 0 K, got {list(np.ravel(T))}")
    if reference is not None:
        for t in T:
            reference.at(float(t))
    constants, _ = plan_force_constants(supercells, potential, cache=cache)
    scattering = Scattering(scattering.variances(plan), scattering.boundary_mfp)  # numbers, to differentiate by
    given = Conditions(T, supercells.crystal.masses, scattering)
    conditions = jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x, float)), given)  # integers have no derivative
    broadening = AdaptiveGaussian() if broadening is None else broadening
    check_transport(transport, 0)
    stars = make_stars(plan.crystal, plan.mesh) if transport == "lbte" else None
    plan, constants = jax.device_put((plan, constants))
    material = Material(name, supercells, plan, constants, conditions, broadening, nac, reference, stars)
    if not broadening.has_capacity:
        fc = material.force_constants(potential.energy, potential.params)
        sized = broadening.with_capacity(plan, fc, nac, CAPACITY_MARGIN)
        material = dataclasses.replace(material, broadening=sized)
    return material


def pad_to_common_shapes(materials: Sequence[Material], ratio: float = 2.0) -> list[Material]:
    """The same materials, with lists of edges padded to few common lengths, so that they share compiled programs.

    One program of a large potential takes minutes to compile and thousands of memory maps, of which a process may have
    65530: a few tens of crystals of different density would not fit.

    Args:
        materials: made for one potential; those whose supercells have as many atoms are padded together.
        ratio: no list becomes longer by more than this factor.

    Returns:
        the materials in their order; their results do not change.
    """
    if not ratio >= 1:
        raise InputError(f"ratio must be at least 1, got {ratio}")
    result = list(materials)

    def sizes(k: int) -> np.ndarray:
        graphs = (result[k].constants.graph2, result[k].constants.graph3)
        return np.array([[len(g.senders), len(g.angles)] for g in graphs])

    groups: dict[tuple[int, int], list[int]] = {}
    for k, material in enumerate(materials):
        groups.setdefault(
            (material.supercells.fc2_supercell.n_atoms, material.supercells.fc3_supercell.n_atoms), []
        ).append(k)
    for group in groups.values():
        left = sorted(group, key=lambda k: -len(result[k].constants.graph2.senders))
        while left:
            some: list[int] = []
            longest = shortest = sizes(left[0])
            for k in left:
                more, less = np.maximum(longest, sizes(k)), np.minimum(shortest, sizes(k))
                if np.all(more <= ratio * less):
                    some, longest, shortest = [*some, k], more, less
            for k in some:
                old = result[k].constants
                second, third = (g.padded(*map(int, r)) for g, r in zip((old.graph2, old.graph3), longest, strict=True))
                new = dataclasses.replace(old, graph2=second, graph3=third)
                result[k] = dataclasses.replace(result[k], constants=jax.device_put(new))
            left = [k for k in left if k not in some]
    return result


def subset(plan: Plan, points: np.ndarray) -> Plan:
    """The plan for a few of the irreducible points: the same whole mesh as scattering partners.

    Args:
        points: (S,) positions among the irreducible points, distinct or not. Results have S rows in this order; sums of
            mode arrays over the rows are parts of κ.
    """
    points = np.asarray(points)
    mesh = plan.mesh
    some = dataclasses.replace(
        mesh,
        irreducible=jnp.asarray(mesh.irreducible)[points],
        weights=jnp.asarray(mesh.weights)[points],
    )
    # one bucket with as many members whatever the points are, so that shapes do not change from draw to draw
    rods, planes = (max(np.shape(getattr(b, f))[1] for b in plan.triplets) for f in ("rods", "planes"))
    rows: list[TripletBucket] = []
    for k, p in enumerate(points):
        for bucket in plan.triplets:
            (found,) = np.nonzero(np.asarray(bucket.members) == p)
            if len(found):
                row = jax.tree.map(lambda x, i=found[0]: np.asarray(x)[i], bucket)
                extra = rods - len(row.rods)
                rows.append(
                    TripletBucket(
                        np.int32(k),
                        np.pad(row.planes, (0, planes - len(row.planes))),
                        np.pad(row.rods, ((0, extra), (0, 0))),
                        np.pad(row.weights, ((0, extra), (0, 0))),
                    )
                )
    bucket = jax.tree.map(lambda *x: jnp.asarray(np.stack(x)), *rows)
    return dataclasses.replace(plan, mesh=some, triplets=(bucket,))


__all__ = [
    "Conditions",
    "Material",
    "make_material",
    "pad_to_common_shapes",
    "solution_of",
    "subset",
]
