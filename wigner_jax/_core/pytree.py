"""Frozen dataclasses that are pytrees."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar, dataclass_transform

import jax

from .pretty_print import fields_printed

if TYPE_CHECKING:
    from collections.abc import Callable


Array = Any  # jax.Array or numpy.ndarray; shapes and units stand in the comments
T = TypeVar("T")


@dataclass_transform(frozen_default=True, eq_default=False)
def host_data(cls: type[T]) -> type[T]:
    """Class decorator: a frozen dataclass that is compared by identity and prints its arrays as type and shape."""
    if "__repr__" not in vars(cls):
        cls.__repr__ = fields_printed  # type: ignore[method-assign]
    return dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)


@dataclass_transform(frozen_default=True, eq_default=False)
def pytree(*static: str, host: tuple[str, ...] = ()) -> Callable[[type[T]], type[T]]:
    """Class decorator: `host_data` that is a pytree; the fields named in `static` key compilation.

    Those named in `host` are no part of the pytree: transformations see and return their default.
    """

    def decorate(cls: type[T]) -> type[T]:
        cls = host_data(cls)
        names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return jax.tree_util.register_dataclass(
            cls,
            data_fields=[n for n in names if n not in (*static, *host)],
            meta_fields=list(static),
            drop_fields=list(host),
        )

    return decorate
