"""Differentiable lattice thermal conductivity in JAX.

    atoms ─default_cells─► cells ─force_constants─► Φ2, Φ3 ─solve─► Solution      numbers
    params ─force_constants_fn─► Φ2, Φ3 ─kappa─► κ                                pure functions, for jax.grad

Importing changes nothing: switch double precision on yourself, ``jax.config.update("jax_enable_x64", True)``.
"""

from .calculator import WignerCalculator
from .errors import ImaginaryModes, InputError
from .expansion import thermal_expansion
from .geometry import kappa_fn
from .gruneisen import gruneisen_by_strain, gruneisen_by_third_order, gruneisen_by_volumes
from .io import read_born, read_kappa_hdf5, read_phono3py, read_structure, write_kappa_hdf5
from .physics.force_constants import force_constants, force_constants_fn
from .physics.nac import GonzeLee, Wang
from .plan.cells import cells_from_atoms
from .plan.defaults import default_cells, default_mesh
from .potentials import Potential, available_potentials, load_potential
from .protocols import relax_k_srme
from .prototypes import available_prototypes, prototype
from .quasiharmonic import quasi_harmonic
from .relax import relax
from .solve import (
    AdaptiveGaussian,
    Gaussian,
    Scattering,
    Tetrahedron,
    kappa,
    make_plan,
    reserve,
    solve,
    tetrahedron,
)
from .types import BornCharges, Cells, Conductivity, ForceConstants, Linewidths, Phonons, Solution

__version__ = "0.1.0"

__all__ = [
    "AdaptiveGaussian",
    "BornCharges",
    "Cells",
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
    "Tetrahedron",
    "Wang",
    "WignerCalculator",
    "__version__",
    "available_potentials",
    "available_prototypes",
    "cells_from_atoms",
    "default_cells",
    "default_mesh",
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
    "tetrahedron",
    "thermal_expansion",
    "write_kappa_hdf5",
]
