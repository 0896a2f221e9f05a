"""ShengBTE's files: CONTROL, FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD, and espresso.ifc2 of Quantum ESPRESSO.

Φ2 is that of a supercell of n1×n2×n3 primitive cells (``scell``), all rows, its atoms in phonopy's order: first atom slowest,
then n3, n2, n1. Φ3 is a list of triplets with the lattice vectors of their second and third atom in Å, no supercell
(ifc/images.py). Both in eV and Å; espresso.ifc2 in Ry and Bohr. ``born(a,b,k)``: field a, displacement b, as here.
Format: ShengBTE's documentation (Li, Carrete, Katcho, Mingo, Comput. Phys. Commun. 185, 1747 (2014)).
"""

from __future__ import annotations

import io
import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.atomic_write import write_text
from ..._core.reading import read_text, reading
from ...checks import require_finite
from ...crystal.defaults import default_mesh
from ...crystal.elements import ELEMENTS, SYMBOLS, has_natural_mass, masses_of, natural_isotopes
from ...crystal.symmetry import SYMPREC, space_group, symmetrized
from ...crystal.validity import require_cell
from ...errors import InputError, say
from ...ifc.images import Images, diagonal_supercell, enough, unfolded
from ...ifc.residuals import check_force_constants, require_some
from ...types import BornCharges, Crystal, ForceConstants, Supercell, Supercells
from ..born import NAC_FACTOR
from ..calculator_units import conversion
from .given import GivenConstants
from .namelists import MOST, Namelists, read_namelists

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CONTROL, SECOND, THIRD, ESPRESSO = "CONTROL", "FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD", "espresso.ifc2"
NANOMETRE = 10.0  # Å
ON_LATTICE = 0.02  # of a lattice vector: how far a lattice vector of the list may be from one of the crystal
ADVICE = "name another folder"
_TRIPLET = (
    10 + 27 * 4
)  # numbers of a block: its index, two vectors, three atoms, and 27 lines of three indices and a value


def read_shengbte(folder: str | Path, symprec: float = SYMPREC) -> GivenConstants:
    """CONTROL and the force constants beside it. Φ3 is folded into the smallest supercell that holds its triplets.

    Args:
        folder: with CONTROL, FORCE_CONSTANTS_3RD, and FORCE_CONSTANTS_2ND or (where there is none) espresso.ifc2.
        symprec: Å, of the space group onto which the crystal is snapped.

    Raises:
        InputError: one line on what is missing, unreadable or inconsistent; charges in espresso.ifc2, whose long-range part
            is left out of the force constants then.
    """
    folder = Path(folder)
    with reading(folder / CONTROL, "a CONTROL file of ShengBTE"):
        control = read_namelists(folder / CONTROL)
        if "crystal" not in control.names:
            raise InputError("it has no namelist &crystal")
        crystal, scell, mesh = _crystal(control), control.integers("scell"), control.integers("ngrid")
        born, isotopes = _born(control), _other_isotopes(control, crystal)
    if (folder / SECOND).is_file():
        with reading(folder / SECOND, "force constants of second order as ShengBTE has them"):
            second = diagonal_supercell(crystal, scell)
            fc2 = _read_second(read_text(folder / SECOND), second)
            require_finite(fc2, "Φ2")
    elif (folder / ESPRESSO).is_file():
        with reading(folder / ESPRESSO, "force constants of q2r.x"):
            second, fc2 = _read_espresso(folder / ESPRESSO, crystal)
    else:
        raise InputError(f"{folder} has neither {SECOND} nor {ESPRESSO}", f"put one of them beside {CONTROL}")
    with reading(folder / THIRD, "force constants of third order as ShengBTE has them"):
        third, fc3 = enough(_read_third(read_text(folder / THIRD), crystal), crystal)
        cells, fc = Supercells(crystal, second, third), ForceConstants(fc2, fc3)
        require_some(fc)
        check_force_constants(cells, fc)
    snapped = symmetrized(crystal, space_group(crystal, symprec))
    cells = Supercells(snapped, second, third)
    if isotopes is not None:
        say(
            f"{folder / CONTROL} says {isotopes}, and isotopes scatter as in nature unless you say otherwise: see --isotopes and --no-isotope"
            " (in Python, Scattering)"
        )
    return GivenConstants(cells, fc, born, (mesh[0], mesh[1], mesh[2]), f"{folder / CONTROL}")


