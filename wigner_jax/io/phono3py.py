"""phono3py's files: cells from its yaml, force constants from its HDF5 or, through phono3py itself, from forces."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .._core.arrays_in import open_hdf5
from .._core.reading import read_bytes, reading, reads
from ..checks import require_finite
from ..crystal.snapping import say_moved
from ..crystal.supercells import nine_numbers, primitive_matrix_of, reduce_to_primitive
from ..crystal.symmetry import SYMPREC, space_group, symmetrized
from ..errors import InputError, say
from ..ifc.phono3py_bridge import _with_home, make_supercell_map, peer_constants
from ..ifc.plausible import say_implausible
from ..ifc.residuals import check_force_constants, require_some
from ..types import BornCharges, Crystal, ForceConstants, Supercell, Supercells
from .born import born_from_yaml, read_born
from .calculator_units import Units, conversion, units_of
from .yaml_cells import beside, cell_of, has_forces, read_cells, read_yaml

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
    born: str | Path | None = None,
    symprec: float | None = None,
) -> Phono3pyData:
    """Read a phono3py yaml and what lies beside it. Any supercell matrices, also two; compact or full arrays.

    The force constants come from, in this order: the forces inside the yaml (phono3py_params*.yaml, also .xz, .gz,
    .bz2); fc2.hdf5 and fc3.hdf5 beside it (or `fc2`, `fc3`); FORCES_FC3 and, with a separate fc2 supercell, FORCES_FC2
    beside it (or `forces_fc3`, `forces_fc2`). HDF5 is read without phono3py. Forces are turned into force constants by
    phono3py, which has to be installed, as it does by default (finite differences for its pair displacements, symfc
    for random ones; symmetrised). Naming any of the four files overrides this order. Units are those of the calculator
    that the yaml names, or its `physical_unit`, and are converted to Å and eV, the unit factor of Born charges too.

    Args:
        path: the yaml.
        fc2, fc3, forces_fc3, forces_fc2: other names of the files beside the yaml.
        born: a BORN file instead of the charges of the yaml or beside it.
        symprec: Å, of the space group; the yaml's own tolerance unless given.

    Returns:
        Phono3pyData. The crystal is the yaml's primitive cell, in its atom order, snapped onto its space group, which
        magnetic moments lower; its masses are the yaml's.

    Raises:
        InputError: one line on what is missing, unreadable or inconsistent.
    """
    if symprec is not None and not (isinstance(symprec, Real) and 0 < symprec < 1):
        raise InputError(f"symprec is {symprec!r}", f"give a tolerance in Å above 0, such as {SYMPREC:g}")
    path = Path(path)
    data = read_yaml(path)
    units = units_of(data, path)
    read_cells(data, path, units)
    symprec = _tolerance(data, units, path) if symprec is None else symprec
    named = any(x is not None for x in (fc2, fc3, forces_fc3, forces_fc2))
    forces = Path(forces_fc3) if forces_fc3 is not None else beside(path, "FORCES_FC3")
    constants = (Path(fc2) if fc2 else path.with_name("fc2.hdf5"), Path(fc3) if fc3 else path.with_name("fc3.hdf5"))
    from_hdf5 = fc2 is not None or fc3 is not None or all(p.is_file() for p in constants)
    if has_forces(data) and not named:
        cells, result = _from_forces(path, data, units, (None, None), symprec)
    elif from_hdf5 and forces_fc3 is None:
        cells, result = _from_hdf5(path, data, units, constants, symprec)
    elif forces is not None:
        forces_2 = Path(forces_fc2) if forces_fc2 is not None else beside(path, "FORCES_FC2")
        cells, result = _from_forces(path, data, units, (forces, forces_2), symprec)
    else:
        missing = " and ".join(p.name for p in constants if not p.is_file())
        raise InputError(
            f"{path} holds no forces, and {missing} and FORCES_FC3 are not beside it",
            "put the force constants (fc2.hdf5 and fc3.hdf5) or FORCES_FC3 into the same folder, or name a potential",
        )
    require_some(result)
    check_force_constants(cells, result)
    say_implausible(cells, result)
    _say_if_folded(cells.crystal, path, symprec)
    if born is not None:
        return Phono3pyData(cells, result, read_born(born, cells.crystal, unit=units.nac))
    charges = born_from_yaml(data, cells.crystal.n_atoms, path, units.nac)
    if charges is None and (file := beside(path, "BORN")) is not None:
        charges = read_born(file, cells.crystal, unit=units.nac)
    return Phono3pyData(cells, result, charges)


def _say_if_folded(crystal: Crystal, path: Path, symprec: float) -> None:
    """A cell of several primitive ones is a description like any other, but not a good one."""
    rotations = space_group(crystal, symprec).rotations
    copies = int(np.sum(np.all(rotations == np.eye(3, dtype=int), axis=(1, 2))))
    if copies > 1:
        say(
            f"the primitive cell of {path} holds {copies} smaller ones: its bands are folded, which takes"
            f" {copies} times as many, tetrahedra resolve worse, and phono3py gives lower velocities (primitive_matrix: auto)",
        )


def _tolerance(data: dict[str, Any], units: Units, path: Path) -> float:
    """Å, of the space group."""
    given = (data.get("phono3py") or {}).get("symmetry_tolerance", SYMPREC)
    try:
        tolerance = float(given)
    except (TypeError, ValueError):
        tolerance = float("nan")
    if not 0 < tolerance < 1:
        raise InputError(f"symmetry_tolerance of {path} is {given!r}", "it must be a length above zero, such as 1e-5")
    return tolerance * units.length if "symmetry_tolerance" in (data.get("phono3py") or {}) else tolerance


def _primitive(data: dict[str, Any], path: Path, units: Units) -> Crystal:
    """The primitive cell; where there is none (older files), that of the unit cell by the columns of primitive_matrix."""
    if "primitive_cell" in data:
        cell = cell_of(data, "primitive_cell", path, units)
        return Crystal(cell.lattice, cell.positions, cell.masses, tuple(int(z) for z in cell.numbers), cell.moments)
    cell = cell_of(data, "unit_cell", path, units)
    matrix = data.get("primitive_matrix", np.eye(3))
    if isinstance(matrix, str) and matrix.strip().lower() == "auto":
        matrix = primitive_matrix_of(cell.lattice, cell.positions, cell.numbers, SYMPREC)
    matrix = nine_numbers(matrix, f"primitive_matrix of {path}")
    return reduce_to_primitive(cell.lattice, cell.positions, cell.numbers, cell.masses, matrix, cell.moments)[0]


def _from_hdf5(
    path: Path, data: dict[str, Any], units: Units, files: tuple[Path, Path], symprec: float
) -> tuple[Supercells, ForceConstants]:
    crystal = _primitive(data, path, units)
    name2 = "phonon_supercell" if "phonon_supercell_matrix" in data else "supercell"
    maps = {}
    for name in {"supercell", name2}:
        cell = cell_of(data, name, path, units)
        maps[name] = make_supercell_map(crystal, cell.lattice, cell.positions, cell.numbers)
    second, map2 = _read_constants(
        files[0], ("force_constants", "fc2"), maps[name2], _reduced_to(data, name2), 1, units.fc2
    )
    third, map3 = _read_constants(files[1], ("fc3",), maps["supercell"], _reduced_to(data, "supercell"), 2, units.fc3)
    snapped = symmetrized(crystal, space_group(crystal, symprec))
    say_moved(crystal, snapped, symprec)
    return Supercells(snapped, map2, map3), ForceConstants(second, third)


def _reduced_to(data: dict[str, Any], name: str) -> np.ndarray | None:
    points = data[name].get("points") or data[name]["atoms"]
    if not all("reduced_to" in p for p in points):
        return None
    return np.unique([int(p["reduced_to"]) - 1 for p in points])


def _read_constants(
    path: Path, names: tuple[str, ...], supercell: Supercell, rows: np.ndarray | None, order: int, unit: float
) -> tuple[np.ndarray, Supercell]:
    """Compact force constants (n, N, [N,] 3, 3 [, 3]) in the order of the primitive atoms, and their supercell.

    Args:
        unit: eV/Å² or eV/Å³ of the numbers, unless the file has its own `physical_unit`.
    """
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
        if "physical_unit" in file:
            word = np.asarray(file.array("physical_unit", kinds="S")).ravel()[0]
            unit = conversion(word.decode() if isinstance(word, bytes) else str(word), order + 1, path)
    if array.shape[1:] != (N,) * order + (3,) * (order + 1) or array.shape[0] not in (n, N):
        raise InputError(
            f"{path} has shape {array.shape} where the yaml's supercell has {N} atoms ({n} primitive): wrong file"
        )
    require_finite(array, str(path))
    array = array if unit == 1 else array * unit
    if array.shape[0] == N:
        supercell = _with_home(supercell, rows if rows is not None and len(rows) == n else None)
        return array[supercell.p2s_map], supercell
    if rows is not None and (len(rows) != n or rows.min() < 0 or rows.max() >= N):
        raise InputError(f"p2s_map of {path} does not fit the yaml's supercell of {N} atoms: wrong file")
    # phonopy's rows are ascending supercell atoms: without a map, the first atom of each kind
    rows = np.sort(supercell.p2s_map) if rows is None else rows
    return array[np.argsort(supercell.primitive_index[rows])], _with_home(supercell, rows)


def _from_forces(
    path: Path, data: dict[str, Any], units: Units, files: tuple[Path | None, Path | None], symprec: float
) -> tuple[Supercells, ForceConstants]:
    """Force constants from displacements and forces: phono3py's own, with its default choices."""
    forces_fc3, forces_fc2 = files
    try:
        from phono3py import Phono3py
        from phono3py.cui.load import (
            compute_force_constants_from_datasets,
            select_and_load_dataset,
            select_and_load_phonon_dataset,
        )
        from phono3py.interface.phono3py_yaml import load_phono3py_yaml
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
        if not copies * len(cell_of(data, "unit_cell", path, units).positions) <= MOST_ATOMS:
            raise InputError(f"{name} of {path} makes more than {MOST_ATOMS} atoms", "check it")
    _require_forces(data, path)
    try:
        # units are read here: the peer refuses those that are not its calculator's
        parsed = load_phono3py_yaml({key: value for key, value in data.items() if key != "physical_unit"})
        peer = Phono3py(
            parsed.unitcell,
            parsed.supercell_matrix,
            primitive_matrix="auto" if parsed.primitive_matrix is None else parsed.primitive_matrix,
            phonon_supercell_matrix=parsed.phonon_supercell_matrix,
            calculator=parsed.calculator,
            symprec=symprec / units.length,
        )
        # always with a name, or forces in the yaml: otherwise the peer looks into the current folder
        peer.dataset = select_and_load_dataset(peer, parsed, forces_fc3, str(path))
        if parsed.phonon_supercell_matrix is not None:
            peer.phonon_dataset = select_and_load_phonon_dataset(peer, parsed, forces_fc2)
        random = [d is not None and "displacements" in d for d in (peer.phonon_dataset or peer.dataset, peer.dataset)]
        calculator = "|".join("symfc" if r else "traditional" for r in random) if any(random) else None
        compute_force_constants_from_datasets(
            peer, fc_calculator=calculator, use_symfc_projector=True, is_compact_fc=not _is_reducible(peer)
        )
    except Exception as error:  # the peer's parsers raise whatever they meet
        said = " ".join(str(error).split())[:160] if isinstance(error, (RuntimeError, FileNotFoundError)) else ""
        raise InputError(
            f"phono3py cannot make force constants from {path} ({said or 'displacements and forces do not fit together'})",
            "check its forces",
        ) from error
    if peer.fc2 is None or peer.fc3 is None:
        raise InputError(
            f"forces are missing for some displacements of {path}", "complete the calculations, then collect them"
        )
    cells, fc = peer_constants(peer, units.length, symprec)
    return cells, ForceConstants(fc.fc2 * units.fc2, fc.fc3 * units.fc3)


