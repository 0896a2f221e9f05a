"""Small MACE models with random weights, and what mace-torch makes of them: the references of test_mace.py.

    python tests/mace_reference/make.py

needs mace-torch 0.3.16 (written with torch 2.13.0 on the CPU). Every model has the hyper-parameters of a published one,
or of a branch of the code that none of those takes, but few channels and elements. The stored archives are without the
TorchScript that mace-torch saves beside its weights and that nothing here reads, and compressed: torch does not load
them again. test_mace_live.py makes models of full size and complete files with `build`.
"""

from __future__ import annotations

import io
import sys
import tempfile
import zipfile
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk

HERE = Path(__file__).parent
ELEMENTS = (8, 12, 14)
BLOCKS = {
    "plain": "RealAgnosticInteractionBlock",
    "residual": "RealAgnosticResidualInteractionBlock",
    "density": "RealAgnosticDensityInteractionBlock",
    "density residual": "RealAgnosticDensityResidualInteractionBlock",
    "nonlinear": "RealAgnosticResidualNonLinearInteractionBlock",
}
_0B = {"first": "plain", "distance_transform": "Agnesi", "pair_repulsion": True}
_0B3 = {**_0B, "first": "density", "other": "density residual"}
#: Hyper-parameters of the published models; {C} is the number of channels (128 in the originals)
PUBLISHED = {
    "mace-mp-0-small": {"hidden": "{C}x0e"},
    "mace-mp-0-medium": {},
    "mace-mp-0-large": {"hidden": "{C}x0e+{C}x1o+{C}x2e"},
    "mace-mp-0b-medium": _0B,
    "mace-mp-0b3-medium": _0B3,
}
#: Branches beyond them; max_ell and correlation are small where they do not matter
BRANCHES = {
    "soft-gaussian": {"distance_transform": "Soft", "radial_type": "gaussian", "max_ell": 2, "correlation": 2},
    "chebyshev-last": {"radial_type": "chebyshev", "distance_transform": "Agnesi", "use_last_readout_only": True},
    "fourth-order": {"correlation": 4, "max_ell": 2, "agnostic": True},
    "three-layers": {"num_interactions": 3, "max_ell": 2, "correlation": [2, 1, 3], "scaled": False, "gate": "tanh"},
    "one-layer": {"num_interactions": 1, "max_ell": 4, "correlation": 2, "pair_repulsion": True, "scaled": False},
    "all-parities": {"hidden": "{C}x0e+{C}x0o+{C}x1e+{C}x1o", "max_ell": 2, "correlation": 2},
    "rotations-only": {"hidden": "{C}x0e+{C}x1e", "use_so3": True, "max_ell": 2, "correlation": 2},
    "single-precision": {"dtype": "float32", "hidden": "{C}x0e+{C}x1o+{C}x2e", "max_ell": 2},
    "nonlinear": {  # the blocks of mace-mh-1
        "first": "nonlinear",
        "other": "nonlinear",
        "apply_cutoff": False,
        "readout": "NonLinearBiasReadoutBlock",
        "edge_irreps": "3x0e+3x1o",
        "use_edge_irreps_first": True,
        "radial_MLP": [16, 24],
        "max_ell": 2,
        "correlation": 2,
    },
    "two-heads": {**_0B3, "heads": ["pbe", "r2scan"], "apply_cutoff": False, "max_ell": 2, "correlation": 2},
}


def build(name: str, channels: int = 4, elements: tuple[int, ...] = ELEMENTS, r_max: float = 4.5):
    """A model by name with random weights (those of a trained one are of the same size)."""
    import mace  # noqa: F401 (e3nn 0.4.4 loads its tables only after mace has told torch to)
    import torch
    from e3nn import o3
    from mace import modules

    options = dict({**PUBLISHED, **BRANCHES}[name])
    take = options.pop
    torch.set_default_dtype(getattr(torch, take("dtype", "float64")))
    torch.manual_seed(sum(map(ord, name)))
    heads = options.get("heads", ["Default"])
    irreps = {
        key: o3.Irreps(text.format(C=channels))
        for key, text in (
            ("hidden_irreps", take("hidden", "{C}x0e+{C}x1o")),
            ("edge_irreps", take("edge_irreps", "")),
            ("MLP_irreps", "16x0e"),
        )
        if text
    }
    E0 = np.sin(np.arange(len(heads) * len(elements))).reshape(len(heads), -1)
    shifts = {"atomic_inter_scale": 0.8 + 0.1 * np.arange(len(heads)), "atomic_inter_shift": 0.1 * np.ones(len(heads))}
    if len(heads) == 1:
        E0, shifts = E0[0], {key: float(value[0]) for key, value in shifts.items()}
    scaled = take("scaled", True)
    arguments = {
        "r_max": r_max,
        "num_bessel": 10,
        "num_polynomial_cutoff": 5,
        "max_ell": 3,
        "correlation": 3,
        "num_interactions": 2,
        "radial_MLP": [64] * 3 if channels > 16 else [12] * 3,
        "interaction_cls_first": modules.interaction_classes[BLOCKS[take("first", "residual")]],
        "interaction_cls": modules.interaction_classes[BLOCKS[take("other", "residual")]],
        "num_elements": len(elements),
        "atomic_numbers": list(elements),
        "atomic_energies": E0,
        "avg_num_neighbors": 21.7,
        "gate": getattr(torch.nn.functional, take("gate", "silu")),
        "use_reduced_cg": False,
        "use_agnostic_product": take("agnostic", False),
        "readout_cls": getattr(modules.blocks, take("readout", "NonLinearReadoutBlock")),
        **irreps,
        **options,
        **(shifts if scaled else {}),
    }
    model = (modules.ScaleShiftMACE if scaled else modules.MACE)(**arguments)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("bias"):  # zero, or too small to be seen, when made
                value.copy_(0.3 * torch.randn(value.shape, dtype=value.dtype))
            elif key.endswith("beta"):  # zero, which would hide the density
                value.fill_(7.0)
            elif "_embedding.weight" in key:
                value.copy_(torch.randn(value.shape, dtype=value.dtype))
            elif "symmetric_contractions" in key:
                value.mul_(3)
    return model


