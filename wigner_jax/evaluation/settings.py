"""What decides the numbers of an evaluation."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..errors import InputError

PROTOCOLS = ("k_srme", "matbench", "newton")
DERIVATIVES = ("ad", "finite-displacement")
GRUNEISEN = ("volumes", "strain", "third")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """What decides the numbers of a campaign."""

    potential: str  #: name or path, as given
    protocol: str = "k_srme"  #: of the relaxation: k_srme, matbench, newton
    derivatives: Literal["ad", "finite-displacement"] = "ad"  #: of the force constants: ad, finite-displacement
    distance: float = 0.03  #: Å, of finite displacements
    temperatures: tuple[float, ...] = (300.0,)  #: K
    boundary_mfp: float = 1e6  #: µm
    broadening: str = "tetrahedron"  #: tetrahedron or adaptive
    gruneisen: str | None = None  #: route to γ(T): volumes, strain, third; None: none
    gruneisen_reference: str | None = None  #: table of published γ, as given
    fmax: float = 1e-4  #: eV/Å, of the relaxation by FIRE (k_srme, matbench)

    def __post_init__(self) -> None:
        for value, name, allowed in (
            (self.protocol, "protocol", PROTOCOLS),
            (self.derivatives, "derivatives", DERIVATIVES),
            (self.broadening, "broadening", ("tetrahedron", "adaptive")),
            (self.gruneisen, "route to γ", (None, *GRUNEISEN)),
        ):
            if value not in allowed:
                raise InputError(f"unknown {name} {value!r}", f"choose from {', '.join(filter(None, allowed))}")
        if not 0 < self.fmax < float("inf"):
            raise InputError(f"fmax must be above 0 eV/Å, got {self.fmax:g}")
        if self.protocol == "newton" and self.fmax != EvaluationSettings.fmax:
            raise InputError("fmax stops FIRE: protocol newton goes down to rounding, leave fmax out")


__all__ = [
    "DERIVATIVES",
    "GRUNEISEN",
    "PROTOCOLS",
    "EvaluationSettings",
]
