"""What the solver returns: everything it computed, and what it computed it from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ._core.pretty_print import fields_printed
from ._core.pytree import pytree
from .crystal.elements import formula
from .crystal.low_dimensional import average

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from ._core.pytree import Array
    from .physics.bands import Bands
    from .physics.boltzmann import FullSolution
    from .physics.diagnostics import Diagnostics
    from .physics.pairs import Broadening
    from .physics.path_spectra import PathSpectra
    from .physics.phonons import LongRange
    from .types import (
        Conductivity,
        Crystal,
        ForceConstants,
        Linewidths,
        Mesh,
        Phonons,
        Plan,
        Precision,
        Residuals,
        Scattering,
    )


@pytree("report", "precision", host=("residuals", "full"))
class Solution:
    """Phonons, linewidths and conductivity, resolved by mode, with the crystal, mesh and force constants behind them.

    A pytree, so that losses can see all of it. `save` and `plot` work on the host. Prints as one line.

    Attributes:
        phonons: frequencies and eigenvectors on the mesh, velocity operator at its irreducible points.
        linewidths: half widths at half maximum by their cause, THz.
        conductivity: κ, κ_P, κ_C and their resolution by modes, W/(m K).
        plan: crystal, mesh and the tables of both.
        force_constants: Φ2 and Φ3.
        scattering: what scatters besides three phonons.
        broadening: how energy conservation was integrated.
        nac: non-analytic correction, or None.
        report: how structure and force constants came about (`pipeline.Report`); None where they were given.
        residuals: how far the force constants are from sum rules and symmetry.
        precision: "double"; "mixed" where matrix elements are of single precision.
        full: populations beyond the relaxation-time approximation, where they were asked for (``transport="lbte"``);
            `conductivity` stays in that approximation.
    """

    #: frequencies and eigenvectors on the mesh, velocity operator at its irreducible points
    phonons: Phonons
    #: half widths at half maximum by their cause, THz
    linewidths: Linewidths
    #: κ, κ_P, κ_C and their resolution by modes, W/(m K)
    conductivity: Conductivity
    #: crystal, mesh and the tables of both
    plan: Plan
    #: Φ2 and Φ3
    force_constants: ForceConstants
    #: what scatters besides three phonons
    scattering: Scattering
    #: how energy conservation was integrated
    broadening: Broadening
    #: non-analytic correction, or None
    nac: LongRange | None = None
    #: how structure and force constants came about (`pipeline.Report`); None where they were given
    report: Any = None
    #: how far the force constants are from sum rules and symmetry; None inside transformations
    residuals: Residuals | None = None
    #: of the matrix elements: "double", or single for "mixed"
    precision: Precision = "double"
    #: populations beyond the relaxation-time approximation, or None; None inside transformations
    full: FullSolution | None = None

    def __repr__(self) -> str:
        """Formula, mesh, κ and temperatures; inside transformations, and of parts alone, the fields."""
        found = self.conductivity
        numbers = [getattr(found, name, None) for name in ("temperatures", "kappa_P", "kappa_C")]
        if not all(isinstance(x, (np.ndarray, jax.Array)) and not isinstance(x, jax.core.Tracer) for x in numbers):
            return fields_printed(self)
        T, total = np.asarray(found.temperatures), np.asarray(found.kappa_TOT if self.full is None else self.kappa)
        if T.ndim != 1 or total.shape != (len(T), 6):
            return fields_printed(self)
        kappa = _few([f"{k:.4g}" for k in average(total, self.crystal)])
        mesh = "×".join(map(str, self.mesh.dims))
        return f"Solution({formula(self.crystal)}, mesh {mesh}: κ {kappa} W/(m K) at {_few([f'{t:g}' for t in T])} K)"

    @property
    def kappa(self) -> np.ndarray:
        """κ_TOT (T, 6) W/(m K) by the transport equation that was asked for: populations of `full` where it is there, and
        coherences."""
        populations = self.conductivity.kappa_P if self.full is None else self.full.kappa_P
        return np.asarray(populations) + np.asarray(self.conductivity.kappa_C)

    @property
    def crystal(self) -> Crystal:
        """The primitive cell."""
        return self.plan.crystal

    @property
    def mesh(self) -> Mesh:
        """The q-mesh and its symmetry."""
        return self.plan.mesh

    def diagnostics(self) -> Diagnostics:
        """What κ rests on: residuals of the force constants, what the mesh does not resolve, modes left out."""
        from .physics.diagnostics import diagnose

        return diagnose(self)

    def bands(self) -> Bands | None:
        """Frequencies along the high-symmetry path; None where seekpath is not installed or finds no path."""
        from .physics.bands import phonon_bands

        return phonon_bands(self.plan, self.force_constants.fc2, self.nac)

    def datasets(self, bands: bool = True, spectra: PathSpectra | None = None) -> dict[str, Any]:
        """The datasets of the kappa file by name, as `save` writes and `wigner_jax.plot` draws them.

        Args:
            bands: whether frequencies along the high-symmetry path are among them.
            spectra: of `path_spectra`, to be among them.
        """
        from .io.kappa_hdf5 import kappa_datasets

        return kappa_datasets(self, self.bands() if bands else None, spectra)

    def save(
        self,
        path: str | Path,
        bands: bool = True,
        *,
        spectra: PathSpectra | None = None,
        more: dict[str, Array] | None = None,
    ) -> None:
        """Write the kappa file, in phono3py's HDF5 schema with the Wigner terms (`io.write_kappa_hdf5`).

        Args:
            bands, spectra: see `datasets`.
            more: datasets to be kept beside, by name: gamma_N and gamma_U of `normal_umklapp`, say.

        Raises:
            InputError: the file cannot be written.
        """
        from .io.kappa_hdf5 import write_datasets

        found = self.datasets(bands, spectra)
        write_datasets(path, found | {name: np.asarray(x) for name, x in (more or {}).items()})

    def plot(self, figure: str = "summary", temperature: float | None = None) -> Figure:
        """A figure by its name in `wigner_jax.plot.FIGURES`. Bands need seekpath (extra `plot`).

        Args:
            temperature: K, of what holds for one temperature; the one nearest to 300 K by default.
        """
        from .plot.figures import make_figure

        return make_figure(figure, self.datasets(), temperature)


def _few(words: list[str]) -> str:
    """With commas between them; the middle of a long list is left out."""
    return ", ".join(words if len(words) <= 6 else [*words[:3], "…", words[-1]])


__all__ = ["Solution"]
