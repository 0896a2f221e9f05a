"""Structures at a minimum of the energy."""
