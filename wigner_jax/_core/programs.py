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

import contextlib
import dataclasses
import enum
import functools
import hashlib
import inspect
import os
import pickle
import platform
import re
import stat
import sys
import uuid
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import jax
import numpy as np

from .atomic_write import write_bytes
from .version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Effort(enum.Enum):
    """What XLA does for a program on a CPU. Results differ by rounding."""

    KERNEL = "kernel"  #: all it can: 2 to 6 times the seconds of COLD, for code that runs for long
    COLD = "cold"  #: light optimisation, as fast as KERNEL where time goes into matrix products and memory
    ONCE = "once"  #: no optimisation, for code that runs a few times for milliseconds


OPTIONS: dict[Effort, dict[str, bool | int]] = {
    Effort.KERNEL: {},
    Effort.COLD: {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False},
    Effort.ONCE: {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False},
}
FOLDER = "wigner-jax-programs"  # inside JAX's compilation cache
LARGEST = 2 * 2**30  # bytes of the folder
MAGIC = b"wigner-jax program 1\n"
# settings of JAX that change what is traced or compiled
SETTINGS = (
    "jax_enable_x64", "jax_numpy_rank_promotion", "jax_numpy_dtype_promotion", "jax_default_matmul_precision",
    "jax_default_prng_impl", "jax_threefry_partitionable", "jax_default_device", "jax_num_cpu_devices",
    "jax_use_shardy_partitioner", "jax_use_simplified_jaxpr_constants", "jax_enable_checks",
)  # fmt: skip
# what an executable may call outside itself: JAX readies such a library when it lowers a program that needs it, which a
# process that loads the program has to do itself (`_ready_libraries`)
CALL = re.compile(r"custom_call @([\w.$]+)")
KNOWN_CALLS = re.compile(r"lapack_|Sharding$|SPMD\w+Shape$")
WATCHED = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")  # what `jax.jit` does otherwise then
LIVE: weakref.WeakSet[Program] = weakref.WeakSet()


def compiler_options(effort: Effort, platform: str | None = None) -> dict[str, bool | int]:
    """What to give ``jax.jit(compiler_options=…)`` on a platform (JAX's default one): empty on accelerators, and where this
    version of XLA does not know the options."""
    options = OPTIONS[effort]
    if not options or (platform or jax.default_backend()) != "cpu" or not _known(effort):
        return {}
    return dict(options)


@functools.cache
def _known(effort: Effort) -> bool:
    """Whether this version of XLA takes the options of an effort."""
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
        if any(map(_setting, WATCHED)) or not all(map(_is_plain, leaves)):
            return self._plain(*arguments)
        statics = tuple(arguments[i] for i in self.static if i < len(arguments))
        types = tuple(map(_type_of, leaves))
        key = (statics, tree, types, tuple(map(_setting, SETTINGS)))
        run = self._compiled.get(key)
        if run is None:
            run = self._compiled[key] = self._load_or_compile(arguments, dynamic, statics, tree, types)
        return run(*dynamic)

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """`jax.jit`'s, with XLA's own options."""
        return self._plain.lower(*arguments)

    def forget(self) -> None:
        """Let go of what was compiled."""
        self._compiled.clear()

    def _load_or_compile(
        self, arguments: tuple, dynamic: tuple, statics: tuple, tree: Any, types: tuple
    ) -> Callable[..., Any]:
        options = compiler_options(self.effort(*arguments))
        path = self._path(statics, tree, types, options)
        if path is None:
            return self._wrapped(self.function.__name__, options).lower(*arguments).compile()
        loaded = _load(path, dynamic)
        if loaded is not None and _runs(loaded, dynamic):
            return loaded
        # A name of its own, so that JAX's cache does not have it under another key: of what XLA has loaded it makes files
        # that cannot be loaded (jaxlib 0.10.2, CPU). A file of ours that is there and does not work needs yet another.
        name = f"{self.function.__name__}_{path.name[-8:]}{uuid.uuid4().hex[:8] if path.exists() else ''}"
        lowered = self._wrapped(name, options).lower(*arguments)
        found = _loaded_by_jax()
        compiled = lowered.compile()
        if _loaded_by_jax() == found and all(map(KNOWN_CALLS.match, CALL.findall(lowered.as_text()))):
            _store(path, compiled)
        return compiled

    def _wrapped(self, name: str, options: dict) -> Any:
        @functools.wraps(self.function)
        def function(*arguments: Any) -> Any:
            return self.function(*arguments)

        function.__name__ = name
        return jax.jit(function, static_argnums=self.static, compiler_options=options or None)

    def _path(self, statics: tuple, tree: Any, types: tuple, options: dict) -> Path | None:
        """Where the executable is kept; None where it is not."""
        folder = _setting("jax_compilation_cache_dir")
        if not folder or not _setting("jax_enable_compilation_cache") or "://" in folder:
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


def _setting(name: str) -> Any:
    """Of JAX; None where this version has none of that name."""
    return getattr(jax.config, name, None)


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


@runtime_checkable
class Described(Protocol):
    """Describes itself, as `described` asks."""

    def description(self) -> str: ...


class Undescribed(Exception):
    """A value whose text would not stand for it in another process."""


