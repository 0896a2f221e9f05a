"""What every structure must be before anything is computed of it, whatever it was read from; and its right-handed form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.as_numbers import real_numbers
from ..errors import InputError
from .elements import SYMBOLS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ase

CLOSEST = 0.1  # Å between two atoms
LEAST_VOLUME = 0.1  # Å³ per atom; solid hydrogen under pressure has 2
FLAT = 1e-6  # volume over the product of the lengths of the lattice vectors
LONGEST = 1e6  # Å: a tenth of a millimetre is no cell
FARTHEST = 1e6  # cells from the origin, where positions have ten digits left
OCCUPANCY = 1e-3  # a site this full is full


def require_cell(
    lattice: np.ndarray,
    positions: np.ndarray,
    numbers: Sequence[int] | np.ndarray,
    masses: Sequence[float] | np.ndarray | None = None,
    where: str = "the structure",
) -> None:
    """Raises InputError unless a cell can be a crystal.

    Everything is finite, atomic numbers are 1 to 118, masses above 0, the lattice vectors span a volume, and no two atoms
    (nor an atom and its own image) are closer than 0.1 Å.

    Args:
        lattice: (3, 3) Å, rows.
        positions: (n, 3) fractional.
        masses: (n,) amu; None where they are standard ones.
        where: what the cell is called in an error.
    """
    from ase.neighborlist import primitive_neighbor_list

    lattice, positions = (
        real_numbers(lattice, f"the cell of {where}"),
        real_numbers(positions, f"the positions of {where}"),
    )
    numbers = np.asarray(numbers)
    if len(numbers) == 0:
        raise InputError(f"{where} holds no atoms", "check the file")
    if not np.isfinite(lattice).all():
        raise InputError(f"{where} has a lattice vector that is not finite", "check its cell")
    volume, lengths = abs(float(np.linalg.det(lattice))), np.linalg.norm(lattice, axis=1)
    if not volume > FLAT * np.prod(lengths):
        raise InputError(f"{where} has lattice vectors that span no volume ({volume:.2g} Å³)", "check its cell")
    if not lengths.max() < LONGEST:
        raise InputError(
            f"{where} has a lattice vector of {lengths.max():.3g} Å", "check its unit of length: it must be Å"
        )
    _require_atoms(positions, numbers, masses, where)
    if not volume > LEAST_VOLUME * len(numbers):
        raise InputError(
            f"{where} has {len(numbers)} atoms in {volume:.3g} Å³", "check its unit of length: it must be Å"
        )
    # first those at one place: ASE lists all pairs of them, which are a million where a thousand are
    places = np.unique(np.round(positions - np.floor(positions), 6) % 1.0, axis=0, return_inverse=True)[1].ravel()
    if places.max() + 1 < len(places):
        i, j = np.flatnonzero(places == np.bincount(places).argmax())[:2]
        raise InputError(f"atoms {i + 1} and {j + 1} of {where} are at the same place", "check the positions")
    bins = 100 + 10 * len(numbers)  # ASE's million takes a second for a cell that is huge along one direction
    cells = primitive_neighbor_list("ijd", (True,) * 3, lattice, positions @ lattice, CLOSEST, max_nbins=bins)
    if len(cells[2]):
        nearest = int(cells[2].argmin())
        i, j, distance = (x[nearest] for x in cells)
        raise InputError(f"atoms {i + 1} and {j + 1} of {where} are {distance:.3f} Å apart", "check the positions")


def _require_atoms(positions: np.ndarray, numbers: np.ndarray, masses: Any, where: str) -> None:
    def refuse(bad: np.ndarray, what: str, values: Any, remedy: str) -> None:
        if bad.any():
            k = int(np.flatnonzero(bad)[0])
            value = " ".join(f"{x:g}" for x in np.ravel(values[k]))
            raise InputError(f"atom {k + 1} of {where} has {what} {value}", remedy)

    refuse(~np.isfinite(positions).all(axis=1), "the position", positions, "positions must be finite numbers")
    refuse(
        np.abs(positions).max(axis=1) > FARTHEST, "the position", positions, "no atom is so many cells away: check it"
    )
    known = np.isin(numbers, list(SYMBOLS))
    refuse(~known, "the atomic number", numbers, "it must be 1 to 118")
    if masses is not None:
        masses = real_numbers(masses, f"the masses of {where}")
        refuse(~(np.isfinite(masses) & (masses > 0)), "the mass", masses, "masses must be above 0 amu, and finite")


def right_handed(lattice: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same crystal with det(lattice) > 0: lattice vectors and fractional positions of a left-handed one are negated.

    Cartesian positions stay what they are, and so do supercell and primitive matrices and meshes, whose lattices are
    spanned by the negated vectors as well.
    """
    lattice, positions = np.asarray(lattice, float), np.asarray(positions, float)
    return (-lattice, -positions) if np.linalg.det(lattice) < 0 else (lattice, positions)


