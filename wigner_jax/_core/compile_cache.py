"""Compiled programs of a long-running process: how many it can hold, and the memory that compiling them takes."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from .programs import forget_programs

if TYPE_CHECKING:
    from collections.abc import Callable


LONG = 0.2  # s; compilations that take longer leave something behind
FULL = 0.6  # share of the limit; the largest compiled programs hold some thousand maps each


def evict_compiled_programs(full: float = FULL) -> bool:
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
    forget_programs()
    gc.collect()
    return True


def _trim() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None where there is none."""
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another libc, or Windows
        return None


@functools.cache
def trim_malloc_after_compilation() -> None:
    """From now on, what XLA has freed goes back to the operating system after every long compilation.

    To compile a large program XLA takes some hundred MB and frees them, but glibc keeps freed pages, and the next
    compilation, in the arenas of other threads, takes new ones: without this, κ of NaCl on 11 × 11 × 11 points with its
    derivative leaves a process with 1.4 GB of which it uses 0.6. Takes 10 to 70 ms. Other C libraries are left to
    themselves. A setting of the whole process, so the command line calls it and the library does not; the first call counts.
    """
    if (trim := _trim()) is None:
        return

    def heard(event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration") and duration_secs > LONG:
            trim(0)

    jax.monitoring.register_event_duration_secs_listener(heard)


def cache_folder() -> Path | None:
    """Where compiled programs are kept between runs: the user's cache folder, or None where that cannot be written."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache")
    folder = base / "wigner-jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def enable_compilation_cache(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Keep compiled programs on disk, so that the next process loads what this one compiled. Call it before any work.

    Sets JAX's persistent compilation cache for the whole process; a folder that JAX knows already (the environment
    variable JAX_COMPILATION_CACHE_DIR, or its configuration) is left alone unless one is given here.

    Args:
        folder: where to keep them; by default ``wigner-jax`` in the user's cache folder.

    Returns:
        the folder in use; None where there is none that can be written to.
    """
    known = getattr(jax.config, "jax_compilation_cache_dir", None)
    if folder is None and (known or "JAX_COMPILATION_CACHE_DIR" in os.environ):
        return Path(known) if known else None  # the user has chosen
    chosen = cache_folder() if folder is None else Path(folder)
    if chosen is not None:
        jax.config.update("jax_compilation_cache_dir", str(chosen))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    return chosen


__all__ = ["cache_folder", "enable_compilation_cache", "evict_compiled_programs", "trim_malloc_after_compilation"]
