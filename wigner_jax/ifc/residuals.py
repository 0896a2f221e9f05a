"""How well force constants obey what every crystal obeys: acoustic sum rules, index permutations, its space group.

    sum rule       Σ_J Φ2[i, J] = 0,  Σ_K Φ3[i, J, K] = 0             a rigid shift costs no energy
    permutation    Φ2[i, J]_ab = Φ2[J, i]_ba, likewise Φ3             derivatives commute
    space group    Φ[g i, g J, …] = (R_g ⊗ R_g ⊗ …) Φ[i, J, …]        for generators g of the group that is used

Each residual is the largest absolute difference over the largest absolute element of Φ. Honest files have residuals:
unsymmetrised sets of finite displacements 0.001 to 0.03. A residual near 1 says that the constants belong to another
cell, are in another order of atoms, or obey a smaller group (magnetic moments) than the one that reduces the mesh.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from .._core.pytree import host_data
from ..checks import require_finite
from ..crystal.symmetry import space_group as space_group_of
from ..errors import InputError, say
from ..plan.mesh import addresses, images
from ..types import Residuals
from .symmetry_basis import operations_on, translation_table

if TYPE_CHECKING:
    from ..types import Crystal, ForceConstants, Mesh, Phonons, Supercell, Supercells


#: residuals above this are refused
REFUSED = 0.1
#: residuals above this are said
SAID = 0.005


@host_data
class _Moves:
    """Where tuples of atoms go. Under generator g the tuple (i, J, K) becomes (row[g, i], column[g, i, J], column[g, i, K])."""

    rotation: np.ndarray  #: (G, 3, 3) Cartesian
    row: np.ndarray  #: (G, n)
    column: np.ndarray  #: (G, n, N)
    homing: np.ndarray  #: (N, N): where atom K goes under the translation that brings J home
    complete: bool  #: whether the supercell keeps all operations of the crystal


@functools.lru_cache(maxsize=16)  # by identity: a few ms that every solve of one plan shares
def _moves(crystal: Crystal, supercell: Supercell) -> _Moves:
    translations, homing = translation_table(crystal, supercell)
    rotations, images = operations_on(crystal, supercell)
    chosen = _generators(rotations)
    moved = images[chosen][:, supercell.p2s_map]  # (G, n)
    home = translations[homing[moved]]  # (G, n, N)
    column = np.stack([h[:, image] for h, image in zip(home, images[chosen], strict=True)]) if chosen else home
    complete = len(rotations) == len(space_group_of(crystal).rotations)
    return _Moves(rotations[chosen], supercell.primitive_index[moved], column, translations[homing], complete)


def _generators(rotations: np.ndarray) -> list[int]:
    """Few operations whose products are all of them: each step takes the one that generates most.

    Operations of one rotation differ by translations inside the cell (of a cell that is not primitive, or that moments
    enlarge); those of the identity are taken besides.
    """
    keys = [_key(rotation) for rotation in rotations]
    names: dict[bytes, int] = {}
    for g, key in enumerate(keys):
        names.setdefault(key, g)
    distinct, identity = list(names.values()), _key(np.eye(3))
    place = {g: k for k, g in enumerate(distinct)}
    product = np.array([[place[names[_key(a @ b)]] for b in rotations[distinct]] for a in rotations[distinct]])

    def closure(members: frozenset[int], new: int) -> frozenset[int]:
        found, fresh = set(members) | {new}, {new}
        while fresh:
            fresh = {int(x) for a in fresh for b in found for x in (product[a, b], product[b, a])} - found
            found |= fresh
        return frozenset(found)

    chosen: list[int] = []
    group = closure(frozenset(), place[names[identity]])
    while len(group) < len(distinct):
        largest = {k: closure(group, k) for k in range(len(distinct)) if k not in group}
        chosen.append(max(largest, key=lambda k: len(largest[k])))
        group = largest[chosen[-1]]
    translations = [g for g, key in enumerate(keys) if key == identity and g != names[identity]]
    return [distinct[k] for k in chosen] + translations


def _key(rotation: np.ndarray) -> bytes:
    return (np.rint(rotation * 1e4) + 0.0).tobytes()


def residuals(supercells: Supercells, fc: ForceConstants, *, space_group: bool = True) -> Residuals:
    """Sum-rule and symmetry residuals of force constants; arguments as for `check_force_constants`."""
    sums, symmetry = [], []
    for supercell, array in ((supercells.fc2_supercell, fc.fc2), (supercells.fc3_supercell, fc.fc3)):
        constants = np.asarray(array)
        largest = float(np.abs(constants).max()) or 1.0
        sums.append(float(np.abs(constants.sum(axis=constants.ndim // 2 - 1)).max()) / largest)
        symmetry.append(_asymmetry(_moves(supercells.crystal, supercell), supercell, constants, space_group) / largest)
    return Residuals((sums[0], sums[1]), (symmetry[0], symmetry[1]))


def _asymmetry(moves: _Moves, supercell: Supercell, constants: np.ndarray, space_group: bool) -> float:
    """The largest difference between constants and their images, in their own unit."""
    home, kind = supercell.p2s_map, supercell.primitive_index
    i, J = np.arange(len(home))[:, None], np.arange(supercell.n_atoms)[None]
    first = moves.homing[J, home[i]]  # (n, N): where i goes when J comes home
    if constants.ndim == 4:
        worst = [np.abs(constants - np.swapaxes(constants[kind[J], first], -1, -2)).max()]
    else:
        rest = moves.homing[None]  # (1, N, N)
        swapped = constants[kind[J][..., None], first[..., None], rest]
        worst = [
            np.abs(constants - np.moveaxis(constants, (1, 4), (2, 5))).max(),
            np.abs(constants - np.swapaxes(swapped, 3, 4)).max(),
        ]
    for R, row, column in zip(moves.rotation, moves.row, moves.column, strict=True) if space_group else ():
        if constants.ndim == 4:
            image, matrix = constants[row[:, None], column], np.kron(R, R)
        else:
            image = constants[row[:, None, None], column[:, :, None], column[:, None, :]]
            matrix = np.kron(np.kron(R, R), R)
        flat = constants.reshape(-1, len(matrix)) @ matrix.T
        worst.append(np.abs(flat - image.reshape(flat.shape)).max())
    return float(max(worst))


@functools.lru_cache(maxsize=16)
def _star_images(crystal: Crystal, mesh: Mesh) -> np.ndarray:
    """Index of S q for a few S that generate the mesh's group. (S, Q)"""
    lattice, rotations = np.asarray(crystal.lattice), np.asarray(mesh.rotations)
    chosen = rotations[_generators(rotations)]
    if not len(chosen):
        return np.empty((0, len(mesh.qpoints)), int)
    operations = np.rint(lattice @ chosen @ np.linalg.inv(lattice)).astype(int)
    return images(addresses(mesh.dims), operations, mesh.dims)


