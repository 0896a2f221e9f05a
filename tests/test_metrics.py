"""SRE, SRME and the other measures: against an independent evaluation, their limits, and the reference file."""

from __future__ import annotations

import dataclasses
import gzip
import json

import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk
from solved_problems import analytic

from wigner_jax import metrics
from wigner_jax._solve import make_plan, solve
from wigner_jax.crystal.symmetry import space_group
from wigner_jax.errors import InputError
from wigner_jax.io.phonondb import COLUMNS, read_phonondb, read_phonondb_structure

FILE = "data/phonondb/kappas_phononDB_PBE_noNAC.json.gz"
STRUCTURES = "data/phonondb/phononDB-PBE-structures.extxyz"


@pytest.fixture(scope="module")
def references(shared):
    return read_phonondb(shared / FILE)


@pytest.fixture(scope="module")
def silicon():
    cells, fc = analytic(bulk("Si", a=5.432), (2, 2, 2), (2, 2, 2))
    plan = make_plan(cells, (3, 3, 3))
    return plan, cells, solve(plan, fc, (300.0,))


def test_the_eight_stored_conductivities(shared, references):
    """MACE-MP-0b against DFT, with plain numpy and explicit loops over modes: 1e-12."""
    files = sorted((shared / "data/mace-force-sets").glob("*.npz"))
    assert len(files) == 8
    with gzip.open(shared / FILE, "rt") as file:
        table = json.load(file)
    scores = {}
    for path in files:
        stored = np.load(path)
        name = str(stored["mp_id"])
        (row,) = [k for k, v in table["mp_id"].items() if v == name]
        dft, w = np.array(table["mode_kappa_TOT_ave"][row])[0], np.array(table["weights"][row])
        mlp = stored["mode_kappa_TOT"][0][..., :3].sum(-1) / 3
        kappa, kappa_dft = stored["kappa_TOT_RTA"][0, :3].sum() / 3, float(table["kappa_TOT_ave"][row][0])
        error = sum(abs(mlp[q, s] - dft[q, s]) for q in range(len(w)) for s in range(dft.shape[1]))
        expected = 2 * abs(kappa - kappa_dft) / (kappa + kappa_dft), 2 * error / w.sum() / (kappa + kappa_dft)

        reference = references[name]
        ours = metrics.average(stored["kappa_TOT_RTA"])
        found = (
            metrics.sre(ours, reference.kappa),
            metrics.srme(metrics.average(stored["mode_kappa_TOT"]), reference.mode_kappa, reference.weights, ours, reference.kappa),
        )  # fmt: skip
        np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-12)
        scores[str(stored["name"])] = found[1].item()
    assert scores["LiBr"] == pytest.approx(0.2706, abs=5e-5)
    assert len(set(scores.values())) == 8


def test_modes_add_up_to_the_total(references):
    for reference in references.values():
        total = reference.mode_kappa.sum(axis=(1, 2)) / reference.weights.sum()
        np.testing.assert_allclose(total, reference.kappa, rtol=1e-9)
        assert reference.weights.sum() == np.prod(reference.mesh)


