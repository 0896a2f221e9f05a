"""The cells, units and moments of phonopy's and phono3py's yaml files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._core.reading import OPENERS, read_bytes, reading
from .._core.reading import read_yaml as load_yaml
from ..crystal.elements import ELEMENTS, NATURAL_MASS, SYMBOLS, masses_of
from ..crystal.validity import require_cell, right_handed
from ..errors import InputError
from .calculator_units import Units, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    import ase

YAML_ENDINGS = tuple(ending + packed for ending in (".yaml", ".yml") for packed in ("", *OPENERS))
CELLS = ("unit_cell", "primitive_cell", "supercell", "phonon_supercell", "phonon_primitive_cell")
SAME_MASS = 1e-4  # relative difference of masses that two cells of a file name
FILES_OF_CONSTANTS = ("fc2.hdf5", "fc3.hdf5", "FORCES_FC3")  # beside a yaml, any of these belongs to it


class YamlCell(NamedTuple):
    """One cell of a yaml, right-handed, in Å and amu."""

    lattice: np.ndarray  #: (3, 3), rows
    positions: np.ndarray  #: (N, 3) fractional
    numbers: np.ndarray  #: (N,)
    masses: np.ndarray  #: (N,)
    moments: np.ndarray | None  #: (N,) or (N, 3); None without any


def is_yaml(path: str | Path) -> bool:
    """Whether a file's name is that of a (compressed) yaml."""
    return str(path).lower().endswith(YAML_ENDINGS)


def read_yaml(path: Path) -> dict[str, Any]:
    """The contents of a (compressed) phonopy or phono3py yaml; raises InputError if it is not one.

    A bare cell (`lattice` and `points` at the top, phonopy's older cell files) becomes a `unit_cell`.
    """
    with reading(path, "a complete yaml file"):
        data = load_yaml(path)
    if isinstance(data, dict) and "lattice" in data and ("points" in data or "atoms" in data):
        data.setdefault("unit_cell", {key: data[key] for key in ("lattice", "points", "atoms") if key in data})
    if not isinstance(data, dict) or not ("unit_cell" in data or "primitive_cell" in data):
        raise InputError(
            f"{path} is not a phono3py yaml (no unit_cell in it)", "give phono3py.yaml or phono3py_params.yaml"
        )
    return data


def beside(path: Path, name: str) -> Path | None:
    """A file of this name, compressed or not, in the folder of `path`."""
    return next((p for p in (path.with_name(name + s) for s in ("", *OPENERS)) if p.is_file()), None)


def has_forces(data: dict[str, Any]) -> bool:
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


def holds_force_constants(path: str | Path) -> bool:
    """Whether a yaml has forces or force constants, inside or beside it; else it is a mere structure."""
    path = Path(path)
    if any(beside(path, name) is not None for name in FILES_OF_CONSTANTS) and _has_supercell(path):
        return True
    data = read_yaml(path)
    return has_forces(data) or "force_constants" in data


def _has_supercell(path: Path) -> bool:
    """Whether force constants beside a yaml can be its own: phono3py_unitcell.yaml lies beside those of phono3py.yaml."""
    with reading(path, "a complete yaml file"):
        return (
            re.search(
                rb"^[\"']?(phonon_)?supercell[\"']?\s*:|[{,]\s*\"(phonon_)?supercell\"\s*:", read_bytes(path), re.M
            )
            is not None
        )


def has_constants(structure: Any, model: Any = None) -> bool:
    """Whether a source is a yaml that gives force constants; one that has none is a mere structure to a model."""
    if hasattr(structure, "get_positions") or not is_yaml(structure):
        return False
    return model is None or not Path(structure).is_file() or holds_force_constants(structure)


def cell_of(data: dict[str, Any], name: str, path: Path, units: Units) -> YamlCell:
    """One cell of the yaml.

    Raises:
        InputError: a cell that is incomplete, or that `require_cell` refuses.
    """
    try:
        block = data[name]
        points = _points(block)
        if not points:
            raise InputError(f"the {name} of {path} holds no atoms", "check the file")
        unknown = [p["symbol"] for p in points if p["symbol"] not in ELEMENTS]
        if unknown:
            raise InputError(
                f"the {name} of {path} has an atom {str(unknown[0])[:20]!r}, which is no element", "check the symbols"
            )
        lattice = np.array(block["lattice"], dtype=float).reshape(3, 3) * units.length
        positions = np.array([p.get("coordinates", p.get("position")) for p in points], dtype=float).reshape(-1, 3)
        numbers = np.array([ELEMENTS[p["symbol"]][0] for p in points])
        where = f"of the {name} of {path}"
        pairs = enumerate(zip(points, numbers, strict=True))
        masses = np.array([_mass(p, int(z), f"atom {k + 1} {where}") for k, (p, z) in pairs])
        moments = _moments(points, f"the {name} of {path}")
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"{path} has no {name}, or one without {error}", "it is truncated, or of another kind: write it anew"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"the {name} of {path} has a lattice or coordinates that are not three numbers each", "check the file"
        ) from error
    require_cell(lattice, positions, numbers, masses, f"the {name} of {path}")
    return YamlCell(*right_handed(lattice, positions), numbers, masses, moments)


