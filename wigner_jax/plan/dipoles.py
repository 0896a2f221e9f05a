"""What the non-analytic term correction needs beforehand: reciprocal vectors, commensurate points, charges."""

from __future__ import annotations

from math import pi

import numpy as np

from .._core.as_numbers import real_numbers
from .._core.pytree import Array, pytree
from ..crystal.elements import SYMBOLS
from ..crystal.symmetry import SYMPREC, space_group
from ..errors import InputError, say
from ..types import BornCharges, Crystal, Supercell
from .mesh import first_zone

G_POINTS = 300  # phonopy's default: reciprocal vectors in the sphere of the Gonze-Lee sum
ASYMMETRY = 0.1  # of a dielectric tensor, relative to its largest element; what is less is averaged away
LEAST_CHARGE = 0.5  # e; what is small beside this is noise, as in silicon
SAID_DIELECTRIC = 0.02  # of its largest element: above, a change by the symmetry is said
SAID_CHANGE, REFUSED_CHANGE = 0.08, 0.5  # of charges by their projection, relative to the largest
NO_CHARGE = 1e-6  # e
LARGEST_CHARGE = 20.0  # e; ferroelectrics have 10


@pytree("count")
class DipolePlan:
    """Where the dipole-dipole sum of Gonze and Lee is evaluated."""

    reciprocal: Array  #: (G, 3) int, reciprocal vectors of the sum, closed under negation
    commensurate: Array  #: (C, 3) fractional, the q-points that the supercell holds, in the first Brillouin zone
    weights: Array  #: (C,) share of each; equivalent points on the zone boundary share 1/N in equal parts
    count: int  #: fixes the cut-off, see reciprocal_vectors


def dipole_plan(crystal: Crystal, supercell: Supercell, count: int = G_POINTS) -> DipolePlan:
    """The plan of physics/nac.GonzeLee for force constants made in `supercell`."""
    reciprocal = reciprocal_vectors(crystal, count)
    points, weights = [], []
    for q in commensurate_points(crystal, supercell):
        # The truncated sum is not quite periodic (1e-10): taking one of several equivalent points, as phonopy does,
        # would break the crystal's symmetry at that level.
        images = q + reciprocal
        length = np.linalg.norm(images @ np.linalg.inv(crystal.lattice).T, axis=1)
        images = images[length < length.min() + 1e-5]
        points.append(images)
        weights.append(np.full(len(images), 1 / len(images)))
    return DipolePlan(reciprocal, np.concatenate(points), np.concatenate(weights) / len(points), count)


def reciprocal_vectors(crystal: Crystal, count: int = G_POINTS) -> np.ndarray:
    """All reciprocal vectors shorter than the cut-off G_c = (3 count / 4πV)^(1/3): about `count` of them. (G, 3) int

    The inequality is strict, as in phonopy: a shell that lies on the sphere stays out.
    """
    lattice = np.asarray(crystal.lattice)
    cutoff = (3 * count / (4 * pi) / abs(np.linalg.det(lattice))) ** (1 / 3)
    # |G_μ| = |G · a_μ| ≤ |G| |a_μ|
    reach = np.floor(cutoff * np.linalg.norm(lattice, axis=1)).astype(int)
    grid = np.stack(np.meshgrid(*[np.arange(-r, r + 1) for r in reach], indexing="ij"), -1).reshape(-1, 3)
    length2 = np.sum((grid @ np.linalg.inv(lattice).T) ** 2, axis=1)
    return grid[length2 < cutoff**2]


def commensurate_points(crystal: Crystal, supercell: Supercell) -> np.ndarray:
    """The q at which a supercell's force constants are exact: matrix @ q integer. (N, 3) fractional, first zone."""
    matrix = np.asarray(supercell.matrix)
    corners = np.array(list(np.ndindex(2, 2, 2))) @ matrix.T
    axes = [np.arange(a, b + 1) for a, b in zip(corners.min(0), corners.max(0), strict=True)]
    integers = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    qpoints = integers @ np.linalg.inv(matrix).T
    qpoints = qpoints[np.all((qpoints > -1e-9) & (qpoints < 1 - 1e-9), axis=1)]
    if len(qpoints) != round(abs(np.linalg.det(matrix))):
        raise AssertionError("enumeration of commensurate points failed")
    return first_zone(qpoints, np.asarray(crystal.lattice))


