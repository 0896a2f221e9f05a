"""The package as users meet it: what importing it does, its names, its version, its types."""

from __future__ import annotations

import contextlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import ase.build
import ase.io
import jax

import wigner_jax
from wigner_jax._core import compile_cache as programs

ROOT = Path(__file__).parents[2]

IMPORT_EVERYTHING = """
import jax
before = dict(jax.config.values)
import importlib, pkgutil, wigner_jax
names = [m.name for m in pkgutil.walk_packages(wigner_jax.__path__, "wigner_jax.")]
assert len(names) > 15, names
for name in names:
    importlib.import_module(name)
changed = {k: (v, jax.config.values[k]) for k, v in before.items() if jax.config.values[k] != v}
assert not changed, changed
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized(), "importing started a JAX backend"
assert "phono3py" not in __import__("sys").modules, "the peer library is optional"
assert "matplotlib" not in __import__("sys").modules, "matplotlib is optional"
"""


def test_a_long_module_says_why() -> None:
    for path in (ROOT / "wigner_jax").rglob("*.py"):
        lines = path.read_text().splitlines()
        if len(lines) > 350:
            first = " ".join(lines[:30]).split('"""')[1]
            assert re.search(r"More than 350 lines|[Ll]ong\b|this file long", first), f"{path} has {len(lines)} lines"


def test_importing_every_module_has_no_effects() -> None:
    run = subprocess.run([sys.executable, "-c", IMPORT_EVERYTHING], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_public_names_exist_and_are_documented() -> None:
    assert len(wigner_jax.__all__) > 5
    assert sorted(wigner_jax.__all__) == list(wigner_jax.__all__)
    for name in wigner_jax.__all__:
        value = getattr(wigner_jax, name)
        assert name.startswith("__") or value.__doc__, f"{name} has no docstring"


def test_help_shows_every_field_of_public_data() -> None:
    """With its shape and unit, in the docstring."""
    public = [*(getattr(wigner_jax, name) for name in wigner_jax.__all__), *vars(wigner_jax.types).values()]
    data = {c for c in public if isinstance(c, type) and c.__module__.startswith("wigner_jax.")}
    checked = 0
    for cls in data:
        fields = cls._fields if issubclass(cls, tuple) else getattr(cls, "__dataclass_fields__", {})
        shown = (cls.__doc__ or "").partition("Attributes:")[2]
        if cls is not wigner_jax.FlaxPotential:  # its other fields are Flax's
            assert [f for f in fields if not re.search(rf"^ +(\w+, )*{f}(, \w+)*: \S", shown, re.MULTILINE)] == [], cls
        checked += bool(fields)
    assert checked > 25


def test_a_solution_prints_as_a_line() -> None:
    """With κ; inside a transformation there is none to print."""
    potential = wigner_jax.load_potential("stillinger-weber-si")
    cells = wigner_jax.default_supercells(wigner_jax.prototype("Si"), (1, 1, 1), (1, 1, 1))
    fc, _ = wigner_jax.force_constants(cells, potential)
    plan = wigner_jax.make_plan(cells, (3, 3, 3))
    solution = wigner_jax.solve(plan, fc, (300.0, 600.0), allow_imaginary=True)
    text = repr(solution)
    assert re.fullmatch(r"Solution\(Si2, mesh 3×3×3: κ [\d.]+, [\d.]+ W/\(m K\) at 300, 600 K\)", text)
    seen = []
    jax.eval_shape(lambda x: seen.append(repr(x)) or x.conductivity.kappa_P, solution)
    assert seen[0].startswith("Solution(\n  phonons=Phonons(")


def test_warnings_point_at_the_line_of_the_user(tmp_path: Path) -> None:
    """However deep in the package they come from."""
    ase.io.write(tmp_path / "two.xyz", [ase.build.bulk("Si")] * 2, format="extxyz")
    noisy = ase.build.bulk("Si", cubic=True)
    noisy.rattle(1e-4, seed=0)
    noisy.write(tmp_path / "noisy.vasp", direct=True)
    for act in (
        lambda: wigner_jax.read_structure(tmp_path / "two.xyz"),
        lambda: wigner_jax.conductivity(tmp_path / "noisy.vasp", symprec=0.01, derivatives="nonsense"),
    ):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            with contextlib.suppress(wigner_jax.InputError):
                act()
        found = [w for w in said if issubclass(w.category, wigner_jax.AccuracyWarning)]
        assert [(w.filename, w.lineno) for w in found] == [(__file__, act.__code__.co_firstlineno)]


def test_version_has_one_home() -> None:
    assert importlib.metadata.version("wigner-jax") == wigner_jax.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", wigner_jax.__version__)
    literal = re.compile(r"^(__version__|version) = ", re.MULTILINE)
    homes = [
        p for p in (*(ROOT / "wigner_jax").rglob("*.py"), ROOT / "pyproject.toml") if literal.search(p.read_text())
    ]
    assert homes == [ROOT / "wigner_jax/_core/version.py"]


def test_types_are_published() -> None:
    assert (Path(wigner_jax.__file__).parent / "py.typed").is_file()


def test_the_command_is_installed() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="wigner-jax")
    run = subprocess.run([sys.executable, "-m", "wigner_jax", "--version"], capture_output=True, text=True)
    assert run.stdout.strip() == f"wigner-jax {wigner_jax.__version__}"
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert entry.value == scripts["wigner-jax"]  # else the installation is older than the sources: install again


def test_compiled_programs_are_forgotten_when_they_hold_too_many_maps():
    """Nothing happens far from the limit; past it programs go, and the same functions still work."""
    calls = []

    @jax.jit
    def square(x):
        calls.append(x)
        return x**2

    assert square(3.0) == 9
    assert len(calls) == 1
    assert not programs.evict_compiled_programs(full=1.0)
    assert square(3.0) == 9
    assert len(calls) == 1
    assert programs.evict_compiled_programs(full=0.0) == Path("/proc/self/maps").exists()
    assert square(3.0) == 9
    assert len(calls) == (2 if Path("/proc/self/maps").exists() else 1)


def test_memory_goes_back_after_long_compilations(monkeypatch):
    """JAX's own event of a compilation is heard, a short one is not."""
    trims, heard = [], []
    monkeypatch.setattr(programs, "_trim", lambda: trims.append)
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", heard.append)
    programs.trim_malloc_after_compilation.__wrapped__()
    monkeypatch.undo()
    (listener,) = heard
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        monkeypatch.setattr(programs, "LONG", 1e9)
        jax.jit(lambda x: 2 * x + 1)(1.0)
        assert trims == []
        monkeypatch.setattr(programs, "LONG", 0.0)
        jax.jit(lambda x: 3 * x + 1)(1.0)
        assert trims == [0]
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
