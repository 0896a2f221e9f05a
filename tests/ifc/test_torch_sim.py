"""Models with torch-sim's interface, in batches. torch-sim is not installed: its state and a model are stood in for.

The state has torch-sim's names and shapes (cells as columns, the index of its system for every atom); tensors here are
arrays that have to be asked for their numbers as torch's are. With torch-sim 0.3.0 itself a Lennard-Jones model gave the
same forces in batches as alone, to the last bit.
"""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.stress import voigt_6_to_full_3x3_stress

from wigner_jax import TorchSimCalculator, finite_displacements
from wigner_jax.errors import InputError
from wigner_jax.evaluation.contents import potential_contents
from wigner_jax.ifc.batched_forces import calculator_for, name_of_calculator
from wigner_jax.ifc.calculator_factory import calculator_of
from wigner_jax.pipeline import any_model, derivatives_of

SMALL = {"fc2_supercell": (2, 2, 1), "fc3_supercell": (2, 1, 1)}


class Tensor:
    """Numbers behind a gradient, on another device."""

    def __init__(self, numbers, detached=False):
        self.numbers, self.detached = numbers, detached

    def detach(self):
        return Tensor(self.numbers, True)

    def cpu(self):
        assert self.detached
        return self.numbers


class OutOfMemoryError(RuntimeError):
    pass


class Model:
    """torch-sim's ModelInterface: a state of many systems to energies, forces and stresses of all."""

    device, dtype, memory_scales_with = "gpu:0", "float64", "n_atoms_x_density"
    compute_stress = compute_forces = True

    def __init__(self, room=10**9):
        self.room, self.batches = room, []

    def __call__(self, state):
        self.batches.append(len(state.cell))
        if len(state.positions) > self.room:
            raise OutOfMemoryError
        found = [self.of(state, system) for system in range(len(state.cell))]
        energy, forces, stress = (
            np.array(x) if k != 1 else np.concatenate(x) for k, x in enumerate(zip(*found, strict=True))
        )
        return {"energy": Tensor(energy), "forces": Tensor(forces), "stress": Tensor(stress)}

    def of(self, state, system):
        here = state.system_idx == system
        atoms = bulk("Ar").copy()
        atoms = type(atoms)(state.atomic_numbers[here], state.positions[here], cell=state.cell[system].T, pbc=state.pbc)
        atoms.calc = calculator()
        return atoms.get_potential_energy(), atoms.get_forces(), voigt_6_to_full_3x3_stress(atoms.get_stress())


def calculator():
    return LennardJones(sigma=2.3, epsilon=0.1, rc=5.0)


def crystal(scale=1.0):
    return bulk("Al", a=3.6 * scale, cubic=True)


def atoms_to_state(atoms, device, dtype):
    assert (device, dtype) == (Model.device, Model.dtype)
    return SimpleNamespace(
        positions=np.concatenate([a.positions for a in atoms]),
        cell=np.stack([a.cell.array.T for a in atoms]),
        atomic_numbers=np.concatenate([a.numbers for a in atoms]),
        system_idx=np.repeat(np.arange(len(atoms)), [len(a) for a in atoms]),
        pbc=atoms[0].pbc,
    )


@pytest.fixture(autouse=True)
def torch_sim(monkeypatch):
    package, module = ModuleType("torch_sim"), ModuleType("torch_sim.io")
    module.atoms_to_state = atoms_to_state
    monkeypatch.setitem(sys.modules, "torch_sim", package)
    monkeypatch.setitem(sys.modules, "torch_sim.io", module)


def test_force_constants_in_batches():
    model = Model()
    (_, batched), report = finite_displacements(crystal(), model, **SMALL)
    (_, serial), same = finite_displacements(crystal(), calculator, **SMALL)
    assert (report.calls, report.distance) == (same.calls, same.distance)
    np.testing.assert_allclose(report.asymmetry, same.asymmetry, rtol=1e-9, atol=1e-14)
    assert model.batches == list(report.calls)  # one batch each
    np.testing.assert_allclose(batched.fc2, serial.fc2, atol=1e-12)
    np.testing.assert_allclose(batched.fc3, serial.fc3, atol=1e-10)


