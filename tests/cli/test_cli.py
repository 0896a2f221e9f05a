"""The command line as users meet it: sources, options, the table, the file, progress.

Long, because one set of compiled programs serves all of its tests.
"""

from __future__ import annotations

import errno
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import ase.build
import jax
import numpy as np
import pytest
from ase import Atoms

import wigner_jax as wj
from wigner_jax._core.compile_cache import cache_folder
from wigner_jax._core.progress import Progress, duration
from wigner_jax.cli import app as cli
from wigner_jax.cli import cache, report
from wigner_jax.crystal.defaults import (
    conventional_matrix,
    default_mesh,
    default_supercell,
    default_supercells,
    thickness,
)
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.io.kappa_hdf5 import read_kappa_hdf5
from wigner_jax.types import Conductivity


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")  # the command line leaves the cache of the test session alone
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[float, list[float]]:
    """Run a command, which must succeed; the numbers of its table: T → [κ_P, κ_C, κ_TOT]."""
    assert cli.main([str(a) for a in arguments]) == 0
    output = capsys.readouterr()
    # where no terminal is, work of more than ten seconds is a line of a log
    assert not [line for line in output.err.splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line)]
    return table(output.out)


def table(text: str) -> dict[float, list[float]]:
    rows = re.findall(r"^ *([\d.]+) +([\d.]+) +([\d.]+) +([\d.]+)$", text, re.MULTILINE)
    return {float(T): [float(x) for x in values] for T, *values in rows}


# the default potential takes longer to compile
SMALL = ("--potential", "tersoff-1989", "--fc2-supercell", 2, 2, 2, "--mesh", 3, 3, 3)


def test_what_would_be_done(capsys) -> None:
    for options, expected in (
        ((*SMALL, "-o", "si.hdf5"), "Si2: 2 atoms, supercells 64/64, mesh 3×3×3, evaluations 1/5, about"),
        ((), "supercells 512/64, mesh 11×11×11"),
    ):
        assert cli.main(["kappa", "Si", *map(str, options), "--dry-run"]) == 0
        assert expected in capsys.readouterr().out
    assert not Path("si.hdf5").exists()


def test_the_whole_way_from_a_name(capsys) -> None:
    """The table, the file and the Python API agree."""
    printed = run(capsys, "kappa", "Si", *SMALL, "-T", 300, 500, "-o", "si.hdf5")
    potential = wj.load_potential("tersoff-1989")
    atoms, _ = wj.relax(wj.prototype("Si"), potential)
    cells = wj.default_supercells(atoms, fc2_supercell=(2, 2, 2))
    fc, _ = wj.force_constants(cells, potential)
    result = wj.solve(wj.make_plan(cells, (3, 3, 3)), fc, (300.0, 500.0)).conductivity
    data = read_kappa_hdf5("si.hdf5")
    for t, T in enumerate((300.0, 500.0)):
        expected = [float(np.mean(x[t, :3])) for x in (result.kappa_P, result.kappa_C, result.kappa_TOT)]
        np.testing.assert_allclose(printed[T], expected, atol=6e-5)
        np.testing.assert_allclose(data["kappa_TOT_RTA"][t, :3].mean(), expected[2], rtol=1e-9)
    assert printed[300.0][2] > printed[500.0][2] > 10
    np.testing.assert_array_equal(data["mesh"], [3, 3, 3])
    assert "boundary_mfp" not in data
    assert "sigma" not in data


def test_a_structure_file_is_the_same_crystal(capsys) -> None:
    atoms = wj.prototype("Si")
    atoms.write("conventional.vasp", format="vasp", direct=True)
    ase.build.bulk("Si", a=atoms.cell[0, 0]).write("primitive.cif")
    expected = run(capsys, "kappa", "Si", *SMALL)
    np.testing.assert_allclose(run(capsys, "kappa", "conventional.vasp", *SMALL)[300.0], expected[300.0], atol=2e-4)
    # 4 × 4 × 4 conventional cells are no multiple of the primitive one: by thickness both make 2 × 2 × 2 conventional
    from_primitive = run(capsys, "kappa", "primitive.cif", "--potential", "tersoff-1989", "--mesh", 3, 3, 3)
    np.testing.assert_allclose(from_primitive[300.0], expected[300.0], rtol=1e-4)


