"""Grüneisen parameters, thermal expansion and the quasi-harmonic approximation."""
