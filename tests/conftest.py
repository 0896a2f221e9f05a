"""Double precision and one cache of compiled programs for the whole suite; what happens without the shared data.

Tests of the mark or fixture `shared` need reference data or published weights outside the repository (../shared, or the
folder that WIGNER_JAX_SHARED names). Without them a function whose other parameters are packaged runs with those alone,
and any other shows as one skip, whatever its parameters.

Broadcasting between arrays of different ranks hides mistakes. The folders of STRICT_RANKS run with
``jax.numpy_rank_promotion("raise")``: force constants and the empirical potentials spell every broadcast out. The solver's kernels (physics/) and the layers of the equivariant potentials do not yet. Implicit promotion of dtypes
is used in many places of the package, integers and masks times floats, so that no test asks for "strict".

Nine tenths of the suite's time are compilation. Its two processes compile with less work by XLA (quick_programs.py);
tests of the mark `as_shipped` run in a process of their own with the options that users get (test_as_shipped.py), as
everything does under ``-n 0``. xdist takes files in the order of LONGEST, then of the folders.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import jax
import pytest
from quick_programs import COMPILED_QUICKLY
from reference_materials import SHARED

from wigner_jax._core.programs import forget_programs

if TYPE_CHECKING:
    from pathlib import Path

jax.config.update("jax_enable_x64", True)

# files whose tests take more than a minute of two processes' time: begun last they would leave one process idle
LONGEST = (
    "test_documents.py", "test_cli.py", "test_as_shipped.py", "test_invariance.py", "test_notebook.py",
    "test_first_example.py", "test_readers.py",
)  # fmt: skip
STRICT_RANKS = ("core", "crystal", "ifc")
MISSING = f"reference data not found at {SHARED} (set WIGNER_JAX_SHARED)"


def pytest_configure(config: pytest.Config) -> None:
    """A program compiled by one file of tests serves the others, the other process and the next run."""
    if config.getoption("numprocesses", None):  # before its processes start: XLA reads the variable once
        os.environ.update({name: os.environ.get(name, value) for name, value in COMPILED_QUICKLY.items()})
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    # 7 % of the suite's time is spent to note which line of Python each operation comes from
    os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
    jax.config.update("jax_traceback_in_locations_limit", int(os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"]))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The longest files first. Without the shared data: one skip for every function that has nothing else to run with."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    if any(item.path.name == "test_as_shipped.py" for item in items) and len({item.path for item in items}) > 1:
        elsewhere = [item for item in items if item.get_closest_marker("as_shipped")]
        items[:] = [item for item in items if item not in elsewhere]
        config.hook.pytest_deselected(items=elsewhere)
    if (SHARED / "data").is_dir():
        return

    def function(item: pytest.Item) -> str:
        return item.nodeid.partition("[")[0]

    def needs_shared(item: pytest.Item) -> bool:
        return item.get_closest_marker("shared") is not None or "shared" in getattr(item, "fixturenames", ())

    seen = {function(item) for item in items if not needs_shared(item)}
    kept, dropped = [], []
    for item in items:
        if not needs_shared(item):
            kept.append(item)
        elif function(item) in seen:
            dropped.append(item)
        else:
            seen.add(function(item))
            item.add_marker(pytest.mark.skip(reason=MISSING))
            kept.append(item)
    config.hook.pytest_deselected(items=dropped)
    items[:] = kept


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, which is not part of the repository."""
    if not (SHARED / "data").is_dir():  # asked for while a test runs
        pytest.skip(MISSING)
    return SHARED


@pytest.fixture(scope="module", autouse=True)
def _ranks_are_spelled_out(request: pytest.FixtureRequest):
    """No broadcasting between ranks in the folders that hold it, fixtures of their modules included."""
    strict = request.path.parent.name in STRICT_RANKS
    with jax.numpy_rank_promotion("raise" if strict else "allow"):
        yield


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Every compiled program holds memory maps, and a process may hold 65530: the whole suite would need more."""
    yield
    forget_programs()
