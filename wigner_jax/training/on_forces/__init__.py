"""Training on energies, forces and stresses."""
