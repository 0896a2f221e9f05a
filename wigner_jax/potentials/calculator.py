"""Any potential of the package as an ASE calculator: molecular dynamics, ASE's relaxations, comparison with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ..checks import require_double_precision
from .base import Potential
from .neighbor_list import build_graph
from .registry import load_potential

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    import ase

    from .._core.pytree import Array
    from .graph import Graph


@jax.jit
def energy_forces_stress(potential: Potential, graph: Graph) -> tuple[Array, Array, Array]:
    """E, forces and stress of one cell; compiled once per potential and shape of the graph.

        F_i = -∂E/∂x_i,    σ = (1/V) ∂E/∂ε at the deformation x → x (1 + ε), symmetrised (ASE's sign: compression < 0)

    Returns:
        energy () eV, forces (N, 3) eV/Å, stress (3, 3) eV/Å³.
    """

    def deformed(positions: Array, strain: Array) -> Array:
        return potential.energy(potential.params, graph.at(positions).strained(strain))

    energy, (slope, virial) = jax.value_and_grad(deformed, argnums=(0, 1))(
        jnp.asarray(graph.positions), jnp.zeros((3, 3))
    )
    volume = jnp.abs(jnp.linalg.det(jnp.asarray(graph.cell)))
    return energy, -slope, 0.5 * (virial + virial.T) / volume


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
        self._room: dict[int, tuple[int, int]] = {}  # atoms: (edges, triplets)

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        graph, _ = build_graph(self.atoms, self.potential)
        edges, triplets = self._room.get(graph.n_atoms, (0, 0))
        room = (max(edges, len(graph.senders)), max(triplets, len(graph.angles)))
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
    "energy_forces_stress",
]
