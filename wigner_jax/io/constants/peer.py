"""phono3py's and phonopy's objects and files, through phono3py itself, whose order of atoms they must have."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.atomic_write import atomic_hdf5, replacing, write_text
from ...crystal.elements import SYMBOLS
from ...errors import InputError
from ...ifc.images import atom_at
from ...ifc.phono3py_bridge import make_supercell_map, peer_constants
from ...ifc.plausible import say_implausible
from ...types import BornCharges, ForceConstants
from ..born import NAC_FACTOR
from ..calculator_units import units_of
from .given import GivenConstants

if TYPE_CHECKING:
    from ...types import Crystal, Supercell

ADVICE = "name another folder"


def to_phono3py(given: GivenConstants) -> Any:
    """A `phono3py.Phono3py` object with these force constants, compact, in its own order of atoms, in eV and Å.

    Its unit cell is the primitive cell, in the order of our atoms, and has the masses, moments and charges.

    Raises:
        InputError: phono3py is not installed.
    """
    require_peer()
    from phono3py import Phono3py

    cells, fc = given.supercells, given.force_constants
    peer = Phono3py(
        _cell(cells.crystal), cells.fc3_supercell.matrix.T, primitive_matrix=np.eye(3),
        phonon_supercell_matrix=cells.fc2_supercell.matrix.T,
    )  # fmt: skip
    peer.fc2 = _in_order_of(cells.crystal, cells.fc2_supercell, fc.fc2, peer.phonon_supercell, peer.phonon_primitive)
    peer.fc3 = _in_order_of(cells.crystal, cells.fc3_supercell, fc.fc3, peer.supercell, peer.primitive)
    if given.born is not None:
        peer.nac_params = _nac(given.born)
    return peer


def from_phono3py(peer: Any) -> GivenConstants:
    """What a `phono3py.Phono3py` object (3.30 or later) holds: cells, masses, fc2, fc3, charges, and its mesh if it is set.

    Units are those of its calculator.

    Raises:
        InputError: it has no force constants, or no such object.
    """
    try:
        second, third, calculator = peer.fc2, peer.fc3, getattr(peer, "calculator", None)
    except AttributeError as error:
        raise InputError(f"{type(peer).__name__} is no Phono3py object ({error})", "give one, or a file") from error
    if second is None or third is None:
        missing = " and ".join(name for name, x in (("fc2", second), ("fc3", third)) if x is None)
        raise InputError(f"the Phono3py object has no {missing}", "call produce_fc3() and produce_fc2() first")
    units = units_of({"phono3py": {"calculator": calculator}}, Path("the Phono3py object"))
    cells, fc = peer_constants(peer, units.length, float(peer.primitive_symmetry.tolerance) * units.length)
    fc = ForceConstants(fc.fc2 * units.fc2, fc.fc3 * units.fc3)
    say_implausible(cells, fc)
    nac = peer.nac_params
    born = None
    if nac is not None:
        factor = float(nac.get("factor", NAC_FACTOR / units.nac)) * units.nac
        born = BornCharges(np.asarray(nac["born"], float), np.asarray(nac["dielectric"], float), np.array(factor))
    mesh = getattr(peer, "mesh_numbers", None)
    return GivenConstants(
        cells, fc, born,
        None if mesh is None else tuple(int(n) for n in mesh), "a Phono3py object",
    )  # fmt: skip


def write_phono3py(folder: Path, given: GivenConstants, full: bool = False) -> list[Path]:
    """phono3py.yaml, fc2.hdf5 and fc3.hdf5, compact unless `full`."""
    peer = to_phono3py(given)
    fc2, fc3 = peer.fc2, peer.fc3
    if full:
        from phono3py.phonon3.fc3 import compact_fc3_to_full_fc3
        from phonopy.harmonic.force_constants import compact_fc_to_full_fc

        fc2, fc3 = compact_fc_to_full_fc(peer.phonon_primitive, fc2), compact_fc3_to_full_fc3(peer.primitive, fc3)
    names = {"fc2.hdf5": ("force_constants", fc2, peer.phonon_primitive, "eV/angstrom^2"),
             "fc3.hdf5": ("fc3", fc3, peer.primitive, "")}  # fmt: skip
    for name, (dataset, array, primitive, unit) in names.items():
        with atomic_hdf5(folder / name, ADVICE) as file:
            file.create_dataset(dataset, data=array, compression="gzip")
            if not full:
                file["p2s_map"] = np.asarray(primitive.p2s_map)
            if unit:
                file["physical_unit"] = np.array([unit.encode()])
    settings = {"force_sets": False, "displacements": False}
    write_text(folder / "phono3py.yaml", str(peer.to_phono3py_yaml(settings=settings)), ADVICE)
    return [folder / "phono3py.yaml", *(folder / name for name in names)]


def write_phonopy(folder: Path, given: GivenConstants, full: bool = False) -> list[Path]:
    """phonopy.yaml and FORCE_CONSTANTS, compact unless `full`: Φ2 alone, which is all that phonopy knows."""
    require_peer()
    from phonopy import Phonopy
    from phonopy.file_IO import write_FORCE_CONSTANTS
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    crystal, supercell = given.supercells.crystal, given.supercells.fc2_supercell
    phonopy = Phonopy(_cell(crystal), supercell.matrix.T, primitive_matrix=np.eye(3))
    if given.born is not None:
        phonopy.nac_params = _nac(given.born)  # type: ignore[assignment]
    fc2 = _in_order_of(crystal, supercell, given.force_constants.fc2, phonopy.supercell, phonopy.primitive)
    array, rows = fc2, None if full else np.asarray(phonopy.primitive.p2s_map)
    if full:
        array = compact_fc_to_full_fc(phonopy.primitive, fc2)
    with replacing(folder / "FORCE_CONSTANTS") as part:
        write_FORCE_CONSTANTS(array, filename=str(part), p2s_map=rows)
    phonopy.force_constants = fc2
    settings = {"force_sets": False, "displacements": False, "force_constants": False}
    with replacing(folder / "phonopy.yaml") as part:
        phonopy.save(str(part), settings=settings)
    return [folder / "phonopy.yaml", folder / "FORCE_CONSTANTS"]


def require_peer() -> None:
    """Raises InputError if phono3py is not installed; phonopy comes with it."""
    if importlib.util.find_spec("phono3py") is None:
        raise InputError("phono3py is not installed, which knows its files", "pip install 'wigner-jax[phono3py]'")


def _cell(crystal: Crystal) -> Any:
    from phonopy.structure.atoms import PhonopyAtoms

    return PhonopyAtoms(
        symbols=[SYMBOLS[z] for z in crystal.numbers], cell=np.asarray(crystal.lattice),
        scaled_positions=np.asarray(crystal.positions), masses=np.asarray(crystal.masses),
        magnetic_moments=None if crystal.moments is None else np.asarray(crystal.moments),
    )  # fmt: skip


def _nac(born: BornCharges) -> dict[str, Any]:
    return {
        "born": np.asarray(born.charges), "dielectric": np.asarray(born.dielectric), "factor": float(born.factor),
    }  # fmt: skip


def _in_order_of(crystal: Crystal, ours: Supercell, array: Any, theirs: Any, primitive: Any) -> np.ndarray:
    """Compact force constants with rows and columns as phono3py has them: its rows are the atoms of its `p2s_map`."""
    mapped = make_supercell_map(crystal, theirs.cell, theirs.scaled_positions, theirs.numbers)
    array, found = np.asarray(array), []
    for home in np.asarray(primitive.p2s_map):
        i = int(mapped.primitive_index[home])
        relative = mapped.lattice_vector - mapped.lattice_vector[home]
        there = atom_at(ours, np.full(len(relative), i), mapped.primitive_index, relative)
        found.append(array[i][there] if array.ndim == 4 else array[i][np.ix_(there, there)])
    return np.ascontiguousarray(found)


__all__ = ["from_phono3py", "require_peer", "to_phono3py", "write_phono3py", "write_phonopy"]
