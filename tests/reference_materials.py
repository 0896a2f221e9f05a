"""The reference crystals and phono3py's numbers for them, as this package's types.

Packaged ones stand in data/phono3py_reference, made by its make.py from potentials of the package: every clone has them.
Shared ones (DFT force constants) lie outside the repository; what needs them carries the mark `shared` and is left out
where they are missing. Both are read with phono3py: independent of the package's own readers.
"""

from __future__ import annotations

import functools
import json
import lzma
import os
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import yaml

from wigner_jax.types import BornCharges, Crystal, ForceConstants, Supercell, Supercells

SHARED = Path(os.environ.get("WIGNER_JAX_SHARED", Path(__file__).parents[2] / "shared"))
PACKAGED = Path(__file__).parent / "data/phono3py_reference"
YAML = {"Si": "Si-PBEsol", "NaCl": "NaCl-PBE", "ZnTe": "ZnTe"}


class Reference(NamedTuple):
    """What a stored run of phono3py is of."""

    material: str
    polar: bool = False  # with the non-analytic correction of Gonze and Lee
    sigma: float | None = None  # THz, of a Gaussian; None: tetrahedra
    mfp: float | None = None  # µm, between boundaries
    packaged: bool = True


REFERENCES = {
    "si-tersoff_m5": Reference("si-tersoff"),
    "si-tersoff_m5_sigma0.3": Reference("si-tersoff", sigma=0.3),
    "nacl-mace_m4": Reference("nacl-mace"),
    "nacl-mace_nac_m4": Reference("nacl-mace", polar=True),
    "sic-tersoff_m443": Reference("sic-tersoff"),
    "gi_si_m7_smm19": Reference("Si", mfp=1e6, packaged=False),
    "gi_si_m11_smm19": Reference("Si", mfp=1e6, packaged=False),
    "gi_nacl_nonac_m11_smm19": Reference("NaCl", mfp=1e6, packaged=False),
    "gi_nacl_nonac_m11_sigma0.1": Reference("NaCl", sigma=0.1, mfp=1e6, packaged=False),
    "gi_nacl_nac_m11_smm19": Reference("NaCl", polar=True, mfp=1e6, packaged=False),
    "gi_znte_nac_m11_smm19": Reference("ZnTe", polar=True, mfp=1e6, packaged=False),
}


def reference_params(slow: tuple[str, ...] = (), keep=lambda reference: True) -> list:
    """The names of REFERENCES as parameters of a test, with the marks that they need."""
    found = []
    for name, reference in REFERENCES.items():
        if keep(reference):
            marks = [] if reference.packaged else [pytest.mark.shared]
            found.append(pytest.param(name, marks=[*marks, pytest.mark.slow] if name in slow else marks))
    return found


def material_params(*names: str) -> list:
    """Names of materials as parameters of a test or fixture, those of the shared data with their mark."""
    return [pytest.param(name, marks=pytest.mark.shared if name in YAML else ()) for name in names]


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
def load(name: str) -> Material:
    """A packaged crystal ("si-tersoff", "nacl-mace", "sic-tersoff"), or a shared one: "Si", "NaCl" or "ZnTe", and
    "La2Zr2O7" with fc2 alone. Charges as phonopy symmetrises them."""
    if name == "La2Zr2O7":
        return _load_phonopy(SHARED / "data/reference/La2Zr2O7")
    if name not in YAML:
        return _load_packaged(name)
    import phono3py

    folder = SHARED / "data/reference" / YAML[name]
    peer = phono3py.load(folder / "phono3py.yaml", produce_fc=False, is_nac=True, log_level=0)
    with h5py.File(folder / "fc2.hdf5") as file:
        second = file["force_constants"][:]
    with h5py.File(folder / "fc3.hdf5") as file:
        third = file["fc3"][:]
    peer.fc2, peer.fc3 = second, third
    parameters = peer.nac_params
    if parameters is None and name == "NaCl":
        parameters = _nacl_charges(SHARED / "data/phono3py/phono3py_params_NaCl222.yaml.xz")
    return Material(cells_of(peer), ForceConstants(second, third), born_of(parameters), peer)


def cells_of(peer) -> Supercells:
    return Supercells(
        crystal_of(peer.primitive),
        supercell_of(peer.phonon_primitive, peer.phonon_supercell),
        supercell_of(peer.primitive, peer.supercell),
    )


def _load_packaged(name: str) -> Material:
    from phono3py_peer import new_peer

    data = np.load(PACKAGED / f"{name}.npz")
    supercells = (np.diag(data[key]) for key in ("fc2_supercell", "fc3_supercell"))
    peer = new_peer(data["lattice"], data["positions"], data["numbers"], *supercells)
    peer.fc2, peer.fc3 = data["fc2"], data["fc3"]
    born = BornCharges(data["born"], data["dielectric"], data["factor"]) if "born" in data else None
    return Material(cells_of(peer), ForceConstants(data["fc2"], data["fc3"]), born, peer)


@functools.cache
def stored(reference: str) -> dict[str, Any]:
    """The arrays of a reference at its temperatures, 300 K.

    D_diag, grid_weights, qpoints, frequencies, group_velocities; mode_heat_capacities and gamma (T, P, m); gamma_isotope
    and gamma_boundary (P, m); kappa_P, kappa_C (T, 6); mode_kappa (T, P, m, m, 6) where it is known. Isotope widths of
    packaged references count both sides of ties in equal parts; those of shared ones leave ties to rounding.
    """
    if REFERENCES[reference].packaged:
        found = dict(np.load(PACKAGED / f"{reference}.npz"))
        return {**found, "gamma_boundary": np.zeros_like(found["frequencies"])}
    folder = SHARED / "data/reference"
    found = dict(np.load(folder / f"{reference}.npz"))
    known = json.loads((folder / "wigner.json").read_text())[reference]
    found |= {"gamma": found["gamma"][0], "gamma_isotope": found["gamma_isotope"][0]}
    found |= {key: np.array([known[key]]) for key in ("kappa_P", "kappa_C")}
    if (path := folder / f"{reference}.wigner_true.npz").exists():
        found["mode_kappa"] = np.load(path)["mode_kappa_matrix_smm"][None]
    return found


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
