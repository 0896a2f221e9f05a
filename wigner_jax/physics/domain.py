"""The domain of the solver: what can be solved, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ..checks import require_double_precision, require_finite, temperatures_above_zero
from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.pytree import Array
    from ..types import ForceConstants, Plan, Scattering
    from .pairs import Broadening
    from .phonons import LongRange


def is_concrete(*values: Any) -> bool:
    """Whether these hold numbers, not the abstract values of a transformation such as jit or grad."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def check_problem(
    plan: Plan,
    fc: ForceConstants,
    temperatures: Sequence[float] | Array,
    broadening: Broadening | None,
    scattering: Scattering,
    nac: LongRange | None,
) -> None:
    """Refuse what cannot be solved: arrays of other shapes than the plan's, numbers outside their domain.

    Shapes and precision are known under jit and grad too and checked there; numbers only where they are concrete.

    Raises:
        InputError: see above; ValueError: double precision is off.
    """
    require_double_precision()
    n, N2, N3 = plan.crystal.n_atoms, plan.fc2_table.supercell_atoms, plan.fc3_table.supercell_atoms
    expected: list[tuple[str, Any, tuple[int, ...], str]] = [
        ("Φ2", fc.fc2, (n, N2, 3, 3), "check which supercell they are for"),
        ("Φ3", fc.fc3, (n, N3, N3, 3, 3, 3), "check which supercell they are for"),
    ]
    variances = scattering.variances(plan)
    if variances is not None:
        expected.append(("Scattering.isotope", variances, (n,), "give one mass variance for each atom"))
    if born := getattr(nac, "born", None):
        remedy = "give the charges of the atoms of the primitive cell"
        expected.append(("Born charges", born.charges, (n, 3, 3), remedy))
        expected.append(("the dielectric tensor", born.dielectric, (3, 3), remedy))
    for name, array, shape, remedy in expected:
        if np.shape(array) != shape:
            raise InputError(f"{name}: shape {np.shape(array)} where the plan has {shape}", remedy)
        if is_concrete(array):
            require_finite(array, name)
    if is_concrete(plan.crystal.masses) and not np.all(np.asarray(plan.crystal.masses) > 0):
        raise InputError("a mass is not above 0", "check the masses of the crystal")
    if is_concrete(temperatures):
        temperatures_above_zero(np.ravel(np.asarray(temperatures)).tolist())
    if is_concrete(variances) and variances is not None and not np.all(np.asarray(variances) >= 0):
        raise InputError("Scattering.isotope holds negative mass variances", "give variances of the relative masses")
    for name, value in (
        ("Scattering.boundary_mfp", scattering.boundary_mfp),
        ("sigma of the broadening", getattr(broadening, "sigma", None)),
    ):
        if value is not None and is_concrete(value):
            number = np.asarray(value)
            if number.shape != () or not (np.isfinite(number) and number > 0):
                raise InputError(f"{name} is {value}", "give one positive number")
