"""Potentials in closed form: Tersoff for C, Si, Ge and their compounds; Stillinger–Weber silicon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from ...errors import InputError
from ..base import Distances, Potential

if TYPE_CHECKING:
    from ..._core.pytree import Array
    from ..graph import Graph


def cosines(graph: Graph, vectors: Array, lengths: Array) -> Array:
    """cos θ between the two edges of every angle. (T,)"""
    first, second = graph.angles[:, 0], graph.angles[:, 1]
    dot = jnp.sum(vectors[first] * vectors[second], axis=-1)
    cosine = dot / (lengths[first] * lengths[second])
    return jnp.where(graph.angle_mask, cosine, 0.0)


def tersoff_energy(params: dict[str, Array], graph: Graph) -> Array:
    """Tersoff's bond-order energy in the 1989 multicomponent form, eV.

        E = ½ Σ_{i≠j} f_C(r_ij) [A_ij exp(−λ_ij r_ij) − b_ij B_ij exp(−μ_ij r_ij)]
        b_ij = χ_ij (1 + β_i^{n_i} ζ_ij^{n_i})^{−1/(2 n_i)},   ζ_ij = Σ_{k≠i,j} f_C(r_ik) g_i(θ_ijk)
        g_i(θ) = 1 + c_i²/d_i² − c_i²/[d_i² + (h_i − cos θ)²]
        f_C(r) = 1 (r < R), ½ + ½ cos π(r − R)/(S − R) (R < r < S), 0 (r > S)

    Mixing: λ and μ arithmetic, A, B, R and S geometric means; ω_ik = 1.

    f_C is only C¹: its second derivative jumps by ½π²/(S − R)² at R and at S, so that force constants exist only while
    no pair sits there (`Potential.nonsmooth_distances` holds those distances, the graph's margin says how near the nearest pair is).

    Args:
        params: A, B (S,) eV; lam, mu (S,) 1/Å; beta, n, c, d, h (S,); R, S (S,) Å; chi (S, S), for S species.

    Source: J. Tersoff, Phys. Rev. B 39, 5566 (1989), eqs. 1 and 2; erratum 41, 3248 (1990).
    """
    params = jax.tree.map(jnp.asarray, params)  # numpy leaves cannot be indexed by a traced graph
    species = jnp.asarray(graph.species)
    i, j = species[graph.receivers], species[graph.senders]
    vectors = graph.vectors()
    r = jnp.sqrt(jnp.sum(vectors**2, axis=-1))

    def mean(name: str) -> Array:
        return 0.5 * (params[name][i] + params[name][j])

    def geometric(name: str) -> Array:
        return jnp.sqrt(params[name][i] * params[name][j])

    R, S = geometric("R"), geometric("S")
    inside = (r > R) & (r < S)
    phase = jnp.where(inside, (r - R) / (S - R), 0.5)
    cutoff = jnp.where(inside, 0.5 + 0.5 * jnp.cos(jnp.pi * phase), r <= R)
    cutoff = jnp.where(graph.edge_mask, cutoff, 0.0)

    ij, ik = graph.angles[:, 0], graph.angles[:, 1]
    c2, d2, h = params["c"][i[ij]] ** 2, params["d"][i[ij]] ** 2, params["h"][i[ij]]
    g = 1 + c2 / d2 - c2 / (d2 + (h - cosines(graph, vectors, r)) ** 2)
    zeta = jax.ops.segment_sum(
        jnp.where(graph.angle_mask, cutoff[ik] * g, 0.0), ij, graph.edge_mask.shape[0], indices_are_sorted=False
    )
    n = params["n"][i]
    # ζ^n has an infinite slope at 0 (a dimer, or an edge beyond S): the input is guarded, not the result
    bonded = zeta > 0
    power = jnp.where(bonded, (params["beta"][i] * jnp.where(bonded, zeta, 1.0)) ** n, 0.0)
    order = params["chi"][i, j] * (1 + power) ** (-0.5 / n)
    repulsion = geometric("A") * jnp.exp(-mean("lam") * r)
    attraction = geometric("B") * jnp.exp(-mean("mu") * r)
    reach = jnp.sqrt(params["S"][:, None] * params["S"][None, :])
    return 0.5 * jnp.sum(cutoff * (repulsion - order * attraction)) * _within(reach, graph)


#       A (eV)   B (eV)  λ (1/Å)  μ (1/Å)  β          n        c         d       h         R    S (Å)
_TERSOFF: dict[str, dict[int, tuple[float, ...]]] = {
    # Phys. Rev. B 39, 5566 (1989), table I; B and d of carbon as corrected by the erratum 41, 3248 (1990)
    "tersoff-1989": {
        6: (1393.6, 346.74, 3.4879, 2.2119, 1.5724e-7, 0.72751, 3.8049e4, 4.3484, -0.57058, 1.8, 2.1),
        14: (1830.8, 471.18, 2.4799, 1.7322, 1.1000e-6, 0.78734, 1.0039e5, 16.217, -0.59825, 2.7, 3.0),
        32: (1769.0, 419.23, 2.4451, 1.7047, 9.0166e-7, 0.75627, 1.0643e5, 15.652, -0.43884, 2.8, 3.1),
    },
    # Phys. Rev. B 38, 9902 (1988), table I: "Si(C)"
    "tersoff-1988-si": {
        14: (1830.8, 471.18, 2.4799, 1.7322, 1.0999e-6, 0.78734, 1.0039e5, 16.218, -0.59826, 2.7, 3.0),
    },
}
_CHI = {(6, 14): 0.9776, (14, 32): 1.00061}


def tersoff(name: str = "tersoff-1989") -> Potential:
    """Tersoff's potential with a published parameter set.

    "tersoff-1989" covers C, Si, Ge, SiC and Si–Ge. No χ was published for C–Ge; it is 1 here (ideal mixing), so that
    germanium carbide is outside what was fitted. "tersoff-1988-si" is the silicon of the year before.
    """
    table = _TERSOFF[name]
    species = tuple(table)
    columns = np.array([table[z] for z in species]).T
    params: dict[str, Any] = dict(
        zip(("A", "B", "lam", "mu", "beta", "n", "c", "d", "h", "R", "S"), columns, strict=True)
    )
    params["chi"] = np.array([[_CHI.get((min(s, t), max(s, t)), 1.0) for t in species] for s in species])
    return Potential(
        params={key: np.asarray(value) for key, value in params.items()},
        energy=tersoff_energy,
        name=name,
        species=species,
        needs_angles=True,
        distances=tersoff_distances,
        **tersoff_distances(params)._asdict(),
    )


def tersoff_distances(params: dict[str, Any]) -> Distances:
    """S_ij is the longest edge of a pair of species; R_ij is where f_C begins to fall.

    Raises:
        InputError: a length that is not above 0, or R not below S.
    """
    R, S = (np.sqrt(np.outer(x, x)) for x in _lengths(params, "R", "S"))
    if not np.all(R < S):
        raise InputError("R must be below S", "the cut-off falls from 1 at R to 0 at S")
    count = len(S)
    return Distances(
        cutoff=float(S.max()),
        pair_cutoffs=tuple(tuple(float(x) for x in row) for row in S),
        nonsmooth_distances=tuple((s, t, float(R[s, t])) for s in range(count) for t in range(s, count)),
    )


def _lengths(params: dict[str, Any], *names: str) -> list[np.ndarray]:
    found = [np.asarray(params[name], float) for name in names]
    if not all(np.all((x > 0) & np.isfinite(x)) for x in found):
        raise InputError(f"{' and '.join(names)} must be above 0", "the cut-off distance is made of them")
    return found


def _within(reach: Array, graph: Graph) -> Array:
    """1, or NaN if the energy reaches further than the graph's list of edges is complete. A factor of the energy, so that
    its derivatives are NaN too."""
    if graph.complete is None:
        return jnp.ones(())
    return jnp.where(jnp.any(reach > graph.complete), jnp.nan, 1.0)


def stillinger_weber_energy(params: dict[str, Array], graph: Graph) -> Array:
    """Stillinger and Weber's energy of silicon, eV.

        E = Σ_{i<j} φ₂(r_ij) + Σ_i Σ_{j<k} φ₃(r_ij, r_ik, θ_jik)
        φ₂ = ε A [B (σ/r)^p − (σ/r)^q] exp[σ/(r − aσ)]
        φ₃ = ε λ exp[γσ/(r_ij − aσ) + γσ/(r_ik − aσ)] (cos θ + 1/3)²,   both zero for r ≥ aσ

    All derivatives vanish at the cutoff aσ = 3.771 Å.

    Args:
        params: epsilon () eV, sigma () Å, and A, B, p, q, a, lam, gamma () without unit.

    Source: F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985), eqs. 2.3 to 2.6.
    """
    sigma, epsilon = params["sigma"], params["epsilon"]
    vectors = graph.vectors()
    x = jnp.sqrt(jnp.sum(vectors**2, axis=-1)) / sigma
    inside = graph.edge_mask & (x < params["a"])
    # 1/(x − a) diverges at the cutoff: beyond it the input is moved to a harmless place
    x_in = jnp.where(inside, x, 0.5 * params["a"])
    decay = 1 / (x_in - params["a"])
    pair = params["A"] * (params["B"] * x_in ** -params["p"] - x_in ** -params["q"]) * jnp.exp(decay)
    reach = jnp.where(inside, jnp.exp(params["gamma"] * decay), 0.0)
    first, second = graph.angles[:, 0], graph.angles[:, 1]
    angle = (cosines(graph, vectors, x * sigma) + 1 / 3) ** 2
    three = jnp.where(graph.angle_mask, reach[first] * reach[second] * angle, 0.0)
    # every pair appears as two edges, every angle as two ordered pairs of edges
    energy = 0.5 * epsilon * (jnp.sum(jnp.where(inside, pair, 0.0)) + params["lam"] * jnp.sum(three))
    return energy * _within(params["a"] * sigma, graph)


def stillinger_weber(name: str = "stillinger-weber-si") -> Potential:
    """Silicon with the original parameters; ε = 50 kcal/mol = 2.1683 eV reproduces the cohesive energy 4.336 eV."""
    params = {
        "epsilon": 2.1683,
        "sigma": 2.0951,
        "A": 7.049556277,
        "B": 0.6022245584,
        "p": 4.0,
        "q": 0.0,
        "a": 1.8,
        "lam": 21.0,
        "gamma": 1.2,
    }
    return Potential(
        params={key: np.asarray(value) for key, value in params.items()},
        energy=stillinger_weber_energy,
        name=name,
        species=(14,),
        needs_angles=True,
        distances=stillinger_weber_distances,
        **stillinger_weber_distances(params)._asdict(),
    )


def stillinger_weber_distances(params: dict[str, Any]) -> Distances:
    """The cutoff is aσ.

    Raises:
        InputError: a or σ is not above 0.
    """
    a, sigma = _lengths(params, "a", "sigma")
    return Distances(cutoff=float(a * sigma))
