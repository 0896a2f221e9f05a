"""What a file of force constants holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ...types import BornCharges, ForceConstants, Supercells


class GivenConstants(NamedTuple):
    """Force constants from a file, with all that the solver needs beside them.

    Attributes:
        supercells: the crystal and the supercells of Φ2 and Φ3.
        force_constants: Φ2 and Φ3.
        born: charges of the non-analytic correction, or None.
        mesh: the q-mesh that their structure named, or None.
        origin: where they come from, in words.
        reach: how far the energy of an atom sees in the model that made them, Å; NaN where unknown.
    """

    supercells: Supercells
    force_constants: ForceConstants
    born: BornCharges | None = None
    mesh: tuple[int, ...] | None = None
    origin: str = ""
    reach: float = float("nan")
