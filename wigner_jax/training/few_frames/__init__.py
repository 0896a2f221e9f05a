"""The smallest change of the weights that reproduces a few frames."""
