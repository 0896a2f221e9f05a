"""Differentiable lattice thermal conductivity in JAX."""

__version__ = "0.1.0"
