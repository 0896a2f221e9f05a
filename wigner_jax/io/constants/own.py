"""Force constants as this package keeps them: one HDF5 file with the cells, Φ2, Φ3, charges and where they come from.

crystal/*, fc2_supercell/*, fc3_supercell/*   the fields of `Crystal` and `Supercell`, Å and amu
constants/fc2, constants/fc3                  eV/Å², eV/Å³ (`ForceConstants`)
born/*                                        the fields of `BornCharges`, where there are charges
mesh                                          where the structure names one
attributes   program, program_version, origin, reach, fingerprint (of all arrays: a file that was changed is refused)
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..._core.arrays_in import open_hdf5
from ..._core.atomic_write import atomic_hdf5
from ..._core.fingerprint import fingerprint
from ..._core.reading import reading
from ..._core.version import __version__
from ...checks import require_finite
from ...errors import InputError
from ...ifc.residuals import check_force_constants, require_some
from ...types import BornCharges, Crystal, ForceConstants, Supercell, Supercells
from .given import GivenConstants

if TYPE_CHECKING:
    from collections.abc import Mapping

MARK = "fingerprint_of_force_constants"  # the attribute by which a file of ours is known
ADVICE = "name another file"


def put_constants(place: Any, given: GivenConstants) -> None:
    """Into an open HDF5 file or a group of it; the fingerprint goes to the file's attributes."""
    parts = _parts(given)
    for name, array in parts.items():
        large = array.nbytes > 10_000
        place.create_dataset(name, data=array, compression="gzip" if large else None, shuffle=large)
    place.file.attrs[MARK] = fingerprint(parts)


def constants_in(tree: Mapping[str, Any], attributes: Mapping[str, Any]) -> GivenConstants:
    """From the contents of such a file or group.

    Raises:
        InputError: it is not what was written; KeyError, TypeError: there is nothing of the kind.
    """
    flat = {f"{k}/{n}": x for k, part in tree.items() if isinstance(part, dict) for n, x in part.items()}
    flat |= {k: x for k, x in tree.items() if not isinstance(x, dict)}
    if fingerprint({k: np.asarray(x) for k, x in flat.items()}) != attributes[MARK]:
        raise InputError("it was changed after it was written", "make it anew")
    crystal = tree["crystal"] | {"numbers": tuple(int(z) for z in tree["crystal"]["numbers"])}
    cells = Supercells(Crystal(**crystal), Supercell(**tree["fc2_supercell"]), Supercell(**tree["fc3_supercell"]))
    mesh = tuple(int(n) for n in tree["mesh"]) if "mesh" in tree else None
    born = BornCharges(**tree["born"]) if "born" in tree else None
    return GivenConstants(
        cells, ForceConstants(**tree["constants"]), born, mesh, str(attributes.get("origin", "")),
        float(attributes.get("reach", np.nan)),
    )  # fmt: skip


def _parts(given: GivenConstants) -> dict[str, np.ndarray]:
    """All arrays by their names in the file."""
    cells = given.supercells
    parts: dict[str, Any] = {
        "crystal": cells.crystal, "fc2_supercell": cells.fc2_supercell, "fc3_supercell": cells.fc3_supercell,
        "constants": given.force_constants, "born": given.born,
    }  # fmt: skip
    found = {} if given.mesh is None else {"mesh": np.asarray(given.mesh)}
    for name, part in parts.items():
        for field in dataclasses.fields(part) if part is not None else ():
            if (value := getattr(part, field.name)) is not None:
                found[f"{name}/{field.name}"] = np.asarray(value)
    return found


def write_own(path: str | Path, given: GivenConstants) -> None:
    """One file with everything, whole or not at all."""
    with atomic_hdf5(path, ADVICE) as file:
        put_constants(file, given)
        file.attrs.update(
            {"program": "wigner-jax", "program_version": __version__, "origin": given.origin, "reach": given.reach}
        )


def is_own(path: Path) -> bool:
    """Whether a file is one that `write_own` wrote."""
    try:
        with h5py.File(path, "r") as file:
            return MARK in file.attrs and "constants" in file
    except (OSError, RuntimeError, ValueError, KeyError):
        return False


def read_own(path: str | Path) -> GivenConstants:
    """What `write_own` wrote.

    Raises:
        InputError: another file, or one that was changed or is damaged.
    """
    path = Path(path)
    with reading(path, "a file of force constants of wigner-jax", "make it anew"), open_hdf5(path) as file:
        if MARK not in file.attributes():
            raise InputError(
                "it has no force constants with their cells", "give one that `wigner-jax kappa` or `fc` wrote"
            )
        given = constants_in(file.tree(), file.attributes())
        for name, array in _parts(given).items():
            if np.issubdtype(array.dtype, np.floating):
                require_finite(array, f"{name} of {path}")
        require_some(given.force_constants)
        check_force_constants(given.supercells, given.force_constants)
    return given


__all__ = ["constants_in", "is_own", "put_constants", "read_own", "write_own"]
