"""What a clone without the shared data runs: more than 95 % of the tests, and every mark that says otherwise is known."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COUNT = """
import pytest, sys

class Counter:
    def pytest_collection_finish(self, session):
        skipped = [i.nodeid for i in session.items if i.get_closest_marker("skip")]
        print("COUNT", len(session.items), len(skipped), len({s.partition("[")[0] for s in skipped}))

sys.exit(pytest.main(["--collect-only", "-q", "-n", "0", *sys.argv[1:]], plugins=[Counter()]))
"""


def test_a_clone_skips_less_than_a_twentieth(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "WIGNER_JAX_SHARED": str(tmp_path / "absent")}
    command = [sys.executable, "-c", COUNT, "-o", f"cache_dir={tmp_path}", str(root / "tests")]
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("COUNT")]
    items, skipped, functions = map(int, line.split()[1:])
    assert items > 800
    assert skipped == functions  # one skip a function
    assert skipped < 0.05 * items
