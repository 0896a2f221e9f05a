"""Non-analytic term correction: the long-range dipole interaction of polar crystals.

Two variants with one interface (physics/phonons.LongRange), as phonopy 4.10 defines them. Charges Z_i,βa: field
component first, displacement second; ε dielectric tensor; P = factor 4π/V.

Neither term is exactly periodic in q (Gonze-Lee to the accuracy of its truncated sum, Wang not at all): give q-points
in the first Brillouin zone, as plan/mesh.make_mesh does. The limit at Γ depends on the direction of approach: without
`direction` there is no term at Γ.
"""

from __future__ import annotations

from math import log, pi
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from .._core.as_numbers import as_numbers
from .._core.pytree import Array, pytree
from ..errors import InputError
from ..plan.dipoles import DipolePlan, dipole_plan, symmetrized_charges
from .phonons import lattice_weights, phases, separation_phases

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from ..types import BornCharges, Crystal, FC2Table, Supercells
    from .phonons import LongRange


ZONE_CENTRE = 1e-5  # 1/Å: a wave vector shorter than this is 0 (phonopy's tolerance)
EXPONENT = log(1e-10)  # the Gaussian factor at the cut-off of the reciprocal sum


def _volume(crystal: Crystal) -> Array:
    return jnp.abs(jnp.linalg.det(jnp.asarray(crystal.lattice)))


def _prefactor(born: BornCharges, crystal: Crystal) -> Array:
    """P = factor 4π/V, eV/Å²; NaN outside the domain, where a transformation alone knows the values: the factor must be above
    0, and so must all leading minors of the symmetric part of ε."""
    factor, e = jnp.asarray(born.factor), jnp.asarray(born.dielectric)
    e = 0.5 * (e + e.T)
    minors = (e[0, 0], e[0, 0] * e[1, 1] - e[0, 1] ** 2, jnp.linalg.det(e))
    inside = (factor > 0) & (minors[0] > 0) & (minors[1] > 0) & (minors[2] > 0)
    return factor * jnp.where(inside, 4 * pi, jnp.nan) / _volume(crystal)


def _to_cartesian(qpoint: Array, crystal: Crystal) -> Array:
    return jnp.asarray(qpoint) @ jnp.linalg.inv(jnp.asarray(crystal.lattice)).T


def _inverse_screening(vectors: Array, direction: Array | None, born: BornCharges, crystal: Crystal):
    """Vectors K and 1/(K·ε·K), with K ≈ 0 replaced by `direction`, or by a dummy of weight 0. (..., 3), (...), (...)"""
    regular = jnp.sum(vectors**2, axis=-1) > ZONE_CENTRE**2
    stand_in = jnp.ones(3) if direction is None else _to_cartesian(direction, crystal)
    K = jnp.where(regular[..., None], vectors, stand_in)
    screening = jnp.einsum("...a,ab,...b->...", K, jnp.asarray(born.dielectric), K)
    weight = jnp.where(regular, 1.0, 0.0 if direction is None else 1.0)
    return K, weight / screening, regular


