"""Reading and writing checkpoints, where they come from, and what is refused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from wigner_jax.errors import InputError
from wigner_jax.potentials.mace.files import export_mace, load_mace, load_state, trainable
from wigner_jax.potentials.mace.published import MODELS
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.readers.torch_archive import Stub, read_archive, tensors
from wigner_jax.potentials.registry import load_potential, published_potentials

SOURCE = Path(__file__).parents[1] / "data/mace_reference" / "two-heads.model"


def rewritten(target: Path, change, source: Path = SOURCE) -> Path:
    """A copy of an archive in which `change(name within the archive, bytes)` was applied to every member."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
    return target


def plain(value) -> bytes:
    """Opcodes that push a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]


def save_state(path: Path, weights: dict[str, np.ndarray], shape=None, strides=None, under: str | None = None) -> Path:
    """What torch.save writes of a dictionary of float64 tensors, as opcodes; shape and strides may lie."""
    data = b"}("
    with zipfile.ZipFile(path, "w") as archive:
        for key, (name, value) in enumerate(weights.items()):
            value = np.asarray(value, np.float64, order="C")
            layout = (0, shape or value.shape, strides or tuple(s // 8 for s in value.strides))
            storage = b"(" + plain("storage") + b"ctorch\nDoubleStorage\n" + plain(str(key)) + plain("cpu")
            data += plain(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
            data += storage + plain(value.size) + b"tQ" + b"".join(map(plain, layout)) + plain(False)
            data += b"ccollections\nOrderedDict\n)RtR"
            archive.writestr(f"a/data/{key}", value.tobytes())
        data += b"u"
        data = data if under is None else b"}(" + plain(under) + data + plain("epoch") + plain(3) + b"u"
        archive.writestr("a/data.pkl", b"\x80\x02" + data + b".")
    return path


def with_pickle(target: Path, data: bytes) -> Path:
    return rewritten(target, lambda name, old: data if name == "data.pkl" else old)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_archive_is_read_as_stubs_and_tensors():
    root = read_archive(SOURCE)
    assert isinstance(root, Stub)
    assert root.kind() == "ScaleShiftMACE"
    assert root.find("interactions.0").kind() == "RealAgnosticDensityInteractionBlock"
    assert root.find("interactions.0.nothing.here") is None
    found = tensors(root)
    assert found["atomic_energies_fn.atomic_energies"].array.shape == (2, 3)
    assert found["interactions.0.linear_up.weight"].trainable
    assert not found["scale_shift.scale"].trainable
    expected = {name: found[name].trainable for name in load_mace(SOURCE, head="pbe").params}
    assert trainable(expected) == expected


class Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (Evil(os.system, "touch {}"), f"{os.name if os.name != 'nt' else 'nt'}.system"),
        (Evil(eval, "open('{}', 'w')"), "eval"),
        (Evil(shutil.rmtree, "{}"), "shutil.rmtree"),
        (Evil(getattr, "x", "upper"), "getattr"),
    ],
)
def test_a_pickle_that_imports_is_refused_by_name(tmp_path, payload, name):
    mark = tmp_path / "mark"
    payload.arguments = tuple(a.replace("{}", str(mark)) for a in payload.arguments)
    path = with_pickle(tmp_path / "evil.model", pickle.dumps(payload, protocol=2))
    with pytest.raises(InputError, match=rf"refused, the file asks to import '\w+\.?{name.rpartition('.')[2]}'"):
        load_potential(path)
    assert not mark.exists()


def test_calls_of_known_packages_do_nothing(tmp_path):
    """A pickle may call torch's functions as much as it likes: they are stubs."""
    data = b"\x80\x02ctorch.hub\nload\nX\x04\x00\x00\x00evil\x85R."
    found = read_archive(with_pickle(tmp_path / "call.model", data))
    assert isinstance(found, Stub)
    assert found.path == "torch.hub.load"
    assert found.args == ("evil",)


@pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
def test_truncated_files_are_refused(tmp_path, share):
    data = SOURCE.read_bytes()
    path = tmp_path / "short.model"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InputError, match="not a complete PyTorch archive"):
        load_mace(path)


