"""The domain of the solver: what can be solved, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.as_numbers import real_numbers
from .._core.tiling import Tiling
from ..checks import require_double_precision, require_finite, temperatures_above_zero
from ..errors import InputError
from ..plan.dipoles import require_charges
from ..types import BornCharges, Scattering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.pytree import Array
    from ..types import ForceConstants, Plan
    from .pairs import Broadening
    from .phonons import LongRange


def is_concrete(*values: Any) -> bool:
    """Whether these hold numbers, not the abstract values of a transformation such as jit or grad."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def temperature_array(temperatures: Sequence[float] | Array | float) -> Array:
    """Temperatures as an array, (T,) K; a single number is one temperature.

    Raises:
        InputError: no numbers (text, iterators), more than one axis, or one that is not above 0 K. Values that only a
            transformation knows are not looked at.
    """
    remedy = "give numbers in K, such as (100.0, 300.0)"
    if hasattr(temperatures, "__next__") or is_concrete(temperatures):
        try:
            array = np.asarray(temperatures)
        except ValueError:  # ragged
            array = np.asarray(None)
        if array.dtype.kind not in "iuf" or array.ndim > 1:
            raise InputError(f"temperatures are {_in_short(temperatures)}", remedy)
        temperatures_above_zero(np.ravel(array).tolist())
        return jnp.asarray(np.atleast_1d(array), float)
    traced = jnp.asarray(temperatures, float)
    if traced.ndim > 1:
        raise InputError(f"temperatures have the shape {traced.shape}", remedy)
    return jnp.atleast_1d(traced)


def check_ways(tiling: Any, heat_capacity_matrix: Any) -> None:
    """Raises InputError unless these are a `Tiling` or None, and a function."""
    if not (tiling is None or isinstance(tiling, Tiling)):
        raise InputError(f"tiling is {_in_short(tiling)}", "leave it out, or give a Tiling")
    if not callable(heat_capacity_matrix):
        raise InputError(
            f"heat_capacity_matrix is {_in_short(heat_capacity_matrix)}",
            "give wigner_heat_capacity or another function",
        )


def check_options(
    broadening: Broadening | None, scattering: Scattering, nac: Any = None, *, charges: bool = False
) -> None:
    """Refuse options of another kind, and numbers outside their domain where they are concrete.

    Args:
        nac: a `LongRange` or None.
        charges: whether `nac` may also be "source" or BornCharges, as for `pipeline.conductivity`.

    Raises:
        InputError: with what is expected.
    """
    if broadening is not None and (isinstance(broadening, type) or not hasattr(broadening, "three_phonon")):
        remedy = "give Tetrahedron.for_plan(plan), AdaptiveGaussian() or Gaussian(sigma)"
        raise InputError(f"broadening is {_in_short(broadening)}", remedy)
    if not isinstance(scattering, Scattering):
        remedy = "give Scattering(), or Scattering(isotope=None) for three phonons alone"
        raise InputError(f"scattering is {_in_short(scattering)}", remedy)
    _check_nac(nac, charges)
    widths = [name for name in ("sigma", "scale", "floor") if hasattr(broadening, name)]
    numbers = [(f"{name} of the broadening", getattr(broadening, name)) for name in widths]
    if scattering.boundary_mfp is not None:
        numbers.append(("Scattering.boundary_mfp", scattering.boundary_mfp))
    for name, value in numbers:
        if is_concrete(value):
            number = np.asarray(value)
            if number.dtype.kind not in "iuf" or number.shape != () or not (np.isfinite(number) and number > 0):
                raise InputError(f"{name} is {_in_short(value)}", "give one positive number")


def _check_nac(nac: Any, charges: bool) -> None:
    """The part of `check_options` on the non-analytic correction."""
    if not charges and isinstance(nac, BornCharges):
        raise InputError("nac is BornCharges", "make a correction of them: make_nac(supercells, charges)")
    known = isinstance(nac, BornCharges) or (isinstance(nac, str) and nac == "source") if charges else False
    if not known and nac is not None and (isinstance(nac, type) or not hasattr(nac, "lattice_term")):
        more = '"source", BornCharges, ' if charges else ""
        raise InputError(f"nac is {_in_short(nac)}", f"give {more}a correction that make_nac has made, or None")


def _in_short(value: Any) -> str:
    text = value.__name__ if isinstance(value, type) else repr(value)
    return text if len(text) <= 60 else f"{text[:50]} ... of the type {type(value).__name__}"


