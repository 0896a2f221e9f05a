"""Φ2 and Φ3 of a potential by automatic differentiation, and their derivative with respect to its parameters."""

from __future__ import annotations

import dataclasses
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._core.programs import program
from .._core.pytree import Array, pytree
from ..checks import check_precision, require_double_precision
from ..errors import say
from ..potentials.neighbor_list import supercell_graph
from ..types import ForceConstants, Precision, Supercell, Supercells
from .displacement_patterns import Fit, FitInfo, plan_fit
from .evaluations import devices_for, directional_energy, evaluate, evaluate_dealt, evaluate_single
from .least_squares import pattern_weights, recover

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..potentials.base import Energy, Params, Potential
    from ..potentials.graph import Graph


RESIDUAL = 1e-10  # ‖A c − G‖/‖G‖ of a symmetric fit: above it something is wrong
SINGLE_RESIDUAL = 1e-4  # the same, of evaluations in single precision
Progress = Any  # Callable[[str, int, int], None]: stage, evaluations done, evaluations in all


def summed_gradient(f: Callable[..., Array], x: Any, weights: Array, patterns: Array) -> Any:
    """Σ_k ∂f(x, w_k, u_k)/∂x; the tape of one pattern exists at a time."""

    def add(total: Any, item: tuple[Array, Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, jax.grad(f)(x, *item)), None

    zero = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), jnp.result_type(leaf)), x)
    return jax.lax.scan(add, zero, (weights, patterns))[0]


# The derivative of Φ. With c = M⁻¹ Aᵀ G and Φ = C c (the refinement step changes rounding only), a cotangent W gives
#
#     ⟨W, Φ⟩ = ⟨W, C M⁻¹ Aᵀ G⟩ = ⟨w, G⟩,      w = A M⁻¹ Cᵀ W,      w of shape (K, N, 3),
#
# and G_k = ∂²∇E[u_k, v_k], so that
#
#     ⟨w, G(θ, x)⟩ = Σ_k ∂³E(θ, x)[w_k, u_k, v_k]     (order 2: Σ_k ∂²E[w_k, u_k]),
#
# a sum of K scalars. Its gradient is accumulated in a loop with the gradient inside, reverse over forward, so that
# the tape of one pattern exists at a time and memory does not grow with K. C, A and M are constants: exact for
# parameters always, and for positions and cell when the perturbation keeps the crystal's symmetry (an isotropic or any
# symmetry-allowed strain, a relaxation), because Cartesian rotations commute with such strains. Along a perturbation
# that breaks the symmetry it is the derivative of the least-squares fit, not of Φ: project it out first. Only reverse
# mode is defined: jax.jvp and jax.jacfwd raise JAX's TypeError for custom_vjp functions.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def fitted(energy: Energy, params: Params, graph: Graph, fit: Fit) -> Array:
    """Compact force constants of one order from a fit. (n, N, 3, 3) eV/Å² or (n, N, N, 3, 3, 3) eV/Å³

    Differentiable (reverse mode) with respect to `params`, `graph.positions` and `graph.cell`; see above.
    """
    return recover(fit, evaluate(energy, params, graph, fit.patterns, fit.basis.order))[0]


def _fitted_forward(energy: Energy, params: Params, graph: Graph, fit: Fit) -> tuple[Array, tuple]:
    return fitted(energy, params, graph, fit), (params, graph, fit)


def _fitted_backward(energy: Energy, saved: tuple, W: Array) -> tuple:
    params, graph, fit = saved
    floats = (params, graph.positions, graph.cell)

    def contracted(floats: tuple, weight: Array, pattern: Array) -> Array:
        parameters, positions, cell = floats
        moved = dataclasses.replace(graph, positions=positions, cell=cell)
        return directional_energy(energy, parameters, moved, weight, pattern, fit.basis.order)

    total = summed_gradient(contracted, floats, pattern_weights(fit, W), fit.patterns)
    bars = jax.tree.map(_no_cotangent, graph)
    return total[0], dataclasses.replace(bars, positions=total[1], cell=total[2]), None


def _no_cotangent(leaf: Any) -> Any:
    """Zero of the type that JAX asks for: float0 where there is no derivative."""
    kind = jnp.result_type(leaf)
    return np.zeros(np.shape(leaf), kind if jnp.issubdtype(kind, jnp.floating) else jax.dtypes.float0)


