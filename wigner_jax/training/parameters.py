"""Which numbers of a potential are trained: all, those whose names match, or a low-rank change of chosen matrices.

LoRA (Hu et al., arXiv:2106.09685): W = W0 + A B with A (n, r) random and B (r, m) zero at first, so that training starts at
the published model and has r (n + m) numbers instead of n m.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ..errors import InputError
from ..potentials.family import resolve
from ..potentials.registry import family_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.pytree import Array
    from ..potentials.base import Energy, Params, Potential
    from ..potentials.graph import Graph


Shapes = tuple[tuple[int, int], ...]


@dataclasses.dataclass(frozen=True)
class Adapted:
    """Energy of (trained, frozen) parameters: an `Energy` like any other, hashable, compares by value.

    Derivatives by the trained numbers alone never visit layers below the lowest trained one.
    """

    energy: Energy
    lora: tuple[tuple[str, Shapes], ...] = ()  # name and blocks of every parameter with a low-rank change

    def __call__(self, params: tuple[Params, Params], graph: Graph) -> Array:
        return self.energy(self.merge(*params), graph)

    def site_energies(self, params: tuple[Params, Params], graph: Graph) -> Array:
        """Energy of every atom, eV. (N,)"""
        energy: Any = self.energy  # of the potentials that have them
        return energy.site_energies(self.merge(*params), graph)

    def merge(self, trained: Params, frozen: Params) -> Params:
        """The parameters of the potential itself."""
        params = {**frozen, **{k: v for k, v in trained.items() if "::" not in k}}
        for name, shapes in self.lora:
            parts = [trained[f"{name}::A{b}"] @ trained[f"{name}::B{b}"] for b in range(len(shapes))]
            change = jnp.concatenate([p.ravel() for p in parts]).reshape(jnp.shape(frozen[name]))
            params[name] = frozen[name] + change
        return params


def adapt(
    potential: Potential,
    train: Sequence[str] = ("*",),
    freeze: Sequence[str] = (),
    lora: Sequence[str] = (),
    rank: int = 4,
    seed: int = 0,
) -> tuple[Adapted, Params, Params]:
    """Split a potential's parameters. Names match by shell patterns, such as "layers.3.*".

    Args:
        train: what is trained as it is, ...
        freeze: ... except these.
        lora: instead trained by a low-rank change, whether in `train` or not.
        rank: of that change.

    Returns:
        the energy of (trained, frozen), and both at the start.

    Raises:
        InputError: a pattern that matches nothing, nothing left to train, or LoRA of something that is not a matrix.
    """
    params = potential.params
    if not isinstance(params, dict):
        raise InputError(f"{potential.name}: only potentials whose parameters have names can be trained in part")
    for label, patterns in (("train", train), ("freeze", freeze), ("lora", lora)):
        for pattern in patterns:
            if not fnmatch.filter(params, pattern):
                raise InputError(
                    f"{label}: no parameter of {potential.name} matches {pattern!r}; it has {_some(params)}"
                )
    low = sorted(name for name in params if _matches(name, lora) and not _matches(name, freeze))
    whole = [n for n in params if _matches(n, train) and not _matches(n, freeze) and n not in low]
    if not whole and not low:
        raise InputError(f"nothing of {potential.name} is left to train: check train and freeze")
    trained: dict[str, Any] = {name: jnp.asarray(params[name], float) for name in whole}
    rng = np.random.default_rng([seed, 7])
    blocks = {name: matrices(potential, name) for name in low}
    for name, shapes in blocks.items():
        for b, (n, m) in enumerate(shapes):
            r = min(rank, n, m)
            trained[f"{name}::A{b}"] = jnp.asarray(rng.standard_normal((n, r)) / np.sqrt(n))
            trained[f"{name}::B{b}"] = jnp.zeros((r, m))
    frozen = {name: jnp.asarray(value, float) for name, value in params.items() if name not in whole}
    return Adapted(potential.energy, tuple(blocks.items())), trained, frozen


def matrices(potential: Potential, name: str) -> Shapes:
    """The matrices that a parameter consists of, one after the other: itself, or the blocks of a flat linear map.

    Raises:
        InputError: if it is none.
    """
    value = np.asarray(potential.params[name])
    if value.ndim == 2:
        return (value.shape,)
    family = family_of(potential)
    shapes = None if family is None or family.blocks is None else resolve(family.blocks)(potential, name)
    if not shapes or any(len(s) != 2 for s in shapes) or sum(int(np.prod(s)) for s in shapes) != value.size:
        raise InputError(f"lora: {name} of {potential.name} is no matrix (shape {value.shape}): train it as it is")
    return tuple((int(n), int(m)) for n, m in shapes)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, p) for p in patterns)


def _some(params: Params) -> str:
    names = list(params)
    return ", ".join(names[:6]) + (f", ... ({len(names)} in all)" if len(names) > 6 else "")


__all__ = [
    "Adapted",
    "adapt",
    "matrices",
]
