"""Phonons from force constants: frequencies, eigenvectors, and the velocity operator.

Conventions. Fractional q without 2π, q_cart = lattice^-1 q in 1/Å, so that ∂f/∂q_cart (THz Å) is the group velocity.
The phase is the smooth one, exp(2πi q·(r_j + R - r_i)): D(q) is then not periodic in q, D(q + G)_ij = D(q)_ij
exp(2πi G·(r_j - r_i)), and its q-derivative holds no origin-dependent terms, as the Wigner velocity operator requires
(Simoncelli, Marzari, Mauri, PRX 12, 041011 (2022)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import jax
import jax.numpy as jnp

from .._core.chunking import BYTES, chunk_size, map_chunks
from .._core.programs import program
from ..types import Crystal, FC2Table, Phonons
from ..units import SQRT_EV_A2_AMU_TO_THZ
from .degeneracy import degenerate_averages
from .eigh import eigh, frequencies_of
from .taking_part import takes_part

if TYPE_CHECKING:
    from .._core.pytree import Array
    from ..types import Plan


class LongRange(Protocol):
    """A long-range (non-analytic) part of the force constants: physics/nac.py has those of Gonze-Lee and Wang."""

    def lattice_term(self, crystal: Crystal, table: FC2Table) -> Array:
        """What the supercell's force constants hold of it already, (V, n, 3, n, 3) eV/Å², or a scalar 0."""

    def term(self, qpoint: Array, crystal: Crystal, table: FC2Table) -> Array:
        """Its Fourier transform at one q (3,), (n, 3, n, 3) complex Hermitian, eV/Å², smooth phase convention."""

    def bytes_per_point(self, crystal: Crystal, table: FC2Table) -> int:
        """Temporaries of `term`."""


def lattice_weights(table: FC2Table) -> Array:
    """How much of the pair (i, j) at separation r_j + R - r_i the supercell holds, Σ_l weight δ(R, R_l). (V, n, n)"""
    n, shape = table.slot.shape[0], (table.vectors.shape[0], *table.slot.shape[:2])
    i, j = jnp.arange(n)[:, None, None], jnp.arange(n)[None, :, None]
    return jnp.zeros(shape, jnp.result_type(table.weight)).at[table.slot, i, j].add(table.weight)


def phases(qpoints: Array, table: FC2Table) -> Array:
    """exp(2πi q·R), (q, V)."""
    return jnp.exp(2j * jnp.pi * (qpoints @ jnp.asarray(table.vectors, qpoints.dtype).T))


def separation_phases(qpoints: Array, crystal: Crystal) -> Array:
    """exp(2πi q·(r_j - r_i)), (q, n, n)."""
    u = jnp.exp(2j * jnp.pi * (qpoints @ jnp.asarray(crystal.positions).T))
    return jnp.conj(u)[:, :, None] * u[:, None, :]


def _lattice_constants(second: Array, crystal: Crystal, table: FC2Table, nac: LongRange | None) -> Array:
    """Φ(R) / √(M_i M_j) by distinct lattice vector, (V, n, 3, n, 3)."""
    n = crystal.n_atoms
    i, j = jnp.arange(n)[:, None, None], jnp.arange(n)[None, :, None]
    images = jnp.asarray(second)[i, table.atom] * jnp.asarray(table.weight)[..., None, None]
    constants = jnp.zeros((table.vectors.shape[0], n, n, 3, 3), images.dtype).at[table.slot, i, j].add(images)
    constants = jnp.swapaxes(constants, 2, 3)
    if nac is not None:
        constants = constants - lattice_weights(table)[:, :, None, :, None] * nac.lattice_term(crystal, table)
    return constants * _mass_factor(crystal)


def _mass_factor(crystal: Crystal) -> Array:
    """1/√(M_i M_j), (n, 1, n, 1)."""
    root = 1 / jnp.sqrt(jnp.asarray(crystal.masses))
    return root[:, None, None, None] * root[None, None, :, None]


def _hermitian(matrix: Array) -> Array:
    return (matrix + jnp.conj(jnp.swapaxes(matrix, -1, -2))) / 2


