"""Files in and out: structures, phono3py's force constants, BORN files, and kappa HDF5."""

from __future__ import annotations

from .born import read_born
from .kappa_hdf5 import default_filename, read_kappa_hdf5, write_kappa_hdf5
from .phono3py import Phono3pyData, read_phono3py
from .structures import read_structure

__all__ = [
    "Phono3pyData",
    "default_filename",
    "read_born",
    "read_kappa_hdf5",
    "read_phono3py",
    "read_structure",
    "write_kappa_hdf5",
]
