"""torch-sim's models as ASE calculators that take displaced supercells in batches.

torch-sim (Cohen et al., AI for Science 1, 025003 (2025)) holds many systems in one state: their atoms one after the
other, with the index of its system for each. Its models take such a state and give energies and forces of all:

    model(state) → {"energy": (systems,), "forces": (atoms, 3), "stress": (systems, 3, 3)}

What is used of it is that call, `device`, `dtype` and `compute_stress` of the model, and `torch_sim.io.atoms_to_state`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import ase


MOST_ATOMS = 2048  # of a batch: 2 to 4 GB for today's equivariant models


class TorchSimCalculator(Calculator):
    """ASE calculator of a torch-sim model: energy, free_energy (the same), forces, and stress where the model has it.

        wj.conductivity("Si", wj.TorchSimCalculator(model), ...)     or the model itself

    Finite displacements go out in batches of as many supercells as have `most_atoms` atoms, and at least one. If the
    device has no memory for a batch, it is halved, and stays so.

    Args:
        model: with torch-sim's ModelInterface.
        most_atoms: of a batch.

    Raises:
        InputError: torch-sim is not installed, or the model gives no forces.
    """

    def __init__(self, model: Any, most_atoms: int = MOST_ATOMS, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not most_atoms >= 1:
            raise InputError(f"a batch has at least one atom, got {most_atoms}")
        if not getattr(model, "compute_forces", getattr(model, "compute_force", True)):
            raise InputError(f"the torch-sim model {type(model).__name__} computes no forces", "make it with forces")
        self.model, self.most_atoms = model, most_atoms
        stress = ["stress"] if model.compute_stress else []
        self.implemented_properties = ["energy", "free_energy", "forces", *stress]
        self._state_of = _atoms_to_state()

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        assert self.atoms is not None
        found = self._evaluated([self.atoms])
        energy = float(_array(found["energy"]).reshape(()))
        self.results = {"energy": energy, "free_energy": energy, "forces": _array(found["forces"])}
        if "stress" in self.implemented_properties:
            self.results["stress"] = full_3x3_to_voigt_6_stress(_array(found["stress"]).reshape(3, 3))

    def batched_forces(self, structures: Iterable[ase.Atoms]) -> Iterator[tuple[int, np.ndarray]]:
        """(index, forces (N, 3) eV/Å) of every structure, batch by batch. See `BatchedForces`."""
        batch: list[ase.Atoms] = []
        done = 0
        for atoms in structures:
            if batch and sum(map(len, batch)) + len(atoms) > self.most_atoms:
                yield from enumerate(self._forces(batch), done)
                done += len(batch)
                batch = []
            batch.append(atoms)
        yield from enumerate(self._forces(batch), done)

    def _forces(self, batch: list[ase.Atoms]) -> list[np.ndarray]:
        """Of the structures of a batch, which is halved if the device has no memory for it."""
        if not batch:
            return []
        try:
            forces = _array(self._evaluated(batch)["forces"])
        except Exception as error:
            if len(batch) == 1 or "OutOfMemory" not in type(error).__name__:  # torch.OutOfMemoryError, of any device
                raise
            forces = None
        half = len(batch) // 2
        if forces is None:  # out of the except block, which keeps the tensors of the failure
            self.most_atoms = sum(map(len, batch[:half]))
            return [*self._forces(batch[:half]), *self._forces(batch[half:])]
        ends = np.cumsum([len(atoms) for atoms in batch])
        if forces.shape != (ends[-1], 3):
            raise InputError(f"the model gave forces of shape {forces.shape} for a batch of {ends[-1]} atoms")
        return np.split(forces, ends[:-1])

    def _evaluated(self, batch: list[ase.Atoms]) -> dict[str, Any]:
        return self.model(self._state_of(batch, self.model.device, self.model.dtype))


def _atoms_to_state() -> Any:
    """torch-sim's way from structures to a state."""
    try:
        return importlib.import_module("torch_sim.io").atoms_to_state
    except ImportError as error:
        raise InputError(f"cannot import torch_sim ({error})", "pip install torch-sim-atomistic") from None


def _array(tensor: Any) -> np.ndarray:
    """A tensor on any device, with or without a gradient, in double precision."""
    return np.array(tensor.detach().cpu() if hasattr(tensor, "detach") else tensor, float)


__all__ = ["MOST_ATOMS", "TorchSimCalculator"]
