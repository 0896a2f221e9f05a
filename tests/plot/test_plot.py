"""Figures from stored files: the curves are the data, the reference is drawn where it belongs, errors are one line."""

from __future__ import annotations

import json
import shutil

import ase.build
import h5py
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from wigner_jax import make_plan
from wigner_jax._solve import phonons
from wigner_jax.cli.app import main
from wigner_jax.crystal.from_ase import supercells_from_atoms
from wigner_jax.crystal.supercells import shortest_vectors
from wigner_jax.errors import InputError
from wigner_jax.io.kappa_hdf5 import kappa_datasets, read_kappa_hdf5, write_datasets
from wigner_jax.io.phonondb import read_phonondb, write_phonondb
from wigner_jax.metrics import reference_of
from wigner_jax.physics.bands import phonon_bands
from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian
from wigner_jax.physics.conductivity import conductivity
from wigner_jax.plan.band_path import high_symmetry_path, mesh_points_on_path
from wigner_jax.plot.figures import FIGURES, make_figure
from wigner_jax.plot.harmonic import molar_heat_capacity, path_ticks
from wigner_jax.plot.style import new_figure
from wigner_jax.plot.transport import coherences, plot_coherences, plot_spectrum
from wigner_jax.solution import Solution
from wigner_jax.types import Linewidths, Scattering

MESH = (4, 4, 4)
PHONO3PY = [
    "version",
    "mesh",
    "temperature",
    "frequency",
    "group_velocity",
    "gv_by_gv",
    "heat_capacity",
    "gamma",
    "gamma_isotope",
    "kappa",
    "mode_kappa",
    "qpoint",
    "weight",
    "grid_point",
    "kappa_unit_conversion",
]


def springs(cells) -> np.ndarray:
    """Φ2 of springs to first and second neighbours: the simplest rocksalt that is stable."""
    crystal, supercell = cells.crystal, cells.fc2_supercell
    constants = np.zeros((crystal.n_atoms, supercell.n_atoms, 3, 3))
    images = shortest_vectors(crystal, supercell)
    a = np.linalg.norm(crystal.lattice[0]) * 2**0.5
    for i in range(crystal.n_atoms):
        for J in range(supercell.n_atoms):
            vector = crystal.positions[supercell.primitive_index[J]] + images[i][J][0] - crystal.positions[i]
            r = vector @ crystal.lattice
            length = np.linalg.norm(r)
            if 0.1 < length < 0.75 * a:
                constants[i, J] = -np.outer(r, r) / length**2 * (3.0 if length < 0.6 * a else 0.6)
        constants[i, supercell.p2s_map[i]] = -constants[i].sum(axis=0)
    return constants


@pytest.fixture(scope="module")
def rocksalt():
    """NaCl on springs with linewidths of nothing in particular: plan, Φ2, solution and bands."""
    cells = supercells_from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64), (3, 3, 3), (1, 1, 1))
    plan, second = make_plan(cells, MESH), springs(cells)
    waves = phonons(plan, second, None)
    P = len(plan.mesh.irreducible)
    rng = np.random.default_rng(3)
    three = np.repeat(rng.uniform(0.01, 0.1, (2, P, 1)), 6, axis=2)  # equal inside blocks
    widths = Linewidths(three, np.full((P, 6), 1e-3), np.zeros((P, 6)), np.array(False))
    T = np.array([300.0, 600.0])
    solution = Solution(
        waves,
        widths,
        conductivity(waves, widths.total, plan.mesh, plan.crystal, T),
        plan,
        None,
        Scattering(None),
        AdaptiveGaussian(),
    )
    return plan, second, solution, phonon_bands(plan, second)


@pytest.fixture(scope="module")
def file(rocksalt, tmp_path_factory):
    _, _, solution, bands = rocksalt
    path = tmp_path_factory.mktemp("kappa") / "nacl.hdf5"
    write_datasets(path, kappa_datasets(solution, bands))
    return path


@pytest.fixture(scope="module")
def reference(rocksalt):
    _, _, solution, _ = rocksalt
    return reference_of(solution, "mp-1", "NaCl", 225)


