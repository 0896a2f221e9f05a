"""How far a conductivity is from a reference: the errors of κ_SRME, and of frequencies.

    SRE  = 2 |κ_M - κ_D| / (κ_M + κ_D)
    SRME = 2 (1/Σw) Σ_qs |K_M(qs) - K_D(qs)| / (κ_M + κ_D)

with K the mode conductivities that hold their star's weight w, ΣK/Σw = κ, and pairs of modes shared by heat capacity:
K_s = κ_P,s + 2 Σ_s' C_s/(C_s + C_s') κ_C,ss' (`mode_kappa`). A model with imaginary modes, or whose relaxation changed
the space group, scores 2, the largest value there is. Source: Póta, Ahlawat, Csányi, Simoncelli, arXiv:2408.00755.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from .checks import imaginary_modes
from .errors import InputError
from .physics.conductivity import mode_kappa_total
from .reference import Reference
from .types import Mesh

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._core.pytree import Array
    from .crystal.symmetry import SpaceGroup
    from .solution import Solution
    from .thermodynamics.gruneisen import ModeGruneisen
    from .types import Conductivity, Mesh


WORST = 2.0  # of SRE and SRME


def average(tensor: Array) -> Array:
    """A third of the trace of tensors in Voigt order. (..., 6) → (...)"""
    return jnp.mean(jnp.asarray(tensor)[..., :3], axis=-1)


def mode_kappa(result: Conductivity) -> Array:
    """K of every mode, a third of the trace, W/(m K). (T, P, m)"""
    return average(mode_kappa_total(result))


def sre(kappa: Array, reference: Array) -> Array:
    """Symmetric relative error 2 |κ - κ_D| / (κ + κ_D), element by element; 2 where κ is not finite."""
    kappa = jnp.asarray(kappa)
    usable = jnp.isfinite(kappa)
    safe = jnp.where(usable, kappa, 0.0)
    return jnp.where(usable, 2 * jnp.abs(safe - reference) / (safe + reference), WORST)


def srme(
    modes: Array, reference: Array, weights: Array, kappa: Array | None = None, kappa_reference: Array | None = None
) -> Array:
    """Symmetric relative mean error of mode conductivities; 2 where one of them is not finite.

    Args:
        modes, reference: (..., P, m) W/(m K), star weights in them, paired by q-point and sorted band.
        weights: (P,) sizes of the stars.
        kappa, kappa_reference: (...) W/(m K); by default ΣK/Σw.

    Returns:
        (...)
    """
    modes, reference, total = jnp.asarray(modes), jnp.asarray(reference), jnp.sum(jnp.asarray(weights))
    usable = jnp.all(jnp.isfinite(modes), axis=(-2, -1))
    modes = jnp.where(usable[..., None, None], modes, 0.0)
    kappa = jnp.sum(modes, axis=(-2, -1)) / total if kappa is None else jnp.where(usable, kappa, 0.0)
    if kappa_reference is None:
        kappa_reference = jnp.sum(reference, axis=(-2, -1)) / total
    error = jnp.sum(jnp.abs(modes - reference), axis=(-2, -1)) / total
    return jnp.where(usable, 2 * error / (kappa + kappa_reference), WORST)


def srme_of(
    solution: Solution, mesh: Mesh, reference: Reference, groups: tuple[SpaceGroup, SpaceGroup] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """SRE and SRME of a solution by the benchmark's rules. (T,) each

    Args:
        mesh: the solution's; it must be the reference's.
        groups: space groups before and after relaxation; by default no relaxation changed it.

    Raises:
        InputError: another mesh, other points, or a temperature that the reference lacks.
    """
    result = solution.conductivity
    reference.require_mesh(mesh)
    rows = [reference.at(float(t)) for t in np.asarray(result.temperatures)]
    changed = groups is not None and groups[0].number != groups[1].number
    if changed or len(imaginary_modes(mesh, solution.phonons.frequencies)):
        return np.full(len(rows), WORST), np.full(len(rows), WORST)
    kappa, modes = average(result.kappa_TOT), mode_kappa(result)
    expected, expected_modes = reference.kappa[rows], reference.mode_kappa[rows]
    scores = srme(modes, expected_modes, reference.weights, kappa, expected)
    return np.asarray(sre(kappa, expected)), np.asarray(scores)


def gamma_sre(gamma: Array, reference: Array) -> Array:
    """2 ||γ| - |γ_D|| / (|γ| + |γ_D|), gamma_SRME's error of the mean; 2 where γ is not finite, blind to its sign."""
    gamma = jnp.asarray(gamma, float)
    usable = jnp.isfinite(gamma)
    size, known = jnp.abs(jnp.where(usable, gamma, 0.0)), jnp.abs(jnp.asarray(reference, float))
    total = jnp.where(size + known > 0, size + known, 1.0)
    return jnp.where(usable, 2 * jnp.abs(size - known) / total, WORST)


