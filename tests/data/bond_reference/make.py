"""What the original implementations make of CHGNet and M3GNet: the references of test_chgnet.py and test_m3gnet.py.

    python tests/bond_reference/make.py WEIGHTS [model ...]

WEIGHTS is the folder of the model files. Needs, each for its own model: chgnet 0.4.2 and torch 2.13.0; matgl 1.1.3 with
dgl 1.1.3 and torch 2.13.0; m3gnet 0.2.4 with tensorflow 2.15.1. All compute in float32; here they run in float64 with
the file's numbers, which takes the changes marked "float64" below. Two further changes are marked "index" and "clamp":

index: matgl lists triplets by the numbers of edges among those below 4 Å, and then uses them as numbers among all edges,
    so that the three-body terms are made of wrong edges and the energy depends on the order of the atoms. Here the
    numbers are translated. `matgl-as-shipped` is the model without this change: for the record, not a reference.
clamp: matgl moves cos θ away from ±1 by 1e-7; here it does not.
"""

from __future__ import annotations

import json
import sys
import types
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.io
import numpy as np
from ase.build import bulk

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase import Atoms

    # a graph that is ready, and energy (eV), forces (eV/Å) and stress (eV/Å³) from it
    Original = tuple[Callable[[Atoms], Any], Callable[[Any], tuple[float, np.ndarray, np.ndarray]]]

HERE = Path(__file__).parent
GPA = 160.21766208  # eV/Å³ in GPa, of chgnet and matgl


def structures() -> list[Atoms]:
    """Those of the other published models, and a cubic cell without images of an atom among its neighbours."""
    cubic = bulk("MgO", "rocksalt", a=4.27, cubic=True)
    cubic.rattle(0.06, seed=4)
    cubic.info["label"] = "Mg4O4"
    return [*ase.io.read(HERE.parent / "zoo_reference" / "structures.xyz", ":"), cubic]


def chgnet(weights: Path, double: bool = True) -> Original:
    import chgnet.graph.converter
    import chgnet.graph.crystalgraph
    import chgnet.model.model
    import torch
    from chgnet.model.model import CHGNet
    from pymatgen.io.ase import AseAtomsAdaptor

    if double:
        for module in (chgnet.graph.converter, chgnet.graph.crystalgraph, chgnet.model.model):
            module.TORCH_DTYPE = torch.float64  # float64
        torch.set_default_dtype(torch.float64)  # float64: basis constants
        torch.Tensor.float = torch.Tensor.double  # float64: composition
    path = weights / "chgnet_0.3.0_e29f68s314m37.pth.tar"
    state = torch.load(path, map_location="cpu", weights_only=False)["model"]
    model = CHGNet.from_dict(state).eval()
    model = (model.double() if double else model).requires_grad_(False)

    def prepare(atoms: Atoms) -> Any:
        return model.graph_converter(AseAtomsAdaptor.get_structure(atoms))

    def evaluate(graph: Any) -> tuple[float, np.ndarray, np.ndarray]:
        out = model.forward([graph], task="efs")
        assert out["e"].dtype == (torch.float64 if double else torch.float32)
        stress = out["s"][0].detach().numpy() / GPA
        return out["e"].item() * len(graph.atomic_number), out["f"][0].detach().numpy(), stress

    return prepare, evaluate


def matgl(weights: Path, double: bool = True, indices: bool = True) -> Original:
    lightning = types.ModuleType("lightning")  # of the training code, which is imported but not used
    lightning.LightningModule = object
    sys.modules.setdefault("lightning", lightning)
    import matgl
    import torch

    if double:
        torch.set_default_dtype(torch.float64)
        matgl.float_th, matgl.float_np = torch.float64, np.float64  # float64
    import matgl.graph.compute
    import matgl.layers._basis
    import matgl.layers._three_body
    import matgl.utils.maths
    from matgl.apps.pes import Potential
    from matgl.ext.ase import Atoms2Graph
    from matgl.models._m3gnet import M3GNet

    roots = torch.tensor(np.load(Path(matgl.utils.maths.CWD) / "sb_roots.npy"), dtype=matgl.float_th)  # float64
    matgl.utils.maths.SPHERICAL_BESSEL_ROOTS = matgl.layers._basis.SPHERICAL_BESSEL_ROOTS = roots

    def angles(edges):  # clamp
        a, b = edges.src["bond_vec"], edges.dst["bond_vec"]
        cosine = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1))
        return {"cos_theta": cosine, "phi": torch.zeros_like(cosine), "triple_bond_lengths": edges.dst["bond_dist"]}

    def three_body(self, graph, lines, basis, cutoff, nodes, edges):  # index
        below = torch.nonzero(graph.edata["bond_dist"] <= 4.0)[:, 0]
        first, second = (below[k] for k in lines.edges())
        ends = graph.edges()[1][second]
        terms = basis * self.update_network_atom(nodes)[ends] * (cutoff[first] * cutoff[second])[:, None]
        sums = terms.new_zeros(graph.num_edges(), terms.shape[1]).index_add(0, first, terms)
        return edges + self.update_network_bond(sums)

    if indices:
        matgl.graph.compute.compute_theta_and_phi = angles
        matgl.models._m3gnet.compute_theta_and_phi = angles
        matgl.layers._three_body.ThreeBodyInteractions.forward = three_body
    folder = weights / "M3GNet-MP-2021.2.8-PES"
    arguments = json.loads((folder / "model.json").read_text())["kwargs"]["model"]["init_args"]
    state = torch.load(folder / "state.pt", map_location="cpu")
    references = state["element_refs.property_offset"].double().numpy()
    potential = Potential(M3GNet(**arguments), data_mean=0.0, data_std=1.0, element_refs=references)
    potential.load_state_dict(state)
    potential = (potential.double() if double else potential).requires_grad_(False)
    convert = Atoms2Graph(arguments["element_types"], arguments["cutoff"])

    def prepare(atoms: Atoms) -> Any:
        graph, _, _ = convert.get_graph(atoms)
        graph.ndata["frac_coords"] = torch.as_tensor(atoms.get_scaled_positions(wrap=False), dtype=matgl.float_th)
        graph.edata["pbc_offset"] = graph.edata["pbc_offset"].to(matgl.float_th)  # float64
        return graph, torch.as_tensor(np.asarray(atoms.cell), dtype=matgl.float_th)[None]

    def evaluate(data: Any) -> tuple[float, np.ndarray, np.ndarray]:
        energy, forces, stress, _ = potential(*data, torch.zeros(2))
        assert energy.dtype == matgl.float_th
        return energy.item(), forces.detach().numpy(), stress.detach().numpy() / GPA

    return prepare, evaluate


