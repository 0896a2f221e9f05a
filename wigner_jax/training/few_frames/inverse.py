"""Force constants from a reference's modes: Φ2 from frequencies, Φ3 from mode conductivities.

A table of frequencies and mode conductivities (`io.phonondb.Reference`) says nothing about forces. What it says about force
constants near known ones, those of a potential, is found here in the independent parameters c of Φ = C c (`ifc.displacement_patterns`),
measured from their start c0 in units of its size, x = (c - c0)/|c0|:

    Φ2:  Σ_qs w_q (f|f| - F|F|)² / (2 f̄)² + p² |x|²           F: frequencies of the reference, f̄ their root mean square
    Φ3:  Σ_qs K ln²(k/K) / Σ K + 10 ln²(Σk/ΣK) + p² |x|²        K: mode conductivities of the reference

The restraint p holds what the modes leave open. Frequencies are compared in ascending order. Far away from the reference, bands
would be taken for one another: p of Φ2 is lowered in steps, each from where the last one ended.

With the potential that is to have these force constants, `frames_from_force_constants` makes frames of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import least_squares, minimize

from ... import metrics
from ..._solve import Scattering, linewidths, phonons_of
from ...errors import InputError
from ...ifc.least_squares import apply, design_transpose, expand, normal_solve
from ...physics.broadening.tetrahedron import Tetrahedron
from ...physics.conductivity import conductivity
from ...physics.phonons import frequencies_and_eigenvectors
from ...types import ForceConstants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..._core.pytree import Array
    from ...ifc.displacement_patterns import Fit
    from ...physics.pairs import Broadening
    from ...reference import Reference
    from ...types import Plan


RESTRAINTS = (0.1, 0.03, 0.01, 1e-3, 1e-4)
FC3_RESTRAINT = 1e-3**0.5
WHOLE = 10.0  # weight of κ beside that of the modes
FLOOR = 1e-3  # of the mean mode conductivity, added to both sides of the logarithm
STIFFNESS = 500.0  # L-BFGS starts with steps of length one: x in units of 1/500


class FC2Found(NamedTuple):
    """Φ2 with the frequencies of a reference."""

    fc2: Array  #: compact, eV/Å²
    largest_error: float  #: THz, of all frequencies
    change: float  #: |c - c0|/|c0|

    def __repr__(self) -> str:
        return f"FC2Found(largest error {self.largest_error:.2e} THz, change {self.change:.4f})"


class FC3Found(NamedTuple):
    """Φ3 with the mode conductivities of a reference."""

    fc3: Array  #: compact, eV/Å³
    srme: float  #: against the reference
    kappa: float  #: W/(m K), a third of the trace
    change: float  #: |c - c0|/|c0|

    def __repr__(self) -> str:
        return f"FC3Found(κ {self.kappa:.4f} W/(m K), SRME {self.srme:.4f}, change {self.change:.4f})"


def parameters(fit: Fit, phi: Array) -> Array:
    """c of Φ = C c, of force constants with the crystal's symmetry. (n_b,)"""
    c = normal_solve(fit, design_transpose(fit, apply(fit, phi)))
    return c + normal_solve(fit, design_transpose(fit, apply(fit, phi - expand(fit, c))))


def fc2_from_frequencies(
    plan: Plan,
    fit: Fit,
    start: Array,
    reference: Reference,
    *,
    restraints: Sequence[float] = RESTRAINTS,
    report: Callable[[str], None] = lambda _: None,
) -> FC2Found:
    """Φ2 whose frequencies are the reference's, near `start`: the module's docstring.

    Without long-range dipoles: the reference must be without a non-analytic term, too.

    Args:
        plan: on the reference's mesh.
        fit: patterns of Φ2 (`ifc.displacement_patterns.plan_fit`), whose basis is used.
        start: compact Φ2 in the plan's supercell. (n, N, 3, 3)
        restraints: p, from strong to weak.
        report: takes a line for every restraint.

    Raises:
        InputError: a plan on another mesh.
    """
    qpoints = _points(plan, reference)
    fit, plan = jax.device_put((fit, plan))
    c0 = parameters(fit, jnp.asarray(start))
    size = float(jnp.linalg.norm(c0))
    expected = np.asarray(reference.frequencies)
    weights = np.sqrt(reference.weights / reference.weights.sum())[:, None] * np.ones(expected.shape[1])
    weights[np.linalg.norm(qpoints, axis=1) < 1e-9, :3] = 0.0  # acoustic modes at Γ
    mean = float(np.sqrt(np.mean(expected**2)))

    @jax.jit
    def frequencies(x: Array) -> Array:
        second = expand(fit, c0 + size * x)
        return frequencies_and_eigenvectors(jnp.asarray(qpoints), second, plan.crystal, plan.fc2_table, None)[0]

    slopes = jax.jit(jax.jacfwd(frequencies))

    def residuals(x: np.ndarray) -> np.ndarray:
        f = np.asarray(frequencies(x))
        return (weights * (f * np.abs(f) - expected * np.abs(expected)) / (2 * mean)).ravel()

    def jacobian(x: np.ndarray) -> np.ndarray:
        scale = weights * np.abs(np.asarray(frequencies(x))) / mean
        return (scale[..., None] * np.asarray(slopes(x))).reshape(-1, len(x))

    x, largest = np.zeros(len(c0)), np.inf
    for restraint in restraints:
        x = least_squares(
            lambda x, p=restraint: np.concatenate([residuals(x), p * x]), x,
            lambda x, p=restraint: np.concatenate([jacobian(x), p * np.eye(len(x))]), max_nfev=60,
        ).x  # fmt: skip
        largest = float(np.abs((weights > 0) * (np.asarray(frequencies(x)) - expected)).max())
        report(f"restraint {restraint:g}: largest error {largest:.2e} THz, change {np.linalg.norm(x):.4f}")
    return FC2Found(expand(fit, c0 + size * x), largest, float(np.linalg.norm(x)))


