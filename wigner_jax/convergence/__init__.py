"""κ against the mesh or a supercell, until it changes no more.

study.py    `converge`: the values, the extrapolation, when to stop
figure.py   the figure of a study
"""

from .study import Convergence, converge

__all__ = ["Convergence", "converge"]
