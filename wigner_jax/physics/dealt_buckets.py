"""Buckets of q-points as the solver works on them: in pieces, dealt out to all devices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from .._core.devices import dealt_out
from .._core.programs import Effort, program
from .linewidths import bucket_linewidths, group_size

if TYPE_CHECKING:
    from .._core.pytree import Array
    from .._core.tiling import Tiling
    from ..types import Plan, TripletBucket
    from .pairs import Broadening, State

KERNEL_FROM = 4 * 10**6  # matrix elements of a piece of a bucket: two atoms and 10 × 10 × 10 points
GROUPS_A_PIECE = 4  # groups of q-points per device between two reports of progress


def bucket_effort(bucket: TripletBucket, state: State, *_: Any) -> Effort:
    """XLA's full optimisation takes 2.5 s more to compile; without it NaCl 11³ takes 1.6 times as long."""
    members, rods, X = bucket.weights.shape
    return Effort.COLD if members * rods * X * state.frequencies.shape[1] ** 3 < KERNEL_FROM else Effort.KERNEL


@program(effort=bucket_effort)
def linewidths_of(
    bucket: TripletBucket, state: State, plan: Plan, variances: Array | None, broadening: Broadening
) -> tuple[Array, Array, Array]:
    """`bucket_linewidths`, the q-points dealt out to all devices. Members come in order of cost: they are dealt like cards."""
    devices = jax.device_count()
    dealt = jax.tree.map(lambda x: x.reshape(-1, devices, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape), bucket)
    results = dealt_out(bucket_linewidths, devices, dealt, state, plan, variances, broadening)
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape), results)


def pieces(bucket: TripletBucket, modes: int, tiling: Tiling, listened: bool) -> list[tuple[int, TripletBucket]]:
    """(first member, piece) of a bucket, filled up to whole groups on every device with members of no weight.

    One piece if nobody listens to progress; else equal ones of a few groups, so that there is something to report.
    """
    count, unit = len(bucket.members), group_size(bucket, modes, tiling) * jax.device_count()
    groups = -(-count // unit)
    size = unit * (groups if not listened else -(-groups // max(1, round(groups / GROUPS_A_PIECE))))
    padding = -count % size

    def filled(x: Array) -> Array:
        if isinstance(x, np.ndarray):
            return np.concatenate([x, np.zeros((padding, *x.shape[1:]), x.dtype)])
        return jnp.concatenate([x, jnp.zeros((padding, *x.shape[1:]), x.dtype)]) if padding else jnp.asarray(x)

    whole = jax.tree.map(filled, bucket)
    return [(i, jax.tree.map(lambda x: x[i : i + size], whole)) for i in range(0, count, size)]  # noqa: B023


__all__ = ["bucket_effort", "linewidths_of", "pieces"]
