"""CHGNet as its own program saves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..._core.reading import positive_number, reading, whole_number
from ...checks import require_finite
from ...errors import InputError
from ..base import LONGEST, Potential
from ..readers.torch_archive import Tensor, read_archive, tensors
from .model import CHGNet, CHGNetConfig, CHGNetParams

#: Po, At, Rn, Fr and Ra are not in the training set: the file's rows for them are what they were initialised with
_UNTRAINED = range(84, 89)
#: What the energy of a supported model is made of. Anything else in a file's configuration is refused by name.
_REQUIRED: dict[str, Any] = {
    "composition_model": "MPtrj",
    "update_bond": True,
    "update_angle": True,
    "mlp_first": True,
    "is_intensive": True,
    "angle_layer_hidden_dim": 0,
    "non_linearity": "silu",
    "gMLP_norm": "layer",
    "readout_norm": "layer",
    "conv_norm": None,
    "mlp_out_bias": False,
    "final_mlp": "MLP",
}


def load_chgnet(path: str | Path) -> Potential:
    """A model that chgnet saved (`.pth.tar`), in float64, without torch and without executing anything in the file.

    Raises:
        InputError: for a damaged or hostile file, a model that is not supported (it says which setting), or weights
            that are missing or not finite.
    """
    path = Path(path)
    with reading(path, "a model that can be understood"):
        archive = read_archive(path)
        if not isinstance(archive, dict) or not isinstance(archive.get("model"), dict):
            raise InputError("not a file of chgnet")
        config, params = _model(archive["model"]["model_args"], tensors(archive["model"]["state_dict"]))
    name = path.name.partition(".pth")[0]
    return Potential(params, CHGNet(config), name, config.numbers, config.cutoff, bond_cutoff=config.bond_cutoff)


def _model(values: dict[str, Any], state: dict[str, Tensor]) -> tuple[CHGNetConfig, CHGNetParams]:
    for key, expected in _REQUIRED.items():
        if values.get(key, expected) != expected:
            raise InputError(f"a CHGNet model with {key} = {values[key]!r} is not supported (only {expected!r})")
    C, E, A = (int(values[f"{kind}_fea_dim"]) for kind in ("atom", "bond", "angle"))
    if C != E or C != A:
        raise InputError(
            "a CHGNet model with different numbers of features of atoms, bonds and angles is not supported"
        )
    R, F = int(values["num_radial"]), int(values["num_angular"])
    layers = whole_number(values["n_conv"], "n_conv", 1, 100)
    params: CHGNetParams = {}

    def take(source: str, *shape: int) -> np.ndarray:
        array = state[source].array if source in state else None
        if array is None or array.shape != shape:
            raise InputError(f"weight {source!r} should have shape {shape}, found {getattr(array, 'shape', 'nothing')}")
        require_finite(array, f"weight {source!r}")
        return np.ascontiguousarray(array.T if array.ndim == 2 else array, np.float64)

    def network(source: str, target: str, sizes: tuple[int, ...], places: tuple[int, ...]) -> None:
        for k, place in enumerate(places):
            params[f"{target}.{k}.weight"] = take(f"{source}.layers.{place}.weight", sizes[k + 1], sizes[k])
            params[f"{target}.{k}.bias"] = take(f"{source}.layers.{place}.bias", sizes[k + 1])

    def with_norms(source: str, target: str, sizes: tuple[int, ...], places: tuple[int, ...]) -> None:
        for theirs, norm, ours in (("mlp_core", "bn1", "core"), ("mlp_gate", "bn2", "gate")):
            network(f"{source}.{theirs}", f"{target}.{ours}", sizes, places)
            params[f"{target}.{ours}.norm"] = np.stack([take(f"{source}.{norm}.{x}", C) for x in ("weight", "bias")])

    count = whole_number(state["atom_embedding.embedding.weight"].array.shape[0], "the number of elements", 1, 118)
    numbers = tuple(z for z in range(1, count + 1) if z not in _UNTRAINED)
    rows = np.array(numbers) - 1
    params["embedding"] = take("atom_embedding.embedding.weight", count, C).T[rows]
    params["references"] = take("composition_model.fc.weight", 1, count)[rows, 0]
    params["waves_6"] = take("bond_basis_expansion.rbf_expansion_ag.frequencies", R)
    params["waves_3"] = take("bond_basis_expansion.rbf_expansion_bg.frequencies", R)
    params["angles"] = take("angle_basis_expansion.fourier_expansion.frequencies", (F - 1) // 2)
    params["bonds.weight"] = take("bond_embedding.weight", C, R)
    params["bonds.weight_6"] = take("bond_weights_ag.weight", C, R)
    params["bonds.weight_3"] = take("bond_weights_bg.weight", C, R)
    params["angle.weight"] = take("angle_embedding.weight", C, F)
    for t in range(layers):
        hidden = int(values["atom_conv_hidden_dim"])
        with_norms(f"atom_conv_layers.{t}.twoBody_atom", f"{t}.atoms", (3 * C, hidden, C), (0, 3))
        params[f"{t}.atoms.out"] = take(f"atom_conv_layers.{t}.mlp_out.layers.1.weight", C, C)
    for t in range(layers - 1):
        hidden = int(values["bond_conv_hidden_dim"])
        with_norms(f"bond_conv_layers.{t}.twoBody_bond", f"{t}.bonds", (4 * C, hidden, C), (0, 3))
        params[f"{t}.bonds.out"] = take(f"bond_conv_layers.{t}.mlp_out.layers.1.weight", C, C)
        with_norms(f"angle_layers.{t}.twoBody_bond", f"{t}.angles", (4 * C, C), (1,))
    params["readout.norm"] = np.stack([take(f"readout_norm.{x}", C) for x in ("weight", "bias")])
    hidden_sizes = tuple(int(x) for x in values["mlp_hidden_dims"])
    places = (*range(0, 2 * len(hidden_sizes), 2), 2 * len(hidden_sizes) + 1)
    network("mlp", "readout", (C, *hidden_sizes, 1), places)
    config = CHGNetConfig(
        numbers=numbers,
        cutoff=positive_number(values["atom_graph_cutoff"], "atom_graph_cutoff", LONGEST),
        bond_cutoff=positive_number(values["bond_graph_cutoff"], "bond_graph_cutoff", LONGEST),
        p=whole_number(values["cutoff_coeff"], "cutoff_coeff", 1, 100),
        layers=layers,
    )
    return config, params
