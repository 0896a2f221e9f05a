"""Bad input: one line on stderr that says what was found and what to do, an exit code, and no half-written file."""

from __future__ import annotations

import dataclasses
import itertools
import json
import lzma
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import ase.build
import jax
import numpy as np
import pytest
import yaml

import wigner_jax as wj
from wigner_jax._solve import make_plan, solve
from wigner_jax.checks import imaginary_modes, positive_integers, refuse_imaginary
from wigner_jax.cli.app import main
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.crystal.supercells import shortest_vectors
from wigner_jax.errors import ImaginaryModes, InputError
from wigner_jax.ifc.residuals import check_force_constants, require_some
from wigner_jax.io.phono3py import read_phono3py
from wigner_jax.plan.mesh import make_mesh
from wigner_jax.types import ForceConstants

if TYPE_CHECKING:
    from wigner_jax.types import Crystal, Supercell


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # the command line leaves the cache of the test session alone
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run the command line, which must refuse in one line; returns the line."""
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as stop:  # argparse
        code = stop.code
    output = capsys.readouterr()
    assert code in (2, 3), (code, output.err)
    assert output.err.count("\n") == 1, output.err
    assert output.err.startswith("wigner-jax")
    assert "error: " in output.err
    assert "Traceback" not in output.err
    assert output.out == ""
    return output.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--mesh", 11, 0, 11], "--mesh must be 3 positive integers, got '11 0 11'"),
        (["--mesh", 11, 11.5, 11], "--mesh must be 3 positive integers"),
        (["--mesh", "a", "b", "c"], "--mesh must be 3 positive integers"),
        (["--mesh", 11, 11], "--mesh must be 3 positive integers, got '11 11'"),
        (["--fc3-supercell", 2, 2, -2], "--fc3-supercell must be 3 positive integers"),
        (["--fc2-supercell", 0, 2, 2], "got '0 2 2': give for example --fc2-supercell 2 2 2"),
        (["-T", 0], "temperatures must be above 0 K, got 0"),
        (["-T", 300, -10], "temperatures must be above 0 K, got -10"),
        (["-T", "nan"], "temperatures must be above 0 K, got nan"),
        (["-T", 1e-300], "temperatures must be at least 0.001 K, got 1e-300"),
        (["-T", "warm"], "invalid float value: 'warm'"),
        (["--boundary-mfp", 0], "--boundary-mfp must be above zero"),
        (["--broadening", "gaussian", "--sigma", -1], "--sigma must be above zero"),
        (["--sigma", 0.1], "--sigma belongs to --broadening gaussian"),
        (["--broadening", "sharp"], "invalid choice: 'sharp': choose from tetrahedron, gaussian, adaptive"),
        (["--broadening", "tetraeder"], "invalid choice: 'tetraeder': did you mean tetrahedron? (see wigner-jax kappa"),
        (["--mehs", 3], "unrecognized arguments: --mehs 3: did you mean --mesh? (see wigner-jax kappa --help)"),
        (["--index", 0], "--index is of a structure file, and Si is a built-in crystal: leave it out"),
        (["--potential", "tersof-1989"], "unknown potential 'tersof-1989': did you mean tersoff-1989?"),
        (["-o", "out.txt"], "-o out.txt: a kappa file is HDF5, not .txt: name it out.hdf5"),
        (["--potential", "nonsense"], "unknown potential 'nonsense': wigner-jax models lists all"),
        (["--nac", "missing/BORN"], "no BORN file missing/BORN"),
        (
            ["-o", "missing/kappa.hdf5"],
            "cannot write missing/kappa.hdf5: there is no folder missing: make it, or choose another place with -o",
        ),
        (["--symprec", "nan"], "--symprec must be above zero"),
        (["--isotopes", "Si=28:1,1e300:0"], "masses of isotopes must be above 0 and below 1e+06 amu"),
        (["--potential", "ase:ase.calculators.emt:EMT"], "the calculator EMT fails (No EMT-potential for Si): check"),
        (
            ["--potential", "ase:ase.calculators.emt:EMT", "--no-relax"],
            "the calculator EMT fails (No EMT-potential for Si)",
        ),
        (["--threads", 0], "--threads must be a positive number, got 0: leave it out to use all cores"),
        (["--threads", 10**6], "--threads is 1000000, and this machine has"),
    ],
    ids=lambda v: " ".join(map(str, v)) if isinstance(v, list) else "",
)
def test_options(capsys, in_an_empty_folder: Path, arguments: list, says: str) -> None:
    assert says in refused(capsys, "kappa", "Si", *arguments)
    assert list(in_an_empty_folder.iterdir()) == []


def test_sources(capsys, in_an_empty_folder: Path) -> None:
    assert "'Unobtainium' is neither a file nor a built-in crystal: give" in refused(capsys, "kappa", "Unobtainium")
    assert "built-in crystal: did you mean GaAs?" in refused(capsys, "kappa", "GaaS")
    assert "did you mean" not in refused(capsys, "kappa", "PbO")  # PbS is another compound
    assert "no such file: missing.yaml" in refused(capsys, "kappa", "missing.yaml")
    Path("broken.cif").write_text("not a cif")
    assert "ASE cannot read broken.cif" in refused(capsys, "kappa", "broken.cif")
    Path("other.yaml").write_text("a: 1\n")
    assert "other.yaml is not a phono3py yaml" in refused(capsys, "kappa", "other.yaml")
    Path("bad.yaml").write_text("a: [1, 2\n")
    assert "cannot read bad.yaml" in refused(capsys, "kappa", "bad.yaml")
    Path("cut.yaml.xz").write_bytes(lzma.compress(b"unit_cell:\n" * 1000)[:60])
    assert "cannot read cut.yaml.xz" in refused(capsys, "kappa", "cut.yaml.xz")
    ase.build.bulk("KCl", "rocksalt", a=6.29).write("kcl.vasp")
    assert "no built-in potential is meant for KCl" in refused(capsys, "kappa", "kcl.vasp")
    assert "does not know" in refused(capsys, "kappa", "kcl.vasp", "--potential", "stillinger-weber-si")


def test_usage(capsys) -> None:
    assert "wigner-jax kappa --help" in refused(capsys, "kappa")
    assert "wigner-jax --help" in refused(capsys, "cook")


def test_plot(capsys, in_an_empty_folder: Path) -> None:
    assert "no file missing.hdf5" in refused(capsys, "plot", "missing.hdf5")
    Path("text.hdf5").write_text("text")
    assert "cannot read text.hdf5" in refused(capsys, "plot", "text.hdf5")
    assert [p.name for p in in_an_empty_folder.iterdir()] == ["text.hdf5"]


# --- force constants --------------------------------------------------------------------------------------------------


@pytest.fixture
def calculation(in_an_empty_folder: Path) -> Path:
    """A small phono3py calculation of silicon, written without the peer."""
    from wigner_jax.crystal.supercells import make_supercell

    folder = in_an_empty_folder / "si"
    folder.mkdir()
    cells = supercells_from_atoms(ase.build.bulk("Si"), (2, 2, 2), (2, 2, 2))
    crystal, supercell = cells.crystal, make_supercell(cells.crystal, 2 * np.eye(3, dtype=int))
    lattice = np.asarray(crystal.lattice)
    positions = (np.asarray(crystal.positions)[supercell.primitive_index] + supercell.lattice_vector) @ np.linalg.inv(
        supercell.matrix
    )

    def block(name: str, basis: np.ndarray, points: np.ndarray) -> str:
        lines = [f"{name}:", "  lattice:", *(f"  - {list(map(float, row))}" for row in basis), "  points:"]
        lines += [f"  - {{symbol: Si, coordinates: {list(map(float, x))}, mass: 28.0855}}" for x in points]
        return "\n".join(lines)

    text = [
        block("unit_cell", lattice, np.asarray(crystal.positions)),
        block("primitive_cell", lattice, np.asarray(crystal.positions)),
        block("supercell", 2 * lattice, positions),
    ]
    (folder / "phono3py.yaml").write_text("\n".join(text) + "\n")
    write(folder, *springs(crystal, supercell, -1.0, 1.0))
    return folder


def springs(crystal: Crystal, supercell: Supercell, k: float, g: float) -> tuple[np.ndarray, np.ndarray]:
    """Φ2 and Φ3 of E = Σ k x²/2 + g x³/6 over the bonds, x their change of length: all symmetries and sum rules."""
    second, third = np.zeros((2, 16, 3, 3)), np.zeros((2, 16, 16, 3, 3, 3))
    for i, images in enumerate(shortest_vectors(crystal, supercell)):
        home = supercell.p2s_map[i]
        for J, R in enumerate(images):
            position = np.asarray(crystal.positions)[supercell.primitive_index[J]]
            bond = (position + R[0] - np.asarray(crystal.positions)[i]) @ np.asarray(crystal.lattice)
            if not 0 < np.linalg.norm(bond) < 2.5:
                continue
            n = bond / np.linalg.norm(bond)
            for a, b in itertools.product((home, J), repeat=2):
                second[i, a] -= (1 if a == J else -1) * k * np.outer(n, n) / 2
                third[i, a, b] -= (1 if a == J else -1) * (1 if b == J else -1) * g * np.einsum("a,b,c->abc", n, n, n)
    return second, third


def write(folder: Path, second: np.ndarray, third: np.ndarray) -> None:
    import h5py

    for name, dataset, array in (("fc2", "force_constants", second), ("fc3", "fc3", third)):
        with h5py.File(folder / f"{name}.hdf5", "w") as file:
            file[dataset] = array


def read(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    fc = read_phono3py(folder / "phono3py.yaml").force_constants
    return np.array(fc.fc2), np.array(fc.fc3)


def test_force_constant_files(capsys, calculation: Path) -> None:
    source = calculation / "phono3py.yaml"
    second, third = read(calculation)

    write(calculation, second + 0.3, third)
    assert "Φ2 breaks the acoustic sum rule by" in refused(capsys, "kappa", source)
    write(calculation, second, third + 0.3)
    assert "Φ3 breaks the acoustic sum rule by" in refused(capsys, "kappa", source)
    third[0, 1, 2, 0, 0, 0] = np.nan
    write(calculation, second, third)
    assert "fc3.hdf5 holds 1 non-finite numbers (first at index (0, 1, 2, 0, 0, 0))" in refused(capsys, "kappa", source)
    write(calculation, second[:, [0, *range(2, 16), 1]], np.nan_to_num(third))
    assert "Φ2 breaks the symmetry" in refused(capsys, "kappa", source)
    write(calculation, second[:, :8], third)
    assert "fc2.hdf5 has shape (2, 8, 3, 3) where the yaml's supercell has 16 atoms" in refused(capsys, "kappa", source)
    content = (calculation / "fc3.hdf5").read_bytes()
    write(calculation, second, np.nan_to_num(third))
    (calculation / "fc3.hdf5").write_bytes(content[: len(content) // 2])
    assert "fc3.hdf5: not a complete HDF5 file" in refused(capsys, "kappa", source)
    (calculation / "fc3.hdf5").unlink()
    assert "holds no forces, and fc3.hdf5 and FORCES_FC3 are not beside it" in refused(capsys, "kappa", source)


def test_a_structure_beside_force_constants(capsys, calculation: Path) -> None:
    """phono3py writes phono3py_unitcell.yaml beside phono3py.yaml, fc2.hdf5 and fc3.hdf5: those are not its own."""
    data = yaml.safe_load((calculation / "phono3py.yaml").read_text())
    cell = calculation / "phono3py_unitcell.yaml"
    cell.write_text(json.dumps({key: data[key] for key in ("unit_cell",)}))
    line = refused(capsys, "kappa", cell, "--potential", "nonsense", "--mesh", 3, 3, 3)
    assert "unknown potential 'nonsense'" in line
    assert main(["kappa", str(cell), "--potential", "tersoff-1989", "--mesh", "3", "3", "3", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("Si2: 2 atoms")
    (calculation / "foo.yaml").write_text("foo: bar\n")
    line = refused(capsys, "kappa", calculation / "foo.yaml", "--potential", "tersoff-1989")
    assert "foo.yaml is not a phono3py yaml" in line


def test_letters_and_devices_that_are_not_there(in_an_empty_folder: Path) -> None:
    """A terminal without Greek letters loses these, not the result; a device that is not there is bad input."""

    def run(**variables: str) -> subprocess.CompletedProcess[bytes]:
        command = [
            sys.executable,
            "-m",
            "wigner_jax",
            "kappa",
            "Si",
            "--potential",
            "tersoff-1989",
            "--mesh",
            "1",
            "1",
            "1",
        ]
        return subprocess.run([*command, "--dry-run"], env=os.environ | variables, capture_output=True, check=False)

    ascii_only = run(PYTHONIOENCODING="ascii")
    assert ascii_only.returncode == 0
    missing = run(JAX_PLATFORMS="nonsense")
    assert missing.returncode == 2
    assert b"JAX finds no device: JAX_PLATFORMS is 'nonsense': unset it" in missing.stderr
    code = "import sys; from wigner_jax.cli.app import main; main(['prototypes']); print('\u03ba')"
    given = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False
    )
    assert given.returncode == 0
    assert given.stdout.endswith(b"?\n")


def test_displacements_are_counted_beforehand(capsys) -> None:
    """--dry-run named the derivatives, whatever way was asked for."""
    base = ["kappa", "SiC", "--potential", "tersoff-1989", "--mesh", "3", "3", "3", "--fc2-supercell", "1", "1", "1"]
    base += ["--fc3-supercell", "1", "1", "1", "--dry-run"]
    counts = []
    for more in (
        [],
        ["--derivatives", "finite-displacement"],
        ["--derivatives", "finite-displacement", "--pair-cutoff", "2"],
    ):
        assert main([*base, *more]) == 0
        counts.append(re.search(r"evaluations (\d+)/(\d+)", capsys.readouterr().out).groups())
    assert counts[0] != counts[1]
    atoms, calculator = wj.prototype("SiC"), wj.WignerCalculator(wj.load_potential("tersoff-1989"))
    cells = {"fc2_supercell": (1, 1, 1), "fc3_supercell": (1, 1, 1)}
    _, report = wj.finite_displacements(atoms, calculator, **cells)
    assert counts[1] == tuple(map(str, report.calls))
    _, report = wj.finite_displacements(atoms, calculator, **cells, pair_cutoff=2.0)
    assert counts[2] == tuple(map(str, report.calls))


def test_options_that_do_not_go_with_a_yaml(capsys, calculation: Path) -> None:
    source = calculation / "phono3py.yaml"
    assert "--potential does not go with" in refused(capsys, "kappa", source, "--potential", "tersoff-1989")
    assert "--relax does not go with" in refused(capsys, "kappa", source, "--relax")
    assert "--processes does not go with" in refused(capsys, "kappa", source, "--processes", 2)
    assert "--fc3-supercell does not go with" in refused(capsys, "kappa", source, "--fc3-supercell", 2, 2, 2)


def test_negative_springs_have_imaginary_modes(capsys, calculation: Path) -> None:
    line = refused(capsys, "kappa", calculation / "phono3py.yaml", "--mesh", 3, 3, 3, "-o", "out.hdf5", "--quiet")
    assert "imaginary modes: " in line
    assert "THz at q = (" in line
    assert "--allow-imaginary" in line
    assert not Path("out.hdf5").exists()


def test_missing_forces(capsys, shared: Path) -> None:
    with lzma.open(shared / "data/phono3py/phono3py_params_NaCl222.yaml.xz", "rt") as file:
        lines = file.read().splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip() == "paired_with:")
    at = next(i for i in range(start, len(lines)) if lines[i].strip() == "forces:")
    rows = next(i for i in range(at + 1, len(lines)) if "- [" not in lines[i])
    Path("phono3py_params.yaml").write_text("\n".join(lines[:at] + lines[rows:]))
    assert "forces" in refused(capsys, "kappa", "phono3py_params.yaml")


def test_the_peer_is_named_when_it_is_missing(capsys, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "phono3py", None)
    line = refused(capsys, "kappa", shared / "data/phono3py/phono3py_params_NaCl222.yaml.xz")
    assert "pip install 'wigner-jax[phono3py]'" in line


# --- the checks themselves --------------------------------------------------------------------------------------------


def test_checks_pass_good_input() -> None:
    assert positive_integers(["11", "11", "7"], "mesh") == (11, 11, 7)
    cells = supercells_from_atoms(ase.build.bulk("Si"), (1, 1, 1), (1, 1, 1))
    second = np.zeros((2, 2, 3, 3))
    second[[0, 1], [0, 1]], second[[0, 1], [1, 0]] = np.eye(3), -np.eye(3)
    sign = np.array([-1, 1])
    product = np.abs(levi_civita())  # of the three components of u_1 - u_0
    third = np.einsum("i,J,K,abc->iJKabc", sign, sign, sign, product)
    fc = ForceConstants(second, third)
    found = check_force_constants(cells, fc)
    assert max(*found.sum_rules, *found.symmetry) < 1e-12
    with pytest.raises(InputError, match=r"Φ3 has shape .* where the cells need"):
        check_force_constants(cells, dataclasses.replace(fc, fc3=third[:, :1]))
    with pytest.raises(InputError, match="Φ2 is zero everywhere"):
        require_some(dataclasses.replace(fc, fc2=0 * second))


def test_imaginary_modes_are_named() -> None:
    crystal = supercells_from_atoms(ase.build.bulk("Si"), (1, 1, 1), (1, 1, 1)).crystal
    mesh = make_mesh(crystal, (3, 3, 3))
    frequencies = np.ones((27, 6))
    frequencies[0, :3] = -0.005  # noise of the acoustic modes at Γ
    assert len(imaginary_modes(mesh, frequencies)) == 0
    refuse_imaginary(mesh, frequencies)
    frequencies[5, 0], frequencies[7, 0], frequencies[0, 0] = -0.5, -1.25, -0.02
    np.testing.assert_array_equal(imaginary_modes(mesh, frequencies), [[7, 0], [5, 0], [0, 0]])
    q = " ".join(f"{x:.4g}" for x in mesh.qpoints[7])
    with pytest.raises(ImaginaryModes, match=rf"imaginary modes: 3 of 162, the worst -1.250 THz at q = \({q}\)"):
        refuse_imaginary(mesh, frequencies)


@pytest.fixture(scope="module")
def silicon():
    """Plan and force constants of a tiny problem: nearest-neighbour springs."""
    cells = supercells_from_atoms(ase.build.bulk("Si"), (1, 1, 1), (1, 1, 1))
    second = np.zeros((2, 2, 3, 3))
    second[[0, 1], [0, 1]], second[[0, 1], [1, 0]] = np.eye(3), -np.eye(3)
    sign = np.array([-1, 1])
    third = np.einsum("i,J,K,abc->iJKabc", sign, sign, sign, np.abs(levi_civita()))
    return make_plan(cells, (2, 2, 2)), ForceConstants(second, third)


def levi_civita() -> np.ndarray:
    return np.array([[[(a - b) * (b - c) * (c - a) / 2 for c in range(3)] for b in range(3)] for a in range(3)])


def test_solve_refuses_bad_input(silicon) -> None:
    plan, fc = silicon
    with pytest.raises(InputError, match="temperatures must be above 0 K, got 0"):
        solve(plan, fc, temperatures=(300.0, 0.0))
    broken = np.array(fc.fc2)
    broken[0, 0, 0, 0] = np.inf
    with pytest.raises(InputError, match=r"Φ2 holds 1 non-finite numbers \(first at index \(0, 0, 0, 0\)\)"):
        solve(plan, dataclasses.replace(fc, fc2=broken))
    with pytest.raises(ImaginaryModes, match="imaginary modes"):
        solve(plan, dataclasses.replace(fc, fc2=-fc.fc2))
    with pytest.raises(ValueError, match="three positive integers"):
        make_plan(supercells_from_atoms(ase.build.bulk("Si"), (1, 1, 1), (1, 1, 1)), (2, 2, 0))


def test_single_precision_is_refused(silicon) -> None:
    plan, fc = silicon
    with jax.enable_x64(False), pytest.raises(ValueError, match="double precision is off: run "):
        solve(plan, fc)
