"""``kappa --phono3py-defaults``: the number that phono3py itself gets, with its default flags."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..io.constants.peer import require_peer, to_phono3py
from ..io.yaml_cells import is_yaml
from .report import COMPONENTS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from ..io.constants.given import GivenConstants

SAYS = """\
computed by phono3py {version} itself with its default flags: populations alone (plain RTA). Of degenerate modes it keeps the
diagonal of the velocity operator, and it takes linewidths and isotope widths as its eigenvectors give them, so that the
number depends on the choice of those, on the primitive cell and on LAPACK. docs: Validation"""


def refuse_others(arguments: argparse.Namespace) -> None:
    """Raises InputError for options that have no meaning there."""
    clashes = {
        "-o": arguments.out is not None, "--broadening adaptive": arguments.broadening == "adaptive",
        "--symmetrized": arguments.symmetrized, "--precision mixed": arguments.precision == "mixed",
        "--allow-imaginary": arguments.allow_imaginary, "--nac-method wang": arguments.nac_method == "wang",
        "several --boundary-mfp": len(arguments.boundary_mfp or []) > 1, "--isotopes": bool(arguments.isotopes),
        "--transport lbte": arguments.transport == "lbte", "--grg": arguments.grg, "--layer": arguments.layer is not None, "--wire": arguments.wire is not None,
        "--fc3-cutoff": arguments.fc3_cutoff is not None, "--rotational": arguments.rotational,
    }  # fmt: skip
    for option, used in clashes.items():
        if used:
            raise InputError(f"--phono3py-defaults does not know {option}", "leave one out")


def peer_table(
    given: GivenConstants,
    source: object,
    dims: Sequence[int],
    temperatures: Sequence[float],
    arguments: argparse.Namespace,
) -> str:
    """phono3py's κ by temperature, and what it is.

    Args:
        given: the force constants; of a phono3py yaml, phono3py reads its own file, so that cells and order are as they were.
        source: what the user named.

    Raises:
        InputError: phono3py is not installed, or cannot load the file.
    """
    require_peer()
    import phono3py

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(source, str) and is_yaml(source) and arguments.potential is None:
            try:
                peer = phono3py.load(source, log_level=0, is_nac=given.born is not None)
            except Exception as error:
                raise InputError(f"phono3py cannot load {source} ({error})", "leave out --phono3py-defaults") from error
            peer.nac_params = None if given.born is None else peer.nac_params
        else:
            peer = to_phono3py(given)
        peer.mesh_numbers = list(dims)
        if arguments.broadening == "gaussian":
            peer.sigmas = [0.1 if arguments.sigma is None else arguments.sigma]
        peer.init_phph_interaction()
        mfp = None if arguments.boundary_mfp is None else arguments.boundary_mfp[0]
        peer.run_thermal_conductivity(
            temperatures=list(temperatures), is_isotope=not arguments.no_isotope, boundary_mfp=mfp
        )
    kappa = np.asarray(peer.thermal_conductivity.kappa)[0]
    lines = [f"{'T (K)':>8} " + " ".join(f"{'κ_' + c:>11}" for c in COMPONENTS) + "   W/(m K)"]
    lines += [f"{t:8g} " + " ".join(f"{v:11.4f}" for v in row) for t, row in zip(temperatures, kappa, strict=True)]
    return "\n".join([*lines, "", SAYS.format(version=phono3py.__version__)])


__all__ = ["peer_table", "refuse_others"]
