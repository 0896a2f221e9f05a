"""Changed parameters back into files that `load_potential`, and the programs that made the models, read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .._core.atomic_write import atomic_write
from ..checks import require_finite
from ..errors import InputError
from .family import resolve
from .registry import family_of, model_file

if TYPE_CHECKING:
    from .base import Potential
    from .family import Family


def ending(potential: Potential) -> str:
    """What the name of a file for this potential must end in; InputError if there is no file format for it."""
    return _writable(potential).endings[0]


def template_of(potential: Potential, file: Path) -> Path | None:
    """The file a model was read from, which a changed one is written like; None for potentials that need none.

    It is asked before training starts: InputError for a model that could not be saved afterwards.
    """
    family = _writable(potential)
    if file.is_file():
        return file
    return model_file(potential.name) if family.needs_template else None


def save_potential(potential: Potential, path: str | Path, template: str | Path | None = None) -> Potential:
    """Write a potential with its present parameters.

    MACE, Nequix and SevenNet models go into a copy of a file of the same architecture (the one they were read from), in
    that file's precision, so that the original programs read them; built-in potentials into JSON, exactly.

    Args:
        path: ends in .model, .nqx, .pth or .json, by kind of model; written aside and renamed.
        template: needed except for JSON.

    Returns:
        the potential as written: rounded, if the template is in float32.

    Raises:
        InputError: no file format for this potential, another ending, no template, one of another architecture, or
            parameters that are not finite.
    """
    path = Path(path)
    family = _writable(potential)
    if not path.name.endswith(family.endings[0]):
        raise InputError(f"{path}: a file for {potential.name} must end in {family.endings[0]}")
    for name, value in potential.params.items():
        require_finite(value, f"weight {name!r}")
    if template is not None and not Path(template).is_file():
        raise InputError(f"{path}: no template {template}: check the name")
    if template is None and family.needs_template:
        raise InputError(f"{path}: saving {potential.name} needs the file it was read from as a template")
    with atomic_write(path) as part:
        return resolve(family.write)(potential, None if template is None else Path(template), part)


def _writable(potential: Potential) -> Family:
    family = family_of(potential)
    if family is None or family.write is None:
        whose = "a potential of no registered family" if family is None else f"{family.name} models"
        raise InputError(
            f"{potential.name}: there is no file format for {whose}: keep its parameters as arrays instead"
        )
    return family


__all__ = [
    "ending",
    "save_potential",
    "template_of",
]
