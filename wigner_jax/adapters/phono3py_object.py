"""`solve_phono3py`: the Wigner conductivity of a Phono3py object, in memory."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .._solve import SCATTERING, make_plan, solve
from ..checks import check_precision, check_transport, require_double_precision
from ..crystal.defaults import default_mesh
from ..io.constants.peer import from_phono3py
from ..physics.broadening.tetrahedron import Tetrahedron
from ..physics.domain import check_options, temperature_array
from ..physics.nac import make_nac
from ..pipeline import Report
from ..plan.generalized_mesh import generalized_mesh
from ..plan.mesh import mesh_dims
from ..types import BornCharges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..physics.pairs import Broadening
    from ..physics.phonons import LongRange
    from ..solution import Solution
    from ..types import Precision, Scattering, Transport


def solve_phono3py(
    ph3: Any,
    temperatures: Sequence[float] = (300.0,),
    *,
    mesh: Sequence[int] | None = None,
    broadening: Broadening | None = None,
    scattering: Scattering = SCATTERING,
    nac: LongRange | BornCharges | Literal["source"] | None = "source",
    allow_imaginary: bool = False,
    precision: Precision = "double",
    transport: Transport = "rta",
    progress: Callable[[int, int], None] | None = None,
) -> Solution:
    """The Wigner conductivity with the force constants of a ``phono3py.Phono3py`` object (3.30 or later).

        ph3 = phono3py.load("phono3py_params.yaml", produce_fc=True)
        solution = solve_phono3py(ph3, (100, 300, 600), mesh=(19, 19, 19))
        solution.save("kappa-m191919.hdf5")       phono3py's schema

    Cells, masses, fc2, fc3 (compact or full) and charges are the object's, in the units of its calculator; the object is not
    changed. What it would have computed differs where degenerate modes meet: see "Coming from phono3py" in the documentation.

    Args:
        ph3: with force constants; `mesh_numbers` need not be set.
        temperatures: K.
        mesh: of the primitive cell; by default that of the object (a generalised regular grid too: `generalized_mesh`), else one
            35 Å long.
        broadening: the linear tetrahedron method unless given, as phono3py's default, on generalised grids symmetrised; ``Gaussian(0.1)`` for its ``sigma``.
        scattering: three phonons and isotopes at natural abundance unless given; ``Scattering(None)`` as its default is.
        nac: "source" corrects if the object has `nac_params` (Gonze and Lee's way); charges, a correction, or None.
        allow_imaginary, precision, transport, progress: see `solve`.

    Returns:
        the solution, with crystal, mesh and force constants.

    Raises:
        InputError: no force constants, bad input or imaginary modes; ValueError: double precision is off.
    """
    require_double_precision()
    check_precision(precision)
    check_transport(transport, 0)
    temperature_array(temperatures)
    check_options(broadening, scattering, nac, charges=True)
    mesh = None if mesh is None else mesh_dims(mesh)
    given = from_phono3py(ph3)
    matrix = getattr(getattr(ph3, "grid", None), "grid_matrix", None)
    cells, dims = given.supercells, mesh or given.mesh or default_mesh(given.supercells.crystal)
    general = mesh is None and matrix is not None and np.any(np.asarray(matrix) != np.diag(np.diag(matrix)))
    if general:
        cells, dims = generalized_mesh(cells, np.asarray(matrix).T)  # its columns are the supercell's vectors
    plan = make_plan(cells, dims)
    if general and broadening is None:
        broadening = Tetrahedron.for_plan(plan, symmetrized=True)
    if isinstance(nac, str):
        nac = given.born
    if isinstance(nac, BornCharges):
        nac = make_nac(cells, nac)
    solution = solve(
        plan, given.force_constants, temperatures, broadening=broadening, scattering=scattering, nac=nac,
        allow_imaginary=allow_imaginary, progress=progress, precision=precision, transport=transport,
    )  # fmt: skip
    return dataclasses.replace(solution, report=Report(given.origin, "", "given"))


__all__ = ["solve_phono3py"]
