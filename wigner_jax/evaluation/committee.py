"""What several models say of one crystal, and what an uncertainty of a model's parameters means for κ.

A committee computes everything with each of its members. The linearised error needs one gradient:

    σ² = gᵀ C g,        g = ∂κ/∂θ,   C the covariance of the parameters θ,

which for members θ_k of a committee around their mean, C = Σ_k (θ_k - θ̄)(θ_k - θ̄)ᵀ/(K - 1), needs no matrix.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.pytree import host_data
from .._solve import make_plan
from ..errors import InputError
from ..ifc.autodiff import force_constants_at, plan_force_constants
from ..pipeline import conductivity, derivatives_of, mesh_for, prepare
from ..potentials.base import Potential
from ..potentials.registry import restrict
from .members import solve_members

#: options of `conductivity` that members which are computed side by side share
TOGETHER = {
    "mesh", "temperatures", "fc2_supercell", "fc3_supercell", "derivatives", "symprec", "broadening", "scattering",
    "allow_imaginary",
}  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import ase

    from .._core.pytree import Array
    from ..pipeline import Model
    from ..solution import Solution


@host_data
class Committee:
    """What each member says, and means and standard deviations over the members. Host data.

    Attributes:
        names: of the members.
        solutions: of each.
    """

    names: tuple[str, ...]
    solutions: tuple[Solution, ...]

    @property
    def temperatures(self) -> np.ndarray:
        """(T,) K."""
        return np.asarray(self.solutions[0].conductivity.temperatures)

    @property
    def kappa(self) -> np.ndarray:
        """κ_TOT of each member, (K, T, 6) W/(m K), Voigt order, by the transport equation that was asked for."""
        return np.stack([s.kappa for s in self.solutions])

    @property
    def frequencies(self) -> np.ndarray:
        """Of each member at the irreducible points, (K, P, m) THz, ascending."""
        at = np.asarray(self.solutions[0].mesh.irreducible)
        return np.stack([np.asarray(s.phonons.frequencies)[at] for s in self.solutions])

    @property
    def linewidths(self) -> np.ndarray:
        """γ of each member by all causes, (K, T, P, m) THz."""
        return np.stack([np.asarray(s.linewidths.total) for s in self.solutions])

    def bands(self) -> np.ndarray | None:
        """Frequencies along the high-symmetry path of each member's own crystal, (K, points, m) THz; None without a path."""
        found = [s.bands() for s in self.solutions]
        return None if any(b is None for b in found) else np.stack([b.frequencies for b in found if b is not None])

    def mean_and_spread(self, name: str = "kappa") -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (of a sample: over K - 1) of "kappa", "frequencies", "linewidths" or "bands".

        Raises:
            InputError: another name, or bands without a path.
        """
        if name not in ("kappa", "frequencies", "linewidths", "bands"):
            raise InputError(f"a committee has no {name!r}", "choose from kappa, frequencies, linewidths, bands")
        values = self.bands() if name == "bands" else getattr(self, name)
        if values is None:
            raise InputError("there is no high-symmetry path", "install seekpath (extra plot)")
        return values.mean(axis=0), values.std(axis=0, ddof=1)

    def __repr__(self) -> str:
        mean, spread = (x[:, :3].mean(axis=1) for x in self.mean_and_spread())
        words = ", ".join(
            f"{m:.4g} ± {s:.2g} W/(m K) at {T:g} K" for m, s, T in zip(mean, spread, self.temperatures, strict=True)
        )
        return f"Committee({len(self.names)} members: κ {words})"


def committee(
    structure: str | Path | ase.Atoms,
    models: Sequence[Model],
    *,
    names: Sequence[str] | None = None,
    side_by_side: bool | None = None,
    **options: Any,
) -> Committee:
    """`conductivity` with each of several models. Those of one architecture share all compiled programs.

    Each member relaxes the structure for itself unless ``relax=False``. Then, and if all are potentials of one architecture
    (``potential.with_params(theta)``) whose force constants are differentiated, they can be computed side by side in one program
    (`jax.vmap`), which is for accelerators: on a CPU one after the other is as fast and takes the memory of one.

    Args:
        structure, options: as for `conductivity`.
        models: two or more: potentials (such as ``potential.with_params(theta)``), names, files, calculators.
        names: of the members, numbers by default.
        side_by_side: unless given, where it can be done and JAX's default device is no CPU.

    Raises:
        InputError: fewer than two members, one that fails (it is named), members whose crystals are not of one symmetry, so that
            their irreducible points differ, or `side_by_side` of what cannot be.
    """
    if len(models) < 2:
        raise InputError(f"a committee of {len(models)}", "give two models or more")
    names = tuple(str(k) for k in range(len(models))) if names is None else tuple(map(str, names))
    if len(names) != len(models):
        raise InputError(f"{len(names)} names for {len(models)} models", "give one name for each")
    if side_by_side or (side_by_side is None and jax.default_backend() != "cpu"):
        together = _side_by_side(structure, models, options)
        if together is not None:
            return Committee(names, tuple(together))
        if side_by_side:
            raise InputError(
                "these members cannot be computed side by side",
                "give potentials of one architecture, relax=False and derivatives by automatic differentiation",
            )
    solutions: list[Solution] = []
    for name, model in zip(names, models, strict=True):
        try:
            solutions.append(conductivity(structure, model, **options))
        except InputError as error:
            raise type(error)(f"member {name}: {error.found}", error.remedy) from error
        first, last = solutions[0].mesh, solutions[-1].mesh
        if first.dims != last.dims or not np.array_equal(first.irreducible, last.irreducible):
            raise InputError(
                f"member {name} has another mesh or symmetry than member {names[0]}", "give mesh, and a symprec"
            )
    return Committee(names, tuple(solutions))


def _side_by_side(structure: Any, models: Sequence[Model], options: dict[str, Any]) -> list[Solution] | None:
    """The solutions of all members, or None if their shapes or ways differ."""
    rest = dict(options)
    if rest.pop("relax", True) or not set(rest) <= TOGETHER or not all(isinstance(x, Potential) for x in models):
        return None
    potentials = [x for x in models if isinstance(x, Potential)]
    first = potentials[0]

    def architecture(x: Potential) -> tuple[Any, ...]:
        """What one plan of the force constants serves: neighbour lists as well."""
        return jax.tree.map(jnp.shape, x.params), x.energy, x.species, x.cutoff, x.pair_cutoffs

    if (
        any(architecture(x) != architecture(first) for x in potentials)
        or derivatives_of(first, rest.pop("derivatives", None)) != "ad"
    ):
        return None
    mesh, temperatures = rest.pop("mesh", None), rest.pop("temperatures", (300.0,))
    cells = {name: rest.pop(name, None) for name in ("fc2_supercell", "fc3_supercell")}
    problem = prepare(structure, first, relax=False, derivatives="ad", symprec=rest.pop("symprec", None), **cells)
    supercells = problem.supercells
    restricted = [restrict(x, supercells.crystal.numbers) for x in potentials]
    plan, _ = plan_force_constants(supercells, restricted[0])
    stacked = jax.tree.map(lambda *x: jnp.stack([jnp.asarray(y) for y in x]), *(x.params for x in restricted))
    constants = _constants(restricted[0].energy, stacked, jax.device_put(plan))
    members = [jax.tree.map(lambda x, k=k: x[k], constants) for k in range(len(models))]
    given = problem.mesh if mesh is None else mesh
    q = make_plan(supercells, mesh_for(supercells.crystal) if given is None else given)
    found = solve_members(q, members, temperatures, **rest)
    return [dataclasses.replace(x, report=problem.report) for x in found]


@partial(jax.jit, static_argnums=0)
def _constants(energy: Any, stacked: Any, plan: Any) -> Any:
    return jax.vmap(lambda params: force_constants_at(energy, params, plan))(stacked)


def linear_error(gradient: Any, covariance: Any) -> Array:
    """σ = √(gᵀ C g): the error of a quantity by that of the parameters, to first order.

    Args:
        gradient: ∂κ/∂θ, a pytree such as `jax.grad` or ``Gradient.params`` gives.
        covariance: of the parameters, in one of three ways: a list of two parameter trees or more, the members of a committee;
            a tree of variances, like the gradient (no correlations); or a matrix, in the order of `jax.flatten_util.ravel_pytree`.

    Returns:
        () in the unit of the quantity.

    Raises:
        InputError: shapes that are not the gradient's.
    """
    from jax.flatten_util import ravel_pytree

    g = ravel_pytree(gradient)[0]
    tree: Any = jax.tree.structure(gradient)
    if isinstance(covariance, (list, tuple)) and all(jax.tree.structure(x) == tree for x in covariance):
        if len(covariance) < 2:
            raise InputError(f"a committee of {len(covariance)}", "give two sets of parameters or more")
        members = jnp.stack([ravel_pytree(x)[0] for x in covariance])
        if members.shape[1] != g.size:
            raise InputError(
                f"members of {members.shape[1]} parameters, a gradient of {g.size}", "give trees of one shape"
            )
        return jnp.sqrt(jnp.sum(((members - members.mean(axis=0)) @ g) ** 2) / (len(members) - 1))
    if jax.tree.structure(covariance) == tree and jax.tree.map(jnp.shape, covariance) == jax.tree.map(
        jnp.shape, gradient
    ):
        variances = ravel_pytree(covariance)[0]
        if not bool(jnp.all(variances >= 0)):
            raise InputError("variances must not be negative", "give squares of standard deviations")
        return jnp.sqrt(jnp.sum(variances * g**2))
    matrix = jnp.asarray(covariance) if isinstance(covariance, (np.ndarray, jax.Array)) else jnp.zeros(())
    if matrix.shape != (g.size, g.size):
        raise InputError(
            f"the covariance fits no gradient of {g.size} parameters",
            "give members' parameters, a tree of variances, or a square matrix",
        )
    square = g @ matrix @ g
    if not bool(square >= 0):
        raise InputError("the covariance has a negative direction", "it must be positive semidefinite")
    return jnp.sqrt(square)


__all__ = ["Committee", "committee", "linear_error"]
