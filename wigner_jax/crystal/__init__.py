"""Crystals, their symmetry and supercells. Runs on the host, in numpy."""