def test_options_reach_the_solver(capsys) -> None:
    base = run(capsys, "kappa", "Si", *SMALL)[300.0]
    assert run(capsys, "kappa", "Si", *SMALL, "--no-isotope")[300.0][0] > base[0]
    assert run(capsys, "kappa", "Si", *SMALL, "--boundary-mfp", 0.1, "-o", "a.hdf5")[300.0][0] < 0.9 * base[0]
    assert read_kappa_hdf5("a.hdf5")["boundary_mfp"] == 0.1
    assert read_kappa_hdf5("a.hdf5")["gamma_boundary"].max() > 0
    assert cli.main([str(a) for a in ("kappa", "Si", *SMALL, "--broadening", "gaussian", "-o", "b.hdf5")]) == 0
    output = capsys.readouterr()
    assert "note: σ is 0.1 THz: about " in output.err  # of so few points
    narrow = table(output.out)[300.0]
    wide = run(capsys, "kappa", "Si", *SMALL, "--broadening", "gaussian", "--sigma", 0.5)[300.0]
    adaptive = run(capsys, "kappa", "Si", *SMALL, "--broadening", "adaptive")[300.0]
    assert len({v[0] for v in (base, narrow, wide, adaptive)}) == 4
    assert read_kappa_hdf5("b.hdf5")["sigma"] == 0.1
    other = run(capsys, "kappa", "Si", *SMALL, "--potential", "stillinger-weber-si", "--no-relax")[300.0]
    assert abs(other[0] - base[0]) > 1
    # the prototype's lattice constant is not the potential's
    assert abs(run(capsys, "kappa", "Si", *SMALL, "--no-relax")[300.0][0] - base[0]) > 1e-3


@pytest.mark.slow
def test_finite_displacements(capsys) -> None:
    """The same κ to the error of 0.03 Å."""
    exact = run(capsys, "kappa", "Si", *SMALL)[300.0][2]
    displaced = run(capsys, "kappa", "Si", *SMALL, "--force-constants", "finite-displacement")[300.0][2]
    assert 1e-5 < abs(displaced / exact - 1) < 0.03


