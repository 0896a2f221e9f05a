"""A MACE model that is linear in its weights, and least squares for them.

With one interaction and a linear readout the energy of MACE is linear in the weights of its symmetric contraction,

    E = Σ_i E0[z_i] + Σ_i Σ_kc w[z_i, k, c] B_kc(i),      B_kc(i) polynomial k of channel c of the features A of atom i,

once radial functions and embeddings are fixed; random ones do. Forces, virials, Φ2 and Φ3 are then linear in w too, and
their best values are the solution of one linear system instead of thousands of steps: `Design` has ∂B/∂x in closed form,

    ∂E/∂x_j = Σ_i Σ_kcm w[z_i, k, c] ∂B_kc/∂A_mc(i) ∂A_mc(i)/∂x_j,

at the cost of a few evaluations of the energy for all weights together, and Φ2 u and Φ3 u v are derivatives of that along u
and v.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cho_factor, cho_solve

from wigner_jax.ifc.least_squares import apply
from wigner_jax.potentials.layers.equivariant import bessel, direction_monomials, polynomial_cutoff
from wigner_jax.potentials.mace.interaction import _couplings, _network
from wigner_jax.potentials.neighbor_list import build_graph

if TYPE_CHECKING:
    from ase import Atoms

    from wigner_jax.ifc.autodiff import ForceConstantsPlan
    from wigner_jax.potentials.base import Potential
    from wigner_jax.potentials.graph import Graph

CONTRACTION = "products.0.symmetric_contractions.contractions.0."


def linear_model(template: Potential, seed: int) -> Potential:
    """Random radial functions and embeddings of species, normal as in mace-torch; all other maps are the identity."""
    rng = np.random.default_rng(seed)
    C = np.size(template.params["readouts.0.linear.weight"])
    identity = np.sqrt(C) * np.eye(C).ravel()  # linear maps are normalised by √C
    params = {}
    for name in sorted(template.params):
        value = np.asarray(template.params[name], float)
        drawn = rng.standard_normal(value.shape)
        if name.startswith(("interactions.0.conv_tp_weights", "node_embedding")):
            params[name] = drawn
        elif "symmetric_contractions" in name or "skip" in name or name.endswith("shift"):
            params[name] = np.zeros_like(value)
        elif name.startswith("readouts") or name.endswith("scale"):
            params[name] = np.ones_like(value)
        elif "linear" in name:
            params[name] = np.tile(identity, value.size // C**2)
        else:
            params[name] = value
    return template.with_params(params)


class Design:
    """Derivatives of the sums of B over the atoms of a species, for a model from `linear_model`.

    Shapes: N atoms, S species of the crystal, K independent polynomials, C channels.
    """

    def __init__(self, potential: Potential) -> None:
        self.potential = potential
        energy: Any = potential.energy
        self.config = config = energy.config
        self.params = {name: jnp.asarray(value) for name, value in potential.params.items()}
        contraction = config.products[0].contractions[0]
        tables = [(d.weight, d.coefficients.array) for d in contraction.degrees]
        table = np.concatenate([array for _, array in tables], axis=1)
        self.degrees = [(name, array.shape[1]) for name, array in tables]
        self.independent: list[int] = []  # mace-torch's list of polynomials has several of the same
        for k in range(table.shape[1]):
            if np.linalg.matrix_rank(table[:, [*self.independent, k]]) > len(self.independent):
                self.independent.append(k)
        self.factors, self.table = contraction.factors.array, table[:, self.independent]
        block = config.interactions[0]
        self.channels = block.middle[0].mul
        self.dims = [block.middle[path.target].dim for path in block.paths]
        self.couplings = _couplings(block, tuple(range(len(block.paths))), config.single)[:, :, 0]
        self.size = len(self.independent) * self.channels
        self.rows = jax.jit(self.derivatives, static_argnums=3)
        self.second = jax.jit(self._second, static_argnums=3)
        self.third = jax.jit(self._third, static_argnums=3)

    def edge(self, vector: jax.Array, species: jax.Array) -> jax.Array:
        """What a neighbour of a species adds to A, from the vector to it. (Σ (2l + 1), C)"""
        config, params = self.config, self.params
        radial, block = config.radial, config.interactions[0]
        r = jnp.sqrt(jnp.sum(vector**2))
        basis = bessel(r[None], *(params[f"radial_embedding.bessel_fn.{n}"] for n in ("bessel_weights", "prefactor")))
        own = {n.removeprefix("interactions.0."): v for n, v in params.items()}
        radial_of = _network(own, "conv_tp_weights", block.activation_norm)()
        weights = radial_of(basis * polynomial_cutoff(r, radial.r_max, radial.p))
        embedding = params["node_embedding.linear.weight"].reshape(config.n_species, -1)
        R = weights.reshape(len(self.dims), self.channels) * embedding[species] / np.sqrt(config.n_species)
        Y = jnp.einsum("d,dpy->py", direction_monomials(max(block.harmonics), -vector[None] / r)[0], self.couplings)
        return jnp.concatenate([Y[p, :d, None] * R[p] for p, d in enumerate(self.dims)]) / block.neighbors

    def polynomials(self, A: jax.Array) -> jax.Array:
        """B of one atom. (K, C)"""
        extended = jnp.concatenate([A, jnp.ones_like(A[:1])])
        terms = extended[self.factors[0]]
        for row in self.factors[1:]:
            terms = terms * extended[row]
        return jnp.tensordot(self.table.T, terms, 1)

    def derivatives(self, x: jax.Array, graph: Graph, kinds: jax.Array, count: int) -> tuple[jax.Array, ...]:
        """∂/∂x (N, 3, S, K, C), sums of B (S, K, C), virials ∂/∂ε (3, 3, S, K, C). `kinds` are 0 … S − 1."""
        N = x.shape[0]
        there = jnp.asarray(graph.edge_mask)
        vectors = x[graph.senders] - x[graph.receivers] + graph.shifts @ graph.cell
        vectors = jnp.where(there[:, None], vectors, jnp.array([0.9 * self.potential.cutoff, 0.0, 0.0]))
        species = jnp.asarray(graph.species)[graph.senders]

        def both(vector: jax.Array, kind: jax.Array) -> tuple[jax.Array, jax.Array]:
            f = partial(self.edge, species=kind)
            return f(vector), jax.jacfwd(f)(vector)

        a, da = jax.vmap(both)(vectors, species)  # (E, M, C), (E, M, C, 3)
        a, da = jnp.where(there[:, None, None], a, 0.0), jnp.where(there[:, None, None, None], da, 0.0)
        A = jax.ops.segment_sum(a, graph.receivers, N)

        def slopes(A: jax.Array) -> tuple[jax.Array, jax.Array]:
            def shifted(s: jax.Array) -> jax.Array:
                return self.polynomials(A + s[:, None])  # channels do not mix

            return self.polynomials(A), jax.jacfwd(shifted)(jnp.zeros(A.shape[0]))

        B, J = jax.vmap(slopes)(A)
        # one multiplication after the other fuses; as a batch of tiny matrix products it is three times slower
        J = jnp.moveaxis(J, 3, 0)  # (M, N, K, C)
        slope = jnp.stack(
            [sum(J[m][graph.receivers] * da[:, m, None, :, a] for m in range(J.shape[0])) for a in range(3)], axis=1
        )
        own = kinds[graph.receivers]
        ends = [jax.ops.segment_sum(slope, end * count + own, N * count) for end in (graph.senders, graph.receivers)]
        G = (ends[0] - ends[1]).reshape(N, count, 3, *slope.shape[2:]).swapaxes(1, 2)
        V = jnp.stack(
            [jax.ops.segment_sum(slope * vectors[:, b, None, None, None], own, count) for b in range(3)]
        ).transpose(2, 0, 1, 3, 4)
        return G, jax.ops.segment_sum(B, kinds, count), 0.5 * (V + V.swapaxes(0, 1))

    def _second(self, x: jax.Array, graph: Graph, kinds: jax.Array, count: int, u: jax.Array) -> jax.Array:
        return jax.jvp(lambda y: self.derivatives(y, graph, kinds, count)[0], (x,), (u,))[1]

    def _third(self, x: jax.Array, graph: Graph, kinds: jax.Array, count: int, u: jax.Array, v: jax.Array) -> jax.Array:
        return jax.jvp(lambda y: self._second(y, graph, kinds, count, u), (x,), (v,))[1]

    def with_weights(self, w: np.ndarray, energies: np.ndarray) -> Potential:
        """The model with w (species, K C) and energies of atoms (species,)."""
        params = dict(self.potential.params)
        full = np.zeros((len(w), sum(count for _, count in self.degrees), self.channels))
        full[:, self.independent] = w.reshape(len(w), -1, self.channels) * np.sqrt(self.channels)  # the readout's mean
        ends = np.cumsum([count for _, count in self.degrees])[:-1]
        for (name, _), part in zip(self.degrees, np.split(full, ends, axis=1), strict=True):
            params[CONTRACTION + name] = part
        name = "atomic_energies_fn.atomic_energies"
        params[name] = energies.reshape(np.shape(params[name]))
        return self.potential.with_params(params)


def trimmed(graph: Graph, multiple: int) -> Graph:
    """The same graph with its list of edges filled up to a multiple: few shapes to compile."""
    mask = np.asarray(graph.edge_mask)
    fields = {n: np.asarray(getattr(graph, n))[mask] for n in ("senders", "receivers", "shifts", "edge_mask")}
    return dataclasses.replace(graph, **fields).padded(-(-int(mask.sum()) // multiple) * multiple, 0)


class Equations(NamedTuple):
    """A w + (mean numbers of atoms) · E0 = y for one structure: energy per atom, virial per atom, forces; or Φ."""

    species: np.ndarray  # (S,) indices of the model's species
    A: np.ndarray  # (n, S P)
    counts: np.ndarray  # (n, S), what multiplies E0
    y: np.ndarray  # (n,)


#: eV/atom: errors of energies and virials that count as much as a relative error 1 of the forces
ENERGY, VIRIAL = 0.1, 0.03


def frame_equations(design: Design, atoms: Atoms) -> Equations:
    """Forces relative to their size (or 0.02 eV/Å), then virials and the energy."""
    graph = trimmed(build_graph(atoms, design.potential)[0], 512)
    species, kinds = np.unique(graph.species, return_inverse=True)
    N, S = len(atoms), len(species)
    G, B, V = (np.asarray(x) for x in design.rows(graph.positions, graph, kinds, S))
    voigt = [0, 4, 8, 5, 2, 1]
    forces = atoms.arrays["REF_forces"].ravel()
    virial = np.ravel(atoms.info["REF_stress"])[voigt] * atoms.get_volume() / N
    w = np.concatenate(
        [
            np.full(3 * N, 1 / np.sqrt((np.mean(forces**2) + 0.02**2) * 3 * N)),
            np.full(6, 1 / (VIRIAL * np.sqrt(6))),
            [1 / ENERGY],
        ]
    )
    A = np.concatenate([-G.reshape(3 * N, -1), V.reshape(9, -1)[voigt] / N, B.reshape(1, -1) / N])
    counts = np.zeros((len(A), S))
    counts[-1] = np.bincount(kinds) / N
    y = np.concatenate([forces, virial, [atoms.info["REF_energy"] / N]])
    return Equations(species, A * w[:, None], counts * w[:, None], y * w)


def constant_equations(
    design: Design, plan: ForceConstantsPlan, second: np.ndarray, third: np.ndarray, weight: float
) -> list[Equations]:
    """Φ2 u and Φ3 u v along the patterns of a plan, relative to their norms times 1/weight."""
    graph = trimmed(plan.graph2, 512)
    species, kinds = np.unique(graph.species, return_inverse=True)
    x, result = jnp.asarray(graph.positions), []
    for fit, phi, rows in ((plan.fit2, second, design.second), (plan.fit3, third, design.third)):
        y = np.asarray(apply(fit, jnp.asarray(phi))).ravel()
        legs = [np.broadcast_to(u, (fit.basis.order - 1, *u.shape[1:])) for u in fit.patterns]
        found = [np.asarray(rows(x, graph, kinds, len(species), *u)).reshape(x.size, -1) for u in legs]
        scale = weight / np.linalg.norm(y)
        counts = np.zeros((len(y), len(species)))
        result.append(Equations(species, np.concatenate(found) * scale, counts, y * scale))
    return result


def least_squares(equations: list[Equations], count: int, ridge: float) -> tuple[np.ndarray, np.ndarray]:
    """w (count, P) and E0 (count,) that minimise Σ |A w + n E0 − y|² + ridge Σ_k |column k|² w_k².

    Normal equations with columns of norm 1, one linear system for each set of species that share a compound.
    """
    P = equations[0].A.shape[1] // len(equations[0].species)
    w, energies = np.zeros((count, P)), np.zeros(count)
    left = set(range(len(equations)))
    while left:
        chosen: set[int] = set()
        species = set(equations[min(left)].species)
        while more := {k for k in left - chosen if species & set(equations[k].species)}:
            chosen |= more
            species |= {s for k in more for s in equations[k].species}
        left -= chosen
        order = {s: k for k, s in enumerate(sorted(species))}
        n = len(order) * (P + 1)
        H, b = np.zeros((n, n)), np.zeros(n)
        for own in {tuple(equations[k].species) for k in chosen}:
            same = [equations[k] for k in sorted(chosen) if tuple(equations[k].species) == own]
            A = np.concatenate([np.concatenate([e.A, e.counts], axis=1) for e in same])
            columns = np.concatenate(
                [np.arange(order[s] * P, (order[s] + 1) * P) for s in own] + [[len(order) * P + order[s] for s in own]]
            )
            H[np.ix_(columns, columns)] += A.T @ A
            b[columns] += A.T @ np.concatenate([e.y for e in same])
        d = np.sqrt(np.maximum(np.diag(H), 1e-300))
        H = H / d[:, None] / d + ridge * np.eye(len(d))
        solution = cho_solve(cho_factor(H, overwrite_a=True), b / d) / d
        for s, k in order.items():
            w[s], energies[s] = solution[k * P : (k + 1) * P], solution[len(order) * P + k]
    return w, energies
