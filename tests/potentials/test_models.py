"""Where published models come from, their cards, and ``wigner-jax models``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import original_programs as zoo
import pytest
from reference_materials import SHARED

from wigner_jax.cli.app import main
from wigner_jax.errors import InputError
from wigner_jax.potentials.cards import CARDS, card_of, recommended_route
from wigner_jax.potentials.neighbor_list import build_graph
from wigner_jax.potentials.nequix import published as nequix
from wigner_jax.potentials.registry import available_potentials, load_potential, locate_model, published_potentials
from wigner_jax.potentials.sevennet import published as sevennet

FILES = {
    "sevennet-0": "checkpoint_sevennet_0.pth",
    "sevennet-l3i5": "checkpoint_sevennet_l3i5.pth",
    **{name: f"{name}.nqx" for name in nequix.MODELS},
}


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No model on this machine, no network; a home folder of the test's own."""
    for variable in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.delenv("WIGNER_JAX_MODELS", raising=False)
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    monkeypatch.setattr("importlib.util.find_spec", lambda *_: None)
    return tmp_path


def _unreachable(*_, **__):
    raise OSError("no route")


# --- where models come from ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sevennet-0", "nequix-mp-1-pft"])
def test_missing_weights(nowhere, name):
    assert locate_model(name) is None
    with pytest.raises(
        InputError, match=rf"^{name} is not on this machine .*no route.*get https://.*put it at .*WIGNER"
    ):
        load_potential(name)


def test_a_folder_of_the_users(shared, nowhere, monkeypatch):
    """Its files go by the names that people give them; nothing is written there."""
    path = zoo.weights(shared, FILES["sevennet-l3i5"])
    monkeypatch.setenv("WIGNER_JAX_MODELS", str(path.parent))
    before = sorted(path.parent.iterdir())
    assert locate_model("sevennet-l3i5") == path
    assert load_potential("7net-l3i5").name == "sevennet-l3i5"
    assert load_potential("nequix-mp-1").name == "nequix-mp-1"
    assert sorted(path.parent.iterdir()) == before
    monkeypatch.setenv("WIGNER_JAX_MODELS", str(path))
    with pytest.raises(InputError, match="which is not a folder"):
        load_potential("sevennet-0")


def test_the_cache(shared, nowhere):
    folder = nowhere / "wigner-jax" / "potentials"
    folder.mkdir(parents=True)
    shutil.copy(zoo.weights(shared, FILES["nequix-mp-1"]), folder)
    assert locate_model("nequix-mp-1") == folder / "nequix-mp-1.nqx"
    assert load_potential("nequix-mp-1").name == "nequix-mp-1"


def test_the_file_of_another_model(shared, nowhere, monkeypatch):
    shutil.copy(zoo.weights(shared, FILES["sevennet-0"]), nowhere / "checkpoint_l3i5.pth")
    monkeypatch.setenv("WIGNER_JAX_MODELS", str(nowhere))
    with pytest.raises(InputError, match=r"l3i5\.pth is not the published sevennet-l3i5 \(.* that of sevennet-0\)"):
        load_potential("sevennet-l3i5")


@pytest.mark.parametrize("name", ["sevennet-0", "nequix-mp-1"])
def test_a_truncated_file(shared, nowhere, monkeypatch, name):
    data = zoo.weights(shared, FILES[name]).read_bytes()
    (nowhere / FILES[name]).write_bytes(data[: len(data) // 2])
    monkeypatch.setenv("WIGNER_JAX_MODELS", str(nowhere))
    with pytest.raises(InputError, match=rf"is not the published {name} \(sha256"):
        load_potential(name)
    with pytest.raises(InputError, match="complete"):
        load_potential(nowhere / FILES[name])


def test_the_file_of_an_installed_program(shared, nowhere, monkeypatch):
    """It is found without importing the program; another version's file is passed over."""
    package = nowhere / "site" / "sevenn"
    place = package / "pretrained_potentials" / "SevenNet_0__11Jul2024" / "checkpoint_sevennet_0.pth"
    place.parent.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere))
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    monkeypatch.syspath_prepend(str(nowhere / "site"))
    shutil.copy(zoo.weights(shared, FILES["sevennet-0"]), place)
    assert locate_model("sevennet-0") == place
    assert load_potential("sevennet-0").name == "sevennet-0"
    place.write_bytes(b"another version")
    with pytest.raises(InputError, match="cannot be downloaded"):
        load_potential("sevennet-0")
    assert "sevenn" not in sys.modules


