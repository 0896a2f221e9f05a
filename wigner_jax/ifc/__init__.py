"""Interatomic force constants: the seam between potentials and phonons."""
