"""Force constants written in each format and read back: the same κ, whatever the supercells and the order of the atoms."""

from __future__ import annotations

import contextlib
import pickle
import re
import tarfile
import warnings
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from ase.build import bulk
from phono3py_peer import run_peer
from solved_problems import strained

import wigner_jax as wj
from wigner_jax.cli.app import main
from wigner_jax.errors import InputError
from wigner_jax.ifc.images import diagonal_supercell, enough, folded, refolded, unfolded
from wigner_jax.io.born import NAC_FACTOR
from wigner_jax.io.constants.formats import FILES, has_constants, read_force_constants, write_force_constants
from wigner_jax.io.constants.given import GivenConstants
from wigner_jax.io.constants.own import read_own

if TYPE_CHECKING:
    from pathlib import Path

COMPLETE = tuple(name for name in FILES if name not in ("phonopy", "hiphive"))  # both orders, each in its supercell
MESH = (3, 4, 3)
_MADE: dict[str, GivenConstants] = {}


def permuted():
    """The conventional cell of SiC, its atoms in a mixed order, two of them outside of it."""
    atoms = bulk("SiC", "zincblende", a=4.32, cubic=True)[[5, 0, 7, 2, 1, 6, 3, 4]]
    atoms.positions[0] += atoms.cell[0]
    atoms.positions[3] -= atoms.cell[1] + atoms.cell[2]
    return atoms


def wurtzite():
    return bulk("SiC", "wurtzite", a=3.07, c=5.04)


CASES = {
    "one cell": (strained, (2, 2, 2), (2, 2, 2)),
    "one non-diagonal cell": (strained, (-1, 1, 1, 1, -1, 1, 1, 1, -1), (-1, 1, 1, 1, -1, 1, 1, 1, -1)),
    "one cell, permuted": (permuted, (1, 1, 1), (1, 1, 1)),
    "diagonal": (strained, (3, 3, 3), (2, 2, 2)),
    "non-diagonal": (strained, (-2, 2, 2, 2, -2, 2, 2, 2, -2), (-1, 1, 1, 1, -1, 1, 1, 1, -1)),
    "skewed": (strained, (2, 1, 0, 0, 2, 1, 1, 0, 3), (2, 0, 0, 1, 2, 0, 0, 0, 2)),
    "permuted": (permuted, (2, 2, 2), (1, 1, 1)),
    "smaller": (strained, (2, 2, 2), (3, 3, 3)),
    "wurtzite": (wurtzite, (3, 3, 2), (2, 2, 1)),
}


def made(case: str) -> GivenConstants:
    if case not in _MADE:
        make, second, third = CASES[case]
        cells = wj.default_supercells(make(), second, third)
        fc, _ = wj.force_constants(cells, wj.load_potential("tersoff-1989"))
        _MADE[case] = GivenConstants(cells, fc)
    return _MADE[case]


def charged(given: GivenConstants) -> GivenConstants:
    """With charges that no symmetry of the strained crystal forbids, and that are not symmetric."""
    Z = np.array([[1.5, 0.1, -0.2], [0.05, 1.4, 0.3], [-0.1, 0.15, 1.6]])
    born = wj.BornCharges(np.stack([Z, -Z]), np.diag([6.0, 6.2, 6.4]), np.array(NAC_FACTOR))
    return given._replace(born=born, mesh=(5, 6, 7))


def kappa(given: GivenConstants, any_basis: bool = False) -> np.ndarray:
    """(6,); `any_basis`: the same whatever the primitive vectors, as tetrahedra and a mesh of unequal numbers are not."""
    nac = None if given.born is None else wj.make_nac(given.supercells, given.born)
    plan = wj.make_plan(given.supercells, (3, 3, 3) if any_basis else MESH)
    broadening = wj.Gaussian(0.3) if any_basis else None
    solution = wj.solve(plan, given.force_constants, (300.0,), nac=nac, broadening=broadening)
    return np.asarray(solution.conductivity.kappa_TOT[0])


