"""A campaign goes on with the contents it began with, whatever files are called; what has changed is said by name."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from killed_runs import campaign_options, write_campaign

from wigner_jax import load_potential, save_potential
from wigner_jax._core.fingerprint import fingerprint_of_file
from wigner_jax.cli import benchmark
from wigner_jax.cli.app import main
from wigner_jax.errors import InputError
from wigner_jax.evaluation.contents import potential_contents
from wigner_jax.evaluation.records import open_campaign, read_record, record_path, write_record
from wigner_jax.evaluation.settings import EvaluationSettings
from wigner_jax.ifc.calculator_factory import calculator_of

CALCULATOR = """
from ase.calculators.emt import EMT
def make():
    return EMT()
"""


@pytest.fixture(autouse=True)
def campaign(monkeypatch, tmp_path):
    """A finished campaign of three materials whose records are made in no time; `made` lists those made since."""
    made: list[str] = []

    def run(atoms, potential, reference, settings, stages):
        made.append(reference.mp_id)
        one = [1.0] * len(settings.temperatures)
        return {
            "mp_id": reference.mp_id, "name": reference.name, "space_group": 227, "failure": "no work", "kappa_DFT": one,
            "temperatures": list(settings.temperatures), "SRD": one, "SRE": one, "SRME": one,
        }, None  # fmt: skip

    monkeypatch.setattr(benchmark, "run_material", run)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    monkeypatch.chdir(tmp_path)
    write_campaign(tmp_path)
    save_potential(load_potential("tersoff-1989"), "model.json")
    assert main(options()) == 0
    assert made == ["mp-1", "mp-2", "mp-3"]
    made.clear()
    return made


def options(*more: str) -> list[str]:
    return campaign_options("out", *more, potential="model.json")


def refused(capsys, *more: str) -> str:
    capsys.readouterr()
    before = {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
    assert main(options(*more)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert before == {p: p.read_bytes() for p in Path("out").rglob("*") if p.is_file()}
    return error


def other_potential() -> None:
    potential = load_potential("model.json")
    save_potential(potential.with_params({**potential.params, "A": potential.params["A"] * 1.0001}), "model.json")


def test_nothing_changed(campaign):
    assert main(options()) == 0
    assert campaign == []


def test_another_potential_by_the_same_name(campaign, capsys):
    other_potential()
    error = refused(capsys)
    assert (
        "out holds a campaign of another potential by the name model.json: its contents changed: name another folder"
        in error
    )
    assert "--restart" in error
    assert main(options("--restart")) == 0
    assert campaign == ["mp-1", "mp-2", "mp-3"]
    assert main(options()) == 0
    assert len(campaign) == 3


@pytest.mark.parametrize(
    ("change", "says", "again"),
    [
        ({"masses": 1.01}, "the structure of mp-1 changed", ["mp-1"]),
        ({"scale": 1.01}, "the reference of mp-1, the reference of mp-2, the reference of mp-3 changed", ["mp-1", "mp-2", "mp-3"]),
    ],
    ids=["structure", "reference"],
)  # fmt: skip
def test_other_inputs_by_the_same_name(campaign, capsys, tmp_path, change, says, again):
    write_campaign(tmp_path, **change)
    error = refused(capsys)
    assert f"out holds records that were made from something else: {says}: name another folder, or --restart" in error
    assert main(options("--restart")) == 0
    assert campaign == again


def test_other_settings(campaign, capsys):
    assert "holds a campaign with broadening 'tetrahedron', not 'adaptive'" in refused(
        capsys, "--broadening", "adaptive"
    )
    assert main(options("--broadening", "adaptive", "--restart")) == 0
    assert campaign == ["mp-1", "mp-2", "mp-3"]


def test_the_table_never_mixes(campaign):
    """Two shards with --restart, one after the other: until the second has run, its materials have no row."""
    other_potential()
    for shard, made in (("1/2", ["mp-1", "mp-3"]), ("2/2", ["mp-1", "mp-3", "mp-2"])):
        assert main(options("--restart", "--shard", shard)) == 0
        assert campaign == made  # the first shard's records are not made again
        with Path("out/table.csv").open() as file:
            assert {row["mp_id"] for row in csv.DictReader(file)} == set(made)


def test_more_materials_in_another_order_are_no_change(campaign, tmp_path):
    """A structure file may grow; a record that is lost is made again, and no other."""
    frames = Path("solids.extxyz").read_text().splitlines(keepends=True)
    blocks = ["".join(frames[k : k + 10]) for k in range(0, len(frames), 10)]
    Path("solids.extxyz").write_text(blocks[2] + blocks[0] + blocks[1])
    record_path("out", "mp-2").unlink()
    assert main(options()) == 0
    assert campaign == ["mp-2"]


def test_a_copy_of_the_potential_is_the_same(campaign):
    content = Path("model.json").read_bytes()
    Path("model.json").unlink()
    Path("model.json").write_bytes(content)
    assert main(options()) == 0
    assert campaign == []


def test_records_that_do_not_say_are_taken_with_a_note(campaign, capsys):
    """Of version 0.2.0; --restart makes them again."""
    settings = json.loads(Path("out/settings.json").read_text())
    del settings["potential_contents"]
    Path("out/settings.json").write_text(json.dumps(settings))
    for mp_id in ("mp-1", "mp-2"):
        record = read_record(record_path("out", mp_id))
        del record["contents"]
        write_record("out", record, {})
    capsys.readouterr()
    assert main(options()) == 0
    assert campaign == []
    assert "note: 2 records of an earlier version do not say what they were made from" in capsys.readouterr().err
    assert main(options("--restart")) == 0
    assert campaign == ["mp-1", "mp-2"]


def test_what_stands_for_a_potential(tmp_path):
    """The bytes of a file, the numbers of a potential by name, the source of what makes a calculator."""
    before = potential_contents("model.json", load_potential("model.json"))
    other_potential()
    assert potential_contents("model.json", load_potential("model.json")) != before
    named = [load_potential(name) for name in ("tersoff-1989", "stillinger-weber-si")]
    assert len({potential_contents("x", p) for p in named}) == 2
    moved = named[0].with_params({**named[0].params, "A": np.nextafter(named[0].params["A"], np.inf)})
    assert potential_contents("x", moved) != potential_contents("x", named[0])
    Path("own_calculator.py").write_text(CALCULATOR)
    made = calculator_of("own_calculator:make")
    first = potential_contents("ase:own_calculator:make", made)
    Path("own_calculator.py").write_text(CALCULATOR + "# changed\n")
    assert potential_contents("ase:own_calculator:make", made) != first


@pytest.mark.parametrize("name", ["./model.json", "absolute", "copy.json"])
def test_contents_of_the_potential_decide_not_its_name(campaign, capsys, name):
    content = Path("model.json").read_bytes()
    Path("copy.json").write_bytes(content)
    name = str(Path("model.json").absolute()) if name == "absolute" else name
    assert main(campaign_options("out", potential=name)) == 0
    assert campaign == []
    capsys.readouterr()
    other_potential()
    Path("copy.json").write_bytes(Path("model.json").read_bytes())
    assert main(campaign_options("out", potential="copy.json")) == 2
    assert "of another potential, model.json: that of copy.json has other contents" in capsys.readouterr().err


def test_calculators_of_one_module_have_names(tmp_path):
    """Their contents are the source of the module, which may have several."""
    open_campaign("calculators", EvaluationSettings("ase:own:small"), "fingerprint")
    open_campaign("calculators", EvaluationSettings("ase:own:small"), "fingerprint")
    with pytest.raises(InputError, match="with potential 'ase:own:small', not 'ase:own:large'"):
        open_campaign("calculators", EvaluationSettings("ase:own:large"), "fingerprint")


@pytest.mark.parametrize("left", [None, "", "{"])
def test_settings_that_are_lost(campaign, capsys, left):
    """Records say what they were made from, so that a campaign goes on without its settings, or is refused."""
    path = Path("out/settings.json")
    before = path.read_bytes()
    path.unlink()
    if left is not None:
        path.write_text(left)
    if left:
        assert "settings.json is not of a campaign: remove it, and run again" in refused(capsys)
        path.unlink()
    assert main(options()) == 0
    assert campaign == []
    assert path.read_bytes() == before
    path.unlink()
    other_potential()
    assert main(options()) == 2
    assert "holds records that were made from something else: the potential changed" in capsys.readouterr().err


def test_lost_settings_of_records_that_do_not_say(campaign, capsys):
    record = read_record(record_path("out", "mp-2"))
    del record["contents"]
    write_record("out", record, {})
    Path("out/settings.json").unlink()
    error = refused(capsys)
    assert "settings.json is lost, and mp-2.hdf5 of an earlier version does not say what it was made from" in error
    assert "restore it, or --restart" in error
    assert main(options("--restart")) == 0
    assert campaign == ["mp-2"]


def test_a_file_called_like_a_model_is_not_the_model():
    """Names without a separator or a known ending are those of models, whatever lies in the current folder."""
    potential = load_potential("tersoff-1989")
    expected = potential_contents("tersoff-1989", potential)
    Path("tersoff-1989").write_text("something else")
    assert potential_contents("tersoff-1989", load_potential("tersoff-1989")) == expected
    assert potential_contents("./model.json", load_potential("./model.json")) == fingerprint_of_file(Path("model.json"))
