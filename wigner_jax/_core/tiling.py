"""How much one step of a kernel takes on: what fits into a CPU's cache, or what fills an accelerator.

On a CPU small pieces one after the other are fastest, because the data stay in cache; on a GPU every step costs the
launches of its kernels, and several q-points side by side, all of their triplets at once, are. The algorithm is the
same, and the results are up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import jax

if TYPE_CHECKING:
    from collections.abc import Callable


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