def fc3_from_mode_kappa(
    plan: Plan,
    fit: Fit,
    second: Array,
    start: Array,
    reference: Reference,
    temperature: float = 300.0,
    *,
    broadening: Broadening | None = None,
    iterations: int = 15,
    report: Callable[[str], None] = lambda _: None,
) -> FC3Found:
    """Φ3 whose mode conductivities are the reference's, near `start`, with Φ2 and all that follows from it fixed.

    L-BFGS with the derivative of the solver; isotopes at natural abundance. The best point met is returned.

    Args:
        plan: on the reference's mesh.
        fit: patterns of Φ3 (`ifc.displacement_patterns.plan_fit`), whose basis is used.
        second, start: compact Φ2 and Φ3 in the plan's supercells.
        temperature: one of the reference's, K.
        broadening: tetrahedra with capacity for changes unless given.
        iterations: at most. One costs a value and gradient of κ, sometimes two.
        report: takes a line for every evaluation.

    Raises:
        InputError: a plan on another mesh, a temperature that the reference does not have, iterations below 1.
    """
    if iterations < 1:
        raise InputError(f"fc3_from_mode_kappa needs at least one iteration, got {iterations}")
    _points(plan, reference)
    at = reference.at(temperature)
    fit, plan = jax.device_put((fit, plan))
    second, start, T = jnp.asarray(second), jnp.asarray(start), jnp.asarray([float(temperature)])
    c0 = parameters(fit, start)
    size = float(jnp.linalg.norm(c0))
    waves, scattering = phonons_of(plan, second), Scattering(plan.mass_variances)
    if broadening is None:
        broadening = Tetrahedron.for_plan(plan).with_capacity(plan, ForceConstants(second, start), margin=0.5)
    expected = jnp.asarray(reference.mode_kappa[at])
    floor = FLOOR * float(jnp.mean(expected))

    def loss(x: Array) -> tuple[Array, tuple[Array, Array]]:
        fc = ForceConstants(second, expand(fit, c0 + size * x))
        gamma = linewidths(plan, fc, waves, T, broadening=broadening, scattering=scattering)
        result = conductivity(waves, gamma.total, plan.mesh, plan.crystal, T)
        modes = metrics.mode_kappa(result)[0]
        wanted = jnp.maximum(expected, 0) + floor
        ratio = jnp.log((jnp.maximum(modes, 0) + floor) / wanted)
        value = jnp.sum(wanted * ratio**2) / jnp.sum(expected)
        value = value + WHOLE * jnp.log(jnp.sum(modes) / jnp.sum(expected)) ** 2
        score = metrics.srme(modes[None], expected[None], reference.weights)[0]
        return value, (score, metrics.average(result.kappa_TOT)[0])

    slope = jax.value_and_grad(loss, has_aux=True)
    best: dict[str, Any] = {"loss": np.inf}

    def evaluated(y: np.ndarray) -> tuple[float, np.ndarray]:
        x = y / STIFFNESS
        (value, (score, kappa)), bar = slope(jnp.asarray(x))
        total = float(value) + FC3_RESTRAINT**2 * float(x @ x)
        report(f"loss {float(value):.6f}  SRME {float(score):.4f}  κ {float(kappa):.4f}")
        if total < best["loss"]:
            best.update(loss=total, x=x, srme=float(score), kappa=float(kappa))
        return total, (np.asarray(bar) + 2 * FC3_RESTRAINT**2 * x) / STIFFNESS

    minimize(evaluated, np.zeros(len(c0)), jac=True, method="L-BFGS-B", options={"maxiter": iterations, "maxcor": 30})
    if "x" not in best:
        raise InputError("the mode conductivities are not finite at the start: check the frequencies of Φ2")
    x = best["x"]
    return FC3Found(expand(fit, c0 + size * x), best["srme"], best["kappa"], float(np.linalg.norm(x)))


def _points(plan: Plan, reference: Reference) -> np.ndarray:
    """The irreducible points, which are the reference's. (P, 3)"""
    reference.require_mesh(plan.mesh)
    return np.asarray(plan.mesh.qpoints)[np.asarray(plan.mesh.irreducible)]


__all__ = [
    "FC2Found",
    "FC3Found",
    "fc2_from_frequencies",
    "fc3_from_mode_kappa",
    "parameters",
]
