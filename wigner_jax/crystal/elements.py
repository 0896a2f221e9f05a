"""Masses and isotope mass variances of the elements, by atomic number.

Masses are phonopy's table (amu). The variance is Tamura's g = Σ_i c_i (1 - m_i/m̄)² over the natural isotopes,
with the abundances c_i and masses m_i of phonopy's isotope table; an element without stable isotopes has 0.
ASE's masses differ by up to 1.6e-4 relative, which is 1e-3 THz.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Crystal

NATURAL_MASS = 5e-4  # relative difference up to which a mass is the natural one
# symbol: (atomic number, mass, variance); mass is None where the table has no value
ELEMENTS: dict[str, tuple[int, float | None, float]] = {
    "H": (1, 1.00794, 0.00011460743),
    "He": (2, 4.002602, 8.1410176e-08),
    "Li": (3, 6.941, 0.0014588235),
    "Be": (4, 9.012182, 0),
    "B": (5, 10.811, 0.0013539153),
    "C": (6, 12.0107, 7.3872305e-05),
    "N": (7, 14.0067, 1.8376661e-05),
    "O": (8, 15.9994, 3.3588049e-05),
    "F": (9, 18.9984032, 0),
    "Ne": (10, 20.1797, 0.00082783153),
    "Na": (11, 22.98976928, 0),
    "Mg": (12, 24.305, 0.00073988258),
    "Al": (13, 26.9815386, 0),
    "Si": (14, 28.0855, 0.00020070046),
    "P": (15, 30.973762, 0),
    "S": (16, 32.065, 0.00016512817),
    "Cl": (17, 35.453, 0.00058270126),
    "Ar": (18, 39.948, 3.5099226e-05),
    "K": (19, 39.0983, 0.00016400133),
    "Ca": (20, 40.078, 0.00029756388),
    "Sc": (21, 44.955912, 0),
    "Ti": (22, 47.867, 0.00028645597),
    "V": (23, 50.9415, 9.5483141e-07),
    "Cr": (24, 51.9961, 0.00013287024),
    "Mn": (25, 54.938045, 0),
    "Fe": (26, 55.845, 8.2444086e-05),
    "Co": (27, 58.933195, 0),
    "Ni": (28, 58.6934, 0.00043070907),
    "Cu": (29, 63.546, 0.00021093334),
    "Zn": (30, 65.38, 0.00059818256),
    "Ga": (31, 69.723, 0.00019712673),
    "Ge": (32, 72.64, 0.00058673073),
    "As": (33, 74.9216, 0),
    "Se": (34, 78.96, 0.00046279012),
    "Br": (35, 79.904, 0.00015627732),
    "Kr": (36, 83.798, 0.00024880744),
    "Rb": (37, 85.4678, 0.00010969667),
    "Sr": (38, 87.62, 6.0996985e-05),
    "Y": (39, 88.90585, 0),
    "Zr": (40, 91.224, 0.00034262886),
    "Nb": (41, 92.90638, 0),
    "Mo": (42, 95.96, 0.0005976523),
    "Tc": (43, 98, 0),
    "Ru": (44, 101.07, 0.00040666545),
    "Rh": (45, 102.9055, 0),
    "Pd": (46, 106.42, 0.00030947678),
    "Ag": (47, 107.8682, 8.5798415e-05),
    "Cd": (48, 112.411, 0.00027160302),
    "In": (49, 114.818, 1.2455883e-05),
    "Sn": (50, 118.71, 0.00033408479),
    "Sb": (51, 121.76, 6.6075042e-05),
    "Te": (52, 127.6, 0.00028393346),
    "I": (53, 126.90447, 0),
    "Xe": (54, 131.293, 0.000267557),
    "Cs": (55, 132.9054519, 0),
    "Ba": (56, 137.327, 6.237012e-05),
    "La": (57, 138.90547, 4.6532179e-08),
    "Ce": (58, 140.116, 2.249555e-05),
    "Pr": (59, 140.90765, 0),
    "Nd": (60, 144.242, 0.00023159939),
    "Pm": (61, 145, 0),
    "Sm": (62, 150.36, 0.00033468601),
    "Eu": (63, 151.964, 4.3279482e-05),
    "Gd": (64, 157.25, 0.00012767493),
    "Tb": (65, 158.92535, 0),
    "Dy": (66, 162.5, 5.1980704e-05),
    "Ho": (67, 164.93032, 0),
    "Er": (68, 167.259, 7.2324835e-05),
    "Tm": (69, 168.93421, 0),
    "Yb": (70, 173.054, 8.5455777e-05),
    "Lu": (71, 174.9668, 8.2728232e-07),
    "Hf": (72, 178.49, 5.2538458e-05),
    "Ta": (73, 180.94788, 3.6684481e-09),
    "W": (74, 183.84, 6.9667933e-05),
    "Re": (75, 186.207, 2.708498e-05),
    "Os": (76, 190.23, 7.4523585e-05),
    "Ir": (77, 192.217, 2.5378692e-05),
    "Pt": (78, 195.084, 3.3920521e-05),
    "Au": (79, 196.966569, 0),
    "Hg": (80, 200.59, 6.5251912e-05),
    "Tl": (81, 204.3833, 1.996435e-05),
    "Pb": (82, 207.2, 1.9437787e-05),
    "Bi": (83, 208.9804, 0),
    "Po": (84, None, 0),
    "At": (85, None, 0),
    "Rn": (86, None, 0),
    "Fr": (87, None, 0),
    "Ra": (88, None, 0),
    "Ac": (89, 227, 0),
    "Th": (90, 232.03806, 0),
    "Pa": (91, 231.03588, 0),
    "U": (92, 238.02891, 1.1564616e-06),
    "Np": (93, 237, 0),
    "Pu": (94, None, 0),
    "Am": (95, None, 0),
    "Cm": (96, None, 0),
    "Bk": (97, None, 0),
    "Cf": (98, None, 0),
    "Es": (99, None, 0),
    "Fm": (100, None, 0),
    "Md": (101, None, 0),
    "No": (102, None, 0),
    "Lr": (103, None, 0),
    "Rf": (104, None, 0),
    "Db": (105, None, 0),
    "Sg": (106, None, 0),
    "Bh": (107, None, 0),
    "Hs": (108, None, 0),
    "Mt": (109, None, 0),
    "Ds": (110, None, 0),
    "Rg": (111, None, 0),
    "Cn": (112, None, 0),
    "Uut": (113, None, 0),
    "Uuq": (114, None, 0),
    "Uup": (115, None, 0),
    "Uuh": (116, None, 0),
    "Uus": (117, None, 0),
    "Uuo": (118, None, 0),
}
SYMBOLS = {number: symbol for symbol, (number, _, _) in ELEMENTS.items()}


def masses_of(numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Standard masses in amu, phonopy's table. (n,)"""
    masses = [ELEMENTS[SYMBOLS[int(z)]][1] for z in numbers]
    if missing := sorted({SYMBOLS[int(z)] for z, m in zip(numbers, masses, strict=True) if m is None}):
        raise InputError(f"{', '.join(missing)} has no standard mass", "give the masses explicitly")
    return np.array(masses, dtype=float)


