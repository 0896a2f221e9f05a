"""A potential with the numbers that are trained, and those that stay."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..potentials.base import Energy, Params


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """The energy with its split parameters (`adapter.adapt`)."""

    energy: Energy  # of (trained, frozen)
    trained: Params
    frozen: Params


__all__ = [
    "Model",
]
