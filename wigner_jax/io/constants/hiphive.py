"""hiPhive's file of force constants (.fcs): those of both orders in one supercell. Written through hiPhive.

The file is a tar archive with the supercell as ASE's JSON (``supercell``) and a pickle (``fc_dict``): a dictionary with
``fc_dict``, blocks of eV/Å^n by tuples of atoms, in ascending order or in all orders. A pickle can run programs, and damaged
ones of arrays crash NumPy, so that hiPhive, which loads it as it is, does not see it: it is read without running it.
"""

from __future__ import annotations

import tarfile
import tempfile
from itertools import combinations_with_replacement, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.atomic_write import replacing
from ..._core.reading import reading, require_size
from ...checks import require_finite
from ...crystal.supercells import primitive_matrix_of, reduce_to_primitive
from ...crystal.symmetry import SYMPREC, space_group, symmetrized
from ...crystal.validity import require_structure
from ...errors import InputError
from ...ifc.images import atom_at, enough, refolded, unfolded
from ...ifc.residuals import check_force_constants, require_some
from ...potentials.readers.inert_pickle import Reader
from ...potentials.readers.stubs import Array
from ...types import ForceConstants, Supercell, Supercells
from ..ase_files import read_frames
from .given import GivenConstants

if TYPE_CHECKING:
    from types import ModuleType

    import ase

MOST = 2_000_000  # groups of atoms that are written or read, each an object of its own
NAME = "force_constants.fcs"
ROOM = 2**28, 300  # bytes of the whole arrays, and times the size of the file: pairs beyond a cutoff have no blocks


def _library() -> ModuleType:
    try:
        import hiphive
    except ImportError:
        raise InputError(
            "hiPhive is not installed, which knows its files", "pip install 'wigner-jax[hiphive]'"
        ) from None
    return hiphive


def write_hiphive(folder: Path, given: GivenConstants) -> list[Path]:
    """force_constants.fcs: both orders in one supercell, that of Φ3 if it holds Φ2, else that of Φ2 or a larger one.

    Raises:
        InputError: hiPhive is not installed, or the supercell is too large for its format.
    """
    import ase

    hiphive = _library()
    crystal, cells, fc = given.supercells.crystal, given.supercells, given.force_constants
    images = (
        unfolded(crystal, cells.fc2_supercell, np.asarray(fc.fc2)),
        unfolded(crystal, cells.fc3_supercell, np.asarray(fc.fc3)),
    )
    for supercell in (cells.fc3_supercell, cells.fc2_supercell):
        arrays = [refolded(x, crystal, supercell) for x in images]
        if all(a is not None for a in arrays):
            break
    else:
        supercell = enough(images[1], crystal, np.diag(enough(images[0], crystal)[0].matrix).tolist())[0]
        arrays = [refolded(x, crystal, supercell) for x in images]
    fc2, fc3 = (np.asarray(a) for a in arrays)
    N = supercell.n_atoms
    if N * (N + 1) * (N + 2) // 6 > MOST:
        raise InputError(
            f"hiPhive's format holds every triplet of the {N} atoms that one supercell for both orders needs",
            "make Φ2 and Φ3 in the same supercell, or in smaller ones",
        )
    there = _moved(supercell)
    kinds, found = supercell.primitive_index, {}
    for order, array in ((2, fc2), (3, fc3)):
        for cluster in combinations_with_replacement(range(N), order):
            block = array[(kinds[cluster[0]], *there[cluster[0], list(cluster[1:])])]
            if np.any(block):
                found[cluster] = block
    numbers = np.asarray(crystal.numbers)[kinds]
    lattice = supercell.matrix @ np.asarray(crystal.lattice)
    atoms = ase.Atoms(
        numbers, supercell.positions_in(crystal), cell=lattice, pbc=True, masses=np.asarray(crystal.masses)[kinds]
    )
    with replacing(folder / NAME) as part:
        hiphive.ForceConstants.from_sparse_dict(found, atoms).write(str(part))
    return [folder / NAME]


def _moved(supercell: Supercell) -> np.ndarray:
    """[I, J]: the atom that lies from the home atom of I's kind as J lies from I. (N, N)"""
    cells, kinds = supercell.lattice_vector, supercell.primitive_index
    return np.stack(
        [atom_at(supercell, np.full(len(kinds), kinds[I]), kinds, cells - cells[I]) for I in range(len(kinds))]
    )


