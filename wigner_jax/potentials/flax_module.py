"""Potentials as Flax modules, for training loops that are written with flax and optax.

This is the only module that imports flax, and it is imported only when one of its names is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from flax import linen

from ..errors import InputError
from .base import Potential  # noqa: TC001 (Flax reads the annotations of a module)

if TYPE_CHECKING:
    from .._core.pytree import Array
    from .graph import Graph


class FlaxPotential(linen.Module):
    """The energy of a potential as a Flax module.

        module = as_flax(potential)
        variables = module.init(jax.random.key(0), graph)     {"params": the potential's own parameters}
        energy = module.apply({"params": params}, graph)      () eV

    `init` draws no random numbers: training starts at the model. The parameters have the potential's own names, so that
    `potential.with_params(params)` takes them back. Gradients, masks, optimizers and checkpoints see an ordinary tree.

    Attributes:
        potential: gives the energy, and the parameters that `init` returns.
    """

    potential: Potential

    @linen.compact
    def __call__(self, graph: Graph) -> Array:
        """Energy of the cell, () eV."""
        return self.potential.energy(
            {name: self.param(name, _start, value) for name, value in self.potential.params.items()}, graph
        )


def _start(_: Array, value: Array) -> Array:
    return jax.tree.map(jnp.asarray, value)


def as_flax(potential: Potential) -> FlaxPotential:
    """The potential as a Flax module.

    Raises:
        InputError: its parameters are no dictionary by name, which Flax needs.
    """
    params = potential.params
    if not isinstance(params, Mapping) or not all(isinstance(name, str) for name in params):
        raise InputError(f"{potential.name}: Flax needs parameters with names: make them a dictionary of arrays")
    return FlaxPotential(potential)


__all__ = [
    "FlaxPotential",
    "as_flax",
]
