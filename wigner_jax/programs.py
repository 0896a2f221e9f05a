"""Compiled programs of a long-running process: how many it can hold."""

from __future__ import annotations

import gc
from pathlib import Path

import jax

FULL = 0.6  # share of the limit; the largest compiled programs hold some thousand maps each


def make_room(full: float = FULL) -> bool:
    """Forget all compiled programs if this process holds more than the share `full` of the memory maps it may have.

    On the CPU every compiled program holds hundreds to thousands of memory maps. Linux allows a process 65530
    (vm.max_map_count) and LLVM aborts it at the next one, which a process that works on tens of materials comes to.
    Forgotten programs are compiled anew when they are needed, or loaded where JAX's persistent compilation cache is on.
    On other systems, where neither file exists, nothing is done.

    Returns:
        whether they were forgotten.
    """
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_text())
        with Path("/proc/self/maps").open("rb") as file:
            held = sum(1 for _ in file)
    except OSError:
        return False
    if held <= full * limit:
        return False
    jax.clear_caches()
    gc.collect()
    return True


__all__ = ["make_room"]
