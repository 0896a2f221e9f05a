"""Functions compiled once per shape: with options that suit them, and kept on disk so that no process traces them twice.

`program` is `jax.jit` for the entry points of the package. Between two calls of `jax.jit` nothing differs but time:

- On a CPU nine tenths of a first call are LLVM's work on code that will run for a second. `Effort` says how much of it a
  program is worth; XLA's own default is worth it for kernels that run for long. Only CPUs get options, and only those
  that this version of XLA knows.
- The persistent compilation cache of JAX saves compiling, but every process traces and lowers each program again to find
  its entry. Where that cache is on, the executable is kept beside it under a key that needs no tracing: the function,
  its static arguments and the shapes of the others, the sources of this package, the versions and settings of JAX, and
  the processor. What cannot be described that way (an energy function of the user's, say, whose source is not known
  here) is left to JAX's cache.

Inside another transformation (`jit`, `grad`, `vmap`) a program is the plain function under `jax.jit`.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import os
import re
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jaxlib.version
import numpy as np

from .described import Undescribed, described
from .program_files import FOLDER, SETTINGS, keep, load, setting, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Effort(enum.Enum):
    """What XLA does for a program on a CPU. Results differ by rounding."""

    KERNEL = "kernel"  #: all it can: 1.5 to 2.3 times as long to compile as COLD, for code that runs for long
    COLD = "cold"  #: light optimisation, as fast as KERNEL where time goes into matrix products and memory
    ONCE = "once"  #: no optimisation, for code that runs a few times for milliseconds


OPTIONS: dict[Effort, dict[str, bool | int]] = {
    Effort.KERNEL: {},
    Effort.COLD: {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False},
    Effort.ONCE: {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
}
TRIED = ("0.10.", "0.11.")  # versions of jaxlib that take them
# what an executable may call outside itself: JAX readies such a library when it lowers a program that needs it, which a
# process that loads the program has to do itself (program_files)
CALL = re.compile(r"custom_call @([\w.$]+)")
KNOWN_CALLS = re.compile(r"lapack_|Sharding$|SPMD\w+Shape$")
WATCHED = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")  # what `jax.jit` does otherwise then
LIVE: weakref.WeakSet[Program] = weakref.WeakSet()


def compiler_options(effort: Effort, platform: str | None = None) -> dict[str, bool | int]:
    """What to give ``jax.jit(compiler_options=…)`` on a platform (JAX's default one): empty on accelerators, and where this
    version of XLA does not know the options. What the user's XLA_FLAGS say is theirs to say."""
    options = OPTIONS[effort]
    if not options or (platform or jax.default_backend()) != "cpu" or not _known(effort):
        return {}
    flags = os.environ.get("XLA_FLAGS", "")
    return {name: value for name, value in options.items() if name not in flags}


@functools.cache
def _known(effort: Effort) -> bool:
    """Whether this version of XLA takes the options of an effort."""
    if jaxlib.version.__version__.startswith(TRIED):  # a program to find out takes 30 ms of every process
        return True
    try:
        jax.jit(lambda x: x, compiler_options=OPTIONS[effort]).lower(np.float32(0)).compile()
    except Exception:
        return False
    return True


class Program:
    """See `program`."""

    def __init__(
        self, function: Callable[..., Any], static: tuple[int, ...], effort: Effort | Callable[..., Effort]
    ) -> None:
        functools.update_wrapper(self, function)
        self.function, self.static = function, static
        self.effort = effort if callable(effort) else lambda *_: effort
        self._plain = jax.jit(function, static_argnums=static)
        self._signature = inspect.signature(function)
        self._compiled: dict[Any, Callable[..., Any]] = {}
        LIVE.add(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if named:
            bound = self._signature.bind(*arguments, **named)
            if bound.kwargs:  # one before it is left out
                bound.apply_defaults()
            arguments = bound.args
        dynamic = tuple(x for i, x in enumerate(arguments) if i not in self.static)
        leaves, tree = jax.tree.flatten(dynamic)
        if any(map(setting, WATCHED)) or not all(map(_is_plain, leaves)):
            return self._plain(*arguments)
        statics = tuple(arguments[i] for i in self.static if i < len(arguments))
        types = tuple(map(_type_of, leaves))
        key = (statics, tree, types, tuple(map(setting, SETTINGS)))
        if (run := self._compiled.get(key)) is not None:
            return run(*dynamic)
        self._compiled[key], result = self._first_call(arguments, dynamic, statics, tree, types)
        return result

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """`jax.jit`'s, with XLA's own options."""
        return self._plain.lower(*arguments)

    def forget(self) -> None:
        """Let go of what was compiled."""
        self._compiled.clear()

    def _first_call(
        self, arguments: tuple, dynamic: tuple, statics: tuple, tree: Any, types: tuple
    ) -> tuple[Callable[..., Any], Any]:
        """The executable, loaded or compiled, and what it returns."""
        options = compiler_options(self.effort(*arguments))
        path = self._path(statics, tree, types, options)
        if path is None:
            compiled = self._wrapped(self.function.__name__, options).lower(*arguments).compile()
            return compiled, compiled(*dynamic)
        loaded = load(path, dynamic)
        if loaded is not None and (result := _tried(loaded, dynamic)):
            return loaded, result[0]
        # A name of its own, so that JAX's cache does not have it under another key: of what XLA has loaded it makes files
        # that cannot be loaded (jaxlib 0.10.2, CPU). A file of ours that is there and does not work needs yet another.
        name = f"{self.function.__name__}_{path.name[-8:]}{uuid.uuid4().hex[:8] if path.exists() else ''}"
        lowered = self._wrapped(name, options).lower(*arguments)
        found = _loaded_by_jax()
        compiled = lowered.compile()
        if _loaded_by_jax() == found and all(map(KNOWN_CALLS.match, CALL.findall(lowered.as_text()))):
            keep(path, compiled)
        return compiled, compiled(*dynamic)

    def _wrapped(self, name: str, options: dict) -> Any:
        @functools.wraps(self.function)
        def function(*arguments: Any) -> Any:
            return self.function(*arguments)

        function.__name__ = name
        return jax.jit(function, static_argnums=self.static, compiler_options=options or None)

    def _path(self, statics: tuple, tree: Any, types: tuple, options: dict) -> Path | None:
        """Where the executable is kept; None where it is not."""
        folder = setting("jax_compilation_cache_dir")
        if not folder or not setting("jax_enable_compilation_cache") or "://" in folder:
            return None
        try:
            what = described((self.function, statics, tree, types, options))
        except Undescribed:
            return None
        key = hashlib.sha256(f"{surroundings()}\n{what}".encode()).hexdigest()
        return Path(folder) / FOLDER / f"{self.function.__name__.strip('_')}-{key[:40]}"


def program(
    *, static: int | Sequence[int] = (), effort: Effort | Callable[..., Effort] = Effort.COLD
) -> Callable[[Callable[..., Any]], Program]:
    """Decorator: a function of pytrees of arrays, compiled once for every combination of shapes and static arguments.

    Args:
        static: positions of the static arguments: hashable, compared by value.
        effort: on a CPU; a function of the arguments may choose by their sizes.
    """
    positions = (static,) if isinstance(static, int) else tuple(static)
    return lambda function: Program(function, positions, effort)


def forget_programs() -> None:
    """Let go of every compiled program, of the package and of JAX; the next call loads or compiles it anew."""
    for one in LIVE:
        one.forget()
    jax.clear_caches()


def _is_plain(leaf: Any) -> bool:
    """Whether an argument is a number, a host array, or an array on the default device that may move."""
    if isinstance(leaf, jax.core.Tracer):
        return False
    if isinstance(leaf, jax.Array):
        return not leaf.committed
    return isinstance(leaf, (np.ndarray, np.generic, float, int, bool, complex))


def _type_of(leaf: Any) -> tuple[Any, ...]:
    if isinstance(leaf, (np.ndarray, np.generic)):
        return leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype), False
    kind = jax.typeof(leaf)
    return kind.shape, kind.dtype, kind.weak_type


_HITS: list[None] = []  # one for each executable that JAX has loaded from its cache


def _loaded_by_jax() -> int:
    """How many executables JAX has loaded from its cache since this was first asked."""
    _listen()
    return len(_HITS)


@functools.cache
def _listen() -> None:
    def heard(event: str, **_: Any) -> None:
        if event.endswith("/cache_hits"):
            _HITS.append(None)

    jax.monitoring.register_event_listener(heard)


def _tried(loaded: Callable[..., Any], dynamic: tuple) -> tuple[Any] | None:
    """What a loaded executable returns; None if XLA does not find all of its parts, which it looks for when it runs."""
    try:
        return (jax.block_until_ready(loaded(*dynamic)),)
    except (TypeError, ValueError):  # made for other arguments
        return None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise
        return None


__all__ = ["Effort", "Program", "compiler_options", "forget_programs", "program"]
