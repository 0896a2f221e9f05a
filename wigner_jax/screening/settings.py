"""What decides the numbers of a screening, and the rules for what is not named."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Literal

from ..checks import check_precision, positive_integers, temperatures_above_zero
from ..crystal.defaults import mesh_of_points
from ..errors import InputError

if TYPE_CHECKING:
    from ..physics.pairs import Broadening
    from ..types import Crystal, Plan, Precision

POINTS = 13_718  # q-points times atoms: 19×19×19 for two atoms
COARSER = 16  # times fewer points in the first of two stages: 8×8×8 for two atoms
LIMITS = ("max_memory", "max_evaluations")
LEAST = 3  # points along an axis that are left, where there were as many
BROADENINGS = ("tetrahedron", "adaptive")


@dataclasses.dataclass(frozen=True)
class ScreenSettings:
    """What decides the numbers of a screening.

    Attributes:
        temperatures: K.
        mesh: the same q-mesh for all; None: what a structure's info names (``q_mesh``), else by `mesh_points`.
        mesh_points: q-points times atoms of the primitive cell (`mesh_of_points`): the same density of points for crystals
            of equal volume per atom, and the same mesh for all crystals with one shape of cell, so that they share programs.
        fc2_supercell, fc3_supercell: for all, in units of the given cells; None: what a structure's info names, else the
            smallest multiples of the conventional cell whose faces are 10 Å (Φ2) and 8 Å (Φ3) apart or more.
        relax: cell and atoms within the symmetry first.
        derivatives: "ad" or "finite-displacement"; None: as the potential's card recommends.
        symprec: Å, snaps structures onto the space group that they have within it; None: 1e-5, not snapped.
        broadening: "tetrahedron" (linear) or "adaptive" (Gaussian).
        boundary_mfp: µm; None: no boundaries.
        precision: "double", or "mixed" (see `solve`).
        max_memory: GB that one material may take; None: what this machine has.
        max_evaluations: derivatives of the potential that the force constants of one material may take.
        coarse: the first of two stages; see `coarser`.
    """

    temperatures: tuple[float, ...] = (300.0,)
    mesh: tuple[int, ...] | None = None
    mesh_points: int = POINTS
    fc2_supercell: tuple[int, ...] | None = None
    fc3_supercell: tuple[int, ...] | None = None
    relax: bool = True
    derivatives: Literal["ad", "finite-displacement"] | None = None
    symprec: float | None = None
    broadening: str = "tetrahedron"
    boundary_mfp: float | None = None
    precision: Precision = "double"
    max_memory: float | None = None
    max_evaluations: int = 20_000
    coarse: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "temperatures", tuple(float(t) for t in temperatures_above_zero(self.temperatures)))
        for name in ("mesh", "fc2_supercell", "fc3_supercell"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, positive_integers(value, name))
        check_precision(self.precision)
        if self.broadening not in BROADENINGS:
            raise InputError(f"unknown broadening {self.broadening!r}", f"choose from {', '.join(BROADENINGS)}")
        if self.derivatives not in (None, "ad", "finite-displacement"):
            raise InputError(f"unknown derivatives {self.derivatives!r}", "choose ad or finite-displacement")
        for name in ("mesh_points", "symprec", "boundary_mfp", "max_memory", "max_evaluations"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise InputError(f"{name} must be above zero, got {value}")

    def deciding(self) -> dict[str, Any]:
        """What decides the numbers, as JSON values."""
        chosen = {k: v for k, v in json.loads(json.dumps(dataclasses.asdict(self))).items() if k not in LIMITS}
        if self.precision == "double":  # as in folders from before there was a choice
            del chosen["precision"]
        return chosen

    def limits(self) -> list[float | None]:
        """What decides which materials are left out."""
        return [getattr(self, name) for name in LIMITS]

    def coarser(self) -> ScreenSettings:
        """Of the first of two stages: any mesh with `COARSER` times fewer points."""
        return dataclasses.replace(self, coarse=True)

    def mesh_of(self, crystal: Crystal, given: tuple[int, ...] | None) -> tuple[int, int, int]:
        """The q-mesh of a crystal, whose structure names the mesh `given`."""
        a, b, c = self.mesh or given or mesh_of_points(crystal, self.mesh_points / crystal.n_atoms)
        if self.coarse:
            a, b, c = (max(min(n, LEAST), round(n / COARSER ** (1 / 3))) for n in (a, b, c))
        return a, b, c

    def broadening_for(self, plan: Plan) -> Broadening:
        from ..physics.broadening.gaussian import AdaptiveGaussian
        from ..physics.broadening.tetrahedron import Tetrahedron

        return AdaptiveGaussian() if self.broadening == "adaptive" else Tetrahedron.for_plan(plan)


__all__ = ["BROADENINGS", "COARSER", "POINTS", "ScreenSettings"]
