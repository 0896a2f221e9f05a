"""Nequix models as their own program saves them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..._core.arrays_in import npy_array
from ..._core.reading import positive_number, reading, whole_number
from ...checks import require_finite
from ...crystal.elements import SYMBOLS
from ...errors import InputError
from ..base import LONGEST, Potential, require_same_shapes
from ..layers.equivariant import MAX_L, Irreps, MulIrrep
from ..layers.message_passing import (
    convolution,
    gated,
    linear,
)
from .model import Layer, Nequix, NequixConfig, NequixParams


def load_nequix(path: str | Path) -> Potential:
    """A model that nequix saved (`.nqx`: one line of JSON, then arrays), in float64; nothing in it is executed.

    Raises:
        InputError: for a file that is missing, truncated, or not of this format, an architecture that is not that of
            the published models, or weights that are not finite.
    """
    path = Path(path)
    with reading(path, "a complete Nequix file", "if it was downloaded, do so again"):
        with path.open("rb") as file:
            values, config = _header(file)
            arrays = _arrays(file.read())
        params = _parameters(config, values, arrays)
    return Potential(params, Nequix(config), path.stem, config.numbers, config.cutoff)


def _header(file: BinaryIO) -> tuple[dict[str, Any], NequixConfig]:
    line = file.readline(2**20)
    values = json.loads(line) if line.startswith(b"{") else None
    if not isinstance(values, dict) or "hidden_irreps" not in values:
        raise InputError("its first line is not the configuration of a Nequix model")
    if values["index_weights"]:
        raise InputError("a model with skip connections for each species (index_weights) is not supported")
    numbers = tuple(sorted(int(z) for z in values["atomic_numbers"]))
    if unknown := [z for z in numbers if z not in SYMBOLS]:
        raise InputError(f"the model lists atomic number {unknown[0]}")
    p = float(values["radial_polynomial_p"])
    if p != int(p):
        raise InputError(f"a polynomial cutoff of the power {p} is not supported")
    hidden = _irreps(values["hidden_irreps"])
    harmonics = tuple(MulIrrep(1, l, (-1) ** l) for l in range(whole_number(values["lmax"], "lmax", 0, MAX_L) + 1))
    last = whole_number(values["n_layers"], "n_layers", 1, 100) - 1
    layers = []
    for t in range(last + 1):
        sources = hidden if t else (MulIrrep(len(numbers), 0, 1),)
        out = hidden if t < last else hidden[:1]
        step = convolution(sources, harmonics, out, sort=True)
        layers.append(
            Layer(linear(sources, sources), step, linear(step.out, gated(out)), linear(sources, gated(out)), out)
        )
    return values, NequixConfig(
        numbers=numbers,
        cutoff=positive_number(values["cutoff"], "cutoff", LONGEST),
        basis=whole_number(values["radial_basis_size"], "radial_basis_size", 1, 10_000),
        p=whole_number(p, "radial_polynomial_p", 1, 100),
        hidden=whole_number(values["radial_mlp_size"], "radial_mlp_size", 1, 10**6),
        depth=whole_number(values["radial_mlp_layers"], "radial_mlp_layers", 0, 100),
        neighbors=positive_number(values["avg_n_neighbors"], "avg_n_neighbors"),
        norm=bool(values["layer_norm"]),
        layers=tuple(layers),
    )


def _irreps(text: str) -> Irreps:
    """Irreps of natural parity from text such as "128x0e + 64x1o", scalars first."""
    found = re.findall(r"(\d+)x(\d+)([eo])", text)
    irreps = tuple(MulIrrep(int(mul), int(l), 1 if p == "e" else -1) for mul, l, p in found)
    ls = [whole_number(ir.l, "an angular momentum", 0, MAX_L) for ir in irreps]
    if not ls or ls[0] != 0 or ls != sorted(set(ls)) or any(ir.p != (-1) ** ir.l for ir in irreps):
        raise InputError(f"features {text!r} are not supported: each l once, in ascending order, of natural parity")
    return irreps


def _arrays(data: bytes) -> list[np.ndarray]:
    """All arrays that follow the header; some files end in white space."""
    at, arrays = 0, []
    end = len(data.rstrip())
    while at < end:
        array, at = npy_array(data, at)
        arrays.append(array)
    return arrays


def _parameters(config: NequixConfig, values: dict[str, Any], arrays: list[np.ndarray]) -> NequixParams:
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {"atom_energies": ((len(config.numbers),),)}
    for t, layer in enumerate(config.layers):
        found = layer.shapes(config.basis, config.hidden, config.depth, config.norm)
        shapes |= {f"layers.{t}.{name}": value for name, value in found.items()}
    shapes["readout"] = ((config.layers[-1].out[0].mul, 1),)
    params, rest = {}, iter(arrays)
    for name, blocks in shapes.items():
        pieces = []
        for shape in blocks:
            piece = next(rest, np.empty(0))
            if piece.shape != shape or piece.dtype.kind != "f":
                what = f"{piece.dtype} {piece.shape}" if piece.size else "nothing"
                raise InputError(f"weight {name!r} should have shape {shape}, found {what}")
            require_finite(piece, f"weight {name!r}")
            pieces.append(piece.astype(np.float64))
        # maps of features are kept flat, as `Linear` takes them
        params[name] = pieces[0] if "radial_mlp" in name else np.concatenate([piece.ravel() for piece in pieces])
    for name in ("scale", "shift"):
        params[name] = np.asarray(float(values[name]))
        require_finite(params[name], name)
    return params


def write_nequix(potential: Potential, template: Path, path: Path) -> Potential:
    """Write parameters into a copy of a file of the same architecture, in its precision; the potential as written."""
    with template.open("rb") as file:
        values, config = _header(file)
        arrays = _arrays(file.read())
    found = _parameters(config, values, arrays)
    require_same_shapes(potential, found, template)
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


def blocks(potential: Potential, name: str) -> tuple[tuple[int, ...], ...] | None:
    """The matrices of a layer's flat linear map, as the file has them."""
    energy = potential.energy
    head, _, rest = name.partition(".")
    if not isinstance(energy, Nequix) or head != "layers":
        return None
    config = energy.config
    index, part = rest.split(".", 1)
    return config.layers[int(index)].shapes(config.basis, config.hidden, config.depth, config.norm).get(part)


def usually_fixed(_: Potential) -> list[str]:
    """What nequix does not train: energies of atoms, scale and shift."""
    return ["scale", "shift", "atom_energies"]
