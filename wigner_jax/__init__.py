"""Differentiable lattice thermal conductivity in JAX.

    structure, model ─conductivity─► Solution                                            one call

    atoms ─default_supercells─► supercells ─force_constants─► Φ2, Φ3 ─solve─► Solution    step by step
    params ─force_constants_fn─► Φ2, Φ3 ─kappa─► κ                                       pure functions, for jax.grad

Importing changes nothing: switch double precision on yourself, ``jax.config.update("jax_enable_x64", True)``, and keep
compiled programs between runs with `enable_compilation_cache`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ._core.version import __version__

if TYPE_CHECKING:
    from ._core.compile_cache import enable_compilation_cache
    from ._core.progress import Progress
    from ._solve import kappa, linewidths, make_plan, phonons, solve, with_boundary
    from .adapters import solve_phono3py
    from .convergence import Convergence, converge
    from .crystal.defaults import default_mesh, default_supercells
    from .crystal.elements import formula, natural_isotopes
    from .crystal.from_ase import supercells_from_atoms
    from .crystal.isotopes import isotope_mixture
    from .crystal.low_dimensional import as_layer, as_wire
    from .crystal.prototypes import available_prototypes, prototype
    from .end_to_end import kappa_fn
    from .errors import AccuracyWarning, ImaginaryModes, InputError
    from .evaluation.committee import Committee, committee, linear_error
    from .ifc.autodiff import ForceConstantsReport, force_constants, force_constants_fn
    from .ifc.batched_forces import BatchedForces
    from .ifc.calculator_pool import CalculatorPool
    from .ifc.constraints import with_cutoff, with_rotational_invariance
    from .ifc.finite_displacement import DisplacementReport, finite_displacements
    from .ifc.torch_sim_calculator import TorchSimCalculator
    from .io.born import read_born
    from .io.constants.formats import read_force_constants, write_force_constants
    from .io.constants.given import GivenConstants
    from .io.constants.peer import from_phono3py, to_phono3py
    from .io.kappa_hdf5 import read_kappa_hdf5, write_kappa_hdf5
    from .io.phono3py import read_phono3py
    from .io.structures import read_structure
    from .physics.bands import phonon_bands
    from .physics.boltzmann import FullSolution
    from .physics.broadening.gaussian import AdaptiveGaussian, Gaussian
    from .physics.broadening.tetrahedron import Tetrahedron
    from .physics.conductivity import green_kubo_heat_capacity, wigner_heat_capacity
    from .physics.diagnostics import Diagnostics
    from .physics.nac import GonzeLee, Wang, make_nac
    from .physics.path_spectra import PathSpectra, path_spectra
    from .physics.relaxons import Relaxons, relaxons
    from .physics.self_energy import (
        JointDensityOfStates,
        SelfEnergy,
        averaged_interaction,
        joint_density_of_states,
        normal_umklapp,
        self_energy,
    )
    from .pipeline import Report, conductivity
    from .plan.generalized_mesh import generalized_mesh
    from .potentials.base import Potential
    from .potentials.calculator import WignerCalculator
    from .potentials.evaluate import energy_forces_stress, hessian
    from .potentials.flax_module import FlaxPotential, as_flax
    from .potentials.graph import Graph
    from .potentials.neighbor_list import build_graph
    from .potentials.registry import (
        available_potentials,
        load_potential,
        published_potentials,
        register_family,
        restrict,
    )
    from .potentials.saving import save_potential
    from .potentials.validation import PotentialReport, check_potential
    from .reference import Reference
    from .relaxation.ase_protocols import ProtocolReport, relax_k_srme
    from .relaxation.newton import RelaxReport, relax
    from .screening import Screening, ScreenSettings, screen
    from .solution import Solution
    from .thermodynamics.expansion import elastic_constants, thermal_expansion
    from .thermodynamics.gruneisen import (
        VolumeSteps,
        gruneisen_along_path,
        gruneisen_by_strain,
        gruneisen_by_third_order,
        gruneisen_by_volumes,
    )
    from .thermodynamics.quasi_harmonic import quasi_harmonic, volumes_of
    from .types import (
        BornCharges,
        Conductivity,
        Crystal,
        ForceConstants,
        KappaTensors,
        Linewidths,
        Mesh,
        Phonons,
        Plan,
        Scattering,
        Supercell,
        Supercells,
    )

#: where each public name comes from. Modules are imported at the first use of a name, so that the command line takes over
#: signals before JAX is loaded, and answers a wrong argument at once.
_MODULES = {
    "_core.compile_cache": "enable_compilation_cache",
    "_core.progress": "Progress",
    "_solve": "kappa linewidths make_plan phonons solve with_boundary",
    "adapters": "solve_phono3py",
    "convergence": "Convergence converge",
    "crystal.defaults": "default_mesh default_supercells",
    "crystal.elements": "formula natural_isotopes",
    "crystal.isotopes": "isotope_mixture",
    "crystal.from_ase": "supercells_from_atoms",
    "crystal.low_dimensional": "as_layer as_wire",
    "crystal.prototypes": "available_prototypes prototype",
    "end_to_end": "kappa_fn",
    "errors": "AccuracyWarning ImaginaryModes InputError",
    "evaluation.committee": "Committee committee linear_error",
    "ifc.autodiff": "ForceConstantsReport force_constants force_constants_fn",
    "ifc.batched_forces": "BatchedForces",
    "ifc.calculator_pool": "CalculatorPool",
    "ifc.constraints": "with_cutoff with_rotational_invariance",
    "ifc.finite_displacement": "DisplacementReport finite_displacements",
    "ifc.torch_sim_calculator": "TorchSimCalculator",
    "io.born": "read_born",
    "io.kappa_hdf5": "read_kappa_hdf5 write_kappa_hdf5",
    "io.constants.formats": "read_force_constants write_force_constants",
    "io.constants.given": "GivenConstants",
    "io.constants.peer": "from_phono3py to_phono3py",
    "io.phono3py": "read_phono3py",
    "io.structures": "read_structure",
    "physics.bands": "phonon_bands",
    "physics.boltzmann": "FullSolution",
    "physics.broadening.gaussian": "AdaptiveGaussian Gaussian",
    "physics.broadening.tetrahedron": "Tetrahedron",
    "physics.conductivity": "green_kubo_heat_capacity wigner_heat_capacity",
    "physics.diagnostics": "Diagnostics",
    "physics.nac": "GonzeLee Wang make_nac",
    "physics.path_spectra": "PathSpectra path_spectra",
    "physics.relaxons": "Relaxons relaxons",
    "physics.self_energy": "JointDensityOfStates SelfEnergy averaged_interaction joint_density_of_states normal_umklapp self_energy",
    "pipeline": "Report conductivity",
    "plan.generalized_mesh": "generalized_mesh",
    "potentials.base": "Potential",
    "potentials.calculator": "WignerCalculator",
    "potentials.evaluate": "energy_forces_stress hessian",
    "potentials.flax_module": "FlaxPotential as_flax",
    "potentials.graph": "Graph",
    "potentials.neighbor_list": "build_graph",
    "potentials.registry": "available_potentials load_potential published_potentials register_family restrict",
    "potentials.saving": "save_potential",
    "potentials.validation": "PotentialReport check_potential",
    "reference": "Reference",
    "relaxation.ase_protocols": "ProtocolReport relax_k_srme",
    "relaxation.newton": "RelaxReport relax",
    "screening": "ScreenSettings Screening screen",
    "solution": "Solution",
    "thermodynamics.expansion": "elastic_constants thermal_expansion",
    "thermodynamics.gruneisen": "VolumeSteps gruneisen_along_path gruneisen_by_strain gruneisen_by_third_order gruneisen_by_volumes",
    "thermodynamics.quasi_harmonic": "quasi_harmonic volumes_of",
    "types": "BornCharges Conductivity Crystal ForceConstants KappaTensors Linewidths Mesh Phonons Plan Scattering"
    " Supercell Supercells",
}
_PACKAGES = ("evaluation", "io", "metrics", "physics", "plot", "potentials", "training", "types", "units")
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    elif name in _PACKAGES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "AccuracyWarning",
    "AdaptiveGaussian",
    "BatchedForces",
    "BornCharges",
    "CalculatorPool",
    "Committee",
    "Conductivity",
    "Convergence",
    "Crystal",
    "Diagnostics",
    "DisplacementReport",
    "FlaxPotential",
    "ForceConstants",
    "ForceConstantsReport",
    "FullSolution",
    "Gaussian",
    "GivenConstants",
    "GonzeLee",
    "Graph",
    "ImaginaryModes",
    "InputError",
    "JointDensityOfStates",
    "KappaTensors",
    "Linewidths",
    "Mesh",
    "PathSpectra",
    "Phonons",
    "Plan",
    "Potential",
    "PotentialReport",
    "Progress",
    "ProtocolReport",
    "Reference",
    "RelaxReport",
    "Relaxons",
    "Report",
    "Scattering",
    "ScreenSettings",
    "Screening",
    "SelfEnergy",
    "Solution",
    "Supercell",
    "Supercells",
    "Tetrahedron",
    "TorchSimCalculator",
    "VolumeSteps",
    "Wang",
    "WignerCalculator",
    "__version__",
    "as_flax",
    "as_layer",
    "as_wire",
    "available_potentials",
    "available_prototypes",
    "averaged_interaction",
    "build_graph",
    "check_potential",
    "committee",
    "conductivity",
    "converge",
    "default_mesh",
    "default_supercells",
    "elastic_constants",
    "enable_compilation_cache",
    "energy_forces_stress",
    "finite_displacements",
    "force_constants",
    "force_constants_fn",
    "formula",
    "from_phono3py",
    "generalized_mesh",
    "green_kubo_heat_capacity",
    "gruneisen_along_path",
    "gruneisen_by_strain",
    "gruneisen_by_third_order",
    "gruneisen_by_volumes",
    "hessian",
    "isotope_mixture",
    "joint_density_of_states",
    "kappa",
    "kappa_fn",
    "linear_error",
    "linewidths",
    "load_potential",
    "make_nac",
    "make_plan",
    "natural_isotopes",
    "normal_umklapp",
    "path_spectra",
    "phonon_bands",
    "phonons",
    "prototype",
    "published_potentials",
    "quasi_harmonic",
    "read_born",
    "read_force_constants",
    "read_kappa_hdf5",
    "read_phono3py",
    "read_structure",
    "register_family",
    "relax",
    "relax_k_srme",
    "relaxons",
    "restrict",
    "save_potential",
    "screen",
    "self_energy",
    "solve",
    "solve_phono3py",
    "supercells_from_atoms",
    "thermal_expansion",
    "to_phono3py",
    "volumes_of",
    "wigner_heat_capacity",
    "with_boundary",
    "with_cutoff",
    "with_rotational_invariance",
    "write_force_constants",
    "write_kappa_hdf5",
]
