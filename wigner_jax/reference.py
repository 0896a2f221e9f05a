"""Mode-resolved conductivities that others are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._core.pytree import host_data
from .errors import InputError
from .types import Mesh

if TYPE_CHECKING:
    from collections.abc import Sequence


@host_data
class Reference:
    """Conductivity of one solid on the irreducible points of its mesh. Host data.

    Mode values hold the star of each point: Σ mode_kappa / Σ weights = kappa.

    Attributes:
        mp_id: Materials Project number.
        name: of the solid.
        space_group: international number.
        mesh: dimensions.
        temperatures: (T,) K.
        qpoints: (P, 3) fractional.
        weights: (P,) int.
        frequencies: (P, m) THz.
        heat_capacity: (T, P, m) eV/K.
        mode_kappa: (T, P, m) W/(m K), a third of the trace.
        kappa: (T,) W/(m K), a third of the trace.
    """

    mp_id: str
    name: str
    space_group: int
    mesh: tuple[int, int, int]
    temperatures: np.ndarray  #: (T,) K
    qpoints: np.ndarray  #: (P, 3) fractional
    weights: np.ndarray  #: (P,) int
    frequencies: np.ndarray  #: (P, m) THz
    heat_capacity: np.ndarray  #: (T, P, m) eV/K
    mode_kappa: np.ndarray  #: (T, P, m) W/(m K), a third of the trace
    kappa: np.ndarray  #: (T,) W/(m K), a third of the trace

    def at(self, temperature: float) -> int:
        """Index of a temperature; InputError if the reference does not have it."""
        near = np.flatnonzero(np.abs(self.temperatures - temperature) < 1e-6)
        if len(near) == 0:
            known = ", ".join(f"{t:g}" for t in self.temperatures)
            raise InputError(
                f"the reference of {self.name} has no temperature {temperature:g} K", f"choose from {known}"
            )
        return int(near[0])

    def require_mesh(self, mesh: Mesh | Sequence[int], qpoints: np.ndarray | None = None) -> None:
        """InputError unless the mesh is the reference's.

        Args:
            mesh: a mesh, whose irreducible points are compared too, one by one; or its dimensions alone.
            qpoints: irreducible points to compare where `mesh` is dimensions. (P, 3)
        """
        if isinstance(mesh, Mesh):
            qpoints = np.asarray(mesh.qpoints)[np.asarray(mesh.irreducible)]
        given = tuple(int(n) for n in (mesh.dims if isinstance(mesh, Mesh) else mesh))
        if given != self.mesh:
            raise InputError(
                f"the reference of {self.name} is on the mesh {' '.join(map(str, self.mesh))}, not"
                f" {' '.join(map(str, given))}: modes are compared one by one"
            )
        if qpoints is not None:
            difference = np.asarray(qpoints) - self.qpoints if len(qpoints) == len(self.qpoints) else np.array(np.inf)
            if not np.abs(difference - np.rint(difference)).max() < 1e-6:
                raise InputError(
                    f"the irreducible points of {self.name} are not those of the reference", "use its primitive cell"
                )


__all__ = [
    "Reference",
]