def require_structure(atoms: ase.Atoms, where: str = "the structure") -> ase.Atoms:
    """An ASE structure that `require_cell` accepts, with a right-handed cell (a copy, if it was not).

    Raises:
        InputError: what `require_cell` refuses; not periodic in three directions; sites that are partly occupied.
    """
    if len(atoms) and (not np.all(atoms.pbc) or not np.any(atoms.cell.array)):
        raise InputError(
            f"{where} is not periodic in three directions", "give a file with a cell, or set atoms.pbc and a cell"
        )
    lattice, masses = np.asarray(atoms.cell.array), atoms.get_masses() if atoms.has("masses") else None
    finite = np.isfinite(lattice).all() and np.linalg.det(lattice) != 0
    positions = np.linalg.solve(lattice.T, atoms.positions.T).T if finite else np.asarray(atoms.positions)
    require_cell(lattice, positions, atoms.numbers, masses, where)
    _require_full_sites(atoms, where)
    if np.linalg.det(lattice) > 0:
        return atoms
    turned = atoms.copy()
    turned.calc = atoms.calc
    turned.set_cell(-lattice, scale_atoms=False)
    return turned


def _require_full_sites(atoms: ase.Atoms, where: str) -> None:
    """ASE keeps the main element of a mixed site, and says the rest in `info` (cif) or in a column only."""
    remedy = "give an ordered structure of full sites: there is no virtual crystal"
    sites = atoms.info.get("occupancy")
    if isinstance(sites, str):
        try:
            sites = json.loads(sites)
        except ValueError:
            raise InputError(f"{where} has the occupancy {sites[:60]!r}, which cannot be read", remedy) from None
    if isinstance(sites, dict):
        for site, species in sites.items():
            shares = species if isinstance(species, dict) else {str(site): species}
            values = [1.0 if x == "?" else _share(x) for x in shares.values()]  # of cif: not given, which means full
            if not (abs(sum(values) - 1) < OCCUPANCY and abs(max(values) - 1) < OCCUPANCY):
                words = ", ".join(f"{name} {value:g}" for name, value in zip(shares, values, strict=True))
                raise InputError(f"site {site} of {where} is partly occupied ({words})", remedy)
    for name in ("occupancy", "occupancies", "occupation", "occ"):
        column = atoms.arrays.get(
            name, sites if name == "occupancy" and isinstance(sites, (list, np.ndarray)) else None
        )
        if column is None or len(np.ravel(column)) != len(atoms):
            continue
        full = np.array([_share(x) for x in np.ravel(column)])
        for k in np.flatnonzero(~(np.abs(full - 1) < OCCUPANCY)):
            raise InputError(f"site {k + 1} of {where} is partly occupied ({atoms.symbols[k]} {full[k]:g})", remedy)


def _share(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


__all__ = ["require_cell", "require_structure", "right_handed"]
