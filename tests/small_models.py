"""Small models with random weights, in files as the original programs write them: one of every family.

Shapes are written out here, independently of the readers.
"""

from __future__ import annotations

import collections
import io
import json
import pickle
import sys
import types
import zipfile
from pathlib import Path
from unittest.mock import patch

import numpy as np

MACE = Path(__file__).parent / "data/mace_reference" / "mace-mp-0-medium.model"  # O, Mg, Si
NEQUIX = {
    "cutoff": 4.0,
    "atomic_numbers": [1, 8, 12],
    "avg_n_neighbors": 9.5,
    "scale": 0.8,
    "shift": 0.2,
    "hidden_irreps": "6x0e + 4x1o + 3x2e",
    "lmax": 2,
    "n_layers": 3,
    "radial_basis_size": 5,
    "radial_mlp_size": 7,
    "radial_mlp_layers": 2,
    "radial_polynomial_p": 6.0,
    "index_weights": False,
    "layer_norm": True,
}
SEVENNET = {
    "version": "0.9.1",
    "act_gate": {"e": "silu", "o": "tanh"},
    "act_scalar": {"e": "silu", "o": "tanh"},
    "irreps_manual": ["6x0e", "6x0e+4x1e+3x2e", "6x0e+4x1e+3x2e", "6x0e"],
    "lmax": 2,
    "is_parity": False,
    "radial_basis": {"radial_basis_name": "bessel", "bessel_basis_num": 5},
    "cutoff_function": {"cutoff_function_name": "XPLOR", "cutoff_on": 3.5, "poly_cut_p_value": 6},
    "cutoff": 4.0,
    "weight_nn_hidden_neurons": [7, 7],
    "self_connection_type": "linear",
    "_type_map": {12: 0, 8: 1},
}


def write_nequix(path: Path, header: dict = NEQUIX, change=None) -> Path:
    """One line of JSON, then arrays."""
    rng = np.random.default_rng(0)
    # paths to l = 0, 1, 2 from features of l = 0, 1, 2 with harmonics of l = 0, 1, 2, where the parities agree
    middle = (6 + 4 + 3, 6 + 4 + 4 + 3, 6 + 4 + 3 + 3)
    shapes = [(3,)]
    for t in range(3):
        first, last = t == 0, t == 2
        inner = (3, 3, 3) if first else (middle[:1] if last else middle)
        out = (6,) if last else (13, 4, 3)
        shapes += [(5, 7), (7, 7), (7, sum(inner))]
        shapes += [(3, 3)] if first else [(6, 6), (4, 4), (3, 3)]
        shapes += list(zip(inner, out, strict=True))
        sources = (3,) if first else (6, 4, 3)
        shapes += list(zip(sources, out, strict=False))
        shapes += [(n,) for n in out]
    shapes.append((6, 1))
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    if change is not None:
        change(arrays)
    with path.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        for array in arrays:
            np.save(file, array)
        file.write(b"\n")
    return path


def sevennet_state() -> dict[str, np.ndarray]:
    """Weights for `SEVENNET`."""
    shapes = {
        "edge_embedding.basis_function.coeffs": (5,),
        "onehot_to_feature_x.linear.weight": (2 * 6,),
        "reduce_input_to_hidden.linear.weight": (6 * 3,),
        "reduce_hidden_to_energy.linear.weight": (3,),
        "rescale_atomic_energy.scale": (2,),
        "rescale_atomic_energy.shift": (2,),
    }
    # scalars carry a gate for each of seven channels; all couplings to l ≤ 2 are allowed, whatever their parity
    middle = [(6, 6, 6), (6 + 4 + 3, 6 + 3 * 4 + 2 * 3, 6 + 2 * 4 + 3 * 3), (6 + 4 + 3,)]
    for t, inner in enumerate(middle):
        sources, out = ((6, 4, 3) if t else (6,)), ((6,) if t == 2 else (13, 4, 3))
        shapes |= {
            f"{t}_self_connection_intro.linear.weight": (sum(map(np.prod, zip(sources, out, strict=False))),),
            f"{t}_self_interaction_1.linear.weight": (sum(n * n for n in sources),),
            f"{t}_self_interaction_2.linear.weight": (sum(map(np.prod, zip(inner, out, strict=True))),),
            f"{t}_convolution.weight_nn.layer0.weight": (5, 7),
            f"{t}_convolution.weight_nn.layer1.weight": (7, 7),
            f"{t}_convolution.weight_nn.layer2.weight": (7, sum(inner)),
            f"{t}_convolution.denominator": (1,),
        }
    rng = np.random.default_rng(0)
    return {name: rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape) for name, shape in shapes.items()}


