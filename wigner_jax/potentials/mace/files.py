"""MACE files: to a `Potential`, and back."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.reading import reading
from ...checks import require_finite
from ...crystal.elements import SYMBOLS
from ...errors import InputError
from ..base import Potential
from ..readers.torch_archive import Stub, read_archive, rewrite_archive, tensors
from .config import Selector
from .convert import FIXED, configuration, parameters
from .model import Mace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..layers.equivariant import Linear
    from .config import MaceConfig, MaceParams


def load_mace(path: str | Path, *, head: str | None = None) -> Potential:
    """A model that mace-torch saved (`.model`), without torch and without executing anything in the file.

    Numbers are those of the file, in float64. For a float32 file the couplings are rounded as torch rounded them, so
    that energies equal mace-torch's with ``default_dtype="float64"``; symmetry then holds to 1e-8 only, as it does there.

    Args:
        path: the file.
        head: of a model with several; by default the one named "default".

    Raises:
        InputError: for a damaged or hostile file, a model or block that is not supported (by name), weights that are
            not finite, or a choice of head that is missing or unknown.
    """
    path = Path(path)
    with reading(path, "a model that can be understood"):
        model = read_archive(path)
        if not isinstance(model, Stub):
            raise InputError("it holds weights without a model: read it with `load_state` into a model of this shape")
        config = configuration(model, head)
        params = parameters(tensors(model))
    return _potential(Mace(config), params, path.stem)


def _potential(energy: Mace, params: MaceParams, name: str) -> Potential:
    radial, numbers = energy.config.radial, energy.config.numbers
    nonsmooth: tuple[tuple[int, int, float], ...] = ()
    # the repulsion's envelope is C² only, where two atoms touch: near bond lengths
    if radial.repulsion and radial.radii is not None:
        radii = [float(radial.radii.array[z]) for z in numbers]
        pairs = [(s, t) for s in range(len(radii)) for t in range(s, len(radii))]
        nonsmooth = tuple((s, t, radii[s] + radii[t]) for s, t in pairs)
    return Potential(params, energy, name, numbers, radial.r_max, nonsmooth_distances=nonsmooth)


def load_state(path: str | Path, potential: Potential) -> Potential:
    """Weights of a state dictionary or a training checkpoint, in the architecture of `potential`.

    Raises:
        InputError: if names or shapes differ, or a weight is not finite.
    """
    with reading(path, "weights of a MACE model"):
        state = read_archive(path)
        if isinstance(state, dict) and isinstance(state.get("model"), dict):
            state = state["model"]  # mace-torch's training checkpoint
        params = parameters(tensors(state))
    for name, value in potential.params.items():
        if name not in params or params[name].shape != np.shape(value):
            found = params[name].shape if name in params else "nothing"
            raise InputError(f"{path}: weight {name!r} should have shape {np.shape(value)}, found {found}")
    return potential.with_params({name: params[name] for name in potential.params})


def export_mace(potential: Potential, template: str | Path, path: str | Path) -> Potential:
    """Write parameters into a copy of a mace-torch file, which mace-torch then loads as usual.

    Only numbers are replaced; every class and table in the archive stays as it was. They take the file's precision.

    Args:
        potential: whose parameters to write (fine-tuned ones, say), of all the species of the file.
        template: the file that the model was read from, or another of the same architecture.
        path: where to write; not the template itself.

    Returns:
        the potential as written: its parameters rounded, if the template is in float32.
    """
    if Path(path).resolve() == Path(template).resolve():
        raise InputError(f"{path}: export to another file than the template, which is read while writing")
    found = tensors(read_archive(template))
    changes, rounded = {}, {}
    for name, value in potential.params.items():
        value = np.asarray(value)
        if name not in found or found[name].array.shape != value.shape:
            shape = found[name].array.shape if name in found else "nothing"
            raise InputError(f"{template}: weight {name!r} should have shape {value.shape}, found {shape}")
        require_finite(value, f"weight {name!r}")
        changes[found[name]] = value
        rounded[name] = value.astype(found[name].array.dtype).astype(np.float64)
    rewrite_archive(template, path, changes)
    return potential.with_params(rounded)


def trainable(params: MaceParams) -> dict[str, bool]:
    """Which parameters mace-torch trains: not the atomic energies, scale and shift, nor the constants of the radial basis."""
    return {name: FIXED.match(name) is None for name in params}


def usually_fixed(potential: Potential) -> list[str]:
    """Names of the parameters that mace-torch does not train."""
    return [name for name, free in trainable(potential.params).items() if not free]


def blocks(potential: Potential, name: str) -> tuple[tuple[int, ...], ...] | None:
    """The matrices of an interaction's flat linear map between features."""
    energy = potential.energy
    head, _, rest = name.partition(".")
    if not isinstance(energy, Mace) or head != "interactions":
        return None
    index, part = rest.split(".", 1)
    linear: Any = getattr(energy.config.interactions[int(index)], part.removesuffix(".weight"), None)
    return tuple(path.shape for path in linear.paths) if hasattr(linear, "paths") else None


