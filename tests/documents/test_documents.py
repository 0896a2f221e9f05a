"""What the documents show is true: their Python runs, their commands parse, their options, links and names exist."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from pages import PAGES, ROOT, blocks, commands, name_of, shell_lines, without_blocks
from quick_programs import COMPILED_QUICKLY

from wigner_jax import __version__
from wigner_jax.cli.app import build_parser
from wigner_jax.crystal import prototypes

RUNNABLE = [page for page in PAGES if any(b.reason is None for b in blocks(page, "python"))]
INPUTS = Path(__file__).parent / "inputs"  # by page: what it takes for granted, and checks of its outcome
MOST_LINES = 90  # of the README


# ---------------------------------------------------------------- Python


def statements(page: Path) -> list[tuple[str, str]]:
    """(code, file name for tracebacks) of a page: what it takes for granted, its blocks, and checks of the outcome."""
    before, after = (INPUTS / f"{page.stem}{ending}" for ending in (".py", ".after.py"))
    shown = [b for b in blocks(page, "python") if b.reason is None]
    lines, line = [], 1
    for block in shown:  # every statement keeps the line that it has in the page
        lines += ["\n" * (block.line - line), block.body]
        line = block.line + block.body.count("\n")
    files = [(f.read_text(), str(f)) for f in (before, after) if f.is_file()]
    return sorted([*files, ("".join(lines), str(page))], key=lambda item: (item[1] == str(after), item[1] == str(page)))


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_python_runs(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The blocks of a page one after the other, as a reader would: in a fresh process, folder and cache of the user."""
    (tmp_path / "home").mkdir()
    program = "names = {'__name__': '__main__'}\n" + "".join(
        f"exec(compile({text!r}, {name!r}, 'exec'), names)\n" for text, name in statements(page)
    )
    variables = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(request.config.cache.mkdir("jax")),
        "XDG_CACHE_HOME": str(tmp_path / "home"),
        "MPLBACKEND": "agg",
        **COMPILED_QUICKLY,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]


def test_blocks_that_are_not_run_are_few_and_say_why() -> None:
    every = [b for page in PAGES for b in blocks(page, "python")]
    skipped = [b for b in every if b.reason is not None]
    assert len(every) > 20
    assert len(skipped) <= 8, [(name_of(b.page), b.line) for b in skipped]
    for block in every:  # these are Python, at least
        compile(block.body, name_of(block.page), "exec")
    for block in skipped:
        assert len(block.reason.split()) > 3, name_of(block.page)


# ---------------------------------------------------------------- commands


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    return {spelling for action in parser._actions for spelling in action.option_strings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_parse(page: Path) -> None:
    """Every wigner-jax of a page, with no abbreviated option: abbreviations are not part of the interface."""
    for arguments in commands(page):
        if {"--help", "--version"} & set(arguments):
            continue
        if len(arguments) == 1 and arguments[0] in subparsers():
            continue  # the name of a command in a sentence
        parsed = build_parser().parse_args(arguments)
        for word in arguments:
            if word.startswith("-") and not re.fullmatch(r"-[\d.]+", word):
                assert word.split("=")[0] in options_of(subparsers()[parsed.command]), (name_of(page), arguments)


def own_options() -> set[str]:
    """Of the command line, and of the scripts in benchmarks/."""
    options = set().union(*map(options_of, [build_parser(), *subparsers().values()]))
    for script in (ROOT / "benchmarks").rglob("*.py"):
        options |= set(re.findall(r'"(--[a-z0-9][a-z0-9-]*)"', script.read_text()))
    return options


def others_options() -> set[str]:
    """Of the programs that are spoken of beside ours: phono3py's, and those that check and build the project."""
    peer = Path(pytest.importorskip("phono3py").__file__).parent / "cui/phono3py_argparse.py"
    return {"--keep-going", "--tt"} | set(re.findall(r'"(--[a-z0-9][a-z0-9-]*)"', peer.read_text()))


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=name_of)
def test_options_exist(page: Path) -> None:
    """Every --option anywhere in a page: ours, a benchmark's, or of another program on the pages that speak of one."""
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]", page.read_text()))
    of_others = (
        "README.md",
        "CONTRIBUTING.md",
        "coming-from.md",
        "force-constants.md",
        "self-energy.md",
        "validation.md",
    )
    allowed = own_options() | (others_options() if page.name in of_others else set())
    assert shown <= allowed, (name_of(page), sorted(shown - allowed))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_scripts_exist(page: Path) -> None:
    """Every benchmark that a page tells to run."""
    for command in shell_lines(page) + re.findall(r"`(python [^`]+)`", page.read_text()):
        for script in re.findall(r"python (benchmarks/\S+\.py)", command):
            assert (ROOT / script).is_file(), (name_of(page), script)


