"""Double precision and one cache of compiled programs for the whole suite; where the reference data lie."""

from __future__ import annotations

import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", True)

SHARED = Path(os.environ.get("WIGNER_JAX_SHARED", Path(__file__).parents[2] / "shared"))


def pytest_configure(config: pytest.Config) -> None:
    """A program compiled by one file of tests serves the others, the other process and the next run."""
    jax.config.update("jax_compilation_cache_dir", str(config.cache.mkdir("jax")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data, which is not part of the repository; tests that need it skip without it."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"reference data not found at {SHARED} (set WIGNER_JAX_SHARED)")
    return SHARED


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Every compiled program holds memory maps, and a process may hold 65530: the whole suite would need more."""
    yield
    jax.clear_caches()