fitted.defvjp(_fitted_forward, _fitted_backward)


@pytree()
class ForceConstantsPlan:
    """All that `force_constants_at` needs besides the potential: made once on the host, an argument of jit."""

    graph2: Graph
    graph3: Graph
    fit2: Fit
    fit3: Fit


@dataclasses.dataclass(frozen=True)
class ForceConstantsReport:
    """What it took, and the checks that come for free. Pairs are (Φ2, Φ3).

    Attributes:
        evaluations: Hessian-vector products, and third directional derivatives.
        parameters: independent force constants, n_b.
        condition: cond(A).
        residual: ‖A c − G‖/‖G‖; above 1e-10 something is wrong: see `warnings`.
        scheme: "patterns" or "columns".
        margin: Å, nearest pair to a cutoff (or another kink) of the potential.
        warnings: what is said of them, a line each.
        seconds_plan: wall time of planning.
        seconds_evaluate: compilation included.
    """

    evaluations: tuple[int, int]  #: Hessian-vector products, and third directional derivatives
    parameters: tuple[int, int]  #: independent force constants, n_b
    condition: tuple[float, float]  #: cond(A)
    residual: tuple[float, float]  #: ‖A c − G‖/‖G‖; above 1e-10 something is wrong: see `warnings`
    scheme: tuple[str, str]  #: "patterns" or "columns"
    margin: float  #: Å, nearest pair to a cutoff (or another kink) of the potential
    warnings: tuple[str, ...]
    seconds_plan: float
    seconds_evaluate: float  #: compilation included


class PlanReport(NamedTuple):
    """What planning found.

    Attributes:
        fc2, fc3: size, scheme and condition of the two fits.
        margin: Å, nearest pair to a distance at which the potential is not smooth.
    """

    fc2: FitInfo
    fc3: FitInfo
    margin: float


def plan_force_constants(
    supercells: Supercells,
    potential: Potential,
    *,
    seed: int = 0,
    scheme: str = "auto",
    cache: Path | None = None,
) -> tuple[ForceConstantsPlan, PlanReport]:
    """Graphs, patterns and factorised normal equations. Host; numpy leaves.

    Args:
        seed, scheme, cache: as for `plan.patterns.plan_fit`.

    Returns:
        plan, report.
    """
    crystal = supercells.crystal

    def one(supercell: Supercell, order: int) -> tuple[Graph, float, Fit, FitInfo]:
        graph = supercell_graph(crystal, supercell, potential)
        return (*graph, *plan_fit(crystal, supercell, order, seed, scheme, cache, potential.parity))

    graph2, margin2, fit2, info2 = one(supercells.fc2_supercell, 2)
    graph3, margin3, fit3, info3 = one(supercells.fc3_supercell, 3)
    return ForceConstantsPlan(graph2, graph3, fit2, fit3), PlanReport(info2, info3, min(margin2, margin3))


def force_constants_at(energy: Energy, params: Params, plan: ForceConstantsPlan) -> ForceConstants:
    """Φ2 and Φ3 as a traceable function of parameters (and of the geometry in `plan`), with the adjoint above."""
    return ForceConstants(
        fitted(energy, params, plan.graph2, plan.fit2), fitted(energy, params, plan.graph3, plan.fit3)
    )


def force_constants_fn(
    supercells: Supercells, potential: Potential, **options: Any
) -> Callable[[Params], ForceConstants]:
    """params → ForceConstants at fixed geometry, compiled once and differentiable with jax.grad.

    Options are those of `plan_force_constants`. Plan and parameters are arguments of the compiled function.
    """
    require_double_precision()
    plan, _ = plan_force_constants(supercells, potential, **options)
    plan = jax.device_put(plan)
    compiled = jax.jit(force_constants_at, static_argnums=0)
    return lambda params: compiled(potential.energy, params, plan)


_recover = program()(recover)
SINGLE = (3,)  # orders whose evaluations `precision="mixed"` does in single precision


