"""The reference data as this package's types, read with phono3py: independent of the package's own readers."""

from __future__ import annotations

import functools
import lzma
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
import yaml

from wigner_jax.types import BornCharges, Crystal, ForceConstants, Supercell, Supercells

if TYPE_CHECKING:
    from pathlib import Path

YAML = {"Si": "Si-PBEsol", "NaCl": "NaCl-PBE", "ZnTe": "ZnTe"}


class Material(NamedTuple):
    cells: Supercells
    constants: ForceConstants
    born: BornCharges | None
    peer: object  # phono3py.Phono3py (phonopy.Phonopy for La2Zr2O7), force constants set


def supercell_of(primitive, supercell) -> Supercell:
    """The integer description of a phonopy supercell, atoms in its order."""
    atom = np.array([primitive.p2p_map[s] for s in primitive.s2p_map])
    fractional = supercell.positions @ np.linalg.inv(primitive.cell)
    cell = fractional - primitive.scaled_positions[atom]
    matrix = supercell.cell @ np.linalg.inv(primitive.cell)
    assert np.abs(cell - np.rint(cell)).max() < 1e-4
    return Supercell(np.rint(matrix).astype(int), atom, np.rint(cell).astype(int), np.array(primitive.p2s_map))


def crystal_of(primitive) -> Crystal:
    return Crystal(
        primitive.cell.copy(), primitive.scaled_positions.copy(), primitive.masses.copy(), tuple(primitive.numbers)
    )


def born_of(parameters) -> BornCharges | None:
    if parameters is None:
        return None
    return BornCharges(parameters["born"], parameters["dielectric"], parameters["factor"])


@functools.cache
def load(shared: Path, name: str) -> Material:
    """'Si', 'NaCl' or 'ZnTe' with fc2 and fc3, or 'La2Zr2O7' with fc2 alone; charges as phonopy symmetrises them."""
    if name == "La2Zr2O7":
        return _load_phonopy(shared / "data/reference/La2Zr2O7")
    import phono3py

    folder = shared / "data/reference" / YAML[name]
    peer = phono3py.load(folder / "phono3py.yaml", produce_fc=False, is_nac=True, log_level=0)
    with h5py.File(folder / "fc2.hdf5") as file:
        second = file["force_constants"][:]
    with h5py.File(folder / "fc3.hdf5") as file:
        third = file["fc3"][:]
    peer.fc2, peer.fc3 = second, third
    cells = Supercells(
        crystal_of(peer.primitive),
        supercell_of(peer.phonon_primitive, peer.phonon_supercell),
        supercell_of(peer.primitive, peer.supercell),
    )
    parameters = peer.nac_params
    if parameters is None and name == "NaCl":
        parameters = _nacl_charges(shared / "data/phono3py/phono3py_params_NaCl222.yaml.xz")
    return Material(cells, ForceConstants(second, third), born_of(parameters), peer)


def _nacl_charges(path: Path) -> dict:
    """The charges of the references gi_nacl_nac_*; the file's forces are not parsed, which would take seconds."""
    with lzma.open(path, "rt") as file:
        text = file.read()
    data = yaml.safe_load(text[text.index("born_effective_charge:") : text.index("displacement_pairs:")])
    born, dielectric = np.array(data["born_effective_charge"]), np.array(data["dielectric_constant"])
    return {"born": born, "dielectric": dielectric, "factor": 14.39965172592227}


def _load_phonopy(folder: Path) -> Material:
    import phonopy
    from phonopy.interface.calculator import read_crystal_structure

    cell, _ = read_crystal_structure(folder / "POSCAR", interface_mode="vasp")
    peer = phonopy.load(
        unitcell=cell, supercell_matrix=np.diag([4, 4, 4]), primitive_matrix="P", born_filename=folder / "BORN",
        produce_fc=False, log_level=0,
    )  # fmt: skip
    with h5py.File(folder / "fc2.hdf5") as file:
        second = file["force_constants"][:]
    peer.force_constants = second
    supercell = supercell_of(peer.primitive, peer.supercell)
    constants = ForceConstants(second, np.zeros((len(second), 0, 0, 3, 3, 3)))
    return Material(
        Supercells(crystal_of(peer.primitive), supercell, supercell), constants, born_of(peer.nac_params), peer
    )