def read_hiphive(path: str | Path, symprec: float = SYMPREC) -> GivenConstants:
    """What hiPhive's `ForceConstants.write` wrote; the primitive cell is that of its supercell.

    Raises:
        InputError: another file, a damaged one, or an order is missing.
    """
    path = Path(path)
    with reading(path, "force constants of hiPhive"):
        atoms, blocks = _contents(path)
        lattice, scaled = atoms.cell.array, atoms.get_scaled_positions(wrap=False)
        matrix = primitive_matrix_of(lattice, scaled, atoms.numbers, symprec)
        crystal, kinds, vectors = reduce_to_primitive(lattice, scaled, atoms.numbers, atoms.get_masses(), matrix)
        n, N = crystal.n_atoms, len(kinds)
        blocks = _checked(blocks, N)
        require_size(72 * n * N * (1 + 3 * N), path.stat().st_size, *ROOM)
        home = np.array([int(np.flatnonzero(kinds == i)[0]) for i in range(n)])
        supercell = Supercell(np.rint(np.linalg.inv(matrix.T)).astype(int), kinds, vectors, home)
        fc2, fc3 = np.zeros((n, N, 3, 3)), np.zeros((n, N, N, 3, 3, 3))
        rows = {int(J): i for i, J in enumerate(home)}
        for cluster, block in blocks.items():
            array = {2: fc2, 3: fc3}.get(len(cluster))
            if array is None:
                continue  # higher orders
            for p in permutations(range(len(cluster))):
                if cluster[p[0]] in rows:
                    array[(rows[cluster[p[0]]], *(cluster[k] for k in p[1:]))] = np.transpose(block, p)
        fc = ForceConstants(fc2, fc3)
        cells = Supercells(symmetrized(crystal, space_group(crystal, symprec)), supercell, supercell)
        require_some(fc)
        check_force_constants(cells, fc)
    return GivenConstants(cells, fc, origin=str(path))


def _contents(path: Path) -> tuple[ase.Atoms, Any]:
    """The supercell, and what the pickle holds as ``fc_dict``."""
    with tarfile.open(path, "r:") as archive:
        if not all(0 <= member.size <= min(path.stat().st_size, 2**31) for member in archive.getmembers()):
            raise InputError("it is not complete, or too large")
        members = [archive.extractfile(name) for name in ("fc_dict", "supercell")]
        if members[0] is None or members[1] is None:
            raise InputError("it holds no force constants")
        data, cell = members[0].read(), members[1].read()
    found = Reader(data, _no_storage).load()
    if not isinstance(found, dict) or not isinstance(found.get("fc_dict"), dict):
        raise InputError("it holds no force constants")
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        Path(file.name).write_bytes(cell)
        try:
            (atoms,) = read_frames(file.name, "json")
        except InputError as error:
            raise InputError(f"its supercell: {error.found.replace(file.name, 'JSON')}") from error
    return require_structure(atoms), found["fc_dict"]


def _no_storage(key: str) -> bytes:
    raise InputError("its pickle asks for tensors, which no force constants need")


def _checked(blocks: dict[Any, Any], N: int) -> dict[tuple[int, ...], np.ndarray]:
    """Blocks of two and three atoms by their numbers."""
    if len(blocks) > 6 * MOST:
        raise InputError(f"it has {len(blocks)} blocks, and at most {6 * MOST} are read")
    found = {}
    for cluster, block in blocks.items():
        if not isinstance(cluster, tuple) or not all(isinstance(k, (int, np.integer)) and 0 <= k < N for k in cluster):
            raise InputError(f"{str(cluster)[:60]!r} names no atoms of its supercell, which has {N}")
        if len(cluster) not in (2, 3):
            continue  # other orders
        array = block.array if isinstance(block, Array) else None
        if array is None or array.shape != (3,) * len(cluster) or array.dtype.kind not in "fiu":
            raise InputError(f"the force constants of atoms {cluster} are no {'×'.join('3' * len(cluster))} numbers")
        require_finite(array, f"the force constants of atoms {cluster}")
        found[cluster] = array.astype(float)
    missing = [str(order) for order in (2, 3) if order not in {len(cluster) for cluster in found}]
    if missing:
        raise InputError(f"it has no force constants of order {' and '.join(missing)}", "fit both")
    return found


__all__ = ["read_hiphive", "write_hiphive"]
