"""What a conductivity rests on: how exact its force constants are, and what mesh, supercells and theory leave out."""

from __future__ import annotations

import dataclasses
import re
from math import pi
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

from ..checks import NO_CONDUCTIVITY
from ..errors import InputError, say
from ..types import Residuals
from ..units import K_B
from .conductivity import boundary_linewidth
from .degeneracy import same_degenerate_set
from .taking_part import is_scattered, takes_part

if TYPE_CHECKING:
    from ..types import Conductivity, Crystal, Linewidths, Mesh, Phonons, Precision, Supercell

RTA = "relaxation-time approximation"
STANDING = 1e-6  # THz Å: slower modes do not move
SAID_STANDING = 1e-3  # of κ
UNLIMITED = 1e6  # µm: no crystal is as large as this mean free path
SAID_SHARE, REFUSED_SHARE = 0.01, 0.5  # of κ_P in modes that fly farther
FEWEST_PAIRS, WIDEST = 20, 0.25
THAWED = 0.5  # k_B per mode: where the mean heat capacity is above it, no scattering is frozen out


@dataclasses.dataclass(frozen=True, eq=False)
class Diagnostics:
    """What a conductivity rests on, in numbers. `lines` says it in words.

    Attributes:
        residuals: of sum rules and symmetry, relative; see `Residuals`.
        next_to_gamma: share of κ_TOT (a third of the trace) from the points next to Γ, (T,). The mesh does not resolve how
            lifetimes grow towards Γ: where the share is large, a finer mesh changes κ.
        imaginary: modes of the mesh that are imaginary and left out.
        without_linewidth: modes of the mesh that nothing scatters, left out because they would carry infinite heat; of
            the temperature that has most.
        half_widths: half the shortest lattice vector of the supercells of Φ2 and Φ3, Å: two atoms farther apart are also
            nearer through the periodic boundary.
        reach: how far the energy of an atom sees (`Potential.reach`), Å; NaN where unknown.
        scattering: what limits lifetimes.
        broadening: how energy conservation was integrated.
        precision: of third derivatives and matrix elements.
        standing: share of κ_C (a third of the trace) of pairs of which one mode has no velocity, (T,): it carries heat by
            coherences alone.
        coherences: share of κ_TOT that is κ_C, (T,).
        occupied: share of the cell that κ is normalised to, of layers and wires.
        theory: how the transport equation of the populations was solved.
    """

    residuals: Residuals
    next_to_gamma: np.ndarray
    imaginary: int
    without_linewidth: int
    half_widths: tuple[float, float]
    reach: float
    scattering: tuple[str, ...]
    broadening: str
    precision: Precision = "double"
    standing: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    coherences: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(1))
    occupied: float = 1.0
    theory: str = RTA

    def lines(self) -> list[str]:
        """Four lines of words."""
        left_out = [(self.imaginary, "imaginary modes"), (self.without_linewidth, "modes that nothing scatters")]
        missing = ", ".join(f"{count} {what}" for count, what in left_out if count)
        rules, symmetry = (
            f"{a:.0e} (Φ2), {b:.0e} (Φ3)" for a, b in (self.residuals.sum_rules, self.residuals.symmetry)
        )
        widths = zip(self.half_widths, ("Φ2", "Φ3"), strict=True)
        cells = ", ".join(f"{width:.3g} Å ({name})" for width, name in widths)
        exceeded = " and ".join(n for w, n in zip(self.half_widths, ("Φ2's", "Φ3's"), strict=True) if self.reach > w)
        reach = "" if np.isnan(self.reach) else f"; the potential sees {self.reach:.3g} Å"
        standing = float(np.max(self.standing * np.abs(self.coherences)))
        still = (
            f"; {100 * standing:.2g} % by coherences with modes that have no velocity"
            if standing > SAID_STANDING
            else ""
        )
        normalised = f"; per {100 * self.occupied:.4g} % of the cell's volume" if self.occupied != 1 else ""
        return [
            f"{self.theory}: {', '.join(self.scattering)}; {self.broadening}"
            + ("; matrix elements in single precision" if self.precision == "mixed" else "")
            + (f"; left out: {missing}" if missing else ""),
            f"relative residuals: sum rules {rules}; symmetry {symmetry}; equivalent q-points {self.residuals.stars:.0e}",
            f"{100 * float(np.max(self.next_to_gamma)):.2g} % of κ from the points next to Γ, which the mesh does not resolve"
            + still
            + normalised,
            f"half-widths of the supercells {cells}{reach}" + (f", more than {exceeded}" if exceeded else ""),
        ]


