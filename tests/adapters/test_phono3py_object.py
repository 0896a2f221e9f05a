"""A Phono3py object in memory gives what its files give."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from phono3py_peer import new_peer
from reference_materials import cells_of

import wigner_jax as wj
from wigner_jax.errors import InputError
from wigner_jax.ifc.autodiff import force_constants
from wigner_jax.io.phono3py import read_phono3py

phono3py = pytest.importorskip("phono3py")
TEMPERATURES = (100.0, 300.0)
FACES = (np.ones((3, 3)) - np.eye(3)) / 2  # primitive vectors of a face-centred cell


def made(full: bool = False, **options):
    """SiC in its conventional cell, with force constants of a potential, compact or full."""
    from phono3py.phonon3.fc3 import compact_fc3_to_full_fc3
    from phonopy.harmonic.force_constants import compact_fc_to_full_fc

    atoms = bulk("SiC", "zincblende", a=4.32, cubic=True)
    peer = new_peer(atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers, (2, 2, 2), (1, 1, 1), FACES)
    fc, _ = force_constants(cells_of(peer), wj.load_potential("tersoff-1989"))
    peer.fc2, peer.fc3 = np.array(fc.fc2), np.array(fc.fc3)
    if full:
        peer.fc2 = compact_fc_to_full_fc(peer.phonon_primitive, peer.fc2)
        peer.fc3 = compact_fc3_to_full_fc3(peer.primitive, peer.fc3)
    return peer


def written(peer, folder):
    """phono3py's own files."""
    from phono3py.file_IO import write_fc2_to_hdf5, write_fc3_to_hdf5

    peer.save(folder / "phono3py.yaml", settings={"force_sets": False, "displacements": False})
    write_fc2_to_hdf5(peer.fc2, filename=folder / "fc2.hdf5", p2s_map=peer.phonon_primitive.p2s_map)
    write_fc3_to_hdf5(peer.fc3, filename=folder / "fc3.hdf5", p2s_map=peer.primitive.p2s_map)
    return folder / "phono3py.yaml"


def of_files(path, mesh, **options):
    data = read_phono3py(path)
    nac = None if data.born is None else wj.make_nac(data.supercells, data.born)
    plan = wj.make_plan(data.supercells, mesh)
    return wj.solve(plan, data.force_constants, TEMPERATURES, nac=nac, **options)


def compare(one, other, tolerance=1e-10):
    for name in ("kappa_P", "kappa_C", "mode_kappa_P"):
        a, b = (np.asarray(getattr(x.conductivity, name)) for x in (one, other))
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.mark.parametrize("full", [False, True])
def test_object_and_files_agree(full, tmp_path):
    peer = made(full)
    peer.nac_params = {"born": np.stack([np.eye(3) * 2.5, np.eye(3) * -2.5]), "dielectric": np.eye(3) * 6.5,
                       "factor": 14.39965172592227}  # fmt: skip
    solution = wj.solve_phono3py(peer, TEMPERATURES, mesh=(4, 4, 4))
    compare(solution, of_files(written(peer, tmp_path), (4, 4, 4)), 1e-8)  # its yaml has ten digits of the cell
    assert solution.nac is not None
    plain = wj.solve_phono3py(peer, TEMPERATURES, mesh=(4, 4, 4), nac=None)
    assert not np.allclose(plain.conductivity.kappa_P, solution.conductivity.kappa_P, rtol=1e-4)
    solution.save(tmp_path / "kappa-m444.hdf5")
    read = wj.read_kappa_hdf5(tmp_path / "kappa-m444.hdf5")
    np.testing.assert_allclose(read["kappa_TOT_RTA"], solution.conductivity.kappa_TOT, rtol=1e-12)


