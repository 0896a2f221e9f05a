"""Closed-form potentials with changed parameters: JSON, exactly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ..._core.reading import read_json, reading
from ...checks import require_finite
from ...errors import InputError
from ..base import Potential, require_same_shapes
from .model import _TERSOFF, stillinger_weber, tersoff

KIND = "wigner-jax analytic potential"


def write_analytic(potential: Potential, _: Path | None, path: Path) -> Potential:
    """Write the parameters; no template is needed."""
    if potential.name not in (*_TERSOFF, "stillinger-weber-si"):
        raise InputError(f"{potential.name} is not a built-in potential: there is no file format for it")
    params = {name: np.asarray(value).tolist() for name, value in potential.params.items()}
    path.write_text(json.dumps({"kind": KIND, "potential": potential.name, "params": params}, indent=1) + "\n")
    return potential


def load_analytic(path: str | Path) -> Potential:
    """A built-in potential with the parameters of a JSON file that `save_potential` wrote.

    Cut-off distances are functions of the parameters, and are taken from them.
    """
    path = Path(path)
    with reading(path, "a potential saved by wigner-jax"):
        data = read_json(path)
        if data["kind"] != KIND:
            raise KeyError("kind")
        name = str(data["potential"])
        potential = stillinger_weber(name) if name == "stillinger-weber-si" else tersoff(name)
        params = {key: np.asarray(data["params"][key], float) for key in potential.params}
        require_same_shapes(potential, params, path)
        for key, value in params.items():
            require_finite(value, f"weight {key!r}")
        return potential.with_params(params)
