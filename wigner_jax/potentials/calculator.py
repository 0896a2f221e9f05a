"""Any potential of the package as an ASE calculator: molecular dynamics, ASE's relaxations, comparison with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ..checks import require_double_precision
from .base import Potential
from .evaluate import energy_forces_stress
from .neighbor_list import build_graph
from .registry import load_potential

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import ase


class WignerCalculator(Calculator):
    """ASE calculator of a `Potential`: energy, free_energy (the same), forces and stress, in double precision.

        atoms.calc = WignerCalculator("tersoff-1989")        a name or file as for load_potential, or a potential

    The structure must be periodic in three directions. Neighbour lists are made anew for every geometry and padded to
    the largest size met so far with that number of atoms, so that a trajectory compiles once, or a few times while the
    list still grows.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 (ASE's declaration)

    def __init__(self, potential: Potential | str | os.PathLike[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_double_precision()
        self.potential = potential if isinstance(potential, Potential) else load_potential(potential)
        self._room: dict[int, tuple[int, int]] = {}  # atoms: (edges, angles)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        graph, _ = build_graph(self.atoms, self.potential)
        edges, angles = self._room.get(graph.n_atoms, (0, 0))
        room = (max(edges, len(graph.senders)), max(angles, len(graph.angles)))
        self._room[graph.n_atoms] = room
        energy, forces, stress = energy_forces_stress(self.potential, graph.padded(*room))
        self.results = {
            "energy": float(energy),
            "free_energy": float(energy),
            "forces": np.asarray(forces),
            "stress": full_3x3_to_voigt_6_stress(np.asarray(stress)),
        }


__all__ = [
    "WignerCalculator",
]
