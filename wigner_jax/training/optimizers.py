"""Optimizers and learning rates by the names of optax, as the section `optimizer` of a configuration has them."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import optax

from ..errors import InputError
from .config_schema import children, misplaced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._core.pytree import Array


def make_optimizer(section: Mapping[str, Any], steps: int, command: str = "train") -> optax.GradientTransformation:
    """Clipping, then the optimizer, with the rate of every step.

    Args:
        section: `optimizer` of `config_schema.parse`.
        steps: of the whole run.
        command: whose configuration it is.

    Raises:
        InputError: optax has no such optimizer or schedule, or does not take one of its options.
    """
    options = {k: v for k, v in section.items() if k not in children("optimizer", command)}
    shape, clip = section["schedule"], section["clip"]
    extra = {k: v for k, v in shape.items() if k not in children("optimizer.schedule", command)}
    name, warmup = shape["name"], shape["warmup"]
    if name in ("cosine", "constant"):
        if extra:
            raise InputError(misplaced(next(iter(extra)), "optimizer.schedule", "optimizer.schedule", command))
        cosine = name == "cosine"
        first = (min(200, steps // 20) if cosine else 0) if warmup is None else warmup
        rates = warm_cosine(section["learning_rate"], steps, first, shape["final"], cosine)
    else:
        factor = optax_of(name, "optimizer.schedule", extra, "optimizer.schedule.name", command)
        constant = warm_cosine(section["learning_rate"], steps, warmup or 0, 0.0, cosine=False)

        def rates(t: Any) -> Array:
            return constant(t) * factor(t)

    chain = [optax.clip_by_global_norm(clip)] if clip else []
    found = optax_of(section["name"], "optimizer", {"learning_rate": rates, **options}, "optimizer.name", command)
    return optax.chain(*chain, found)


def depends_on_steps(section: Mapping[str, Any]) -> bool:
    """Whether the rates of the first steps depend on how many will follow: such a run cannot be prolonged."""
    return section["schedule"]["name"] == "cosine"


def optax_of(name: str, table: str, options: dict[str, Any], key: str, command: str) -> Any:
    """What a function of optax makes of its options: an optimizer, a schedule."""
    made = getattr(optax, name, None)
    if not callable(made) or isinstance(made, type):
        raise InputError(f"{key}: optax has no {name!r}: adam, adamw, sgd, exponential_decay are some it has")
    known = inspect.signature(made).parameters
    if unknown := [k for k in options if k not in known]:
        if "learning_rate" in unknown:
            raise InputError(f"{key}: {name} of optax is no optimizer with a learning rate")
        text = misplaced(unknown[0], table, table, command)
        raise InputError(f"{text}; {name} of optax takes {', '.join(k for k in known if k != 'learning_rate')}")
    try:
        return made(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"{key}: {name} cannot be made ({error})") from None


def warm_cosine(rate: float, steps: int, warmup: int, final: float, cosine: bool = True) -> optax.Schedule:
    """Learning rates: r (t + 1)/warmup at first; times final + (1 - final)(1 + cos πt/steps)/2 if `cosine`."""

    def schedule(t: Any) -> Array:
        shape = final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(t / steps, 1.0))) if cosine else 1.0
        return rate * jnp.minimum(1.0, (t + 1) / max(1, warmup)) * shape

    return schedule


__all__ = [
    "depends_on_steps",
    "make_optimizer",
    "warm_cosine",
]
