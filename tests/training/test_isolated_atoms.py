"""Frames of free atoms give energies of atoms, as in MACE, and are not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ase.build
import ase.io
import numpy as np
import pytest
from ase import Atoms

from wigner_jax.errors import AccuracyWarning, InputError
from wigner_jax.potentials.registry import load_potential
from wigner_jax.training.config_schema import parse
from wigner_jax.training.dataset import is_isolated, read_frames
from wigner_jax.training.on_forces.config import build
from wigner_jax.training.on_forces.initial import initial, with_atom_energies

if TYPE_CHECKING:
    from pathlib import Path

E0 = "atomic_energies_fn.atomic_energies"


def atom(
    symbol: str = "Si", energy: float | None = -0.8, pbc: bool = False, mark: str | None = "IsolatedAtom"
) -> Atoms:
    atoms = Atoms(symbol, positions=[[6, 6, 6]], cell=12 * np.eye(3), pbc=pbc)
    atoms.arrays["REF_forces"] = np.zeros((1, 3))
    if energy is not None:
        atoms.info["REF_energy"] = energy
    if mark is not None:
        atoms.info["config_type"] = mark
    return atoms


def crystals(count: int = 4) -> list[Atoms]:
    frames = []
    for k in range(count):
        atoms = ase.build.bulk("Si", "diamond", a=5.4 + 0.02 * k)
        atoms.info.update(REF_energy=-10.8 + 0.01 * k, config_type="Default")
        atoms.arrays["REF_forces"] = np.array([[0.1, 0, 0], [-0.1, 0, 0]])
        frames.append(atoms)
    return frames


def section(frames: list[Atoms], **options: object) -> dict:
    ase.io.write("frames.extxyz", frames)
    return {"potential": "mace-bundled", "output": "run", "batch": 2, "epochs": 1,
            "data": {"train": ["frames.extxyz"], "validation": 0.25}, **options}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_isolated() -> None:
    assert is_isolated(atom())
    assert is_isolated(atom(pbc=True))
    assert is_isolated(atom(mark=None))
    assert not is_isolated(atom(pbc=True, mark=None))
    assert not is_isolated(crystals(1)[0])


def test_they_become_energies_of_atoms(folder: Path) -> None:
    run = build(section([atom(), *crystals()]), folder)
    assert "energies of isolated atoms Si -0.8 eV" in run.summary
    assert "3 structures, 1 for validation" in run.summary
    k = run.potential.species.index(14)
    assert np.all(np.asarray(run.potential.params[E0])[..., k] == -0.8)
    assert np.asarray(run.model.frozen[E0])[..., k] == pytest.approx(-0.8, rel=1e-6)
    (folder / "frames.extxyz").unlink()
    plain = build(section(crystals()), folder).potential
    changed = np.asarray(plain.params[E0]) != np.asarray(run.potential.params[E0])
    assert changed.sum() == changed[..., k].sum() > 0


def test_the_rest_is_fitted_from_scratch(folder: Path) -> None:
    potential = load_potential("mace-bundled")
    given = parse(section([atom(energy=-1.5), *crystals()]), "train")
    found = read_frames(given["data"], given["loss"], folder, potential, 0)
    assert found.atom_energies == {14: -1.5}
    assert len(found.frames) + len(found.held) == 4
    energies = np.asarray(initial(potential, found.frames, 0, found.atom_energies).params[E0])
    assert np.all(energies[..., potential.species.index(14)] == -1.5)
    fitted = np.asarray(initial(potential, found.frames, 0).params[E0])[..., potential.species.index(14)]
    assert fitted == pytest.approx(-5.4, abs=0.02)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        ([atom(energy=None)], "is an isolated atom without an energy"),
        ([atom(energy=float("nan"))], "is an isolated atom without an energy"),
        ([atom(), atom(energy=-0.9)], "gives -0.9 eV for an isolated Si, another one -0.8"),
    ],
    ids=["no energy", "nan", "two energies"],
)
def test_refused(folder: Path, frames: list[Atoms], says: str) -> None:
    with pytest.raises(InputError, match=says):
        build(section([*frames, *crystals()]), folder)


def test_marks_of_others_and_nothing_else(folder: Path) -> None:
    marked = crystals(5)
    marked[0].info["config_type"] = "IsolatedAtom"
    with pytest.raises(InputError, match="marked as IsolatedAtom and has 2 atoms"):
        build(section(marked), folder)
    with pytest.raises(InputError, match="all structures are isolated atoms"):
        build(section([atom()]), folder)
    build(section([atom(), atom(), *crystals()]), folder)  # twice the same energy


def test_models_without_energies_of_atoms() -> None:
    potential = load_potential("tersoff-1989")
    with pytest.warns(AccuracyWarning, match="energies of isolated atoms are not used"):
        assert with_atom_energies(potential, {14: -0.8}) is potential