def write_sevennet(path: Path) -> Path:
    return write_archive(path, {"config": SEVENNET, "model_state_dict": sevennet_state()})


def write_chgnet(path: Path) -> Path:
    """H to Si, six features."""
    C, R, F, count = 6, 5, 5, 14
    settings = {
        "atom_fea_dim": C, "bond_fea_dim": C, "angle_fea_dim": C, "num_radial": R, "num_angular": F, "n_conv": 3,
        "atom_conv_hidden_dim": C, "bond_conv_hidden_dim": C, "mlp_hidden_dims": [C, C], "atom_graph_cutoff": 4.0,
        "bond_graph_cutoff": 2.6, "cutoff_coeff": 6,
    }  # fmt: skip
    shapes = {
        "atom_embedding.embedding.weight": (count, C),
        "composition_model.fc.weight": (1, count),
        "bond_embedding.weight": (C, R),
        "bond_weights_ag.weight": (C, R),
        "bond_weights_bg.weight": (C, R),
        "angle_embedding.weight": (C, F),
        "readout_norm.weight": (C,),
        "readout_norm.bias": (C,),
    }

    def layer(name: str, out: int, into: int) -> None:
        shapes.update({f"{name}.weight": (out, into), f"{name}.bias": (out,)})

    for kind, place, count_, blocks in (
        ("atom_conv", "atom", 3, 3),
        ("bond_conv", "bond", 2, 4),
        ("angle", "bond", 2, 4),
    ):
        for t in range(count_):
            base = f"{kind}_layers.{t}"
            for network, norm in (("mlp_core", "bn1"), ("mlp_gate", "bn2")):
                source = f"{base}.twoBody_{place}"
                if kind == "angle":
                    layer(f"{source}.{network}.layers.1", C, blocks * C)
                else:
                    layer(f"{source}.{network}.layers.0", C, blocks * C)
                    layer(f"{source}.{network}.layers.3", C, C)
                shapes.update({f"{source}.{norm}.weight": (C,), f"{source}.{norm}.bias": (C,)})
            if kind != "angle":
                shapes[f"{base}.mlp_out.layers.1.weight"] = (C, C)
    layer("mlp.layers.0", C, C)
    layer("mlp.layers.2", C, C)
    layer("mlp.layers.5", 1, C)
    rng = np.random.default_rng(0)
    state = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    for name in ("ag", "bg"):
        waves = np.pi * (np.arange(1, R + 1) + 0.1 * rng.standard_normal(R))
        state[f"bond_basis_expansion.rbf_expansion_{name}.frequencies"] = waves
    state["angle_basis_expansion.fourier_expansion.frequencies"] = np.arange(1, (F - 1) // 2 + 1) + 0.1
    return write_archive(path, {"model": {"model_args": settings, "state_dict": state}})


def write_m3gnet(folder: Path) -> Path:
    """matgl's form: O and Mg, six features."""
    C, n, l = 6, 3, 3
    settings = {
        "element_types": ["O", "Mg"], "units": C, "max_n": n, "max_l": l, "nblocks": 2, "cutoff": 4.0,
        "threebody_cutoff": 3.0, "use_smooth": False, "rbf_type": "SphericalBessel",
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "embedding.layer_node_embedding.weight": (2, C),
        "embedding.layer_edge_embedding.layers.0.weight": (C, n * l),
        "embedding.layer_edge_embedding.layers.0.bias": (C,),
    }

    def network(name: str, sizes: tuple[int, ...], bias: bool = True) -> None:
        for part in ("layers", "gates"):
            for k in range(len(sizes) - 1):
                shapes[f"{name}.{part}.{2 * k}.weight"] = (sizes[k + 1], sizes[k])
                if bias:
                    shapes[f"{name}.{part}.{2 * k}.bias"] = (sizes[k + 1],)

    for t in range(2):
        three, layer = f"three_body_interactions.{t}", f"graph_layers.{t}.conv"
        shapes[f"{three}.update_network_atom.layers.0.weight"] = (n * l, C)
        shapes[f"{three}.update_network_atom.layers.0.bias"] = (n * l,)
        network(f"{three}.update_network_bond", (n * l, C), bias=False)
        for name in ("edge", "node"):
            network(f"{layer}.{name}_update_func", (3 * C, C, C, C))
            shapes[f"{layer}.{name}_weight_func.weight"] = (C, n * l)
    network("final_layer.gated", (C, C, C, C, 1))
    rng = np.random.default_rng(1)
    state = {f"model.{name}": 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}
    state |= {
        "element_refs.property_offset": rng.standard_normal(2),
        "data_std": np.asarray(2.5),
        "data_mean": np.asarray(0.0),
    }
    folder.mkdir()
    model = {"@class": "M3GNet", "init_args": settings}
    write_archive(folder / "state.pt", state)
    (folder / "model.json").write_text(json.dumps({"@class": "Potential", "kwargs": {"model": model}}))
    return folder


def write_empirical(path: Path) -> Path:
    from wigner_jax import load_potential
    from wigner_jax.potentials.saving import save_potential

    potential = load_potential("tersoff-1989")
    save_potential(potential.with_params({k: 1.01 * np.asarray(v) for k, v in potential.params.items()}), path)
    return path


def write_mace(path: Path) -> Path:
    path.write_bytes(MACE.read_bytes())
    return path


#: name of a family: (function that writes a model, name of the file or folder, a crystal it knows)
FAMILIES = {
    "MACE": (write_mace, "small.model", "MgO"),
    "closed form": (write_empirical, "small.json", "SiC"),
    "Nequix": (write_nequix, "small.nqx", "MgO"),
    "SevenNet": (write_sevennet, "small.pth", "MgO"),
    "CHGNet": (write_chgnet, "small.pth.tar", "MgO"),
    "M3GNet": (write_m3gnet, "small", "MgO"),
}


def write_archive(path: Path, value) -> Path:
    """What `torch.save` writes of plain data with arrays in it, which become tensors. torch is not needed."""
    storages: list[np.ndarray] = []

    def rebuild(*_):
        raise NotImplementedError

    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    kind = type("DoubleStorage", (), {"__module__": "torch"})
    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.DoubleStorage, utils._rebuild_tensor_v2 = kind, rebuild

    class Storage:
        def __init__(self, key: int, size: int) -> None:
            self.pid = ("storage", kind, str(key), "cpu", size)

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return obj.pid if isinstance(obj, Storage) else None

        def reducer_override(self, obj):
            if not isinstance(obj, np.ndarray):
                return NotImplemented
            array = np.asarray(obj, np.float64, order="C")
            storages.append(array)
            strides = tuple(s // 8 for s in array.strides)
            storage = Storage(len(storages) - 1, array.size)
            return rebuild, (storage, 0, array.shape, strides, False, collections.OrderedDict())

    data = io.BytesIO()
    with patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        Pickler(data, protocol=2).dump(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", data.getvalue())
        for key, array in enumerate(storages):
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return path
