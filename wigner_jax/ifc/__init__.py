"""Interatomic force constants: what potentials hand to phonons."""
