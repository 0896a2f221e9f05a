"""What the original implementations make of the published models: the references of test_nequix.py and test_sevennet.py.

    python tests/zoo_reference/make.py WEIGHTS [model ...]

WEIGHTS is the folder of the model files. Needs nequix 0.4.5 with e3nn-jax 0.21.0, and sevenn 0.13.0 with e3nn 0.6.0
and torch 2.13.0, each for its own models. Both compute in float32; here they run in float64 with the file's numbers.
"""

from __future__ import annotations

import sys
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.build import molecule as molecule_of_ase
from ase.stress import voigt_6_to_full_3x3_stress

HERE = Path(__file__).parent
FILES = {
    "nequix-mp-1": "nequix-mp-1.nqx",
    "nequix-mp-1-pft": "nequix-mp-1-pft.nqx",
    "nequix-oam-1-pft": "nequix-oam-1-pft.nqx",
    "sevennet-0": "checkpoint_sevennet_0.pth",
    "sevennet-l3i5": "checkpoint_sevennet_l3i5.pth",
}
Evaluate = "Callable[[Atoms], tuple[float, np.ndarray, np.ndarray]]"

ROCKSALT = {"MgO": 4.26, "NaCl": 5.69, "LiBr": 5.51, "CsF": 6.11, "PbTe": 6.57, "NaH": 4.83, "AgCl": 5.61, "BaSe": 6.68}
ZINCBLENDE = {"GaAs": 5.75, "SiC": 4.38, "CuI": 6.08, "InSb": 6.64, "BN": 3.63, "ZnS": 5.45}
WURTZITE = {"BeO": (2.71, 4.40), "AlN": (3.13, 5.02), "ZnO": (3.29, 5.31), "CdSe": (4.39, 7.17), "GaN": (3.25, 5.24)}


def structures() -> list[Atoms]:
    """Compounds of three prototypes, strained and rattled; then cells that are awkward. Four atoms, save one with one."""
    found = []
    for prototype, table in (("rocksalt", ROCKSALT), ("zincblende", ZINCBLENDE)):
        found += [bulk(name, prototype, a=a).repeat((1, 1, 2)) for name, a in table.items()]
    found += [bulk(name, "wurtzite", a=a, c=c) for name, (a, c) in WURTZITE.items()]
    for k, atoms in enumerate(found):
        rng = np.random.default_rng(k)
        atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * rng.standard_normal((3, 3))), scale_atoms=True)
        atoms.positions += 0.08 * rng.standard_normal((len(atoms), 3))
        atoms.info["label"] = atoms.get_chemical_formula()
    skewed = bulk("LiF", "rocksalt", a=4.08).repeat((1, 1, 2))
    skewed.rattle(0.1, seed=3)
    skewed.set_cell(np.array([[1, 0, 0], [2, 1, 0], [-3, 1, 1]]) @ skewed.cell)  # the same crystal in another cell
    skewed.info["label"] = "skewed cell"
    one = bulk("Cu", a=3.6)
    one.info["label"] = "one atom"
    mixed = Atoms("HUHe2", positions=[[0, 0, 0], [2.0, 0.1, 0.2], [0.3, 2.4, 0.1], [2.2, 2.3, 2.6]])
    mixed.set_cell([4.4, 4.6, 5])
    mixed.info["label"] = "light and heavy"
    molecule = molecule_of_ase("H2CO")
    molecule.set_cell([14, 15, 16])
    molecule.rotate(37, (1, 2, 3))
    molecule.rattle(0.05, seed=1)
    molecule.info["label"] = "molecule"
    awkward = [skewed, one, mixed, molecule]
    for atoms in awkward:
        atoms.pbc = True
    return found + awkward


def nequix(path: Path) -> Evaluate:
    import equinox
    import jax
    import jax.numpy as jnp
    import jraph
    import matscipy.neighbours
    from nequix.model import load_model

    jax.config.update("jax_enable_x64", False)  # the file is read in its own precision
    model, config = load_model(path)
    jax.config.update("jax_enable_x64", True)
    model = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if isinstance(x, jax.Array) else x, model)
    compiled = equinox.filter_jit(model)
    index = {z: k for k, z in enumerate(sorted(config["atomic_numbers"]))}

    def evaluate(atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        i, j, shift = matscipy.neighbours.neighbour_list(
            "ijS", positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, cutoff=config["cutoff"]
        )
        graph = jraph.GraphsTuple(
            n_node=np.array([len(atoms)]),
            n_edge=np.array([len(i)]),
            nodes={"species": np.array([index[z] for z in atoms.numbers]), "positions": atoms.positions},
            edges={"shifts": shift.astype(float)},
            senders=j,
            receivers=i,
            globals={"cell": np.asarray(atoms.cell)[None]},
        )
        # of one shape for all structures; padding becomes a second graph without atoms of its own
        graph = jraph.pad_with_graphs(graph, n_node=5, n_edge=640, n_graph=2)
        energy, forces, stress = compiled(graph)
        return float(energy[0]), np.asarray(forces)[: len(atoms)], np.asarray(stress)[0]

    return evaluate


def sevennet(path: Path) -> Evaluate:
    import torch
    from sevenn.checkpoint import SevenNetCheckpoint
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    torch.Tensor.float = torch.Tensor.double  # of one-hot species
    model = SevenNetCheckpoint(path).build_model().double().eval()
    model.set_is_batch_data(False)

    def evaluate(atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray]:
        graph = unlabeled_atoms_to_graph(atoms, model.cutoff)
        # sevenn rounds the edges to float32 here
        data = {key: torch.as_tensor(np.asarray(value)) for key, value in graph.items() if key != "data_info"}
        assert data["edge_vec"].dtype == torch.float64
        out = model(data)
        stress = -out["inferred_stress"].detach().numpy()[[0, 1, 2, 4, 5, 3]]
        energy, forces = out["inferred_total_energy"], out["inferred_force"]
        assert energy.dtype == torch.float64
        return energy.item(), forces.detach().numpy()[: len(atoms)], voigt_6_to_full_3x3_stress(stress)

    return evaluate


def main(weights: Path, names: list[str]) -> None:
    frames = structures()
    ase.io.write(HERE / "structures.xyz", frames, columns=["symbols", "positions"], write_results=False)
    frames = ase.io.read(HERE / "structures.xyz", ":")  # as the tests see them: eight decimals
    for name in names or FILES:
        evaluate = (nequix if name.startswith("nequix") else sevennet)(weights / FILES[name])
        found = {}
        for atoms in frames:
            label = atoms.info["label"]
            found[f"{label}/energy"], found[f"{label}/forces"], found[f"{label}/stress"] = evaluate(atoms)
            print(name, label, found[f"{label}/energy"], np.abs(found[f"{label}/forces"]).max(), flush=True)
        np.savez_compressed(HERE / f"{name}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