# --- bands ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "atoms",
    [ase.build.bulk("Si"), ase.build.bulk("W"), ase.build.bulk("BeO", "wurtzite", a=2.7, c=4.38)],
    ids=lambda a: str(a.symbols),
)
def test_the_path(atoms):
    crystal = supercells_from_atoms(atoms, (1, 1, 1), (1, 1, 1)).crystal
    path = high_symmetry_path(crystal)
    assert path.qpoints.shape == (240, 3)
    assert len(np.unique(path.segment)) == len(path.labels)
    assert np.all(np.diff(path.distance) >= -1e-12)
    step = np.linalg.norm(np.diff(path.qpoints, axis=0) @ np.linalg.inv(crystal.lattice).T, axis=1)
    inside = np.diff(path.segment) == 0
    np.testing.assert_allclose(np.diff(path.distance)[inside], step[inside], atol=1e-12)
    ends = {name for pair in path.labels for name in pair}
    assert "GAMMA" in ends
    names = [label for _, label in path_ticks(path.distance, path.segment, np.array(path.labels, dtype=bytes))]
    assert "Γ" in names
    assert len(names) <= len(path.labels) + 1


def test_bands_meet_the_mesh(rocksalt):
    """At every node of the path that is a mesh point the bands are that point's frequencies."""
    plan, _, solution, bands = rocksalt
    path = bands.path
    where, which = mesh_points_on_path(path.qpoints, path.distance, path.segment, plan.crystal, MESH)
    frequencies = np.asarray(solution.phonons.frequencies)[np.asarray(plan.mesh.irreducible)]
    met = 0
    for x, star in zip(where, which, strict=True):
        for node in np.flatnonzero(np.abs(path.distance - x) < 1e-9):
            q = path.qpoints[node] * MESH
            if np.abs(q - np.rint(q)).max() < 1e-9:  # K and U stand at one distance, and are not of the mesh
                np.testing.assert_allclose(bands.frequencies[node], frequencies[star], atol=2e-6)
                met += 1
    assert met >= 8  # Γ X, Γ, Γ L, L W, W X
    assert bands.frequencies.min() > -1e-4


@pytest.mark.parametrize("method", ["gonze", pytest.param("wang", marks=pytest.mark.slow)])
def test_polar_bands_split_at_the_zone_centre(method):
    """The longitudinal optical band of NaCl joins Γ continuously, well above the transverse ones."""
    from reference_materials import load

    from wigner_jax.physics.nac import GonzeLee, Wang
    from wigner_jax.plan.dipoles import dipole_plan

    material = load("nacl-mace")
    plan = make_plan(material.cells, (2, 2, 2))
    polar = Wang(material.born) if method == "wang" else GonzeLee(
        material.born, dipole_plan(material.cells.crystal, material.cells.fc2_supercell)
    )  # fmt: skip
    bands = phonon_bands(plan, material.constants.fc2, polar)
    centre = np.flatnonzero(np.abs(bands.path.qpoints).max(axis=1) < 1e-9)
    assert len(centre) == 3
    assert np.all(np.diff(bands.frequencies[centre][:, 4:6]) > 2.0)
    np.testing.assert_allclose(bands.frequencies[centre], bands.frequencies[centre[:1]].repeat(3, axis=0), atol=0.02)
    inside = np.where(centre == 0, 1, np.where(bands.path.segment[centre] == bands.path.segment[centre - 1], -1, 1))
    np.testing.assert_allclose(bands.frequencies[centre + inside][:, 5], bands.frequencies[centre][:, 5], atol=0.05)


# --- curves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [name for name in FIGURES if name != "spectral-map"]
)  # tests/physics/test_path_spectra.py
def test_every_figure_draws(file, reference, name):
    figure = make_figure(name, read_kappa_hdf5(file), 600.0, reference)
    FigureCanvasAgg(figure).draw()
    for ax in figure.axes:
        assert ax.get_xlabel() or ax.get_ylabel()


