"""Grüneisen parameters in a campaign: γ(T) of a material by the route asked for, and its error against a published one.

Errors are gamma_SRME's 2 ||γ| - |γ_D|| / (|γ| + |γ_D|); without a γ where the reference has one the error is 2. The
reference is a table of one γ per material at 300 K.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.reading import read_text, reading
from ..errors import InputError
from ..metrics import WORST, gamma_sre
from ..potentials.base import Potential
from ..thermodynamics.gruneisen import VolumeSteps, gruneisen_by_strain, gruneisen_by_third_order, gruneisen_by_volumes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ase
    from ase.calculators.calculator import Calculator

    from ..types import ForceConstants, Supercells
    from .settings import EvaluationSettings


REFERENCE_TEMPERATURE = 300.0  # K
COLUMN = "gamma_DFT"
GAMMA_COLUMNS = ("gamma", "gamma_reference", "gamma_SRE")


def read_gammas(source: str) -> dict[str, float]:
    """Published γ at 300 K by material, from a CSV file with the columns mp_id and gamma_DFT.

    Args:
        source: FILE, or FILE:COLUMN for another column, such as a potential's own published γ.

    Raises:
        InputError: no such file or column, something that is not a number, or two rows of one material.
    """
    name, column = source, COLUMN
    if not Path(source).is_file() and ":" in source:
        name, column = source.rsplit(":", 1)
    if not Path(name).is_file():
        raise InputError(f"no table of Grüneisen parameters {name}", "check the name")
    with reading(name, "a table of Grüneisen parameters"):
        rows = list(csv.DictReader(io.StringIO(read_text(name))))
    there = [c for c in (rows[0] if rows else {}) if c]
    for wanted in ("mp_id", column):
        if wanted not in there:
            raise InputError(f"{name} has no column {wanted!r} but {', '.join(there) or 'none'}")
    found = {}
    for row in rows:
        try:
            value = float(row[column]) if row[column] else None
        except ValueError as error:
            raise InputError(f"{name}: column {column!r} holds something else than numbers ({error})") from None
        if value is not None and not np.isfinite(value):
            raise InputError(f"{name}: column {column!r} holds {value} for {row['mp_id']}")
        if value is not None:
            if row["mp_id"] in found:
                raise InputError(f"{name} has {row['mp_id']} more than once", "remove the copies that are not meant")
            found[row["mp_id"]] = value
    return found


def gamma_start(settings: EvaluationSettings, mp_id: str) -> dict[str, Any]:
    """What a record says of γ before there is one; nothing if nobody asked."""
    if settings.gruneisen is None:
        return {}
    count = len(settings.temperatures)
    known = None
    if settings.gruneisen_reference is not None:
        known = read_gammas(settings.gruneisen_reference).get(mp_id)
    at = [known is not None and abs(t - REFERENCE_TEMPERATURE) < 1e-6 for t in settings.temperatures]
    return {
        "gamma": [None] * count,
        "gamma_protocol": {"route": settings.gruneisen},
        "gamma_reference": [known if here else None for here in at],
        "gamma_SRE": [WORST if here else None for here in at],
        "gamma_failure": None,
    }


def gamma_of(
    atoms: ase.Atoms, potential: Potential | Calculator, harmonic: tuple[Supercells, ForceConstants], settings: EvaluationSettings,
    record: dict[str, Any],
) -> None:  # fmt: skip
    """γ(T), its protocol and its errors into the record, with mode_gruneisen (P, m); what goes wrong is a line in it.

    Args:
        atoms: relaxed, with fc2_supercell and q_mesh in its info.
        harmonic: its cells and force constants.
    """
    cells, constants = harmonic
    mesh = [int(n) for n in np.ravel(atoms.info["q_mesh"])]
    try:
        if settings.gruneisen == "third":
            found = gruneisen_by_third_order(cells, constants, mesh)
        elif settings.gruneisen == "strain":
            if not isinstance(potential, Potential):
                raise InputError("a derivative by strain needs a JAX potential", "choose the route volumes")
            found, _ = gruneisen_by_strain(cells, potential, mesh)
        else:
            distance = settings.distance if settings.derivatives == "finite-displacement" else None
            options = VolumeSteps(distance=distance)
            found, report = gruneisen_by_volumes(atoms, potential, mesh, options)
            record["gamma_protocol"] |= {
                "step": options.step,
                "distance": options.distance,
                "fmax": options.fmax,
                "volumes": report.volumes,
                "imaginary": report.imaginary,
                "message": report.message,
            }
    except (InputError, ValueError, ArithmeticError, RuntimeError, MemoryError, OSError) as error:
        record["gamma_failure"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return
    record["gamma"] = np.asarray(found.average(settings.temperatures)).tolist()
    record["mode_gruneisen"] = found.modes
    for k, (one, known) in enumerate(zip(record["gamma"], record["gamma_reference"], strict=True)):
        if known is not None:
            record["gamma_SRE"][k] = float(gamma_sre(one, known))


def gamma_columns(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Those of the table that belong to γ, if any row has one: a campaign without keeps the table it had."""
    return tuple(name for name in GAMMA_COLUMNS if any(row.get(name) is not None for row in rows))


def gamma_summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean error of γ and the number of materials behind it; nothing without."""
    errors = [row["gamma_SRE"] for row in rows if row.get("gamma_SRE") is not None]
    return {"gamma_SRE": float(np.mean(errors)), "gamma_materials": len(errors)} if errors else {}


__all__ = [
    "GAMMA_COLUMNS",
    "gamma_columns",
    "gamma_of",
    "gamma_start",
    "gamma_summary",
    "read_gammas",
]