def test_mode_conductivities_follow_the_heat_capacities(silicon):
    """K_s = κ_P,s + 2 Σ C_s/(C_s + C_s') κ_C,ss', a partition of κ_TOT, here by loops."""
    plan, _, solution = silicon
    result = solution.conductivity
    K = np.asarray(metrics.mode_kappa(result))
    P, C2 = (np.asarray(x)[..., :3].mean(-1) for x in (result.mode_kappa_P, result.mode_kappa_C))
    C = np.asarray(result.heat_capacity)
    for p in range(K.shape[1]):
        for s in range(K.shape[2]):
            others = [t for t in range(K.shape[2]) if C[0, p, s] + C[0, p, t] > 0]
            pairs = sum(2 * C[0, p, s] / (C[0, p, s] + C[0, p, t]) * C2[0, p, s, t] for t in others)
            np.testing.assert_allclose(K[0, p, s], P[0, p, s] + pairs, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(K.sum() / len(plan.mesh.qpoints), metrics.average(result.kappa_TOT)[0], rtol=1e-12)


def reference_like(solution, plan, scale: float = 1.0):
    from wigner_jax.reference import Reference

    result, mesh = solution.conductivity, plan.mesh
    points = np.asarray(mesh.qpoints)[np.asarray(mesh.irreducible)]
    return Reference(
        "mp-1", "Si", 227, mesh.dims, np.array([300.0]), points, np.asarray(mesh.weights),
        np.asarray(solution.phonons.frequencies)[np.asarray(mesh.irreducible)], np.asarray(result.heat_capacity),
        scale * np.asarray(metrics.mode_kappa(result)), scale * np.asarray(metrics.average(result.kappa_TOT)),
    )  # fmt: skip


def test_a_solution_against_itself_and_a_scaled_copy(silicon):
    plan, _, solution = silicon
    np.testing.assert_allclose(metrics.srme_of(solution, plan.mesh, reference_like(solution, plan)), 0, atol=1e-14)
    scores = metrics.srme_of(solution, plan.mesh, reference_like(solution, plan, 3.0))
    np.testing.assert_allclose(scores, 1.0, rtol=1e-12)  # 2 (3 - 1)/(3 + 1), mode by mode too


def test_imaginary_modes_and_a_changed_space_group_score_two(silicon):
    plan, cells, solution = silicon
    reference = reference_like(solution, plan)
    f = np.array(solution.phonons.frequencies)
    f[5, 0] = -0.3
    soft = dataclasses.replace(solution, phonons=dataclasses.replace(solution.phonons, frequencies=f))
    np.testing.assert_array_equal(metrics.srme_of(soft, plan.mesh, reference), 2.0)
    f = np.array(solution.phonons.frequencies)
    f[0, :3] = -0.005  # rounding of the acoustic modes at Γ is no instability
    noisy = dataclasses.replace(solution, phonons=dataclasses.replace(solution.phonons, frequencies=f))
    assert np.all(metrics.srme_of(noisy, plan.mesh, reference)[1] < 1e-12)
    before = space_group(cells.crystal)
    after = dataclasses.replace(before, number=216)
    np.testing.assert_array_equal(metrics.srme_of(solution, plan.mesh, reference, (before, after)), 2.0)
    assert np.all(metrics.srme_of(solution, plan.mesh, reference, (before, before))[1] < 1e-12)


def test_what_is_not_finite_scores_two():
    K = jnp.ones((1, 4, 6))
    assert metrics.srme(K.at[0, 1, 2].set(jnp.nan), K, jnp.ones(4)) == 2.0
    assert metrics.sre(jnp.nan, 1.0) == 2.0
    assert metrics.sre(0.0, 1.0) == 2.0  # no conduction at all is as bad


def test_the_mesh_and_its_points_must_be_the_references(silicon):
    plan, _, solution = silicon
    reference = reference_like(solution, plan)
    with pytest.raises(InputError, match="on the mesh 3 3 5, not 3 3 3"):
        metrics.srme_of(solution, plan.mesh, dataclasses.replace(reference, mesh=(3, 3, 5)))
    with pytest.raises(InputError, match="irreducible points"):
        metrics.srme_of(solution, plan.mesh, dataclasses.replace(reference, qpoints=reference.qpoints + 0.01))
    with pytest.raises(InputError, match="no temperature 300 K: choose from 400"):
        metrics.srme_of(solution, plan.mesh, dataclasses.replace(reference, temperatures=np.array([400.0])))


def test_points_are_those_of_our_meshes(shared, references):
    for name in ("mp-23259", "mp-2542", "mp-2534"):  # rocksalt, wurtzite, zincblende
        from wigner_jax.crystal.defaults import default_supercells

        atoms = read_phonondb_structure(shared / STRUCTURES, name)
        plan = make_plan(default_supercells(atoms), references[name].mesh)
        references[name].require_mesh(plan.mesh)
        np.testing.assert_array_equal(plan.mesh.weights, references[name].weights)


def test_share_within_a_factor_of_two():
    assert metrics.factor_of_two([1.0, 2.0, 2.1, 0.5, 0.49, np.nan], np.ones(6)) == pytest.approx(3 / 6)


def test_distance_of_densities_of_states():
    """Against scipy; a rigid shift costs the shift, whatever the bands' order."""
    from scipy.stats import wasserstein_distance

    rng = np.random.default_rng(0)
    f, g, w = rng.uniform(0, 10, (7, 6)), rng.uniform(0, 10, (7, 6)), rng.integers(1, 9, 7)
    flat = np.repeat(w, 6)
    expected = wasserstein_distance(f.ravel(), g.ravel(), flat, flat)
    assert metrics.frequency_distance(f, g, w) == pytest.approx(expected, rel=1e-12)
    assert metrics.frequency_distance(f + 0.3, f[:, ::-1], w) == pytest.approx(0.3, rel=1e-12)
    assert metrics.frequency_distance(np.repeat(f, 2, axis=0), f, np.repeat(w, 2), w) == pytest.approx(0, abs=1e-13)


# --- the file --------------------------------------------------------------------------------------------------------


def test_reading_the_reference(references, shared):
    assert len(references) == 103
    libr = references["mp-23259"]
    assert (libr.name, libr.space_group, libr.mesh) == ("LiBr", 225, (19, 19, 19))
    assert libr.kappa[0] == pytest.approx(1.8282, abs=1e-4)
    assert read_phonondb_structure(shared / STRUCTURES, "mp-23259").get_chemical_formula() == "Br4Li4"
    wurtzite = read_phonondb_structure(shared / STRUCTURES, "mp-2542")
    np.testing.assert_array_equal(wurtzite.info["primitive_matrix"], np.eye(3))


def test_bad_reference_files(tmp_path):
    with pytest.raises(InputError, match="no reference file"):
        read_phonondb(tmp_path / "none.json")
    path = tmp_path / "bad.json"
    path.write_text("{")
    with pytest.raises(InputError, match="not a table in JSON"):
        read_phonondb(path)
    broken = tmp_path / "bad.json.gz"
    broken.write_bytes(b"no gzip")
    with pytest.raises(InputError, match="not a table in JSON"):
        read_phonondb(broken)
    table = {name: {"0": 1} for name in COLUMNS}
    del table["weights"]
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match="no column 'weights'"):
        read_phonondb(path)
    table["weights"] = {"0": [1]}
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match="row 0"):
        read_phonondb(path)