def test_the_stored_map_is_kappa_C(file):
    data = read_kappa_hdf5(file)
    np.testing.assert_allclose(data["kappa_C_map"].sum(axis=(1, 2)), data["kappa_C"][:, :3].mean(axis=1), rtol=1e-12)
    cells, edges = coherences({k: v for k, v in data.items() if not k.startswith("kappa_C_map")}, 1)
    np.testing.assert_allclose(cells, data["kappa_C_map"][1], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(edges, data["kappa_C_map_edges"])
    ax = new_figure(4, 3).subplots()
    plot_coherences(ax, data, 600.0)
    density = np.ma.filled(ax.collections[0].get_array(), 0.0).reshape(cells.shape)
    np.testing.assert_allclose(np.nansum(density) * np.diff(edges)[0] ** 2, cells.sum(), rtol=1e-9)


def test_spectra_are_the_parts_of_kappa(file, reference):
    data = read_kappa_hdf5(file)
    ax = new_figure(4, 3).subplots()
    plot_spectrum(ax, data, 300.0, reference)
    total, populations, coherent, expected = (np.trapezoid(line.get_ydata(), line.get_xdata()) for line in ax.lines)
    kappa = [data[k][0, :3].mean() for k in ("kappa_TOT_RTA", "kappa_P_RTA", "kappa_C")]
    np.testing.assert_allclose([total, populations, coherent], kappa, rtol=2e-3)  # on 400 points
    np.testing.assert_allclose(expected, total, rtol=1e-6)
    *_, paths = make_figure("spectral", data, 300.0).axes
    np.testing.assert_allclose(paths.lines[0].get_ydata()[-1], kappa[1], rtol=1e-9)


def test_the_reference_lies_on_its_own_curves(file, reference):
    data = read_kappa_hdf5(file)
    bands, states = make_figure("bands", data, None, reference).axes
    marks = bands.lines[-1]
    assert len(marks.get_xdata()) >= 6 * 8
    assert bands.get_xlim()[0] <= marks.get_xdata().min() <= marks.get_xdata().max() <= bands.get_xlim()[1]
    np.testing.assert_allclose(states.lines[0].get_xdata(), states.lines[1].get_xdata(), rtol=1e-9)
    (capacity,) = make_figure("heat-capacity", data, None, reference).axes
    stored = next(line for line in capacity.lines if line.get_label() == "reference, stored")
    np.testing.assert_allclose(stored.get_ydata(), molar_heat_capacity(
        data["frequency"], data["weight"], data["temperature"]), rtol=1e-9)  # fmt: skip
    assert 23.5 < stored.get_ydata()[-1] < 3 * 8.3145
    (kappa,) = make_figure("kappa", data, None, reference).axes
    np.testing.assert_allclose(kappa.lines[-1].get_ydata(), data["kappa_TOT_RTA"][:, :3].mean(axis=1), rtol=1e-9)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_reference_can_be_made_and_read(reference, tmp_path):
    for name in ("made.json", "made.json.gz"):
        write_phonondb(tmp_path / name, [reference])
        (back,) = read_phonondb(tmp_path / name).values()
        for key, value in vars(reference).items():
            np.testing.assert_array_equal(getattr(back, key), value)
    assert {p.name for p in tmp_path.iterdir()} == {"made.json", "made.json.gz"}
    with pytest.raises(InputError, match="choose another place"):
        write_phonondb(tmp_path / "nowhere" / "made.json", [reference])


def test_the_command(file, reference, tmp_path, capsys):
    write_phonondb(tmp_path / "dft.json", [reference])
    more = ["--figure", "heat-capacity", "--reference", str(tmp_path / "dft.json"), "--material"]
    assert main(["plot", str(file), "-o", str(tmp_path / "a.pdf"), *more, "NaCl"]) == 0
    assert (tmp_path / "a.pdf").read_bytes()[:4] == b"%PDF"
    capsys.readouterr()
    small = {k: v for k, v in read_kappa_hdf5(file).items() if k in PHONO3PY}
    write_datasets(tmp_path / "old.hdf5", small)
    write_datasets(tmp_path / "failed.hdf5", {"nothing": np.zeros(1)})
    with h5py.File(tmp_path / "failed.hdf5", "a") as record:
        record.attrs["record"] = json.dumps({"name": "LiBr", "failure": "imaginary modes"})
    before = set(tmp_path.iterdir())
    for arguments, message in (
        ([str(tmp_path / "old.hdf5"), "--figure", "bands"], "the file has no bands"),
        ([str(tmp_path / "old.hdf5"), "--figure", "coherence"], "the file has no coherences"),
        ([str(tmp_path / "failed.hdf5")], "LiBr has no conductivity (imaginary modes)"),
        ([str(file), *more[:-1]], "name it with --material"),
        ([str(file), *more, "mp-2"], "the reference has no mp-2"),
        ([str(file), "--material", "mp-1"], "give both"),
        ([str(tmp_path), "--figure", "bands"], "--figure belongs to one material"),
        ([str(file), "-o", str(tmp_path / "x.nonsense")], "cannot write"),
    ):
        assert main(["plot", *arguments]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert set(tmp_path.iterdir()) == before
    for name in ("all", "spectral", "summary"):  # what phono3py writes is enough for these
        assert main(["plot", str(tmp_path / "old.hdf5"), "--figure", name]) == 0


def test_another_mesh_is_refused(file, reference):
    import dataclasses

    with pytest.raises(InputError, match="on the mesh 5 5 5"):
        make_figure("summary", read_kappa_hdf5(file), None, dataclasses.replace(reference, mesh=(5, 5, 5)))
    with pytest.raises(InputError, match="choose from summary"):
        make_figure("nothing", read_kappa_hdf5(file))


# --- files that lack something ------------------------------------------------------------------------------------------


@pytest.fixture
def lacking(file, tmp_path):
    """A copy of the file without some datasets."""

    def make(*names: str):
        path = tmp_path / "kappa-m444.hdf5"
        shutil.copyfile(file, path)
        with h5py.File(path, "r+") as opened:
            for name in names:
                del opened[name]
        return path

    return make


ALWAYS = ("bands", "crystal", "velocity_operator", "mode_kappa_C", "kappa_C_map", "kappa_C_map_edges", "gamma_boundary")
OF_PHONO3PY = (*ALWAYS, "kappa_P_RTA", "kappa_C", "kappa_TOT_RTA", "mode_kappa_P_RTA", "mode_kappa_TOT")


@pytest.mark.parametrize(
    ("names", "figure", "note"),
    [
        (("mode_kappa", "gv_by_gv"), "all", "the spectrum needs mode_kappa, which the file lacks; mean free paths need gv_by_gv, mode_kappa"),
        (("gv_by_gv",), "all", "mean free paths need gv_by_gv, which the file lacks"),
        (("gamma",), "all", "lifetimes need gamma, which the file lacks; mean free paths need gamma"),
        (("kappa", "mode_kappa"), "all", "κ(T) needs kappa, which the file lacks; the spectrum needs mode_kappa"),
        (("mode_kappa",), "summary", "cumulative κ needs mode_kappa"),
        (("gv_by_gv",), "spectral", "mean free paths need gv_by_gv"),
        (("mesh", "qpoint", "gamma_isotope", "grid_point"), "all", "bands, which are in files made where seekpath is"),
    ],
)  # fmt: skip
def test_what_a_file_lacks_is_said(lacking, tmp_path, capsys, names, figure, note):
    path = lacking(*OF_PHONO3PY, *names)
    assert main(["plot", str(path), "--figure", figure, "-o", str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr().err
    assert (tmp_path / "a.png").stat().st_size > 5000
    assert said.startswith("note: not drawn: ")
    assert note in said
    assert said.count("\n") == 1


def test_a_figure_of_which_nothing_can_be_drawn_is_refused(lacking, tmp_path, capsys):
    path = lacking(*OF_PHONO3PY, "mode_kappa", "gv_by_gv")
    for figure, text in (
        ("spectral", "the spectrum needs mode_kappa"),
        ("bands", "has no bands"),
        ("coherence", "has no coherences"),
    ):
        assert main(["plot", str(path), "--figure", figure, "-o", str(tmp_path / "a.png")]) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
    assert main(["plot", str(lacking(*OF_PHONO3PY)), "-T", "301"]) == 2
    assert "the file has no 301 K but 300, 600 K" in capsys.readouterr().err


def test_other_names_of_conductivities(lacking, rocksalt):
    """kappa_intra and kappa_inter of phono3py 4.1 are populations and coherences."""
    path = lacking(*OF_PHONO3PY)
    with h5py.File(path, "r+") as opened:
        opened["kappa_intra"], opened["kappa_inter"] = np.full((2, 6), 3.0), np.full((2, 6), 0.5)
    lines = {line.get_label(): line.get_ydata() for line in make_figure("kappa", read_kappa_hdf5(path)).axes[0].lines}
    np.testing.assert_allclose(lines[r"$\kappa_\mathrm{P}$"], [3.0, 3.0])
    np.testing.assert_allclose(lines[r"$\kappa_\mathrm{C}$"], [0.5, 0.5])