@pytree()
class GonzeLee:
    """Gonze and Lee, PRB 55, 10355 (1997), eq. 71, reciprocal sum only.

    C_ia,jb(q) = P Σ_G (K·Z_i)_a (K·Z_j)_b / (K·ε·K) exp(-K·ε·K / 4Λ²) exp(2πi G·(r_i - r_j)) - δ_ij Σ_j' C_ij'(0)

    with K = q + G over the vectors of the plan, Λ² = -G_c² tr ε / (12 ln 1e-10): Λ is so small that the real-space sum
    vanishes. The supercell's force constants contain this interaction at their commensurate points q_c: its Fourier
    transform Φ(R) = Σ_c w_c C(q_c) exp(-2πi q_c·(r_j + R - r_i)) is taken out of them before they are interpolated.

    Attributes:
        born: charges and dielectric tensor.
        plan: the vectors of the sum, and the supercell it is taken out of.
        direction: (3,) fractional, direction in which Γ is approached.
    """

    born: BornCharges
    plan: DipolePlan
    direction: Array | None = None  #: (3,) fractional, direction in which Γ is approached

    def _sum(self, qpoint: Array, crystal: Crystal, direction: Array | None) -> Array:
        """P Σ_G ..., (n, 3, n, 3) complex."""
        G = jnp.asarray(self.plan.reciprocal, jnp.result_type(crystal.positions))
        K, inverse, regular = _inverse_screening(_to_cartesian(G + qpoint, crystal), direction, self.born, crystal)
        # the cut-off of plan/dipoles.reciprocal_vectors as a function of the volume, so that strain derivatives see it
        cutoff2 = (3 * self.plan.count / (4 * pi) / _volume(crystal)) ** (2 / 3)
        Λ2 = -cutoff2 * jnp.trace(jnp.asarray(self.born.dielectric)) / (12 * EXPONENT)
        quadratic = jnp.where(regular, 1 / jnp.where(regular, inverse, 1.0), 0.0)
        weight = _prefactor(self.born, crystal) * inverse * jnp.exp(-quadratic / (4 * Λ2))
        wave = jnp.exp(2j * pi * (G @ jnp.asarray(crystal.positions).T))
        dipoles = jnp.einsum("gb,iba->gia", K, jnp.asarray(self.born.charges)) * wave[:, :, None]
        flat = dipoles.reshape(len(G), -1)
        return ((weight[:, None] * flat).T @ jnp.conj(flat)).reshape(*dipoles.shape[1:], *dipoles.shape[1:])

    def _self_term(self, crystal: Crystal) -> Array:
        """δ_ij Σ_j' C_ij'(0), which makes a uniform displacement cost nothing. (n, 3, n, 3)"""
        drift = jnp.sum(self._sum(jnp.zeros(3), crystal, None), axis=2)
        return jnp.einsum("iab,ij->iajb", drift, jnp.eye(crystal.n_atoms))

    def term(self, qpoint: Array, crystal: Crystal, table: FC2Table) -> Array:
        return self._sum(qpoint, crystal, self.direction) - self._self_term(crystal)

    def lattice_term(self, crystal: Crystal, table: FC2Table) -> Array:
        points = jnp.asarray(self.plan.commensurate)
        C = jax.lax.map(lambda q: self._sum(q, crystal, None), points) - self._self_term(crystal)
        C = C * jnp.conj(separation_phases(points, crystal))[:, :, None, :, None]
        wave = jnp.conj(phases(points, table)).T * jnp.asarray(self.plan.weights)
        return jnp.real(jnp.tensordot(wave, C, axes=1))

    def bytes_per_point(self, crystal: Crystal, table: FC2Table) -> int:
        return 16 * 3 * crystal.n_atoms * len(self.plan.reciprocal) * 12


@pytree()
class Wang:
    """Wang et al., J. Phys.: Condens. Matter 22, 202201 (2010): an interaction that is constant over the supercell.

    C_ia,jb(q) = P (q·Z_i)_a (q·Z_j)_b / (q·ε·q) S_ij(q),   S_ij(q) = (1/N) Σ_R w_ij(R) exp(2πi q·(r_j + R - r_i))

    S is 1 at Γ and 0 at the other commensurate points, where the force constants are exact as they are.

    Attributes:
        born: charges and dielectric tensor.
        direction: (3,) fractional, direction in which Γ is approached.
    """

    born: BornCharges
    direction: Array | None = None  #: (3,) fractional, direction in which Γ is approached

    def term(self, qpoint: Array, crystal: Crystal, table: FC2Table) -> Array:
        q, inverse, _ = _inverse_screening(_to_cartesian(qpoint, crystal), self.direction, self.born, crystal)
        weights = lattice_weights(table)
        S = jnp.tensordot(phases(qpoint[None], table)[0], weights, axes=1) / jnp.sum(weights[:, 0, 0])
        S = S * separation_phases(qpoint[None], crystal)[0]
        dipoles = jnp.einsum("b,iba->ia", q, jnp.asarray(self.born.charges))
        strength = _prefactor(self.born, crystal) * inverse
        return strength * dipoles[:, :, None, None] * dipoles[None, None] * S[:, None, :, None]

    def lattice_term(self, crystal: Crystal, table: FC2Table) -> Array:
        return jnp.zeros(())

    def bytes_per_point(self, crystal: Crystal, table: FC2Table) -> int:
        return 16 * 9 * crystal.n_atoms**2 * 8


def make_nac(
    supercells: Supercells,
    born: BornCharges,
    method: Literal["gonze", "wang"] = "gonze",
    direction: Sequence[float] | None = None,
) -> LongRange:
    """The non-analytic correction of these charges, symmetrised.

    Args:
        method: "gonze" (Gonze and Lee's dipole sum) or "wang" (Wang's interpolation).
        direction: (3,) fractional, in which Γ is approached: its longitudinal optic modes split off there. None: no term at Γ,
            as on phono3py's meshes.

    Raises:
        InputError: a method or direction that is none.
    """
    if method not in ("gonze", "wang"):
        raise InputError(f"method is {method!r}", "choose from gonze, wang")
    towards = None
    if direction is not None:
        try:
            towards = np.asarray(as_numbers(direction), float)
        except ValueError:
            towards = np.zeros(0)
        if towards.shape != (3,) or not np.isfinite(towards).all() or not np.any(towards):
            raise InputError(f"direction is {direction!r}", "give three numbers, of the reciprocal lattice")
    charges = symmetrized_charges(born, supercells.crystal)
    if method == "wang":
        return Wang(charges, towards)
    return GonzeLee(charges, dipole_plan(supercells.crystal, supercells.fc2_supercell), towards)