def back(folder: Path, given: GivenConstants, format: str, **options) -> GivenConstants:
    if format == "hiphive":
        pytest.importorskip("hiphive")
    files = write_force_constants(folder, given, format, **options)
    assert {f.name for f in files} == set(FILES[format]) == {f.name for f in folder.iterdir()}
    return read_force_constants(files[0] if format == "hiphive" else folder)


@pytest.mark.parametrize("format", COMPLETE)
@pytest.mark.parametrize(
    "case",
    [
        "non-diagonal", "permuted", pytest.param("wurtzite", marks=pytest.mark.slow),
        pytest.param("diagonal", marks=pytest.mark.slow), pytest.param("skewed", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_round_trips(case, format, tmp_path):
    """κ, the off-diagonal part of the strained crystals included, to 1e-10."""
    expected = kappa(made(case))
    assert np.linalg.norm(expected) > 1
    actual = kappa(back(tmp_path, made(case), format))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    "case",
    [
        "one non-diagonal cell", "one cell, permuted", pytest.param("one cell", marks=pytest.mark.slow),
        pytest.param("smaller", marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_round_trip_of_hiphive(case, tmp_path):
    """Its format has one supercell, and no primitive cell: one is found anew, which may have other vectors."""
    given = made(case)
    expected, actual = (kappa(x, any_basis=True) for x in (given, back(tmp_path, given, "hiphive")))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def test_hiphive_has_one_supercell(tmp_path):
    pytest.importorskip("hiphive")
    with pytest.raises(InputError, match="every triplet of the"):
        write_force_constants(tmp_path, made("diagonal"), "hiphive")


@pytest.mark.parametrize("format", ["wigner-jax", "phono3py", "shengbte"])
def test_charges_and_the_mesh_come_along(format, tmp_path):
    given = charged(made("diagonal"))
    read = back(tmp_path, given, format)
    for one, other in zip(read.born.__dict__.values(), given.born.__dict__.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12 if format == "wigner-jax" else 1e-7)
    assert read.mesh == (None if format == "phono3py" else (5, 6, 7))
    np.testing.assert_allclose(kappa(read), kappa(given), rtol=1e-8)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("format", ["wigner-jax", "phono3py", "shengbte", "hiphive"])
def test_masses_come_along(format, tmp_path):
    """Isotopically pure crystals are not what their elements say."""
    given = made("one cell")
    masses = np.array([29.97377, 13.00335])
    crystal = given.supercells.crystal
    heavy = given._replace(
        supercells=wj.Supercells(
            wj.Crystal(crystal.lattice, crystal.positions, masses, crystal.numbers), given.supercells.fc2_supercell,
            given.supercells.fc3_supercell,
        )
    )  # fmt: skip
    read = back(tmp_path, heavy, format)
    np.testing.assert_allclose(read.supercells.crystal.masses, masses, rtol=1e-6)
    np.testing.assert_allclose(*(kappa(x, any_basis=True) for x in (read, heavy)), rtol=1e-5)


@pytest.mark.parametrize(("case", "full"), [("diagonal", False), ("skewed", True), ("permuted", False)])
def test_phono3py_reads_what_is_written(case, full, tmp_path):
    """Its own loading of the files: linewidths by its gauge-invariant flags, and κ where no modes are degenerate."""
    phono3py = pytest.importorskip("phono3py")
    given = made(case)
    write_force_constants(tmp_path, given, "phono3py", full=full)
    peer = phono3py.load(
        tmp_path / "phono3py.yaml", fc2_filename=tmp_path / "fc2.hdf5", fc3_filename=tmp_path / "fc3.hdf5", log_level=0,
        is_compact_fc=not full,
    )  # fmt: skip
    assert len(peer.fc3) == len(peer.supercell if full else peer.primitive)
    mesh = (3, 3, 3) if case == "permuted" else MESH
    expected = run_peer(peer, mesh, None, (300.0,))
    plan = wj.make_plan(given.supercells, mesh)
    ours = wj.solve(plan, given.force_constants, (300.0,), scattering=wj.Scattering(None))
    frequencies = np.array(ours.phonons.frequencies)[np.asarray(plan.mesh.irreducible)]
    np.testing.assert_allclose(frequencies[1:], expected.frequencies[1:], atol=1e-6)
    largest = expected.three_phonon.max()
    np.testing.assert_allclose(ours.linewidths.three_phonon, expected.three_phonon, rtol=0, atol=1e-6 * largest)
    if case != "permuted":
        kappa_P, theirs = np.asarray(ours.conductivity.kappa_P)[0], np.asarray(peer.thermal_conductivity.kappa)[0, 0]
        np.testing.assert_allclose(kappa_P, theirs, rtol=0, atol=1e-5 * theirs.max())


@pytest.mark.parametrize("full", [False, True])
def test_phonopy_reads_what_is_written(full, tmp_path):
    phonopy = pytest.importorskip("phonopy")
    given = charged(made("skewed"))
    write_force_constants(tmp_path, given, "phonopy", full=full)
    peer = phonopy.load(
        tmp_path / "phonopy.yaml", force_constants_filename=tmp_path / "FORCE_CONSTANTS", log_level=0, is_nac=False
    )
    assert peer.nac_params is None
    plan = wj.make_plan(given.supercells, MESH)
    ours = np.asarray(wj.phonons(plan, given.force_constants.fc2, None).frequencies)
    for k in (1, 7, 20):
        np.testing.assert_allclose(peer.get_frequencies(np.asarray(plan.mesh.qpoints)[k]), ours[k], atol=1e-6)
    with pytest.raises(InputError, match="of second order alone"):
        read_force_constants(tmp_path)


def test_hiphive_reads_our_list_of_triplets(tmp_path):
    """Its parser of FORCE_CONSTANTS_3RD is not ours."""
    hiphive = pytest.importorskip("hiphive.input_output.shengBTE")
    given = made("non-diagonal")
    write_force_constants(tmp_path, given, "shengbte")
    crystal = given.supercells.crystal
    images = unfolded(crystal, given.supercells.fc3_supercell, np.asarray(given.force_constants.fc3))
    found = hiphive._read_raw_sheng(str(tmp_path / "FORCE_CONSTANTS_3RD"))
    assert len(found) == len(images.values) > 500
    largest = np.abs(images.values).max()
    for (*atoms, second, third, block), kinds, cells, values in zip(found, *images, strict=True):
        assert [a - 1 for a in atoms] == kinds.tolist()
        np.testing.assert_allclose([second, third], cells @ crystal.lattice, atol=1e-9)
        np.testing.assert_allclose(block, values, atol=1e-12 * largest)


def write_q2r(path: Path, given: GivenConstants, charges: bool = False) -> None:
    """Φ2 as q2r.x writes it: for components and pairs of atoms a list over n1×n2×n3 cells, Ry/Bohr²."""
    crystal = given.supercells.crystal
    images = unfolded(crystal, given.supercells.fc2_supercell, np.asarray(given.force_constants.fc2))
    supercell, fc2 = enough(images, crystal)
    unit = 13.605693122994 / 0.529177210903**2
    dims, n = np.diag(supercell.matrix), crystal.n_atoms
    lines = [f"2 {n} 0 1.0 0 0 0 0 0", *(" ".join(map(str, v)) for v in crystal.lattice)]
    lines += [f"{k + 1} 'X' 1.0" for k in range(2)] + [f"{k + 1} {k + 1} 0 0 0" for k in range(n)]
    lines += (
        ["T", "5 0 0", "0 5 0", "0 0 5", "1", "1 0 0", "0 1 0", "0 0 1", "2", "-1 0 0", "0 -1 0", "0 0 -1"]
        if charges
        else ["F"]
    )
    lines.append(" ".join(map(str, dims)))
    index = {
        (int(a), *map(int, c)): J
        for J, (a, c) in enumerate(zip(supercell.primitive_index, supercell.lattice_vector, strict=True))
    }
    for a, b, i, j in np.ndindex(3, 3, n, n):
        lines.append(f"{a + 1} {b + 1} {i + 1} {j + 1}")
        for z, y, x in np.ndindex(*dims[::-1]):
            # q2r's force constant of (a, i) in cell 0 and (b, j) in cell −R
            J = index[(j, *(int(v) for v in (-np.array([x, y, z])) % dims))]
            lines.append(f"{x + 1} {y + 1} {z + 1} {fc2[i, J, a, b] / unit:.16e}")
    path.write_text("\n".join(lines) + "\n")


def test_quantum_espresso(tmp_path):
    """espresso.ifc2 instead of FORCE_CONSTANTS_2ND; with charges in it, it lacks the long-range part, and is refused."""
    pytest.importorskip("phonopy")
    given = made("diagonal")
    write_force_constants(tmp_path, given, "shengbte")
    (tmp_path / "FORCE_CONSTANTS_2ND").unlink()
    write_q2r(tmp_path / "espresso.ifc2", given)
    np.testing.assert_allclose(kappa(read_force_constants(tmp_path)), kappa(given), rtol=1e-5)
    write_q2r(tmp_path / "espresso.ifc2", given, charges=True)
    with pytest.raises(InputError, match="lack the dipole"):
        read_force_constants(tmp_path)


# ---------------------------------------------------------------- images


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c in ("smaller", "wurtzite", "diagonal") else c for c in CASES]
)
def test_images_fold_into_what_they_came_from(case):
    given = made(case)
    crystal = given.supercells.crystal
    for cell, array in (
        (given.supercells.fc2_supercell, np.asarray(given.force_constants.fc2)),
        (given.supercells.fc3_supercell, np.asarray(given.force_constants.fc3)),
    ):
        images = unfolded(crystal, cell, array)
        np.testing.assert_allclose(folded(images, cell), array, atol=1e-13 * np.abs(array).max())
        found, larger = enough(images, crystal)
        np.testing.assert_allclose(
            larger.sum(axis=tuple(range(1, images.order))), array.sum(axis=tuple(range(1, images.order))), atol=1e-9
        )
        if found.n_atoms > crystal.n_atoms:
            assert refolded(images, crystal, diagonal_supercell(crystal, (1, 1, 1))) is None


# ---------------------------------------------------------------- what goes wrong


def shengbte(folder: Path) -> Path:
    write_force_constants(folder, made("diagonal"), "shengbte")
    return folder


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("CONTROL", "natoms=2", "natoms=3", "positions|types"),
        ("CONTROL", "scell(:)=3 3 3", "scell(:)=2 3 3", "is of 54 atoms, and scell of CONTROL makes 36"),
        ("CONTROL", "scell(:)=3 3 3", "scell(:)=3 3", "scell has 2 numbers where 3 belong"),
        ("CONTROL", "&crystal", "&crystals", "no namelist &crystal"),
        ("CONTROL", '"Si"', '"Sj"', "'Sj', which is none"),
        ("CONTROL", "lfactor=0.1", "lfactor=1", "not those of the crystal|Å³"),
        ("CONTROL", "lfactor=0.1", "lfactor=nan", "not finite"),
        ("FORCE_CONSTANTS_2ND", "1 1\n", "1 2\n", "pairs of atoms are not complete"),
        ("FORCE_CONSTANTS_3RD", "\n2\n", "\nx\n", "something else than numbers"),
        ("FORCE_CONSTANTS_3RD", "1 1 1 ", "2 1 1 ", "lacks components"),
    ],
)
def test_bad_files_of_shengbte(file, old, new, message, tmp_path):
    path = shengbte(tmp_path) / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message) as caught:
        read_force_constants(tmp_path)
    assert "\n" not in str(caught.value)


