"""Built-in crystals: what `wigner-jax kappa Si` means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ase.build import bulk

if TYPE_CHECKING:
    import ase

# name: (structure, measured lattice constant at room temperature in Å: a starting point for a relaxation)
_PROTOTYPES = {
    "Si": ("diamond", 5.431),
    "C": ("diamond", 3.567),
    "Ge": ("diamond", 5.658),
    "SiC": ("zincblende", 4.360),
    "SiGe": ("zincblende", 5.540),  # a hypothetical ordered alloy, at the mean of its elements
}
FC2_SUPERCELL = (4, 4, 4)  # 512 atoms; converged for potentials of short range, and one or two evaluations
FC3_SUPERCELL = (2, 2, 2)  # 64 atoms


def available_prototypes() -> tuple[str, ...]:
    """The names `prototype` knows."""
    return tuple(_PROTOTYPES)


def prototype(name: str) -> ase.Atoms:
    """The conventional cubic cell (8 atoms) of a built-in crystal; ValueError that lists the names for an unknown one.

    `atoms.info` carries ``name``, ``fc2_supercell`` and ``fc3_supercell``, the default supercells of this cell, as the
    structures of a benchmark set do.
    """
    if name not in _PROTOTYPES:
        raise ValueError(
            f"no built-in structure {name!r}; available: {', '.join(_PROTOTYPES)}, or give a structure file"
        )
    structure, a = _PROTOTYPES[name]
    atoms = bulk(name, structure, a=a, cubic=True)
    atoms.info.update(name=name, fc2_supercell=list(FC2_SUPERCELL), fc3_supercell=list(FC3_SUPERCELL))
    return atoms
