"""Integer tables: meshes, triplets, supercells, shortest vectors, and the lattice sum of Φ3, against brute force.

Long, because one set of crystals serves all of its tests.
"""

from __future__ import annotations

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ase.build import bulk, make_supercell

from wigner_jax._core.tiling import CPU
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.crystal.supercells import reduce_to_primitive, shortest_vectors
from wigner_jax.errors import InputError
from wigner_jax.physics import matrix_elements as scattering
from wigner_jax.physics.mesh_index import neighbours, third_point
from wigner_jax.plan.fc3_table import make_fc3_table
from wigner_jax.plan.mesh import addresses, images, index_of, make_mesh, mesh_dims, mesh_operations
from wigner_jax.plan.triplets import triplet_buckets, triplet_weights


def triclinic():
    """No symmetry but translations."""
    atoms = bulk("SiC", "zincblende", a=4.32)
    strain = np.array([[0, 0.03, -0.02], [0, 0.04, 0.05], [0.01, 0, -0.02]])
    atoms.set_cell(np.asarray(atoms.cell) @ (np.eye(3) + strain))
    atoms.set_scaled_positions([[0, 0, 0], [0.24, 0.27, 0.26]])
    return atoms


STRUCTURES = {
    "diamond": lambda: bulk("Si", a=5.43),
    "zincblende": lambda: bulk("SiC", "zincblende", a=4.32),
    "wurtzite": lambda: bulk("SiC", "wurtzite", a=3.05, c=4.98, u=0.378),
    "triclinic": triclinic,
}
MESHES = [
    ("diamond", (4, 4, 4)),
    ("zincblende", (5, 5, 5)),
    ("zincblende", (3, 4, 5)),
    ("wurtzite", (4, 4, 3)),
    ("wurtzite", (3, 2, 3)),
    ("triclinic", (2, 3, 4)),
]
every_mesh = pytest.mark.parametrize(("name", "dims"), MESHES)


def crystal_of(name):
    return supercells_from_atoms(STRUCTURES[name](), 1, 1).crystal


# ---------------------------------------------------------------- meshes


@every_mesh
def test_points_of_a_mesh(name, dims):
    mesh = make_mesh(crystal_of(name), dims)
    address = addresses(dims)
    np.testing.assert_array_equal(index_of(address, dims), np.arange(np.prod(dims)))
    np.testing.assert_array_equal(index_of(address + 3 * np.array(dims), dims), np.arange(np.prod(dims)))
    shift = mesh.qpoints - address / np.array(dims)
    np.testing.assert_allclose(shift, np.rint(shift), rtol=0, atol=1e-12)
    # no equivalent point is nearer to Γ
    reciprocal = np.linalg.inv(crystal_of(name).lattice).T
    length = np.linalg.norm(mesh.qpoints @ reciprocal, axis=1)
    for G in itertools.product(range(-2, 3), repeat=3):
        assert np.all(np.linalg.norm((mesh.qpoints + G) @ reciprocal, axis=1) > length - 1e-7)


@every_mesh
def test_stars_partition_the_mesh(name, dims):
    """Orbits by brute force, in Cartesian coordinates."""
    crystal = crystal_of(name)
    mesh = make_mesh(crystal, dims)
    assert mesh.weights.sum() == np.prod(dims)
    B = np.linalg.inv(crystal.lattice)
    label = np.arange(np.prod(dims))
    for R in mesh.rotations:
        fractional = mesh.qpoints @ B.T @ R.T @ crystal.lattice.T
        on_mesh = fractional * dims
        np.testing.assert_allclose(on_mesh, np.rint(on_mesh), rtol=0, atol=1e-8)
        label = np.minimum(label, index_of(np.rint(on_mesh).astype(int), dims))
    first, counts = np.unique(label, return_counts=True)
    np.testing.assert_array_equal(mesh.irreducible, first)
    np.testing.assert_array_equal(mesh.weights, counts)