def test_any_calculator_of_ase(capsys) -> None:
    ase.build.bulk("Cu", cubic=True).write("copper.xyz")
    small = ("--fc2-supercell", 2, 2, 1, "--fc3-supercell", 2, 2, 1, "--mesh", 3, 3, 3, "--no-relax")
    emt = ("--potential", "ase:ase.calculators.emt:EMT", *small)
    assert cli.main([str(a) for a in ("kappa", "copper.xyz", *emt)]) == 0
    output = capsys.readouterr()
    (values,) = table(output.out).values()
    assert values[0] > 1.0
    stressed, note = (line for line in output.err.splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line))
    assert "under a stress" in stressed
    assert note.startswith(
        "note: equivalent q-points differ by 26 % in f², since the supercell of Φ2 has less symmetry"
    )
    assert cli.main([str(a) for a in ("kappa", "copper.xyz", *emt, "--processes", 2)]) == 0
    assert table(capsys.readouterr().out) == table(output.out)
    assert cli.main(["kappa", "Si", "--potential", "ase:ase.calculators.emt:EMT", "--derivatives", "ad"]) == 2
    assert "needs a JAX potential" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("Si", "--processes", "2"), "processes are for ASE calculators, and "),
        (("Si", "--processes", "2", "--dry-run"), "processes are for ASE calculators, and "),
        (("Si", "--processes", "0"), "--processes must be above zero, got 0"),
    ],
)
def test_processes_that_cannot_be(capsys, more, message) -> None:
    assert cli.main(["kappa", *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_phono3py_reference(capsys, shared: Path) -> None:
    """κ of NaCl as phono3py's linewidths and the published operator give it (wigner.json of the reference data).

    With a Gaussian: isotope linewidths of the tetrahedron method depend on rounding in the reference.
    """
    source = shared / "data/reference/NaCl-PBE/phono3py.yaml"
    gaussian = ("--broadening", "gaussian", "--sigma", 0.1)
    printed = run(capsys, "kappa", source, "--mesh", 11, 11, 11, "--boundary-mfp", "1e6", *gaussian)
    np.testing.assert_allclose(printed[300.0], [7.547406, 0.070657, 7.618063], atol=6e-5)


def test_nac(capsys, shared: Path) -> None:
    source = shared / "data/reference/ZnTe/phono3py.yaml"
    mesh = ("--mesh", 3, 3, 3)
    assert cli.main(["kappa", str(source), *map(str, mesh)]) == 0
    output = capsys.readouterr().out
    assert "non-analytic correction (Gonze-Lee)" in output
    without = run(capsys, "kappa", source, *mesh, "--nac", "none")[300.0]
    assert abs(table(output)[300.0][0] - without[0]) > 0.1
    charges = "\n".join(" ".join(map(str, np.ravel(x * np.eye(3)))) for x in (9.01511654, 1.96217084, -1.96217084))
    Path("BORN").write_text(f"14.399652\n{charges}\n")
    again = run(capsys, "kappa", source, *mesh, "--nac", "BORN")[300.0]
    np.testing.assert_allclose(again, table(output)[300.0], atol=2e-4)


def test_imaginary_modes_on_request(capsys) -> None:
    """A stretched cell of silicon has imaginary modes: refused with exit code 3, computed when asked for."""
    stretched = wj.prototype("Si")
    stretched.set_cell(stretched.cell * 1.25, scale_atoms=True)
    stretched.write("stretched.vasp", format="vasp")
    arguments = ["kappa", "stretched.vasp", "--no-relax", *map(str, SMALL), "--quiet", "-o", "out.hdf5"]
    assert cli.main(arguments) == 3
    note, line = capsys.readouterr().err.splitlines()
    assert "under a stress" in note
    assert "imaginary modes" in line
    assert "--allow-imaginary" in line
    assert not Path("out.hdf5").exists()
    assert cli.main([*arguments, "--allow-imaginary"]) == 0
    assert Path("out.hdf5").exists()


def test_a_fresh_process(in_an_empty_folder: Path) -> None:
    """Devices, double precision and the compilation cache as the command sets them up; quiet prints the table alone."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(in_an_empty_folder / "cache")}
    del environment["JAX_COMPILATION_CACHE_DIR"]
    command = [sys.executable, "-m", "wigner_jax", "kappa", "Si", *map(str, SMALL), "--quiet", "--threads", "2"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    header, row = result.stdout.splitlines()
    assert header.split() == ["T", "(K)", "κ_P", "κ_C", "κ_TOT", "W/(m", "K)"]
    assert table(row)[300.0][2] > 10
    assert len(list((in_an_empty_folder / "cache/wigner-jax").iterdir())) > 3


def test_a_reader_that_has_enough() -> None:
    """`wigner-jax models | head -1`: no complaint about the closed pipe."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "wigner_jax", "models"]
    result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_streams_that_are_closed(in_an_empty_folder: Path, stream: str) -> None:
    """`wigner-jax models >&-`: what nobody wants goes nowhere, and not into the next file that is opened."""
    number = {"stdout": 1, "stderr": 2}[stream]
    shell = f'"{sys.executable}" -m wigner_jax "$@" {number}>&-'
    for arguments, code in ((["models"], 0), (["plot", "missing.hdf5"], 2)):
        result = subprocess.run(["sh", "-c", shell, "sh", *arguments], capture_output=True, text=True)
        assert result.returncode == code
        assert "Traceback" not in result.stderr
        assert (stream == "stdout") or (result.stdout != "") == (code == 0)
        assert (stream == "stderr") or (result.stderr != "") == (code == 2)


@pytest.mark.parametrize("action", ["show", "clear"])
def test_a_cache_that_is_not_there(capsys, monkeypatch, in_an_empty_folder: Path, action: str) -> None:
    (there := in_an_empty_folder / "file").write_text("mine")
    monkeypatch.setattr(cache, "enable_compilation_cache", lambda: in_an_empty_folder / "missing")
    assert cli.main(["cache", action]) == 0
    assert capsys.readouterr().out.endswith("missing: not there yet, nothing is kept\n")
    monkeypatch.setattr(cache, "enable_compilation_cache", lambda: there)
    assert cli.main(["cache", action]) == 2
    assert "file is not a folder: name one with JAX_COMPILATION_CACHE_DIR" in capsys.readouterr().err
    assert there.read_text() == "mine"


def test_a_cache_that_cannot_be_cleared(capsys, monkeypatch, in_an_empty_folder: Path) -> None:
    programs = in_an_empty_folder / "kept" / cache.FOLDER
    programs.mkdir(parents=True)
    for path in (programs / "one", programs.parent / "two-cache", programs.parent / "mine"):
        path.write_text("x")
    monkeypatch.setattr(cache, "enable_compilation_cache", lambda: programs.parent)
    real, before = Path.unlink, sorted(programs.parent.rglob("*"))

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    assert cli.main(["cache", "clear"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "(Read-only file system); 0 of 2 files are removed: make the folder writable, or name another one" in error
    assert sorted(programs.parent.rglob("*")) == before
    monkeypatch.setattr(Path, "unlink", real)
    assert cli.main(["cache", "clear"]) == 0
    assert [path.name for path in programs.parent.iterdir()] == ["mine"]


def test_the_cache_of_an_unknown_potential(capsys) -> None:
    assert cli.main(["cache", "warm", "--potential", "nosuch"]) == 2
    error = capsys.readouterr().err
    assert (
        error
        == "wigner-jax: error: unknown potential 'nosuch': wigner-jax models lists all; or give the path of a model's file\n"
    )


def test_configuration(monkeypatch: pytest.MonkeyPatch, in_an_empty_folder: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_an_empty_folder))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == in_an_empty_folder / "wigner-jax"
    (in_an_empty_folder / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_an_empty_folder / "file"))
    assert cache_folder() is None
    assert jax.config.jax_enable_x64


CACHE = """
import jax, sys
import wigner_jax as wj
given = eval(sys.argv[1])
print(wj.enable_compilation_cache(given), jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize(
    ("chosen", "given", "expected"),
    [
        (None, None, "cache/wigner-jax cache/wigner-jax"),  # the user's cache folder
        (None, "mine", "mine mine"),
        ("own", None, "own own"),  # the environment's choice stands ...
        ("own", "mine", "mine mine"),  # ... unless a folder is given
    ],
)
def test_the_compilation_cache(in_an_empty_folder, chosen, given, expected) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment |= {"XDG_CACHE_HOME": "cache"} | ({"JAX_COMPILATION_CACHE_DIR": chosen} if chosen else {})
    command = [sys.executable, "-c", CACHE, repr(given)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (run.stdout.strip(), run.returncode) == (expected, 0), run.stderr


def test_help(capsys) -> None:
    for arguments in ([], ["kappa"], ["plot"]):
        with pytest.raises(SystemExit) as stop:
            cli.main([*arguments, "--help"])
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "usage: wigner-jax" in text
    with pytest.raises(SystemExit):
        cli.main(["kappa", "--help"])
    text = capsys.readouterr().out
    options = """SOURCE --potential --fc2-supercell --fc3-supercell --mesh --temperatures --broadening --sigma --nac
        --no-isotope --boundary-mfp --relax --no-relax --out --derivatives --index --quiet --allow-imaginary --threads"""
    for option in options.split():
        assert option in text


def test_help_is_as_wide_as_the_terminal(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paragraphs and lists are filled; a command that is shown stays one line."""
    for width in (72, 80, 120):
        monkeypatch.setenv("COLUMNS", str(width))
        for command in ([], ["kappa"], ["screen"], ["plot"], ["train"], ["cache"], ["models"]):
            with pytest.raises(SystemExit):
                cli.main([*command, "--help"])
            lines = capsys.readouterr().out.splitlines()
            assert [x for x in lines if len(x) > width and not x.startswith("  wigner-jax ")] == []
    assert "  a yaml       phono3py.yaml with fc2.hdf5 and fc3.hdf5 beside it, phono3py_params.yaml" in helped(
        capsys, "kappa"
    )


def helped(capsys, command: str) -> str:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    return capsys.readouterr().out


SLOW = """
import os, sys
from wigner_jax.cli import app
from wigner_jax.cli import models
def run(_):
    import jax, jax.numpy as jnp, numpy as np
    table = np.random.default_rng(0).normal(size=(12, 60))
    jax.jit(lambda x: x + jnp.ones((240_000, 12)) @ jnp.asarray(table))(jnp.zeros((240_000, 60)))
models.run = run
app.main(["models", *sys.argv[1:]])
"""


def test_what_the_compiler_says_of_itself_is_for_debugging() -> None:
    """XLA's alarm at a constant that takes more than a second to compute."""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"} | {
        "JAX_ENABLE_COMPILATION_CACHE": "0"
    }
    for more in ([], ["--debug"]):
        run = subprocess.run([sys.executable, "-c", SLOW, *more], capture_output=True, text=True, env=environment)
        assert run.stderr.strip() == "" or (more and "slow_operation_alarm" in run.stderr)


def test_the_crystals_that_go_by_name(capsys) -> None:
    assert cli.main(["prototypes"]) == 0
    text = capsys.readouterr().out
    assert set(wj.available_prototypes()) <= set(re.findall(r"\w+", text))
    assert re.search(r"^mace-bundled +Si, ", text, re.MULTILINE)


def test_an_internal_error_is_one_line(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    from wigner_jax.cli import kappa as commands

    def fail(_: object) -> int:
        raise KeyError("x")

    monkeypatch.setattr(commands, "run", fail)
    assert cli.main(["kappa", "Si"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(KeyError):
        cli.main(["kappa", "Si", "--debug"])

    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "run", interrupt)
    assert cli.main(["kappa", "Si"]) == 130


# --- report -----------------------------------------------------------------------------------------------------------


def test_durations() -> None:
    shown = [duration(t) for t in (0.04, 9.94, 9.96, 59.4, 59.6, 185, 7800)]
    assert shown == ["0.0 s", "9.9 s", "10 s", "59 s", "1 min 0 s", "3 min 5 s", "2 h 10 min"]


def test_progress_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 103.0, 103.1, 109.0, 112.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    stages = Progress(stream)
    with stages("conductivity"):
        stages.progress(25, 100)
        stages.progress(26, 100)  # too soon to show
        stages.progress(100, 100)
    shown = stream.getvalue().split("\r\x1b[K")
    assert shown == ["", "conductivity ...", "conductivity: 25/100, 9.0 s left", "conductivity: 100/100", ""]
    assert stages.times == {"conductivity": 12.0}
    assert report.times_table({"plan": 0.5, "conductivity": 12.0}) == (
        "time: plan 0.5 s, conductivity 12 s; in total 12 s, without start-up"
    )


def test_progress_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no terminal is: a line after ten seconds, then one every half minute, with the time of day."""
    clock = iter([100.0, 105.0, 111.0, 120.0, 142.0, 160.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    stream = io.StringIO()
    stages = Progress(stream)
    with stages("conductivity"):
        for done in (5, 11, 20, 42):
            stages.progress(done, 60)
    lines = stream.getvalue().splitlines()
    assert [re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", "", line) for line in lines] == [
        "conductivity: 11/60, 49 s left", "conductivity: 42/60, 18 s left",
    ]  # fmt: skip
    assert stages.times == {"conductivity": 60.0}


def test_the_tensor_is_shown_where_it_is_anisotropic() -> None:
    def conductivity(total: list[float]) -> SimpleNamespace:
        kappa = np.array([total])
        found = Conductivity(np.array([300.0]), 0.75 * kappa, 0.25 * kappa, *[np.zeros(0)] * 3)
        return SimpleNamespace(conductivity=found, crystal=SimpleNamespace(occupied=None))

    assert len(report.kappa_table(conductivity([2, 2, 2, 0, 0, 0])).splitlines()) == 2
    lines = report.kappa_table(conductivity([1, 2, 6, 0, 0, 0])).splitlines()
    assert lines[1].split() == ["300", "2.2500", "0.7500", "3.0000"]
    assert lines[-1].split() == ["300", "1.0000", "2.0000", "6.0000", "0.0000", "0.0000", "0.0000"]
    assert len(report.kappa_table(conductivity([2, 2, 2, 0.5, 0, 0])).splitlines()) == 5


# --- defaults ---------------------------------------------------------------------------------------------------------

WURTZITE = ase.build.bulk("BeO", "wurtzite", a=2.7, c=4.38)


@pytest.mark.parametrize(
    ("atoms", "fc2", "fc3", "mesh"),
    [
        (ase.build.bulk("NaCl", "rocksalt", a=5.69), 64, 64, (11, 11, 11)),
        (ase.build.bulk("NaCl", "rocksalt", a=5.69, cubic=True), 64, 64, (11, 11, 11)),
        (WURTZITE, 5 * 5 * 3 * 4, 4 * 4 * 2 * 4, (15, 15, 8)),
    ],
    ids=["primitive", "conventional", "wurtzite"],
)
def test_defaults(atoms: Atoms, fc2: int, fc3: int, mesh: tuple[int, ...]) -> None:
    cells = default_supercells(atoms)
    assert (cells.fc2_supercell.n_atoms, cells.fc3_supercell.n_atoms) == (fc2, fc3)
    for supercell, minimum in ((cells.fc2_supercell, 10), (cells.fc3_supercell, 8)):
        assert thickness(supercell.matrix @ np.asarray(cells.crystal.lattice)).min() >= minimum
    assert default_mesh(cells.crystal) == mesh


def test_what_the_structure_says_comes_first() -> None:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.69, cubic=True)
    atoms.info.update(fc2_supercell=np.diag([3, 3, 3]), fc3_supercell=[1, 1, 2])
    cells = default_supercells(atoms)
    assert (cells.fc2_supercell.n_atoms, cells.fc3_supercell.n_atoms) == (216, 16)
    assert default_supercells(atoms, fc3_supercell=(2, 2, 2)).fc3_supercell.n_atoms == 64


def test_conventional_cells() -> None:
    for atoms, count in (
        (ase.build.bulk("Si"), 4),
        (ase.build.bulk("W"), 2),
        (WURTZITE, 1),
        (ase.build.bulk("Bi", "rhombohedral", a=4.7, alpha=57), 3),
    ):
        crystal = supercells_from_atoms(atoms, (1, 1, 1), (1, 1, 1)).crystal
        assert round(np.linalg.det(conventional_matrix(crystal))) == count
    cubic = supercells_from_atoms(ase.build.bulk("Si", a=5.0), (1, 1, 1), (1, 1, 1)).crystal
    supercell = default_supercell(cubic, 10.0) @ np.asarray(cubic.lattice)
    np.testing.assert_allclose(supercell @ supercell.T, 100 * np.eye(3), atol=1e-9)  # exactly 10 Å is enough


# --- figures ----------------------------------------------------------------------------------------------------------


def test_without_seekpath(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file lacks bands, which is said with the remedy, and no time is counted for them."""
    monkeypatch.setitem(sys.modules, "seekpath", None)
    assert cli.main(["kappa", "Si", *map(str, SMALL), "-o", "si.hdf5"]) == 0
    output = capsys.readouterr()
    assert (
        "si.hdf5 has no bands: seekpath is not installed (python -m pip install seekpath, or the extra plot)"
        in output.err
    )
    assert "bands" not in output.out
    assert "bands" not in read_kappa_hdf5("si.hdf5")


def test_plot(capsys) -> None:
    run(capsys, "kappa", "Si", *SMALL, "-T", 300, 500, "-o", "si.hdf5")
    assert cli.main(["plot", "si.hdf5"]) == 0
    assert capsys.readouterr().out == "written: si.png\n"
    assert Path("si.png").read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["plot", "si.hdf5", "-T", "400"]) == 2
    assert "the file has no 400 K but 300, 500 K" in capsys.readouterr().err
    assert cli.main(["plot", "si.hdf5", "-o", "si.nonsense"]) == 2
    assert not Path("si.nonsense").exists()


def test_the_curves_are_the_data(capsys) -> None:
    from wigner_jax.plot.figures import summary_figure

    run(capsys, "kappa", "Si", *SMALL, "-T", 300, 500, "-o", "si.hdf5")
    data = read_kappa_hdf5("si.hdf5")
    lifetimes, conductivity, cumulative = summary_figure(data, 500.0).axes
    total = data["kappa_TOT_RTA"][:, :3].mean(axis=1)
    np.testing.assert_allclose(conductivity.lines[0].get_ydata(), total)
    np.testing.assert_allclose(cumulative.lines[0].get_ydata()[-1], total[1], rtol=1e-9)
    frequency, lifetime = np.asarray(lifetimes.collections[0].get_offsets()).T
    gamma = (data["gamma"][1] + data["gamma_isotope"]).ravel()
    shown = gamma > 0
    np.testing.assert_allclose(lifetime, 1 / (4 * np.pi * gamma[shown]))
    np.testing.assert_allclose(frequency, data["frequency"].ravel()[shown])