def _require_forces(data: dict[str, Any], path: Path) -> None:
    """InputError unless all forces in a yaml are finite, three for each atom, of one number of atoms in a dataset."""
    for key in ("displacement_pairs", "displacements", "phonon_displacements", "dataset", "phonon_dataset"):
        first: int | None = None
        left, count = [data.get(key)], 0
        while left:
            item = left.pop()
            if isinstance(item, dict):
                if "forces" in item:
                    count += 1
                    what = f"the forces of displacement {count} in {key} of {path}"
                    try:
                        forces = np.array(item["forces"], float)
                    except (TypeError, ValueError):
                        raise InputError(f"{what} are not three numbers for each atom", "check the file") from None
                    if forces.ndim not in (2, 3) or forces.shape[-1] != 3:
                        raise InputError(f"{what} are not three numbers for each atom", "check the file")
                    if not np.isfinite(forces).all():
                        raise InputError(f"{what} are not finite", "repeat that calculation")
                    first = forces.shape[-2] if first is None else first
                    if forces.shape[-2] != first:
                        raise InputError(
                            f"{what} are of {forces.shape[-2]} atoms, others of {first}",
                            "it is truncated: make it anew",
                        )
                left += [value for name, value in item.items() if name != "forces"]
            elif isinstance(item, list) and item and isinstance(item[0], (dict, list)):
                left += reversed(item)


def _is_reducible(peer: Any) -> bool:
    """Whether the primitive cell holds smaller ones. symfc goes by the smallest, and compact arrays do not fit then."""
    rotations = np.asarray(peer.primitive_symmetry.symmetry_operations["rotations"])
    return int(np.sum(np.all(rotations == np.eye(3, dtype=int), axis=(1, 2)))) > 1
