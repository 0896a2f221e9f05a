"""Layers and wires: κ does not depend on the box, and is phono3py's of the box times box over material."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
from ase import Atoms
from ase.build import graphene
from phono3py_peer import run_peer

import wigner_jax as wj
from wigner_jax.cli.app import main
from wigner_jax.cli.report import kappa_table
from wigner_jax.crystal.low_dimensional import flat_mesh, layer_thickness, say_vacuum, vacuum_axes
from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.plot.style import traced

MESH = (6, 6, 1)
SIZES = {"fc2_supercell": (4, 4, 1), "fc3_supercell": (3, 3, 1)}


def sheet(height: float = 16.0, shift: float = 0.5) -> Atoms:
    atoms = graphene("C2", a=2.53, vacuum=height / 2)
    atoms.pbc = True
    atoms.positions[:, 2] = shift * height
    return atoms


@pytest.fixture(scope="module")
def solution():
    return wj.conductivity(sheet(), "tersoff-1989", mesh=MESH, layer=3.35, **SIZES)


def test_the_box_does_not_matter(solution):
    """The in-plane κ of twice as high a box, an atom's plane on its border; nothing flows across."""
    again = wj.conductivity(sheet(25.0, 0.0), "tersoff-1989", mesh=MESH, layer=3.35, **SIZES)
    κ, other = (np.asarray(s.conductivity.kappa_TOT)[0] for s in (solution, again))
    np.testing.assert_allclose(other[:2], κ[:2], rtol=1e-8)
    np.testing.assert_allclose(κ[0], κ[1], rtol=1e-9)
    assert np.abs(κ[2:]).max() < 1e-6 * κ[0]
    assert solution.crystal.occupied == pytest.approx(3.35 / 16.0)
    rests_on = solution.diagnostics()
    assert rests_on.occupied == pytest.approx(3.35 / 16.0)
    assert any("per 20.94 % of the cell's volume" in line for line in rests_on.lines())


def test_against_phono3py(solution):
    """Linewidths, and κ of the whole box from them."""
    peer = wj.to_phono3py(wj.GivenConstants(solution.plan.supercells, solution.force_constants))
    expected = run_peer(peer, MESH, None, (300.0,))
    ours = np.asarray(solution.linewidths.three_phonon)
    np.testing.assert_allclose(ours, expected.three_phonon, rtol=0, atol=1e-6 * expected.three_phonon.max())
    crystal = dataclasses.replace(solution.crystal, occupied=None)
    plan = dataclasses.replace(solution.plan, crystal=crystal)
    box = wj.solve(plan, solution.force_constants).conductivity
    for name in ("kappa_P", "kappa_C", "mode_kappa_P"):
        a, b = (np.asarray(getattr(x, name)) for x in (box, solution.conductivity))
        np.testing.assert_allclose(a * 16.0 / 3.35, b, rtol=1e-10, atol=1e-12 * np.abs(b).max())


def test_everything_that_comes_after_is_normalised_too(solution, tmp_path):
    limited = wj.with_boundary(solution, 0.1)
    anew = wj.solve(solution.plan, solution.force_constants, scattering=wj.Scattering(boundary_mfp=0.1))
    np.testing.assert_allclose(limited.conductivity.kappa_TOT, anew.conductivity.kappa_TOT, rtol=1e-9, atol=1e-9)
    solution.save(tmp_path / "kappa.hdf5", bands=False)
    data = wj.read_kappa_hdf5(tmp_path / "kappa.hdf5")
    assert data["attributes"]["occupied"] == pytest.approx(3.35 / 16.0)
    # phono3py's formula from the datasets: conversion × Σ C gv_by_gv / (2γ), over the points
    width = data["gamma"][0] + data["gamma_isotope"]
    alive = width > 0
    modes = np.where(alive, data["heat_capacity"][0] / np.where(alive, 2 * width, 1), 0)
    total = np.einsum("ps,psa->a", modes, data["gv_by_gv"]) * data["kappa_unit_conversion"] / data["weight"].sum()
    np.testing.assert_allclose(total, data["kappa"][0], rtol=1e-6, atol=1e-6 * data["kappa"].max())
    given = wj.GivenConstants(solution.plan.supercells, solution.force_constants)
    (path,) = wj.write_force_constants(tmp_path / "fc", given)
    again = wj.conductivity(str(path), mesh=MESH)  # the file says what it is of
    np.testing.assert_allclose(again.conductivity.kappa_TOT, solution.conductivity.kappa_TOT, rtol=1e-9, atol=1e-9)


