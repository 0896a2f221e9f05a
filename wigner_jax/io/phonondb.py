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

from ..atomic import written_aside
from ..errors import InputError
from ..types import Mesh, host_data

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import ase

    from ..types import Solution

COLUMNS = (
    "mp_id", "name", "symm.no", "q_mesh", "qpoints", "weights", "temperatures", "frequencies", "heat_capacity",
    "kappa_TOT_ave", "mode_kappa_TOT_ave",
)  # fmt: skip


@host_data
class Reference:
    """Conductivity of one solid on the irreducible points of its mesh. Host data.

    Mode values hold the star of each point: Σ mode_kappa / Σ weights = kappa.
    """

    mp_id: str
    name: str
    space_group: int
    mesh: tuple[int, int, int]
    temperatures: np.ndarray  # (T,) K
    qpoints: np.ndarray  # (P, 3) fractional
    weights: np.ndarray  # (P,) int
    frequencies: np.ndarray  # (P, m) THz
    heat_capacity: np.ndarray  # (T, P, m) eV/K
    mode_kappa: np.ndarray  # (T, P, m) W/(m K), a third of the trace
    kappa: np.ndarray  # (T,) W/(m K), a third of the trace

    def at(self, temperature: float) -> int:
        """Index of a temperature; InputError if the reference does not have it."""
        near = np.flatnonzero(np.abs(self.temperatures - temperature) < 1e-6)
        if len(near) == 0:
            known = ", ".join(f"{t:g}" for t in self.temperatures)
            raise InputError(f"the reference of {self.name} has no temperature {temperature:g} K: choose from {known}")
        return int(near[0])

    def require_mesh(self, mesh: Mesh | Sequence[int], qpoints: np.ndarray | None = None) -> None:
        """InputError unless the mesh is the reference's.

        Args:
            mesh: a mesh, whose irreducible points are compared too, one by one; or its dimensions alone.
            qpoints: irreducible points to compare where `mesh` is dimensions. (P, 3)
        """
        if isinstance(mesh, Mesh):
            qpoints = np.asarray(mesh.qpoints)[np.asarray(mesh.irreducible)]
        given = tuple(int(n) for n in (mesh.dims if isinstance(mesh, Mesh) else mesh))
        if given != self.mesh:
            raise InputError(
                f"the reference of {self.name} is on the mesh {' '.join(map(str, self.mesh))}, not"
                f" {' '.join(map(str, given))}: modes are compared one by one"
            )
        if qpoints is not None:
            difference = np.asarray(qpoints) - self.qpoints if len(qpoints) == len(self.qpoints) else np.array(np.inf)
            if not np.abs(difference - np.rint(difference)).max() < 1e-6:
                raise InputError(
                    f"the irreducible points of {self.name} are not those of the reference: use its primitive cell"
                )


def reference_of(solution: Solution, mesh: Mesh, mp_id: str, name: str, space_group: int) -> Reference:
    """A solution as a reference for others: any potential or set of force constants may play DFT's part.

    Args:
        mp_id: a name for the row; the structure file has the same in its info.
        space_group: international number; it sorts the material into rocksalt, zincblende, wurtzite or other.
    """
    from ..metrics import average, mode_kappa

    result, at = solution.conductivity, np.asarray(mesh.irreducible)
    return Reference(
        mp_id, name, space_group, mesh.dims, np.asarray(result.temperatures), np.asarray(mesh.qpoints)[at],
        np.asarray(mesh.weights), np.asarray(solution.phonons.frequencies)[at], np.asarray(result.heat_capacity),
        np.asarray(mode_kappa(result)), np.asarray(average(result.kappa_TOT)),
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
    with written_aside(path) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def read_phonondb(path: str | Path) -> dict[str, Reference]:
    """All solids of the reference file (`.json` or `.json.gz`), by Materials Project number.

    Raises:
        InputError: a file that is missing, not JSON, or without one of the columns; a row that is incomplete.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        table = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except FileNotFoundError:
        raise InputError(f"no reference file {path}: check the name") from None
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path} is not a table in JSON ({' '.join(str(error).split())[:80]})") from None
    missing = [name for name in COLUMNS if not isinstance(table, dict) or name not in table]
    if missing:
        raise InputError(f"{path} has no column {missing[0]!r}: it is not a reference of mode conductivities")
    found = {}
    for row in table["mp_id"]:
        try:
            reference = _reference({name: table[name][row] for name in COLUMNS})
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: row {row} cannot be used ({error})") from None
        found[reference.mp_id] = reference
    return found


def _reference(row: dict[str, Any]) -> Reference:
    def floats(name: str) -> np.ndarray:
        values = np.array(row[name], float)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds non-finite numbers")
        return values

    weights, frequencies = np.array(row["weights"], int), floats("frequencies")
    mode_kappa, temperatures = floats("mode_kappa_TOT_ave"), floats("temperatures")
    if mode_kappa.shape != (len(temperatures), *frequencies.shape) or len(weights) != len(frequencies):
        raise ValueError(f"mode conductivities of shape {mode_kappa.shape} for frequencies of {frequencies.shape}")
    x, y, z = (int(n) for n in row["q_mesh"])
    return Reference(
        str(row["mp_id"]), str(row["name"]), int(row["symm.no"]), (x, y, z), temperatures, floats("qpoints"), weights,
        frequencies, floats("heat_capacity"), mode_kappa, floats("kappa_TOT_ave"),
    )  # fmt: skip


def read_phonondb_structure(path: str | Path, mp_id: str) -> ase.Atoms:
    """One structure of the extxyz file, with fc2_supercell, fc3_supercell, primitive_matrix and q_mesh in its info.

    Wurtzites have no primitive_matrix there: their cells are primitive.
    """
    import ase.io

    if not Path(path).is_file():
        raise InputError(f"no structure file {path}: check the name")
    for atoms in ase.io.iread(path, ":"):
        if atoms.info.get("mp_id") == mp_id:
            atoms.info.setdefault("primitive_matrix", np.eye(3))
            return atoms
    raise InputError(f"{path} has no structure with mp_id {mp_id!r}")


def read_phonondb_structures(path: str | Path) -> dict[str, ase.Atoms]:
    """All structures of the extxyz file by Materials Project number, in its order, as `read_phonondb_structure`'s."""
    import ase.io

    if not Path(path).is_file():
        raise InputError(f"no structure file {path}: check the name")
    try:
        frames = list(ase.io.iread(path, ":", format="extxyz"))
    except Exception as error:  # ASE's readers raise whatever their parsers raise
        raise InputError(f"ASE cannot read {path} as extxyz ({' '.join(str(error).split())[:80]})") from None
    structures = {}
    for number, atoms in enumerate(frames):
        if "mp_id" not in atoms.info:
            raise InputError(f"{path}: structure {number + 1} has no mp_id")
        atoms.info.setdefault("primitive_matrix", np.eye(3))
        structures[str(atoms.info["mp_id"])] = atoms
    return structures


__all__ = [
    "Reference", "read_phonondb", "read_phonondb_structure", "read_phonondb_structures", "reference_of",
    "write_phonondb",
]  # fmt: skip