def _check_correction(plan: Plan, nac: LongRange | None) -> None:
    """Raises InputError if the dipole sum would be taken out of another supercell than that of Φ2."""
    dipoles = getattr(nac, "plan", None)
    if dipoles is None or not is_concrete(dipoles):
        return
    cells = plan.fc2_table.supercell_atoms // plan.crystal.n_atoms
    found = round(1 / float(np.max(dipoles.weights)))  # Γ has no equivalents: its share is one of all points
    same = found == cells
    if same and plan.supercells is not None:
        phases = np.asarray(dipoles.commensurate) @ plan.supercells.fc2_supercell.matrix.T
        same = bool(np.abs(phases - np.rint(phases)).max() < 1e-6)
    if not same:
        raise InputError(
            f"nac was made for a supercell of {found} primitive cells, Φ2 is of {'another of ' if found == cells else ''}{cells}",
            "make it with make_nac(supercells, charges) of the same supercells",
        )


CELL = "check which supercell they are for"


def _require_array(name: str, array: Any, shape: tuple[int, ...], remedy: str) -> None:
    """Raises InputError unless it has this shape and holds real, finite numbers in the machine's order of bytes."""
    if np.shape(array) != shape:
        raise InputError(f"{name}: shape {np.shape(array)} where the plan has {shape}", remedy)
    dtype = array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)) or not dtype.isnative:
        order = "" if dtype.isnative else " in another order of bytes"
        raise InputError(f"{name}: numbers of the type {dtype.name}{order}", "give real ones: np.asarray(x, float)")
    if is_concrete(array):
        require_finite(array, name)


def check_harmonic(plan: Plan, fc2: Any, nac: LongRange | None) -> None:
    """The part of `check_problem` that phonons need.

    Raises:
        InputError: a plan, Φ2 or charges that are none, of other shapes or outside their domain; ValueError: double precision
            is off.
    """
    require_double_precision()
    if not hasattr(plan, "fc2_table"):
        raise InputError(f"the plan is {_in_short(plan)}", "make one with make_plan(supercells, mesh)")
    if fc2 is None:
        raise InputError("there is no Φ2", "give ForceConstants(fc2, fc3)")
    _check_nac(nac, charges=False)
    n = plan.crystal.n_atoms
    _require_array("Φ2", fc2, (n, plan.fc2_table.supercell_atoms, 3, 3), CELL)
    born = getattr(nac, "born", None)
    if born:
        remedy = "give the charges of the atoms of the primitive cell"
        _require_array("Born charges", born.charges, (n, 3, 3), remedy)
        _require_array("the dielectric tensor", born.dielectric, (3, 3), remedy)
    _check_correction(plan, nac)
    if is_concrete(plan.crystal.masses) and not np.all(real_numbers(plan.crystal.masses, "the masses") > 0):
        raise InputError("a mass is not above 0", "check the masses of the crystal")
    if born and is_concrete(born):
        require_charges(born)


def check_problem(
    plan: Plan,
    fc: ForceConstants,
    temperatures: Sequence[float] | Array,
    broadening: Broadening | None,
    scattering: Scattering,
    nac: LongRange | None,
) -> None:
    """Refuse what cannot be solved: options of another kind, arrays of other shapes than the plan's or of no real numbers,
    numbers outside their domain.

    Shapes and precision are known under jit and grad too and checked there; numbers only where they are concrete.

    Raises:
        InputError: see above; ValueError: double precision is off.
    """
    check_harmonic(plan, getattr(fc, "fc2", None), nac)
    check_options(broadening, scattering, nac)
    temperature_array(temperatures)
    if not hasattr(fc, "fc3"):
        raise InputError(f"the force constants are {_in_short(fc)}", "give ForceConstants(fc2, fc3)")
    n, N3 = plan.crystal.n_atoms, plan.fc3_table.supercell_atoms
    _require_array("Φ3", fc.fc3, (n, N3, N3, 3, 3, 3), CELL)
    variances = scattering.variances(plan)
    if variances is not None:
        _require_array("Scattering.isotope", variances, (n,), "give one mass variance for each atom")
    if is_concrete(variances) and variances is not None and not np.all(np.asarray(variances) >= 0):
        raise InputError("Scattering.isotope holds negative mass variances", "give variances of the relative masses")
