"""Configuration files of `finetune` and `train`: one table of keys, which makes this file long.

The parser, the text of ``--help`` and docs/reference/config.md all come from `KEYS`. What is the same thing in both
commands has the same name, place and meaning. Every error is one line that names the key.

    python -m wigner_jax.training.config_schema docs/reference/config.md

writes the reference page anew.
"""

from __future__ import annotations

import dataclasses
import math
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .._core.reading import read_yaml as reading_yaml
from .._core.reading import reading
from ..errors import InputError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


BOTH = ("finetune", "train")
FINETUNE, TRAIN = BOTH[:1], BOTH[1:]
LABELS = ("energy", "forces", "stress", "hessian")


# --- values ----------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """What a value must be."""

    words: str  # in the reference
    check: Callable[[Any, str], Any]  # (value, key) → the value, or InputError
    form: str = "value"  # or of a table: "filled", "optional", "open"; "list"


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InputError(f"{key} must be a number, got {value!r}")
    try:
        found = float(value)  # YAML reads 1e-3 as text
    except ValueError:
        raise InputError(f"{key} must be a number, got {value!r}") from None
    if not math.isfinite(found):
        raise InputError(f"{key} must be a finite number, got {value!r}")
    return found


def _from_zero(value: Any, key: str) -> float:
    if (found := _number(value, key)) < 0:
        raise InputError(f"{key} must be a number of at least 0, got {value!r}")
    return found


def _rate(value: Any, key: str) -> float:
    if isinstance(value, dict):
        raise InputError(f"{key} must be a number: a schedule belongs under optimizer: optimizer.schedule")
    return _from_zero(value, key)


def _decay(value: Any, key: str) -> float:
    if not 0 <= (found := _number(value, key)) < 1:
        raise InputError(f"{key} must be at least 0 and below 1, got {value!r}")
    return found


