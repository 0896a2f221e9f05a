"""Built-in crystals: what `wigner-jax kappa Si` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import InputError, nearest

if TYPE_CHECKING:
    import ase


# measured lattice constants at room temperature in Å, a starting point for a relaxation: one for cubic crystals, a and c
# for wurtzite
STRUCTURES: dict[str, dict[str, tuple[float, ...]]] = {
    "diamond": {"Si": (5.431,), "C": (3.567,), "Ge": (5.658,)},
    "zincblende": {
        "SiC": (4.360,), "SiGe": (5.540,),  # SiGe: a hypothetical ordered alloy, at the mean of its elements
        "BN": (3.616,), "BP": (4.538,), "BAs": (4.777,), "BeS": (4.863,), "BeSe": (5.139,), "BeTe": (5.627,),
        "AlP": (5.464,), "AlAs": (5.661,), "AlSb": (6.136,), "GaP": (5.451,), "GaAs": (5.653,), "GaSb": (6.096,),
        "InP": (5.869,), "InAs": (6.058,), "InSb": (6.479,), "ZnS": (5.409,), "ZnSe": (5.668,), "ZnTe": (6.103,),
        "CdTe": (6.482,), "CuCl": (5.416,), "CuBr": (5.691,), "CuI": (6.050,),
    },
    "rocksalt": {
        "LiH": (4.083,), "LiF": (4.027,), "LiCl": (5.140,), "LiBr": (5.501,), "LiI": (6.000,), "NaF": (4.634,),
        "NaCl": (5.640,), "NaBr": (5.973,), "NaI": (6.473,), "KF": (5.347,), "KCl": (6.293,), "KBr": (6.600,),
        "KI": (7.066,), "RbF": (5.652,), "RbCl": (6.581,), "RbBr": (6.854,), "RbI": (7.342,), "CsF": (6.008,),
        "MgO": (4.212,), "CaO": (4.811,), "SrO": (5.160,), "BaO": (5.539,), "PbS": (5.936,), "PbSe": (6.124,),
        "PbTe": (6.462,),
    },
    "wurtzite": {
        "BeO": (2.698, 4.379), "AlN": (3.112, 4.982), "GaN": (3.189, 5.185), "InN": (3.545, 5.703),
        "ZnO": (3.250, 5.207), "CdS": (4.137, 6.716), "CdSe": (4.299, 7.011),
    },
}  # fmt: skip
_PROTOTYPES = {name: (structure, a) for structure, names in STRUCTURES.items() for name, a in names.items()}
# of cubic crystals: 512 and 64 atoms; of wurtzite: 300 and 72, those of the phononDB-PBE benchmark
_SUPERCELLS = {"wurtzite": ((5, 5, 3), (3, 3, 2))}
FC2_SUPERCELL, FC3_SUPERCELL = (4, 4, 4), (2, 2, 2)


# ase.build has them too, at a tenth of a second for importing it
def _cubic(structure: str, a: float) -> tuple[list[float], list[list[float]]]:
    """Cell and sites, one of the first element and one of the second by turns."""
    shift = [0.5, 0.0, 0.0] if structure == "rocksalt" else [0.25, 0.25, 0.25]
    corners = [[0.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]]
    return [a, a, a], [site for x in corners for site in (x, [(p + s) % 1 for p, s in zip(x, shift, strict=True)])]


def _wurtzite(a: float, c: float) -> tuple[list[list[float]], list[list[float]]]:
    """The same of the cell of four atoms; equal bonds along c and across."""
    u = 0.25 + a**2 / c**2 / 3
    cell = [[a, 0.0, 0.0], [-a / 2, a * 3**0.5 / 2, 0.0], [0.0, 0.0, c]]
    return cell, [[0.0, 0.0, 0.0], [1 / 3, 2 / 3, 0.5 - u], [1 / 3, 2 / 3, 0.5], [0.0, 0.0, 1 - u]]


def available_prototypes() -> tuple[str, ...]:
    """The names `prototype` knows."""
    return tuple(_PROTOTYPES)


def near_prototype(word: str) -> str | None:
    """The built-in crystal that was most likely meant: only capitals, or a letter of a long name, may be wrong.

    Most formulas that are one element off are other compounds, and nobody's mistake.
    """
    return nearest(word, _PROTOTYPES, 0.8)


def prototype(name: str) -> ase.Atoms:
    """The conventional cell (8 atoms; wurtzite: 4) of a built-in crystal; InputError for an unknown name.

    `atoms.info` carries ``name``, ``fc2_supercell`` and ``fc3_supercell``, the default supercells of this cell, as the
    structures of a benchmark set do.
    """
    import ase
    from ase.symbols import string2symbols

    if name not in _PROTOTYPES:
        close = near_prototype(name)
        hint = f"did you mean {close}?" if close else "wigner-jax prototypes lists all"
        raise InputError(f"no built-in crystal {name!r}", hint)
    structure, constants = _PROTOTYPES[name]
    cell, sites = _wurtzite(*constants) if structure == "wurtzite" else _cubic(structure, *constants)
    elements = string2symbols(name) * (2 // len(string2symbols(name)))
    atoms = ase.Atoms(elements * (len(sites) // 2), scaled_positions=sites, cell=cell, pbc=True)
    fc2, fc3 = _SUPERCELLS.get(structure, (FC2_SUPERCELL, FC3_SUPERCELL))
    atoms.info.update(name=name, fc2_supercell=list(fc2), fc3_supercell=list(fc3))
    return atoms
