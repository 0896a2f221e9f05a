"""Nequix."""
