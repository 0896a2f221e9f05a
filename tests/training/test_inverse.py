"""Force constants from a reference's modes, and the frames that give a potential other force constants."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from solved_problems import analytic, tersoff

from wigner_jax import metrics
from wigner_jax._solve import make_plan, solve
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.crystal.supercells import make_supercell
from wigner_jax.crystal.symmetry import space_group
from wigner_jax.errors import InputError
from wigner_jax.ifc.autodiff import force_constants
from wigner_jax.ifc.displacement_patterns import plan_fit
from wigner_jax.ifc.least_squares import apply, expand
from wigner_jax.metrics import reference_of
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian
from wigner_jax.plan.dipoles import commensurate_points
from wigner_jax.training.few_frames.frames_from_constants import (
    folded,
    frames_from_force_constants,
    nondiagonal_supercell_frames,
    nondiagonal_supercells,
    series_forces,
)
from wigner_jax.training.few_frames.inverse import fc2_from_frequencies, fc3_from_mode_kappa, parameters
from wigner_jax.training.frames import predict
from wigner_jax.types import ForceConstants, Scattering


@pytest.fixture(scope="module")
def silicon():
    """Supercells, plan, patterns, force constants and their solution as the reference."""
    cells, fc = analytic(bulk("Si", a=5.432))
    plan = make_plan(cells, (4, 4, 4))
    solution = solve(plan, fc, [300.0], broadening=AdaptiveGaussian(), scattering=Scattering(plan.mass_variances))
    fits = [
        plan_fit(cells.crystal, supercell, order)[0]
        for supercell, order in ((cells.fc2_supercell, 2), (cells.fc3_supercell, 3))
    ]
    return cells, plan, fits, fc, reference_of(solution, "Si", "Si", 227)


def moved(fit, phi, share: float, seed: int):
    """Force constants with parameters changed at random by that share of their size."""
    c = np.asarray(parameters(fit, jnp.asarray(phi)))
    direction = np.random.default_rng(seed).standard_normal(len(c))
    return np.asarray(expand(fit, jnp.asarray(c + share * np.linalg.norm(c) * direction / np.linalg.norm(direction))))


def test_parameters_invert_the_expansion(silicon):
    _, _, fits, fc, _ = silicon
    for fit, phi in zip(fits, (fc.fc2, fc.fc3), strict=True):
        again = expand(fit, parameters(fit, jnp.asarray(phi)))
        assert np.abs(again - phi).max() < 1e-10 * np.abs(phi).max()


def test_fc2_from_frequencies(silicon):
    _, plan, fits, fc, reference = silicon
    start, lines = moved(fits[0], fc.fc2, 0.02, 0), []
    found = fc2_from_frequencies(plan, fits[0], start, reference, report=lines.append)
    assert len(lines) == 5
    assert found.largest_error < 1e-6  # THz
    waves = solve(plan, ForceConstants(found.fc2, fc.fc3), [300.0], broadening=AdaptiveGaussian()).phonons
    ours = np.asarray(waves.frequencies)[np.asarray(plan.mesh.irreducible)]
    assert np.abs(ours - reference.frequencies)[1:].max() < 1e-6  # the first is Γ, where acoustic modes are noise
    start = solve(
        plan, ForceConstants(start, fc.fc3), [300.0], broadening=AdaptiveGaussian(), allow_imaginary=True
    ).phonons
    before = np.asarray(start.frequencies)[np.asarray(plan.mesh.irreducible)]
    assert np.abs(before - reference.frequencies)[1:].max() > 0.05


def test_fc3_from_mode_kappa(silicon):
    _, plan, fits, fc, reference = silicon
    start = moved(fits[1], fc.fc3, 0.05, 1)
    options = {"broadening": AdaptiveGaussian(), "iterations": 8}
    found = fc3_from_mode_kappa(plan, fits[1], fc.fc2, start, reference, **options)
    before, after = (
        solve(
            plan,
            ForceConstants(fc.fc2, third),
            [300.0],
            broadening=AdaptiveGaussian(),
            scattering=Scattering(plan.mass_variances),
        )
        for third in (start, found.fc3)
    )
    scores = [metrics.srme_of(s, plan.mesh, reference)[1][0] for s in (before, after)]
    assert scores[0] > 0.03
    assert scores[1] < 0.3 * scores[0]
    assert scores[1] == pytest.approx(found.srme, abs=1e-9)
    assert metrics.average(after.conductivity.kappa_TOT)[0] == pytest.approx(found.kappa, rel=1e-9)
    assert found.kappa == pytest.approx(reference.kappa[0], rel=5e-3)


def test_another_mesh_and_no_iterations(silicon):
    cells, plan, fits, fc, reference = silicon
    other = make_plan(cells, (3, 3, 3))
    with pytest.raises(InputError, match="4 4 4, not 3 3 3"):
        fc2_from_frequencies(other, fits[0], fc.fc2, reference)
    with pytest.raises(InputError, match="4 4 4, not 3 3 3"):
        fc3_from_mode_kappa(other, fits[1], fc.fc2, fc.fc3, reference)
    with pytest.raises(InputError, match="no temperature 400 K"):
        fc3_from_mode_kappa(plan, fits[1], fc.fc2, fc.fc3, reference, 400.0)
    with pytest.raises(InputError, match="at least one iteration"):
        fc3_from_mode_kappa(plan, fits[1], fc.fc2, fc.fc3, reference, iterations=0)


# -- frames ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    """A potential, another one, cells, and the differences of their force constants."""
    student = tersoff()
    rng = np.random.default_rng(0)
    params = {
        k: v * (1 + 0.01 * rng.standard_normal(np.shape(v))) if k in ("A", "B") else v
        for k, v in student.params.items()
    }
    teacher = student.with_params(params)
    cells, ours = analytic(bulk("Si", a=5.432))
    theirs = jax.tree.map(np.asarray, force_constants(cells, teacher)[0])
    return student, teacher, cells, (theirs.fc2 - ours.fc2, theirs.fc3 - ours.fc3)


def misfit(student, teacher, frames) -> list[float]:
    """|F of the frame - F of the teacher| relative to what separates teacher and student."""
    result = []
    for frame in frames:
        theirs, ours = (np.asarray(predict(p.energy, p.params, None, frame.graph)[1]) for p in (teacher, student))
        result.append(np.linalg.norm(frame.forces - theirs) / np.linalg.norm(theirs - ours))
    return result


def test_frames_from_force_constants_have_the_other_potentials_forces(pair):
    student, teacher, cells, changes = pair
    frames = frames_from_force_constants(student, cells, *changes, count=2)
    assert [f.forces.shape for f in frames] == [(16, 3)] * 2
    assert max(misfit(student, teacher, frames)) < 5e-3  # fourth order
    without = frames_from_force_constants(student, cells, changes[0], 0 * changes[1], count=2)
    assert min(misfit(student, teacher, without)) > 2 * max(misfit(student, teacher, frames))


def test_wave_frames_have_the_other_potentials_forces(pair):
    student, teacher, cells, changes = pair
    frames = nondiagonal_supercell_frames(student, cells, changes[0])
    assert max(len(f.forces) for f in frames) <= 6  # 3 primitive cells of two atoms, of a supercell with 54
    assert max(misfit(student, teacher, frames)) < 2e-2  # third order
    assert frames[0].scales[1] == pytest.approx(0.005)


def test_frames_refuse_other_shapes(pair):
    student, _, cells, (second, third) = pair
    with pytest.raises(InputError, match="do not belong to these supercells"):
        frames_from_force_constants(student, cells, third, second)
    with pytest.raises(InputError, match="do not belong to these supercells"):
        nondiagonal_supercell_frames(student, cells, second[:, :-1])
    with pytest.raises(InputError, match="at least one frame"):
        frames_from_force_constants(student, cells, second, third, count=0)


@pytest.mark.parametrize(
    ("atoms", "matrix"),
    [
        (bulk("NaCl", "rocksalt", a=5.6), 2 * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]])),
        (bulk("ZnO", "wurtzite", a=3.25, c=5.2), np.diag([4, 4, 2])),
        (bulk("Si", a=5.43), np.array([[5, 0, 0], [1, 2, 0], [0, 1, 1]])),
    ],
    ids=["rocksalt", "wurtzite", "skewed"],
)
def test_wave_cells_hold_every_wave(atoms, matrix):
    cells = supercells_from_atoms(atoms, matrix.T, (1, 1, 1))
    crystal, rotations = cells.crystal, space_group(cells.crystal).point_group()
    found = nondiagonal_supercells(crystal, cells.fc2_supercell)
    for q in commensurate_points(crystal, cells.fc2_supercell):
        images = [m @ (R.T @ q) for m in found for R in rotations]
        assert any(np.allclose(x, np.rint(x), atol=1e-6) for x in images)
    sizes = [round(abs(np.linalg.det(m))) for m in found]
    exponent = next(
        k
        for k in range(1, 999)
        if np.allclose(m := k * np.linalg.inv(cells.fc2_supercell.matrix), np.rint(m), atol=1e-6)
    )
    assert max(sizes) == exponent  # the largest order of a q
    assert sum(sizes) * 2 <= 6 * cells.fc2_supercell.n_atoms


def test_series_and_folding_agree_with_the_supercells_own(silicon):
    cells, _, fits, fc, _ = silicon
    rng = np.random.default_rng(3)
    u = rng.standard_normal((cells.fc2_supercell.n_atoms, 3))
    expected = -apply(dataclasses.replace(fits[0], patterns=jnp.asarray(u)[None, None]), jnp.asarray(fc.fc2))[0]
    assert np.abs(series_forces(cells.crystal, cells.fc2_supercell, u, fc.fc2) - expected).max() < 1e-12

    small = cells.fc3_supercell
    fit = plan_fit(cells.crystal, small, 2)[0]
    u = rng.standard_normal((small.n_atoms, 3))
    of_folded = folded(cells.crystal, cells.fc2_supercell, fc.fc2, small)
    expected = -apply(dataclasses.replace(fit, patterns=jnp.asarray(u)[None, None]), jnp.asarray(of_folded))[0]
    assert np.abs(series_forces(cells.crystal, small, u, of_folded) - expected).max() < 1e-12
    twice = jnp.asarray(np.stack([u, u]))[None]
    expected -= 0.5 * apply(dataclasses.replace(fits[1], patterns=twice), jnp.asarray(fc.fc3))[0]
    assert np.abs(series_forces(cells.crystal, small, u, of_folded, fc.fc3) - expected).max() < 1e-11

    one = make_supercell(cells.crystal, np.eye(3, dtype=int))
    shift = np.tile(rng.standard_normal(3), (one.n_atoms, 1))
    of_one = folded(cells.crystal, cells.fc2_supercell, fc.fc2, one)
    assert np.abs(series_forces(cells.crystal, one, shift, of_one)).max() < 1e-9  # acoustic sum rule