def test_damaged_files_raise_nothing_else(tmp_path):
    original = zipfile.ZipFile(SOURCE).read(next(n for n in zipfile.ZipFile(SOURCE).namelist() if "data.pkl" in n))
    rng = np.random.default_rng(0)
    for trial in range(60):
        data = bytearray(original)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(256)
        path = with_pickle(
            tmp_path / f"{trial}.model", bytes(data[: rng.integers(1, len(data))] if trial % 2 else data)
        )
        with contextlib.suppress(InputError):  # a changed number may go unnoticed; no other exception may leave
            load_mace(path, head="pbe")


@pytest.mark.parametrize(
    ("shape", "strides"), [((5,), (1,)), ((2, 2), (4, 1)), ((10**12,), (0,)), ((-1,), (1,)), ((2,), (-1,))]
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, shape, strides):
    path = save_state(tmp_path / "tensor.pt", {"w": np.arange(4.0)}, shape, strides)
    with pytest.raises(InputError, match="not a PyTorch archive with an undamaged pickle"):
        read_archive(path)


def test_a_folder_a_missing_file_and_other_formats_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_potential(tmp_path / "nothing.model")
    with pytest.raises(InputError, match="is a folder"):
        load_mace(tmp_path)
    with zipfile.ZipFile(tmp_path / "other.model", "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(InputError, match="without a pickle"):
        load_mace(tmp_path / "other.model")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"RealAgnosticDensityInteractionBlock", b"RealAgnosticAttitudeInteractionBloc", "interaction block 'RealAgn"),
        (b"ScaleShiftMACE", b"AtomicDipoles_", "AtomicDipoles_', not a MACE model"),
        (b"NonLinearReadoutBlock", b"NonLinearReadoutBlack", "readout 'NonLinearReadoutBlack' is not supported"),
        (b"BesselBasis", b"VesselBasis", "radial module 'VesselBasis' is not supported"),
        (b"AgnesiTransform", b"AgnostTransform", "radial module 'AgnostTransform' is not supported"),
        (b"torch.nn.functional\nsilu", b"torch.nn.functional\nselu", "activation torch.nn.functional.selu is not"),
        (b"e3nn.o3._linear\nLinear", b"e3nn.o3._linear\nLoneer", "type 'e3nn.o3._linear.Loneer'"),
    ],
)
def test_unknown_parts_are_named(tmp_path, old, new, message):
    def change(name, data):
        assert name != "data.pkl" or old in data
        return data.replace(old, new) if name == "data.pkl" else data

    path = rewritten(tmp_path / "other.model", change)
    with pytest.raises(InputError, match=message) as error:
        load_mace(path, head="pbe")
    assert str(path) in str(error.value)


def test_weights_that_are_not_finite_are_named(tmp_path):
    tensor = tensors(read_archive(SOURCE))["interactions.0.linear_up.weight"]
    values = tensor.array.copy()
    values[3] = np.nan
    path = rewritten(
        tmp_path / "nan.model", lambda name, data: values.tobytes() if name == f"data/{tensor.storage}" else data
    )
    with pytest.raises(InputError, match=r"'interactions.0.linear_up.weight' holds 1 non-finite numbers \(first at"):
        load_mace(path, head="pbe")


def test_unknown_elements_and_overlapping_atoms_are_named():
    potential = load_mace(SOURCE, head="pbe")
    with pytest.raises(ValueError, match=r"'two-heads' does not know Na, Cl; it covers O, Mg, Si"):
        build_graph(bulk("NaCl", "rocksalt", a=5.6), potential)
    twins = Atoms("MgO2", positions=[[0, 0, 0], [2, 0, 0], [2, 0.01, 0]], cell=[6, 6, 6], pbc=True)
    with pytest.raises(InputError, match=r"atoms 1 and 2 .* are 0.01 Å apart"):
        build_graph(twins, potential)


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "head"), [("two-heads", "pbe"), ("single-precision", None)])
def test_exported_parameters_are_read_back(tmp_path, name, head):
    source = SOURCE.with_name(f"{name}.model")
    potential = load_mace(source, head=head)
    rng = np.random.default_rng(1)
    changed = potential.with_params({k: v + rng.standard_normal(np.shape(v)) for k, v in potential.params.items()})
    target = tmp_path / "tuned.model"
    written = export_mace(changed, source, target)
    again = load_mace(target, head=head)
    assert again.energy == potential.energy
    for key, value in changed.params.items():
        np.testing.assert_array_equal(again.params[key], written.params[key])
        np.testing.assert_allclose(written.params[key], value, rtol=0 if name == "two-heads" else 1e-6, atol=0)
    # nothing but numbers has changed
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target) as new:
        assert old.namelist() == new.namelist()
        pickled = next(n for n in old.namelist() if n.endswith("data.pkl"))
        assert old.read(pickled) == new.read(pickled)


