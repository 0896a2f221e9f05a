"""What is installed is enough: the wheel alone computes κ, and optional packages are not touched by it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest
from pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

OPTIONAL = ("flax", "orbax", "matplotlib", "phono3py", "phonopy", "torch", "sphinx", "pytest", "seekpath")

KAPPA = f"""
import sys
from wigner_jax.cli.app import main
code = main(["kappa", "Si", "--mesh", "3", "3", "3", "--quiet"])
loaded = sorted({{m.split(".")[0] for m in sys.modules}} & set({OPTIONAL!r}))
assert code == 0, code
assert not loaded, loaded
"""


def run(command: list[str], **options) -> subprocess.CompletedProcess:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done


def test_kappa_of_silicon_imports_nothing_optional(tmp_path: Path) -> None:
    """From the package as it is here."""
    done = run([sys.executable, "-c", KAPPA], cwd=tmp_path)
    assert "300" in done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source distribution, as a release is; without network: the build's needs are in the test extra."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)])
    (found,) = folder.glob("*.whl")
    return found


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {"wigner_jax"}
    for needed in ("py.typed", "potentials/data/mace-bundled.model", "potentials/data/mace-bundled.json"):
        assert f"wigner_jax/{needed}" in names
    every = {str(p.relative_to(ROOT)) for p in (ROOT / "wigner_jax").rglob("*.py")}
    assert every <= set(names)


@pytest.mark.slow
def test_wheel_alone_computes_kappa(wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment without extras; takes the dependencies from where pip takes them."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run([sys.executable, "-m", "venv", str(tmp_path / "fresh")])
    python = tmp_path / "fresh" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    run([str(python), "-m", "pip", "install", "-q", str(wheel)], env=alone)
    run([str(python), "-c", KAPPA], cwd=tmp_path, env=alone)
    done = run([str(python.with_name("wigner-jax")), "kappa", "Si"], cwd=tmp_path, env=alone)
    assert "300" in done.stdout
