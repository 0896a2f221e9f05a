"""Mode Grüneisen parameters from Φ3, and what follows from them: the thermal expansion.

    γ^{cd}_s(q) = -∂ ln f_s / ∂ε_cd = -⟨e_s| ∂D/∂ε_cd |e_s⟩ / 2λ_s,        λ_s = f_s²

for a homogeneous strain ε at fixed reduced wave vector; γ_s = (1/3) Σ_c γ^{cc}_s = -∂ ln f_s / ∂ ln V. There are two ways
to ∂Φ2/∂ε. Φ2 changes with the positions of all other atoms,

    ∂Φ_ij/∂ε_cd = Σ_K Φ_ijK,c (r_K - r_i)_d + Σ_K Φ_ijK,e Λ_{k(K) e,cd}

over the nearest images of the atoms K of the Φ3 supercell (equidistant ones in equal parts); Λ is how the atoms of the
cell move under strain where symmetry lets them (left out for clamped ions), from the forces that a strain raises:

    Σ_j K_ij Λ_j,cd = -Σ_J Φ_iJ,c (r_J - r_i)_d,       K = Φ2 summed over the cells

(`strain_derivative`); or the potential is differentiated once more along a strain of the supercell
(`constants_and_slope`), which needs no Φ3 and counts every image of K at its own distance. Both are the same number if
the potential reaches less far than half the supercell; beyond, Φ3 of a supercell does not know which image of K it was.

Sources: Togo, Chaput, Tanaka, PRB 91, 094306 (2015), sec. II; Born and Huang (1954) for the internal strain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from .._core.pytree import pytree
from ..crystal.supercells import shortest_vectors
from ..ifc.evaluations import evaluate
from ..ifc.least_squares import recover
from ..physics.degeneracy import degenerate_averages
from ..physics.phonons import dynamical_matrix
from ..physics.taking_part import takes_part
from ..plan.fc2_table import make_fc2_table
from ..units import SQRT_EV_A2_AMU_TO_THZ

if TYPE_CHECKING:
    from .._core.pytree import Array
    from ..ifc.displacement_patterns import Fit
    from ..potentials.base import Energy, Params
    from ..potentials.graph import Graph
    from ..types import Crystal, FC2Table, ForceConstants, Phonons, Supercell, Supercells


_TO_THZ2 = SQRT_EV_A2_AMU_TO_THZ**2
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@pytree()
class StrainTables:
    """What a strain needs to know of the two supercells. Made by `strain_tables`."""

    separations2: Array  #: (n, N2, 3) Å
    separations3: Array  #: (n, N3, 3) Å
    atom2: Array  #: (N2,) int, primitive atom of each supercell atom
    atom3: Array  #: (N3,) int
    fourier: FC2Table  #: of the Φ3 supercell


def strain_tables(supercells: Supercells) -> StrainTables:
    """Host."""
    crystal = supercells.crystal
    return StrainTables(
        mean_separations(crystal, supercells.fc2_supercell),
        mean_separations(crystal, supercells.fc3_supercell),
        supercells.fc2_supercell.primitive_index,
        supercells.fc3_supercell.primitive_index,
        make_fc2_table(crystal, supercells.fc3_supercell),
    )


def mean_separations(crystal: Crystal, supercell: Supercell) -> np.ndarray:
    """r_J - r_i, averaged over the equidistant nearest images of J. (n, N, 3) Å. Host."""
    lattice, positions = np.asarray(crystal.lattice), np.asarray(crystal.positions)
    images = shortest_vectors(crystal, supercell)
    cells = np.array([[shifts.mean(axis=0) for shifts in map(np.asarray, row)] for row in images])
    return (positions[supercell.primitive_index] + cells - positions[:, None]) @ lattice


def internal_strain(second: Array, separations: Array, atom: Array) -> Array:
    """Λ of the module's docstring, without rigid translations. (n, 3, 3, 3): atom, component, strain cd.

    Args:
        second: (n, N, 3, 3) eV/Å².
        separations: (n, N, 3) Å.
        atom: (N,) int, the primitive atom of each supercell atom.
    """
    n = second.shape[0]
    raised = jnp.einsum("iJac,iJd->iacd", second, separations).reshape(3 * n, 9)
    same = jax.nn.one_hot(atom, n, dtype=second.dtype)
    stiffness = jnp.einsum("iJab,Jj->iajb", second, same).reshape(3 * n, 3 * n)
    stiffness = (stiffness + stiffness.T) / 2
    # translations cost nothing: they are moved up, out of the way (a single atom has nothing else)
    translation = jnp.tile(jnp.eye(3, dtype=second.dtype), (n, 1)) / jnp.sqrt(n)
    lifted = stiffness + jnp.maximum(jnp.trace(stiffness), 1.0) * translation @ translation.T
    raised = raised - translation @ (translation.T @ raised)
    response = -jnp.linalg.solve(lifted, raised)
    return response.reshape(n, 3, 3, 3)


def strain_derivative(third: Array, separations: Array, atom: Array, internal: Array | None) -> Array:
    """∂Φ2/∂ε_cd in the Φ3 supercell. (n, N, 3, 3, 6): Voigt order, half of ε_yz and ε_zy each for yz.

    Args:
        third: (n, N, N, 3, 3, 3) eV/Å³.
        separations: (n, N, 3) Å.
        internal: (n, 3, 3, 3) from `internal_strain`; None for clamped ions.
    """
    full = jnp.einsum("iJKabc,iKd->iJabcd", third, separations)
    if internal is not None:
        full = full + jnp.einsum("iJKabe,Kecd->iJabcd", third, internal[atom])
    full = (full + jnp.swapaxes(full, -1, -2)) / 2
    return jnp.stack([full[..., c, d] for c, d in VOIGT], axis=-1)


def constants_and_slope(
    energy: Energy, params: Params, graph: Graph, fit: Fit, direction: tuple[Array, Array]
) -> tuple[Array, Array, Array]:
    """Φ2 of a supercell and its derivative along a strain, by differentiating the forces' derivatives once more.

    Φ = (AᵀA)⁻¹ Aᵀ G is linear in the directional derivatives G, with A made of rotations and patterns alone
    (ifc/displacement_patterns.py), so that ∂Φ = (AᵀA)⁻¹ Aᵀ ∂G wherever the strain keeps the space group.

    Args:
        graph, fit: of the supercell, order 2.
        direction: strain ε (3, 3), symmetric, and how the atoms move with it, (N, 3) Å: x → x (1 + s ε) + s u.

    Returns:
        Φ2 and ∂Φ2/∂s at s = 0, (n, N, 3, 3) eV/Å² each; the residuals of the two fits (2,).
    """
    strain, moves = direction

    def derivatives(s: Array) -> Array:
        moved = graph.strained(s * strain)
        return evaluate(energy, params, moved.at(moved.positions + s * moves), fit.patterns, fit.basis.order)

    values, slopes = jax.jvp(derivatives, (jnp.zeros(()),), (jnp.ones(()),))
    (second, first), (change, other) = recover(fit, values), recover(fit, slopes)
    return second, change, jnp.stack([first, other])


def mode_slopes(frequencies: Array, eigenvectors: Array, change: Array) -> Array:
    """-⟨e_s| ∂D |e_s⟩ / 2λ_s, averaged over degenerate blocks; 0 for modes below the cut-off frequency. (Q, m, v)

    An average, since a strain that keeps the symmetry shifts all modes of a block alike, and two modes that meet by
    accident have no order of their own.

    Args:
        frequencies: (Q, m) THz, ascending.
        eigenvectors: (Q, 3n, m).
        change: (v, Q, 3n, 3n) eV/Å²/amu, ∂D along v directions.
    """
    slopes = jnp.einsum("qis,vqij,qjs->qsv", jnp.conj(eigenvectors), change, eigenvectors).real
    slopes = jnp.einsum("qst,qtv->qsv", degenerate_averages(frequencies), slopes)
    alive = takes_part(frequencies)
    squares = jnp.where(alive, frequencies, 1.0) ** 2
    return jnp.where(alive[..., None], -slopes * _TO_THZ2 / (2 * squares[..., None]), 0.0)


def mode_gruneisen(
    qpoints: Array, phonons: tuple[Array, Array], strained: Array, crystal: Crystal, table: FC2Table
) -> Array:
    """γ^v_s of `mode_slopes` from a change of Φ2 along v directions. (Q, m, v)

    Args:
        qpoints: (Q, 3) fractional.
        phonons: frequencies (Q, m) THz and eigenvectors (Q, 3n, m) there.
        strained: (n, N, 3, 3, v), such as `strain_derivative` makes (v = 6, Voigt order).
        table: of the supercell of `strained`.
    """
    change = jax.lax.map(
        lambda second: dynamical_matrix(qpoints, second, crystal, table), jnp.moveaxis(strained, -1, 0)
    )
    return mode_slopes(*phonons, change)


def gruneisen(
    phonons: Phonons, mesh: tuple[Array, Array], fc: ForceConstants, tables: StrainTables, crystal: Crystal,
    relaxed_ions: bool = True,
) -> Array:  # fmt: skip
    """Mode Grüneisen parameters at the irreducible points of a mesh. (P, m, 6), Voigt order.

    Args:
        phonons: on the whole mesh.
        mesh: its qpoints (Q, 3) and the indices of the irreducible ones (P,).
        tables: from `strain_tables`.
        relaxed_ions: whether the atoms of the cell follow the strain where symmetry lets them.
    """
    at = jnp.asarray(mesh[1])
    internal = None
    if relaxed_ions:
        internal = internal_strain(fc.fc2, tables.separations2, tables.atom2)
    strained = strain_derivative(fc.fc3, tables.separations3, tables.atom3, internal)
    modes = (phonons.frequencies[at], phonons.eigenvectors[at])
    return mode_gruneisen(jnp.asarray(mesh[0])[at], modes, strained, crystal, tables.fourier)
