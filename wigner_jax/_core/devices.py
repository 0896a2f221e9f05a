"""Work dealt out to several devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax

if TYPE_CHECKING:
    from collections.abc import Callable


def dealt_out(function: Callable[..., Any], devices: int, items: Any, *others: Any) -> Any:
    """``function(items, *others)``, the items dealt out to the first `devices` of the default backend: GPUs, or CPU devices
    (``jax.config.update("jax_num_cpu_devices", cores)``).

    Args:
        function: treats every item alone; pytrees of arrays (k, ...) -> pytree of arrays (k, ...), for any k.
        items: pytree of arrays (K, ...), K a multiple of `devices`.
        others: pytrees that every device has as a whole.
    """
    if devices == 1:
        return function(items, *others)
    each, everywhere = jax.sharding.PartitionSpec("device"), jax.sharding.PartitionSpec()
    spread = jax.shard_map(
        function,
        mesh=jax.make_mesh(
            (devices,), ("device",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
        ),
        in_specs=(each, *[everywhere] * len(others)),
        out_specs=each,
        check_vma=False,
    )
    return spread(items, *others)


__all__ = ["dealt_out"]
