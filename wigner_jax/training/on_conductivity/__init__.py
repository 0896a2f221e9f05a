"""Training on conductivities."""