@pytest.mark.parametrize(
    ("name", "dims", "order"),
    [("diamond", (4, 4, 4), 48), ("zincblende", (4, 4, 4), 48), ("zincblende", (4, 4, 5), 4), ("zincblende", (3, 4, 5), 2),
     ("wurtzite", (4, 4, 3), 24), ("wurtzite", (3, 4, 3), 4), ("triclinic", (4, 4, 4), 2)],
)  # fmt: skip
def test_operations_that_keep_crystal_and_mesh(name, dims, order):
    """A group, with time reversal; a less symmetric mesh keeps a subgroup, or the answer would change."""
    crystal = crystal_of(name)
    operations = mesh_operations(crystal, dims)
    assert len(operations) == order
    known = {S.tobytes() for S in operations}
    assert (-np.eye(3, dtype=int)).tobytes() in known
    assert all((S @ T).astype(S.dtype).tobytes() in known for S in operations for T in operations)
    permutations = images(addresses(dims), operations, dims)
    np.testing.assert_array_equal(np.sort(permutations, axis=1), np.arange(np.prod(dims))[None].repeat(order, 0))
    assert len(mesh_operations(crystal, dims, symmetry=False)) == 1


@pytest.mark.parametrize("dims", [(0, 1, 1), (2, 2), (2.5, 2, 2), (-1, 2, 2)])
def test_mesh_of_other_than_three_positive_integers(dims):
    with pytest.raises(ValueError, match="three positive integers"):
        make_mesh(crystal_of("diamond"), dims)