def natural_isotopes(crystal: Crystal) -> np.ndarray:
    """Mass variances g = Σ_i c_i (1 - m_i/m̄)² of the natural abundances; 0 where the mass is not the natural one. (n,)

    An atom whose mass was given as another than the element's (`has_natural_mass`) is one isotope.
    """
    variances = np.array([ELEMENTS[SYMBOLS[int(z)]][2] for z in crystal.numbers], float)
    return np.where(has_natural_mass(crystal), variances, 0.0)


def has_natural_mass(crystal: Crystal) -> np.ndarray:
    """Whether each atom's mass is that of its element within 5·10⁻⁴, by which tables and roundings of it differ. (n,)

    Pure isotopes lie outside where it matters: ¹²C by 9·10⁻⁴, ²⁸Si by 4·10⁻³. An element without a standard mass
    has no other than what is given.
    """
    natural = [ELEMENTS[SYMBOLS[int(z)]][1] for z in crystal.numbers]
    pairs = zip(np.asarray(crystal.masses), natural, strict=True)
    return np.array([m is None or abs(mass / m - 1) < NATURAL_MASS for mass, m in pairs], bool)


def formula(crystal: Crystal) -> str:
    """The contents of the primitive cell, for example Si2 or La4Zr4O14."""
    return formula_of(crystal.numbers)


def formula_of(numbers: Sequence[int]) -> str:
    """`formula` from the atomic numbers of the cell."""
    counts = Counter(int(z) for z in numbers)
    return "".join(SYMBOLS[z] + (str(count) if count > 1 else "") for z, count in counts.items())