def test_other_ways_of_writing_control(tmp_path):
    """Columns, single elements, Fortran's exponents, comments, capitals, and masses that are left out."""
    path = shengbte(tmp_path) / "CONTROL"
    text = path.read_text()
    lines = [line for line in text.splitlines() if "masses" not in line and "gfactors" not in line]
    lines = [line.replace("scell(:)=3 3 3", "SCELL(1)=3, scell(2)=3, scell(3)=3  ! cells") for line in lines]
    lines = [
        line.replace("lfactor=0.1", "lfactor=1d-1").replace("autoisotopes=.false.", "autoisotopes=.true.")
        for line in lines
    ]
    path.write_text("\n".join("&end" if line == "/" else line for line in lines) + "\n")
    np.testing.assert_allclose(kappa(read_force_constants(path)), kappa(made("diagonal")), rtol=1e-9)


def test_fortran_lists(tmp_path):
    """Commas between quoted names, repeats, values on several lines."""
    path = shengbte(tmp_path) / "CONTROL"
    text, given = path.read_text(), made("diagonal")
    (elements,) = [line for line in text.splitlines() if line.strip().startswith("elements")]
    kinds = re.findall(r'"(\w+)"', elements)
    for names in (",".join(f"'{k}'" for k in kinds), " ".join(f'"{k} "' for k in kinds)):
        changed = text.replace(elements, f" elements = {names}").replace("scell(:)=3 3 3", "scell(:)=3*3")
        path.write_text(re.sub(r"ngrid\(:\)=(\d+) (\d+) (\d+)", r"ngrid(:)=\1,\n  \2,\n \3", changed))
        found = read_force_constants(path)
        assert found.mesh == given.mesh or given.mesh is None
        assert found.supercells.crystal.numbers == given.supercells.crystal.numbers
    path.write_text(text.replace("scell(:)=3 3 3", "scell(:)=" + 10 * "9999*1 "))
    with pytest.raises(InputError, match="scell has more than 10240 values"):
        read_force_constants(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("autoisotopes=.false.", "autoisotopes=.false.\n  isotopes=F", "says isotopes=.false., and isotopes scatter"),
        (r"gfactors=\S+", "gfactors=0.05", r"says gfactors=\S+ 0.05 for its atoms where nature has 0"),
        (r"gfactors=(\S+)", r"gfactors=\1 ", None),
        ("autoisotopes=.false.", "autoisotopes=.true.", None),
        ("autoisotopes=.false.", "autoisotopes=x", "autoisotopes is 'x'"),
    ],
)
def test_isotopes_of_control_are_said(old, new, message, tmp_path):
    """They were passed over without a word: κ of SiC at 3×3×3 points was 464 instead of 680."""
    path = shengbte(tmp_path) / "CONTROL"
    text = path.read_text()
    assert re.search(old, text)
    path.write_text(re.sub(old, new, text))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with contextlib.nullcontext() if new[-1] != "x" else pytest.raises(InputError, match=message):
            read_force_constants(path)
    words = [str(w.message) for w in said if "CONTROL says" in str(w.message)]
    assert len(words) == (message is not None and new[-1] != "x")
    assert all(re.search(message, w) for w in words), words


