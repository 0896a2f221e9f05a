"""What the fine-tuning benchmarks share: a cheaper setting of a cubic crystal, targets by mode, rattled structures."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # what all benchmarks share
from common import SHARED

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

NACL_FRAMES = "data/phono3py/phono3py_params_NaCl-rd.yaml.xz"
RATTLE = 0.15  # Å, standard deviation of every coordinate


def add_student(parser: argparse.ArgumentParser) -> None:
    """The potential that is tuned, and which of its parameters."""
    parser.add_argument("--potential", default=str(SHARED / "weights/nequix-mp-1.nqx"))
    parser.add_argument("--train", nargs="+", default=["layers.3.*", "readout"], help="patterns of parameter names")


def relative_error(ours: Any, theirs: Any) -> float:
    """Of a whole array."""
    import numpy as np

    return float(np.linalg.norm(np.asarray(ours) - np.asarray(theirs)) / np.linalg.norm(np.asarray(theirs)))


def light_cells(full: Any) -> Any:
    """Of a rocksalt or zincblende crystal: 64 atoms for Φ2, the body-centred 32 for Φ3."""
    import numpy as np

    from wigner_jax.crystal.defaults import conventional_matrix
    from wigner_jax.crystal.supercells import make_supercell

    cube = conventional_matrix(full.crystal)
    body = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) @ cube
    return dataclasses.replace(
        full, fc2_supercell=make_supercell(full.crystal, 2 * cube), fc3_supercell=make_supercell(full.crystal, body)
    )


def mode_targets() -> list[Any]:
    """Mode conductivities and κ of the reference, its frequencies, and no imaginary modes."""
    from wigner_jax.training.on_conductivity.targets import Target

    return [Target("srme"), Target("kappa"), Target("frequencies", 10.0), Target("imaginary", 1.0, {"floor": 0.2})]


def rattled(structures: Sequence[Any], seed: int = 0) -> list[Any]:
    """Copies with every coordinate displaced at random."""
    import numpy as np

    rng = np.random.default_rng(seed)
    result = []
    for structure in structures:
        moved = structure.copy()
        moved.calc = None
        moved.positions += RATTLE * rng.standard_normal(moved.positions.shape)
        result.append(moved)
    return result


def dft_frames(start: Any) -> list[Any]:
    """The 100 DFT frames (PBEsol) of 64 atoms of NaCl in phono3py's example, forces only."""
    import lzma

    import numpy as np
    import yaml
    from ase import Atoms

    from wigner_jax.training.frames import frame_of, same_size

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with lzma.open(SHARED / NACL_FRAMES, "rt") as file:
        content = yaml.load(file, Loader=loader)
    cell = content["supercell"]
    symbols = [p["symbol"] for p in cell["points"]]
    base = Atoms(symbols, cell=cell["lattice"], scaled_positions=[p["coordinates"] for p in cell["points"]], pbc=True)
    result = []
    for displacements, forces in zip(content["dataset"]["displacements"], content["dataset"]["forces"], strict=True):
        moved = base.copy()
        moved.positions += np.array(displacements)
        moved.arrays["forces"] = np.array(forces)
        result.append(frame_of(moved, start))
    return same_size(result)