def write_shengbte(folder: Path, given: GivenConstants) -> list[Path]:
    """CONTROL, FORCE_CONSTANTS_2ND and FORCE_CONSTANTS_3RD. Supercells that are no multiples of the primitive vectors are
    replaced by the smallest that are and hold the same images.

    Raises:
        InputError: there is no such supercell.
    """
    crystal, fc = given.supercells.crystal, given.force_constants
    second, fc2 = enough(unfolded(crystal, given.supercells.fc2_supercell, np.asarray(fc.fc2)), crystal)
    third = unfolded(crystal, given.supercells.fc3_supercell, np.asarray(fc.fc3))
    write_text(folder / SECOND, "".join(_second_lines(second, fc2)), ADVICE)
    write_text(folder / THIRD, "".join(_third_lines(third, np.asarray(crystal.lattice))), ADVICE)
    write_text(folder / CONTROL, _control(given, np.diag(second.matrix).tolist()), ADVICE)
    return [folder / CONTROL, folder / SECOND, folder / THIRD]


# --- CONTROL ----------------------------------------------------------------------------------------------------------


def _crystal(control: Namelists) -> Crystal:
    kinds, n = [k.strip() for k in control.words("elements")], control.numbers("natoms", ())
    if not (n == np.rint(n) and 1 <= n <= MOST):
        raise InputError(f"natoms is {n}")
    atoms = int(n)
    lattice = control.numbers("lattvec", (3, 3)).T * float(control.numbers("lfactor", ())) * NANOMETRE
    positions = control.numbers("positions", (3, atoms)).T
    types = control.numbers("types", (atoms,))
    if not np.all((types == np.rint(types)) & (types >= 1) & (types <= len(kinds))):
        raise InputError(f"types is {types.tolist()}, and there are {len(kinds)} elements")
    unknown = [k for k in kinds if k.strip() not in ELEMENTS]
    if unknown:
        raise InputError(f"elements has {unknown[0]!r}, which is none")
    which = types.astype(int) - 1
    numbers = np.array([ELEMENTS[k.strip()][0] for k in kinds])[which]
    masses = control.numbers("masses", (len(kinds),))[which] if "masses" in control.values else masses_of(numbers)
    require_cell(lattice, positions, numbers, masses, f"the crystal of {CONTROL}")
    if np.linalg.det(lattice) < 0:
        raise InputError(
            "its lattice vectors are left-handed", "exchange two of them, and the indices of all files with them"
        )
    return Crystal(lattice, positions, masses, tuple(int(z) for z in numbers))


def _other_isotopes(control: Namelists, crystal: Crystal) -> str | None:
    """What CONTROL says of scattering by isotopes where that is not nature's, in its words."""
    if not control.flag("isotopes", True):
        return "isotopes=.false."
    if control.flag("autoisotopes", True):
        return None
    count = len(control.words("elements"))
    given = control.numbers("gfactors", (count,), 0.0)[control.numbers("types", (crystal.n_atoms,)).astype(int) - 1]
    natural = np.where(has_natural_mass(crystal), np.asarray(natural_isotopes(crystal)), 0.0)
    if np.allclose(given, natural, rtol=0.02, atol=1e-7):
        return None
    return f"gfactors={' '.join(f'{g:.3g}' for g in given)} for its atoms where nature has {' '.join(f'{g:.3g}' for g in natural)}"


def _born(control: Namelists) -> BornCharges | None:
    if "epsilon" not in control.values or "born" not in control.values:
        return None
    if not control.flag("nonanalytic", True):
        return None
    n = int(control.numbers("natoms", ()))
    charges = np.moveaxis(control.numbers("born", (3, 3, n), 0.0), -1, 0)
    return BornCharges(charges, control.numbers("epsilon", (3, 3), 0.0), np.array(NAC_FACTOR))