def structures() -> dict[str, Atoms]:
    """Crystals, a skewed cell, a molecule in a box, a slab, and one atom that is its own neighbour."""
    rng = np.random.default_rng(0)
    crystal = bulk("MgO", "rocksalt", a=4.21).repeat((2, 1, 1))
    mixed = Atoms(
        "SiO2Mg",
        positions=[[0, 0, 0], [1.6, 0.1, 0], [0.2, 1.7, 0.3], [2.2, 2.0, 2.4]],
        cell=[[5.1, 0, 0], [4.0, 3.2, 0], [3.5, -2.0, 4.4]],
    )
    molecule = Atoms(
        "SiO3", positions=[[6, 6, 6], [7.5, 6.1, 6.2], [5.1, 7.2, 5.9], [5.6, 5.2, 7.1]], cell=[12, 13, 14]
    )
    slab = Atoms("Mg2O2", positions=[[0, 0, 0], [1.5, 1.5, 2.1], [1.5, 1.5, 0], [0, 0, 2.1]], cell=[3, 3, 15])
    lonely = Atoms("Mg", positions=[[0.1, 0.2, 0.3]], cell=[[2.6, 0, 0], [0.4, 2.5, 0], [1.9, 0.3, 2.7]])
    found = {"crystal": crystal, "skewed": mixed, "molecule": molecule, "slab": slab, "one atom": lonely}
    for atoms in found.values():
        atoms.positions += 0.05 * rng.standard_normal(atoms.positions.shape)
        atoms.pbc = True
    return found


def _chebyshev(self, x):
    """T_1 … T_K by recursion: torch's own polynomials have no derivative, and mace-torch's forces lack that term."""
    import torch

    values = [torch.ones_like(x), x]
    for _ in range(self.num_basis - 1):
        values.append(2 * x * values[-1] - values[-2])
    return torch.cat(values[1:], dim=-1)


def evaluate(path: str | Path, frames: dict[str, Atoms], head: str | None = None) -> dict[str, np.ndarray]:
    """Energy, forces and stress of every structure, and two atoms' rows of the Hessian of the first."""
    from mace.calculators import MACECalculator
    from mace.modules.radial import ChebychevBasis

    ChebychevBasis.forward = _chebyshev
    calculator = MACECalculator(
        model_paths=str(path), device="cpu", default_dtype="float64", **({"head": head} if head else {})
    )
    results = {}
    for index, (label, original) in enumerate(frames.items()):
        atoms = original.copy()
        atoms.calc = calculator
        results[f"{label}/energy"] = np.array(atoms.get_potential_energy())
        results[f"{label}/forces"] = atoms.get_forces()
        results[f"{label}/stress"] = atoms.get_stress(voigt=False)
        if index == 0:
            n = len(atoms)
            results[f"{label}/hessian"] = calculator.get_hessian(atoms).reshape(n, 3, n, 3)[:2]
    return results


def _store(model, path: Path) -> None:
    """The archive without compiled code, compressed."""
    import torch
    from e3nn.util.codegen import CodeGenMixin
    from mace.modules.symmetric_contraction import Contraction

    for module in model.modules():
        if isinstance(module, Contraction):
            module.graph_opt_main = torch.nn.Identity()
            module.contractions_weighting = torch.nn.ModuleList()
            module.contractions_features = torch.nn.ModuleList()
    complete = CodeGenMixin.__getstate__
    CodeGenMixin.__getstate__ = lambda self: {**complete(self), "__codegen__": {}}
    buffer = io.BytesIO()
    try:
        torch.save(model, buffer)
    finally:
        CodeGenMixin.__getstate__ = complete
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as new:
        for member in old.namelist():
            new.writestr(zipfile.ZipInfo(member), old.read(member), zipfile.ZIP_LZMA)


def main(names: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    frames = structures()
    for label, atoms in frames.items():
        atoms.info["label"] = label
    ase.io.write(HERE / "structures.xyz", list(frames.values()))
    frames = {atoms.info["label"]: atoms for atoms in ase.io.read(HERE / "structures.xyz", ":")}  # as rounded there
    for name in names or [*PUBLISHED, *BRANCHES]:
        model = build(name)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "whole.model"
            torch.save(model, path)
            results = evaluate(path, frames, "r2scan" if name == "two-heads" else None)
        np.savez_compressed(HERE / f"{name}.npz", **results)
        _store(model, HERE / f"{name}.model")
        print(name, sum(p.numel() for p in model.parameters()), "parameters")


if __name__ == "__main__":
    main(sys.argv[1:])
