"""Forces of many displaced supercells: in batches where the calculator takes them, in processes, or one after the other."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .._core.reading import reason
from ..errors import InputError
from .calculator_factory import as_calculator, is_factory, is_torch_sim, make_calculator, name_of_factory
from .calculator_pool import CalculatorPool, require_processes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    import ase
    from ase.calculators.calculator import Calculator


class BatchedForces(Protocol):
    """What an ASE calculator has besides, if it takes many structures at a time.

    Finite displacements use it wherever it is there; everything else goes through the calculator's ASE methods.
    """

    def batched_forces(self, structures: Iterable[ase.Atoms]) -> Iterator[tuple[int, np.ndarray]]:
        """(index, forces (N, 3) eV/Å) of every structure once, as soon as they are there, in any order.

        Args:
            structures: read one after the other. Only those in work need to be in memory.
        """
        ...


@contextlib.contextmanager
def speaking_for(calculator: Any) -> Iterator[None]:
    """What a calculator raises becomes an `InputError` that names it: an element that it does not know, say."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"the calculator {name_of_calculator(calculator)} fails ({reason(error)})",
            "check that it knows the elements and the cell (--debug shows where)",
        ) from error


def one_by_one(calculator: Calculator, structures: Iterable[ase.Atoms]) -> Iterator[tuple[int, np.ndarray]]:
    """(index, forces (N, 3) eV/Å), one structure after the other."""
    for index, atoms in enumerate(structures):
        atoms.calc = calculator
        yield index, np.array(atoms.get_forces())


def forces_as_they_come(
    calculator: Calculator, structures: Iterable[ase.Atoms]
) -> contextlib.closing[Generator[tuple[int, np.ndarray], None, None]]:
    """(index, forces) by `BatchedForces` or `one_by_one`, to be used in a `with` block, at whose end all work ends."""

    def pairs() -> Generator[tuple[int, np.ndarray], None, None]:
        batched = getattr(calculator, "batched_forces", None)
        with speaking_for(calculator):
            yield from one_by_one(calculator, structures) if batched is None else batched(structures)

    return contextlib.closing(pairs())


def calculator_for(given: Any, processes: int = 1) -> Any:
    """An ASE calculator from whatever stands for one.

    Args:
        given: a calculator, a torch-sim model, or a factory of either: ``ase:module:factory``, or a function or class
            without arguments.
        processes: that share the forces of many structures. More than one need a factory, since each makes its own.

    Raises:
        InputError: none of these, a factory that fails, or processes for what cannot be made in them.
    """
    require_processes(processes)
    factory = isinstance(given, str) or is_factory(given)
    if processes > 1:
        if not factory:
            raise InputError(
                f"each process makes its own calculator, and a {type(given).__name__} is one already",
                'give "ase:module:factory", or a function without arguments that makes it',
            )
        return CalculatorPool(given, processes)
    return make_calculator(given) if factory else as_calculator(given, "it") if is_torch_sim(given) else given


@contextlib.contextmanager
def own_processes_end(calculator: Any, given: Any) -> Iterator[None]:
    """At the end of the block the processes of a pool end, unless it is the very one that was given."""
    try:
        yield
    finally:
        if isinstance(calculator, CalculatorPool) and calculator is not given:
            calculator.close()


def name_of_calculator(given: Any) -> str:
    """How a calculator, or what stands for one, is called in reports."""
    if isinstance(given, CalculatorPool):
        return given.name
    return name_of_factory(given) if isinstance(given, str) or is_factory(given) else type(given).__name__


__all__ = [
    "BatchedForces",
    "calculator_for",
    "forces_as_they_come",
    "name_of_calculator",
    "one_by_one",
    "own_processes_end",
    "speaking_for",
]