def _control(given: GivenConstants, scell: Sequence[int]) -> str:
    crystal = given.supercells.crystal
    kinds = sorted({(z, float(m)) for z, m in zip(crystal.numbers, np.asarray(crystal.masses), strict=True)})
    types = [1 + kinds.index((z, float(m))) for z, m in zip(crystal.numbers, np.asarray(crystal.masses), strict=True)]
    first = [types.index(k + 1) for k in range(len(kinds))]
    variances = np.where(has_natural_mass(crystal), np.asarray(natural_isotopes(crystal)), 0.0)[first]
    lines = ["&allocations", f"  nelements={len(kinds)}", f"  natoms={crystal.n_atoms}"]
    lines += [f"  ngrid(:)={_row(given.mesh or default_mesh(crystal))}", "/", "&crystal", "  lfactor=0.1"]
    lines += [f"  lattvec(:,{k + 1})={_row(v)}" for k, v in enumerate(np.asarray(crystal.lattice))]
    lines += [f"  elements={' '.join(chr(34) + SYMBOLS[z] + chr(34) for z, _ in kinds)}", f"  types={_row(types)}"]
    lines += [f"  positions(:,{k + 1})={_row(v)}" for k, v in enumerate(np.asarray(crystal.positions))]
    lines += [f"  masses={_row([m for _, m in kinds])}", f"  gfactors={_row(variances)}", f"  scell(:)={_row(scell)}"]
    if given.born is not None:
        lines += [f"  epsilon(:,{k + 1})={_row(v)}" for k, v in enumerate(np.asarray(given.born.dielectric).T)]
        for k, charges in enumerate(np.asarray(given.born.charges)):
            lines += [f"  born(:,{b + 1},{k + 1})={_row(v)}" for b, v in enumerate(charges.T)]
    lines += ["/", "&parameters", "  T=300", "/", "&flags", "  autoisotopes=.false."]
    lines += [f"  nonanalytic={'.false.' if given.born is None else '.true.'}", "/", ""]
    return "\n".join(lines)


def _row(values: Any) -> str:
    return " ".join(str(int(x)) if isinstance(x, (int, np.integer)) else repr(float(x)) for x in values)


# --- second order -----------------------------------------------------------------------------------------------------


def _read_second(text: str, supercell: Supercell) -> np.ndarray:
    head, _, rest = text.lstrip().partition("\n")
    counts = [int(x) for x in head.split()]
    N, n = supercell.n_atoms, len(supercell.p2s_map)
    if counts not in ([N], [N, N]):
        raise InputError(f"it is of {counts[-1]} atoms, and scell of {CONTROL} makes {N}", "all rows are needed")
    table = _numbers(rest).reshape(-1, 11)
    if len(table) != N * N:
        raise InputError(f"it has {len(table)} pairs of atoms where {N * N} belong")
    rows, columns = table[:, 0].astype(int) - 1, table[:, 1].astype(int) - 1
    if not np.array_equal(np.sort(rows * N + columns), np.arange(N * N)):
        raise InputError("its pairs of atoms are not complete")
    full = np.empty((N, N, 3, 3))
    full[rows, columns] = table[:, 2:].reshape(-1, 3, 3)
    assert n == supercell.n_atoms // round(abs(np.linalg.det(supercell.matrix)))
    return full[supercell.p2s_map]


def _second_lines(supercell: Supercell, fc2: np.ndarray) -> Iterator[str]:
    """All rows: that of the atom in cell r is that of the atom in cell 0, moved by r."""
    N = supercell.n_atoms
    dims = np.diag(supercell.matrix)
    x, y, z = supercell.lattice_vector.T
    yield f"{N}\n"
    for I in range(N):
        i, r = supercell.primitive_index[I], supercell.lattice_vector[I]
        a, b, c = ((np.stack([x, y, z], 1) - r) % dims).T
        there = ((supercell.primitive_index * dims[2] + c) * dims[1] + b) * dims[0] + a
        for J, block in enumerate(fc2[i, there]):
            yield f"{I + 1} {J + 1}\n" + "".join(" ".join(f"{v:.16e}" for v in row) + "\n" for row in block)


