"""The relaxed geometry as a function of the parameters: against relaxations made from scratch."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from wigner_jax._solve import make_plan
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.end_to_end import kappa_fn
from wigner_jax.errors import InputError
from wigner_jax.ifc.autodiff import plan_force_constants
from wigner_jax.physics.broadening.gaussian import Gaussian
from wigner_jax.potentials.layers.equivariant import polynomial_cutoff
from wigner_jax.potentials.registry import load_potential
from wigner_jax.relaxation.implicit import moved_constants, moved_plan, plan_relaxation, plan_sites, relaxed
from wigner_jax.relaxation.newton import relax

if TYPE_CHECKING:
    from collections.abc import Callable

TIGHT = (1e-11, 1e-12)
STARTS = {
    "wurtzite": lambda: bulk("SiC", "wurtzite", a=3.06, c=4.97, u=0.376),
    "zincblende": lambda: bulk("SiC", "zincblende", a=4.33),
    # two strains and no right angle between the lattice vectors: the Voronoi cell of the mesh changes its shape
    "body-centred": lambda: Atoms("Si2", [[0, 0, 0], [0, 2.4, 0.65]], cell=_bct(4.8, 2.6), pbc=True),
    "rocksalt": lambda: bulk("MgO", "rocksalt", a=4.2),
}


def _bct(a, c):
    return np.array([[-a, a, c], [a, -a, c], [a, a, -c]]) / 2


@pytest.fixture(scope="module", autouse=True)
def _quick_compilation():
    """Correctness does not need optimised machine code, whose compilation is most of the time of these tests."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module")
def tersoff():
    return load_potential("tersoff-1989")


@dataclasses.dataclass(frozen=True)
class Held:
    """MACE, on Morse bonds that hold a rocksalt crystal together: random weights alone make no crystal."""

    mace: Callable

    def __call__(self, params, graph):
        species = jnp.asarray(graph.species)
        like = species[graph.senders] == species[graph.receivers]
        r = jnp.linalg.norm(graph.vectors(), axis=-1)
        depth, width = params["depth"][like.astype(int)], params["width"]
        morse = depth * ((1 - jnp.exp(-width * (r - jnp.where(like, params["like"], params["unlike"])))) ** 2 - 1)
        bonds = jnp.where(graph.edge_mask, morse * polynomial_cutoff(r, self.mace.config.radial.r_max, 6), 0.0)
        return 0.5 * jnp.sum(bonds) + self.mace(params, graph)


@pytest.fixture(scope="module")
def mace():
    potential = load_potential(Path(__file__).parents[1] / "data/mace_reference" / "mace-mp-0-small.model")
    pair = {"depth": np.array([0.6, 0.3]), "width": np.array(1.5), "unlike": np.array(2.1), "like": np.array(2.95)}
    scale = {"scale_shift.scale": 0.3 * np.asarray(potential.params["scale_shift.scale"])}
    held = dataclasses.replace(potential, energy=Held(potential.energy))
    return held.with_params(dict(potential.params) | scale | pair)


def minimum(name, potential, params):
    atoms, report = relax(STARTS[name](), potential, params=params, tolerance=TIGHT)
    assert report.converged, report.message
    return atoms


def direction(params, seed, frozen=("R", "S")):
    """Random and relative, in the parameters on which the energy depends smoothly."""
    rng = np.random.default_rng(seed)
    return {
        name: np.zeros(np.shape(value)) if name in frozen else np.asarray(value) * rng.standard_normal(np.shape(value))
        for name, value in params.items()
    }


def along(params, d, h):
    return {name: np.asarray(value) + h * d[name] for name, value in params.items()}


def metric(crystal):
    """What does not depend on the orientation: the lattice's metric and the differences of the positions."""
    lattice, x = jnp.asarray(crystal.lattice), jnp.asarray(crystal.positions)
    difference = x[1:] - x[:1]
    return jnp.concatenate([(lattice @ lattice.T).ravel(), (difference - jnp.rint(difference)).ravel()])


def metric_of(atoms):
    cells = supercells_from_atoms(atoms, 1, 1, np.eye(3))
    return np.asarray(metric(cells.crystal))


