"""The DFT reference of κ_SRME: conductivities of 103 binary solids, resolved by mode (phononDB, PBE).

Data of Póta, Ahlawat, Csányi, Simoncelli, arXiv:2408.00755, after Togo, Chaput, Tanaka, PRB 91, 094306 (2015): a JSON table
of columns, each a dictionary by row number, and the structures as extxyz with supercells and mesh. Rows and structures are
in different orders: they are joined by their Materials Project number.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.atomic_write import write_bytes
from .._core.reading import read_json, reading, whole_number
from ..checks import can_name_a_file
from ..errors import InputError
from ..reference import Reference
from .ase_files import read_frames

if TYPE_CHECKING:
    from collections.abc import Iterable

    import ase


CONTRADICTION = 0.02  # relative, between a conductivity and the sum of its modes; phononDB's agree to 1e-10
LONGEST_ID = 100  # characters; names of files have an ending and room for a temporary one
COLUMNS = (
    "mp_id", "name", "symm.no", "q_mesh", "qpoints", "weights", "temperatures", "frequencies", "heat_capacity",
    "kappa_TOT_ave", "mode_kappa_TOT_ave",
)  # fmt: skip


def write_phonondb(path: str | Path, references: Iterable[Reference]) -> None:
    """The file that `read_phonondb` reads (`.json` or `.json.gz`); it appears complete or not at all."""
    rows = [
        dict(
            zip(
                COLUMNS,
                (r.mp_id, r.name, r.space_group, list(r.mesh), *(x.tolist() for x in (
                    r.qpoints, r.weights, r.temperatures, r.frequencies, r.heat_capacity, r.kappa, r.mode_kappa
                ))),
                strict=True,
            )
        )
        for r in references
    ]  # fmt: skip
    table = {name: {str(k): row[name] for k, row in enumerate(rows)} for name in COLUMNS}
    content, path = json.dumps(table).encode(), Path(path)
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_phonondb(path: str | Path) -> dict[str, Reference]:
    """All solids of the reference file (`.json` or `.json.gz`), by Materials Project number.

    Raises:
        InputError: a file that is missing, not JSON, or without one of the columns; a row that is incomplete, or whose modes
            do not sum up to its conductivity; two rows of one material.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no reference file {path}", "check the name")
    with reading(path, "a table in JSON"):
        table = read_json(path)
    missing = [name for name in COLUMNS if not isinstance(table, dict) or not isinstance(table.get(name), dict)]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}: it is not a reference of mode conductivities")
    found: dict[str, Reference] = {}
    for row in table["mp_id"]:
        with reading(path, f"a table whose row {row[:40]} can be used"):
            reference = _reference({name: table[name][row] for name in COLUMNS})
        _add(found, material_id(reference.mp_id, path), reference, path)
    return found


def material_id(given: Any, path: str | Path) -> str:
    """The number of a material as text; raises InputError for one that is no name of a file, which records are called by."""
    text = str(given)
    if not can_name_a_file(text) or len(text) > LONGEST_ID:
        raise InputError(f"{path} has the mp_id {text[:80]!r}, which no file can be called", "name it like mp-149")
    return text


def _add(found: dict[str, Any], mp_id: str, value: Any, path: str | Path) -> None:
    if mp_id in found:
        raise InputError(f"{path} has {mp_id} more than once", "remove the copies that are not meant")
    found[mp_id] = value


def _reference(row: dict[str, Any]) -> Reference:
    def floats(name: str) -> np.ndarray:
        values = np.array(row[name], float)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds non-finite numbers")
        return values

    weights, frequencies = floats("weights"), floats("frequencies")
    mode_kappa, temperatures = floats("mode_kappa_TOT_ave"), floats("temperatures")
    qpoints, heat_capacity, kappa = floats("qpoints"), floats("heat_capacity"), floats("kappa_TOT_ave")
    if frequencies.ndim != 2 or mode_kappa.shape != (len(temperatures), *frequencies.shape):
        raise ValueError(f"mode conductivities of shape {mode_kappa.shape} for frequencies of {frequencies.shape}")
    for array, shape, name in (
        (temperatures, (len(temperatures),), "temperatures"), (weights, frequencies.shape[:1], "weights"),
        (qpoints, (len(frequencies), 3), "qpoints"), (heat_capacity, mode_kappa.shape, "heat_capacity"),
        (kappa, temperatures.shape, "kappa_TOT_ave"),
    ):  # fmt: skip
        if array.shape != shape:
            raise ValueError(f"{name} of shape {array.shape}, not {shape}")
    x, y, z = (whole_number(n, "q_mesh", 1, 10_000) for n in row["q_mesh"])
    if not (np.all(weights >= 1) and np.all(temperatures > 0) and np.sum(weights) == x * y * z):
        raise ValueError("weights that are not those of its mesh, or temperatures that are not above 0 K")
    if not np.all(kappa > 0):
        raise ValueError("a conductivity that is not above 0")
    summed = mode_kappa.sum(axis=(1, 2)) / weights.sum()
    if not np.all(np.abs(summed - kappa) <= CONTRADICTION * kappa):
        t = int(np.argmax(np.abs(summed / kappa - 1)))
        raise ValueError(
            f"kappa_TOT_ave {kappa[t]:.5g} at {temperatures[t]:g} K, where its modes sum up to {summed[t]:.5g}"
        )
    return Reference(
        str(row["mp_id"]), str(row["name"]), whole_number(row["symm.no"], "symm.no", 1, 230), (x, y, z), temperatures,
        qpoints, weights.astype(int), frequencies, heat_capacity, mode_kappa, kappa,
    )  # fmt: skip


def read_phonondb_structure(path: str | Path, mp_id: str) -> ase.Atoms:
    """One structure of the extxyz file, with fc2_supercell, fc3_supercell, primitive_matrix and q_mesh in its info.

    Wurtzites have no primitive_matrix there: their cells are primitive.
    """
    if not Path(path).is_file():
        raise InputError(f"no structure file {path}", "check the name")
    found = [atoms for atoms in read_frames(path) if str(atoms.info.get("mp_id")) == str(mp_id)]
    if not found:
        raise InputError(f"{path} has no structure with mp_id {mp_id!r}")
    if len(found) > 1:
        raise InputError(f"{path} has {mp_id} more than once", "remove the copies that are not meant")
    return _named(found[0], path)


def read_phonondb_structures(path: str | Path) -> dict[str, ase.Atoms]:
    """All structures of the extxyz file by Materials Project number, in its order, as `read_phonondb_structure`'s."""
    if not Path(path).is_file():
        raise InputError(f"no structure file {path}", "check the name")
    frames = read_frames(path, "extxyz")
    structures: dict[str, ase.Atoms] = {}
    for number, atoms in enumerate(frames):
        if "mp_id" not in atoms.info:
            raise InputError(f"{path}: structure {number + 1} has no mp_id")
        _add(structures, _named(atoms, path).info["mp_id"], atoms, path)
    return structures


def _named(atoms: ase.Atoms, path: str | Path) -> ase.Atoms:
    """With its number as text, which extxyz may read as an integer, and a primitive_matrix."""
    atoms.info["mp_id"] = material_id(atoms.info["mp_id"], path)
    atoms.info.setdefault("primitive_matrix", np.eye(3))
    return atoms


__all__ = [
    "read_phonondb",
    "read_phonondb_structure",
    "read_phonondb_structures",
    "write_phonondb",
]
