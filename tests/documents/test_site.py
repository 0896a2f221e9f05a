"""The documentation builds without a warning, every public name has a page, and formulas are formulas."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("myst_nb")

SUBPACKAGES = ("potentials", "training", "evaluation", "plot", "io")


class Page(HTMLParser):
    """Text of a page by whether it stands in a formula or in code, and its links."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.prose, self.formulas, self.targets = [], 0, set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        kind = "math" if "math" in (values.get("class") or "").split() else tag
        if tag not in ("br", "img", "meta", "link", "input", "hr", "path", "line", "polyline", "circle", "rect"):
            self.open.append(kind)
        self.formulas += kind == "math"
        if "id" in values:
            self.targets.add(values["id"])

    def handle_endtag(self, tag: str) -> None:
        if self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not {"math", "script", "style", "code", "pre", "title"} & set(self.open):
            self.prose.append(data)


@pytest.fixture(scope="module")
def site() -> Path:
    """Built where .ci/run builds it, so that only one of the two has the work; from stored outputs of the notebooks."""
    folder = ROOT / "docs" / "_build"
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(folder)]
    run = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return folder


def pages(site: Path) -> list[Path]:
    return [p for p in sorted(site.rglob("*.html")) if not {"_static", "_sources", "_modules"} & set(p.parts)]


def test_formulas_are_rendered(site) -> None:
    """No TeX outside of what MathJax takes, and the ten central equations are there."""
    theory = {p.stem: Page(p) for p in pages(site) if p.parent.name == "theory"}
    assert sum(p.formulas for p in theory.values()) > 40
    for path in pages(site):
        prose = "".join(Page(path).prose)
        assert not re.search(r"\\[(\[]|\\(?:frac|sum|mathbf|kappa)\b|\$\$|(?<!\w)\$[A-Za-z\\]", prose), path.name
    labels = set().union(*(p.targets for p in theory.values()))
    for name in (
        "dynamical", "velocity", "strength", "collapse", "linewidth", "isotope", "tetrahedron", "adaptive", "wigner",
        "capacity", "directional", "adjoint", "eigh", "implicit",
    ):  # fmt: skip
        assert f"equation-eq-{name}" in labels, name


def test_nothing_is_left_as_markup(site) -> None:
    for path in pages(site):
        prose = "".join(Page(path).prose)
        assert not re.search(r"\{(?:doc|ref|py:\w+|eq)\}|```|:math:|\.\. \w+::", prose), path.name


def test_every_public_name_has_a_page(site) -> None:
    for package in ("wigner_jax", *(f"wigner_jax.{s}" for s in SUBPACKAGES)):
        module = importlib.import_module(package)
        text = (site / "reference/api.html").read_text()
        for name in module.__all__:
            value = getattr(module, name)
            if name.startswith("_") or isinstance(value, types.ModuleType):
                continue
            assert re.search(rf"\b{name}\b", text), f"{package}.{name}"


def test_commands_are_all_there(site) -> None:
    from wigner_jax.cli.app import COMMANDS

    text = (site / "reference/cli.html").read_text()
    for name in COMMANDS:
        assert f'id="wigner-jax-{name}"' in text
    assert "--fc2-supercell" in text
