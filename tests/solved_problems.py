"""What the solver's tests share: solutions of the references, small analytic crystals, symmetric directions."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

import jax
import numpy as np
from ase.build import bulk
from reference_materials import REFERENCES, load, stored

from wigner_jax._solve import make_plan, solve
from wigner_jax.crystal.elements import natural_isotopes
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.ifc.autodiff import force_constants
from wigner_jax.physics.broadening.gaussian import Gaussian
from wigner_jax.physics.nac import GonzeLee
from wigner_jax.plan.dipoles import dipole_plan
from wigner_jax.potentials.registry import load_potential
from wigner_jax.types import ForceConstants, Scattering

if TYPE_CHECKING:
    from ase import Atoms

    from wigner_jax.types import Crystal, Supercell, Supercells


def problem(reference: str):
    """Plan, material, long-range part and the stored arrays of a reference."""
    material, arrays = load(REFERENCES[reference].material), stored(reference)
    nac = None
    if REFERENCES[reference].polar:
        nac = GonzeLee(material.born, dipole_plan(material.cells.crystal, material.cells.fc2_supercell))
    return make_plan(material.cells, arrays["D_diag"]), material, nac, arrays


@functools.cache
def solved(reference: str):
    """Plan, our solution and the stored arrays of a reference."""
    plan, material, nac, arrays = problem(reference)
    _, _, sigma, mfp, _ = REFERENCES[reference]
    solution = solve(
        plan, material.constants, (300.0,), broadening=None if sigma is None else Gaussian(sigma),
        scattering=Scattering(natural_isotopes(plan.crystal), mfp), nac=nac,
    )  # fmt: skip
    return plan, solution, arrays


@functools.cache
def tersoff():
    return load_potential("tersoff-1989")


def analytic(
    atoms: Atoms, fc2_supercell=(3, 3, 3), fc3_supercell=(2, 2, 2), **options
) -> tuple[Supercells, ForceConstants]:
    """Supercells and force constants of the Tersoff potential: symmetric to rounding, by automatic differentiation."""
    cells = supercells_from_atoms(atoms, fc2_supercell, fc3_supercell, **options)
    return cells, jax.tree.map(np.asarray, force_constants(cells, tersoff())[0])


def distances(crystal: Crystal, supercell: Supercell) -> np.ndarray:
    """Least distances between all atoms of a supercell, its images included. (N, N) Å"""
    lattice = supercell.matrix @ np.asarray(crystal.lattice)
    positions = (np.asarray(crystal.positions)[supercell.primitive_index] + supercell.lattice_vector) @ np.asarray(
        crystal.lattice
    )
    fractional = (positions[:, None] - positions[None]) @ np.linalg.inv(lattice)
    fractional -= np.rint(fractional)
    steps = itertools.product((-1, 0, 1), repeat=3)
    return np.min([np.linalg.norm((fractional + step) @ lattice, axis=-1) for step in steps], axis=0)


def symmetric_direction(cells: Supercells, fc: ForceConstants, seed: int) -> ForceConstants:
    """A random change of both force constants that keeps the crystal's symmetry and the acoustic sum rule of Φ2.

    Each element is scaled by a smooth function of the distances between its atoms, which no operation changes. The sum
    rule is restored in the home element: otherwise the acoustic modes of Γ would wake up.
    """
    rng = np.random.default_rng(seed)
    k, shift, mean = rng.uniform(0.5, 2), rng.uniform(0, 6), rng.normal()
    d2 = distances(cells.crystal, cells.fc2_supercell)[cells.fc2_supercell.p2s_map]
    second = 0.05 * np.asarray(fc.fc2) * np.sin(k * d2 + shift)[..., None, None]
    for i, home in enumerate(cells.fc2_supercell.p2s_map):
        second[i, home] -= second[i].sum(axis=0)
    wave = np.sin(k * distances(cells.crystal, cells.fc3_supercell))
    home = wave[cells.fc3_supercell.p2s_map]
    scale = (home[:, :, None] + home[:, None, :] + wave[None]) / 2 + mean
    return ForceConstants(second, np.asarray(fc.fc3) * scale[..., None, None, None])


def contract(a, b) -> float:
    """⟨a, b⟩ of two pytrees of arrays."""
    return float(sum(np.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)))


def stepped(x, direction, h: float):
    """x + h·direction."""
    return jax.tree.map(lambda a, b: a + h * b, x, direction)


def richardson(function, h: float):
    """Derivative at 0 of a pytree of one number, by central differences of steps h and 2h: error of order h⁴."""
    f = {k: function(k * h) for k in (-2, -1, 1, 2)}
    return jax.tree.map(lambda a, b, c, d: (8 * (c - b) - (d - a)) / (12 * h), f[-2], f[-1], f[1], f[2])


def strained():
    """Zincblende SiC under a general strain, its second atom off its place: no symmetry but translations."""
    atoms = bulk("SiC", "zincblende", a=4.32)
    strain = np.array([[0.01, 0.012, -0.005], [0, -0.008, 0.015], [0, 0, 0.004]])
    atoms.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions[1] += [0.02, -0.01, 0.015]
    return atoms
