"""κ beyond the relaxation-time approximation as a pure function, by the variational identity of physics/collisions.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ..types import Linewidths
from ..units import K_B, KAPPA, THZ_TO_EV
from .collisions import bilinear_of, deviations_of, inverse_sinh, values_of
from .conductivity import VOIGT, star_average
from .degeneracy import degenerate_averages
from .taking_part import is_scattered, takes_part

if TYPE_CHECKING:
    from .._core.pytree import Array
    from ..types import Phonons, Plan
    from .collisions import Stars
    from .pairs import Broadening, State

FOREIGN = 0.02  # relative violation of F·ΩF = F·Z by deviations that are those of another equation
#: an orthonormal basis of the symmetric tensors
TENSORS = np.zeros((6, 3, 3))
for _k, (_a, _b) in enumerate(zip(*VOIGT, strict=True)):
    TENSORS[_k, _a, _b] = TENSORS[_k, _b, _a] = 1.0 if _a == _b else 0.5**0.5


def invariant_tensors(rotations: Any) -> np.ndarray:
    """An orthonormal basis of the symmetric tensors that the point group leaves alone; all of them if it is not known.

    Returns:
        (r, 3, 3): one for a cubic crystal, two for a uniaxial one.
    """
    if isinstance(rotations, jax.core.Tracer):
        return TENSORS
    R = np.asarray(rotations)
    turned = np.einsum("gac,kcd,gbd->kab", R, TENSORS, R) / len(R)
    values, vectors = np.linalg.eigh(np.einsum("kab,lab->kl", TENSORS, turned))
    return np.einsum("kr,kab->rab", vectors[:, values > 0.5], TENSORS)


def root_heat(frequencies: Array, velocity_operator: Array, temperatures: Array) -> Array:
    """Z = √C v, with velocities averaged over degenerate blocks. (P, m), (P, m, m, 3), (T,) → (T, P, m, 3)"""
    alive = takes_part(frequencies)
    x = jnp.where(alive, frequencies, 0.0)[..., None] * (THZ_TO_EV / K_B) / temperatures
    root = K_B**0.5 * x * inverse_sinh(frequencies, temperatures)
    v = jnp.real(jnp.einsum("pssa->psa", velocity_operator))
    v = jnp.einsum("pst,pta->psa", degenerate_averages(frequencies), v)
    return jnp.moveaxis(root, -1, 0)[..., None] * v


def full_populations(
    plan: Plan, waves: Phonons, state: State, temperatures: Array, variances: Array | None, boundary: Array,
    broadening: Broadening, stars: Stars, deviations: Array | None, tolerance: float, most: int,
) -> tuple[Array, Linewidths]:  # fmt: skip
    """What the full collision operator adds to κ_P of the relaxation-time approximation, and the linewidths (NaN where their
    lists overflow).

    Args:
        boundary: (P, m) THz.
        deviations: (T, P, m, 3) F, where they are known; they carry no derivative.

    Returns:
        (T, 6) W/(m K), NaN where the deviations are those of another equation (F·ΩF is not F·Z); the linewidths.
    """
    mesh, crystal = plan.mesh, plan.crystal
    at = jnp.asarray(mesh.irreducible)
    frequencies = waves.frequencies[at]
    Z = root_heat(frequencies, waves.velocity_operator, temperatures)
    tensors, found = invariant_tensors(mesh.rotations), None
    if deviations is None:
        share = inverse_sinh(waves.frequencies, temperatures)
        frozen = jax.lax.stop_gradient((plan, state, boundary, Z, frequencies, variances, broadening, share))
        found = jax.lax.stop_gradient(deviations_of(*frozen, stars, tensors, tolerance, most))
        deviations = found.deviations
    F = jax.lax.stop_gradient(jnp.asarray(deviations))
    y = jnp.einsum("pai,tpma->tpmi", jnp.asarray(stars.basis), F)
    everywhere = jnp.einsum("pkai,tpmi->pkmta", jnp.asarray(stars.turned), y)
    fields = everywhere.reshape(-1, *everywhere.shape[2:])[jnp.asarray(stars.slot)]
    own = jnp.einsum("rab,tpma->pmtrb", tensors, F)
    parts = [
        (bucket.members, bilinear_of(bucket, state, plan, variances, broadening.for_bucket(number), fields, own))
        for number, bucket in enumerate(plan.triplets)
    ]
    order = jnp.argsort(jnp.concatenate([jnp.asarray(members) for members, _ in parts]))
    three, isotope, sums, overflow = (jnp.concatenate([x[k] for _, x in parts])[order] for k in range(4))
    if found is not None:
        three, isotope, sums = values_of((found.three, found.isotope, found.sums), (three, isotope, sums))
        overflow = found.overflow
    gamma = jnp.moveaxis(three, 1, 0) + isotope + boundary
    live = takes_part(frequencies) & is_scattered(gamma)
    width = jnp.where(live, gamma, 1.0)[..., None, None]
    Z = jnp.where(live[..., None], Z, 0.0)
    F = jnp.where(live[..., None], F, 0.0)
    ZF = Z[..., :, None] * F[..., None, :]
    F_OF = jnp.einsum("p,ptr,r->t", jnp.asarray(mesh.weights), sums, jnp.einsum("raa->r", tensors))
    FZ, FF = (jnp.einsum("p,tpma,tpma->t", jnp.asarray(mesh.weights), F, x) for x in (Z, gamma[..., None] * F))
    # F·ΩF is F·Z, if F is the solution of this equation; written so that NaN is none
    off = jnp.any(Z != 0) & ~((FZ > 0) & (jnp.abs(FZ - FF - F_OF) <= FOREIGN * FZ))
    modes = 0.5 * (ZF + jnp.swapaxes(ZF, -1, -2) - width * F[..., :, None] * F[..., None, :])
    modes = modes - 0.5 * Z[..., :, None] * Z[..., None, :] / width
    weights = jnp.asarray(mesh.weights)
    total = jnp.einsum("p,tpmab->tab", weights, modes)
    total -= 0.5 * jnp.einsum("p,ptr,rab->tab", weights, sums, tensors)
    volume = jnp.abs(jnp.linalg.det(jnp.asarray(crystal.lattice)))
    volume = volume if crystal.occupied is None else volume * crystal.occupied
    first, second = (np.asarray(i) for i in VOIGT)
    kappa = total[:, first, second] @ star_average(mesh.rotations).T * (KAPPA / volume / mesh.qpoints.shape[0])
    three = jnp.where(jnp.any(overflow), jnp.nan, jnp.moveaxis(three, 1, 0))
    kappa = jnp.where(off[:, None], jnp.nan, kappa)
    return kappa, Linewidths(three, isotope, boundary, jnp.any(overflow))


__all__ = ["full_populations", "invariant_tensors", "root_heat"]
