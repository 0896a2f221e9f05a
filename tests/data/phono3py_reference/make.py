"""Makes the stored references of this folder: crystals with their force constants, and phono3py's numbers for them.

    PYTHONPATH=tests python tests/data/phono3py_reference/make.py [crystal ...]

Needs the extra `test`. Everything starts from what comes with the package: two potentials, differentiated in small
supercells. The numbers are phono3py's (with the flags that make them independent of the eigenvectors' gauge), except the
conductivity: phono3py 4 weights pairs of modes otherwise than the published Wigner equation. It is summed here from
phonopy's dynamical matrices over every point of the mesh, without symmetry, in NumPy alone.

`<crystal>.npz`: lattice, positions, numbers, fc2_supercell, fc3_supercell, fc2, fc3; born, dielectric and factor of polar
ones. `<crystal>_<mesh>….npz`: what the tests compare with, at `temperatures`; `off_*` are frequencies between mesh points.
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax
import numpy as np
from ase.build import bulk
from phono3py_peer import irreducible_points, new_peer, peer_isotope, run_peer
from phonopy.harmonic.derivative_dynmat import DerivativeOfDynamicalMatrix
from phonopy.harmonic.dynamical_matrix import get_dynamical_matrix
from reference_materials import cells_of

import wigner_jax as wj

jax.config.update("jax_enable_x64", True)

FOLDER = Path(__file__).parent
FACTOR = 14.39965172592227  # e²/(4πε0), eV Å
CRYSTALS = {  # structure, potential, supercells of fc2 and fc3 in units of the primitive cell
    "si-tersoff": (bulk("Si", "diamond", a=5.432), "tersoff-1989", (3, 3, 3), (2, 2, 2)),
    "nacl-mace": (bulk("NaCl", "rocksalt", a=5.64), "mace-bundled", (3, 3, 3), (2, 2, 2)),
    "sic-tersoff": (bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378), "tersoff-1989", (3, 3, 2), (2, 2, 1)),
}
# charge of the cation in e, dielectric constant: PBE, Materials Project mp-22862
CHARGES = {"nacl-mace": (1.0995, 2.4313)}
REFERENCES = {  # crystal, mesh, σ in THz (None: tetrahedra), with the charges or without
    "si-tersoff_m5": ("si-tersoff", (5, 5, 5), None, False),
    "si-tersoff_m5_sigma0.3": ("si-tersoff", (5, 5, 5), 0.3, False),
    "nacl-mace_m4": ("nacl-mace", (4, 4, 4), None, False),
    "nacl-mace_nac_m4": ("nacl-mace", (4, 4, 4), None, True),
    "sic-tersoff_m443": ("sic-tersoff", (4, 4, 3), None, False),
}
TEMPERATURES = (300.0,)
VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
THZ, K_B, THZ_TO_EV = 15.633302300230191, 8.617338256808316e-5, 0.00413566733
TO_W_MK = (1e12 * 1e-10) ** 2 / 1e-30 * 1.60217733e-19 / 1e12 / (2 * np.pi)


def make_crystal(name: str) -> None:
    atoms, model, second, third = CRYSTALS[name]
    potential = wj.load_potential(model)
    atoms, _ = wj.relax(atoms, potential)
    peer = new_peer(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, np.diag(second), np.diag(third))
    fc, _ = wj.force_constants(cells_of(peer), potential)
    data = {
        "lattice": atoms.cell.array,
        "positions": atoms.get_scaled_positions(),
        "numbers": atoms.numbers,
        "fc2_supercell": np.array(second),
        "fc3_supercell": np.array(third),
        "fc2": np.asarray(fc.fc2),
        "fc3": np.asarray(fc.fc3),
    }
    if name in CHARGES:
        charge, dielectric = CHARGES[name]
        data["born"] = charge * np.array([np.eye(3), -np.eye(3)])
        data["dielectric"] = dielectric * np.eye(3)
        data["factor"] = np.array(FACTOR)
    np.savez_compressed(FOLDER / f"{name}.npz", **data)


def heat_capacity(f: np.ndarray, T: float) -> np.ndarray:
    x = THZ_TO_EV * f / (K_B * T)
    return K_B * (x / 2 / np.sinh(x / 2)) ** 2


def wigner(peer, gamma: np.ndarray, T: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """κ_P and κ_C (6,), and the sums over the stars of what pairs of modes carry, (P, m, m, 6), W/(m K).

    Args:
        gamma: (P, m) total half widths of the irreducible points, THz.
    """
    grid, (points, _, table) = peer.grid, irreducible_points(peer)
    matrix = get_dynamical_matrix(peer.fc2, peer.phonon_supercell, peer.phonon_primitive, peer.nac_params)
    slope = DerivativeOfDynamicalMatrix(matrix)
    m, volume = gamma.shape[1], np.linalg.det(peer.primitive.cell)
    pairs, populations, coherences = np.zeros((len(points), m, m, 6)), np.zeros(6), np.zeros(6)
    for address, standing in zip(grid.addresses[grid.grg2bzg], table, strict=True):
        q, p = grid.QDinv @ address, int(np.flatnonzero(points == standing)[0])
        matrix.run(q)
        values, e = np.linalg.eigh(matrix.dynamical_matrix)
        f = THZ * np.sign(values) * np.sqrt(np.abs(values))
        slope.run(q)
        still = np.arange(m) < (3 if np.all(address == 0) else 0)
        f = np.where(still, 1.0, f)
        assert f.min() > 0
        V = np.conj(e.T) @ slope.d_dynamical_matrix @ e * THZ**2 / (f[:, None] + f)
        VV = np.stack([np.real(V[a] * np.conj(V[b])) for a, b in VOIGT], axis=-1)
        C, width = heat_capacity(f, T) / f, gamma[p][:, None] + gamma[p]
        C = (f[:, None] + f) * (C[:, None] + C) / 4
        live = ~still & (gamma[p] > 0)
        lorentz = np.where(
            live[:, None] & live, width / ((f[:, None] - f) ** 2 + np.where(width > 0, width, 1) ** 2), 0
        )
        K = (C * lorentz)[..., None] * VV * TO_W_MK / volume
        block = np.cumsum(np.diff(f, prepend=f[0]) > 1e-4) if not still.any() else np.concatenate(
            [[-3, -2, -1], np.cumsum(np.diff(f[3:], prepend=f[3]) > 1e-4)]
        )  # fmt: skip
        same = block[:, None] == block
        pairs[p] += K
        populations += K[same].sum(0)
        coherences += K[~same].sum(0)
    return populations / len(table), coherences / len(table), pairs


def load_peer(name: str, polar: bool):
    data = np.load(FOLDER / f"{name}.npz")
    peer = new_peer(
        data["lattice"], data["positions"], data["numbers"], np.diag(data["fc2_supercell"]),
        np.diag(data["fc3_supercell"]),
    )  # fmt: skip
    peer.fc2, peer.fc3 = data["fc2"], data["fc3"]
    if polar:
        peer.nac_params = {key: data[key] for key in ("born", "dielectric", "factor")}
        peer.nac_params["factor"] = float(data["factor"])
    return peer


def off_mesh(peer, method: str, points: np.ndarray) -> np.ndarray:
    """Frequencies at arbitrary points, (Q, m) THz."""
    parameters = None if peer.nac_params is None else {**peer.nac_params, "method": method}
    matrix = get_dynamical_matrix(peer.fc2, peer.phonon_supercell, peer.phonon_primitive, parameters)
    found = []
    for q in points:
        matrix.run(q)
        values = np.linalg.eigvalsh(matrix.dynamical_matrix)
        found.append(THZ * np.sign(values) * np.sqrt(np.abs(values)))
    return np.array(found)


def make_reference(reference: str) -> None:
    name, dims, sigma, polar = REFERENCES[reference]
    peer = load_peer(name, polar)
    result = run_peer(peer, dims, sigma, TEMPERATURES)
    isotope = peer_isotope(peer, dims, sigma)
    points, weights, _ = irreducible_points(peer)
    total = result.three_phonon + isotope
    blocks = [wigner(peer, gamma, T) for gamma, T in zip(total, TEMPERATURES, strict=True)]
    kappa_P, kappa_C, pairs = (np.array(x) for x in zip(*blocks, strict=True))
    between = np.random.default_rng(7).uniform(-0.5, 0.5, (8, 3))
    addresses = peer.grid.addresses[peer.grid.grg2bzg[points]]
    np.savez_compressed(
        FOLDER / f"{reference}.npz",
        D_diag=np.array(dims), temperatures=np.array(TEMPERATURES), grid_weights=weights,
        qpoints=addresses @ peer.grid.QDinv.T, frequencies=result.frequencies,
        group_velocities=result.group_velocities, mode_heat_capacities=result.heat_capacities,
        gamma=result.three_phonon, gamma_isotope=isotope, kappa_P=kappa_P, kappa_C=kappa_C, mode_kappa=pairs,
        off_qpoints=between, off_gonze=off_mesh(peer, "gonze", between), off_wang=off_mesh(peer, "wang", between),
    )  # fmt: skip
    print(
        f"{reference}: κ_P {kappa_P[0, :3]}, κ_C {kappa_C[0, :3]} W/(m K); least f {result.frequencies[1:].min():.3f} THz"
    )


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(CRYSTALS)
    for crystal in chosen:
        make_crystal(crystal)
        for reference, (of, *_) in REFERENCES.items():
            if of == crystal:
                make_reference(reference)