@every_mesh
def test_index_arithmetic_on_the_device(name, dims):
    address, Q = addresses(dims), int(np.prod(dims))
    for q in (0, 1, Q // 2, Q - 1):
        second = np.asarray(third_point(q, jnp.arange(Q), dims))
        np.testing.assert_array_equal((address[q] + address + address[second]) % dims, 0)
    offsets = np.array([[0, 0, 0], [1, 0, 0], [-1, 1, -1]])
    around = np.asarray(neighbours(jnp.arange(Q), offsets, dims))
    for v, offset in enumerate(offsets):
        np.testing.assert_array_equal((address[around[v]] - address - offset) % dims, 0)


# ---------------------------------------------------------------- triplets


@every_mesh
@pytest.mark.parametrize("symmetry", [True, False])
def test_triplets_of_every_point(name, dims, symmetry):
    """Weights sum to N at each q, and one representative stands for each orbit of q' under little group and exchange."""
    crystal = crystal_of(name)
    mesh, address, Q = make_mesh(crystal, dims, symmetry), addresses(dims), int(np.prod(dims))
    permutations = images(address, mesh_operations(crystal, dims, symmetry), dims)
    for q in mesh.irreducible:
        weights = triplet_weights(int(q), address, permutations, dims)
        assert weights.sum() == Q
        parent = np.arange(Q)  # union of q' with its images, merged until nothing changes
        moves = [p for p in permutations if p[q] == q] + [index_of(-address[q] - address, dims)]
        while True:
            merged = parent.copy()
            for move in moves:
                merged = np.minimum(merged, merged[move])
                np.minimum.at(merged, move, merged.copy())
            if np.array_equal(merged, parent):
                break
            parent = merged
        first, counts = np.unique(parent, return_counts=True)
        np.testing.assert_array_equal(np.flatnonzero(weights), first)
        np.testing.assert_array_equal(weights[first], counts)


@every_mesh
@pytest.mark.parametrize("buckets", [1, 3])
def test_buckets_hold_every_triplet_once(name, dims, buckets):
    crystal = crystal_of(name)
    mesh, address = make_mesh(crystal, dims), addresses(dims)
    permutations = images(address, mesh_operations(crystal, dims), dims)
    result = triplet_buckets(crystal, mesh, buckets=buckets)
    assert len(result) <= buckets
    np.testing.assert_array_equal(
        np.sort(np.concatenate([b.members for b in result])), np.arange(len(mesh.irreducible))
    )
    for bucket in result:
        for row, p in enumerate(bucket.members):
            weights = np.zeros(np.prod(dims), int)
            for (y, plane), w in zip(bucket.rods[row], bucket.weights[row], strict=True):
                z = bucket.planes[row, plane]
                np.add.at(weights, index_of(np.array([(x, y, z) for x in range(dims[0])]), dims), w)
            expected = triplet_weights(int(mesh.irreducible[p]), address, permutations, mesh.dims)
            np.testing.assert_array_equal(weights, expected)


# ---------------------------------------------------------------- cells


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize(
    "matrix", [np.diag([2, 1, 3]), [[-1, 1, 1], [1, -1, 1], [1, 1, -1]], [[2, 1, 0], [0, 2, 1], [1, 0, 1]]]
)
def test_primitive_cell_of_a_supercell(name, matrix):
    """A repeated cell in any shape and atom order is reduced to the same crystal, and its supercell rebuilt."""
    primitive = STRUCTURES[name]()
    atoms = make_supercell(primitive, matrix)
    atoms = atoms[np.random.default_rng(0).permutation(len(atoms))]
    cells = supercells_from_atoms(atoms, [1, 2, 1], 1)
    crystal = cells.crystal
    assert crystal.n_atoms == len(primitive)
    np.testing.assert_allclose(abs(np.linalg.det(crystal.lattice)), primitive.cell.volume, rtol=1e-9)
    assert cells.fc3_supercell.n_atoms == len(atoms)
    assert cells.fc2_supercell.n_atoms == 2 * len(atoms)
    # the atoms of the supercell are those of the input
    ours = (
        np.asarray(crystal.positions)[cells.fc3_supercell.primitive_index] + cells.fc3_supercell.lattice_vector
    ) @ crystal.lattice
    lattice = cells.fc3_supercell.matrix @ crystal.lattice
    np.testing.assert_allclose(lattice @ np.linalg.inv(np.asarray(atoms.cell)), np.eye(3), rtol=0, atol=1e-6)
    difference = (ours[:, None] - atoms.positions[None]) @ np.linalg.inv(lattice)
    distance = np.linalg.norm((difference - np.rint(difference)) @ lattice, axis=-1)
    # the crystal may be shifted as a whole, by a tiny symmetrisation
    assert np.all(np.sort(distance.min(axis=1)) < 1e-5)
    np.testing.assert_array_equal(
        np.array(crystal.numbers)[cells.fc3_supercell.primitive_index], atoms.numbers[distance.argmin(axis=1)]
    )


def test_isotopes_make_a_cell_larger():
    """Atoms of different masses are different: no translation carries one onto the other."""
    atoms = bulk("Si", a=5.43, cubic=True)
    assert supercells_from_atoms(atoms, 1, 1).crystal.n_atoms == 2
    atoms.set_masses([28, 28, 28, 28, 28, 28, 28, 30])
    assert supercells_from_atoms(atoms, 1, 1).crystal.n_atoms == 8


def test_a_wrong_primitive_matrix_is_refused():
    atoms = bulk("SiC", "zincblende", a=4.32, cubic=True)
    with pytest.raises(ValueError, match="primitive matrix"):
        reduce_to_primitive(
            np.asarray(atoms.cell),
            atoms.get_scaled_positions(),
            atoms.numbers,
            atoms.get_masses(),
            np.diag([0.5, 1, 1]),
        )


SUPERCELLS = {
    "diagonal": [2, 2, 2],
    "flat": [4, 1, 1],
    "conventional": [[-1, 1, 1], [1, -1, 1], [1, 1, -1]],
    "sheared": [[2, 1, 0], [0, 2, 1], [1, 0, 2]],
}


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("shape", SUPERCELLS)
def test_supercell_lists_every_lattice_point_once(name, shape):
    cells = supercells_from_atoms(STRUCTURES[name](), SUPERCELLS[shape], 1)
    supercell = cells.fc2_supercell
    n, count = cells.crystal.n_atoms, round(abs(np.linalg.det(supercell.matrix)))
    assert supercell.n_atoms == n * count
    np.testing.assert_array_equal(supercell.primitive_index[supercell.p2s_map], np.arange(n))
    assert not supercell.lattice_vector[supercell.p2s_map].any()
    inverse = np.linalg.inv(supercell.matrix)
    for i in range(n):
        folded = supercell.lattice_vector[supercell.primitive_index == i] @ inverse
        folded = np.round(folded - np.floor(folded + 1e-9), 6)
        assert len(np.unique(folded, axis=0)) == count


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("shape", SUPERCELLS)
def test_shortest_vectors(name, shape):
    """All nearest images and no other, against a search far out."""
    cells = supercells_from_atoms(STRUCTURES[name](), SUPERCELLS[shape], 1)
    crystal, supercell = cells.crystal, cells.fc2_supercell
    steps = np.array(list(itertools.product(range(-5, 6), repeat=3))) @ supercell.matrix
    ours = shortest_vectors(crystal, supercell)
    for i, J in np.ndindex(crystal.n_atoms, supercell.n_atoms):
        R = supercell.lattice_vector[J] - supercell.lattice_vector[supercell.p2s_map[i]] + steps
        separation = (crystal.positions[supercell.primitive_index[J]] + R - crystal.positions[i]) @ crystal.lattice
        length = np.linalg.norm(separation, axis=1)
        expected = {tuple(x) for x in R[length < length.min() + 1e-5]}
        assert len(ours[i][J]) == len(expected)
        assert {tuple(x) for x in ours[i][J]} == expected


@pytest.mark.parametrize("name", ["diamond", "wurtzite", "triclinic"])
@pytest.mark.parametrize("shape", ["diagonal", "sheared"])
def test_shortest_vectors_agree_with_phonopy(name, shape):
    peer = pytest.importorskip("phonopy.structure.cells")
    cells = supercells_from_atoms(STRUCTURES[name](), SUPERCELLS[shape], 1)
    crystal, supercell = cells.crystal, cells.fc2_supercell
    lattice = supercell.matrix @ crystal.lattice
    positions = (
        (crystal.positions[supercell.primitive_index] + supercell.lattice_vector)
        @ crystal.lattice
        @ np.linalg.inv(lattice)
    )
    vectors, multiplicity = peer.get_smallest_vectors(
        lattice, positions, positions[supercell.p2s_map], store_dense_svecs=True, symprec=1e-5
    )
    ours = shortest_vectors(crystal, supercell)
    for i, J in np.ndindex(crystal.n_atoms, supercell.n_atoms):
        count, start = multiplicity[J, i]
        there = vectors[start : start + count] @ lattice
        here = (crystal.positions[supercell.primitive_index[J]] + ours[i][J] - crystal.positions[i]) @ crystal.lattice
        assert len(here) == count
        distance = np.linalg.norm(here[:, None] - there[None], axis=-1)
        assert np.all(distance.min(axis=0) < 1e-8)
        assert np.all(distance.min(axis=1) < 1e-8)


# ---------------------------------------------------------------- Φ3


def brute_force(crystal, supercell, third, q1, q2):
    """Φ3(q, q', q'') of definition: every image of both atoms, averaged over the anchor's leg. (n, n, n, 3, 3, 3)

    Leg 0 carries no phase of its own, since q + q' + q'' = 0: lattice vectors are relative to leg 0's cell.
    """
    near = shortest_vectors(crystal, supercell)
    n = crystal.n_atoms
    q0 = -q1 - q2
    q = (q0, q1, q2)
    total = np.zeros((n, n, n, 3, 3, 3), complex)
    for a, J, K in np.ndindex(n, supercell.n_atoms, supercell.n_atoms):
        j, k = supercell.primitive_index[J], supercell.primitive_index[K]
        phases = [
            np.mean([[np.exp(2j * np.pi * (q[x] @ RJ + q[y] @ RK)) for RK in near[a][K]] for RJ in near[a][J]])
            for x, y in ((1, 2), (0, 2), (1, 0))
        ]
        block = third[a, J, K]
        total[a, j, k] += phases[0] * block / 3
        total[j, a, k] += phases[1] * block.transpose(1, 0, 2) / 3
        total[k, j, a] += phases[2] * block.transpose(2, 1, 0) / 3
    return total


@pytest.mark.parametrize(
    ("name", "matrix", "dims"),
    [
        ("diamond", [2, 2, 2], (3, 3, 3)),
        ("zincblende", [[-1, 1, 1], [1, -1, 1], [1, 1, -1]], (2, 3, 4)),
        ("wurtzite", [2, 1, 1], (3, 1, 2)),  # the range of D exceeds the mesh and is folded into it
        ("triclinic", [[2, 1, 0], [0, 2, 1], [0, 0, 1]], (3, 2, 4)),
    ],
)
def test_lattice_sum_of_third_order(name, matrix, dims):
    """The tables and the separable transform against the double sum, on random numbers without any symmetry.

    The anchor at leg 2 sees the other two atoms as (J at leg 1, K at leg 0).
    """
    cells = supercells_from_atoms(STRUCTURES[name](), 1, matrix)
    crystal, supercell = cells.crystal, cells.fc3_supercell
    n, N, m = crystal.n_atoms, supercell.n_atoms, 3 * crystal.n_atoms
    third = np.random.default_rng(0).normal(size=(n, N, N, 3, 3, 3))
    table = jax.tree.map(jnp.asarray, make_fc3_table(crystal, supercell, dims))
    address, Q = addresses(dims), int(np.prod(dims))
    entries = scattering.gather_third(jnp.asarray(third), table)
    q = Q - 2
    qpoint = jnp.asarray(address[q] / np.array(dims))
    sums = scattering.contract_over_R2(qpoint[None], entries, table)[0]
    identity = jnp.stack([jnp.eye(m), jnp.zeros((m, m))])  # modes of leg 0 are its components
    spectra = scattering.planes_to_rods(sums, identity, jnp.arange(dims[2]), table, dims, CPU)
    # with unit vectors as modes the strengths are |Φ3|², element by element
    unit = jnp.broadcast_to(jnp.eye(2 * m), (dims[0] * dims[1] * dims[2], 2 * m, 2 * m))
    y, z = np.meshgrid(np.arange(dims[1]), np.arange(dims[2]))
    rods = jnp.asarray(np.column_stack([y.ravel(), z.ravel()]))
    picked = scattering.pick_rods(spectra, rods)
    power = np.asarray(scattering.interaction_strength(dims, table, picked, unit, unit)).reshape(
        dims[0], len(rods), m, m, m
    )
    for index in np.random.default_rng(1).permutation(Q)[:4]:
        x, yy, zz = address[index]
        q1 = address[index] / np.array(dims)
        exact = brute_force(crystal, supercell, third, q1, -q1 - address[q] / np.array(dims))
        exact = np.abs(exact.transpose(2, 5, 1, 4, 0, 3).reshape(m, m, m)) ** 2  # leg 2, leg 1, leg 0
        rod = int(np.flatnonzero((y.ravel() == yy) & (z.ravel() == zz))[0])
        np.testing.assert_allclose(power[x, rod], exact, rtol=0, atol=1e-12 * exact.max())


def test_every_entry_of_third_order_is_shared_out_once():
    """Σ scale over the entries of one folded element is 1: a third for each leg, images in equal parts."""
    cells = supercells_from_atoms(STRUCTURES["wurtzite"](), 1, [2, 2, 1])
    table = make_fc3_table(cells.crystal, cells.fc3_supercell, (4, 4, 3))
    n, N = cells.crystal.n_atoms, cells.fc3_supercell.n_atoms
    total = np.bincount(table.source, weights=table.scale, minlength=n * N * N)
    np.testing.assert_allclose(total, 1, rtol=1e-12)
    for leg in range(3):
        part = np.bincount(table.source, weights=table.scale * (table.leg == leg), minlength=n * N * N)
        np.testing.assert_allclose(part, 1 / 3, rtol=1e-12)


def test_tables_do_not_depend_on_the_supercell_atoms_chosen_as_home():
    cells = supercells_from_atoms(STRUCTURES["zincblende"](), 1, [2, 2, 1])
    other = dataclasses.replace(
        cells.fc3_supercell,
        p2s_map=np.array(
            [np.flatnonzero(cells.fc3_supercell.primitive_index == i)[-1] for i in range(cells.crystal.n_atoms)]
        ),
    )
    for a, b in zip(
        shortest_vectors(cells.crystal, other), shortest_vectors(cells.crystal, cells.fc3_supercell), strict=True
    ):
        # seen from another home atom the same separations occur, in another order
        assert sorted(map(str, (np.sort(x, axis=0).tolist() for x in a))) == sorted(
            map(str, (np.sort(x, axis=0).tolist() for x in b))
        )


@pytest.mark.parametrize(
    "bad", [(10**30,) * 3, (2048, 1024, 1024), ("a", 1, 2), ((1, 2), 3, 4), (np.nan, 1, 1), "3 3 3", 3, None]
)
def test_meshes_that_cannot_be(bad):
    with pytest.raises(InputError, match="a mesh"):
        mesh_dims(bad)


def test_the_largest_mesh():
    assert mesh_dims((2**31 - 1, 1, 1)) == (2**31 - 1, 1, 1)
    assert mesh_dims(np.array([3.0, 4.0, 5.0])) == (3, 4, 5)
