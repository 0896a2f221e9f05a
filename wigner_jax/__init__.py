"""Differentiable lattice thermal conductivity in JAX.

    atoms ─default_cells─► cells ─force_constants─► Φ2, Φ3 ─solve─► Solution      numbers
    params ─force_constants_fn─► Φ2, Φ3 ─kappa─► κ                                pure functions, for jax.grad

Importing changes nothing: switch double precision on yourself, ``jax.config.update("jax_enable_x64", True)``.
"""

from __future__ import annotations

from ._core.version import __version__
from ._solve import Scattering, kappa, make_plan, reserve, solve, tetrahedron
from .crystal.defaults import default_mesh, default_supercells
from .crystal.from_ase import supercells_from_atoms
from .crystal.prototypes import available_prototypes, prototype
from .errors import ImaginaryModes, InputError
from .ifc.autodiff import force_constants, force_constants_fn
from .io.born import read_born
from .io.kappa_hdf5 import read_kappa_hdf5, write_kappa_hdf5
from .io.phono3py import read_phono3py
from .io.structures import read_structure
from .physics.broadening.gaussian import AdaptiveGaussian, Gaussian
from .physics.broadening.tetrahedron import Tetrahedron
from .physics.nac import GonzeLee, Wang
from .pipeline import kappa_fn
from .potentials.base import Potential
from .potentials.calculator import WignerCalculator
from .potentials.registry import available_potentials, load_potential
from .relaxation.ase_protocols import relax_k_srme
from .relaxation.newton import relax
from .thermodynamics.expansion import thermal_expansion
from .thermodynamics.gruneisen import gruneisen_by_strain, gruneisen_by_third_order, gruneisen_by_volumes
from .thermodynamics.quasi_harmonic import quasi_harmonic
from .types import BornCharges, Conductivity, ForceConstants, Linewidths, Phonons, Solution, Supercells

__all__ = [
    "AdaptiveGaussian",
    "BornCharges",
    "Conductivity",
    "ForceConstants",
    "Gaussian",
    "GonzeLee",
    "ImaginaryModes",
    "InputError",
    "Linewidths",
    "Phonons",
    "Potential",
    "Scattering",
    "Solution",
    "Supercells",
    "Tetrahedron",
    "Wang",
    "WignerCalculator",
    "__version__",
    "available_potentials",
    "available_prototypes",
    "default_mesh",
    "default_supercells",
    "force_constants",
    "force_constants_fn",
    "gruneisen_by_strain",
    "gruneisen_by_third_order",
    "gruneisen_by_volumes",
    "kappa",
    "kappa_fn",
    "load_potential",
    "make_plan",
    "prototype",
    "quasi_harmonic",
    "read_born",
    "read_kappa_hdf5",
    "read_phono3py",
    "read_structure",
    "relax",
    "relax_k_srme",
    "reserve",
    "solve",
    "supercells_from_atoms",
    "tetrahedron",
    "thermal_expansion",
    "write_kappa_hdf5",
]
