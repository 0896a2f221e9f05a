"""What makes the conductivities of a tuned model again: the crystals as they were used, and one command for each.

Training takes the force constants by automatic differentiation, at the cell as it is given or relaxed before the run, and
broadens with Gaussians. The command says all of this, and names a file with the same supercells.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ... import metrics
from ..._core.atomic_write import write_text
from ..._core.version import __version__
from ...physics.broadening.gaussian import Gaussian

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import ase

    from ...potentials.base import Params, Potential
    from ...types import Supercells
    from ..model import Model
    from .config import FinetuneRun
    from .material import Material


def structure_file(material: Material) -> str:
    """Where the crystal of a material lies in the folder of its run."""
    return f"structures/{re.sub(r'[^A-Za-z0-9_.+-]+', '-', material.name)}.extxyz"


def supercell_in(atoms: ase.Atoms, supercells: Supercells, order: int) -> np.ndarray | None:
    """A supercell in units of the given cell, columns as `supercells_from_atoms` takes them; None if it is no multiple."""
    cell = supercells.fc2_supercell if order == 2 else supercells.fc3_supercell
    matrix = (cell.matrix @ np.asarray(supercells.crystal.lattice) @ np.linalg.inv(atoms.cell.array)).T
    whole = np.rint(matrix).astype(int)
    return whole if np.abs(matrix - whole).max() < 1e-4 else None


def write_structure(path: Path, atoms: ase.Atoms, supercells: Supercells) -> None:
    """A crystal with its supercells as extxyz, to all digits: ASE rounds positions to 1e-8 Å."""
    from ase.io.extxyz import key_val_dict_to_str

    info = {k: v for k, v in atoms.info.items() if k in ("mp_id", "name", "primitive_matrix")}
    for order in (2, 3):
        if (matrix := supercell_in(atoms, supercells, order)) is not None:
            info[f"fc{order}_supercell"] = matrix
    lattice = " ".join(repr(float(x)) for x in atoms.cell.array.ravel())
    columns, heavy = "species:S:1:pos:R:3", atoms.has("masses")
    header = f'Lattice="{lattice}" Properties={columns}{":masses:R:1" if heavy else ""} {key_val_dict_to_str(info)} pbc="T T T"'
    lines = [str(len(atoms)), header]
    for k, (symbol, position) in enumerate(zip(atoms.symbols, atoms.positions, strict=True)):
        numbers = [*position, atoms.get_masses()[k]] if heavy else [*position]
        lines.append(" ".join([symbol, *(repr(float(x)) for x in numbers)]))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")


def kappa_command(material: Material, atoms: ase.Atoms, model_file: str) -> str:
    """The command that computes what training computed for a material, in the folder of its run."""
    words = ["wigner-jax", "kappa", structure_file(material), "--potential", model_file]
    words += ["--no-relax", "--derivatives", "ad"]
    for order in (2, 3):
        matrix = supercell_in(atoms, material.supercells, order)
        if matrix is not None and np.array_equal(matrix, np.diag(np.diag(matrix))):
            words += [f"--fc{order}-supercell", *map(str, np.diag(matrix))]  # else the file has it
    words += ["--mesh", *map(str, material.plan.mesh.dims)]
    words += ["-T", *(f"{float(t):.10g}" for t in np.asarray(material.conditions.temperatures))]
    broadening = material.broadening
    if isinstance(broadening, Gaussian):
        words += ["--broadening", "gaussian", "--sigma", f"{float(broadening.sigma):.10g}"]
    else:
        words += ["--broadening", "adaptive"]
    if material.stars is not None:
        words += ["--transport", "lbte"]
    return shlex.join(words)


def write_inputs(run: FinetuneRun) -> None:
    """The crystals of a run, and README.txt with the commands; before training."""
    for task, atoms in zip(run.tasks, run.structures, strict=True):
        write_structure(run.folder / structure_file(task.material), atoms, task.material.supercells)
    _write_readme(run, None)


def write_results(
    run: FinetuneRun, written: Potential, best: Params, before_material: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """README.txt with the conductivities of the tuned model.

    Args:
        written: the model as its file has it, in the precision of that.
        best: the trained numbers that it was made of.

    Returns:
        κ_TOT at every temperature by material, W/(m K), averages of directions.
    """
    params = rounded(run.model, best, written.params)
    found = {}
    for task in run.tasks:
        before_material()
        solution = task.material.solution(task.material.force_constants(run.model.energy, params))
        found[task.material.name] = np.asarray(metrics.average(solution.conductivity.kappa_TOT))
    _write_readme(run, found)
    return found


def rounded(model: Model, trained: Params, written: Params) -> tuple[Params, Params]:
    """Trained and frozen parameters that merge to those of a file."""
    energy: Any = model.energy
    merged = energy.merge(trained, model.frozen)
    own = {k: v if "::" in k else jax.numpy.asarray(written[k], v.dtype) for k, v in trained.items()}
    rest = {k: v + (np.asarray(written[k]) - merged[k]) for k, v in model.frozen.items()}
    return own, rest


def kappa_line(material: Material, kappa: Sequence[float] | np.ndarray) -> str:
    """``Si: κ = 0.9142 W/(m K) at 300 K``."""
    T = np.asarray(material.conditions.temperatures)
    values = ", ".join(f"{k:.4f} W/(m K) at {t:g} K" for k, t in zip(kappa, T, strict=True))
    return f"{material.name}: κ = {values}"


def _write_readme(run: FinetuneRun, kappa: dict[str, np.ndarray] | None) -> None:
    lines = [
        f"{run.potential.name}, fine-tuned on conductivities by wigner-jax {__version__}",
        "",
        f"{run.model_file.name:16} the weights of the best epoch",
        f"{'history.csv':16} losses, κ and errors of every epoch, before its last update",
        f"{'checkpoint.npz':16} the state of the run",
        f"{'structures/':16} the crystals as they were used",
        "",
        "These commands, given in this folder, compute κ of the tuned model as training does:",
    ]
    for task, atoms in zip(run.tasks, run.structures, strict=True):
        material = task.material
        lines += ["", material.name if kappa is None else kappa_line(material, kappa[material.name])]
        lines.append(f"    {kappa_command(material, atoms, run.model_file.name)}")
    write_text(run.folder / "README.txt", "\n".join(lines) + "\n")


__all__ = [
    "kappa_command",
    "kappa_line",
    "rounded",
    "structure_file",
    "supercell_in",
    "write_inputs",
    "write_results",
    "write_structure",
]