def test_mesh_masses_and_units():
    peer = made()
    peer.masses = [29.97377, 13.00335]
    peer.mesh_numbers = [3, 3, 3]
    solution = wj.solve_phono3py(peer)
    assert tuple(solution.plan.mesh.dims) == (3, 3, 3)
    np.testing.assert_allclose(solution.plan.crystal.masses, [29.97377, 13.00335])
    assert solution.report.derivatives == "given"
    expected = np.asarray(solution.conductivity.kappa_TOT)
    # the same crystal in the units of Quantum ESPRESSO: Bohr, Ry/Bohr² and Ry/Bohr³
    bohr, ry = 0.529177210903, 13.605693122994
    scaled = bulk("SiC", "zincblende", a=4.32 / bohr, cubic=True)
    from phono3py import Phono3py
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(numbers=scaled.numbers, cell=scaled.cell.array, scaled_positions=scaled.get_scaled_positions())
    other = Phono3py(
        cell, np.diag([1, 1, 1]), primitive_matrix=FACES, phonon_supercell_matrix=np.diag([2, 2, 2]), calculator="qe"
    )
    other.masses = [29.97377, 13.00335]
    other.fc2, other.fc3 = peer.fc2 / (ry / bohr**2), peer.fc3 / (ry / bohr**3)
    found = wj.solve_phono3py(other, mesh=(3, 3, 3)).conductivity.kappa_TOT
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_what_is_no_such_object():
    peer = made()
    peer.fc3 = None
    with pytest.raises(InputError, match="the Phono3py object has no fc3"):
        wj.solve_phono3py(peer)
    with pytest.raises(InputError, match="str is no Phono3py object"):
        wj.solve_phono3py("phono3py.yaml")
    with pytest.raises(InputError):
        wj.solve_phono3py(made(), mesh=(0, 1, 1))


def test_our_constants_as_an_object_and_back():
    cells = wj.default_supercells(bulk("SiC", "zincblende", a=4.32), (2, 2, 2), (2, 2, 2))
    fc, _ = wj.force_constants(cells, wj.load_potential("tersoff-1989"))
    plan = wj.make_plan(cells, (3, 3, 3))
    compare(
        wj.solve_phono3py(wj.to_phono3py(wj.GivenConstants(cells, fc)), TEMPERATURES, mesh=(3, 3, 3)),
        wj.solve(plan, fc, TEMPERATURES),
    )


@pytest.mark.parametrize(
    "file",
    [
        "mp-23193-KCl-rs", pytest.param("mp-23259-LiBr-rs", marks=pytest.mark.slow),
        pytest.param("mp-1265-MgO-rs", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_stored_force_sets(shared, file, tmp_path):
    """The score of matbench-discovery from the object and from its files, to 1e-10."""
    from solver.test_phono3py_live import stored_forces

    from wigner_jax.metrics import reference_of, srme_of

    peer = stored_forces(shared, file)
    written(peer, tmp_path)
    one = wj.solve_phono3py(peer, TEMPERATURES, mesh=(5, 5, 5))
    other = of_files(tmp_path / "phono3py.yaml", (5, 5, 5))
    compare(one, other)
    scores = []
    for solution in (one, other):  # against a reference that is neither: the first with other broadening
        rough = of_files(tmp_path / "phono3py.yaml", (5, 5, 5), broadening=wj.Gaussian(0.5))
        scores.append(np.stack(srme_of(solution, solution.plan.mesh, reference_of(rough, file, file, 225))))
    assert scores[0].min() > 1e-3
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-10)


def test_a_generalised_regular_grid():
    """The object's own grid, point by point; κ of both ways to it, and beyond the relaxation-time approximation."""
    plain = made()
    peer = phono3py.Phono3py(
        plain.unitcell, supercell_matrix=plain.supercell_matrix, primitive_matrix=plain.primitive_matrix,
        phonon_supercell_matrix=plain.phonon_supercell_matrix, use_grg=True, log_level=0,
    )  # fmt: skip
    peer.fc2, peer.fc3, peer.mesh_numbers = plain.fc2, plain.fc3, 9.0
    ours = wj.solve_phono3py(peer, TEMPERATURES, broadening=wj.Gaussian(0.5), transport="lbte")
    points = np.asarray(ours.mesh.qpoints) @ np.linalg.inv(np.asarray(ours.crystal.lattice)).T
    grid = peer.grid
    theirs = np.asarray(grid.addresses[grid.grg2bzg] @ grid.QDinv.T) @ np.linalg.inv(peer.primitive.cell).T
    difference = (points[:, None] - theirs[None]) @ np.asarray(peer.primitive.cell).T
    near = np.abs(difference - np.rint(difference)).max(axis=-1) < 1e-6
    assert near.sum(axis=0).tolist() == near.sum(axis=1).tolist() == [1] * len(points)
    cells, dims = wj.generalized_mesh(wj.from_phono3py(plain).supercells, 9.0)
    other = wj.solve(
        wj.make_plan(cells, dims), wj.from_phono3py(plain).force_constants, TEMPERATURES, broadening=wj.Gaussian(0.5),
        transport="lbte",
    )  # fmt: skip
    np.testing.assert_allclose(ours.kappa, other.kappa, rtol=1e-9, atol=1e-9)
    assert isinstance(wj.solve_phono3py(peer, TEMPERATURES).broadening, wj.Tetrahedron)