def test_the_cache_of_the_original_program(shared, nowhere):
    place = nowhere / ".cache" / "nequix" / "models" / "nequix-mp-1.nqx"
    place.parent.mkdir(parents=True)
    shutil.copy(zoo.weights(shared, FILES["nequix-mp-1"]), place)
    assert locate_model("nequix-mp-1") == place
    assert load_potential("nequix-mp-1").name == "nequix-mp-1"


def test_a_published_file_is_recognised_by_its_content(shared, tmp_path):
    path = tmp_path / "mine.nqx"
    shutil.copy(zoo.weights(shared, FILES["nequix-mp-1"]), path)
    assert load_potential(path).name == "nequix-mp-1"
    assert card_of(load_potential(path)) is CARDS["nequix-mp-1"]


def test_neither_torch_nor_an_original_is_imported(shared):
    files = [zoo.weights(shared, FILES[name]) for name in ("sevennet-0", "nequix-mp-1")]
    code = "import sys; from wigner_jax import load_potential\nfor f in sys.argv[1:]: load_potential(f)\n"
    code += "assert not {'torch', 'sevenn', 'nequix', 'e3nn', 'e3nn_jax'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code, *map(str, files)], check=True)


@pytest.mark.parametrize("name", ["sevennet-0", "nequix-mp-1"])
def test_unsupported_species(shared, name):
    atoms = zoo.structures()["Mg2O2"].copy()
    atoms.numbers[0] = 100
    potential = load_potential(zoo.weights(shared, FILES[name]))
    with pytest.raises(ValueError, match=rf"^potential '{name}' does not know Fm; it covers 89 elements$"):
        build_graph(atoms, potential)


# --- cards -----------------------------------------------------------------------------------------------------------


def test_every_model_has_a_card():
    assert set(CARDS) == {*available_potentials(), *published_potentials()}
    assert {card.route for card in CARDS.values()} <= {"ad", "finite-displacement"}
    assert card_of("my own") is None
    assert recommended_route("my own") == recommended_route("nequix-mp-1") == "ad"
    assert recommended_route("sevennet-0") == "finite-displacement"


@pytest.mark.parametrize(
    "name", [*(pytest.param(name, marks=pytest.mark.shared) for name in FILES), *available_potentials()]
)
def test_cards_say_what_is_in_the_files(name):
    potential = load_potential(zoo.weights(SHARED, FILES[name]) if name in FILES else name)
    card = CARDS[name]
    assert potential.name == name
    assert sorted(potential.species) == sorted(card.elements)
    assert potential.cutoff == pytest.approx(card.cutoff)
    # the authors do not count scale, shift and denominators
    count = sum(
        np.size(value)
        for key, value in potential.params.items()
        if name in available_potentials() or not key.endswith(("scale", "shift", "denominator"))
    )
    assert count == card.parameters
    if name in sevennet.MODELS:
        assert bool(potential.nonsmooth_distances) == (card.continuous == 1)


def test_the_table(shared, nowhere, monkeypatch, capsys):
    assert main(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert set(CARDS) <= lines.keys()
    assert lines["sevennet-0"].split()[1:] == ["89", "5.00", "842,440", "MIT", "C¹", "FD", "to", "download"]
    assert lines["stillinger-weber-si"].endswith("built in")
    monkeypatch.setenv("WIGNER_JAX_MODELS", str(zoo.weights(shared, FILES["nequix-mp-1"]).parent))
    assert main(["models"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["nequix-mp-1"].endswith("AD     here")
    assert lines["mace-mp-0-medium"].endswith("to download")


def test_one_card(nowhere, capsys):
    assert main(["models", "7net-0"]) == 0
    text = capsys.readouterr().out
    assert "−21.5 Å⁻²" in " ".join(text.split())
    assert "finite displacements" in text
    assert max(map(len, text.splitlines())) <= 110
    assert main(["models", "nothing"]) == 2
    assert "unknown potential 'nothing'" in capsys.readouterr().err


def test_help_names_the_folder(capsys):
    with pytest.raises(SystemExit):
        main(["models", "--help"])
    assert "WIGNER_JAX_MODELS" in capsys.readouterr().out


def test_addresses_are_whole():
    for published in (*sevennet.MODELS.values(), *nequix.MODELS.values()):
        assert published.url.startswith("https://github.com/")
        assert len(published.sha256) == 64
        assert published.package is None or Path(published.package).name == published.file
