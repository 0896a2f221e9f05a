"""MACE of full size against mace-torch itself, where it is installed; files that travel there and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("mace", reason="mace-torch is not installed (pip install mace-torch==0.3.16)")

sys.path.insert(0, str(Path(__file__).parents[1] / "data/mace_reference"))

import make
import torch
from test_mace import energy_and_slopes, graph_for, rows_of_hessian

from wigner_jax.potentials.mace.files import export_mace, load_mace, restrict

if TYPE_CHECKING:
    from ase import Atoms

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # torch's and e3nn's own
]
PARAMETERS = {"mace-mp-0-medium": 4_688_656, "mace-mp-0b3-medium": 9_063_204}  # of the published files


def saved(folder: Path, name: str, **sizes) -> Path:
    path = folder / f"{name}.model"
    torch.save(make.build(name, **sizes), path)
    return path


def compare(path: Path, frames: dict[str, Atoms], potential) -> None:
    expected = make.evaluate(path, frames)
    for label, atoms in frames.items():
        graph = graph_for(atoms, potential, 640)
        value, (slope, strain) = energy_and_slopes(potential, graph)
        forces, stress = expected[f"{label}/forces"], expected[f"{label}/stress"]
        np.testing.assert_allclose(float(value), expected[f"{label}/energy"], rtol=1e-10)
        np.testing.assert_allclose(-slope, forces, atol=1e-9 * max(np.abs(forces).max(), 1e-3), rtol=0)
        np.testing.assert_allclose(strain / atoms.cell.volume, stress, atol=1e-9 * np.abs(stress).max(), rtol=0)
        if f"{label}/hessian" in expected:
            hessian = expected[f"{label}/hessian"]
            found = np.asarray(rows_of_hessian(potential, graph)).reshape(hessian.shape)
            np.testing.assert_allclose(found, hessian, atol=1e-8 * np.abs(hessian).max(), rtol=0)


@pytest.mark.parametrize("name", ["mace-mp-0-small", "mace-mp-0-medium", "mace-mp-0-large", "mace-mp-0b3-medium"])
def test_models_of_full_size(tmp_path, name):
    """128 channels, 89 elements, 6 Å: as published (mace-mpa-0-medium has the hyper-parameters of 0b3)."""
    path = saved(tmp_path, name, channels=128, elements=tuple(range(1, 90)), r_max=6.0)
    potential = load_mace(path)
    trainable = sum(p.numel() for p in torch.load(path, weights_only=False).parameters())
    assert trainable == PARAMETERS.get(name, trainable)
    frames = make.structures()
    compare(path, frames, restrict(potential, (8, 12, 14)))
    one = {"one atom": frames["one atom"]}
    atoms = one["one atom"]
    full = energy_and_slopes(potential, graph_for(atoms, potential, 640))[0]
    np.testing.assert_allclose(float(full), make.evaluate(path, one)["one atom/energy"], rtol=1e-10)


@pytest.mark.parametrize("name", ["mace-mp-0b3-medium", "two-heads", "nonlinear"])
def test_exported_files_are_mace_torchs(tmp_path, name):
    """Changed parameters, written into a copy of the file: torch loads it and gives our energies."""
    path = saved(tmp_path, name)
    head = "r2scan" if name == "two-heads" else None
    potential = load_mace(path, head=head)
    rng = np.random.default_rng(4)
    tuned = potential.with_params(
        {k: v * (1 + 0.1 * rng.standard_normal(np.shape(v))) for k, v in potential.params.items()}
    )
    export_mace(tuned, path, tmp_path / "tuned.model")
    frames = {"crystal": make.structures()["crystal"]}
    expected = make.evaluate(tmp_path / "tuned.model", frames, head)
    value, (slope, _) = energy_and_slopes(tuned, graph_for(frames["crystal"], tuned))
    assert abs(float(value) - float(energy_and_slopes(potential, graph_for(frames["crystal"], potential))[0])) > 1e-3
    np.testing.assert_allclose(float(value), expected["crystal/energy"], rtol=1e-10)
    np.testing.assert_allclose(-slope, expected["crystal/forces"], atol=1e-9)


def test_every_tensor_is_read_as_torch_reads_it(tmp_path):
    path = saved(tmp_path, "mace-mp-0b3-medium")
    state = torch.load(path, weights_only=False).state_dict()
    for name, value in load_mace(path).params.items():
        np.testing.assert_array_equal(value, state[name].numpy())