def _integer(least: int) -> Callable[[Any, str], int]:
    def check(value: Any, key: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{key} must be an integer of at least {least}, got {value!r}")
        return value

    return check


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise InputError(f"{key} must be true or false, got {value!r}")
    return value


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        raise InputError(f"{key} must be a name, got {value!r}")
    return value


def _label(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value:
        name = key.rpartition(".")[2]
        raise InputError(f"{key} must be the name of a label such as REF_{name}, got {value!r}")
    return value


def _strings(of: str) -> Callable[[Any, str], list[str]]:
    def check(value: Any, key: str) -> list[str]:
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(v, str) for v in values):
            raise InputError(f"{key} must be a list of {of}, got {value!r}")
        return values

    return check


def _files(value: Any, key: str) -> list[str]:
    if not (names := _strings("files")(value, key)):
        raise InputError(f"{key} names no file")
    return names


def _share(value: Any, key: str) -> float | list[str]:
    if isinstance(value, (str, list)):
        return _files(value, key)
    if not 0 < (share := _number(value, key)) < 1:
        raise InputError(f"{key} must be a file, or a share between 0 and 1, got {value!r}")
    return share


def _integers(counts: tuple[int, ...], least: int | None) -> Callable[[Any, str], list[int]]:
    def check(value: Any, key: str) -> list[int]:
        flat = [value] if isinstance(value, int) else value
        if isinstance(flat, list) and len(flat) == 3 and all(isinstance(x, list) for x in flat):
            flat = [x for row in flat for x in row]
        good = isinstance(flat, list) and len(flat) in counts
        if not good or any(isinstance(x, bool) or not isinstance(x, int) for x in flat):
            raise InputError(f"{key} must be {' or '.join(map(str, counts))} integers, got {value!r}")
        if least is not None and min(flat) < least:
            raise InputError(f"{key} must be integers of at least {least}, got {value!r}")
        return flat

    return check


def _numbers(positive: bool) -> Callable[[Any, str], list[float]]:
    def check(value: Any, key: str) -> list[float]:
        found = [_number(v, key) for v in (value if isinstance(value, list) else [value])]
        if not found or (positive and min(found) <= 0):
            raise InputError(f"{key} must be above 0, got {value!r}")
        return found

    return check


def _points(value: Any, key: str) -> list[list[float]]:
    if not isinstance(value, list) or not value or not all(isinstance(p, list) and len(p) == 3 for p in value):
        raise InputError(f"{key} must be a list of [T, κ, σ], got {value!r}")
    return [_numbers(positive=True)(p, key) for p in value]


def _broadening(value: Any, key: str) -> str | dict[str, float]:
    if value == "adaptive":
        return "adaptive"
    if not isinstance(value, dict) or set(value) != {"gaussian"}:
        raise InputError(f"{key} must be adaptive or {{gaussian: σ in THz}}, got {value!r}")
    if (width := _from_zero(value["gaussian"], f"{key}.gaussian")) == 0:
        raise InputError(f"{key}.gaussian must be above 0, got {value['gaussian']!r}")
    return {"gaussian": width}


def _choice(*known: str) -> Kind:
    def check(value: Any, key: str) -> str:
        if value not in known:
            raise InputError(f"{key} must be {' or '.join(known)}, got {value!r}")
        return value

    return Kind(" or ".join(f"`{name}`" for name in known), check)


def _any(value: Any, key: str) -> Any:
    return value


TEXT = Kind("text", _text)
FILE = Kind("file", _text)
FILES = Kind("file or files", _files)
LABEL = Kind("label", _label)
SHARE = Kind("share or files", _share)
NUMBER = Kind("number", _from_zero)
RATE = Kind("number", _rate)
DECAY = Kind("number below 1", _decay)
COUNT = Kind("integer", _integer(1))
COUNT_FROM_ZERO = Kind("integer", _integer(0))
FLAG = Kind("true or false", _flag)
PATTERNS = Kind("patterns", _strings("patterns such as 'layers.3.*'"))
MESH = Kind("3 integers", _integers((3,), 1))
SUPERCELL = Kind("1, 3 or 9 integers", _integers((1, 3, 9), None))
NUMBERS = Kind("number or list", _numbers(positive=False))
POSITIVE = Kind("number or list", _numbers(positive=True))
POINTS = Kind("list of [T, κ, σ]", _points)
BROADENING = Kind("`adaptive` or {gaussian: σ}", _broadening)
TRANSPORT = _choice("rta", "lbte")
TABLE = Kind("table", _any, "filled")  # always there, filled with defaults
SECTION = Kind("table", _any, "optional")  # None where it is not given
OPEN = Kind("table", _any, "open")  # takes keys that are not listed: options of a function of optax
LIST = Kind("list", _any, "list")


# --- keys ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Key:
    """One key of a configuration."""

    name: str  #: with those above it: ``optimizer.clip``; ``[]`` marks the elements of a list
    kind: Kind  #: what its value must be
    meaning: str  #: one or two sentences for the reference
    default: Any = None  #: the value where it is not given; by command if a `PerCommand`
    unit: str = ""  #: of the value
    commands: tuple[str, ...] = BOTH  #: which read it
    words: str = ""  #: the default in words, where it depends on other things
    required: bool = False  #: whether the table above it needs it

    def default_of(self, command: str) -> Any:
        """The default of a command."""
        return self.default[command] if isinstance(self.default, PerCommand) else self.default


class PerCommand(dict[str, Any]):
    """A default that differs between commands, for a reason that the meaning gives."""


def _weight(target: str) -> Key:
    return Key(f"materials[].targets.{target}.weight", NUMBER, "Factor on this term of the loss.", 1.0, "", FINETUNE)


KEYS: tuple[Key, ...] = (
    Key("potential", TEXT, "A name, or a file that load_potential reads. `train` takes MACE, SevenNet and Nequix models.",
        required=True),
    Key("output", TEXT, "Folder of the checkpoint, history.csv and the model, beside the configuration.", required=True),
    Key("materials", LIST, "Crystals to train on and to validate with; any number of them.", None, "", FINETUNE,
        required=True),
    Key("materials[].structure", FILE, "A file that ASE reads, or the name of a prototype.", None, "", FINETUNE,
        required=True),
    Key("materials[].mp_id", TEXT, "Materials Project number: chooses the structure in an extxyz file of many, and the"
        " reference.", None, "", FINETUNE),
    Key("materials[].name", TEXT, "What tables call it.", None, "", FINETUNE,
        "formula of the reference or prototype, or stem of the file's name"),
    Key("materials[].reference", FILE, "Mode conductivities (phononDB's JSON). Targets of modes need it on the same mesh.",
        None, "", FINETUNE),
    Key("materials[].fc2_supercell", SUPERCELL, "Supercell of Φ2 in units of the given cell.", None, "", FINETUNE,
        "that of the structure file, else at least 10 Å thick"),
    Key("materials[].fc3_supercell", SUPERCELL, "Supercell of Φ3 in units of the given cell.", None, "", FINETUNE,
        "that of the structure file, else at least 8 Å thick"),
    Key("materials[].mesh", MESH, "q-points along each reciprocal vector.", None, "", FINETUNE,
        "the reference's, the structure file's, else 35 Å long"),
    Key("materials[].temperatures", POSITIVE, "Temperatures of every target.", [300.0], "K", FINETUNE),
    Key("materials[].split", _choice("train", "validation"), "Materials of `validation` are evaluated after every epoch"
        " and choose the best weights.", "train", "", FINETUNE),
    Key("materials[].relax", FLAG, "Relax cell and atoms with the potential as it is before training.", False, "", FINETUNE),
    Key("materials[].stress", NUMBER, "Weight of a frame that holds the given cell at a minimum of the energy; 0: none.",
        0.0, "", FINETUNE),
    Key("materials[].targets", SECTION, "What the loss asks of this material; one or more of the following.", None, "",
        FINETUNE, required=True),
    Key("materials[].targets.kappa", SECTION, "κ_TOT, a third of the trace.", None, "", FINETUNE),
    _weight("kappa"),
    Key("materials[].targets.kappa.value", POSITIVE, "Conductivity at every temperature.", None, "W/(m K)", FINETUNE,
        "the reference's"),
    Key("materials[].targets.kappa.form", _choice("log", "relative", "sre"), "Square of the logarithm or of the relative"
        " error, or the smooth SRE.", "log", "", FINETUNE),
    Key("materials[].targets.srme", SECTION, "SRME, mode by mode, against the reference.", None, "", FINETUNE),
    _weight("srme"),
    Key("materials[].targets.srme.smooth", NUMBER, "Width in which absolute values are rounded off, in units of the mean"
        " mode's κ.", 0.05, "", FINETUNE),
    Key("materials[].targets.frequencies", SECTION, "Frequencies of the reference.", None, "", FINETUNE),
    _weight("frequencies"),
    Key("materials[].targets.heat_capacity", SECTION, "Heat capacity of the reference.", None, "", FINETUNE),
    _weight("heat_capacity"),
    Key("materials[].targets.gruneisen", SECTION, "Mean Grüneisen parameter γ(T), from Φ3.", None, "", FINETUNE),
    _weight("gruneisen"),
    Key("materials[].targets.gruneisen.value", NUMBERS, "γ at every temperature.", None, "", FINETUNE, "none: it must be given"),
    Key("materials[].targets.experiment", SECTION, "Measured conductivities with error bars.", None, "", FINETUNE),
    _weight("experiment"),
    Key("materials[].targets.experiment.points", POINTS, "Temperature, conductivity and its standard error, point by point.",
        None, "K, W/(m K)", FINETUNE, "none: they must be given"),
    Key("materials[].targets.imaginary", SECTION, "Penalty on imaginary modes.", None, "", FINETUNE),
    _weight("imaginary"),
    Key("materials[].targets.imaginary.floor", NUMBER, "Frequency below which modes are penalised.", 0.0, "THz", FINETUNE),
    Key("data", SECTION, "Labelled structures: all that `train` learns from, and what `finetune` replays beside its materials.",
        words="required by `train`"),
    Key("data.train", FILES, "extxyz files, ASE databases (.db), anything that ASE reads.", required=True),
    Key("data.validation", SHARE, "A share of the structures, drawn by `seed`, or files. Without one, `finetune` trains on all"
        " and reports their force error.", PerCommand(finetune=None, train=0.1)),
    Key("data.energy", LABEL, "Name of the label of the energy.", unit="eV", words="REF_energy, else energy"),
    Key("data.forces", LABEL, "Name of the label of the forces.", unit="eV/Å", words="REF_forces, else forces"),
    Key("data.stress", LABEL, "Name of the label of the stress, with ASE's sign.", unit="eV/Å³",
        words="REF_stress, else stress"),
    Key("data.hessian", LABEL, "Name of the label of ∂²E/∂x∂x: 9 N² numbers in the header of a frame, or in a database.", None,
        "eV/Å²", TRAIN, "REF_hessian, else hessian"),
    Key("loss", TABLE, "Weights of mean squares in units of 10 meV/atom, 50 meV/Å and 2 meV/Å³."),
    Key("loss.energy", NUMBER, "Weight of energies per atom.", words="1 where structures have the label"),
    Key("loss.forces", NUMBER, "Weight of forces.", words="1 where structures have the label"),
    Key("loss.stress", NUMBER, "Weight of stresses.", words="1 where structures have the label"),
    Key("loss.hessian", NUMBER, "Weight of the relative square error of Hessian columns.", 0.0, "", TRAIN),
    Key("loss.hessian_columns", COUNT, "Random columns of each structure and step.", 2, "", TRAIN),
    Key("batch", COUNT, "Structures of `data` in one step. A step of `finetune` has a material too, which costs more.",
        PerCommand(finetune=1, train=8)),
    Key("accumulate", COUNT, "Materials in one step.", 1, "", FINETUNE),
    Key("epochs", COUNT, "Visits of every material (`finetune`) or structure (`train`).", PerCommand(finetune=20, train=100)),
    Key("steps", COUNT, "Updates in all, instead of epochs.", words="as many as `epochs` make"),
    Key("optimizer", OPEN, "How gradients become updates. Other keys are options of the optimizer, such as b1."),
    Key("optimizer.name", TEXT, "Any optimizer of optax.", "amsgrad"),
    Key("optimizer.learning_rate", RATE, "Learning rate: the highest of the schedule.", 1e-3),
    Key("optimizer.schedule", OPEN, "How the rate changes from step to step; the name alone will do."),
    Key("optimizer.schedule.name", TEXT, "`cosine`, `constant`, or a schedule of optax with its options: the rate is"
        " multiplied by it.", "cosine"),
    Key("optimizer.schedule.warmup", COUNT_FROM_ZERO, "Steps in which the rate rises linearly.", unit="steps",
        words="cosine: 5 % of the steps, at most 200; else 0"),
    Key("optimizer.schedule.final", NUMBER, "Share of the rate that cosine ends with.", 0.0),
    Key("optimizer.clip", NUMBER, "Largest norm of a gradient; 0: any.", 10.0),
    Key("ema", DECAY, "Decay of the moving average of weights, which is validated and saved; 0: none.", 0.99),
    Key("l2sp", NUMBER, "Weight of Σ(θ - θ₀)², which holds weights near those at the start.", 0.0, "", FINETUNE),
    Key("early_stopping", TABLE, "When to stop before the end."),
    Key("early_stopping.patience", COUNT, "Epochs without a better score until it stops.", words="no early stopping"),
    Key("train", PATTERNS, "Names of the parameters that change.",
        words="all that the model's own program trains; with `lora`, none"),
    Key("freeze", PATTERNS, "Names of parameters that stay.", []),
    Key("lora", TABLE, "Low-rank changes (arXiv:2106.09685)."),
    Key("lora.layers", PATTERNS, "Names of the matrices that get one.", []),
    Key("lora.rank", COUNT, "Rank of the change.", 4),
    Key("from_scratch", FLAG, "Start a MACE model from random weights; energies of atoms and scale from the labels.", False, "",
        TRAIN),
    Key("broadening", BROADENING, "Of energy conservation.", "adaptive", "THz", FINETUNE),
    Key("transport", TRANSPORT, "κ in the relaxation-time approximation, or by the full linearised equation.", "rta", "", FINETUNE),
    Key("sampling", TABLE, "Terms of the gradient drawn at random, without bias.", None, "", FINETUNE),
    Key("sampling.points", COUNT, "Irreducible q-points in a draw.", None, "", FINETUNE, "all"),
    Key("sampling.draws", COUNT, "Independent draws of points, averaged.", 2, "", FINETUNE),
    Key("sampling.patterns", COUNT, "Displacement patterns of Φ3.", None, "", FINETUNE, "all"),
    Key("max_rejections", COUNT, "Halvings of one step that made modes imaginary, until the run gives up.", 10, "", FINETUNE),
    Key("precision", _choice("float32", "float64"), "Of weights and structures. `finetune` takes float64 alone.",
        PerCommand(finetune="float64", train="float32")),
    Key("seed", COUNT_FROM_ZERO, "Of all random numbers.", 0),
)  # fmt: skip

#: keys of earlier versions, or of other programs, whose place is not found by the last part of their name
RENAMED = {
    "replay": "is called data: data.train names the files, loss has the weights, batch the structures in a step",
    "data.file": "is called data.train",
    "data.per_step": "is called batch, and belongs at the top level",
    "data.valid": "is called data.validation",
    "lr": "is called optimizer.learning_rate",
    "optimizer.lr": "is called optimizer.learning_rate",
    "max_epochs": "is called epochs",
    "resume": "is no key: the same command goes on from the checkpoint",
    "materials[].dim": "is called fc2_supercell and fc3_supercell",
}


# --- reading ---------------------------------------------------------------------------------------------------------


def parse(data: Any, command: str) -> dict[str, Any]:
    """A configuration, checked key by key, with defaults filled in.

    Args:
        data: contents of the file.
        command: ``finetune`` or ``train``.

    Returns:
        tables in tables, with every key of the command. Tables that may be absent are None then; weights in `loss` that were
        not given are None. Options of optax stand beside the keys of `optimizer` and `optimizer.schedule`.

    Raises:
        InputError: one line with all unknown keys and their right places; or the first value that cannot be used.
    """
    found = _read_table(data, "", "", command)
    given = data.get("epochs") is not None and data.get("steps") is not None
    if given:
        raise InputError("epochs and steps were both given: leave one out")
    if found["steps"] is not None:
        found["epochs"] = None
    if command == "finetune" and found["precision"] != "float64":
        raise InputError("precision must be float64 for finetune: third derivatives of the energy need it")
    if command == "train" and found["data"] is None:
        raise InputError("the configuration needs the key data")
    return found


def _read_table(value: Any, name: str, shown: str, command: str) -> dict[str, Any]:
    """Args: name, of the table in `KEYS`; shown, the same with numbers of list elements."""
    if name == "optimizer.schedule" and isinstance(value, str):
        value = {"name": value}
    value = {} if value is None and name else value
    if not isinstance(value, dict):
        raise InputError(f"{shown or 'the configuration'} must be a table of keys and values, got {value!r}")
    keys = children(name, command)
    unknown = [str(k) for k in value if k not in keys]
    if name in ("optimizer", "optimizer.schedule"):
        options, unknown = {k: value[k] for k in unknown if not _elsewhere(k, name, command)}, [
            k for k in unknown if _elsewhere(k, name, command)
        ]  # fmt: skip
    else:
        options = {}
    if unknown:
        raise InputError("; ".join(misplaced(k, name, shown, command) for k in unknown))
    if missing := [k for k, key in keys.items() if key.required and value.get(k) is None]:
        raise InputError(f"{shown or 'the configuration'} needs the key {missing[0]}")
    found: dict[str, Any] = dict(options)
    for last, key in keys.items():
        where = f"{shown}.{last}" if shown else last
        item = value.get(last)
        if key.kind.form in ("filled", "open") or (key.kind.form == "optional" and last in value):
            found[last] = _read_table(item, key.name, where, command)
        elif key.kind.form == "list":
            if not isinstance(item, list) or not item:
                raise InputError(f"{where} must be a list with at least one element")
            found[last] = [_read_table(x, f"{key.name}[]", f"{where}[{k}]", command) for k, x in enumerate(item)]
        elif item is None:
            found[last] = key.default_of(command)
        else:
            found[last] = key.kind.check(item, where)
    return found


def children(table: str, command: str) -> dict[str, Key]:
    """The keys directly inside a table, by the last part of their names."""
    start = f"{table}." if table else ""
    found = {}
    for key in KEYS:
        last = key.name.removeprefix(start)
        if key.name.startswith(start) and last and "." not in last and command in key.commands:
            found[last] = key
    return found


def _elsewhere(key: str, table: str, command: str) -> list[Key]:
    """Keys of the same name in other tables."""
    return [
        k for k in KEYS
        if command in k.commands and k.name.rpartition(".")[2] == key and k.name.rpartition(".")[0] != table
    ]  # fmt: skip


def misplaced(key: str, table: str, shown: str, command: str) -> str:
    """What is wrong with a key that a table does not have: where it belongs, or which one was meant."""
    full, where = (f"{x}.{key}" if x else key for x in (table, shown))
    if full in RENAMED:
        return f"{where} {RENAMED[full]}"
    for other in BOTH:
        if other != command and any(k.name == full and other in k.commands for k in KEYS):
            return f"unknown key {where}: `{key}` is a key of `{other}`"
    if places := _elsewhere(key, table, command):
        above = dict.fromkeys(k.name.rpartition(".")[0] for k in places)
        if len(above) > 3 or "" in above:
            return (
                f"{where} belongs at the top level: {key}" if "" in above else f"{where} belongs under {_joined(above)}"
            )
        return f"{where} belongs under {_joined(above)}: {' or '.join(k.name for k in places)}"
    known = children(table, command)
    if close := nearest(key, known):
        return f"unknown key {where}: did you mean {close}?"
    others = {k.name.rpartition(".")[2]: k.name for k in reversed(KEYS) if command in k.commands}
    if close := nearest(key, others, 0.75):
        return f"unknown key {where}: did you mean {others[close]}?"
    return f"unknown key {where}: known are {', '.join(sorted(known))}"


def _joined(names: Iterable[str]) -> str:
    return " or ".join(names)


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """The values of a parsed configuration by their full names."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        key = f"{above}.{name}" if above else str(name)
        if isinstance(value, dict):
            found |= flat(value, key)
        elif isinstance(value, list) and value and all(isinstance(x, dict) for x in value):
            for k, item in enumerate(value):
                found |= flat(item, f"{key}[{k}]")
        else:
            found[key] = value
    return found


def holds_file(name: str) -> bool:
    """Whether a full name is that of files, whose contents count and not their names."""
    plain = re.sub(r"\[\d+\]", "[]", name)
    return any(key.name == plain and key.kind in (FILE, FILES, SHARE) for key in KEYS)


def read_yaml(path: Path) -> Any:
    """The contents of a configuration file."""
    if not path.exists():
        raise InputError(f"no configuration {path}: check the name")
    with reading(path, "YAML"):
        return reading_yaml(path)


def file_in(folder: Path, name: str) -> Path:
    """A file by its name in a configuration, which is relative to the folder of that."""
    return folder / Path(name).expanduser()


def within(key: str, make: Callable[[], Any]) -> Any:
    """The result of `make`; its ValueError gets the key in front."""
    try:
        return make()
    except ValueError as error:
        text = str(error)
        raise InputError(text if text.startswith(key) else f"{key}: {text}") from None


# --- writing ---------------------------------------------------------------------------------------------------------


def shown_default(key: Key, command: str) -> str:
    """The default as YAML has it, or in words; empty for a table."""
    if key.required:
        return "required"
    if key.words:
        return key.words
    value = key.default_of(command)
    if key.kind.form != "value":
        return ""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(f"{x:g}" if isinstance(x, float) else str(x) for x in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def help_text(command: str, width: int = 118, column: int = 34) -> str:
    """All keys of a command, indented as in the file, with defaults and meanings."""
    lines = []
    for key in KEYS:
        if command not in key.commands:
            continue
        last = key.name.rpartition(".")[2]
        depth = key.name.count(".") + 1
        default, table = shown_default(key, command), key.kind.form != "value"
        value = "" if table or key.words or key.required or default == "none" else f" {default}"
        left = f"{'  ' * depth}{last}:{value}"
        unit = f" ({key.unit})" if key.unit else ""
        tail = " Required." if key.required else f" Default: {key.words}." if key.words else ""
        text = textwrap.wrap(key.meaning.replace("`", "") + unit + tail.replace("`", ""), width - column)
        if len(left) >= column:
            lines.append(left)
            left = ""
        lines += [f"{left:{column}}{text[0]}", *(" " * column + line for line in text[1:])]
    return "\n".join(lines)


INTRODUCTION = """\
# Configuration of `finetune` and `train`

<!-- written by: python -m wigner_jax.training.config_schema docs/reference/config.md -->

Both commands read a YAML file, and speak the same language: a key that both have means the same in both.
File names are relative to the folder of the configuration. `wigner-jax finetune --help` and `wigner-jax train --help` print
these tables; `--check` reads a configuration with everything it names, and trains nothing.

The same command given again goes on from the checkpoint in `output`. A run whose settings have changed is refused, with what
changed; `--restart` begins anew.
"""


def markdown() -> str:
    """The reference page, docs/reference/config.md."""
    parts = [INTRODUCTION]
    groups: dict[str, list[Key]] = {}
    for key in KEYS:
        top = key.name.split(".")[0].removesuffix("[]")
        nested = any(k.name.startswith((f"{top}.", f"{top}[]")) for k in KEYS)
        groups.setdefault(top if nested else "", []).append(key)
    for top, keys in groups.items():
        head, listed = ("## Top level", keys) if not top else (f"## `{top}`", keys[1:])
        commands = keys[0].commands if top else BOTH
        parts.append(head + ("" if len(commands) == 2 else f" (`{commands[0]}`)") + "\n")
        if top:
            default = (
                f" Default: {keys[0].words}." if keys[0].words and not keys[0].words.startswith("required") else ""
            )
            needed = f" {keys[0].words.capitalize()}." if keys[0].words.startswith("required") else ""
            parts.append(f"{keys[0].meaning}{default}{needed}{' Required.' if keys[0].required else ''}\n")
        rows = ["| key | value | default | unit | command | meaning |", "|---|---|---|---|---|---|"]
        for key in listed:
            defaults = [shown_default(key, c) for c in key.commands]
            default = defaults[0] if len(set(defaults)) == 1 else ", ".join(
                f"{d} (`{c}`)" for c, d in zip(key.commands, defaults, strict=True))  # fmt: skip
            command = "both" if key.commands == BOTH else f"`{key.commands[0]}`"
            cells = (f"`{key.name}`", key.kind.words, default, key.unit, command, key.meaning)
            rows.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(markdown())


__all__ = [
    "BOTH",
    "KEYS",
    "LABELS",
    "Key",
    "Kind",
    "children",
    "file_in",
    "flat",
    "help_text",
    "holds_file",
    "markdown",
    "misplaced",
    "parse",
    "read_yaml",
    "within",
]