def described(value: Any) -> str:
    """A text that is the same in every process for equal values, and differs for different ones.

    Raises:
        Undescribed: for anything but numbers, words, containers, frozen data, types and functions of this package.
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, enum.Enum):
        return f"{described(type(value))}.{value.name}"
    if isinstance(value, jax.tree_util.PyTreeDef):
        data = value.node_data()
        inner = ",".join(map(described, value.children()))
        return f"[{'leaf' if value.num_nodes == 1 and value.num_leaves == 1 else described(data)}:{inner}]"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{described(type(value))}({','.join(map(described, value))})"
    if type(value) in (tuple, list):
        return f"({','.join(map(described, value))},)"
    if type(value) is dict:
        return f"{{{','.join(f'{described(k)}:{described(v)}' for k, v in value.items())}}}"
    if isinstance(value, functools.partial):
        return f"partial({described(value.func)},{described(value.args)},{described(value.keywords)})"
    if isinstance(value, type) or inspect.isfunction(value):
        module, name = value.__module__, value.__qualname__
        if not (module == "builtins" or module.partition(".")[0] == __name__.partition(".")[0]) or "<" in name:
            raise Undescribed(name)
        return f"{module}:{name}"
    if isinstance(value, Described):
        return f"{described(type(value))}({value.description()})"
    if dataclasses.is_dataclass(value):
        fields = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare)
        return f"{described(type(value))}({','.join(f'{name}={described(x)}' for name, x in fields)})"
    raise Undescribed(repr(type(value)))


@functools.cache
def _sources() -> str:
    """A number for the code of the package."""
    digest = hashlib.sha256(__version__.encode())
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _processor() -> str:
    """What the machine code was made for."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = sorted(
            {line for line in lines if line.split("\t")[0] in ("flags", "Features", "model name", "CPU part")}
        )
    except OSError:
        found = [platform.processor()]
    return f"{platform.machine()} {platform.system()} {found}"


def surroundings() -> str:
    """All that an executable depends on besides its function and arguments."""
    import jaxlib

    devices = jax.devices()
    client = devices[0].client
    settings = {name: str(_setting(name)) for name in SETTINGS}
    return repr(
        (
            _sources(), jax.__version__, jaxlib.__version__, sys.version_info[:2], _processor(), client.platform,
            client.platform_version, devices[0].device_kind, len(devices), os.environ.get("XLA_FLAGS", ""), settings,
        )
    )  # fmt: skip


# An executable is loaded by pickle, as JAX itself does it. Whoever can write into the folder could run code here, which
# is true of JAX's cache as well; files of other users are left alone.
def _store(path: Path, compiled: jax.stages.Compiled) -> None:
    """Keep an executable; where it cannot be, nothing is said and JAX's own cache has it."""
    try:
        from jax.experimental.serialize_executable import serialize

        executable, _, tree = serialize(compiled)
        template = jax.tree.unflatten(tree, range(tree.num_leaves))
        count = len({d for s in jax.tree.leaves(compiled.input_shardings) for d in s.device_set}) or 1
        content = pickle.dumps((executable, template, count))
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink():  # what it points to is not ours
            path.unlink()
        write_bytes(path, MAGIC + _seal(path, content) + content)
        _prune(path.parent)
    except Exception:  # a version of JAX without this, a full disk, a type that cannot be written
        return


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


def _runs(loaded: Callable[..., Any], dynamic: tuple) -> bool:
    """Whether a loaded executable finds all of its parts, which XLA looks for when it runs."""
    try:
        jax.block_until_ready(loaded(*dynamic))
    except (TypeError, ValueError):  # made for other arguments
        return False
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise
        return False
    return True


def _seal(path: Path, content: bytes) -> bytes:
    """That a file is whole, and is the one that its name says."""
    return hashlib.sha256(path.name.encode() + content).digest()


def _prune(folder: Path) -> None:
    """Remove what was used longest ago, above the largest size of the folder."""
    files = sorted(((s.st_mtime, s.st_size, p) for p in folder.iterdir() for s in [p.stat()]), reverse=True)
    total = 0
    for _, size, path in files:
        total += size
        if total > LARGEST:
            path.unlink(missing_ok=True)


@functools.cache
def _ready_libraries() -> None:
    """LAPACK's addresses are looked up when JAX lowers the first program that calls it."""
    jax.jit(jax.lax.linalg.cholesky).lower(np.eye(1))


def _load(path: Path, dynamic: tuple) -> Callable[..., Any] | None:
    """An executable that was kept; None if there is none that can be used."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):  # a link, a pipe, a device
            return None
        with path.open("rb") as file:
            if hasattr(os, "getuid") and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            content = file.read()
    except OSError:
        return None
    start = len(MAGIC) + 32
    if not content.startswith(MAGIC) or _seal(path, content[start:]) != content[len(MAGIC) : start]:
        return None
    try:
        from jax.experimental.serialize_executable import deserialize_and_load

        _ready_libraries()
        executable, template, count = pickle.loads(content[start:])
        trees = jax.tree.structure((dynamic, {})), jax.tree.structure(template)
        loaded = deserialize_and_load(executable, *trees, execution_devices=jax.devices()[:count])
        with contextlib.suppress(OSError):
            os.utime(path)  # used today
        return loaded
    except Exception:  # made by another version after all
        return None


__all__ = ["Effort", "Program", "compiler_options", "forget_programs", "program"]
