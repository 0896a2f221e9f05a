"""Executables on disk, beside JAX's own cache: what they depend on, how they are written, checked and loaded.

An executable is loaded by pickle, as JAX itself does it. Whoever can write into the folder could run code here, which is
true of JAX's cache as well; links, pipes and the files of other users are left alone.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import pickle
import platform
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .atomic_write import write_bytes
from .version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable


FOLDER = "wigner-jax-programs"  # inside JAX's compilation cache
LARGEST = 2 * 2**30  # bytes of the folder
MAGIC = b"wigner-jax program 1\n"
# settings of JAX that change what is traced or compiled
SETTINGS = (
    "jax_enable_x64", "jax_numpy_rank_promotion", "jax_numpy_dtype_promotion", "jax_default_matmul_precision",
    "jax_default_prng_impl", "jax_threefry_partitionable", "jax_default_device", "jax_num_cpu_devices",
    "jax_use_shardy_partitioner", "jax_use_simplified_jaxpr_constants", "jax_enable_checks",
)  # fmt: skip


def setting(name: str) -> Any:
    """Of JAX; None where this version has none of that name."""
    return getattr(jax.config, name, None)


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
    settings = {name: str(setting(name)) for name in SETTINGS}
    return repr(
        (
            _sources(), jax.__version__, jaxlib.__version__, sys.version_info[:2], _processor(), client.platform,
            client.platform_version, devices[0].device_kind, len(devices), os.environ.get("XLA_FLAGS", ""), settings,
        )
    )  # fmt: skip


def keep(path: Path, compiled: jax.stages.Compiled) -> None:
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
        prune(path.parent)
    except Exception:  # a version of JAX without this, a full disk, a type that cannot be written
        return


def _seal(path: Path, content: bytes) -> bytes:
    """That a file is whole, and is the one that its name says."""
    return hashlib.sha256(path.name.encode() + content).digest()


def prune(folder: Path) -> None:
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


def load(path: Path, dynamic: tuple) -> Callable[..., Any] | None:
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


__all__ = ["FOLDER", "keep", "load", "prune", "setting", "surroundings"]