def force_constants(
    supercells: Supercells,
    potential: Potential,
    *,
    params: Params | None = None,
    progress: Progress = None,
    chunk: int = 2,
    after_fc2: Callable[[Array], None] | None = None,
    precision: Precision = "double",
    **options: Any,
) -> tuple[ForceConstants, ForceConstantsReport]:
    """Φ2 and Φ3 of a crystal in its two supercells.

    Args:
        params: instead of the potential's own.
        progress: called as progress("fc2" | "fc3", done, total) between chunks of evaluations.
        chunk: evaluations per compiled call and device; the result does not depend on it.
        after_fc2: called with Φ2 before the work for Φ3, which an exception saves: of imaginary modes, say.
        precision: "mixed" evaluates the third derivatives in single precision, for accelerators that are slow in double. The
            fit stays in double and Φ3 exactly symmetric; its sum rules hold to single precision.
        **options: `seed`, `scheme` and `cache` of `plan_force_constants`.

    Warns:
        AccuracyWarning: for each line of `ForceConstantsReport.warnings`.

    Raises:
        ValueError: without float64, for an element the potential does not know, or for a supercell that does not fit.
    """
    require_double_precision()
    check_precision(precision)
    params = potential.params if params is None else params
    started = time.perf_counter()
    plan, planned_as = plan_force_constants(supercells, potential, **options)
    infos, margin = (planned_as.fc2, planned_as.fc3), planned_as.margin
    planned = time.perf_counter()
    single = SINGLE if precision == "mixed" else ()
    results, residuals = [], []
    for name, graph, fit in (("fc2", plan.graph2, plan.fit2), ("fc3", plan.graph3, plan.fit3)):
        K, run = fit.n_evaluations, evaluate_single if fit.basis.order in single else evaluate_dealt
        devices = devices_for(K, graph.n_atoms)
        size = devices * min(chunk, -(-K // devices))
        patterns = np.concatenate([fit.patterns, fit.patterns[: max(0, size - K)]])
        rows = []
        for start in range(0, K, size):
            # the last chunk overlaps rather than change shape and compile again
            begin = min(start, len(patterns) - size)
            values = run(potential.energy, params, graph, patterns[begin : begin + size], fit.basis.order, devices)
            rows.append((values, start - begin))
            if progress is not None:
                jax.block_until_ready(values)
                progress(name, min(start + size, K), K)
        phi, residual = _recover(fit, np.concatenate([np.asarray(x)[skip:] for x, skip in rows])[:K])
        results.append(phi)
        residuals.append(float(residual))
        if name == "fc2" and after_fc2 is not None:
            after_fc2(phi)
    limits = tuple(SINGLE_RESIDUAL if order in single else RESIDUAL for order in (2, 3))
    messages = _warnings(supercells, potential, (residuals[0], residuals[1]), (limits[0], limits[1]), margin)
    for message in messages:
        say(message)
    report = ForceConstantsReport(
        evaluations=(infos[0].n_evaluations, infos[1].n_evaluations),
        parameters=(infos[0].n_parameters, infos[1].n_parameters),
        condition=(infos[0].condition, infos[1].condition),
        residual=(residuals[0], residuals[1]),
        scheme=(infos[0].scheme, infos[1].scheme),
        margin=margin,
        warnings=messages,
        seconds_plan=planned - started,
        seconds_evaluate=time.perf_counter() - planned,
    )
    return ForceConstants(*results), report


def _warnings(
    supercells: Supercells, potential: Potential, residuals: tuple[float, float], limits: tuple[float, float],
    margin: float,
) -> tuple[str, ...]:  # fmt: skip
    """In words, what a user should know about these force constants."""
    messages = []
    for name, residual, limit in zip(("fc2", "fc3"), residuals, limits, strict=True):
        if not residual < limit:
            messages.append(
                f"{name}: residual {residual:.1e} of the symmetric fit is above {limit:.0e}: the potential lacks a symmetry of"
                " space, computes in lower precision, or a pair sits on a cutoff"
            )
    if margin < 1e-3:
        messages.append(f"a pair lies {margin:.1e} Å from a distance where {potential.name} is not smooth")
    folded = [
        name
        for name, cell in (("fc2", supercells.fc2_supercell), ("fc3", supercells.fc3_supercell))
        if potential.cutoff > _inscribed(cell.matrix @ np.asarray(supercells.crystal.lattice))
    ]
    if folded:
        messages.append(
            f"the potential's range exceeds half the {' and '.join(folded)} supercell: interactions with several images"
            " of an atom are summed (folded), as in any supercell method"
        )
    return tuple(messages)


def _inscribed(lattice: np.ndarray) -> float:
    """Radius of the largest sphere inside a cell: half its smallest height, Å."""
    return float(0.5 / np.linalg.norm(np.linalg.inv(lattice), axis=0).max())
