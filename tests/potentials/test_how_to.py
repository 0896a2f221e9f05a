"""The pages on potentials do what they say: their blocks run, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from wigner_jax.potentials import registry

PAGES = Path(__file__).parents[2] / "docs/how-to"


@pytest.mark.parametrize("name", ["flax", "own-potential"])
def test_the_blocks_of_a_page_run(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    blocks = re.findall(r"^```python\n(.*?)^```$", (PAGES / f"{name}.md").read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    scope = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, f"{name}.md", "exec"), scope)
    if name == "own-potential":
        assert "argon: no fault found" in capsys.readouterr().out
        assert (
            0.1 < scope["solution"].conductivity.kappa_TOT[1, 0] < scope["solution"].conductivity.kappa_TOT[0, 0] < 10
        )