def _gemm(factors: Array, constants: Array) -> Array:
    """Σ_R factors[..., R] Φ(R) with complex factors and real Φ, as one real matrix product."""
    flat = constants.reshape(constants.shape[0], -1)
    stacked = jnp.stack([jnp.real(factors), jnp.imag(factors)]) @ flat
    return jax.lax.complex(stacked[0], stacked[1]).reshape(*factors.shape[:-1], *constants.shape[1:])


def _matrix(qpoints: Array, constants: Array, crystal: Crystal, table: FC2Table, nac: LongRange | None) -> Array:
    """D of a few q-points, (q, 3n, 3n)."""
    size = 3 * crystal.n_atoms
    D = _gemm(phases(qpoints, table), constants)
    D = D * separation_phases(qpoints, crystal)[:, :, None, :, None]
    if nac is not None:
        D = D + jax.vmap(lambda q: nac.term(q, crystal, table))(qpoints) * _mass_factor(crystal)
    return _hermitian(D.reshape(-1, size, size))


def _gradient(qpoints: Array, constants: Array, crystal: Crystal, table: FC2Table, nac: LongRange | None) -> Array:
    """∂D/∂q_cart of a few q-points, (q, 3, 3n, 3n)."""
    size = 3 * crystal.n_atoms
    lattice, positions = jnp.asarray(crystal.lattice), jnp.asarray(crystal.positions)
    phase, R = phases(qpoints, table), jnp.asarray(table.vectors, lattice.dtype) @ lattice
    # the separation is R plus a part that does not depend on R
    by_R = _gemm(phase[:, None, :] * R.T, constants)
    r = (positions[None, :] - positions[:, None]) @ lattice
    by_r = _gemm(phase, constants)[:, None] * jnp.moveaxis(r, -1, 0)[:, :, None, :, None]
    gauge = separation_phases(qpoints, crystal)[:, None, :, None, :, None]
    dD = 2j * jnp.pi * (by_R + by_r) * gauge
    if nac is not None:
        slopes = jax.vmap(lambda q: jax.jacfwd(lambda x: nac.term(x, crystal, table))(q))(qpoints)
        dD = dD + jnp.einsum("qiajbk,kc->qciajb", slopes, lattice) * _mass_factor(crystal)
    return _hermitian(dD.reshape(-1, 3, size, size))


def _chunk(crystal: Crystal, table: FC2Table, nac: LongRange | None, matrices: int, chunk_bytes: int) -> int:
    """q-points a chunk, for kernels that hold `matrices` complex (3n, 3n) matrices a point."""
    size = 16 * (matrices * 9 * crystal.n_atoms**2 + 8 * table.vectors.shape[0])
    return chunk_size(size + (0 if nac is None else nac.bytes_per_point(crystal, table)), chunk_bytes)


def dynamical_matrix(
    qpoints: Array,
    second: Array,
    crystal: Crystal,
    table: FC2Table,
    nac: LongRange | None = None,
    chunk_bytes: int = BYTES,
) -> Array:
    """D_ia,jb(q) = (M_i M_j)^-1/2 Σ_R Φ_ia,jb(R) exp(2πi q·(r_j + R - r_i)), its Hermitian part.

    Args:
        qpoints: (Q, 3) fractional.
        second: (n, N2, 3, 3) eV/Å², compact force constants.
        nac: adds a long-range part, see physics/nac.py.

    Returns:
        (Q, 3n, 3n) complex, eV/Å²/amu.
    """
    constants = _lattice_constants(second, crystal, table, nac)
    return map_chunks(
        lambda q: _matrix(q, constants, crystal, table, nac),
        jnp.asarray(qpoints),
        _chunk(crystal, table, nac, 6, chunk_bytes),
    )


