"""The conductivity step of matbench-discovery: its names, shapes and sums, and κ_SRME from them."""

from __future__ import annotations

import numpy as np
import pytest
from adapters.test_phono3py_object import made

import wigner_jax as wj
from wigner_jax.adapters.matbench_discovery import calculate_conductivity
from wigner_jax.errors import InputError
from wigner_jax.metrics import reference_of, srme_of

pytest.importorskip("phono3py")


def test_names_shapes_and_sums():
    peer = made()
    with pytest.raises(InputError, match="has no mesh"):
        calculate_conductivity(peer, [300.0])
    peer.mesh_numbers = [4, 4, 4]
    same, found, solution = calculate_conductivity(peer, [100.0, 300.0])
    assert same is peer
    P = len(solution.plan.mesh.irreducible)
    shapes = {name: value.shape for name, value in found.items()}
    assert shapes == {
        "kappa_tot_rta": (2, 6), "kappa_p_rta": (2, 6), "kappa_c": (2, 6), "mode_kappa_tot_rta": (2, P, 6, 6), "mode_weights": (P,),
        "q_points": (P, 3), "ph_freqs": (P, 6), "heat_capacity": (2, P, 6),
    }  # fmt: skip
    total = found["mode_kappa_tot_rta"].sum(axis=(1, 2)) / found["mode_weights"].sum()
    np.testing.assert_allclose(total, found["kappa_tot_rta"], rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(found["kappa_tot_rta"], found["kappa_p_rta"] + found["kappa_c"], rtol=1e-12, atol=1e-12)
    assert float(solution.scattering.boundary_mfp) == 1e6
    assert solution.nac is None


def test_the_score_from_these_names_is_ours():
    """κ_SRME by the formula of arXiv:2408.00755 from the two dictionaries, against `metrics.srme_of`."""
    peer = made()
    peer.mesh_numbers = [3, 3, 3]
    _, one, first = calculate_conductivity(peer, [300.0])
    _, other, second = calculate_conductivity(peer, [300.0], broadening=wj.Gaussian(0.5))

    def average(tensor):
        return tensor[..., :3].mean(axis=-1)

    difference = np.abs(average(one["mode_kappa_tot_rta"]) - average(other["mode_kappa_tot_rta"])).sum(axis=(1, 2))
    score = (
        2 * difference / one["mode_weights"].sum() / (average(one["kappa_tot_rta"]) + average(other["kappa_tot_rta"]))
    )
    _, expected = srme_of(first, first.plan.mesh, reference_of(second, "mp-1", "SiC", 216))
    assert 0.01 < score[0] < 2
    np.testing.assert_allclose(score, expected, rtol=1e-10)