def m3gnet(weights: Path, double: bool = True) -> Original:
    import tensorflow as tf

    folder = str(weights / "M3GNet-MP-2021.2.8-EFS-tf")
    import m3gnet.config
    import m3gnet.utils._math as basis
    from m3gnet.graph import Index, RadiusCutoffGraphConverter
    from m3gnet.models import M3GNet
    from pymatgen.io.ase import AseAtomsAdaptor

    def graph_of(converter: RadiusCutoffGraphConverter, atoms: Atoms) -> list:
        graph = converter(AseAtomsAdaptor.get_structure(atoms)).as_list()
        graph[Index.ATOM_POSITIONS] = np.asarray(atoms.positions, m3gnet.config.DataType.np_float)
        graph[Index.LATTICES] = np.asarray(atoms.cell.array, m3gnet.config.DataType.np_float)[None]
        return [None if g is None else tf.convert_to_tensor(g) for g in graph]

    # the file is read in its own precision; a model has no variables before its first call
    single = M3GNet.from_dir(folder)
    single(graph_of(single.graph_converter, bulk("MgO", "rocksalt", a=4.2)))
    single.load_weights(f"{folder}/m3gnet").assert_existing_objects_matched()
    values = {v.name: v.numpy() for v in single.variables}
    order = [v.name for v in single.variables]
    arguments = {k: v for k, v in single.get_config().items() if k != "name"}

    if double:
        tf.keras.backend.set_floatx("float64")  # float64
        tf.keras.mixed_precision.set_global_policy("float64")
        m3gnet.config.DataType.tf_float = tf.float64
        m3gnet.config.DataType.np_float = np.float64
        basis.tf.dtypes.complex64 = tf.complex128  # float64: spherical harmonics
        root = tf.math.sqrt
        tf.sqrt = tf.math.sqrt = lambda x: root(tf.convert_to_tensor(x, tf.float64))  # float64: norms of both bases
    real = tf.float64 if double else tf.float32
    model = M3GNet(**arguments)
    converter = RadiusCutoffGraphConverter(cutoff=5.0, threebody_cutoff=4.0)
    model(graph_of(converter, bulk("MgO", "rocksalt", a=4.2)))
    assert len(model.variables) == len(order)
    for variable, name in zip(model.variables, order, strict=True):
        assert variable.dtype == real
        variable.assign(values[name].astype(real.as_numpy_dtype))

    @tf.function(reduce_retracing=True)
    def compiled(graph: list) -> tuple:
        graph = graph[:]
        positions, lattice = graph[Index.ATOM_POSITIONS], graph[Index.LATTICES]
        strain = tf.zeros((3, 3), real)
        with tf.GradientTape() as tape:
            tape.watch([positions, strain])
            deformed = tf.eye(3, dtype=real) + strain
            graph[Index.ATOM_POSITIONS], graph[Index.LATTICES] = positions @ deformed, lattice @ deformed
            energy = tf.reduce_sum(model(graph))
        slope, virial = tape.gradient(energy, [positions, strain])
        return energy, -tf.convert_to_tensor(slope), virial

    def evaluate(data: Any) -> tuple[float, np.ndarray, np.ndarray]:
        graph, volume = data
        energy, forces, virial = compiled(graph)
        assert energy.dtype == real
        return float(energy), forces.numpy(), virial.numpy() / volume

    return lambda atoms: (graph_of(converter, atoms), atoms.cell.volume), evaluate


MODELS = {
    "chgnet-0.3.0": chgnet,
    "m3gnet-mp-2021.2.8": m3gnet,
    "m3gnet-mp-2021.2.8-matgl": matgl,
    "matgl-as-shipped": partial(matgl, indices=False),
}


def main(weights: Path, names: list[str]) -> None:
    for name in names:
        prepare, evaluate = MODELS[name](weights)
        found = {}
        for atoms in structures():
            label = atoms.info["label"]
            energy, forces, stress = evaluate(prepare(atoms))
            # the strain was applied without symmetrising it: rotations do no work
            found |= {f"{label}/energy": energy, f"{label}/forces": forces, f"{label}/stress": (stress + stress.T) / 2}
            print(name, label, energy, np.abs(forces).max(), np.abs(stress - stress.T).max(), flush=True)
        np.savez_compressed(HERE / f"{name}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(MODELS)[:3])
