"""Potentials in closed form: Tersoff for C, Si, Ge and their compounds; Stillinger–Weber silicon."""

from __future__ import annotations

from ..family import Family
from .published import CARDS

_MODEL, _FILES = f"{__name__}.model", f"{__name__}.files"
FAMILY = Family(
    name="closed form",
    energies=(f"{_MODEL}:tersoff_energy", f"{_MODEL}:stillinger_weber_energy"),
    endings=(".json",),
    read=f"{_FILES}:load_analytic",
    write=f"{_FILES}:write_analytic",
    needs_template=False,
    built_in={
        "tersoff-1989": f"{_MODEL}:tersoff",
        "tersoff-1988-si": f"{_MODEL}:tersoff",
        "stillinger-weber-si": f"{_MODEL}:stillinger_weber",
    },
    aliases={"tersoff": "tersoff-1989", "sw-si": "stillinger-weber-si"},
    cards=CARDS,
)