def test_missing_files_are_named(tmp_path):
    folder = shengbte(tmp_path)
    (folder / "FORCE_CONSTANTS_3RD").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"no such file: .*FORCE_CONSTANTS_3RD"):
        read_force_constants(folder)
    (folder / "FORCE_CONSTANTS_2ND").unlink()
    with pytest.raises(InputError, match=r"neither FORCE_CONSTANTS_2ND nor espresso.ifc2"):
        read_force_constants(folder / "CONTROL")
    for path, message in (
        (tmp_path / "none", "no such file"), (tmp_path / "elsewhere", "no force constants in a format"),
        (tmp_path, "neither"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            read_force_constants(path)
    (tmp_path / "fc3.hdf5").write_bytes(b"")
    with pytest.raises(InputError, match="says nothing of its cells"):
        read_force_constants(tmp_path / "fc3.hdf5")


def test_a_changed_file_of_ours_is_refused(tmp_path):
    (path,) = write_force_constants(tmp_path, made("diagonal"))
    with h5py.File(path, "a") as file:
        file["constants/fc2"][0, 0, 0, 0] += 0.1
    with pytest.raises(InputError, match="changed after it was written"):
        read_own(path)
    path.write_bytes(path.read_bytes()[:5000])
    assert not has_constants(path)
    with pytest.raises(InputError, match="not a file of force constants"):
        read_own(path)


def test_a_pickle_that_runs_something_is_not_opened(tmp_path):
    pytest.importorskip("hiphive")
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(marker), "w"))

    data = tmp_path / "fc_dict"
    data.write_bytes(pickle.dumps({"fc_dict": Evil(), "fcs_type": "SortedForceConstants"}))
    with tarfile.open(tmp_path / "evil.fcs", "w") as archive:
        archive.add(data, "fc_dict")
        (tmp_path / "supercell").write_text("{}")
        archive.add(tmp_path / "supercell", "supercell")
    with pytest.raises(InputError, match="which is no data"):
        read_force_constants(tmp_path / "evil.fcs")
    assert not marker.exists()


