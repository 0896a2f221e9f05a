"""The MACE model that comes with the package. What it was trained on and its errors are in the .md file beside it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ..crystal.elements import SYMBOLS
from . import mace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


NAME = "mace-bundled"
FILE: Path = mace.FAMILY.built_in[NAME]
#: Compounds it was trained on, one atom of each element to one of the other
COMPOUNDS = ("Si", "LiBr", "NaCl", "MgO", "LiCl", "NaBr", "CaO", "Ge", "GaAs", "AlAs")


def covers(numbers: Sequence[int]) -> bool:
    """Whether these atoms make one of its compounds: elements that it knows are not enough."""
    counts = Counter(SYMBOLS[int(z)] for z in numbers)
    names = {"".join(counts), "".join(reversed(list(counts)))}
    return len(set(counts.values())) == 1 and not names.isdisjoint(COMPOUNDS)
