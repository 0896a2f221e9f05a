"""SevenNet models as their own program saves them."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..._core.reading import positive_number, reading, whole_number
from ...checks import require_finite
from ...crystal.elements import SYMBOLS
from ...errors import InputError
from ..base import LONGEST, Potential, require_same_shapes
from ..layers.equivariant import (
    MAX_L,
    Irreps,
    MulIrrep,
    wigner_3j,
)
from ..layers.message_passing import (
    convolution,
    gated,
    linear,
)
from ..readers.torch_archive import Tensor, read_archive, rewrite_archive, tensors
from .model import Layer, SevenNet, SevenNetConfig, SevenNetParams

#: What the energy of a supported model is made of. Anything else in a file's configuration is refused by name.
_REQUIRED: dict[str, Any] = {
    "_model_type": "E3_equivariant_model",
    "is_parity": False,
    "self_connection_type": "linear",
    "interaction_type": "nequip",
    "use_bias_in_linear": False,
    "readout_as_fcn": False,
    "act_radial": "silu",
    "_normalize_sph": True,
}


def load_sevennet(path: str | Path, *, rounded: bool = False) -> Potential:
    """A checkpoint that sevenn saved (`.pth`), in float64, without torch and without executing anything in the file.

    Couplings have the signs of those in the file (some changed between versions of e3nn). Their values there are rounded
    to float32, so that sevenn's energies are symmetric to 1e-8 only; here they are exact, which moves energies by 1e-10
    of themselves and forces by 1e-8 eV/Å, and makes energies invariant under
    rotations to rounding.

    Args:
        rounded: take the couplings as they are in the file, for comparison with sevenn to the last digit.

    Raises:
        InputError: for a damaged or hostile file, a model that is not supported (it says which setting), or weights
            that are missing or not finite.
    """
    path = Path(path)
    with reading(path, "a model that can be understood"):
        archive = read_archive(path)
        if not isinstance(archive, dict) or not {"config", "model_state_dict"} <= archive.keys():
            raise InputError("not a checkpoint of sevenn")
        state = tensors(archive["model_state_dict"])
        config = _configuration(archive["config"], state, rounded)
        params = _parameters(config, state)
    nonsmooth: tuple[tuple[int, int, float], ...] = ()
    if config.cutoff_on:
        count = len(config.numbers)
        nonsmooth = tuple((s, t, config.cutoff_on) for s in range(count) for t in range(s, count))
    return Potential(
        params, SevenNet(config), path.stem, config.numbers, config.cutoff, nonsmooth_distances=nonsmooth, parity=False
    )


def _couplings(state: dict[str, Tensor], layer: int, rounded: bool) -> dict[tuple[int, int, int], np.ndarray]:
    """w3j of (l1, l2, l3) as a layer of the file has them, up to rounding."""
    prefix = f"{layer}_convolution.convolution._compiled_main_left_right._w3j_"
    found = {}
    for name, tensor in state.items():
        if not name.startswith(prefix):
            continue
        l1, l2, l3 = (
            whole_number(int(l), "an angular momentum", 0, MAX_L) for l in name.removeprefix(prefix).split("_")
        )
        exact = wigner_3j(l1, l2, l3)
        values = exact * np.sign(np.sum(exact * tensor.array))
        if not np.abs(values - tensor.array).max() < 1e-6:
            raise InputError(f"the coupling of l = {l1}, {l2}, {l3} is not e3nn's")
        found[l1, l2, l3] = tensor.array if rounded else values
    return found


def _configuration(values: dict[str, Any], state: dict[str, Tensor], rounded: bool = False) -> SevenNetConfig:
    for key, expected in _REQUIRED.items():
        if values.get(key, expected) != expected:
            raise InputError(f"a SevenNet model with {key} = {values[key]!r} is not supported (only {expected!r})")
    if values.get("use_modality") or values.get("_modal_map"):
        raise InputError("a SevenNet model of several modalities is not supported")
    for key in ("act_scalar", "act_gate"):
        if values[key]["e"] != "silu":
            raise InputError(f"a SevenNet model with {key} = {values[key]['e']!r} is not supported (only 'silu')")
    index = {int(z): int(k) for z, k in values["_type_map"].items()}
    numbers = tuple(sorted(index, key=index.__getitem__))
    if sorted(index.values()) != list(range(len(numbers))) or not set(numbers) <= SYMBOLS.keys():
        raise InputError("its table of elements is damaged")
    features = [_irreps(text) for text in values["irreps_manual"]]
    whole_number(len(features), "the number of layers and one", 2, 100)
    harmonics = tuple(MulIrrep(1, l, 1) for l in range(whole_number(values["lmax"], "lmax", 0, MAX_L) + 1))
    # since 0.11 the radial weights stand in the order of the results
    sort = tuple(int(n) for n in str(values["version"]).split(".")[:2]) >= (0, 11)
    layers = []
    for t, (sources, out) in enumerate(pairwise(features)):
        step = convolution(sources, harmonics, out, sort=sort, couplings=_couplings(state, t, rounded))
        maps = linear(sources, gated(out)), linear(sources, sources), step, linear(step.out, gated(out))
        layers.append(Layer(*maps, out))
    cutoff = values["cutoff_function"]
    kind = cutoff["cutoff_function_name"]
    if kind not in ("XPLOR", "poly_cut") or values["radial_basis"]["radial_basis_name"] != "bessel":
        raise InputError(
            f"a SevenNet model with cutoff function {kind!r} or another basis than Bessel's is not supported"
        )
    return SevenNetConfig(
        numbers=numbers,
        cutoff=positive_number(values["cutoff"], "cutoff", LONGEST),
        cutoff_on=positive_number(cutoff["cutoff_on"], "cutoff_on", LONGEST) if kind == "XPLOR" else 0.0,
        p=whole_number(cutoff["poly_cut_p_value"], "poly_cut_p_value", 1, 100),
        channels=features[0][0].mul,
        depth=len(values["weight_nn_hidden_neurons"]),
        layers=tuple(layers),
    )


def _irreps(text: Any) -> Irreps:
    """Irreps of even parity from text such as "128x0e+64x1e", scalars first."""
    found = re.findall(r"(\d+)x(\d+)([eo])", str(text))
    irreps = tuple(MulIrrep(int(mul), int(l), 1) for mul, l, _ in found)
    ls = [whole_number(ir.l, "an angular momentum", 0, MAX_L) for ir in irreps]
    if not ls or ls[0] != 0 or ls != sorted(set(ls)) or any(p != "e" for *_, p in found):
        raise InputError(f"features {text} are not supported: each l once, in ascending order, of even parity")
    return irreps


def _parameters(config: SevenNetConfig, state: dict[str, Tensor]) -> SevenNetParams:
    """The numbers that the energy depends on, float64, by their names in the state dictionary; shapes are checked."""
    count = len(config.numbers)
    sizes = {
        "edge_embedding.basis_function.coeffs": None,
        "onehot_to_feature_x.linear.weight": count * config.channels,
        "reduce_input_to_hidden.linear.weight": None,
        "reduce_hidden_to_energy.linear.weight": None,
        "rescale_atomic_energy.scale": count,
        "rescale_atomic_energy.shift": count,
    }
    for t, layer in enumerate(config.layers):
        parts = ("self_connection_intro", layer.skip), ("self_interaction_1", layer.linear_1)
        for name, part in (*parts, ("self_interaction_2", layer.linear_2)):
            sizes[f"{t}_{name}.linear.weight"] = sum(math.prod(path.shape) for path in part.paths)
        sizes |= {f"{t}_convolution.weight_nn.layer{k}.weight": None for k in range(config.depth)}
        hidden = state[f"{t}_convolution.weight_nn.layer{config.depth}.weight"].array.shape[0]
        sizes[f"{t}_convolution.weight_nn.layer{config.depth}.weight"] = hidden * sum(layer.convolution.sizes)
        sizes[f"{t}_convolution.denominator"] = 1
    params = {}
    for name, size in sizes.items():
        found = state[name].array.size if name in state else 0
        if not found or found != (size or found):
            raise InputError(f"weight {name!r} should have {size or 'some'} numbers, found {found}")
        require_finite(state[name].array, f"weight {name!r}")
        params[name] = state[name].array.astype(np.float64)
    return params


def write_sevennet(potential: Potential, template: Path, path: Path) -> Potential:
    """Write parameters into a copy of a file of the same architecture, in its precision; the potential as written."""
    state = tensors(read_archive(template)["model_state_dict"])
    require_same_shapes(potential, {name: state[name].array for name in potential.params if name in state}, template)
    changes = {state[name]: np.asarray(value) for name, value in potential.params.items()}
    rewrite_archive(template, path, changes)
    return potential.with_params({n: np.asarray(v).astype(state[n].array.dtype).astype(float)
                                  for n, v in potential.params.items()})  # fmt: skip


def blocks(potential: Potential, name: str) -> tuple[tuple[int, ...], ...] | None:
    """The matrices of a layer's flat linear map between features."""
    energy = potential.energy
    head, _, _ = name.partition(".")
    if not isinstance(energy, SevenNet) or not head[:1].isdigit() or not name.endswith(".linear.weight"):
        return None
    index, part = head.split("_", 1)
    layer = energy.config.layers[int(index)]
    maps = {
        "self_connection_intro": layer.skip,
        "self_interaction_1": layer.linear_1,
        "self_interaction_2": layer.linear_2,
    }
    return tuple(path.shape for path in maps[part].paths) if part in maps else None


def usually_fixed(potential: Potential) -> list[str]:
    """What sevenn does not train: energies of atoms, their scale, and the divisors of the messages."""
    return [n for n in potential.params if n.startswith("rescale_atomic_energy.") or n.endswith(".denominator")]