def star_residual(crystal: Crystal, mesh: Mesh, phonons: Phonons, supercell: Supercell | None = None) -> float:
    """The largest difference of f² between the points of a star, over the largest f².

    The mesh is reduced by symmetry, so that every point stands for its star. The residual also covers operations that
    the supercell of Φ2 does not have, of which `residuals` says nothing: exact force constants of such a supercell break
    them, the less the larger it is.

    Args:
        supercell: of Φ2, where it is known.

    Raises:
        InputError: it is above 0.1, and not for the shape of the supercell.
    """
    squares = np.asarray(phonons.frequencies) ** 2
    differences = [float(np.abs(squares[image] - squares).max()) for image in _star_images(crystal, mesh)]
    found = max(differences, default=0.0) / (float(squares.max()) or 1.0)
    share = f"equivalent q-points differ by {100 * found:.2g} % in f²"
    if supercell is None or _moves(crystal, supercell).complete:
        _judge(found, share, "check the symmetry of Φ2 and its supercell")
    else:
        _judge(found, f"{share}, since the supercell of Φ2 has less symmetry than the crystal", "", refused=np.inf)
    return found


def _judge(value: float, share: str, remedy: str, refused: float = REFUSED) -> None:
    if not value <= refused:
        raise InputError(
            f"{share}: the force constants are damaged, belong to another supercell, or obey less symmetry", remedy
        )
    if value > SAID:
        say(f"{share}; κ may be off by as much or more")


def require_some(fc: ForceConstants) -> None:
    """Raises InputError if Φ2 or Φ3 holds nothing but zeros."""
    for array, name in ((fc.fc2, "Φ2"), (fc.fc3, "Φ3")):
        if not np.any(np.asarray(array)):
            raise InputError(f"{name} is zero everywhere", "check the file or the model that it comes from")


def check_force_constants(supercells: Supercells, fc: ForceConstants, *, space_group: bool = True) -> Residuals:
    """Refuse force constants that cannot belong to the cells; warn where they are far from exact.

    Refused: other shapes than the cells', non-finite numbers, and residuals of the sum rules or the symmetry above 0.1.
    Residuals above 0.005 are an AccuracyWarning with the number.

    Args:
        space_group: whether symmetry is used, so that it must be obeyed (`make_plan(symmetry=False)` uses none).

    Returns:
        the residuals.

    Raises:
        InputError: see above.
    """
    n = supercells.crystal.n_atoms
    for array, supercell, name in ((fc.fc2, supercells.fc2_supercell, "Φ2"), (fc.fc3, supercells.fc3_supercell, "Φ3")):
        N = supercell.n_atoms
        shape = (n, N, 3, 3) if name == "Φ2" else (n, N, N, 3, 3, 3)
        if np.shape(array) != shape:
            raise InputError(
                f"{name} has shape {np.shape(array)} where the cells need {shape}", "check which supercell it is for"
            )
        require_finite(array, name)
    found = residuals(supercells, fc, space_group=space_group)
    rules = (
        (found.sum_rules, "the acoustic sum rule", "make them anew, symmetrised"),
        (
            found.symmetry,
            "the symmetry of its indices or of the crystal",
            "check that they belong to this crystal and supercell, with its magnetic moments if it has any, and"
            " symmetrise them",
        ),
    )
    for values, rule, remedy in rules:
        for value, name in zip(values, ("Φ2", "Φ3"), strict=True):
            _judge(value, f"{name} breaks {rule} by {100 * value:.2g} % of its largest element", remedy)
    return found


__all__ = ["check_force_constants", "require_some", "residuals", "star_residual"]
