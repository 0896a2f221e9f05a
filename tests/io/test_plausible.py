"""What force constants from a file rarely are when they are right is said, and what they often are is not."""

from __future__ import annotations

import dataclasses
import re
import warnings

import numpy as np
import pytest
from reference_materials import load
from solved_problems import analytic

import wigner_jax as wj
from wigner_jax.errors import AccuracyWarning
from wigner_jax.ifc.plausible import say_implausible, third_over_second


def said(call, *arguments, **options) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments, **options)
    return [str(w.message) for w in caught if w.category is AccuracyWarning]


@pytest.fixture(scope="module")
def carbide():
    return analytic(wj.prototype("SiC"), (2, 2, 2), (2, 2, 2))


def test_rotational_invariance(carbide):
    """Exact for forces that end within the supercell, whatever the scale of Φ3; no statement where they do not."""
    cells, fc = carbide
    for scale in (1.0, 48.587, 1e-6, 1e-170):
        scaled = dataclasses.replace(fc, fc3=scale * np.asarray(fc.fc3))
        np.testing.assert_allclose(scale * third_over_second(cells, scaled), 1, rtol=1e-6)
    small = analytic(wj.prototype("SiC"), (1, 1, 1), (1, 1, 1))
    assert np.isnan(third_over_second(*small))
    zero = dataclasses.replace(fc, fc3=0 * np.asarray(fc.fc3))
    assert np.isnan(third_over_second(cells, zero))


@pytest.mark.parametrize("factor", [92.0, 1 / 48.0, 1.0])
def test_units_where_rotations_say_nothing(factor):
    """In a supercell within the range of the forces: Φ3 in Ry/Bohr³ gave κ of 0.1 instead of 464 without a word."""
    cells, fc = analytic(wj.prototype("SiC"), (1, 1, 1), (1, 1, 1))
    words = said(say_implausible, cells, dataclasses.replace(fc, fc3=factor * np.asarray(fc.fc3)))
    assert len(words) == (factor != 1.0)
    assert all("check the units of both" in w for w in words)


@pytest.mark.parametrize("name", ["si-tersoff", "nacl-mace"])
def test_honest_force_constants_are_not_questioned(name):
    material = load(name)
    assert said(say_implausible, material.cells, material.constants) == []


@pytest.mark.parametrize(
    ("scale", "expected"), [(48.587, True), (1e-6, True), (1e-170, True), (3.0, False), (0.4, False)]
)
def test_units_of_the_third_order(carbide, scale, expected):
    cells, fc = carbide
    words = said(say_implausible, cells, dataclasses.replace(fc, fc3=scale * np.asarray(fc.fc3)))
    assert (
        [w for w in words if "rotational invariance" in w and f"{scale:.2g} times" in w] != []
        if expected
        else not words
    )


@pytest.mark.parametrize(("scale", "expected"), [(1822.9, True), (1e-3, True), (1.02, False), (2.0, False)])
def test_masses(carbide, scale, expected):
    """Deuterium is twice as heavy as hydrogen; nothing is 1823 times."""
    cells, fc = carbide
    crystal = dataclasses.replace(cells.crystal, masses=scale * np.asarray(cells.crystal.masses))
    words = said(say_implausible, dataclasses.replace(cells, crystal=crystal), fc)
    assert any("check its unit" in w for w in words) == expected


@pytest.mark.parametrize(("scale", "expected"), [(0.529, True), (1.89, True), (1.1, False), (0.9, False)])
def test_lengths(carbide, scale, expected):
    cells, fc = carbide
    crystal = dataclasses.replace(cells.crystal, lattice=scale * np.asarray(cells.crystal.lattice))
    words = said(say_implausible, dataclasses.replace(cells, crystal=crystal), fc)
    assert any("unit of length" in w for w in words) == expected


def test_noise_in_the_cells_of_a_yaml(carbide, tmp_path):
    """κ of what has lost its symmetry in the last digits was another one, without a word."""
    cells, fc = carbide
    wj.write_force_constants(tmp_path, wj.GivenConstants(cells, fc), "phono3py")
    yaml = tmp_path / "phono3py.yaml"
    assert said(wj.read_force_constants, yaml) == []
    text = yaml.read_text()
    parts = re.split(r"(coordinates: \[)([^\]]*)(\])", text)
    random = np.random.default_rng(0)
    shift = 1e-5 * random.normal(size=3)
    for k in range(2, len(parts), 4):  # every other atom, in all cells
        x = np.array([float(v) for v in parts[k].split(",")])
        parts[k] = ", ".join(f"{v:.15f}" for v in (x + shift * (k % 8 == 2)))
    yaml.write_text("".join(parts))
    words = said(wj.read_force_constants, yaml)
    assert any("within 1e-05 Å, but" in w and "symprec" in w for w in words)
    exact = wj.read_force_constants(yaml, symprec=1e-3)
    assert len(wj.make_plan(exact.supercells, (3, 3, 3)).mesh.irreducible) == len(
        wj.make_plan(cells, (3, 3, 3)).mesh.irreducible
    )
