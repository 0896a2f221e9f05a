"""What the fine-tuning benchmarks share: a cheaper setting of a cubic crystal, targets by mode, rattled structures."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

RATTLE = 0.15  # Å, standard deviation of every coordinate


def light_cells(full: Any) -> Any:
    """Of a rocksalt or zincblende crystal: 64 atoms for Φ2, the body-centred 32 for Φ3."""
    import numpy as np

    from wigner_jax.plan.cells import make_supercell
    from wigner_jax.plan.defaults import conventional_matrix

    cube = conventional_matrix(full.crystal)
    body = np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) @ cube
    return dataclasses.replace(full, fc2=make_supercell(full.crystal, 2 * cube), fc3=make_supercell(full.crystal, body))


def mode_targets() -> list[Any]:
    """Mode conductivities and κ of the reference, its frequencies, and no imaginary modes."""
    from wigner_jax.training.targets import Target

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
