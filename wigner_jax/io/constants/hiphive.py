"""hiPhive's file of force constants (.fcs), through hiPhive: those of both orders in one supercell.

The file is a tar archive with a pickle, and a pickle can run programs: before hiPhive opens it, it is loaded with nothing
allowed but what arrays of numbers need.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import tarfile
from itertools import combinations_with_replacement, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.atomic_write import replacing
from ..._core.reading import reading
from ...crystal.supercells import primitive_matrix_of, reduce_to_primitive
from ...crystal.symmetry import SYMPREC, space_group, symmetrized
from ...errors import InputError
from ...ifc.images import atom_at, enough, refolded, unfolded
from ...ifc.residuals import check_force_constants, require_some
from ...types import ForceConstants, Supercell, Supercells
from .given import GivenConstants

if TYPE_CHECKING:
    from types import ModuleType

MOST = 2_000_000  # groups of atoms that are written or read, each an object of its own
NAME = "force_constants.fcs"
_HARMLESS = {
    "numpy ndarray", "numpy dtype", "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct",
    "numpy.core.multiarray scalar", "numpy._core.multiarray scalar", "numpy._core.numeric _frombuffer",
    "numpy.core.numeric _frombuffer",
}  # fmt: skip


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
        InputError: hiPhive is not installed, another file, or an order is missing.
    """
    hiphive = _library()
    path = Path(path)
    with reading(path, "force constants of hiPhive"):
        _require_harmless(path)
        fcs = hiphive.ForceConstants.read(str(path))
        missing = [str(order) for order in (2, 3) if order not in fcs.orders]
        if missing:
            raise InputError(f"it has no force constants of order {' and '.join(missing)}", "fit both")
        atoms = fcs.supercell
        lattice, scaled = atoms.cell.array, atoms.get_scaled_positions(wrap=False)
        matrix = primitive_matrix_of(lattice, scaled, atoms.numbers, symprec)
        crystal, kinds, vectors = reduce_to_primitive(lattice, scaled, atoms.numbers, atoms.get_masses(), matrix)
        n, N = crystal.n_atoms, len(kinds)
        home = np.array([int(np.flatnonzero(kinds == i)[0]) for i in range(n)])
        supercell = Supercell(np.rint(np.linalg.inv(matrix.T)).astype(int), kinds, vectors, home)
        fc2, fc3 = np.zeros((n, N, 3, 3)), np.zeros((n, N, N, 3, 3, 3))
        rows = {int(J): i for i, J in enumerate(home)}
        for cluster, block in fcs.get_fc_dict().items():
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


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module} {name}" not in _HARMLESS:
            asked = f"{module}.{name}"[:60]
            raise InputError(
                f"its pickle asks for {asked!r}, which no array needs", "it may be hostile: do not open it"
            )
        return super().find_class(module, name)


def _require_harmless(path: Path) -> None:
    """InputError unless the pickle of a file makes nothing but arrays, numbers and texts."""
    with tarfile.open(path, "r:") as archive:
        if not all(0 <= member.size <= min(path.stat().st_size, 2**31) for member in archive.getmembers()):
            raise InputError("it is not complete, or too large")
        file = archive.extractfile("fc_dict")
        if file is None:
            raise InputError("it holds no force constants")
        data = file.read()
    for code, argument, _ in pickletools.genops(data):  # which compares lengths with what is there
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT", "FRAME") and (argument or 0) > len(data):
            raise InputError("it is damaged: its pickle counts more objects than it has bytes")
    _Arrays(io.BytesIO(data)).load()


__all__ = ["read_hiphive", "write_hiphive"]