def test_export_refuses_what_does_not_fit(tmp_path):
    potential = load_mace(SOURCE, head="pbe")
    with pytest.raises(InputError, match="another file than the template"):
        export_mace(potential, SOURCE, SOURCE)
    with pytest.raises(InputError, match=r"weight '.*' should have shape"):
        export_mace(potential, SOURCE.with_name("single-precision.model"), tmp_path / "x.model")
    bad = potential.with_params({**potential.params, "scale_shift.scale": np.array([np.inf, 1.0])})
    with pytest.raises(InputError, match="non-finite"):
        export_mace(bad, SOURCE, tmp_path / "x.model")
    assert not (tmp_path / "x.model").exists()


# --- where models come from ------------------------------------------------------------------------------------------


def test_a_name_without_a_file_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    place = tmp_path / "wigner-jax" / "potentials" / "2023-12-03-mace-128-L1_epoch-199.model"
    with pytest.raises(InputError, match=r"no route.*: get https://.*epoch-199\.model and put it at ") as error:
        load_potential("mace-mp-0")
    assert str(place) in str(error.value)


def _unreachable(*_, **__):
    raise OSError("no route")


class _Answer:
    def __init__(self, data, length):
        self.data, self.headers = data, {"Content-Length": str(length)}

    def read(self, size=-1):
        data, self.data = self.data, b""
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_a_download_is_kept_and_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = SOURCE.with_name("one-layer.model").read_bytes()
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: _Answer(data[:100], len(data)))
    with pytest.raises(InputError, match="the connection ended after 100 of"):
        load_potential("mace-mpa-0")
    folder = tmp_path / "wigner-jax" / "potentials"
    assert list(folder.iterdir()) == []

    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: _Answer(data, len(data)))
    first = load_potential("mace-mpa-0")
    assert first.name == "mace-mpa-0-medium"
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    assert load_potential("MACE-MPA-0-medium").energy == first.energy

    file = folder / MODELS["mace-mpa-0-medium"].file
    file.write_bytes(data + b"x")
    with pytest.raises(InputError, match=r"is not the published mace-mpa-0-medium \(sha256"):
        load_potential("mace-mpa-0")
    wrong = MODELS["mace-mpa-0-medium"]._replace(sha256=hashlib.sha256(b"").hexdigest())
    monkeypatch.setitem(MODELS, "mace-mpa-0-medium", wrong)
    file.write_bytes(data)
    with pytest.raises(InputError, match="expected e3b0c44298fc1c14"):
        load_potential("mace-mpa-0")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(InputError, match=r"unknown potential 'mace-mp-0-medum': did you mean mace-mp-0-medium\?"):
        load_potential("mace-mp-0-medum")
    assert "mace-mp-0b3-medium" in published_potentials()


def test_weights_of_a_training_checkpoint_go_into_a_model(tmp_path):
    potential = load_mace(SOURCE, head="pbe")
    more = {name: np.asarray(value) + 1 for name, value in potential.params.items()}
    path = tmp_path / "training.pt"
    for under in (None, "model"):
        loaded = load_state(save_state(path, more, under=under), potential)
        for name, value in more.items():
            np.testing.assert_array_equal(loaded.params[name], value)
    with pytest.raises(InputError, match="weights without a model"):
        load_mace(path)
    with pytest.raises(InputError, match=r"weight '.*' should have shape"):
        load_state(save_state(path, {name: np.zeros(2) for name in more}), potential)
