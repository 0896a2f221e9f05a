"""Force constants of whatever file or folder is given, and files of them in the format that is asked for."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from ..._core.atomic_write import check_folder, check_output
from ...errors import InputError, say
from ...ifc.plausible import say_implausible
from ..phono3py import read_phono3py
from ..yaml_cells import has_constants as yaml_has_constants
from ..yaml_cells import is_yaml
from .given import GivenConstants
from .own import is_own, read_own, write_own
from .peer import write_phono3py, write_phonopy
from .shengbte import CONTROL, read_shengbte, write_shengbte

if TYPE_CHECKING:
    from collections.abc import Callable

OWN = "force_constants.hdf5"
YAMLS = ("phono3py.yaml", "phono3py_params.yaml", "phono3py_disp.yaml")
FCS, HDF5 = ".fcs", (".hdf5", ".h5")
ADVICE = "name another folder"
BARE = ("fc2.hdf5", "fc3.hdf5", "FORCE_CONSTANTS", "FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD")  # without cells
FILES = {
    "wigner-jax": (OWN,),
    "phono3py": ("phono3py.yaml", "fc2.hdf5", "fc3.hdf5"),
    "phonopy": ("phonopy.yaml", "FORCE_CONSTANTS"),
    "shengbte": ("CONTROL", "FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD"),
    "hiphive": ("force_constants.fcs",),
}


def has_constants(structure: Any, model: Any = None) -> bool:
    """Whether a source gives force constants: a yaml of phono3py (one that has none is a structure to a model), a file of
    ours, ShengBTE's CONTROL, hiPhive's file, or a folder with one of them.
    """
    if not isinstance(structure, (str, Path)):
        return False
    path = Path(structure)
    if is_yaml(path):
        return yaml_has_constants(structure, model)
    if not path.exists():
        return path.suffix == FCS or path.name == CONTROL
    if model is None and path.name in BARE:
        return True  # and reading it says what is missing
    return _kind(path) is not None


def _kind(path: Path) -> str | None:
    """The format of what a path holds."""
    if path.is_dir():
        if (path / CONTROL).is_file():
            return "shengbte"
        if (path / OWN).is_file():
            return "wigner-jax"
        return "phono3py" if _yaml_in(path) is not None else None
    if is_yaml(path):
        return "phono3py"
    if path.name == CONTROL:
        return "shengbte"
    if path.suffix == FCS:
        return "hiphive"
    return "wigner-jax" if path.suffix in HDF5 and is_own(path) else None


def _yaml_in(folder: Path) -> Path | None:
    return next((folder / name for name in YAMLS if (folder / name).is_file()), None)


def read_force_constants(
    path: str | Path, *, born: str | Path | None = None, symprec: float | None = None
) -> GivenConstants:
    """Force constants of both orders from a file or a folder, with their cells.

    | path | read |
    |---|---|
    | a file that `write_force_constants` or ``wigner-jax kappa -o`` kept | cells, Φ2, Φ3, charges |
    | phono3py.yaml, phono3py_params.yaml, phono3py_disp.yaml, or their folder | `read_phono3py` |
    | ShengBTE's CONTROL, or its folder | FORCE_CONSTANTS_2ND or espresso.ifc2, FORCE_CONSTANTS_3RD |
    | NAME.fcs | hiPhive's `ForceConstants`, both orders |

    Args:
        path: see above.
        born: a BORN file instead of the charges of the source.
        symprec: Å, of the space group; by default the source's own tolerance, or 1e-5.

    Returns:
        GivenConstants: supercells, force constants, charges, mesh, and where they come from.

    Raises:
        InputError: none of these, or what is missing, unreadable or inconsistent in it.
    """
    path = Path(path)
    if symprec is not None and not 0 < symprec < np.inf:
        raise InputError(f"symprec is {symprec:g} Å", "it must be above 0")
    kind = _kind(path) if path.exists() else None
    if kind == "phono3py" or (kind is None and is_yaml(path)):
        yaml = _yaml_in(path) if path.is_dir() else path
        assert yaml is not None
        data = read_phono3py(yaml, born=born, symprec=symprec)
        return GivenConstants(data.supercells, data.force_constants, data.born, None, f"force constants of {yaml}")
    tolerance = {} if symprec is None else {"symprec": symprec}
    if kind == "shengbte":
        given = read_shengbte(path if path.is_dir() else path.parent, **tolerance)
    elif kind == "hiphive":
        from .hiphive import read_hiphive

        given = read_hiphive(path, **tolerance)
    elif kind == "wigner-jax":
        if symprec is not None:
            raise InputError(
                f"{path} holds a crystal that is snapped onto its space group already", "leave symprec out"
            )
        given = read_own(path / OWN if path.is_dir() else path)
    else:
        if path.is_file() and path.suffix in HDF5 and path.name not in BARE and not h5py.is_hdf5(path):
            read_own(path)  # which says how it is damaged
        raise InputError(*_reason(path))
    if kind != "wigner-jax":
        say_implausible(given.supercells, given.force_constants)
    if born is not None:
        from ..born import read_born

        given = given._replace(born=read_born(born, given.supercells.crystal))
    return given if kind == "wigner-jax" and given.origin else given._replace(origin=f"force constants of {path}")


def _reason(path: Path) -> tuple[str, str]:
    """What is found, and what to do."""
    if not path.exists():
        return f"no such file: {path}", "check the name"
    names = "phono3py.yaml, CONTROL, a .fcs of hiPhive, or an HDF5 file that `wigner-jax kappa` or `fc` wrote"
    if path.name in BARE:
        return f"{path} says nothing of its cells", "give the file that does, phono3py.yaml or CONTROL"
    if path.is_dir() and (path / "phonopy.yaml").is_file():
        return (
            f"{path} has phonopy's force constants, of second order alone",
            "give those of third order too, as phono3py.yaml",
        )
    return f"{path} has no force constants in a format that is known", f"give {names}, or a folder with one of them"


def write_force_constants(
    folder: str | Path, given: GivenConstants, format: str = "wigner-jax", *, full: bool = False
) -> list[Path]:
    """Files of force constants in a folder, which is made if it is not there.

    | format | files |
    |---|---|
    | "wigner-jax" | force_constants.hdf5: everything |
    | "phono3py" | phono3py.yaml, fc2.hdf5, fc3.hdf5: in phono3py's order of atoms, of a primitive unit cell |
    | "phonopy" | phonopy.yaml, FORCE_CONSTANTS: Φ2 alone |
    | "shengbte" | CONTROL, FORCE_CONSTANTS_2ND, FORCE_CONSTANTS_3RD |
    | "hiphive" | force_constants.fcs |

    Args:
        folder: where they go.
        given: see `read_force_constants`; ``GivenConstants(problem.supercells, problem.force_constants)`` of a `prepare`.
        format: see above.
        full: rows of all atoms of the supercell instead of the primitive ones, for phono3py and phonopy.

    Returns:
        the files.

    Raises:
        InputError: an unknown format, something else in a file's place, or cells that the format cannot hold.
    """
    if format not in FILES:
        raise InputError(f"unknown format {format!r}", f"choose from {', '.join(FILES)}")
    if full and format not in ("phono3py", "phonopy"):
        raise InputError(f"full is for phono3py and phonopy, not {format}", "leave it out")
    if format != "wigner-jax" and given.supercells.crystal.occupied is not None:
        say(f"files of {format} do not say that the crystal is a layer or a wire: say so again where they are read")
    folder = check_places(folder, format)
    made = not folder.is_dir()
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, Callable[[], list[Path]]] = {
        "wigner-jax": lambda: _write_own(folder, given),
        "phono3py": lambda: write_phono3py(folder, given, full),
        "phonopy": lambda: write_phonopy(folder, given, full),
        "shengbte": lambda: write_shengbte(folder, given),
        "hiphive": lambda: _write_hiphive(folder, given),
    }
    try:
        return writers[format]()
    except BaseException:
        if made:
            with contextlib.suppress(OSError):  # it holds something by now
                folder.rmdir()
        raise


def _write_own(folder: Path, given: GivenConstants) -> list[Path]:
    write_own(folder / OWN, given)
    return [folder / OWN]


def _write_hiphive(folder: Path, given: GivenConstants) -> list[Path]:
    from .hiphive import write_hiphive

    return write_hiphive(folder, given)


def check_places(folder: str | Path, format: str) -> Path:
    """Raises InputError unless the files of a format can be written: nothing that is there is replaced, but ours."""
    folder = check_folder(folder, 0.0, ADVICE)
    for name in FILES[format] if folder.is_dir() else ():
        check_output(folder / name, what="a file of force constants", ours=is_own, advice=ADVICE)
    return folder


__all__ = ["FILES", "check_places", "has_constants", "read_force_constants", "write_force_constants"]