def test_batches_are_bounded_and_in_order():
    """In atoms, whatever the structures; one that is larger goes alone."""
    model, structures = Model(), [crystal(1 + k / 100).repeat((1, 1, n)) for k, n in enumerate([1, 1, 3, 5, 1, 2])]
    structures[3].rattle(0.1, seed=0)
    found = dict(TorchSimCalculator(model, most_atoms=16).batched_forces(iter(structures)))
    assert model.batches == [2, 1, 1, 2]
    assert list(found) == list(range(6))
    for atoms, forces in zip(structures, found.values(), strict=True):
        atoms.calc = calculator()
        np.testing.assert_array_equal(forces, atoms.get_forces())
    assert list(TorchSimCalculator(model).batched_forces([])) == []


def test_what_the_device_has_no_memory_for_is_halved():
    model = Model(room=12)
    simulated = TorchSimCalculator(model)
    structures = [crystal() for _ in range(8)]
    assert [k for k, _ in simulated.batched_forces(structures)] == list(range(8))
    assert model.batches == [8, 4, 2, 2, 4, 2, 2]
    model.batches.clear()
    list(simulated.batched_forces(structures))
    assert model.batches == [2, 2, 2, 2]
    with pytest.raises(OutOfMemoryError):
        list(TorchSimCalculator(Model(room=3)).batched_forces(structures))


def test_it_is_an_ase_calculator():
    atoms, other = crystal(1.02), crystal(1.02)
    atoms.rattle(0.1, seed=1)
    other.positions[:] = atoms.positions
    atoms.calc, other.calc = TorchSimCalculator(Model()), calculator()
    assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), rel=1e-14)
    np.testing.assert_array_equal(atoms.get_forces(), other.get_forces())
    np.testing.assert_allclose(atoms.get_stress(), other.get_stress(), atol=1e-16)


def test_wherever_a_model_goes(tmp_path, monkeypatch):
    """A model itself, a function that makes one, and its name."""
    module = ModuleType("my_models")
    module.make = Model
    monkeypatch.setitem(sys.modules, "my_models", module)
    for given in (Model(), Model, "ase:my_models:make"):
        found = any_model(given)
        assert isinstance(found, TorchSimCalculator)
        assert derivatives_of(found) == "finite-displacement"
        if given is not Model:
            with pytest.raises(InputError, match=r"takes whole batches|makes its own calculator"):
                any_model(given, 2)
    assert isinstance(calculator_of("my_models:make"), TorchSimCalculator)
    assert name_of_calculator(Model()) == "Model"
    assert potential_contents("Model", calculator_for(Model())) == potential_contents("Model", Model())


def test_misuse(monkeypatch):
    with pytest.raises(InputError, match="at least one atom"):
        TorchSimCalculator(Model(), most_atoms=0)
    blind = Model()
    blind.compute_forces = False
    with pytest.raises(InputError, match="computes no forces: make it with forces"):
        TorchSimCalculator(blind)
    monkeypatch.setattr(Model, "of", lambda *_: (0.0, np.zeros((1, 3)), np.zeros((3, 3))))
    with pytest.raises(InputError, match="forces of shape"):
        list(TorchSimCalculator(Model()).batched_forces([crystal()]))
    monkeypatch.setitem(sys.modules, "torch_sim.io", None)
    with pytest.raises(InputError, match="pip install torch-sim-atomistic"):
        TorchSimCalculator(Model())


class Own(LennardJones):
    """A calculator of anybody's that takes batches, here from the last to the first."""

    left_out = 0

    def batched_forces(self, structures):
        for index, atoms in reversed(list(enumerate(structures))[self.left_out :]):
            yield index, calculator().get_forces(atoms)


def test_batches_of_any_calculator():
    (_, batched), _ = finite_displacements(crystal(), Own(), **SMALL)
    (_, serial), _ = finite_displacements(crystal(), calculator(), **SMALL)
    np.testing.assert_allclose(batched.fc3, serial.fc3, atol=1e-10)
    left = Own()
    left.left_out = 1
    with pytest.raises(InputError, match="forces of 1 of 2 displaced supercells"):
        finite_displacements(crystal(), left, **SMALL)