def test_the_average_is_that_of_the_directions_that_there_are(solution, capsys, tmp_path):
    """In the table, in words, in figures; and a cell with vacuum that is said to be nothing is said."""
    total = np.asarray(solution.conductivity.kappa_TOT)[0]
    assert kappa_table(solution).splitlines()[1].split()[-1] == f"{total[:2].mean():.4f}"
    assert "in the layer" in kappa_table(solution)
    assert f"κ {total[:2].mean():.4g} W/(m K)" in repr(solution)
    solution.save(tmp_path / "a.hdf5", bands=False)
    assert traced(wj.read_kappa_hdf5(tmp_path / "a.hdf5"), total) == pytest.approx(total[:2].mean())
    with pytest.warns(AccuracyWarning, match="say that it is a layer or a wire"):
        say_vacuum(dataclasses.replace(solution.crystal, occupied=None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        say_vacuum(solution.crystal)
        say_vacuum(wj.default_supercells(wj.prototype("Si")).crystal)
    given = wj.GivenConstants(solution.plan.supercells, solution.force_constants)
    with pytest.warns(AccuracyWarning, match="do not say that the crystal is a layer"):
        wj.write_force_constants(tmp_path / "p", given, "phono3py")
    (path,) = wj.write_force_constants(tmp_path / "own", given)
    assert main(["kappa", "--fc", str(path), "--mesh", "3", "3", "1", "--phono3py-defaults"]) == 2
    assert "does not know layers" in capsys.readouterr().err


def test_thickness_and_mesh():
    cells = wj.default_supercells(sheet(), (2, 2, 1), (2, 2, 1))
    assert layer_thickness(cells.crystal) == pytest.approx(2 * 1.77)
    layer = wj.as_layer(cells)
    assert layer.crystal.occupied == pytest.approx(3.54 / 16.0)
    assert flat_mesh(layer.crystal, (9, 9, 2)) == (9, 9, 1)
    assert flat_mesh(cells.crystal, (9, 9, 2)) == (9, 9, 2)
    # two kinds of atoms outermost, the layer across the border of the cell
    buckled = Atoms("HSi", positions=[[0, 0, 19.5], [0, 0, 1.0]], cell=[3.8, 3.8, 20.0], pbc=True)
    assert layer_thickness(wj.supercells_from_atoms(buckled, (1, 1, 1), (1, 1, 1)).crystal) == pytest.approx(
        1.5 + 1.2 + 2.19
    )


def test_wires():
    chain = Atoms("C2", positions=[[0, 0, 0], [1.3, 0.2, 0]], cell=[2.6, 12, 14], pbc=True)
    cells = wj.supercells_from_atoms(chain, (1, 1, 1), (1, 1, 1))
    assert vacuum_axes(cells.crystal, 2).tolist() == [1, 2]
    wire = wj.as_wire(cells, 10.0)
    assert wire.crystal.occupied == pytest.approx(10.0 / (12 * 14))
    assert flat_mesh(wire.crystal, (5, 5, 5)) == (5, 1, 1)
    with pytest.raises(InputError, match=r"a wire of 200 Å² in a cell of 168 Å²"):
        wj.as_wire(cells, 200.0)
    with pytest.raises(
        InputError, match="a layer has vacuum along one lattice vector, and the widest gaps along the three"
    ):
        wj.as_layer(cells)


def test_what_is_no_layer(capsys):
    bulk_cells = wj.default_supercells(wj.prototype("Si"))
    for make in (lambda: wj.as_layer(bulk_cells), lambda: wj.as_wire(bulk_cells, 3.0)):
        with pytest.raises(InputError, match="vacuum along"):
            make()
    cells = wj.default_supercells(sheet(), (2, 2, 1), (2, 2, 1))
    for bad in (0.0, -1.0, 17.0, np.nan):
        with pytest.raises(InputError, match="Å thick in a cell 16 Å high"):
            wj.as_layer(cells, bad)
    for words, says in (
        (["--layer"], "a layer has vacuum along one"),
        (["--layer", "-3"], "--layer must be above zero"),
        (["--wire", "nan"], "--wire must be above zero"),
    ):
        assert main(["kappa", "Si", *words]) == 2
        assert says in capsys.readouterr().err
