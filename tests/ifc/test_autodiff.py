"""Φ2 and Φ3 by automatic differentiation: against direct derivatives, symmetry, sum rules, and finite differences.

Long, because one set of force constants serves all of its tests.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import spglib
from ase.build import bulk

from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.errors import InputError
from wigner_jax.ifc import displacement_patterns
from wigner_jax.ifc.autodiff import (
    force_constants,
    force_constants_at,
    force_constants_fn,
    plan_force_constants,
)
from wigner_jax.ifc.displacement_patterns import plan_fit
from wigner_jax.ifc.evaluations import evaluate
from wigner_jax.ifc.least_squares import design, expand, expand_transpose, normal_solve, recover
from wigner_jax.ifc.symmetry_basis import columns_of, symmetric_basis
from wigner_jax.potentials.empirical.model import tersoff_energy
from wigner_jax.potentials.registry import load_potential

if TYPE_CHECKING:
    from ase import Atoms


def alloy() -> Atoms:
    """Si5Ge3 in a sheared, rattled cell: no symmetry but translations."""
    atoms = bulk("Si", cubic=True, a=5.5)
    atoms.symbols[[1, 4, 6]] = "Ge"
    cell = np.asarray(atoms.cell).copy()
    cell[0, 1] += 0.07
    cell[2, 0] -= 0.04
    atoms.set_cell(cell, scale_atoms=True)
    atoms.rattle(0.02, seed=1)
    return atoms


def rotated() -> Atoms:
    atoms = bulk("SiC", "zincblende", a=4.32)
    atoms.rotate(37.0, (1.0, 2.0, -0.5), rotate_cell=True)
    return atoms


CRYSTALS = {  # structure, fc2 supercell, fc3 supercell
    "diamond": (lambda: bulk("Si", a=5.432), (3, 3, 3), (2, 2, 2)),
    "zincblende": (lambda: bulk("SiC", "zincblende", a=4.32, cubic=True), (2, 2, 2), (1, 1, 1)),
    "wurtzite": (lambda: bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (3, 3, 2), (2, 2, 1)),
    "alloy": (alloy, (2, 1, 1), (1, 1, 1)),
    "rotated": (rotated, (3, 2, 2), (2, 2, 1)),
    "skewed": (lambda: bulk("Ge", a=5.65), (-2, 2, 2, 2, -2, 2, 2, 2, -2), (1, 1, 0, 0, 2, 0, 0, 0, 2)),
    "8 decimals": (lambda: bulk("SiC", "wurtzite", a=3.05123457, c=4.98, u=0.37812345), (2, 2, 2), (2, 2, 1)),
}


@pytest.fixture(scope="module")
def tersoff():
    return load_potential("tersoff-1989")


@pytest.fixture(scope="module", params=list(CRYSTALS))
def case(request, tersoff):
    """cells, plan, force constants, report."""
    structure, fc2, fc3 = CRYSTALS[request.param]
    atoms = structure()
    if request.param == "8 decimals":
        atoms.set_cell(np.round(np.asarray(atoms.cell), 8))
        atoms.set_scaled_positions(np.round(atoms.get_scaled_positions(), 8))
    cells = supercells_from_atoms(atoms, fc2, fc3)
    plan, _ = plan_force_constants(cells, tersoff)
    return (cells, plan, *force_constants(cells, tersoff))


def full(compact: np.ndarray, translations: np.ndarray, home: np.ndarray) -> np.ndarray:
    """All rows from the home rows: Φ[T J, T K, T L] = Φ[J, K, L]."""
    N = translations.shape[1]
    result = np.full((N, *compact.shape[1:]), np.nan)
    for T in translations:
        for i, J in enumerate(home):
            if compact.ndim == 4:
                result[T[J], T] = compact[i]
            else:
                result[T[J], T[:, None], T[None, :]] = compact[i]
    assert not np.isnan(result).any()
    return result


def test_residual_is_rounding(case):
    report = case[3]
    assert max(report.residual) < 1e-13
    assert max(report.condition) < 300
    assert not any("residual" in message for message in report.warnings)


def test_second_order_equals_the_hessian(case, tersoff):
    cells, plan, fc, _ = case
    N = cells.fc2_supercell.n_atoms
    units = np.zeros((3 * cells.crystal.n_atoms, 1, N, 3))
    for row, (i, a) in enumerate(np.ndindex(cells.crystal.n_atoms, 3)):
        units[row, 0, cells.fc2_supercell.p2s_map[i], a] = 1.0
    rows = jax.jit(evaluate, static_argnums=(0, 4))(tersoff.energy, tersoff.params, plan.graph2, units, 2)
    exact = np.asarray(rows).reshape(-1, 3, N, 3).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(fc.fc2, exact, rtol=0, atol=1e-12 * np.abs(exact).max())


def test_third_order_equals_single_atom_columns(case, tersoff):
    cells, plan, fc, _ = case
    N = cells.fc3_supercell.n_atoms
    chosen = np.random.default_rng(3).integers(0, 3 * N, (12, 2))
    # the random pairs alone would often be uncoupled: the first home atom with itself and with others is added
    first = 3 * int(cells.fc3_supercell.p2s_map[0])
    chosen = np.concatenate([chosen, [[first, first], [first, first + 1], [first, 4], [first + 2, 3 * N - 1]]])
    units = np.zeros((len(chosen), 2, 3 * N))
    for k, (b, c) in enumerate(chosen):
        units[k, 0, b] = units[k, 1, c] = 1.0
    units = units.reshape(-1, 2, N, 3)
    columns = jax.jit(evaluate, static_argnums=(0, 4))(tersoff.energy, tersoff.params, plan.graph3, units, 3)
    scale = np.abs(fc.fc3).max()
    for (b, c), column in zip(chosen, np.asarray(columns), strict=True):
        ours = np.asarray(fc.fc3)[:, b // 3, c // 3, :, b % 3, c % 3]
        np.testing.assert_allclose(ours, column[cells.fc3_supercell.p2s_map], rtol=0, atol=1e-12 * scale)
    assert np.abs(columns).max() > 0.1 * scale


def test_acoustic_sum_rule(case):
    _, plan, fc, _ = case
    for phi, fit in ((fc.fc2, plan.fit2), (fc.fc3, plan.fit3)):
        everything = full(np.asarray(phi), np.asarray(fit.basis.translations), np.asarray(fit.basis.p2s_map))
        scale = np.abs(everything).max()
        for axis in range(fit.basis.order):
            assert np.abs(everything.sum(axis=axis)).max() < 1e-12 * scale


def test_permutation_and_space_group_symmetry(case):
    """With the operations spglib finds in the supercell itself, which the basis did not use."""
    cells, plan, fc, _ = case
    for phi, fit, cell in ((fc.fc2, plan.fit2, cells.fc2_supercell), (fc.fc3, plan.fit3, cells.fc3_supercell)):
        if cell.n_atoms > 32 and phi.ndim == 6:
            continue
        everything = full(np.asarray(phi), np.asarray(fit.basis.translations), np.asarray(fit.basis.p2s_map))
        scale = np.abs(everything).max()
        m = fit.basis.order
        swap = (1, 0, 3, 2) if m == 2 else (1, 0, 2, 4, 3, 5)
        cycle = swap if m == 2 else (1, 2, 0, 4, 5, 3)
        for axes in (swap, cycle):
            np.testing.assert_allclose(everything.transpose(axes), everything, rtol=0, atol=1e-12 * scale)

        lattice = cell.matrix @ cells.crystal.lattice
        positions = (cells.crystal.positions[cell.primitive_index] + cell.lattice_vector) @ np.linalg.inv(cell.matrix)
        found = spglib.get_symmetry(
            (lattice, positions, np.asarray(cells.crystal.numbers)[cell.primitive_index]), symprec=1e-6
        )
        step = max(1, len(found["rotations"]) // 12)
        for W, w in zip(found["rotations"][::step], found["translations"][::step], strict=True):
            image = positions @ W.T + w
            difference = image[:, None] - positions[None]
            carried = np.abs(difference - np.rint(difference)).sum(-1).argmin(axis=1)
            R = lattice.T @ W @ np.linalg.inv(lattice.T)
            subscripts = "ad,be,JKde->JKab" if m == 2 else "ad,be,cf,JKLdef->JKLabc"
            turned = np.einsum(subscripts, *[R] * m, everything, optimize=True)
            moved = everything[np.ix_(*[carried] * m)]
            np.testing.assert_allclose(moved, turned, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("order", [2, 3])
def test_basis_spans_what_symfc_finds(order):
    """An independent construction of the symmetric subspace: the projectors must be the same."""
    from symfc.basis_sets import FCBasisSetO2, FCBasisSetO3
    from symfc.utils.utils import SymfcAtoms

    cells = supercells_from_atoms(bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (2, 2, 1), (2, 1, 1))
    cell = cells.fc2_supercell if order == 2 else cells.fc3_supercell
    basis = symmetric_basis(cells.crystal, cell, order)
    C = columns_of(basis)
    np.testing.assert_allclose((C.T @ C).toarray(), np.eye(basis.n_parameters), rtol=0, atol=1e-13)

    atoms = SymfcAtoms(
        cell=cell.matrix @ cells.crystal.lattice,
        scaled_positions=(cells.crystal.positions[cell.primitive_index] + cell.lattice_vector)
        @ np.linalg.inv(cell.matrix),
        numbers=np.asarray(cells.crystal.numbers)[cell.primitive_index],
    )
    theirs = FCBasisSetO2(atoms).run() if order == 2 else FCBasisSetO3(atoms).run(apply_sum_rule=False)
    B = theirs.compact_compression_matrix.toarray() * np.sqrt(len(theirs.translation_permutations))
    B /= np.linalg.norm(B, axis=0)
    assert B.shape[1] == basis.n_parameters
    compact = np.random.default_rng(0).standard_normal(basis.n_parameters)
    phi = (C @ compact).reshape((-1,) + (cell.n_atoms,) * (order - 1) + (3,) * order)
    phi = full(phi, basis.translations, basis.p2s_map)[theirs.p2s_map].ravel()
    np.testing.assert_allclose(B @ (B.T @ phi), phi, rtol=0, atol=1e-11 * np.abs(phi).max())


@pytest.mark.parametrize("name", ["wurtzite", "alloy"])
def test_columns_agree_with_patterns(name, tersoff):
    structure, fc2, fc3 = CRYSTALS[name]
    cells = supercells_from_atoms(structure(), fc2, fc3)
    one, first = force_constants(cells, tersoff, scheme="patterns")
    two, second = force_constants(cells, tersoff, scheme="columns")
    assert first.scheme == ("patterns", "patterns")
    assert second.scheme == ("columns", "columns")
    for field in ("fc2", "fc3"):
        a, b = getattr(one, field), getattr(two, field)
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-11 * np.abs(a).max())


def test_low_symmetry_takes_columns_by_itself(tersoff):
    """Hardly more evaluations than patterns, and no cubic cost."""
    structure, fc2, fc3 = CRYSTALS["alloy"]
    _, (_, info, _) = plan_force_constants(supercells_from_atoms(structure(), fc2, fc3), tersoff)
    assert info.scheme == "columns"
    assert info.n_evaluations <= 1.15 * np.ceil(1.05 * info.n_parameters / (3 * 8 - 3))


def test_rank_is_checked_not_counted():
    """One pattern gives Φ2 of wurtzite more equations than it has parameters, and still not all of them."""
    cells = supercells_from_atoms(bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (5, 5, 3), (1, 1, 1))
    _, info = plan_fit(cells.crystal, cells.fc2_supercell, 2)
    assert info.n_parameters < 3 * cells.fc2_supercell.n_atoms - 3
    assert info.n_evaluations == 2


def test_evaluation_counts():
    """The measured numbers of the scheme: 5 patterns for diamond, 9 for zincblende in 64 atoms."""
    for atoms, parameters, evaluations in ((bulk("Si", cubic=True), 807, 5), (CRYSTALS["zincblende"][0](), 1614, 9)):
        cells = supercells_from_atoms(atoms, (1, 1, 1), (2, 2, 2))
        _, info = plan_fit(cells.crystal, cells.fc3_supercell, 3)
        assert (info.n_parameters, info.n_evaluations) == (parameters, evaluations)


def test_chunks_and_seeds_do_not_change_the_result(tersoff):
    cells = supercells_from_atoms(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (2, 2, 2))
    calls = []
    one, _ = force_constants(cells, tersoff, chunk=3, progress=lambda *call: calls.append(call))
    two, report = force_constants(cells, tersoff, chunk=1, seed=7)
    assert calls[-1] == ("fc3", report.evaluations[1], report.evaluations[1])
    assert sorted(calls) == calls
    for field in ("fc2", "fc3"):
        a, b = getattr(one, field), getattr(two, field)
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-12 * np.abs(a).max())


@pytest.mark.parametrize("kept", ["memory", "folder"])
def test_a_plan_serves_every_compound_of_a_structure(tersoff, tmp_path, monkeypatch, kept):
    memory: dict = {}
    monkeypatch.setattr(displacement_patterns, "_RECENT", memory)
    options = {"cache": tmp_path} if kept == "folder" else {}
    sic = supercells_from_atoms(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (2, 2, 2))
    sige = supercells_from_atoms(bulk("SiGe", "zincblende", a=5.54), (2, 2, 2), (2, 2, 2))
    fresh, _ = force_constants(sige, tersoff)
    memory.clear()
    _, (*first, _) = plan_force_constants(sic, tersoff, **options)
    if kept == "folder":
        memory.clear()
    _, (*second, _) = plan_force_constants(sige, tersoff, **options)
    assert [info.cached for info in first] == [False, False]
    assert [info.cached for info in second] == [True, True]
    found, report = force_constants(sige, tersoff, **options)
    assert max(report.residual) < 1e-13
    np.testing.assert_allclose(found.fc3, fresh.fc3, rtol=0, atol=1e-12 * np.abs(fresh.fc3).max())


@pytest.mark.parametrize(
    ("make", "turned"),
    [
        (lambda a: bulk("SiC", "zincblende", a=a), False), (lambda a: bulk("Si", cubic=True, a=a), False),
        (lambda a: bulk("SiC", "wurtzite", a=0.7 * a, c=1.14 * a), False), (lambda a: bulk("Si", a=a), True),
    ],
)  # fmt: skip
def test_the_compound_that_came_first_leaves_no_trace(make, turned, monkeypatch):
    """Plans of a structure are the same to the last bit, whoever made them: a campaign goes on after a kill as it was."""
    monkeypatch.setattr(displacement_patterns, "_RECENT", {})
    plans = []
    for a in (5.43, 3.57, 5.6613, 4.3207):
        atoms = make(a)
        if turned:
            atoms.rotate(54.735610317245346, "x", rotate_cell=True)  # on a corner of the cube
        cells = supercells_from_atoms(atoms, (2, 2, 2), (1, 1, 1))
        displacement_patterns._RECENT.clear()
        fit, _ = plan_fit(cells.crystal, cells.fc2_supercell, 2)
        plans.append((fit.patterns, fit.factor, fit.basis.local, fit.basis.rotation))
    for other in plans[1:]:
        for mine, theirs in zip(plans[0], other, strict=True):
            np.testing.assert_array_equal(theirs, mine)


def test_plans_in_memory_have_a_limit(tersoff, monkeypatch):
    memory: dict = {}
    monkeypatch.setattr(displacement_patterns, "_RECENT", memory)
    monkeypatch.setattr(displacement_patterns, "RECENT_BYTES", 100_000)
    cells = supercells_from_atoms(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (2, 2, 2))
    plan_force_constants(cells, tersoff)
    assert sum(x.nbytes for kept in memory.values() for x in kept.values()) <= 100_000


def test_finite_displacements_converge_quadratically(tersoff):
    """Central differences of forces approach Φ2 as h², so that what is left at small h is their error, not ours."""
    cells = supercells_from_atoms(bulk("Si", a=5.432), (2, 2, 2), (1, 1, 1))
    fc, _ = force_constants(cells, tersoff)
    plan, _ = plan_force_constants(cells, tersoff)
    gradient = jax.jit(jax.grad(lambda x: tersoff.energy(tersoff.params, plan.graph2.at(x))))
    x = plan.graph2.positions
    unit = np.zeros_like(x)
    unit[cells.fc2_supercell.p2s_map[0]] = [0.6, 0.8, 0.0]
    exact = np.einsum("Jab,a->Jb", fc.fc2[0], [0.6, 0.8, 0.0])
    errors = []
    for h in (0.04, 0.02, 0.01):
        difference = (gradient(x + h * unit) - gradient(x - h * unit)) / (2 * h)
        errors.append(float(np.abs(difference - exact).max()))
    assert errors[0] > 1e-4
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 4.0, rtol=0.1)


# --- the adjoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["patterns", "columns"])
@pytest.mark.parametrize("order", [2, 3])
def test_adjoint_of_the_fit(order, scheme):
    """⟨W, recover(G)⟩ = ⟨w, G⟩ with w = A M⁻¹ Cᵀ W, for any G that force constants of this symmetry can give."""
    cells = supercells_from_atoms(bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (2, 2, 1), (2, 1, 1))
    fit, info = plan_fit(
        cells.crystal, cells.fc2_supercell if order == 2 else cells.fc3_supercell, order, scheme=scheme
    )
    rng = np.random.default_rng(2)
    c = rng.standard_normal(info.n_parameters)

    @jax.jit
    def both(fit, c, W):
        G = design(fit, c)
        phi, residual = recover(fit, G)
        w = design(fit, normal_solve(fit, expand_transpose(fit, W)))
        return jnp.vdot(W, phi), jnp.vdot(w, G), jnp.abs(phi - expand(fit, c)).max(), residual

    shape = jax.eval_shape(expand, fit, c).shape
    left, right, error, residual = both(fit, c, rng.standard_normal(shape))
    assert abs(left) > 1e-3
    np.testing.assert_allclose(left, right, rtol=1e-10)
    assert error < 1e-11
    assert residual < 1e-13


@pytest.fixture(scope="module")
def loss(tersoff):
    """⟨W, Φ(θ)⟩ with random W, as a function of the parameters and of a volumetric strain."""
    cells = supercells_from_atoms(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (2, 2, 2))
    plan, _ = plan_force_constants(cells, tersoff)
    rng = np.random.default_rng(5)
    n, N2, N3 = cells.crystal.n_atoms, cells.fc2_supercell.n_atoms, cells.fc3_supercell.n_atoms
    W2, W3 = rng.standard_normal((n, N2, 3, 3)), rng.standard_normal((n, N3, N3, 3, 3, 3))

    def value(params, strain):
        moved = dataclasses.replace(
            plan,
            graph2=plan.graph2.strained(strain * jnp.eye(3)),
            graph3=plan.graph3.strained(strain * jnp.eye(3)),
        )
        fc = force_constants_at(tersoff.energy, params, moved)
        return jnp.vdot(W2, fc.fc2) + jnp.vdot(W3, fc.fc3)

    return jax.jit(value), jax.jit(jax.grad(value, argnums=(0, 1)))(tersoff.params, 0.0)


@pytest.mark.parametrize("name", ["A", "B", "lam", "mu", "n", "h", "d", "chi"])
def test_parameter_gradient_equals_differences(loss, tersoff, name):
    value, (gradient, _) = loss
    base = np.asarray(tersoff.params[name])
    direction = np.zeros_like(base)
    direction.flat[[0, 1]] = base.flat[[0, 1]]  # carbon's and silicon's value, or two entries of chi
    step = 1e-5

    def at(t):
        return float(value(tersoff.params | {name: base + t * direction}, 0.0))

    difference = (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / (12 * step)
    assert abs(difference) > 1e-3
    np.testing.assert_allclose(float(jnp.vdot(gradient[name], direction)), difference, rtol=1e-6)


def test_strain_gradient_equals_differences(loss, tersoff):
    value, (_, slope) = loss
    step = 1e-4

    def at(t):
        return float(value(tersoff.params, t))

    difference = (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / (12 * step)
    assert abs(difference) > 1e-3
    np.testing.assert_allclose(float(slope), difference, rtol=1e-7)


def test_gradient_through_the_compiled_function(tersoff):
    cells = supercells_from_atoms(bulk("Si", a=5.432), (2, 2, 2), (1, 1, 1))
    fn = force_constants_fn(cells, tersoff)
    reference, _ = force_constants(cells, tersoff)
    np.testing.assert_allclose(fn(tersoff.params).fc3, reference.fc3, rtol=0, atol=1e-11)

    def trace(params):
        return jnp.einsum("iJaa->", fn(params).fc2[:, :1])

    gradient = jax.grad(trace)(tersoff.params)
    step = 1e-4
    up, down = (tersoff.params | {"B": tersoff.params["B"] + np.array([0, s, 0])} for s in (step, -step))
    difference = float(trace(up) - trace(down)) / (2 * step)
    np.testing.assert_allclose(float(gradient["B"][1]), difference, rtol=1e-6)
    # carbon and germanium are not in the crystal
    assert float(jnp.abs(gradient["B"][0])) == 0.0


def test_forward_mode_is_refused(tersoff):
    cells = supercells_from_atoms(bulk("Si", a=5.432), (1, 1, 1), (1, 1, 1))
    plan, _ = plan_force_constants(cells, tersoff)
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda p: force_constants_at(tersoff.energy, p, plan).fc2, (tersoff.params,), (tersoff.params,))


# --- misuse and reports ----------------------------------------------------------------------------------------------


def test_single_precision_is_refused(tersoff):
    cells = supercells_from_atoms(bulk("Si", a=5.432), (1, 1, 1), (1, 1, 1))
    with jax.enable_x64(False), pytest.raises(ValueError, match="jax_enable_x64"):
        force_constants(cells, tersoff)


def test_unknown_scheme_is_refused(tersoff):
    cells = supercells_from_atoms(bulk("Si", a=5.432), (1, 1, 1), (1, 1, 1))
    with pytest.raises(ValueError, match='"auto", "patterns" or "columns"'):
        force_constants(cells, tersoff, scheme="dense")


def test_a_potential_without_parity(tersoff):
    """A part that changes sign in the mirror spoils the fit; with mirror images it averages out, to rounding."""
    cells = supercells_from_atoms(bulk("Si", a=5.432), (1, 1, 1), (2, 2, 2))
    expected, _ = force_constants(cells, tersoff)
    chiral = dataclasses.replace(tersoff, energy=_chiral)
    spoilt, report = force_constants(cells, chiral)
    assert report.residual[1] > 1e-3
    assert np.abs(spoilt.fc3 - expected.fc3).max() > 1e-3 * np.abs(expected.fc3).max()
    fc, twice = force_constants(cells, dataclasses.replace(chiral, parity=False))
    assert twice.evaluations == (2 * report.evaluations[0], 2 * report.evaluations[1])
    assert max(twice.residual) < 1e-12
    for a, b in ((fc.fc2, expected.fc2), (fc.fc3, expected.fc3)):
        np.testing.assert_allclose(a, b, atol=1e-11 * np.abs(b).max())


def _chiral(params, graph):
    """Tersoff's energy and Σ_i a_i · (b_i × Σ_j a_j): a and b vectors to the neighbours j of i with different weights."""
    r = graph.vectors()
    square = jnp.sum(r**2, axis=-1)

    def sums(values):
        return jax.ops.segment_sum(jnp.where(graph.edge_mask[:, None], values, 0.0), graph.receivers, graph.n_atoms)

    a, b = (sums(r / (1 + square)[:, None] ** k) for k in (1, 3))
    return tersoff_energy(params, graph) + 100 * jnp.sum(a * jnp.cross(b, sums(a[graph.senders])))