def diagnose(solution: Any) -> Diagnostics:
    """The diagnostics of a `Solution`."""
    plan, conductivity = solution.plan, solution.conductivity
    mesh = plan.mesh
    at = np.asarray(mesh.irreducible)
    frequencies, weights = np.asarray(solution.phonons.frequencies)[at], np.asarray(mesh.weights)[:, None]
    modes = np.asarray(conductivity.mode_kappa_P).sum(axis=2) + np.asarray(conductivity.mode_kappa_C).sum(axis=(2, 3))
    by_point = modes[..., :3].sum(axis=-1) / len(mesh.qpoints)
    total = np.asarray(conductivity.kappa_TOT)[:, :3].sum(axis=-1)
    coherent = np.asarray(conductivity.kappa_C)[:, :3].sum(axis=-1)
    standing = _of_standing_modes(solution, frequencies) / len(mesh.qpoints)
    near = by_point[:, next_to_gamma(plan.crystal, mesh)].sum(axis=1)
    silent = np.asarray(takes_part(frequencies)) & ~np.asarray(is_scattered(solution.linewidths.total))
    scattering = solution.scattering
    causes = ["three phonons"]
    causes += [] if scattering.isotope is None else ["isotopes"]
    causes += [] if scattering.boundary_mfp is None else ["boundaries"]
    cells = plan.supercells
    widths = (np.nan, np.nan)
    if cells is not None:
        second, third = (half_width(plan.crystal, cell) for cell in (cells.fc2_supercell, cells.fc3_supercell))
        widths = (second, third)
    return Diagnostics(
        Residuals() if solution.residuals is None else solution.residuals,
        np.divide(near, total, out=np.zeros_like(total), where=total != 0),
        int(((frequencies < -1e-4) * weights).sum()),
        int((silent * weights).sum(axis=(1, 2)).max()),
        widths,
        getattr(solution.report, "reach", np.nan),
        tuple(causes),
        re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(solution.broadening).__name__).lower(),
        solution.precision,
        np.divide(standing, coherent, out=np.zeros_like(coherent), where=coherent != 0),
        np.divide(coherent, total, out=np.zeros_like(total), where=total != 0),
        1.0 if plan.crystal.occupied is None else float(plan.crystal.occupied),
        RTA if solution.full is None else "linearised Boltzmann equation",
    )


def _of_standing_modes(solution: Any, frequencies: np.ndarray) -> np.ndarray:
    """Trace of κ_C, summed over the points, of pairs of which one mode has no velocity. (T,)"""
    V = np.asarray(solution.phonons.velocity_operator)
    same = np.asarray(same_degenerate_set(frequencies))
    squares = np.einsum(
        "pst,psta->ps", same, np.abs(V) ** 2
    )  # of the whole block: velocities of its modes are arbitrary
    still = squares < STANDING**2
    pairs = still[:, :, None] | still[:, None, :]
    return np.einsum("tpsua,psu->t", np.asarray(solution.conductivity.mode_kappa_C)[..., :3], pairs)


def require_scattering(phonons: Phonons, linewidths: Linewidths) -> None:
    """Raises InputError if nothing scatters any mode, so that κ is infinite or nothing."""
    frequencies, widths = np.asarray(phonons.frequencies), np.asarray(linewidths.total)  # no programs for these
    if not np.any(takes_part(frequencies)) or np.any(is_scattered(widths)):
        return
    fastest = float(np.abs(phonons.velocity_operator).max())
    if fastest < STANDING:
        raise InputError(
            f"no mode moves (the largest velocity is {fastest:.0e} THz Å) and nothing scatters: the atoms of a cell do not"
            " interact with those of its neighbours, or the mesh is too coarse",
            "check the cell: a molecule in a box has no lattice thermal conductivity; a mesh of one or two points along each"
            " vector has only points where velocities vanish by symmetry",
        )
    raise InputError(
        "no mode has a finite lifetime: nothing scatters, and κ is infinite", "check Φ3, and what scatters besides it"
    )


def say_if_width_is_off(broadening: Any, phonons: Phonons, mesh: Mesh) -> None:
    """Warns where a Gaussian is too narrow for the mesh or wider than the spectrum is resolved.

    A mode meets Q m² pairs of other modes whose sums and differences cover twice the highest frequency, so that about
    √(2π) σ Q m² / 2 f_max of them lie within the Gaussian. Few of them are chance.

    Warns:
        AccuracyWarning: fewer than 20 pairs, or σ above a quarter of the highest frequency.
    """
    f, steps = np.asarray(phonons.frequencies), np.asarray(mesh.steps)
    highest = float(f.max())
    if not highest > 0:
        return  # imaginary modes alone
    if hasattr(broadening, "sigma"):
        width, name = float(broadening.sigma), "σ"
    elif hasattr(broadening, "scale"):
        slopes = np.diagonal(np.asarray(phonons.velocity_operator).real, axis1=1, axis2=2).swapaxes(1, 2) @ steps.T
        square = np.average((slopes**2).sum(axis=-1).mean(axis=1), weights=np.asarray(mesh.weights))
        width = float(np.sqrt(float(broadening.floor) ** 2 + float(broadening.scale) ** 2 * 2 * square / 12))
        name = "the adaptive width, on average,"
    else:
        return
    pairs = np.sqrt(2 * pi) * width * f.size * f.shape[1] / (2 * highest)
    if pairs < FEWEST_PAIRS:
        say(
            f"{name} is {width:.3g} THz: about {pairs:.2g} pairs of modes lie within it on this mesh, and κ is chance; take a"
            " finer mesh, a larger width, or tetrahedra"
        )
    elif width > WIDEST * highest:
        say(
            f"{name} is {width:.3g} THz where the highest frequency is {highest:.3g}: energy is not conserved; take a smaller one"
        )


