"""The notebook runs, and prints the numbers that are stored in it."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from quick_programs import COMPILED_LIGHTLY

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """What each code cell prints."""
    texts = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        texts.append("".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout"))
    return [t for t in texts if t]


@pytest.mark.filterwarnings("ignore")  # of the kernel's machinery
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    # compiled programs survive from run to run of the tests, as they do for a user of the command line
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(request.config.cache.mkdir("jax")))
    for name, value in COMPILED_LIGHTLY.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    stored = printed(notebook)
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute()  # raises if a cell does
    assert len(stored) > 3
    number = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
    for old, new in zip(stored, printed(notebook), strict=True):
        assert number.sub("#", old).split() == number.sub("#", new).split()
        values = [[float(x) for x in number.findall(text)] for text in (old, new)]
        np.testing.assert_allclose(*values, rtol=2e-3, atol=2e-3)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert any("image/png" in o.get("data", {}) for o in outputs)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
