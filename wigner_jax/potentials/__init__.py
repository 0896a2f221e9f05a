"""Interatomic potentials behind one protocol."""