def test_report_says_what_is_wrong(tersoff):
    """A pair on the cutoff, a folded supercell, and a potential that is not invariant under the crystal's rotations."""
    ideal = bulk("Si", a=5.432)
    cells = supercells_from_atoms(ideal, (1, 1, 1), (1, 1, 1))
    _, report = force_constants(cells, tersoff)
    assert any("folded" in message for message in report.warnings)

    on_cutoff = supercells_from_atoms(bulk("Si", a=2.7 * 4 / np.sqrt(3)), (1, 1, 1), (1, 1, 1))
    _, report = force_constants(on_cutoff, tersoff)
    assert report.margin < 1e-6
    assert any("not smooth" in message for message in report.warnings)

    broken = dataclasses.replace(tersoff, energy=_anisotropic)
    _, report = force_constants(supercells_from_atoms(ideal, (2, 2, 2), (1, 1, 1)), broken)
    assert report.residual[0] > 1e-3
    assert any(message.startswith("fc2: residual") for message in report.warnings)


def _anisotropic(params, graph):
    """Favours x over z: not a function of the structure alone."""
    vectors = graph.vectors()
    return jnp.sum(jnp.where(graph.edge_mask, vectors[:, 0] ** 4 - vectors[:, 2] ** 4, 0.0)) * params["A"][1]


def test_a_supercell_too_small_for_any_force_constant_is_refused():
    """In the 8-atom cell of rocksalt, inversion at every site leaves nothing of third order."""
    cells = supercells_from_atoms(bulk("MgO", "rocksalt", a=4.2, cubic=True), (1, 1, 1), (1, 1, 1))
    with pytest.raises(InputError, match=r"order 3 in a supercell of 8 atoms: choose a larger fc3_supercell"):
        plan_fit(cells.crystal, cells.fc3_supercell, 3)