def initial(
    potential: Potential, rng: np.random.Generator, atom_energies: np.ndarray | None, force_scale: float | None
) -> Potential:
    """The same architecture with normal random weights, as mace-torch starts.

    Weights of symmetric contractions have a standard deviation of 1/(number of paths), all others of 1: normalisation is
    in the code. The shift is 0.

    Args:
        rng: the weights are drawn from it, in the order of their names.
        atom_energies: (species,) eV; None keeps those of the potential.
        force_scale: eV/Å, the scale of the site energies; None keeps that of the potential.
    """
    free = trainable(potential.params)
    params = {}
    for name in sorted(potential.params):
        value = np.asarray(potential.params[name], float)
        if free[name]:
            scale = 1 / max(value.shape[1], 1) if "symmetric_contractions" in name else 1.0
            value = scale * rng.standard_normal(value.shape)
        params[name] = value
    if atom_energies is not None:
        name = "atomic_energies_fn.atomic_energies"
        params[name] = np.broadcast_to(atom_energies, params[name].shape).copy()
    if "scale_shift.scale" in params:
        if force_scale is not None:
            params["scale_shift.scale"] = np.full_like(params["scale_shift.scale"], force_scale)
        params["scale_shift.shift"] = np.zeros_like(params["scale_shift.shift"])
    return potential.with_params(params)


def restrict(potential: Potential, numbers: Sequence[int]) -> Potential:
    """The same model for a few of its elements: the same energies, less work.

    Models for the whole periodic table carry the weights of 89 species into every evaluation; for the two or three of
    a crystal, what depends on the species costs nothing. The parameters are then a part of the model's.
    """
    energy = potential.energy
    if not isinstance(energy, Mace):
        raise TypeError(f"{potential.name!r} is not a MACE model")
    config = energy.config
    wanted = sorted(set(potential.species_of(numbers)))
    if len(wanted) == len(config.numbers):
        return potential

    def selector(spec: Selector | Linear) -> Selector | Linear:
        if not isinstance(spec, Selector):
            return spec
        # weights are normalised by the number of species they were made for: `scale` has it and stays
        return dataclasses.replace(
            spec, paths=tuple(p._replace(shape=(p.shape[0], len(wanted), p.shape[2])) for p in spec.paths)
        )

    params = {name: _rows(config, name, np.asarray(value), wanted) for name, value in potential.params.items()}
    pick = tuple(config.numbers[k] for k in wanted)
    small = dataclasses.replace(
        config,
        numbers=pick,
        interactions=tuple(dataclasses.replace(b, skip=selector(b.skip)) for b in config.interactions),
    )
    before, label = ("".join(SYMBOLS[z] for z in which) for which in (config.numbers, pick))
    return _potential(Mace(small), params, f"{potential.name.removesuffix(f'[{before}]')}[{label}]")


def _rows(config: MaceConfig, name: str, value: np.ndarray, wanted: list[int]) -> np.ndarray:
    """What a parameter has for some of the species: all of it, if it does not depend on them."""
    count = len(config.numbers)
    parts = name.split(".")
    if name == "atomic_energies_fn.atomic_energies":
        return value[..., wanted]
    if name == "node_embedding.linear.weight" or parts[-2] in ("source_embedding", "target_embedding"):
        # these are divided by the square root of the number of species
        return value.reshape(count, -1)[wanted].ravel() * np.sqrt(len(wanted) / count)
    if parts[-2] == "skip_tp" and isinstance(spec := config.interactions[int(parts[1])].skip, Selector):
        ends = np.cumsum([np.prod(path.shape) for path in spec.paths])
        pieces = zip(np.split(value, ends[:-1]), spec.paths, strict=True)
        return np.concatenate([piece.reshape(path.shape)[:, wanted].ravel() for piece, path in pieces])
    if "symmetric_contractions" in parts and not config.products[int(parts[1])].agnostic:
        return value[wanted]
    return value