def test_nothing_of_others_is_replaced(tmp_path):
    (tmp_path / "CONTROL").write_text("mine\n")
    with pytest.raises(InputError, match="is there already"):
        write_force_constants(tmp_path, made("diagonal"), "shengbte")
    assert [p.name for p in tmp_path.iterdir()] == ["CONTROL"]
    for options in ({"format": "shengbt"}, {"format": "shengbte", "full": True}):
        with pytest.raises(InputError, match=r"choose from|leave it out"):
            write_force_constants(tmp_path / "o", made("diagonal"), **options)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("format", ["phono3py", "phonopy"])
def test_without_phono3py(format, tmp_path, monkeypatch):
    given = made("one cell")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="phono3py is not installed"):
        write_force_constants(tmp_path, given, format)


# ---------------------------------------------------------------- command line

SMALL = ["--potential", "tersoff-1989", "--fc2-supercell", "2", "2", "2", "--fc3-supercell", "1", "1", "1"]


def table_of(text: str) -> list[str]:
    return next(line for line in text.splitlines() if line.split()[:1] == ["300"]).split()


def test_kappa_keeps_its_force_constants(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["kappa", "SiC", *SMALL, "--mesh", "3", "3", "3", "-o", "a.hdf5"]) == 0
    out = capsys.readouterr().out
    assert "force constants for --fc: a-fc.hdf5" in out
    assert main(["kappa", "--fc", "a-fc.hdf5", "--mesh", "3", "3", "3"]) == 0
    again = capsys.readouterr().out
    assert table_of(again) == table_of(out)
    assert "forces   CSi, tersoff-1989, relaxed" in again
    assert main(["kappa", "a-fc.hdf5", "--mesh", "4", "4", "4", "-o", "b.hdf5"]) == 0  # a mesh study makes none again
    assert not (tmp_path / "b-fc.hdf5").exists()
    capsys.readouterr()
    assert main(["kappa", "--fc", "a-fc.hdf5", "--dry-run"]) == 0
    assert "CSi, tersoff-1989, relaxed" in capsys.readouterr().out
    for bad, message in (
        (["kappa", "SiC", "--fc", "a-fc.hdf5"], "--fc stands instead of SOURCE"),
        (["kappa"], "neither SOURCE nor --fc"),
        (["kappa", "--fc", "a-fc.hdf5", "--potential", "tersoff-1989"], "--potential does not go with a-fc.hdf5"),
        (["kappa", "--fc", "a.hdf5"], "no force constants in a format that is known"),
        (["kappa", "--fc", "none"], "no such file"),
    ):
        assert main(bad) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "c-fc.hdf5").write_text("mine\n")
    assert main(["kappa", "SiC", *SMALL, "-o", "c.hdf5"]) == 2
    assert "c-fc.hdf5 is there already and is not a file of force constants" in capsys.readouterr().err


def test_the_command_fc(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["fc", "SiC", *SMALL, "-o", "p", "--format", "phono3py"]) == 0
    assert "written: p/phono3py.yaml, p/fc2.hdf5, p/fc3.hdf5" in capsys.readouterr().out
    assert main(["fc", "p", "-o", "s", "--format", "shengbte"]) == 0  # from one format to another
    capsys.readouterr()
    tables = []
    for source in ("p", "p/phono3py.yaml", "s", "s/CONTROL"):
        assert main(["kappa", source, "--mesh", "3", "3", "3"]) == 0
        tables.append(table_of(capsys.readouterr().out))
    assert tables[0] == tables[1] == tables[2] == tables[3]
    assert main(["fc", "SiC", *SMALL, "-o", "p", "--format", "phono3py"]) == 2
    assert "is there already" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["fc", "SiC", *SMALL, "-o", "q", "--format", "vasp"])
    assert not (tmp_path / "q").exists()