def dynamical_matrix_gradient(
    qpoints: Array,
    second: Array,
    crystal: Crystal,
    table: FC2Table,
    nac: LongRange | None = None,
    chunk_bytes: int = BYTES,
) -> Array:
    """∂D/∂q_c in Cartesian components of q (1/Å, without 2π), exact. (Q, 3, 3n, 3n) complex, eV/Å²/amu Å"""
    constants = _lattice_constants(second, crystal, table, nac)
    return map_chunks(
        lambda q: _gradient(q, constants, crystal, table, nac),
        jnp.asarray(qpoints),
        _chunk(crystal, table, nac, 24, chunk_bytes),
    )


def frequencies_and_eigenvectors(
    qpoints: Array,
    second: Array,
    crystal: Crystal,
    table: FC2Table,
    nac: LongRange | None = None,
    chunk_bytes: int = BYTES,
) -> tuple[Array, Array]:
    """Solution of D e_s = λ_s e_s, f_s = sign(λ_s) √|λ_s|; at Γ of D without its rigid shifts (`without_rigid_shifts`).

    Derivatives are finite at every q and exact for functions that do not depend on the gauge inside degenerate blocks
    (physics/eigh.py).

    Returns:
        frequencies (Q, m) THz, ascending; eigenvectors (Q, 3n, m), columns are modes.
    """
    constants = _lattice_constants(second, crystal, table, nac)
    matrices = map_chunks(
        lambda q: without_rigid_shifts(q, _matrix(q, constants, crystal, table, nac), crystal),
        jnp.asarray(qpoints),
        _chunk(crystal, table, nac, 8, chunk_bytes),
    )
    # The diagonalisation stays outside the rematerialised chunks: see eigh.
    values, vectors = eigh(matrices)
    return frequencies_of(values), vectors


def without_rigid_shifts(qpoints: Array, matrices: Array, crystal: Crystal) -> Array:
    """At Γ the part of D that acts on vibrations, (1 - T Tᵀ) D (1 - T Tᵀ); elsewhere D itself.

    The columns of T are the three rigid shifts, T_ia,b = δ_ab √(M_i / Σ_j M_j): the acoustic modes at Γ, whatever the
    force constants. A rigid shift costs no energy, so that exact force constants have D T = 0 and nothing changes; the
    rounding of a file leaves frequencies of 0.001 THz there, and a Bose-Einstein occupation that swamps every linewidth.
    With the projection their frequencies are 0 to rounding, below CUTOFF_FREQUENCY, and the optical modes stay
    orthogonal to them. What was projected out is reported (`checks.sum_rule_residuals`), not hidden.

    Args:
        qpoints: (Q, 3) fractional; Γ is exactly 0.
        matrices: (Q, 3n, 3n).
    """
    root = jnp.sqrt(jnp.asarray(crystal.masses))
    T = jnp.kron((root / jnp.linalg.norm(root))[:, None], jnp.eye(3))
    moved = matrices @ T
    cross = moved @ T.T
    vibrations = matrices - cross - jnp.conj(jnp.swapaxes(cross, -1, -2)) + T @ (T.T @ moved) @ T.T
    at_zone_centre = jnp.all(qpoints == 0, axis=-1)
    return jnp.where(at_zone_centre[:, None, None], vibrations, matrices)


def _slopes(frequencies: Array) -> tuple[Array, Array]:
    """Per mode: does it move at all, and a frequency that is safe to divide by."""
    moves = takes_part(frequencies)
    return moves, jnp.where(moves, frequencies, 1.0)