def require_charges(born: BornCharges, where: str = "the Born charges") -> None:
    """Raises InputError unless everything is finite, the unit factor above 0, and ε symmetric with eigenvalues of 1 or more."""
    charges, ε, factor = _numbers(born, where)
    if not (np.isfinite(charges).all() and np.isfinite(ε).all()):
        raise InputError(f"{where}: a Born charge or the dielectric tensor is not finite", "check its numbers")
    if factor.shape != () or not (np.isfinite(factor) and factor > 0):
        raise InputError(f"{where}: the unit factor is {factor}", "it must be above 0: 14.399652 eV Å, e²/4πε0")
    largest = float(np.abs(ε).max(initial=0))
    if ε.shape == (3, 3) and not np.abs(ε - ε.T).max() <= ASYMMETRY * largest:
        raise InputError(
            f"{where}: the dielectric tensor is not symmetric ({np.abs(ε - ε.T).max():.3g} of {largest:.3g})",
            "check its numbers",
        )
    if ε.shape == (3, 3) and not (lowest := float(np.linalg.eigvalsh((ε + ε.T) / 2)[0])) >= 1 - 1e-6:
        raise InputError(
            f"{where}: the dielectric tensor has the eigenvalue {lowest:.3g}",
            "it must be positive definite (above 1, that of the vacuum)",
        )


def _numbers(born: BornCharges, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Charges, dielectric tensor and unit factor; raises InputError."""
    return (
        real_numbers(born.charges, f"{where}, charges"),
        real_numbers(born.dielectric, f"{where}, dielectric tensor"),
        real_numbers(born.factor, f"{where}, unit factor"),
    )


def symmetrized_charges(born: BornCharges, crystal: Crystal, symprec: float = SYMPREC) -> BornCharges:
    """Born charges and dielectric tensor averaged over the space group, and charges that sum to zero over the cell.

    Operation {R|w} that carries atom i onto j carries Z_i onto R Z_i R^T; ε onto R ε R^T. The acoustic sum rule is
    imposed by subtracting the mean charge from every atom, as phonopy does. A linear projection: applying it twice
    changes nothing.

    Warns:
        AccuracyWarning: a charge beyond ±20 e; the projection changes charges by more than 10 % of the largest, or nothing
            is left of them.

    Raises:
        InputError: shapes that do not fit, what `require_charges` refuses, or charges that the projection changes by more
            than half of the largest: signs or the order of atoms are wrong.
    """
    group = space_group(crystal, symprec)
    A = np.asarray(crystal.lattice).T
    R = A @ group.rotations @ np.linalg.inv(A)
    charges, dielectric, _ = _numbers(born, "the Born charges")
    if charges.shape != (crystal.n_atoms, 3, 3) or dielectric.shape != (3, 3):
        raise InputError(
            f"Born charges {charges.shape} and dielectric tensor {dielectric.shape} do not fit {crystal.n_atoms} "
            "primitive atoms",
            "give one 3x3 tensor for every atom of the primitive cell",
        )
    require_charges(born)
    _say_large(charges, crystal)
    total = np.zeros_like(charges)
    for rotation, permutation in zip(R, group.permutations, strict=True):
        total[permutation] += rotation @ charges @ rotation.T
    total /= len(R)
    _say_changes(charges, total)
    averaged = np.mean(R @ dielectric @ np.swapaxes(R, 1, 2), axis=0)
    change, largest = float(np.abs(dielectric - averaged).max()), float(np.abs(dielectric).max())
    if not change <= SAID_DIELECTRIC * largest:
        broken = f"the dielectric tensor breaks the symmetry of the crystal by {100 * change / largest:.0f} % of its largest element"
        say(f"{broken}; it is averaged over the space group")
    return BornCharges(total - total.mean(axis=0), averaged, born.factor)


def _say_large(charges: np.ndarray, crystal: Crystal) -> None:
    """Warns of charges that hardly any crystal has: a wrong column, or a unit that is not e."""
    atom, *place = np.unravel_index(np.abs(charges).argmax(), charges.shape)
    value = float(charges[(atom, *place)])
    if abs(value) > LARGEST_CHARGE:
        name = SYMBOLS[int(crystal.numbers[atom])]
        message = f"the Born charge of atom {atom + 1} ({name}) is {value:.4g} e, beyond ±{LARGEST_CHARGE:g} e"
        say(f"{message}: check its number and unit")


def _say_changes(charges: np.ndarray, averaged: np.ndarray) -> None:
    """What the projection does to charges, in shares of the largest (of one that matters): warned of, or refused."""
    largest = max(float(np.abs(charges).max()), LEAST_CHARGE)
    changes = (
        (float(np.abs(charges - averaged).max()), "break the symmetry of the crystal by {:.0f} % of the largest"),
        (float(np.abs(charges.sum(axis=0)).max()), "do not sum to zero: their sum is {:.0f} % of the largest"),
    )
    for change, words in changes:
        found = "the Born charges " + words.format(100 * change / largest)
        if not change <= REFUSED_CHANGE * largest:
            raise InputError(found, "check their signs and the order of the atoms, or leave the correction out")
        if change > SAID_CHANGE * largest:
            say(f"{found}; they are projected onto charges that do")
    if not np.abs(averaged - averaged.mean(axis=0)).max() > NO_CHARGE:
        message = "the Born charges vanish" + (" by symmetry" if np.any(charges) else "")
        say(f"{message}: the non-analytic correction is zero")
