"""κ is a property of the crystal: nothing that merely describes it, and nothing about the computation, may change it.

The force constants are made exactly symmetric (automatic differentiation of an analytic potential), so that 1e-8 can be
asked for.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib

import jax
import numpy as np
import pytest
from ase.build import bulk
from scipy.spatial.transform import Rotation
from support import analytic

from wigner_jax.physics import broadening as broadenings
from wigner_jax.physics import linewidths, onshell
from wigner_jax.plan import triplets
from wigner_jax.solve import AdaptiveGaussian, Gaussian, make_plan, solve, tetrahedron
from wigner_jax.types import Cells, ForceConstants

TOLERANCE = 1e-8
ROTATION = Rotation.from_euler("xyz", (17, 41, -63), degrees=True).as_matrix()
VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
BROADENING = {
    "gaussian": lambda plan: Gaussian(0.3),
    "adaptive": lambda plan: AdaptiveGaussian(),
    "tetrahedron": tetrahedron,
    "symmetrized": lambda plan: tetrahedron(plan, symmetrized=True),
}
STRUCTURES = {
    "zincblende": (lambda: bulk("SiC", "zincblende", a=4.32), (3, 3, 3), (2, 2, 2)),
    "wurtzite": (lambda: bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), (3, 3, 2), (2, 2, 1)),
}


@functools.cache
def crystal(name):
    structure, fc2, fc3 = STRUCTURES[name]
    return analytic(structure(), fc2, fc3)


def conductivity(cells, fc, dims, broadening, symmetry=True) -> np.ndarray:
    """κ_TOT (3, 3) at 300 K"""
    plan = make_plan(cells, dims, symmetry)
    solution = solve(plan, fc, (300.0,), BROADENING[broadening](plan))
    return np.asarray(solution.conductivity.kappa_TOT[0])[VOIGT]


@functools.cache
def expected(name, dims, broadening):
    return conductivity(*crystal(name), dims, broadening)


def error(actual, reference) -> float:
    return float(np.abs(actual - reference).max() / np.abs(reference).max())


# ---------------------------------------------------------------- descriptions of the same crystal


def rotated(cells, fc):
    """The same crystal turned in space."""
    crystal = dataclasses.replace(cells.crystal, lattice=np.asarray(cells.crystal.lattice) @ ROTATION.T)
    R = ROTATION
    second = np.einsum("ax,by,ijxy->ijab", R, R, fc.second)
    third = np.einsum("ax,by,cz,ijkxyz->ijkabc", R, R, R, fc.third)
    return Cells(crystal, cells.fc2, cells.fc3), ForceConstants(second, third)


def shifted(cells, fc):
    """Another origin."""
    positions = np.asarray(cells.crystal.positions) + [0.123, -0.31, 0.27]
    return Cells(dataclasses.replace(cells.crystal, positions=positions), cells.fc2, cells.fc3), fc


def other_images(cells, fc):
    """The second atom of the primitive cell replaced by one of its periodic images, and the home cell by another."""
    move = np.zeros((cells.crystal.n_atoms, 3), int)
    move[1] = (1, 0, -1)

    def moved(supercell):
        return dataclasses.replace(supercell, cell=supercell.cell - move[supercell.atom] + [2, -1, 0])

    positions = np.asarray(cells.crystal.positions) + move
    crystal = dataclasses.replace(cells.crystal, positions=positions)
    return Cells(crystal, moved(cells.fc2), moved(cells.fc3)), fc


def reordered(cells, fc):
    """Atoms of the primitive cell and of both supercells in another order."""
    rng = np.random.default_rng(1)
    old = np.arange(cells.crystal.n_atoms)[::-1]

    def shuffled(supercell):
        order = rng.permutation(supercell.n_atoms)
        return order, dataclasses.replace(
            supercell,
            atom=np.argsort(old)[supercell.atom[order]],
            cell=supercell.cell[order],
            home=np.argsort(order)[supercell.home[old]],
        )

    (order2, fc2), (order3, fc3) = shuffled(cells.fc2), shuffled(cells.fc3)
    crystal = dataclasses.replace(
        cells.crystal,
        positions=np.asarray(cells.crystal.positions)[old],
        masses=np.asarray(cells.crystal.masses)[old],
        numbers=tuple(cells.crystal.numbers[i] for i in old),
    )
    second = fc.second[old][:, order2]
    third = fc.third[old][:, order3][:, :, order3]
    return Cells(crystal, fc2, fc3), ForceConstants(second, third)


def other_basis(cells, fc, matrix):
    """Other primitive vectors of the same lattice, and thus of the reciprocal one."""
    inverse = np.rint(np.linalg.inv(matrix)).astype(int)

    def changed(supercell):
        return dataclasses.replace(supercell, matrix=supercell.matrix @ inverse, cell=supercell.cell @ inverse)

    crystal = dataclasses.replace(
        cells.crystal,
        lattice=matrix @ np.asarray(cells.crystal.lattice),
        positions=np.asarray(cells.crystal.positions) @ inverse,
    )
    return Cells(crystal, changed(cells.fc2), changed(cells.fc3)), fc


BASES = {  # unimodular
    "obtuse": np.array([[1, 0, 0], [0, 1, 0], [-1, -1, -1]]),
    "sheared": np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]]),
    "long": np.array([[2, 1, 0], [1, 1, 0], [0, -1, 1]]),
}
