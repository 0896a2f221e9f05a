"""What the original implementations make of the published models: the references of test_nequix.py and test_sevennet.py.

    python tests/zoo_reference/make.py COMPOUNDS WEIGHTS [model ...]

COMPOUNDS is phononDB-PBE-structures.extxyz, WEIGHTS the folder of the model files. Needs nequix 0.4.5 with e3nn-jax 0.21.0, and sevenn 0.13.0 with e3nn 0.6.0
and torch 2.13.0, each for its own models. Both compute in float32; here they run in float64 with the file's numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
Result = tuple[float, np.ndarray, np.ndarray]  # energy, forces, stress
Original = tuple[Callable[[Atoms], Any], Callable[[Any], Result]]

#: of the phononDB compounds: space group and names
CHOSEN = {
    225: ("MgO", "NaCl", "LiBr", "CsF", "PbTe", "NaH", "AgCl", "BaSe"),
    216: ("GaAs", "SiC", "CuI", "InSb", "BN", "ZnS"),
    186: ("BeO", "AlN", "ZnO", "CdSe", "GaN", "CuH"),
}


def primitive(atoms: Atoms) -> Atoms:
    """The primitive cell that the compound's entry names; it names none where the cell is primitive."""
    if "primitive_matrix" not in atoms.info:
        return atoms
    cell = atoms.info["primitive_matrix"].T @ np.asarray(atoms.cell)
    scaled = np.linalg.solve(cell.T, atoms.positions.T).T
    scaled -= np.floor(scaled + 1e-6)
    _, first = np.unique(np.round(scaled, 5), axis=0, return_index=True)
    return Atoms(numbers=atoms.numbers[first], scaled_positions=scaled[first], cell=cell, pbc=True)


def structures(compounds: Path) -> list[Atoms]:
    """Twenty of the phononDB compounds, strained and rattled; then awkward cells. Four atoms, save one with one."""
    entries = {(a.info["name"], int(a.info["symm.no"])): a for a in ase.io.iread(compounds, ":")}
    found = []
    for group, names in CHOSEN.items():
        for name in names:
            cell = primitive(entries[name, group])
            atoms = Atoms(numbers=cell.numbers, positions=cell.positions, cell=cell.cell, pbc=True)
            found.append(atoms if len(atoms) == 4 else atoms.repeat((1, 1, 2)))
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


def nequix(path: Path) -> Original:
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

    def prepare(atoms: Atoms) -> jraph.GraphsTuple:
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
        # padding becomes a second graph without atoms of its own; few structures have more than 640 edges
        edges = 640 if len(i) < 640 else len(i) + 1
        atoms_in_all = 5 if len(atoms) < 5 else len(atoms) + 1
        return jraph.pad_with_graphs(graph, n_node=atoms_in_all, n_edge=edges, n_graph=2)

    def evaluate(graph: jraph.GraphsTuple) -> Result:
        energy, forces, stress = compiled(graph)
        return float(energy[0]), np.asarray(forces)[: graph.n_node[0]], np.asarray(stress)[0]

    return prepare, evaluate


def sevennet(path: Path) -> Original:
    import torch
    from sevenn.checkpoint import SevenNetCheckpoint
    from sevenn.train.dataload import unlabeled_atoms_to_graph

    torch.Tensor.float = torch.Tensor.double  # of one-hot species
    model = SevenNetCheckpoint(path).build_model().double().eval()
    model.set_is_batch_data(False)
    for parameter in model.parameters():  # no gradients for the weights
        parameter.requires_grad_(False)

    def prepare(atoms: Atoms) -> dict[str, torch.Tensor]:
        graph = unlabeled_atoms_to_graph(atoms, model.cutoff)
        # sevenn rounds the edges to float32 here
        data = {key: torch.as_tensor(np.asarray(value)) for key, value in graph.items() if key != "data_info"}
        assert data["edge_vec"].dtype == torch.float64
        return data

    def evaluate(data: dict[str, torch.Tensor]) -> Result:
        out = model({key: value.detach() for key, value in data.items()})
        stress = -out["inferred_stress"].detach().numpy()[[0, 1, 2, 4, 5, 3]]
        energy, forces = out["inferred_total_energy"], out["inferred_force"]
        assert energy.dtype == torch.float64
        return energy.item(), forces.detach().numpy(), voigt_6_to_full_3x3_stress(stress)

    return prepare, evaluate


def original(name: str, weights: Path) -> Original:
    """The original program's model: a function that makes its input, and one that evaluates it."""
    return (nequix if name.startswith("nequix") else sevennet)(weights / FILES[name])


def main(compounds: Path, weights: Path, names: list[str]) -> None:
    frames = structures(compounds)
    ase.io.write(HERE / "structures.xyz", frames, columns=["symbols", "positions"], write_results=False)
    frames = ase.io.read(HERE / "structures.xyz", ":")  # as the tests see them: eight decimals
    for name in names or FILES:
        prepare, evaluate = original(name, weights)
        found = {}
        for atoms in frames:
            label = atoms.info["label"]
            found[f"{label}/energy"], found[f"{label}/forces"], found[f"{label}/stress"] = evaluate(prepare(atoms))
            print(name, label, found[f"{label}/energy"], np.abs(found[f"{label}/forces"]).max(), flush=True)
        np.savez_compressed(HERE / f"{name}.npz", **found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
