"""ASE calculators by the name or the function that makes them: in this process, and in others (`CalculatorPool`).

Light: a process that computes forces for another one loads nothing else of the package, and not JAX.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ase.calculators.calculator import Calculator

    #: ``ase:module:factory``, or a function or class without arguments
    Factory = str | Callable[[], Any]


ASE = "ase:"  # ase:module:factory is any ASE calculator


def calculator_of(name: str) -> Calculator:
    """The ASE calculator that ``module:factory`` makes: the factory, a function or a class, is called without arguments.

    The module is searched for where Python searches, then in the current folder. A torch-sim model is taken as
    `TorchSimCalculator` takes it.

    Raises:
        InputError: no such module or name, a factory that fails, or what it makes is no calculator.
    """
    name = name.removeprefix(ASE)
    module, _, factory = name.partition(":")
    if not module or not factory:
        raise InputError(f"{name!r} names no calculator", "write module:factory, such as ase.calculators.emt:EMT")
    here = os.getcwd()
    added = here not in sys.path  # else it stays where it is
    if added:
        sys.path.append(here)
    try:
        try:
            made = getattr(importlib.import_module(module), factory)
        except ImportError as error:
            raise InputError(f"cannot import {module} ({error})", "install it, or check the name") from None
        except AttributeError:
            raise InputError(f"{module} has no {factory}", "check the name") from None
        return _called(made, name)
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def make_calculator(factory: Factory) -> Calculator:
    """The calculator of a factory, by its name (`calculator_of`) or as a function or class. Errors are the same."""
    return calculator_of(factory) if isinstance(factory, str) else _called(factory, name_of_factory(factory))


def name_of_factory(factory: Factory) -> str:
    """``ase:module:factory``, for messages and reports."""
    if isinstance(factory, str):
        return ASE + factory.removeprefix(ASE)
    function = getattr(factory, "func", factory)  # of functools.partial
    return f"{ASE}{function.__module__}:{getattr(function, '__qualname__', type(function).__name__)}"


def is_factory(given: Any) -> bool:
    """Whether this makes a calculator, rather than being one or a model."""
    return isinstance(given, type) or (callable(given) and not _is_calculator(given) and not is_torch_sim(given))


def is_torch_sim(model: Any) -> bool:
    """Whether this has torch-sim's ModelInterface: called with a state of many systems, it gives energies and forces."""
    names = ("device", "dtype", "compute_stress", "memory_scales_with")
    return callable(model) and not isinstance(model, type) and all(hasattr(model, name) for name in names)


def as_calculator(made: Any, name: str) -> Calculator:
    """An ASE calculator as it is, a torch-sim model as a calculator; raises InputError for what is neither."""
    if is_torch_sim(made):
        from .torch_sim_calculator import TorchSimCalculator

        return TorchSimCalculator(made)
    if isinstance(made, type) or not _is_calculator(made):
        raise InputError(f"{name} makes a {type(made).__name__}, which is not an ASE calculator")
    return made


def _is_calculator(given: Any) -> bool:
    return hasattr(given, "get_forces")


def _called(factory: Callable[[], Any], name: str) -> Calculator:
    try:
        made = factory()
    except InputError:
        raise
    except TypeError as error:
        raise InputError(f"{name} cannot be called without arguments ({error})", "write a function that can") from error
    except Exception as error:
        raise InputError(f"{name} raised {type(error).__name__} ({error})", "call it in Python to see where") from error
    return as_calculator(made, name)


__all__ = [
    "ASE",
    "Factory",
    "as_calculator",
    "calculator_of",
    "is_factory",
    "is_torch_sim",
    "make_calculator",
    "name_of_factory",
]
