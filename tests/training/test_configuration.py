"""The one schema: what it reads, what it says, its documentation; and that only training loads Flax."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from wigner_jax.cli.app import build_parser
from wigner_jax.errors import InputError
from wigner_jax.training.config_schema import BOTH, KEYS, children, flat, help_text, markdown, parse

DOCS = Path(__file__).parents[2] / "docs"
SMALL = {
    "finetune": {
        "potential": "a",
        "output": "b",
        "materials": [{"structure": "Si", "targets": {"kappa": {"value": 1}}}],
    },
    "train": {"potential": "a", "output": "b", "data": {"train": "a.extxyz"}},
}


@pytest.mark.parametrize("command", BOTH)
def test_defaults(command):
    """Whatever both commands have is read alike; tables are filled, one that was not given may be absent."""
    found = parse(SMALL[command], command)
    assert found["optimizer"] == {
        "name": "amsgrad", "learning_rate": 1e-3, "clip": 10.0, "schedule": {"name": "cosine", "warmup": None, "final": 0.0}
    }  # fmt: skip
    assert (found["ema"], found["seed"], found["early_stopping"]) == (0.99, 0, {"patience": None})
    assert (found["data"] is None) == (command == "finetune")
    assert set(found) == set(children("", command))
    with pytest.raises(InputError, match="epochs and steps were both given"):
        parse({**SMALL[command], "epochs": 1, "steps": 1}, command)
    assert parse({**SMALL[command], "steps": 5}, command)["epochs"] is None


def test_defaults_differ_only_where_the_meaning_says_why():
    assert {k.name for k in KEYS if isinstance(k.default, dict)} == {"batch", "epochs", "precision", "data.validation"}


@pytest.mark.parametrize("command", BOTH)
def test_every_key_is_found_from_everywhere(command):
    """A key in the wrong table is pointed to the right one, or said to be the other command's."""
    tops = {"optimizer": {}, "loss": {}, "early_stopping": {}}
    for key in KEYS:
        last, table = key.name.rpartition(".")[2], key.name.rpartition(".")[0]
        for wrong in ("", *tops):
            here = children(wrong, command)
            if last in here or wrong == table or (wrong == "optimizer" and command not in key.commands):
                continue  # right, or taken for an option of optax, which refuses it
            data = {**SMALL[command], **({last: 1} if not wrong else {wrong: {last: 1}})}
            with pytest.raises(InputError) as error:
                parse(data, command)
            text = str(error.value)
            assert "\n" not in text
            assert re.search(r"belongs (under|at)|is a key of|is called|did you mean|known are", text), text
            if command in key.commands and not any(
                k.name.rpartition(".")[2] == last and k is not key and command in k.commands for k in KEYS
            ):
                assert key.name in text, text


def test_all_that_is_wrong_is_named_at_once():
    data = {**SMALL["train"], "clip": 1, "materials": [], "epochz": 3, "replay": {}}
    with pytest.raises(InputError) as error:
        parse(data, "train")
    for text in (
        "clip belongs under optimizer: optimizer.clip", "unknown key materials: `materials` is a key of `finetune`",
        "unknown key epochz: did you mean epochs?", "replay is called data: data.train names the files",
    ):  # fmt: skip
        assert text in str(error.value)


def test_names_of_values():
    found = flat(parse(SMALL["finetune"], "finetune"))
    assert found["materials[0].targets.kappa.value"] == [1.0]
    assert found["optimizer.schedule.name"] == "cosine"


@pytest.mark.parametrize("command", BOTH)
def test_help_has_every_key(command):
    parsers = next(a for a in build_parser()._actions if a.dest == "command").choices
    text = parsers[command].format_help()
    assert " ".join(help_text(command).split()) in " ".join(text.split())  # wrapped at the terminal's width
    for key in KEYS:
        pattern = rf"^ +{re.escape(key.name.rpartition('.')[2])}:"
        assert command not in key.commands or re.search(pattern, text, re.MULTILINE), key.name
    assert max(map(len, help_text(command).splitlines())) <= 120
    for option in ("--restart", "--check", "--threads", "--quiet"):
        assert option in text


def test_the_reference_page_is_up_to_date():
    """Write it anew with `python -m wigner_jax.training.config_schema docs/reference/config.md`."""
    page = (DOCS / "reference/config.md").read_text()
    assert page == markdown()
    for key in KEYS:
        assert f"`{key.name}`" in page


@pytest.mark.parametrize(("page", "command"), [("finetune", "finetune"), ("train", "train")])
def test_examples_of_the_documentation(page, command):
    examples = re.findall(r"```yaml\n(.*?)```", (DOCS / f"how-to/{page}.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        data = yaml.safe_load(example)
        parse({**SMALL[command], **data}, command)


COMMAND_LINE = """
import importlib, pkgutil, sys
import wigner_jax
from wigner_jax.cli import app
assert app.main(["kappa", "no-such-crystal"]) == 2
for module in pkgutil.walk_packages(wigner_jax.__path__, "wigner_jax."):
    if not module.name.startswith("wigner_jax.training") and module.name != "wigner_jax.potentials.flax_module":
        importlib.import_module(module.name)
print([name for name in ("flax", "orbax", "optax") if name in sys.modules])
import wigner_jax.training
assert "flax" not in sys.modules
wigner_jax.training.TrainState
assert "flax" in sys.modules
"""


def test_only_training_loads_flax():
    """Not the package, no command, and none of its other modules but the one that makes Flax modules."""
    run = subprocess.run([sys.executable, "-c", COMMAND_LINE], capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "[]", run.stdout + run.stderr[-2000:]


def test_names_of_the_package():
    from wigner_jax import training

    assert sorted(training.__all__) == sorted(training._HOME)
    for name in training.__all__:
        assert getattr(training, name) is not None
        assert name in dir(training)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        training.nothing  # noqa: B018
