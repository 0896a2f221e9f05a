"""The reference of mode conductivities and its structures: rows that contradict themselves or others, and names of materials."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
import pytest
from killed_runs import write_campaign

from wigner_jax.errors import InputError
from wigner_jax.evaluation.gruneisen import read_gammas
from wigner_jax.io.phonondb import read_phonondb, read_phonondb_structure, read_phonondb_structures

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path) -> Path:
    write_campaign(tmp_path)
    return tmp_path


def changed_table(folder: Path, column: str, row: str, value: Any) -> Path:
    table = json.loads(gzip.decompress((folder / "dft.json.gz").read_bytes()))
    table[column][row] = value
    (path := folder / "changed.json").write_text(json.dumps(table))
    return path


def changed_structures(folder: Path, second: Any) -> Path:
    """The second structure with another mp_id."""
    frames = ase.io.read(folder / "solids.extxyz", ":")
    frames[1].info["mp_id"] = second
    ase.io.write(path := folder / "changed.extxyz", frames)
    return path


def test_materials_that_occur_twice(inputs: Path) -> None:
    with pytest.raises(InputError, match=r"changed.json has mp-1 more than once: remove"):
        read_phonondb(changed_table(inputs, "mp_id", "2", "mp-1"))
    path = changed_structures(inputs, "mp-1")
    for read in (read_phonondb_structures, lambda file: read_phonondb_structure(file, "mp-1")):
        with pytest.raises(InputError, match=r"changed.extxyz has mp-1 more than once: remove"):
            read(path)
    assert read_phonondb_structure(path, "mp-3").info["mp_id"] == "mp-3"
    (gammas := inputs / "gamma.csv").write_text("mp_id,gamma_DFT\nmp-1,1.0\nmp-2,\nmp-2,2.0\n")
    assert read_gammas(str(gammas)) == {"mp-1": 1.0, "mp-2": 2.0}  # a row without a value says nothing
    gammas.write_text("mp_id,gamma_DFT\nmp-1,1.0\nmp-1,1.5\n")
    with pytest.raises(InputError, match=r"gamma.csv has mp-1 more than once"):
        read_gammas(str(gammas))


def test_whole_numbers_are_names(inputs: Path) -> None:
    structures = read_phonondb_structures(path := changed_structures(inputs, 7))
    assert list(structures) == ["mp-1", "7", "mp-3"]
    assert structures["7"].info["mp_id"] == "7"
    assert read_phonondb_structure(path, "7").info["mp_id"] == "7"
    assert "7" in read_phonondb(changed_table(inputs, "mp_id", "1", 7))


@pytest.mark.parametrize("bad", ["../mp-1", "a/b", "/tmp/x", "..", ".", "", "a\\b", "a\nb", "m" * 200])
def test_names_that_no_record_can_have(inputs: Path, bad: str) -> None:
    with pytest.raises(InputError, match=r"has the mp_id .*, which no file can be called"):
        read_phonondb(changed_table(inputs, "mp_id", "1", bad))
    if "/" in bad or bad == "..":
        with pytest.raises(InputError, match="which no file can be called"):
            read_phonondb_structures(changed_structures(inputs, bad))


@pytest.mark.parametrize("good", ["mp..1", "agm-7_b (2)", "β-Ga2O3"])
def test_names_that_records_can_have(inputs: Path, good: str) -> None:
    assert good in read_phonondb(changed_table(inputs, "mp_id", "1", good))


@pytest.mark.parametrize(
    ("share", "fits"), [(1.0, True), (1.015, True), (0.985, True), (1.03, False), (0.5, False), (3.0, False)]
)
def test_a_conductivity_and_its_modes(inputs: Path, share: float, fits: bool) -> None:
    path = changed_table(inputs, "kappa_TOT_ave", "1", [2.25 * share])
    if fits:
        np.testing.assert_allclose(read_phonondb(path)["mp-2"].kappa, 2.25 * share)
        return
    with pytest.raises(InputError, match=r"row 1 .*kappa_TOT_ave .* at 300 K, where its modes sum up to 2\.25"):
        read_phonondb(path)


def test_the_whole_reference_agrees_with_its_modes(shared: Path) -> None:
    for path in sorted((shared / "data/phonondb").glob("*.json.gz")):
        for reference in read_phonondb(path).values():
            summed = reference.mode_kappa.sum(axis=(1, 2)) / reference.weights.sum()
            np.testing.assert_allclose(summed, reference.kappa, rtol=1e-9)