@pytest.mark.parametrize("name", ["wurtzite", "body-centred"])
def test_derivative_of_the_geometry(tersoff, name):
    """dL/dθ and dx/dθ in both modes against new relaxations, and the value itself away from the reference."""
    d = direction(tersoff.params, 3)
    atoms = minimum(name, tersoff, tersoff.params)
    freedom = plan_relaxation(supercells_from_atoms(atoms, 1, 1, np.eye(3)).crystal, tersoff)

    @jax.jit
    def of(params):
        return metric(relaxed(tersoff.energy, params, freedom).crystal)

    h = 1e-4
    plus, minus = (metric_of(minimum(name, tersoff, along(tersoff.params, d, s * h))) for s in (1, -1))
    np.testing.assert_allclose(of(along(tersoff.params, d, h)), plus, rtol=0, atol=1e-10)
    expected = (plus - minus) / (2 * h)
    assert np.abs(expected).max() > 0.1
    _, tangent = jax.jvp(of, (tersoff.params,), (d,))
    np.testing.assert_allclose(tangent, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    weights = np.random.default_rng(0).standard_normal(len(expected))
    slope = jax.grad(lambda params: of(params) @ weights)(tersoff.params)
    total = sum(np.vdot(slope[k], d[k]) for k in d)
    np.testing.assert_allclose(total, tangent @ weights, rtol=1e-10)


@pytest.mark.parametrize("name", ["wurtzite", "body-centred"])
def test_plans_follow_the_crystal(tersoff, name):
    """Moved plans equal plans made for the moved crystal."""
    d = direction(tersoff.params, 3)
    first, second = (minimum(name, tersoff, along(tersoff.params, d, h)) for h in (0.0, 1e-3))
    cells, other = (supercells_from_atoms(a, (2, 2, 1), (1, 1, 1), np.eye(3)) for a in (first, second))
    plan, wanted = make_plan(cells, (3, 3, 2)), make_plan(other, (3, 3, 2))
    sites = plan_sites(cells, plan)
    still = moved_plan(plan, sites, cells.crystal)
    for got, reference in ((moved_plan(plan, sites, other.crystal), wanted), (still, plan)):
        moments = [np.asarray(p.mesh.steps).T @ np.asarray(p.mesh.steps) for p in (got, reference)]
        np.testing.assert_allclose(*moments, rtol=1e-9, atol=1e-12)
    assert np.abs(np.asarray(wanted.mesh.steps) - np.asarray(plan.mesh.steps)).max() > 1e-5
    constants, fresh = (plan_force_constants(c, tersoff)[0] for c in (cells, other))
    moved = moved_constants(constants, sites, other.crystal)
    for got, reference in ((moved.graph2, fresh.graph2), (moved.graph3, fresh.graph3)):
        np.testing.assert_allclose(got.positions, reference.positions, atol=1e-12)
        np.testing.assert_allclose(got.cell, reference.cell, atol=1e-12)


def total_derivative(name, potential, supercells, mesh, d, h, broadening=None):
    """(by AD, by AD at fixed geometry, by central differences through new relaxations, plans and force constants)."""
    weights = np.array([1.0, 0.5, 0.3, 0, 0, 0])

    def start(params):
        return supercells_from_atoms(minimum(name, potential, params), *supercells, np.eye(3))

    cells = start(potential.params)
    slopes = []
    for follow in (True, False):
        function = kappa_fn(cells, potential, mesh, relax=follow, broadening=broadening)
        slope, geometry = jax.grad(lambda p, f=function: (f(p)[0][0] @ weights, f(p)[1]), has_aux=True)(
            potential.params
        )
        if follow:
            geometry.require_valid()
        slopes.append(float(sum(np.vdot(slope[k], d[k]) for k in d)))

    def again(s):
        params = along(potential.params, d, s * h)
        fresh = kappa_fn(start(params), potential, mesh, relax=False, broadening=broadening)  # everything is made anew
        tensors, _ = fresh(params)
        return float(tensors[0] @ weights)

    return *slopes, (again(1) - again(-1)) / (2 * h)


@pytest.mark.slow
def test_total_derivative_of_kappa_tersoff(tersoff):
    """One strain."""
    d = direction(tersoff.params, 0)
    total, fixed, expected = total_derivative("zincblende", tersoff, ((2, 2, 2), (2, 2, 2)), (3, 3, 3), d, 2e-5)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert abs(total - fixed) > 0.01 * abs(total)


@pytest.mark.slow
def test_total_derivative_of_kappa_wurtzite(tersoff):
    """Two strains and one displacement."""
    d = direction(tersoff.params, 0)
    total, fixed, expected = total_derivative("wurtzite", tersoff, ((2, 2, 2), (2, 2, 1)), (3, 3, 2), d, 3e-5)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert abs(total - fixed) > 0.01 * abs(total)


@pytest.mark.slow
def test_total_derivative_of_kappa_mace(mace):
    """One width for all: at the symmetric points of so small a mesh adaptive ones are the floor, and κ far from linear."""
    d = direction(mace.params, 1)
    supercells, broadening = ((2, 2, 2), (2, 2, 2)), Gaussian(0.5)
    total, fixed, expected = total_derivative("rocksalt", mace, supercells, (2, 2, 2), d, 1e-5, broadening)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert abs(total - fixed) > 0.002 * abs(total)


def test_what_goes_wrong_is_said(tersoff):
    far = supercells_from_atoms(bulk("Si", a=5.0), 1, 1).crystal
    freedom = plan_relaxation(far, tersoff)
    geometry = relaxed(tersoff.energy, tersoff.params, freedom, 1)
    assert not geometry.valid
    assert np.isnan(geometry.crystal.lattice).all()
    with pytest.raises(InputError, match="did not converge"):
        geometry.require_valid()

    # 2.70 Å, the inner edge of the cutoff function, is crossed on the way from 2.72 Å to the minimum
    edge = supercells_from_atoms(bulk("Si", a=4 * 2.72 / np.sqrt(3)), 1, 1).crystal
    geometry = relaxed(tersoff.energy, tersoff.params, plan_relaxation(edge, tersoff))
    assert geometry.converged
    assert geometry.crossed
    with pytest.raises(InputError, match="across a cutoff"):
        geometry.require_valid()


def test_nothing_to_relax(tersoff):
    """Diamond in a fixed cell has no freedom: the reference is the answer, whatever its stress."""
    atoms = bulk("Si", a=5.4)
    crystal = supercells_from_atoms(atoms, 1, 1).crystal
    geometry = relaxed(tersoff.energy, tersoff.params, plan_relaxation(crystal, tersoff, cell=False))
    assert geometry.valid
    assert geometry.amplitudes.shape == (0,)
    np.testing.assert_array_equal(geometry.crystal.lattice, crystal.lattice)
