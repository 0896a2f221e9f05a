"""How much one step of a kernel takes on: what fits into a CPU's cache, or what fills an accelerator.

On a CPU small pieces one after the other are fastest, because the data stay in cache; on a GPU every step costs the
launches of its kernels, and several q-points side by side, all of their triplets at once, are. The algorithm is the
same, and the results are up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from ..errors import MemoryWarning, say

if TYPE_CHECKING:
    from collections.abc import Callable


LEAST_BYTES = 2**20  # of |V|² held at once: one q-point and one mode take more in the end


class Tiling(NamedTuple):
    """Sizes of the pieces that a kernel works on: upper bounds, and static arguments of the compiled functions."""

    group: int  #: q-points that share one pass over the entries of Φ3
    vectorised: bool  #: q-points of a group side by side, no piece skipped, instead of one after the other
    strength_bytes: int  #: |V|² held at once, of one q or of those side by side; leg-0 modes are split to stay below
    rod_bytes: int  #: matrix elements rotated at once
    rods: int  #: the same, as a number of rods
    triplets: int  #: whose on-shell windows are found at once; all where vectorised
    items: int  #: on-shell items weighted at once; all where vectorised
    least_bytes: int  #: of temporaries, of one chunk of anything: less does not pay

    def smaller(self) -> Tiling | None:
        """Pieces of a quarter, for a device whose memory these did not fit into; None where there is nothing to save."""
        if self.group == 1 and self.strength_bytes <= LEAST_BYTES:
            return None
        return self._replace(
            group=max(1, self.group // 4),
            strength_bytes=max(LEAST_BYTES, self.strength_bytes // 4),
            least_bytes=self.least_bytes // 4,
        )

    def map(self, function: Callable[[Any], Any], items: Any) -> Any:
        """``function`` of every item along the first axis."""
        return jax.vmap(function)(items) if self.vectorised else jax.lax.map(function, items)

    def pieces(self, count: int, most: int) -> int:
        """The size of equal pieces of `count` things: `most`, or all of them where vectorised."""
        return count if self.vectorised else most


# pieces that stay in a core's cache
CPU = Tiling(
    group=16, vectorised=False, strength_bytes=32 * 2**20, rod_bytes=2**18, rods=4, triplets=512, items=2048, least_bytes=0
)  # fmt: skip
# NaCl 19³ with tetrahedra on an H200: 0.09 s with 2^26 bytes, 0.07 s with 2^28 (1.6 GB on the device in all), 0.065 s with 2^30
ACCELERATOR = Tiling(
    group=64, vectorised=True, strength_bytes=2**28, rod_bytes=2**62, rods=2**30, triplets=2**30, items=2**30,
    least_bytes=2**28
)  # fmt: skip
TILINGS = {"cpu": CPU}


def tiling_for(device: jax.Device | None = None) -> Tiling:
    """The tiling of a device; of JAX's default one unless given."""
    platform = jax.default_backend() if device is None else device.platform
    return TILINGS.get(platform, ACCELERATOR)


def in_fitting_pieces(run: Callable[[Tiling], Any]) -> Any:
    """``run(tiling)`` with the tiling of JAX's default device, and with smaller ones as long as its memory is too small.

    Warns:
        MemoryWarning: each time.
    """
    tiling = tiling_for()
    while True:
        try:
            return jax.block_until_ready(run(tiling))
        except jax.errors.JaxRuntimeError as error:
            smaller = tiling.smaller() if "RESOURCE_EXHAUSTED" in str(error) else None
            if smaller is None:
                raise
        tiling = smaller
        device = jax.devices()[0].device_kind
        say(f"out of memory on {device}: {tiling.group} q-points at a time now", MemoryWarning)