# ---------------------------------------------------------------- names, links, numbers


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Files that a page links, and the tests, modules and records that it names."""
    text = without_blocks(page)
    for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), (name_of(page), target)
    for target in re.findall(r"`((?:tests|benchmarks|docs|notebooks|wigner_jax)/[\w./-]+?)(?:::(\w+))?`", text):
        path = ROOT / target[0]
        if "NAME" in target[0] or path.name == "wigner-jax-benchmarks":
            continue
        assert path.exists(), (name_of(page), target[0])
        if target[1]:
            assert f"def {target[1]}(" in path.read_text(), (name_of(page), target)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_names_exist(page: Path) -> None:
    """`wj.name` and `wigner_jax.name` in sentences and roles."""
    if page.name == "CHANGELOG.md":
        return
    text = page.read_text()
    named = {f"wigner_jax.{n}" for n in re.findall(r"\bwj\.([A-Za-z_][\w.]*)", text)}
    named |= set(re.findall(r"\{py:\w+\}`(wigner_jax[\w.]*)`", text))
    assert not [name for name in sorted(named) if not resolves(name.rstrip("."))], name_of(page)


def resolves(name: str) -> bool:
    """Whether a dotted name leads to a module or to something in one."""
    module, _, rest = name.partition(".")
    value = importlib.import_module(module)
    for part in filter(None, rest.split(".")):
        if not hasattr(value, part):
            try:
                importlib.import_module(f"{value.__name__}.{part}")
            except (ImportError, AttributeError):
                return False
        value = getattr(value, part)
    return True


def test_features_name_modules_that_exist() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/features.md").read_text().splitlines() if line.count("|") == 5]
    named = {m for row in rows for m in re.findall(r"`([a-z_][\w.]*)`", row[2]) if m != "module"}
    assert len(named) > 20
    for name in named:
        prefix = "wigner_jax.potentials" if name.startswith(".") else "wigner_jax."
        importlib.import_module(prefix + name)


def test_readme_is_short_and_keeps_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") <= MOST_LINES
    lines = [b.body.strip() for b in blocks(ROOT / "README.md", "bash")]
    assert lines == [
        "python -m pip install . && wigner-jax kappa Si",
        "python -m pip install -e '.[test]' && python -m pytest",
    ]
    assert lines[1] in (ROOT / ".ci/run").read_text().splitlines()


def test_crystals_that_are_named_are_there() -> None:
    text = (ROOT / "docs/how-to/command-line.md").read_text()
    named = re.findall(r"`(\w+)`", re.search(r"a name \(([^)]*)\)", text)[1])
    assert len(named) >= 4
    assert set(named) <= set(prototypes.available_prototypes())


def test_version_is_the_same_everywhere() -> None:
    assert f"version: {__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f'version = "{__version__}"' in (ROOT / "docs/dev/conda-recipe/meta.yaml").read_text()
    assert re.search(r"^## (?!Unreleased)(\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__


def test_conda_recipe_has_the_dependencies() -> None:
    recipe = (ROOT / "docs/dev/conda-recipe/meta.yaml").read_text()
    section = re.search(r"  run:\n(.*?)\n\n", recipe, re.DOTALL)[1]
    listed = {line.strip(" -").replace(" ", "") for line in section.splitlines()} - {"python>={{python_min}}"}
    assert listed == set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def test_continuous_integration_covers_what_pyproject_promises() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    promised = {c.rsplit(" ", 1)[1] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert set(workflow["jobs"]["everything"]["strategy"]["matrix"]["python"]) == promised
    steps = [s.get("run", "") for job in workflow["jobs"].values() for s in job["steps"]]
    assert sum(".ci/run" in s for s in steps) == len(workflow["jobs"])
    installed = " ".join(project["optional-dependencies"]["test"])
    for line in (ROOT / ".ci/run").read_text().splitlines():
        tool = line.split(" ")[0]
        package = {"lint-imports": "import-linter", "sphinx-build": "docs", "ruff": "ruff", "mypy": "mypy"}.get(tool)
        assert package is None or package in installed, tool
