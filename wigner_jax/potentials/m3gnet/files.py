"""The two published sets of M3GNet's weights: a TensorFlow checkpoint and a state of matgl, read without either."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..._core.reading import positive_number, read_json, reading, whole_number
from ...checks import require_finite
from ...crystal.elements import ELEMENTS, SYMBOLS
from ...errors import InputError
from ..base import LONGEST, Potential
from ..downloads import checksum
from ..readers.tf_checkpoint import read_checkpoint
from ..readers.torch_archive import read_archive, tensors
from .model import M3GNet, M3GNetConfig
from .published import MODELS

if TYPE_CHECKING:
    from .model import M3GNetParams


MAX_N, MAX_L = 20, 10  #: of the bases; the published models have 3 and 3


def load_m3gnet(path: str | Path) -> Potential:
    """A model that m3gnet (a TensorFlow checkpoint) or matgl saved, in float64; nothing in it is executed.

    Args:
        path: its folder, or one of the files in it. m3gnet's folder holds m3gnet.json, m3gnet.index and
            m3gnet.data-00000-of-00001; matgl's holds model.json and state.pt.

    Raises:
        InputError: for files that are missing, truncated or not of this format, an architecture that is not that of the
            published models, or weights that are missing or not finite.
    """
    path = Path(path)
    with reading(path, "an M3GNet model", folder=True):
        folder = path if path.is_dir() else path.parent
    # both may lie in one folder: then the file that is named decides
    named = path.name if path.is_file() else ""
    if (folder / "m3gnet.json").is_file() and not named.startswith(("model.", "state.")):
        read, described, main = _from_tensorflow, folder / "m3gnet.json", folder / "m3gnet.index"
    elif (folder / "model.json").is_file() and not named.startswith("m3gnet."):
        read, described, main = _from_matgl, folder / "model.json", folder / "state.pt"
    else:
        raise InputError(f"{folder} holds no M3GNet model: neither m3gnet.json (TensorFlow) nor model.json (matgl)")
    with reading(described, "a model that can be understood", "if it was downloaded, do so again"):
        config, params = read(folder, read_json(described))
    count = len(config.numbers)
    # f has two vanishing derivatives there, the third jumps
    nonsmooth = tuple((s, t, config.three_body_cutoff) for s in range(count) for t in range(s, count))
    sha256 = checksum(main)
    name = next((name for name, published in MODELS.items() if published.sha256 == sha256), folder.name)
    return Potential(params, M3GNet(config), name, config.numbers, config.cutoff, nonsmooth_distances=nonsmooth)


def holds_model(path: Path) -> bool:
    """Whether a path is that of a folder which `load_m3gnet` would try to read."""
    return path.is_dir() and any((path / name).is_file() for name in ("m3gnet.json", "model.json"))


def _require(values: dict[str, Any], expected: dict[str, Any]) -> None:
    for key, value in expected.items():
        if values.get(key, value) != value:
            raise InputError(f"an M3GNet model with {key} = {values[key]!r} is not supported (only {value!r})")


class _Weights:
    """Weights that are taken one by one, checked, and turned to (in, out) in float64."""

    def __init__(self, arrays: dict[str, np.ndarray], transpose: bool) -> None:
        self.arrays, self.transpose = arrays, transpose
        self.params: M3GNetParams = {}

    def take(self, source: str, target: str, *shape: int) -> None:
        array = self.arrays.get(source)
        if array is not None and self.transpose and array.ndim == 2:
            array = array.T
        if array is None or array.shape != shape:
            raise InputError(f"weight {source!r} should have shape {shape}, found {getattr(array, 'shape', 'nothing')}")
        require_finite(array, f"weight {source!r}")
        self.params[target] = np.ascontiguousarray(array, np.float64)


def _from_tensorflow(folder: Path, values: Any) -> tuple[M3GNetConfig, M3GNetParams]:
    values = json.loads(values)["config"] if isinstance(values, str) else values["config"]
    _require(
        values,
        {
            "include_states": False,
            "readout": "weighted_atom",
            "task_type": "regression",
            "is_intensive": False,
            "mean": 0.0,
        },
    )
    references = np.asarray(values["element_refs"], float)
    # elements that were not in the training set have no reference energy: Po, At, Rn, Fr, Ra
    numbers = tuple(int(z) for z in np.flatnonzero(np.abs(references) > 1e-10) if z in SYMBOLS)
    n, C = whole_number(values["max_n"], "max_n", 1, MAX_N), int(values["units"])
    config = M3GNetConfig(
        numbers=numbers,
        cutoff=positive_number(values["cutoff"], "cutoff", LONGEST),
        three_body_cutoff=positive_number(values["threebody_cutoff"], "threebody_cutoff", LONGEST),
        max_n=n,
        max_l=whole_number(values["max_l"], "max_l", 1, MAX_L),
        blocks=whole_number(values["n_blocks"], "n_blocks", 1, 100),
        smooth=True,
        swish_weight=True,
        to_end=False,
    )
    weights = _Weights(read_checkpoint(folder / "m3gnet"), transpose=False)

    def network(source: str, target: str, sizes: tuple[int, ...], bias: bool = True) -> None:
        for theirs, ours in (("pipe", "core"), ("gate", "gate")):
            for k in range(len(sizes) - 1):
                name = f"{source}/{theirs}/layers/{k}"
                weights.take(f"{name}/kernel", f"{target}.{ours}.{k}.weight", sizes[k], sizes[k + 1])
                if bias:
                    weights.take(f"{name}/bias", f"{target}.{ours}.{k}.bias", sizes[k + 1])

    embedding = "featurizer/atom_network/embedding/embeddings"
    weights.take(embedding, "embedding", len(references), C)
    weights.params["embedding"] = weights.params["embedding"][list(numbers)]
    weights.take("feature_adjust/update_func/pipe/layers/0/kernel", "bonds.weight", n, C)
    degree = n * config.max_l
    for t in range(config.blocks):
        three, layer = f"three_interactions/{t}", f"graph_layers/{t}"
        weights.take(f"{three}/update_network/pipe/layers/0/kernel", f"{t}.three.weight", C, degree)
        weights.take(f"{three}/update_network/pipe/layers/0/bias", f"{t}.three.bias", degree)
        network(f"{three}/update_network2", f"{t}.three", (degree, C), bias=False)
        network(f"{layer}/bond_network/update_func", f"{t}.edge", (3 * C, C, C))
        weights.take(f"{layer}/bond_network/weight_func/kernel", f"{t}.edge.radial", n, C)
        network(f"{layer}/atom_network/bond_dense", f"{t}.node", (3 * C, C, C))
        weights.take(f"{layer}/atom_network/weight_update/kernel", f"{t}.node.radial", n, C)
    network("final/layers/0/atom_network/update_func", "readout", (C, C, C, 1))
    weights.params["references"] = references[list(numbers)]
    weights.params["scale"] = np.asarray(float(values["std"]))
    require_finite(weights.params["references"], "element_refs")
    return config, weights.params


def _from_matgl(folder: Path, values: Any) -> tuple[M3GNetConfig, M3GNetParams]:
    if values.get("@class") != "Potential" or values["kwargs"]["model"]["@class"] != "M3GNet":
        raise InputError("not an M3GNet potential of matgl")
    values = values["kwargs"]["model"]["init_args"]
    expected = {
        "rbf_type": "SphericalBessel",
        "is_intensive": False,
        "task_type": "regression",
        "ntargets": 1,
        "use_smooth": False,
        "use_phi": False,
        "activation_type": "swish",
        "include_state": False,
    }
    _require(values, expected)
    n, C = whole_number(values["max_n"], "max_n", 1, MAX_N), int(values["units"])
    numbers = tuple(ELEMENTS[symbol][0] for symbol in values["element_types"])
    config = M3GNetConfig(
        numbers=numbers,
        cutoff=positive_number(values["cutoff"], "cutoff", LONGEST),
        three_body_cutoff=positive_number(values["threebody_cutoff"], "threebody_cutoff", LONGEST),
        max_n=n,
        max_l=whole_number(values["max_l"], "max_l", 1, MAX_L),
        blocks=whole_number(values["nblocks"], "nblocks", 1, 100),
        smooth=False,
        swish_weight=False,
        to_end=True,
    )
    arrays = {name: tensor.array for name, tensor in tensors(read_archive(folder / "state.pt")).items()}
    weights = _Weights({name.removeprefix("model."): array for name, array in arrays.items()}, transpose=True)

    def network(source: str, target: str, sizes: tuple[int, ...], bias: bool = True) -> None:
        for theirs, ours in (("layers", "core"), ("gates", "gate")):
            for k in range(len(sizes) - 1):
                name = f"{source}.{theirs}.{2 * k}"
                weights.take(f"{name}.weight", f"{target}.{ours}.{k}.weight", sizes[k], sizes[k + 1])
                if bias:
                    weights.take(f"{name}.bias", f"{target}.{ours}.{k}.bias", sizes[k + 1])

    table = arrays.get("model.embedding.layer_node_embedding.weight", np.empty(0))
    weights.arrays["embedding"] = table.T
    weights.take("embedding", "embedding", len(numbers), C)
    degree = n * config.max_l
    weights.take("embedding.layer_edge_embedding.layers.0.weight", "bonds.weight", degree, C)
    weights.take("embedding.layer_edge_embedding.layers.0.bias", "bonds.bias", C)
    for t in range(config.blocks):
        three, layer = f"three_body_interactions.{t}", f"graph_layers.{t}.conv"
        weights.take(f"{three}.update_network_atom.layers.0.weight", f"{t}.three.weight", C, degree)
        weights.take(f"{three}.update_network_atom.layers.0.bias", f"{t}.three.bias", degree)
        network(f"{three}.update_network_bond", f"{t}.three", (degree, C), bias=False)
        for theirs, ours in (("edge", "edge"), ("node", "node")):
            network(f"{layer}.{theirs}_update_func", f"{t}.{ours}", (3 * C, C, C, C))
            weights.take(f"{layer}.{theirs}_weight_func.weight", f"{t}.{ours}.radial", degree, C)
    network("final_layer.gated", "readout", (C, C, C, C, 1))
    weights.take("element_refs.property_offset", "references", len(numbers))
    weights.take("data_std", "scale")
    weights.take("data_mean", "mean")
    if weights.params.pop("mean"):
        raise InputError("a model whose energies have a mean for each cell is not supported")
    return config, weights.params
