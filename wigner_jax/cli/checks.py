"""Checks of the options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .._core.atomic_write import check_output
from .._core.own_files import is_figure, is_kappa_file, is_matbench_table
from ..errors import InputError
from ..io.constants.own import is_own

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


HDF5 = (".hdf5", ".h5", ".hdf", ".he5")
CONSTANTS = "a file of force constants"
KINDS = {
    "a kappa file": is_kappa_file,
    CONSTANTS: is_own,
    "a figure": is_figure,
    "a table for matbench-discovery": is_matbench_table,
}


def writable(
    path: str | Path | None,
    what: str,
    option: str = "-o",
    *,
    inputs: Iterable[str | Path | None] = (),
    need: float = 0,
) -> Path | None:
    """The output path, refused now rather than after the work (`check_output`).

    Args:
        what: one of `KINDS`: a file that is there is replaced if it is one.
        inputs: files that are read and must stay.
        need: bytes that it will take, roughly.
    """
    if path is None:
        return None
    advice = f"choose another place with {option}"
    return check_output(path, what=what, ours=KINDS[what], inputs=inputs, need=need, advice=advice)


def kappa_file(path: Path | None) -> None:
    """Refuses an ending that says another format than HDF5."""
    if path is not None and path.suffix and path.suffix.lower() not in HDF5:
        raise InputError(f"-o {path}: a kappa file is HDF5, not {path.suffix}", f"name it {path.with_suffix('.hdf5')}")


def positive(value: float | None, name: str) -> None:
    if value is not None and not (np.isfinite(value) and value > 0):
        raise InputError(f"{name} must be above zero, got {value:g}")
