"""The quasi-harmonic free energy: what a crystal's volume does with temperature, beyond first order.

    F(V, T) = E(V) + (1/N) Σ_qs { h f/2 + k_B T ln[1 - exp(-h f/k_B T)] },    f = f_qs(V)

per primitive cell, at several volumes. An equation of state through F(·, T) at each temperature has its minimum at V(T) and
there the isothermal bulk modulus B(T) = V ∂²F/∂V². The rest follows from entropy and heat capacity of the modes as
functions of the volume (polynomials through the volumes),

    α = (1/V) dV/dT = (1/B) ∂S/∂V,      C_P - C_V = T V α² B,      γ = V α B/C_V.

`expansion.thermal_expansion` has the first order of the same, at the static volume and for tensors. Source: Allen, Mod.
Phys. Lett. B 34, 2050025 (2020); Togo and Tanaka, Scr. Mater. 108, 1 (2015), sec. 5.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from .._core.pytree import pytree
from ..checks import require_finite, temperatures_above_zero
from ..errors import InputError
from ..physics.conductivity import heat_capacity
from ..physics.phonons import frequencies_and_eigenvectors
from ..physics.taking_part import takes_part
from ..plan.fc2_table import make_fc2_table
from ..plan.mesh import make_mesh
from ..potentials.base import Potential
from ..relaxation.ase_protocols import relax_at_volume
from ..units import K_B, THZ_TO_EV
from .expansion import EV_A3_TO_GPA
from .gruneisen import harmonic_constants, has_imaginary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import ase
    from ase.calculators.calculator import Calculator

    from .._core.pytree import Array


SCALES = tuple(1 + 0.01 * k for k in range(-3, 6))  # V/V0: a crystal grows
EQUATIONS = ("vinet", "birchmurnaghan", "murnaghan", "pouriertarantola")  # ASE's, of those with four parameters
DEGREE = 4  # of the polynomials in V, at most


@pytree()
class Volumes:
    """Static energies and frequencies of a crystal at several volumes, per primitive cell.

    Attributes:
        volumes: (v,) Å³, ascending.
        energies: (v,) eV.
        frequencies: (v, P, m) THz, real.
        weights: (P,) sizes of the stars.
    """

    volumes: Array  #: (v,) Å³, ascending
    energies: Array  #: (v,) eV
    frequencies: Array  #: (v, P, m) THz, real
    weights: Array  #: (P,) sizes of the stars


@pytree()
class QuasiHarmonic:
    """A crystal at zero pressure in the quasi-harmonic approximation, per primitive cell.

    Attributes:
        temperatures: (T,) K.
        volumes: (v,) Å³.
        free_energies: (v, T) eV, F(V, T).
        free_energy: (T,) eV, its minimum.
        volume: (T,) Å³, V(T).
        alpha_volume: (T,) 1/K.
        bulk_modulus: (T,) GPa, isothermal.
        heat_capacity: (T,) eV/K, at constant volume V(T).
        heat_capacity_pressure: (T,) eV/K, at constant pressure.
    """

    temperatures: Array  #: (T,) K
    volumes: Array  #: (v,) Å³
    free_energies: Array  #: (v, T) eV, F(V, T)
    free_energy: Array  #: (T,) eV, its minimum
    volume: Array  #: (T,) Å³, V(T)
    alpha_volume: Array  #: (T,) 1/K
    bulk_modulus: Array  #: (T,) GPa, isothermal
    heat_capacity: Array  #: (T,) eV/K, at constant volume V(T)
    heat_capacity_pressure: Array  #: (T,) eV/K, at constant pressure

    @property
    def gruneisen_volume(self) -> Array:
        """V α B/C_V. (T,)"""
        return self.alpha_volume * self.bulk_modulus / EV_A3_TO_GPA * self.volume / self.heat_capacity


@jax.jit
def mode_free_energy(frequencies: Array, temperatures: Array) -> Array:
    """h f/2 + k_B T ln[1 - exp(-h f/k_B T)]; 0 for modes below CUTOFF_FREQUENCY. (..., m), (T,) → (T, ..., m) eV"""
    moves = takes_part(frequencies)
    T = jnp.reshape(temperatures, (-1,) + (1,) * frequencies.ndim)
    energy = THZ_TO_EV * jnp.where(moves, frequencies, 1.0)
    return jnp.where(moves, energy / 2 + K_B * T * jnp.log(-jnp.expm1(-energy / (K_B * T))), 0.0)


@jax.jit
def mode_entropy(frequencies: Array, temperatures: Array) -> Array:
    """k_B {x/(exp x - 1) - ln[1 - exp(-x)]}, x = h f/k_B T, -∂/∂T of `mode_free_energy`. (T, ..., m) eV/K"""
    moves = takes_part(frequencies)
    T = jnp.reshape(temperatures, (-1,) + (1,) * frequencies.ndim)
    x = THZ_TO_EV * jnp.where(moves, frequencies, 1.0) / (K_B * T)
    return jnp.where(moves, K_B * (x * jnp.exp(-x) / -jnp.expm1(-x) - jnp.log(-jnp.expm1(-x))), 0.0)


def quasi_harmonic(crystal: Volumes, temperatures: Sequence[float], equation: str = "vinet") -> QuasiHarmonic:
    """Everything above from energies and frequencies at several volumes. Host.

    Args:
        crystal: five volumes or more, with E(V) convex around its minimum.
        temperatures: K.
        equation: one of ASE's equations of state: vinet, birchmurnaghan, murnaghan, pouriertarantola.

    Raises:
        InputError: too few volumes, an unknown equation, numbers that are not finite; no equation of state through the
            free energies, or a V(T) outside the volumes (it says which way to extend them).
    """
    T = np.asarray(temperatures_above_zero(temperatures))
    V, energies = np.asarray(crystal.volumes, float), np.asarray(crystal.energies, float)
    if equation not in EQUATIONS:
        raise InputError(f"unknown equation of state {equation!r}", f"choose from {', '.join(EQUATIONS)}")
    if len(V) < 5 or np.any(np.diff(V) <= 0):
        raise InputError(f"an equation of state needs five volumes or more, ascending, got {np.round(V, 3).tolist()}")
    require_finite(energies, "an energy")
    require_finite(crystal.frequencies, "a frequency")
    share = np.asarray(crystal.weights, float) / np.sum(crystal.weights)

    def total(of_modes: Callable[[Array, Array], Array]) -> np.ndarray:
        """Σ over the modes at every volume and temperature. (v, T)"""
        modes = of_modes(jnp.asarray(crystal.frequencies), jnp.asarray(T))
        return np.einsum("tvps,p->vt", np.asarray(modes), share)

    F, S, C = total(mode_free_energy), total(mode_entropy), total(heat_capacity)
    F = F + energies[:, None]
    minima = np.array([_minimum(V, F[:, k], equation, t) for k, t in enumerate(T)])
    volume, free, bulk = minima.T
    slope = np.array([_polynomial(V, S[:, k]).deriv()(v) for k, v in enumerate(volume)])
    capacity = np.array([_polynomial(V, C[:, k])(v) for k, v in enumerate(volume)])
    alpha = slope / bulk
    return QuasiHarmonic(
        T, V, F, free, volume, alpha, bulk * EV_A3_TO_GPA, capacity, capacity + T * volume * alpha**2 * bulk
    )


def _polynomial(volumes: np.ndarray, values: np.ndarray) -> np.polynomial.Polynomial:
    return np.polynomial.Polynomial.fit(volumes, values, min(DEGREE, len(volumes) - 2))


def _minimum(volumes: np.ndarray, energies: np.ndarray, equation: str, temperature: float) -> tuple[float, ...]:
    """V, F and B (eV/Å³) at the minimum of the equation of state."""
    from ase.eos import EquationOfState

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy's, of a covariance that nobody asks for
            volume, free, bulk = EquationOfState(volumes, energies, eos=equation).fit(warn=False)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"no {equation} equation of state through F(V) at {temperature:g} K ({error})") from None
    if not bulk > 0 or not volumes[0] <= volume <= volumes[-1]:
        side = "smaller" if volume < volumes[0] else "larger"
        raise InputError(
            f"the volume at {temperature:g} K, {volume:.3f} Å³, lies outside {volumes[0]:.3f} to {volumes[-1]:.3f} Å³:"
            f" add {side} volumes, or ask for lower temperatures"
        )
    return float(volume), float(free), float(bulk)


def volumes_of(
    atoms: ase.Atoms, potential: Potential | Calculator, mesh: Sequence[int],
    scales: Sequence[float] = SCALES, distance: float | None = None,
) -> Volumes:  # fmt: skip
    """Energies and frequencies of a relaxed crystal at several volumes, relaxed at each where symmetry leaves freedom.

    Args:
        atoms: with fc2_supercell (and primitive_matrix) in its info.
        potential: a JAX potential, or any ASE calculator (give a distance then).
        mesh: subdivisions of the reciprocal cell.
        scales: V/V0.
        distance: Å, of displacements; None: Φ2 by automatic differentiation.

    Raises:
        InputError: imaginary modes at one of the volumes, which have no free energy.
    """
    from ..potentials.calculator import WignerCalculator

    calculator = WignerCalculator(potential) if isinstance(potential, Potential) else potential
    volumes, energies, frequencies, weights = [], [], [], np.zeros(0)
    for scale in sorted(scales):
        here, _ = relax_at_volume(atoms, potential, scale)
        cells, second, _ = harmonic_constants(here, potential, distance)
        q = make_mesh(cells.crystal, mesh)
        volume = float(abs(np.linalg.det(cells.crystal.lattice)))
        f = _frequencies(
            q.qpoints[q.irreducible], second, cells.crystal, make_fc2_table(cells.crystal, cells.fc2_supercell)
        )
        if has_imaginary(q, np.asarray(f)):
            raise InputError(f"imaginary modes at {scale:g} times the volume", "take volumes nearer to the minimum")
        here.calc = calculator
        energies.append(here.get_potential_energy() * cells.crystal.n_atoms / len(here))
        volumes.append(volume)
        frequencies.append(np.asarray(f))
        weights = np.asarray(q.weights)
    return Volumes(np.array(volumes), np.array(energies), np.array(frequencies), weights)


_frequencies = jax.jit(lambda q, second, crystal, table: frequencies_and_eigenvectors(q, second, crystal, table)[0])


__all__ = [
    "QuasiHarmonic",
    "Volumes",
    "mode_entropy",
    "mode_free_energy",
    "quasi_harmonic",
    "volumes_of",
]
