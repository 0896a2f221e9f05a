"""phono3py as the peer of these tests: made from our supercells' crystals, run with its gauge-invariant flags."""

from __future__ import annotations

from typing import NamedTuple
from unittest import mock

import numpy as np

SIDE = 1e-10  # THz


class PeerResult(NamedTuple):
    """What a run of phono3py says of the irreducible points."""

    frequencies: np.ndarray  # (P, m) THz
    three_phonon: np.ndarray  # (T, P, m) THz
    group_velocities: np.ndarray  # (P, m, 3) THz Å
    heat_capacities: np.ndarray  # (T, P, m) eV/K


def new_peer(lattice, positions, numbers, fc2_supercell, fc3_supercell, primitive=None):
    """A phono3py object without force constants; `positions` are fractional."""
    import phono3py
    from phonopy.structure.atoms import PhonopyAtoms

    return phono3py.Phono3py(
        PhonopyAtoms(numbers=numbers, cell=np.asarray(lattice), scaled_positions=np.asarray(positions)),
        supercell_matrix=np.asarray(fc3_supercell),
        phonon_supercell_matrix=np.asarray(fc2_supercell),
        primitive_matrix=np.eye(3) if primitive is None else primitive,
        log_level=0,
    )


def run_peer(peer, dims, sigma, temperatures) -> PeerResult:
    """Three-phonon widths by tetrahedra (sigma None) or a Gaussian, with what comes along."""
    peer.mesh_numbers, peer.sigmas = dims, sigma
    peer.init_phph_interaction(average_degenerate_weights=True, exclude_gamma_acoustic=True)
    peer.run_thermal_conductivity(temperatures=temperatures)
    result = peer.thermal_conductivity
    return PeerResult(
        np.asarray(result.frequencies), np.asarray(result.gamma)[0], np.asarray(result.group_velocities),
        np.asarray(result.mode_heat_capacities),
    )  # fmt: skip


def irreducible_points(peer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Irreducible points and weights (P,), and of every mesh point the one that stands for it (Q,); all as grid points."""
    from phonopy.phonon.grid import get_ir_grid_points

    points, weights, table = get_ir_grid_points(peer.grid)
    return points, weights, table


def peer_isotope(peer, dims, sigma) -> np.ndarray:
    """Isotope widths (P, m), with both sides of the jumps of tetrahedron weights in equal parts.

    Elastic scattering meets its own star at exactly its frequency, on whole faces of tetrahedra. At the face itself
    phono3py's weights are decided by rounding; the limits from both sides are not.
    """
    from phono3py.other import isotope

    plain = isotope.get_integration_weights

    def both_sides(frequencies, *args, **options):
        return (plain(frequencies + SIDE, *args, **options) + plain(frequencies - SIDE, *args, **options)) / 2

    with mock.patch.object(isotope, "get_integration_weights", both_sides):
        run = isotope.Isotope(
            np.array(dims), peer.primitive, average_degenerate_weights=True, exclude_gamma_acoustic=True,
            bz_grid=peer.grid, sigma=sigma, cutoff_frequency=peer.phph_interaction.cutoff_frequency,
        )  # fmt: skip
        if peer.nac_params is None:
            run.init_dynamical_matrix(peer.fc2, peer.phonon_supercell, peer.phonon_primitive)
        else:
            run.init_dynamical_matrix(
                peer.fc2, peer.phonon_supercell, peer.phonon_primitive, nac_params=peer.nac_params
            )
        widths = []
        for point in peer.grid.grg2bzg[irreducible_points(peer)[0]]:
            run.set_grid_point(point)
            run.run()
            widths.append(np.ravel(run.gamma))
    return np.array(widths)
