"""The MACE model that comes with the package: what it is chosen for, and that it gives the numbers it was recorded with."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

import wigner_jax as wj
from wigner_jax.cli import app as cli
from wigner_jax.potentials import bundled
from wigner_jax.potentials import saving as saved
from wigner_jax.potentials.mace.files import load_mace
from wigner_jax.potentials.registry import default_potential, model_file, restrict
from wigner_jax.relaxation.ase_protocols import relax_k_srme

RECORD = json.loads(bundled.FILE.with_suffix(".json").read_text())


def test_it_is_small_and_described():
    assert bundled.FILE.stat().st_size < 5e6
    card = bundled.FILE.with_suffix(".md").read_text()
    assert all(f"| {name} |" in card for name in bundled.COMPOUNDS)
    assert set(bundled.COMPOUNDS) <= set(wj.available_prototypes())


@pytest.mark.parametrize("name", bundled.COMPOUNDS)
def test_it_is_the_default_of_its_compounds(name):
    atoms = wj.prototype(name)
    found = default_potential(atoms.numbers)
    assert found.name.startswith(bundled.NAME)
    assert set(found.species) == set(atoms.numbers)


@pytest.mark.parametrize(
    ("formula", "name"), [("SiC", "tersoff-1989"), ("SiGe", "tersoff-1989"), ("C", "tersoff-1989"), ("SiO2", None),
                          ("MgSi", None), ("LiNaCl2", None), ("KCl", None), ("Li2Br", None), ("Al", None)],
)  # fmt: skip
def test_knowing_the_elements_is_not_enough(formula, name):
    found = default_potential(Atoms(formula).numbers)
    assert (None if found is None else found.name) == name


def test_the_order_of_elements_does_not_matter():
    assert bundled.covers(Atoms("ClNa").numbers)
    assert bundled.covers(Atoms("Si8").numbers)


def test_the_command_needs_no_other_files(capsys, tmp_path, monkeypatch):
    """By name alone, with no folder of models: κ on a coarse mesh as it was recorded when the model was made."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    for variable in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("WIGNER_JAX_MODELS", raising=False)
    mesh = map(str, RECORD["mesh"])
    small = ["--fc2-supercell", "2", "2", "2", "--fc3-supercell", "2", "2", "2", "--mesh", *mesh]
    assert cli.main(["kappa", RECORD["compound"], *small]) == 0
    text = capsys.readouterr().out
    assert f"{bundled.NAME}[NaCl], relaxed" in text
    (row,) = re.findall(r"^ *300 .*$", text, re.MULTILINE)
    np.testing.assert_allclose(float(row.split()[3]), RECORD["kappa"], rtol=2e-5)


def test_changed_parameters_go_into_a_copy(tmp_path):
    potential = wj.load_potential(bundled.NAME)
    assert model_file(bundled.NAME) == bundled.FILE
    name = "products.0.symmetric_contractions.contractions.0.weights_max"
    changed = potential.with_params({**potential.params, name: 1.01 * np.asarray(potential.params[name])})
    saved.save_potential(changed, tmp_path / "mine.model", bundled.FILE)
    back = load_mace(tmp_path / "mine.model")
    np.testing.assert_array_equal(back.params[name], changed.params[name])


def test_it_relaxes_under_a_calculator():
    """The same lattice constant by FIRE, from the primitive cell."""
    atoms = bulk("NaCl", "rocksalt", a=5.64)
    found, _ = relax_k_srme(atoms, wj.WignerCalculator(restrict(wj.load_potential(bundled.NAME), atoms.numbers)))
    a = (4 * found.cell.volume) ** (1 / 3)
    np.testing.assert_allclose(a, RECORD["lattice_constant"], rtol=1e-4)
