"""Changed parameters back into files that `load_potential`, and the programs that made the models, read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._core.atomic_write import atomic_write
from ..checks import require_finite
from ..errors import InputError
from . import mace
from .empirical import _TERSOFF, stillinger_weber, tersoff
from .nequix.files import _arrays, _header, _parameters
from .nequix.model import Nequix
from .readers.torch_archive import read_archive, rewrite_archive, tensors
from .sevennet.model import SevenNet

if TYPE_CHECKING:
    from .base import Potential


KIND = "wigner-jax analytic potential"


def ending(potential: Potential) -> str:
    """What the name of a file for this potential must end in."""
    for kind, name in ((mace.Mace, ".model"), (Nequix, ".nqx"), (SevenNet, ".pth")):
        if isinstance(potential.energy, kind):
            return name
    return ".json"


def source(name: str) -> Path | None:
    """The file of a bundled or published model on this machine; None for other names."""
    from . import bundled
    from .downloads import locate
    from .registry import _ALIASES, _MODELS

    key = _ALIASES.get(name.lower(), name.lower())
    if key == bundled.NAME:
        return bundled.FILE
    return locate(_MODELS[key]) if key in _MODELS else None


def template_of(potential: Potential, file: Path) -> Path | None:
    """The file a model was read from, which a changed one is written like; None for built-in potentials."""
    if file.is_file():
        return file
    return None if ending(potential) == ".json" else source(potential.name)


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
        InputError: another ending, no template, one of another architecture, or parameters that are not finite.
    """
    path = Path(path)
    if path.suffix != ending(potential):
        raise InputError(f"{path}: a file for {potential.name} must end in {ending(potential)}")
    for name, value in potential.params.items():
        require_finite(value, f"weight {name!r}")
    if template is not None and not Path(template).is_file():
        raise InputError(f"{path}: no template {template}: check the name")
    with atomic_write(path) as part:
        if path.suffix == ".json":
            _write_analytic(potential, part)
        elif template is None:
            raise InputError(f"{path}: saving {potential.name} needs the file it was read from as a template")
        elif path.suffix == ".model":
            potential = mace.export_mace(potential, template, part)
        elif path.suffix == ".nqx":
            potential = _write_nequix(potential, Path(template), part)
        else:
            potential = _write_sevennet(potential, Path(template), part)
    return potential


def _write_nequix(potential: Potential, template: Path, path: Path) -> Potential:
    with template.open("rb") as file:
        values, config = _header(file)
        arrays = _arrays(file.read())
    found = _parameters(config, values, arrays)
    _require_same(potential, found, template)
    rounded = {k: np.asarray(v, float) for k, v in potential.params.items()}
    # the file holds each block of a flat map as an array of its own, in the order of the parameters
    shapes, position = [a.shape for a in arrays], 0
    with path.open("wb") as file:
        header = {**values, **{k: float(rounded[k]) for k in ("scale", "shift")}}
        file.write((json.dumps(header) + "\n").encode())
        for name in (n for n in found if n not in ("scale", "shift")):
            flat, start, pieces = rounded[name].ravel(), 0, []
            while start < flat.size:
                shape, dtype = shapes[position], arrays[position].dtype
                pieces.append(flat[start : start + int(np.prod(shape))].reshape(shape).astype(dtype))
                np.lib.format.write_array(file, pieces[-1], allow_pickle=False)
                start, position = start + pieces[-1].size, position + 1
            rounded[name] = np.concatenate([p.ravel() for p in pieces]).astype(float).reshape(rounded[name].shape)
    return potential.with_params(rounded)


def _write_sevennet(potential: Potential, template: Path, path: Path) -> Potential:
    state = tensors(read_archive(template)["model_state_dict"])
    _require_same(potential, {name: state[name].array for name in potential.params if name in state}, template)
    changes = {state[name]: np.asarray(value) for name, value in potential.params.items()}
    rewrite_archive(template, path, changes)
    return potential.with_params({n: np.asarray(v).astype(state[n].array.dtype).astype(float)
                                  for n, v in potential.params.items()})  # fmt: skip


def _require_same(potential: Potential, found: dict[str, Any], template: Path) -> None:
    for name, value in potential.params.items():
        if name not in found or np.shape(found[name]) != np.shape(value):
            shape = np.shape(found[name]) if name in found else "nothing"
            raise InputError(f"{template}: weight {name!r} should have shape {np.shape(value)}, found {shape}")


def _write_analytic(potential: Potential, path: Path) -> None:
    if potential.name not in (*_TERSOFF, "stillinger-weber-si"):
        raise InputError(f"{potential.name} is not a built-in potential: there is no file format for it")
    params = {name: np.asarray(value).tolist() for name, value in potential.params.items()}
    path.write_text(json.dumps({"kind": KIND, "potential": potential.name, "params": params}, indent=1) + "\n")


def load_analytic(path: str | Path) -> Potential:
    """A built-in potential with the parameters of a JSON file that `save_potential` wrote.

    Cut-off distances are functions of the parameters, and are taken from them.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text())
        if data["kind"] != KIND:
            raise KeyError("kind")
        name = str(data["potential"])
        potential = stillinger_weber(name) if name == "stillinger-weber-si" else tersoff(name)
        params = {key: np.asarray(data["params"][key], float) for key in potential.params}
    except FileNotFoundError:
        raise InputError(f"no such file: {path}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} does not hold a potential saved by wigner-jax ({error})") from None
    _require_same(potential, params, path)
    for key, value in params.items():
        require_finite(value, f"weight {key!r}")
    return _reach(potential.with_params(params))


def _reach(potential: Potential) -> Potential:
    """The same potential with neighbour lists as long as its parameters say."""
    params = jax.tree.map(np.asarray, potential.params)
    if "a" in params:
        return dataclasses.replace(potential, cutoff=float(params["a"] * params["sigma"]))
    R, S = (np.sqrt(np.outer(params[k], params[k])) for k in ("R", "S"))
    count = len(potential.species)
    return dataclasses.replace(
        potential, cutoff=float(S.max()), pair_cutoffs=tuple(tuple(float(x) for x in row) for row in S),
        nonsmooth_distances=tuple((s, t, float(R[s, t])) for s in range(count) for t in range(s, count)),
    )  # fmt: skip


__all__ = [
    "ending",
    "load_analytic",
    "save_potential",
    "source",
    "template_of",
]
