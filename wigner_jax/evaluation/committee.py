"""What several models say of one crystal, and what an uncertainty of a model's parameters means for κ.

A committee computes everything with each of its members. The linearised error needs one gradient:

    σ² = gᵀ C g,        g = ∂κ/∂θ,   C the covariance of the parameters θ,

which for members θ_k of a committee around their mean, C = Σ_k (θ_k - θ̄)(θ_k - θ̄)ᵀ/(K - 1), needs no matrix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.pytree import host_data
from ..errors import InputError
from ..pipeline import conductivity

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
        """κ_TOT of each member, (K, T, 6) W/(m K), Voigt order."""
        return np.stack([np.asarray(s.conductivity.kappa_TOT) for s in self.solutions])

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
    structure: str | Path | ase.Atoms, models: Sequence[Model], *, names: Sequence[str] | None = None, **options: Any
) -> Committee:
    """`conductivity` with each of several models. Those of one architecture share all compiled programs.

    Each member relaxes the structure for itself unless ``relax=False``.

    Args:
        structure, options: as for `conductivity`.
        models: two or more: potentials (such as ``potential.with_params(theta)``), names, files, calculators.
        names: of the members, numbers by default.

    Raises:
        InputError: fewer than two members, one that fails (it is named), or members whose crystals are not of one symmetry, so that
            their irreducible points differ.
    """
    if len(models) < 2:
        raise InputError(f"a committee of {len(models)}", "give two models or more")
    names = tuple(str(k) for k in range(len(models))) if names is None else tuple(map(str, names))
    if len(names) != len(models):
        raise InputError(f"{len(names)} names for {len(models)} models", "give one name for each")
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
