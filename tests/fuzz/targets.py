"""Every reader of the package with a small file that it reads, how that is changed, and what it promises of what it reads."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase.build
import ase.db
import ase.io
import h5py
import jax
import numpy as np
from fuzz import mutations
from small_models import write_chgnet, write_empirical, write_m3gnet, write_nequix, write_sevennet

if TYPE_CHECKING:
    from collections.abc import Callable

MACE = Path(__file__).parents[1] / "data/mace_reference/one-layer.model"


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader under test.

    Attributes:
        make: writes a good file, or a folder of some, under the path it is given.
        read: what reads it.
        change: writes a changed copy: (source, target, random numbers).
        files: of a folder, those that are changed.
        share: of the number of mutations, for readers that take longer.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    change: Callable[[Path, Path, np.random.Generator], None]
    name: str
    files: tuple[str, ...] = ()
    share: float = 1.0


def finite(tree: Any) -> None:
    """Every number of what was read is finite."""
    for leaf in jax.tree.leaves(tree):
        if isinstance(leaf, (float, np.ndarray, jax.Array)) and np.asarray(leaf).dtype.kind in "fc":
            assert np.isfinite(np.asarray(leaf)).all()


def _model(path: Path) -> None:
    from wigner_jax import load_potential

    potential = load_potential(str(path))
    finite(potential.params)
    assert 0 < potential.cutoff < 100
    repr(potential)


# --- models -----------------------------------------------------------------------------------------------------------


def _checkpoint(path: Path) -> None:
    from potentials.test_m3gnet import write_checkpoint

    rng = np.random.default_rng(0)
    path.mkdir()
    write_checkpoint(
        path / "model", {f"layers/{k}/kernel": rng.standard_normal((k + 1, 20)).astype(np.float32) for k in range(12)}
    )


def _read_checkpoint(path: Path) -> None:
    from wigner_jax.potentials.readers.tf_checkpoint import read_checkpoint

    for array in read_checkpoint(path / "model").values():
        assert array.nbytes < 10**6


MODELS = {
    "mace": Target(lambda p: p.write_bytes(MACE.read_bytes()), _model, mutations.archive, "a.model"),
    "nequix": Target(write_nequix, _model, mutations.plain, "a.nqx"),
    "sevennet": Target(write_sevennet, _model, mutations.archive, "a.pth"),
    "chgnet": Target(write_chgnet, _model, mutations.archive, "a.pth.tar"),
    "m3gnet": Target(write_m3gnet, _model, mutations.archive, "folder", ("state.pt",)),
    "m3gnet-json": Target(write_m3gnet, _model, mutations.json_tree, "folder", ("model.json",)),
    "tensorflow": Target(
        _checkpoint, _read_checkpoint, mutations.plain, "folder", ("model.index", "model.data-00000-of-00001")
    ),
    "closed-form": Target(write_empirical, _model, mutations.json_tree, "a.json"),
}


# --- calculations -----------------------------------------------------------------------------------------------------


def _calculation(path: Path, packed: bool = False) -> None:
    """Silicon with springs: phono3py.yaml, fc2.hdf5, fc3.hdf5, BORN."""
    import lzma

    from cli.test_bad_input import springs

    from wigner_jax.crystal.from_ase import supercells_from_atoms
    from wigner_jax.crystal.supercells import make_supercell

    path.mkdir()
    crystal = supercells_from_atoms(ase.build.bulk("Si"), (1, 1, 1), (1, 1, 1)).crystal
    supercell = make_supercell(crystal, 2 * np.eye(3, dtype=int))
    lattice = np.asarray(crystal.lattice)
    positions = np.asarray(crystal.positions)[supercell.primitive_index] + supercell.lattice_vector

    def cell(basis: np.ndarray, points: np.ndarray) -> dict[str, Any]:
        atoms = [{"symbol": "Si", "coordinates": list(map(float, x)), "mass": 28.0855} for x in points]
        return {"lattice": basis.tolist(), "points": atoms}

    data = {
        "phono3py": {"version": "4.1.0", "symmetry_tolerance": 1e-5},
        "primitive_matrix": np.eye(3).tolist(), "supercell_matrix": (2 * np.eye(3, dtype=int)).tolist(),
        "nac": {"born_effective_charge": np.zeros((2, 3, 3)).tolist(), "dielectric_constant": np.eye(3).tolist()},
        "unit_cell": cell(lattice, np.asarray(crystal.positions)), "primitive_cell": cell(lattice, np.asarray(crystal.positions)),
        "supercell": cell(2 * lattice, positions / 2),
    }  # fmt: skip
    text = json.dumps(data)
    (path / "phono3py.yaml").write_text(text)
    (path / "phono3py.yaml.xz").write_bytes(lzma.compress(text.encode()))
    for name, array in zip(("fc2", "fc3"), springs(crystal, supercell, 1.0, 1.0), strict=True):
        with h5py.File(path / f"{name}.hdf5", "w") as file:
            file[name if name == "fc3" else "force_constants"] = array
            file["p2s_map"] = [0, 8]


def _read_calculation(name: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from wigner_jax.io.phono3py import read_phono3py

        cells, constants, born = read_phono3py(path / name)
        finite((constants, cells.crystal.lattice, cells.crystal.positions, cells.crystal.masses))
        if born is not None:
            finite((born.charges, born.dielectric, born.factor))

    return read


def _born(path: Path) -> None:
    path.write_text("14.4\n" + "\n".join([" ".join(["2.5 0 0 0 2.5 0 0 0 2.5"])] * 3) + "\n")


def _read_born(path: Path) -> None:
    from wigner_jax.crystal.from_ase import supercells_from_atoms
    from wigner_jax.io.born import read_born

    born = read_born(
        path, supercells_from_atoms(ase.build.bulk("NaCl", "rocksalt", a=5.64), (1, 1, 1), (1, 1, 1)).crystal
    )
    finite((born.charges, born.dielectric, born.factor))


def _crystal(form: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64)
        if form == "extxyz":
            atoms.info |= {"mp_id": "mp-1", "fc2_supercell": [2, 2, 2], "fc3_supercell": [2, 2, 2], "q_mesh": [3, 3, 3]}
            atoms.arrays["forces"] = np.zeros((2, 3))
        ase.io.write(path, atoms, format=form)

    return make


def _structure(path: Path) -> None:
    from wigner_jax.io.structures import read_structure

    atoms = read_structure(path)
    assert np.isfinite(atoms.positions).all()
    assert np.isfinite(atoms.cell.array).all()
    assert len(atoms)


def _structures(path: Path) -> None:
    from wigner_jax.io.phonondb import read_phonondb_structures

    read_phonondb_structures(path)


def _dataset(path: Path) -> None:
    from wigner_jax.training.dataset import label_keys, read_structures

    label_keys(read_structures(path), {})


def _database(path: Path) -> None:
    with ase.db.connect(path) as database:
        for k in range(3):
            database.write(ase.build.bulk("Si"), data={"REF_forces": np.zeros((2, 3)), "REF_energy": float(k)}, key=k)


SALT = ase.build.bulk("NaCl", "rocksalt", a=5.64)


def _solution() -> Any:
    """NaCl on springs, with linewidths of nothing in particular."""
    from plot.test_plot import springs

    from wigner_jax import make_plan
    from wigner_jax._solve import phonons
    from wigner_jax.crystal.from_ase import supercells_from_atoms
    from wigner_jax.physics.broadening.gaussian import AdaptiveGaussian
    from wigner_jax.physics.conductivity import conductivity
    from wigner_jax.solution import Solution
    from wigner_jax.types import Linewidths, Scattering

    cells = supercells_from_atoms(SALT, (3, 3, 3), (1, 1, 1))
    plan = make_plan(cells, (3, 3, 3))
    waves = phonons(plan, springs(cells), None)
    P = len(plan.mesh.irreducible)
    widths = Linewidths(np.full((2, P, 6), 0.05), np.full((P, 6), 1e-3), np.zeros((P, 6)), np.array(False))
    found = conductivity(waves, widths.total, plan.mesh, plan.crystal, np.array([300.0, 600.0]))
    return Solution(waves, widths, found, plan, None, Scattering(None), AdaptiveGaussian())


def _kappa(path: Path) -> None:
    from wigner_jax.io.kappa_hdf5 import write_kappa_hdf5

    write_kappa_hdf5(path, _solution())


def _kappa_with_bands(path: Path) -> None:
    from plot.test_plot import springs

    from wigner_jax.crystal.from_ase import supercells_from_atoms
    from wigner_jax.io.kappa_hdf5 import kappa_datasets, write_datasets
    from wigner_jax.physics.bands import phonon_bands
    from wigner_jax.physics.path_spectra import PathSpectra

    solution = _solution()
    bands = phonon_bands(solution.plan, springs(supercells_from_atoms(SALT, (3, 3, 3), (1, 1, 1))))
    K, F = len(bands.path.qpoints), 5
    spectra = PathSpectra(
        np.linspace(0.0, 20.0, F), np.array([300.0]), bands.path.qpoints, bands.path.distance, bands.path.segment,
        np.array([bands.path.distance[bands.path.segment == k][[0, -1]] for k in range(len(bands.path.labels))]),
        bands.path.labels, bands.frequencies, *[np.ones((1, K, 6, F))] * 3, *[np.ones((K, F))] * 2,
        *[np.ones((1, K, F))] * 2,
    )  # fmt: skip
    write_datasets(path, kappa_datasets(solution, bands, spectra))


def _read_kappa(path: Path) -> None:
    from wigner_jax.io.kappa_hdf5 import SHAPES, read_kappa_hdf5

    data = read_kappa_hdf5(path)
    finite([np.asarray(data[name]) for name in SHAPES if name in data])


def _draw(path: Path) -> None:
    from types import SimpleNamespace

    from wigner_jax.cli.plot import run
    from wigner_jax.plot import FIGURES

    names = [name for name in FIGURES if name != "all"]  # its page of all others takes a second to draw
    name = names[path.stat().st_size % len(names)]
    options = {
        "file": str(path),
        "out": str(path.with_suffix(".svg")),
        "figure": name,
        "reference": None,
        "material": None,
        "temperature": None,
    }
    run(SimpleNamespace(**options))


def _reference(path: Path) -> None:
    from wigner_jax.io.phonondb import write_phonondb
    from wigner_jax.metrics import reference_of

    write_phonondb(path, [reference_of(_solution(), "mp-1", "NaCl", 225)])


def _read_reference(path: Path) -> None:
    from wigner_jax.io.phonondb import read_phonondb

    for reference in read_phonondb(path).values():
        finite((reference.kappa, reference.mode_kappa, reference.frequencies, reference.temperatures))
        assert np.all(reference.weights > 0)


def _given() -> Any:
    """Si in one conventional cell, with charges."""
    import wigner_jax as wj

    cells = wj.default_supercells(wj.prototype("Si"), (1, 1, 1), (1, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fc, _ = wj.force_constants(cells, wj.load_potential("tersoff-1989"))
    born = wj.BornCharges(np.zeros((2, 3, 3)), 12.0 * np.eye(3), np.array(14.399652))
    return wj.GivenConstants(cells, fc, born, (3, 3, 3), "Si")


def _written(format: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        import wigner_jax as wj

        wj.write_force_constants(path, _given(), format)

    return make


def _read_constants(name: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        import wigner_jax as wj

        given = wj.read_force_constants(path / name if name else path)
        finite(np.asarray(given.force_constants.fc2))
        finite(np.asarray(given.force_constants.fc3))

    return read


CALCULATIONS = {
    "own-constants": Target(
        _written("wigner-jax"),
        _read_constants("force_constants.hdf5"),
        mutations.hdf5,
        "folder",
        ("force_constants.hdf5",),
    ),
    "shengbte": Target(
        _written("shengbte"),
        _read_constants(""),
        mutations.plain,
        "folder",
        ("CONTROL", "FORCE_CONSTANTS_2ND", "FORCE_CONSTANTS_3RD"),
        share=0.5,
    ),
    "hiphive": Target(
        _written("hiphive"),
        _read_constants("force_constants.fcs"),
        mutations.plain,
        "folder",
        ("force_constants.fcs",),
        share=0.5,
    ),
    "phono3py": Target(
        _calculation, _read_calculation("phono3py.yaml"), mutations.yaml_tree, "folder", ("phono3py.yaml",)
    ),
    "phono3py-xz": Target(
        _calculation, _read_calculation("phono3py.yaml.xz"), mutations.yaml_tree, "folder", ("phono3py.yaml.xz",)
    ),
    "constants": Target(
        _calculation, _read_calculation("phono3py.yaml"), mutations.hdf5, "folder", ("fc2.hdf5", "fc3.hdf5")
    ),
    "born": Target(_born, _read_born, mutations.plain, "BORN"),
    "extxyz": Target(_crystal("extxyz"), _structure, mutations.plain, "a.extxyz"),
    "poscar": Target(_crystal("vasp"), _structure, mutations.plain, "POSCAR"),
    "cif": Target(_crystal("cif"), _structure, mutations.plain, "a.cif"),
    "traj": Target(_crystal("traj"), _structure, mutations.plain, "a.traj"),
    "extxyz-gz": Target(_crystal("extxyz"), _structure, mutations.packed, "a.extxyz.gz"),
    "structures": Target(_crystal("extxyz"), _structures, mutations.plain, "a.extxyz", share=0.5),
    "frames": Target(_crystal("extxyz"), _dataset, mutations.plain, "a.extxyz", share=0.5),
    "database": Target(_database, _dataset, mutations.plain, "a.db"),
    "kappa": Target(_kappa, _read_kappa, mutations.hdf5, "kappa-m333.hdf5"),
    "figures": Target(_kappa_with_bands, _draw, mutations.hdf5, "kappa-m333.hdf5", share=0.02),
    "reference": Target(_reference, _read_reference, mutations.json_tree, "dft.json"),
    "reference-gz": Target(_reference, _read_reference, mutations.json_tree, "dft.json.gz"),
}


# --- campaigns and training -------------------------------------------------------------------------------------------


def _campaign(path: Path) -> None:
    from wigner_jax.evaluation.records import open_campaign, write_record
    from wigner_jax.evaluation.settings import EvaluationSettings
    from wigner_jax.evaluation.tables import write_tables

    open_campaign(path, EvaluationSettings("tersoff-1989"))
    record = {
        "mp_id": "mp-1", "name": "NaCl", "space_group": 225, "failure": None, "temperatures": [300.0], "kappa_DFT": [5.0],
        "SRD": [0.1], "SRE": [0.1], "SRME": [0.3], "space_groups": [225, 225], "converged": True, "imaginary": False,
        "kappa": [5.5], "kappa_P": [[5.0] * 6], "kappa_C": [[0.5] * 6], "heat_capacity_error": [0.01], "frequency_error": 0.1,
        "frequency_error_high": 0.1, "frequency_shift_high": -0.1, "beyond_wigner": [0.1], "beyond_ioffe_regel": [0.0],
    }  # fmt: skip
    write_record(path, record, {"relax": 1.0}, None)
    write_tables(path, ["mp-1"])


def _read_record(path: Path) -> None:
    from wigner_jax.evaluation.records import read_record
    from wigner_jax.evaluation.tables import rows_of, summary_of
    from wigner_jax.evaluation.timings import write_times

    read_record(path / "records/mp-1.hdf5")
    summary_of(rows_of(path, ["mp-1"]))
    write_times(path, ["mp-1"])


def _read_settings(path: Path) -> None:
    from wigner_jax.evaluation.records import open_campaign
    from wigner_jax.evaluation.settings import EvaluationSettings

    open_campaign(path, EvaluationSettings("tersoff-1989"))


def _screening(path: Path) -> None:
    import wigner_jax as wj
    from wigner_jax.screening.folder import open_folder, write_outcome
    from wigner_jax.screening.material import Outcome, Prepared
    from wigner_jax.types import ForceConstants

    open_folder(path, ["Si"], wj.ScreenSettings(), {"the potential": "x"}, False)
    cells = wj.default_supercells(wj.prototype("Si"), (1, 1, 1), (1, 1, 1))
    constants = ForceConstants(np.ones((2, 8, 3, 3)), np.ones((2, 8, 8, 3, 3, 3)))
    record = {
        "name": "Si", "formula": "Si", "status": "done", "reason": "", "notes": ["a"], "seconds": {"total": 1.0}, "stage": "coarse",
        "contents": {"structure": "x"}, "temperatures": [300.0], "kappa": [5.0], "kappa_TOT": [[5.0] * 6],
        "kappa_P": [[5.0] * 6], "kappa_C": [[0.0] * 6], "atoms": [2, 8, 8], "mesh": [3, 3, 3], "space_groups": [227, 227],
        "volume": 20.0, "lowest_frequency": 0.0, "lattice": np.eye(3).tolist(), "positions": [[0, 0, 0], [0.2, 0, 0]],
        "numbers": [14, 14],
    }  # fmt: skip
    write_outcome(path, "coarse", Outcome(record, None, Prepared(cells, constants, None)), True)


def _read_screening(path: Path) -> None:
    import wigner_jax as wj
    from wigner_jax.screening.folder import open_folder, read_prepared, read_record, rows_of

    open_folder(path, ["Si"], wj.ScreenSettings(), {"the potential": "x"}, False)
    record = read_record(path, "Si", "coarse")
    if record is not None:
        assert np.isfinite(rows_of([record])[0]["kappa"] or 0.0)
    found = read_prepared(path, "Si")
    assert found is None or np.all(np.asarray(found.force_constants.fc3) == 1)


def _read_table(path: Path) -> None:
    from types import SimpleNamespace

    from wigner_jax.cli.plot import run

    options = dict.fromkeys(("figure", "reference", "material", "temperature"))
    run(SimpleNamespace(file=str(path), out=str(path / "a.svg"), **options))  # type: ignore[arg-type]


def _gammas(path: Path) -> None:
    path.write_text("mp_id,name,gamma_DFT\nmp-1,NaCl,1.5\nmp-2,Si,0.9\n")


def _read_gammas(path: Path) -> None:
    from wigner_jax.evaluation.gruneisen import read_gammas

    assert np.isfinite(list(read_gammas(str(path)).values())).all()


def _state() -> Any:
    import jax.numpy as jnp
    import optax

    from wigner_jax.training.model import Model
    from wigner_jax.training.train_state import initial_state

    params = {"A": jnp.arange(20.0), "b": jnp.float32(0.5)}
    return initial_state(Model(_nothing, params, {}), optax.adam(1e-3))


def _nothing(*_: Any) -> float:
    return 0.0


def _save_state(path: Path) -> None:
    from wigner_jax.training.train_state import save_state

    state = _state().replace(epoch=2, best_epoch=1, best_score=0.5, history=[{"epoch": 0}], sums={"loss": [1.0]})
    save_state(path, state, {"a": 1})


def _load_state(path: Path) -> None:
    from wigner_jax.training.train_state import load_state

    state = load_state(path, _state(), {"a": 1})
    assert np.isfinite(state.damping)
    assert state.epoch >= 0


def _config(command: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.mkdir()
        _crystal("extxyz")(path / "frames.extxyz")
        text = {
            "train": "potential: mace-bundled\noutput: run\ndata: {train: [frames.extxyz, frames.extxyz], validation: 0.5}\nbatch: 2\n"
            "epochs: 3\noptimizer: {name: adam, learning_rate: 0.001, schedule: cosine, clip: 10.0}\nema: 0.99\n"
            "loss: {energy: 0.0, forces: 1.0, stress: 0.0}\nseed: 1\n",
            "finetune": "potential: tersoff-1989\noutput: run\nmaterials:\n  - structure: Si\n    mesh: [3, 3, 3]\n"
            "    temperatures: [300]\n    targets: {kappa: {weight: 1.0, value: 100.0}, imaginary: {weight: 1.0, floor: 0.1}}\n"
            "train: ['*']\noptimizer: {name: adam, learning_rate: 0.001, schedule: cosine}\nepochs: 2\n",
        }[command]
        (path / "config.yaml").write_text(text)

    return make


def _read_config(command: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        from wigner_jax._core.reading import reading
        from wigner_jax.training.config_schema import flat, parse, read_yaml
        from wigner_jax.training.optimizers import make_optimizer

        with reading(path / "config.yaml", "a configuration"):  # as `read_config` does before it reads other files
            given = parse(read_yaml(path / "config.yaml"), command)
            finite(flat(given))
            make_optimizer(given["optimizer"], 10, command)

    return read


CAMPAIGNS = {
    "record": Target(_campaign, _read_record, mutations.hdf5, "folder", ("records/mp-1.hdf5",)),
    "settings": Target(_campaign, _read_settings, mutations.json_tree, "folder", ("settings.json",)),
    "screening": Target(_screening, _read_screening, mutations.hdf5, "folder", ("coarse/Si.hdf5",)),
    "screen-settings": Target(_screening, _read_screening, mutations.json_tree, "folder", ("settings.json",)),
    "times": Target(_campaign, _read_record, mutations.json_tree, "folder", ("times/mp-1.json",), share=0.3),
    "table": Target(_campaign, _read_table, mutations.plain, "folder", ("table.csv",), share=0.25),
    "gammas": Target(_gammas, _read_gammas, mutations.plain, "a.csv"),
    "checkpoint": Target(_save_state, _load_state, mutations.archive, "checkpoint.npz"),
    "train": Target(_config("train"), _read_config("train"), mutations.yaml_tree, "folder", ("config.yaml",)),
    "finetune": Target(_config("finetune"), _read_config("finetune"), mutations.yaml_tree, "folder", ("config.yaml",)),
}
GROUPS = {"models": MODELS, "calculations": CALCULATIONS, "campaigns": CAMPAIGNS}
TARGETS = {name: target for group in GROUPS.values() for name, target in group.items()}

os.environ.setdefault("MPLBACKEND", "agg")
