"""This solver behind the interfaces of others: Phono3py objects, matbench-discovery's records, MatCalc's calculators."""

from .phono3py_object import solve_phono3py

__all__ = ["solve_phono3py"]
