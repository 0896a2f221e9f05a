"""Constants and conversions, one table.

The values are the old CODATA set that phonopy and phono3py use (not scipy's), because parity to 1e-6 hangs on them.
Frequencies are in THz without 2π, lengths in Å, energies in eV, masses in amu, conductivities in W/(m K).
"""

from __future__ import annotations

from math import pi

EV = 1.60217733e-19  # J
AMU = 1.6605402e-27  # kg
ANGSTROM = 1e-10  # m
THZ = 1e12  # Hz
HBAR = 6.582118985531608e-16  # eV s
K_B = 8.617338256808316e-5  # eV/K
THZ_TO_EV = 0.00413566733  # h in eV/THz
HARTREE = 27.211398230887998  # eV
BOHR = 0.529177207423948  # Å
HARTREE_BOHR = 14.4  # eV Å: phonopy's default nac factor for VASP units is 14.39965172592227
SQRT_EV_A2_AMU_TO_THZ = 15.633302300230191  # √(eV/Å²/amu)/2π in THz
#: |Φ|² of one mode triplet, times N_q: multiply by 1/(f0 f1 f2) in THz^-3; ħ³/8/36 in phono3py's units.
INTERACTION = (HBAR * EV) ** 3 / 36 / 8 * EV**2 / ANGSTROM**6 / (2 * pi * THZ) ** 3 / AMU**3 / EV**2
#: Half width in THz from Σ |Φ|² δ(f) with δ in 1/THz.
LINEWIDTH = 18 * pi / (HBAR * EV) ** 2 / (2 * pi * THZ) ** 2 * EV**2
#: κ in W/(m K) from [eV/K] (THz Å)² / Å³ / THz, with the 1/2π of τ = 1/(4πγ) in the Wigner form.
KAPPA = (THZ * ANGSTROM) ** 2 / ANGSTROM**3 * EV / THZ / (2 * pi)
KELVIN_MIN = 1e-3  # below this a temperature is refused
CUTOFF_FREQUENCY = 1e-4  # THz: modes below contribute nothing
LEAST_LINEWIDTH = 1e-20  # THz, a lifetime of three months: rounding and underflow, not scattering
DEGENERACY = 1e-4  # THz: neighbouring modes closer than this form one block
