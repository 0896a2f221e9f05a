"""The page of every public name, ``reference/api.md``: written from the ``__all__`` of the packages when Sphinx is configured."""

from __future__ import annotations

import importlib
import inspect
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: what users import, with a line on each
PACKAGES = {
    "wigner_jax": "the names that most programs need: `import wigner_jax as wj`",
    "wigner_jax.potentials": "potentials, their names, files and neighbour graphs",
    "wigner_jax.training": "training on conductivities, on forces, and from a few frames",
    "wigner_jax.training.losses": "functions to train on",
    "wigner_jax.training.attribution": "what a conductivity comes from: shells of force constants, modes, frames",
    "wigner_jax.metrics": "errors of κ_SRME and averages",
    "wigner_jax.evaluation": "benchmark campaigns of a potential",
    "wigner_jax.physics.spectra": "conductivity by frequency, mean free path and pairs of modes",
    "wigner_jax.plot": "figures",
    "wigner_jax.io": "files",
    "wigner_jax.types": "data structures",
    "wigner_jax.units": "constants",
}


def names_of(package: str) -> list[str]:
    """Public names of a package that have a page of their own, in the order of its ``__all__``."""
    module = importlib.import_module(package)
    listed = getattr(module, "__all__", None)
    if listed is None:
        listed = [
            n
            for n, v in vars(module).items()
            if not n.startswith("_") and getattr(v, "__module__", package) == package and not inspect.ismodule(v)
        ]
    return [n for n in listed if not n.startswith("_") and not isinstance(getattr(module, n), types.ModuleType)]


def kind(value: Any) -> str:
    if inspect.isclass(value):
        return "class"
    return "function" if callable(value) else "data"


def write(path: Path) -> None:
    """The page; names that come from elsewhere and have a page already are linked there."""
    seen: dict[int, str] = {}
    lines = ["# Python", "", "Every public name, by the package that users import it from.", ""]
    for package, line in PACKAGES.items():
        module = importlib.import_module(package)
        entries, repeated = [], []
        for name in names_of(package):
            value = getattr(module, name)
            known = seen.get(id(value)) if kind(value) != "data" else None
            if known:
                repeated.append(f"{{py:obj}}`{name} <{known}>`")
                continue
            if kind(value) != "data":
                seen[id(value)] = f"{package}.{name}"
            entries.append((name, kind(value)))
        lines += [f"## `{package}`", "", line[0].upper() + line[1:] + ".", ""]
        if repeated:
            lines += [f"Also here: {', '.join(repeated)}.", ""]
        documented = [n for n, k in entries if k != "data"]
        if documented:
            lines += ["```{eval-rst}", f".. currentmodule:: {package}", "", ".. autosummary::", "   :toctree: api", ""]
            lines += [f"   {n}" for n in documented] + ["```", ""]
        constants = [n for n, k in entries if k == "data"]
        if constants:
            lines += ["| constant | value |", "|---|---|"]
            lines += [f"| `{n}` | {shown(getattr(module, n))} |" for n in constants] + [""]
    text = "\n".join(lines)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def shown(value: Any) -> str:
    """A constant in a table's cell."""
    if isinstance(value, dict):
        return f"{len(value)} entries: {', '.join(f'`{k}`' for k in value)}"
    if isinstance(value, int | float | str):
        return f"`{value!r}`"
    return f"see the source (`{type(value).__name__}`)"
