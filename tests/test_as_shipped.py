"""The tests of the mark `as_shipped`, compiled with the options that users get: the others are compiled quickly (conftest)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def test_with_the_options_of_users(pytestconfig: pytest.Config) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS" and not k.startswith("PYTEST_")}
    tests = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-m", "as_shipped and not slow", tests]
    run = subprocess.run(
        command, cwd=pytestconfig.rootpath, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert run.returncode == 0, run.stdout[-6000:]
    assert " passed" in run.stdout
