"""phono3py's files: cells from its yaml, force constants from its HDF5 or, through phono3py itself, from forces."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._core.arrays_in import open_hdf5
from .._core.reading import OPENERS, read_bytes, reading, reads
from .._core.reading import read_yaml as _core_yaml
from ..checks import require_finite
from ..crystal.elements import ELEMENTS
from ..crystal.from_ase import masses_of
from ..crystal.supercells import reduce_to_primitive
from ..crystal.symmetry import SYMPREC, space_group, symmetrized
from ..errors import InputError
from ..ifc.phono3py_bridge import _with_home, make_supercell_map, peer_constants
from ..ifc.residuals import check_force_constants, require_some
from ..types import BornCharges, Crystal, ForceConstants, Supercell, Supercells
from .born import born_from_yaml, read_born

MOST_ATOMS = 20_000  # of a supercell


class Phono3pyData(NamedTuple):
    """What a phono3py calculation holds: ``supercells, force_constants, born = read_phono3py(path)``."""

    supercells: Supercells
    force_constants: ForceConstants
    born: BornCharges | None  #: from the yaml, or from a BORN file beside it


@reads("a phono3py calculation that can be understood")
def read_phono3py(
    path: str | Path,
    fc2: str | Path | None = None,
    fc3: str | Path | None = None,
    forces_fc3: str | Path | None = None,
    forces_fc2: str | Path | None = None,
) -> Phono3pyData:
    """Read a phono3py yaml and what lies beside it. Any supercell matrices, also two; compact or full arrays.

    The force constants come from, in this order: the forces inside the yaml (phono3py_params*.yaml, also .xz, .gz,
    .bz2); fc2.hdf5 and fc3.hdf5 beside it (or `fc2`, `fc3`); FORCES_FC3 and, with a separate fc2 supercell, FORCES_FC2
    beside it (or `forces_fc3`, `forces_fc2`). HDF5 is read without phono3py. Forces are turned into force constants by
    phono3py, which has to be installed, as it does by default (finite differences for its pair displacements, symfc
    for random ones; symmetrised). Naming any of the four files overrides this order. Units must be Å and eV.

    Args:
        path: the yaml.
        fc2, fc3, forces_fc3, forces_fc2: other names of the files beside the yaml.

    Returns:
        Phono3pyData. The crystal is the yaml's primitive cell, in its atom order, snapped onto its space group; its
        masses are the yaml's.

    Raises:
        InputError: one line on what is missing, unreadable or inconsistent.
    """
    path = Path(path)
    data = read_yaml(path)
    _require_units(data, path)
    named = any(x is not None for x in (fc2, fc3, forces_fc3, forces_fc2))
    forces = Path(forces_fc3) if forces_fc3 is not None else _beside(path, "FORCES_FC3")
    constants = (Path(fc2) if fc2 else path.with_name("fc2.hdf5"), Path(fc3) if fc3 else path.with_name("fc3.hdf5"))
    from_hdf5 = fc2 is not None or fc3 is not None or all(p.is_file() for p in constants)
    if _has_forces(data) and not named:
        cells, result = _from_forces(path, data, None, None)
    elif from_hdf5 and forces_fc3 is None:
        cells, result = _from_hdf5(path, data, *constants)
    elif forces is not None:
        forces_2 = Path(forces_fc2) if forces_fc2 is not None else _beside(path, "FORCES_FC2")
        cells, result = _from_forces(path, data, forces, forces_2)
    else:
        missing = " and ".join(p.name for p in constants if not p.is_file())
        raise InputError(
            f"{path} holds no forces, and {missing} and FORCES_FC3 are not beside it",
            "put the force constants (fc2.hdf5 and fc3.hdf5) or FORCES_FC3 into the same folder",
        )
    require_some(result)
    check_force_constants(cells, result)
    born = born_from_yaml(data, cells.crystal.n_atoms, path)
    if born is None and (beside := _beside(path, "BORN")) is not None:
        born = read_born(beside, cells.crystal)
    return Phono3pyData(cells, result, born)


def read_yaml(path: Path) -> dict[str, Any]:
    """The contents of a (compressed) phono3py yaml; raises InputError if it is not one."""
    with reading(path, "a complete yaml file"):
        data = _core_yaml(path)
    if not isinstance(data, dict) or not ("unit_cell" in data or "primitive_cell" in data):
        raise InputError(
            f"{path} is not a phono3py yaml (no unit_cell in it)", "give phono3py.yaml or phono3py_params.yaml"
        )
    return data


def _require_units(data: dict[str, Any], path: Path) -> None:
    units = data.get("physical_unit") or {}
    for name, allowed in (("length", "angstrom"), ("force", "eV/angstrom")):
        if str(units.get(name, allowed)).lower() != allowed.lower():
            raise InputError(
                f"{path} is in {name} unit {units[name]!r}: only Å and eV are read; convert it with phono3py"
            )


def _beside(path: Path, name: str) -> Path | None:
    return next((p for p in (path.with_name(name + s) for s in ("", *OPENERS)) if p.is_file()), None)


def _has_forces(data: dict[str, Any]) -> bool:
    """Whether a displacement dataset of the yaml (any of phono3py's layouts) carries forces."""
    for key in ("displacement_pairs", "dataset", "displacements"):
        frames = data.get(key)
        if isinstance(frames, dict):  # random displacements: one list of forces beside the list of displacements
            return "forces" in frames
        first = frames[0] if isinstance(frames, list) and frames else None
        first = first[0] if isinstance(first, list) and first else first
        if isinstance(first, dict) and ("forces" in first or "force" in first):
            return True
    return False


def _cell(data: dict[str, Any], name: str, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lattice (3, 3), fractional positions (N, 3), atomic numbers (N,) and masses (N,) of one cell of the yaml."""
    try:
        block = data[name]
        points = block.get("points") or block["atoms"]
        lattice = np.array(block["lattice"], dtype=float).reshape(3, 3)
        positions = np.array([p.get("coordinates", p.get("position")) for p in points], dtype=float).reshape(-1, 3)
        numbers = np.array([ELEMENTS[p["symbol"]][0] for p in points])
        masses = np.array(
            [p["mass"] if "mass" in p else masses_of([z])[0] for p, z in zip(points, numbers, strict=True)]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} has no usable {name} ({error}): it is truncated or too old; write it anew") from error
    masses = masses.astype(float)
    for array, what in ((lattice, "lattice"), (positions, "positions"), (masses, "masses")):
        require_finite(array, f"{what} of {name} in {path}")
    if len(positions) == 0 or not abs(np.linalg.det(lattice)) > 1e-6:
        raise InputError(f"{path} has no usable {name}: it holds no atoms, or its lattice is flat")
    return lattice, positions, numbers, masses


def _from_hdf5(path: Path, data: dict[str, Any], fc2: Path, fc3: Path) -> tuple[Supercells, ForceConstants]:
    tolerance = float((data.get("phono3py") or {}).get("symmetry_tolerance", SYMPREC))
    if "primitive_cell" in data:
        lattice, positions, numbers, masses = _cell(data, "primitive_cell", path)
        crystal = Crystal(lattice, positions, masses, tuple(int(z) for z in numbers))
    else:  # older files: columns of primitive_matrix in units of the unit cell
        unit = _cell(data, "unit_cell", path)
        crystal, _, _ = reduce_to_primitive(*unit, np.array(data.get("primitive_matrix", np.eye(3)), dtype=float))
    name2 = "phonon_supercell" if "phonon_supercell_matrix" in data else "supercell"
    maps = {n: make_supercell_map(crystal, *_cell(data, n, path)[:3]) for n in {"supercell", name2}}
    second, map2 = _read_constants(fc2, ("force_constants", "fc2"), maps[name2], _reduced_to(data, name2), 1)
    third, map3 = _read_constants(fc3, ("fc3",), maps["supercell"], _reduced_to(data, "supercell"), 2)
    snapped = symmetrized(crystal, space_group(crystal, tolerance))
    return Supercells(snapped, map2, map3), ForceConstants(second, third)


def _reduced_to(data: dict[str, Any], name: str) -> np.ndarray | None:
    points = data[name].get("points") or data[name]["atoms"]
    if not all("reduced_to" in p for p in points):
        return None
    return np.unique([int(p["reduced_to"]) - 1 for p in points])


def _read_constants(
    path: Path, names: tuple[str, ...], supercell: Supercell, rows: np.ndarray | None, order: int
) -> tuple[np.ndarray, Supercell]:
    """Compact force constants (n, N, [N,] 3, 3 [, 3]) in the order of the primitive atoms, and their supercell."""
    if not path.is_file():
        raise InputError(f"no file {path}", f"put phono3py's {path.name} beside the yaml")
    n, N = len(supercell.p2s_map), supercell.n_atoms
    with reading(path, "a complete HDF5 file", "make it anew"), open_hdf5(path) as file:
        name = next((n for n in names if n in file), None)
        if name is None:
            raise InputError(
                f"{path} has no dataset {names[0]!r} but {', '.join(file.names()) or 'nothing'}: is it the right file?"
            )
        array = np.asarray(file.array(name), dtype=float)
        rows = np.asarray(file.array("p2s_map"), dtype=int).ravel() if "p2s_map" in file else rows
    if array.shape[1:] != (N,) * order + (3,) * (order + 1) or array.shape[0] not in (n, N):
        raise InputError(
            f"{path} has shape {array.shape} where the yaml's supercell has {N} atoms ({n} primitive): wrong file"
        )
    require_finite(array, str(path))
    if array.shape[0] == N:
        supercell = _with_home(supercell, rows if rows is not None and len(rows) == n else None)
        return array[supercell.p2s_map], supercell
    if rows is not None and (len(rows) != n or rows.min() < 0 or rows.max() >= N):
        raise InputError(f"p2s_map of {path} does not fit the yaml's supercell of {N} atoms: wrong file")
    # phonopy's rows are ascending supercell atoms: without a map, the first atom of each kind
    rows = np.sort(supercell.p2s_map) if rows is None else rows
    return array[np.argsort(supercell.primitive_index[rows])], _with_home(supercell, rows)


def _from_forces(
    path: Path, data: dict[str, Any], forces_fc3: Path | None, forces_fc2: Path | None
) -> tuple[Supercells, ForceConstants]:
    """Force constants from displacements and forces: phono3py's own, with its default choices."""
    try:
        from phono3py import Phono3py
        from phono3py.cui.load import (
            compute_force_constants_from_datasets,
            select_and_load_dataset,
            select_and_load_phonon_dataset,
        )
        from phono3py.interface.phono3py_yaml import Phono3pyYaml
    except ImportError:
        raise InputError(
            f"{path} holds forces, which phono3py turns into force constants", "pip install 'wigner-jax[phono3py]'"
        ) from None
    if "phonon_supercell_matrix" in data and forces_fc3 is not None and forces_fc2 is None:
        raise InputError(
            f"{path} has a separate fc2 supercell, and FORCES_FC2 is missing", "put it into the same folder"
        )
    for file in (forces_fc3, forces_fc2):
        if file is not None and not file.is_file():
            raise InputError(f"no file {file}", "check the name")
        if file is not None:
            read_bytes(file)  # within its limits
    for name in ("supercell_matrix", "phonon_supercell_matrix"):
        copies = abs(float(np.linalg.det(np.array(data.get(name, np.eye(3)), float).reshape(3, 3))))
        if not copies * len(_cell(data, "unit_cell", path)[1]) <= MOST_ATOMS:
            raise InputError(f"{name} of {path} makes more than {MOST_ATOMS} atoms", "check it")
    try:
        parsed = Phono3pyYaml()
        parsed.read(path)
        peer = Phono3py(
            parsed.unitcell,
            parsed.supercell_matrix,
            primitive_matrix="auto" if parsed.primitive_matrix is None else parsed.primitive_matrix,
            phonon_supercell_matrix=parsed.phonon_supercell_matrix,
            calculator=parsed.calculator,
        )
        # always with a name, or forces in the yaml: otherwise the peer looks into the current folder
        peer.dataset = select_and_load_dataset(peer, parsed, forces_fc3, str(path))
        if parsed.phonon_supercell_matrix is not None:
            peer.phonon_dataset = select_and_load_phonon_dataset(peer, parsed, forces_fc2)
        random = [d is not None and "displacements" in d for d in (peer.phonon_dataset or peer.dataset, peer.dataset)]
        calculator = "|".join("symfc" if r else "traditional" for r in random) if any(random) else None
        compute_force_constants_from_datasets(peer, fc_calculator=calculator, use_symfc_projector=True)
    except Exception as error:  # the peer's parsers raise whatever they meet
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"phono3py cannot make force constants from {path} ({reason[:160]})", "check its forces"
        ) from error
    if peer.fc2 is None or peer.fc3 is None:
        raise InputError(
            f"forces are missing for some displacements of {path}", "complete the calculations, then collect them"
        )
    return peer_constants(peer)