def velocity_operator(
    qpoints: Array, solution: tuple[Array, Array], second: Array, crystal: Crystal, table: FC2Table,
    nac: LongRange | None = None, chunk_bytes: int = BYTES,
) -> Array:  # fmt: skip
    """V^c_ss'(q) = ⟨e_s| ∂D/∂q_c |e_s'⟩ / (f_s + f_s'), the published Wigner operator.

    With √D = E f E† it is the matrix of ∂√D/∂q in the modes: its diagonal is the group velocity ∂f/∂q (Simoncelli,
    Marzari, Mauri, PRX 12, 041011 (2022)). Rows and columns of modes below CUTOFF_FREQUENCY are 0: the acoustic modes
    at Γ, whose operator has no limit, and imaginary modes.

    Args:
        solution: frequencies (P, m) THz and eigenvectors (P, 3n, m) at `qpoints` (P, 3).

    Returns:
        (P, m, m, 3) complex, THz Å, Hermitian for each c.
    """
    constants = _lattice_constants(second, crystal, table, nac)

    def operator(items: tuple[Array, Array, Array]) -> Array:
        q, f, e = items
        dD = _gradient(q, constants, crystal, table, nac)
        bra = jnp.conj(jnp.swapaxes(e, -1, -2))[:, None]
        elements = jnp.moveaxis(bra @ dD @ e[:, None], 1, -1)
        moves, safe = _slopes(f)
        both = moves[:, :, None] & moves[:, None, :]
        total = jnp.where(both, safe[:, :, None] + safe[:, None, :], 1.0)
        return jnp.where(both[..., None], SQRT_EV_A2_AMU_TO_THZ**2 * elements / total[..., None], 0.0)

    return map_chunks(operator, (jnp.asarray(qpoints), *solution), _chunk(crystal, table, nac, 36, chunk_bytes))


def group_velocities(
    qpoints: Array, solution: tuple[Array, Array], second: Array, crystal: Crystal, table: FC2Table,
    nac: LongRange | None = None, chunk_bytes: int = BYTES,
) -> Array:  # fmt: skip
    """v_s = ⟨e_s| ∂D/∂q |e_s⟩ / 2f_s, averaged over degenerate blocks, which makes it a function of the physics alone.

    A block's average is the mean slope of its branches; it is 0 in the blocks of a zone centre. Only the diagonal is
    formed, so that the whole mesh is affordable. 0 for modes below CUTOFF_FREQUENCY.

    Args:
        solution: frequencies (Q, m) THz and eigenvectors (Q, 3n, m) at `qpoints` (Q, 3).

    Returns:
        (Q, m, 3) THz Å.
    """
    constants = _lattice_constants(second, crystal, table, nac)

    def diagonal(items: tuple[Array, Array, Array]) -> Array:
        q, f, e = items
        dD = _gradient(q, constants, crystal, table, nac)
        slopes = jnp.sum(jnp.real(jnp.conj(e)[:, None] * (dD @ e[:, None])), axis=-2)  # (q, 3, m)
        moves, safe = _slopes(f)
        velocity = jnp.where(moves[:, None], SQRT_EV_A2_AMU_TO_THZ**2 * slopes / (2 * safe[:, None]), 0.0)
        return jnp.einsum("qst,qct->qsc", degenerate_averages(f), velocity)

    return map_chunks(diagonal, (jnp.asarray(qpoints), *solution), _chunk(crystal, table, nac, 30, chunk_bytes))


def phonons(
    qpoints: Array, irreducible: Array, second: Array, crystal: Crystal, table: FC2Table,
    nac: LongRange | None = None, chunk_bytes: int = BYTES,
) -> Phonons:  # fmt: skip
    """The harmonic solution on all `qpoints` and the velocity operator at the `irreducible` ones.

    Args:
        qpoints: (Q, 3) fractional.
        irreducible: (P,) int, rows of `qpoints`.
        second: (n, N2, 3, 3) eV/Å², compact.
        table: plan/fc2_table.fourier_table(crystal, fc2 supercell).
        nac: long-range part, physics/nac.py.
        chunk_bytes: of temporaries, of one chunk of q-points.
    """
    qpoints = jnp.asarray(qpoints)
    frequencies, eigenvectors = frequencies_and_eigenvectors(qpoints, second, crystal, table, nac, chunk_bytes)
    chosen = (frequencies[irreducible], eigenvectors[irreducible])
    velocity = velocity_operator(qpoints[irreducible], chosen, second, crystal, table, nac, chunk_bytes)
    return Phonons(frequencies, eigenvectors, velocity)


@program(static=3)
def compiled_phonons(plan: Plan, fc2: Array, nac: LongRange | None, chunk_bytes: int) -> Phonons:
    """`phonons` on the mesh of a plan."""
    return phonons(
        plan.mesh.qpoints, plan.mesh.irreducible, fc2, plan.crystal, plan.fc2_table, nac, chunk_bytes=chunk_bytes
    )
