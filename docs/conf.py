"""Sphinx configuration. Build with ``sphinx-build -W --keep-going docs docs/_build``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE / "_ext"), str(ROOT)]

import public_names  # noqa: E402

from wigner_jax._core.version import __version__  # noqa: E402

project = "wigner-jax"
author = "the wigner-jax developers"
copyright = "the wigner-jax developers, MIT licence"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "plain_docstrings",
    "command_line",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "off"  # notebooks show the outputs that are stored in them; a test runs them
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_display_short_literal_types = True
python_maximum_signature_line_length = 100

templates_path = ["_templates"]
smartquotes = False  # q' is a wave vector, and -- begins an option
exclude_patterns = ["_templates", "_build", "_ext", "jupyter_execute", "dev/conda-recipe"]
html_theme = "furo"
html_title = f"wigner-jax {version}"
html_static_path = ["_static"]
html_css_files = ["wide-tables.css"]
html_theme_options = {
    "source_repository": "https://github.com/wigner-jax/wigner-jax/",
    "source_branch": "main",
    "source_directory": "docs/",
}


def copy_notebooks() -> None:
    """The tutorials are the notebooks of the repository: copied beside the pages, so that there is one original."""
    folder = HERE / "tutorials"
    for old in folder.glob("*.ipynb"):
        old.unlink()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        shutil.copy2(notebook, folder / notebook.name)


copy_notebooks()
public_names.write(HERE / "reference/api.md")