def _points(block: dict[str, Any]) -> list[dict[str, Any]]:
    return block["points"] if "points" in block else block["atoms"]


def _mass(point: dict[str, Any], number: int, where: str) -> float:
    """amu; the standard one where the yaml names none."""
    if "mass" not in point:
        return float(masses_of([number])[0])
    given = point["mass"]
    try:
        if isinstance(given, bool):
            raise TypeError
        return float(given)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{where} has the mass {given!r}", "a mass is one number in amu") from None


def read_cells(data: dict[str, Any], path: Path, units: Units, names: Iterable[str] = CELLS) -> dict[str, YamlCell]:
    """The cells that a yaml has, of these names.

    Raises:
        InputError: what `cell_of` refuses; masses of an element in one cell that another does not have. Masses that a cell
            does not name are standard ones, from which other tables differ by 2·10⁻⁴.
    """
    cells = {name: cell_of(data, name, path, units) for name in names if name in data}
    complete = {name: all("mass" in p for p in _points(data[name])) for name in cells}
    first = next(iter(cells), "")
    for other in list(cells)[1:]:
        for z in np.unique(cells[first].numbers):
            a, b = (cells[name].masses[cells[name].numbers == z] for name in (first, other))
            apart = np.abs(a[:, None] / b - 1)
            unmatched = np.concatenate([apart.min(axis=1), apart.min(axis=0)]) if len(b) else np.zeros(1)
            if unmatched.max() > (SAME_MASS if complete[first] and complete[other] else NATURAL_MASS):
                k = int(unmatched.argmax())
                i, j = (k, int(apart[k].argmin())) if k < len(a) else (int(apart[:, k - len(a)].argmin()), k - len(a))
                raise InputError(
                    f"{path} contradicts itself: {SYMBOLS[int(z)]} has the mass {a[i]:.6g} in its {first} and {b[j]:.6g} in"
                    f" its {other}",
                    "correct the wrong one",
                )
    return cells


def _moments(points: list[dict[str, Any]], where: str) -> np.ndarray | None:
    """Moments of all atoms, (N,) or (N, 3); an atom without one has none. None if all vanish."""
    given = [p.get("magnetic_moment") for p in points]
    if all(m is None for m in given):
        return None
    vectors = any(np.size(m) == 3 for m in given if m is not None)
    zero = np.zeros(3) if vectors else 0.0
    try:
        moments = np.array([zero if m is None else m for m in given], dtype=float)
    except (TypeError, ValueError):
        moments = np.empty(0)
    if moments.shape != (len(points), 3)[: 1 + vectors] or not np.isfinite(moments).all():
        raise InputError(
            f"{where} has magnetic moments that are not one finite number, or three, for every atom", "check them"
        )
    return moments if moments.any() else None


def structure_of_yaml(path: str | Path) -> ase.Atoms:
    """The unit cell of a yaml (else its primitive cell) as an ASE structure, with the supercells that it names in `info`."""
    from ase import Atoms

    path = Path(path)
    data = read_yaml(path)
    name = "unit_cell" if "unit_cell" in data else "primitive_cell"
    cell = read_cells(data, path, units_of(data, path), CELLS[:2])[name]
    atoms = Atoms(cell.numbers, scaled_positions=cell.positions, cell=cell.lattice, pbc=True, masses=cell.masses)
    if cell.moments is not None:
        atoms.set_initial_magnetic_moments(cell.moments)
    if name == "unit_cell" and "supercell_matrix" in data:
        atoms.info["fc3_supercell"] = data["supercell_matrix"]
        atoms.info["fc2_supercell"] = data.get("phonon_supercell_matrix", data["supercell_matrix"])
    return atoms


__all__ = [
    "YAML_ENDINGS",
    "YamlCell",
    "beside",
    "cell_of",
    "has_constants",
    "has_forces",
    "holds_force_constants",
    "is_yaml",
    "read_cells",
    "read_yaml",
    "structure_of_yaml",
]