def gamma_srme(
    found: ModeGruneisen, reference: ModeGruneisen, temperatures: Sequence[float] = (300.0,), valid: bool = True
) -> Array:
    """SRME_γ = 2 Σ_qs |G_M(qs) - G_D(qs)| / (Σ|G_M| + Σ|G_D|), G = w C γ_qs / Σ w C the part of a mode in γ(T). (T,)

    gamma_SRME's error: what is compared are the modes' parts in γ(T), each weighted by the heat capacities of its own
    solution, so that errors of frequencies count as well as those of γ_qs; paired by q-point and sorted band; modes below
    1e-3 THz and acoustic modes at Γ are left out. Its range is 0 to 2, opposite signs being 2.

    Args:
        found, reference: on the same irreducible points.
        valid: False scores 2: imaginary modes, or a space group that the relaxation changed.

    Raises:
        InputError: other points or bands.
    """
    same = found.modes.shape == reference.modes.shape
    if not same or np.abs((d := found.qpoints - np.asarray(reference.qpoints)) - np.rint(d)).max() > 1e-6:
        raise InputError(
            "the two Grüneisen parameters are on different q-points", "use the same mesh and primitive cell"
        )
    ours, theirs = (one.contributions(temperatures) for one in (found, reference))
    size = jnp.sum(jnp.abs(ours), axis=(1, 2)) + jnp.sum(jnp.abs(theirs), axis=(1, 2))
    error = 2 * jnp.sum(jnp.abs(ours - theirs), axis=(1, 2)) / jnp.where(size > 0, size, 1.0)
    return jnp.where(valid & jnp.isfinite(error), error, WORST)


def factor_of_two(kappa: Sequence[float] | np.ndarray, reference: Sequence[float] | np.ndarray) -> float:
    """Share of the materials with κ_D/2 ≤ κ ≤ 2 κ_D; one that is not finite does not count as inside."""
    ratio = np.asarray(kappa, float) / np.asarray(reference, float)
    return float(np.mean((ratio >= 0.5) & (ratio <= 2.0)))


def frequency_distance(
    frequencies: Array, reference: Array, weights: Array, reference_weights: Array | None = None
) -> float:
    """Wasserstein-1 distance of two densities of states, THz: ∫ |F(f) - F_D(f)| df, F the cumulative distributions.

    Unlike errors band by band it does not depend on which mode is paired with which.

    Args:
        frequencies, reference: (P, m) THz; the two may be on different meshes.
        weights, reference_weights: (P,); the second by default as the first.
    """
    both = []
    for f, w in ((frequencies, weights), (reference, weights if reference_weights is None else reference_weights)):
        f, w = np.asarray(f), np.asarray(w, float)
        w = np.broadcast_to(w[:, None], f.shape).ravel()
        both.append((f.ravel(), w / w.sum()))
    values = np.concatenate([both[0][0], both[1][0]])
    step = np.concatenate([both[0][1], -both[1][1]])
    order = np.argsort(values, kind="stable")
    difference = np.cumsum(step[order])[:-1]
    return float(np.sum(np.abs(difference) * np.diff(values[order])))


def reference_of(solution: Solution, mp_id: str, name: str, space_group: int) -> Reference:
    """A solution as a reference for others: any potential or set of force constants may play DFT's part.

    Args:
        mp_id: a name for the row; the structure file has the same in its info.
        space_group: international number; it sorts the material into rocksalt, zincblende, wurtzite or other.
    """
    mesh, result = solution.mesh, solution.conductivity
    at = np.asarray(mesh.irreducible)
    return Reference(
        mp_id, name, space_group, mesh.dims, np.asarray(result.temperatures), np.asarray(mesh.qpoints)[at],
        np.asarray(mesh.weights), np.asarray(solution.phonons.frequencies)[at], np.asarray(result.heat_capacity),
        np.asarray(mode_kappa(result)), np.asarray(average(result.kappa_TOT)),
    )  # fmt: skip


__all__ = [
    "WORST",
    "average",
    "factor_of_two",
    "frequency_distance",
    "gamma_sre",
    "gamma_srme",
    "mode_kappa",
    "reference_of",
    "sre",
    "srme",
    "srme_of",
]
