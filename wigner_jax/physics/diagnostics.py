"""What a conductivity rests on: how exact its force constants are, and what mesh, supercells and theory leave out."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

from ..types import Residuals
from .taking_part import is_scattered, takes_part

if TYPE_CHECKING:
    from ..types import Crystal, Mesh, Supercell


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
    """

    residuals: Residuals
    next_to_gamma: np.ndarray
    imaginary: int
    without_linewidth: int
    half_widths: tuple[float, float]
    reach: float
    scattering: tuple[str, ...]
    broadening: str

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
        return [
            f"relaxation-time approximation: {', '.join(self.scattering)}; {self.broadening}"
            + (f"; left out: {missing}" if missing else ""),
            f"relative residuals: sum rules {rules}; symmetry {symmetry}; equivalent q-points {self.residuals.stars:.0e}",
            f"{100 * float(np.max(self.next_to_gamma)):.2g} % of κ from the points next to Γ, which the mesh does not resolve",
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
    )


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


__all__ = ["Diagnostics", "diagnose"]