def judge_unlimited(conductivity: Conductivity, linewidths: Linewidths, phonons: Phonons, mesh: Mesh) -> None:
    """Says where modes whose mean free path |v|/4πγ exceeds 1 m carry κ: their widths may be rounding, and κ any number.

    In the cold they may be real: what scatters them is frozen out, and without isotopes and boundaries κ grows without
    limit. Where the mean heat capacity is above half of k_B nothing is frozen out, and more than half of κ_P in such
    modes comes of selection rules on a coarse mesh, in a small supercell, or of a broadening that is too narrow.

    Warns:
        AccuracyWarning: they carry more than 1 % of κ_P at some temperature; modes that move have no width at all, and are left out.

    Raises:
        InputError: they carry more than half of it at a temperature where nothing is frozen out.
    """
    widths, V = np.asarray(linewidths.total), np.asarray(phonons.velocity_operator)
    live = is_scattered(widths)
    frequencies = np.asarray(phonons.frequencies)[np.asarray(mesh.irreducible)]
    speed = np.abs(np.diagonal(V, axis1=1, axis2=2)).max(axis=1)  # P m
    silent = takes_part(frequencies) & ~live & (speed > STANDING)
    if silent.any():
        worst = int((silent * np.asarray(mesh.weights)[:, None]).sum(axis=(1, 2)).argmax())
        count = int((silent[worst] * np.asarray(mesh.weights)[:, None]).sum())
        say(
            f"κ at {np.asarray(conductivity.temperatures)[worst]:g} K leaves out {count} modes of the mesh that move and that"
            " nothing scatters: they would carry infinite heat; take larger supercells or a finer mesh, or let isotopes or"
            " boundaries (boundary_mfp) scatter"
        )
    boundary = np.asarray(linewidths.boundary)
    if boundary.any() and np.all(boundary <= 1.001 * np.asarray(boundary_linewidth(V, frequencies, UNLIMITED))):
        widths = widths - boundary  # boundaries 1 m apart are none
    fastest = np.sqrt((np.abs(V) ** 2).sum(axis=(2, 3)).max())
    if not np.any(live & (4 * pi * widths * UNLIMITED * 1e4 < fastest)):  # no mode at all: as good as always
        return
    least = np.asarray(boundary_linewidth(V, frequencies, UNLIMITED))
    # what boundaries 1 m apart would give it, to rounding
    free = live & takes_part(frequencies) & (1.01 * widths < least)
    modes = np.abs(np.asarray(conductivity.mode_kappa_P)[..., :3].sum(axis=-1))
    carried, total = np.where(free, modes, 0.0).sum(axis=(1, 2)), modes.sum(axis=(1, 2))
    weights = np.asarray(mesh.weights)
    some = total > NO_CONDUCTIVITY * weights.sum()  # where κ vanishes, that is said
    shares = np.divide(carried, total, out=np.zeros_like(total), where=some)
    capacity = np.einsum("tps,p->t", np.asarray(conductivity.heat_capacity), weights)
    thawed = capacity > THAWED * K_B * weights.sum() * frequencies.shape[1]
    worst = int(np.argmax(np.where(thawed & (shares > REFUSED_SHARE), 1.0, 0.0) + shares))
    if not shares[worst] > SAID_SHARE:
        return
    count = int((free[worst] * weights[:, None]).sum())
    found = (
        f"{100 * shares[worst]:.3g} % of κ_P at {np.asarray(conductivity.temperatures)[worst]:g} K is carried by {count}"
        f" modes of the mesh with mean free paths above 1 m: nothing in this calculation limits them, and their"
        " linewidths may be rounding"
    )
    remedy = "take larger supercells or a finer mesh, or let isotopes or boundaries (boundary_mfp) scatter"
    if thawed[worst] and shares[worst] > REFUSED_SHARE:
        raise InputError(found, remedy)
    say(f"{found}; {remedy}")


def next_to_gamma(crystal: Crystal, mesh: Mesh) -> np.ndarray:
    """The irreducible points next to Γ: no farther than the longest of the mesh's three shortest steps. (P,) bool"""
    reciprocal = np.linalg.inv(np.asarray(crystal.lattice)).T  # rows b_μ
    steps = spglib.niggli_reduce(reciprocal / np.array(mesh.dims)[:, None])
    length = np.linalg.norm(np.asarray(mesh.qpoints)[np.asarray(mesh.irreducible)] @ reciprocal, axis=1)
    return (length > 0) & (length <= np.linalg.norm(steps, axis=1).max() * (1 + 1e-6))


def half_width(crystal: Crystal, supercell: Supercell) -> float:
    """Half the shortest lattice vector of a supercell, Å: the radius of the sphere inside its Wigner-Seitz cell."""
    lattice = spglib.niggli_reduce(np.asarray(supercell.matrix) @ np.asarray(crystal.lattice))
    return float(np.linalg.norm(lattice, axis=1).min()) / 2


__all__ = ["Diagnostics", "diagnose", "judge_unlimited", "require_scattering", "say_if_width_is_off"]