def _read_espresso(path: Path, crystal: Crystal) -> tuple[Supercell, np.ndarray]:
    try:
        from phonopy.interface.qe import PH_Q2R
        from phonopy.structure.atoms import PhonopyAtoms
    except ImportError:
        raise InputError(f"{path.name} is read through phonopy", "pip install 'wigner-jax[phono3py]'") from None
    q2r = PH_Q2R(io.StringIO(read_text(path)))
    numbers, lattice = list(crystal.numbers), np.asarray(crystal.lattice)
    q2r.run(PhonopyAtoms(numbers=numbers, cell=lattice, scaled_positions=np.asarray(crystal.positions)))
    if q2r.borns is not None:
        raise InputError(
            "it has Born charges, and the force constants lack the dipole–dipole part then",
            "run q2r.x without them (take them out of the first file of dynamical matrices), and give them in CONTROL",
        )
    supercell = diagonal_supercell(crystal, [int(x) for x in np.asarray(q2r.dimension)])
    fc2 = np.asarray(q2r.fc) * conversion("Ry/au^2", 2, path)
    # phonopy's order of atoms in a supercell of n1×n2×n3 cells is that of `diagonal_supercell`
    return supercell, fc2


# --- third order ------------------------------------------------------------------------------------------------------


def _read_third(text: str, crystal: Crystal) -> Images:
    head, _, rest = text.lstrip().partition("\n")
    count, table = int(head), _numbers(rest)
    if count < 1 or len(table) != count * _TRIPLET:
        raise InputError(f"it says that it has {count} triplets, and has {len(table) / _TRIPLET:g}")
    table = table.reshape(count, _TRIPLET)
    cells = table[:, 1:7].reshape(-1, 2, 3) @ np.linalg.inv(np.asarray(crystal.lattice))
    atoms = table[:, 7:10].astype(int) - 1
    if not np.all((atoms >= 0) & (atoms < crystal.n_atoms)):
        raise InputError(f"it has atoms beyond the {crystal.n_atoms} of {CONTROL}")
    if not np.abs(cells - np.rint(cells)).max() < ON_LATTICE:
        raise InputError(f"its lattice vectors are not those of the crystal of {CONTROL}", "are they in Å?")
    blocks = table[:, 10:].reshape(count, 27, 4)
    places = blocks[:, :, :3].astype(int) - 1
    if not np.array_equal(np.sort(places @ [9, 3, 1], axis=1), np.broadcast_to(np.arange(27), (count, 27))):
        raise InputError("a triplet lacks components")
    values = np.empty((count, 27))
    np.put_along_axis(values, places @ [9, 3, 1], blocks[:, :, 3], axis=1)
    return Images(atoms, np.rint(cells).astype(int), values.reshape(-1, 3, 3, 3))


def _third_lines(images: Images, lattice: np.ndarray) -> Iterator[str]:
    yield f"{len(images.values)}\n"
    indices = [f"{a} {b} {c}" for a, b, c in product((1, 2, 3), repeat=3)]
    for k, (atoms, cells, values) in enumerate(
        zip(images.atoms, images.cells @ lattice, images.values, strict=True), 1
    ):
        vectors = "".join(" ".join(f"{x:.12f}" for x in v) + "\n" for v in cells)
        lines = "".join(f"{i} {v:.16e}\n" for i, v in zip(indices, values.ravel(), strict=True))
        yield f"\n{k}\n{vectors}{' '.join(str(a + 1) for a in atoms)}\n{lines}"


def _numbers(text: str) -> np.ndarray:
    """All numbers of a text, Fortran's exponents too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error", DeprecationWarning
            )  # older NumPy's, where a text has something else than numbers
            return np.fromstring(text.replace("D", "E").replace("d", "e"), dtype=float, sep=" ")
    except (DeprecationWarning, ValueError):
        raise InputError("it has something else than numbers") from None


__all__ = ["read_shengbte", "write_shengbte"]
