"""What the two commands share: a run made from a configuration, and the files in its folder."""

from __future__ import annotations

import csv
import dataclasses
import io
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._core.atomic_write import check_folder, check_output, write_text
from .._core.fingerprint import fingerprint
from .._core.folder_lock import LOCK, locked
from ..errors import InputError
from ..potentials.registry import load_potential
from ..potentials.saving import ending, save_potential, template_of
from .config_schema import file_in, flat, holds_file, within
from .model import Model
from .optimizers import depends_on_steps
from .parameters import adapt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import optax

    from ..potentials.base import Params, Potential
    from .train_state import TrainState


ADVICE = "name another output"
NUMBERS = 6  # that are kept of each parameter: itself, its average, the best one, the last update, two moments


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """What both loops take, and where to write."""

    potential: Potential  #: before training
    template: Path | None  #: the file it was read from; None for built-in potentials
    model: Model  #: its energy, with trained and frozen parameters
    optimizer: optax.GradientTransformation  #: with its learning rates
    folder: Path  #: of everything that is written
    signature: dict[str, Any]  #: what must be the same for a continuation
    inputs: tuple[Path, ...] = ()  #: files that are read, and that no output replaces
    summary: str  #: one line

    @property
    def checkpoint(self) -> Path:
        """The file with the state of the run."""
        return self.folder / "checkpoint.npz"

    @property
    def model_file(self) -> Path:
        """The file of the trained potential, in the format of the model's own program."""
        return self.folder / f"model{ending(self.potential)}"


def read_potential(settings: Mapping[str, Any], folder: Path) -> tuple[Potential, Path | None]:
    """The potential of a configuration, and the file a changed one is written like."""
    name = settings["potential"]
    file = file_in(folder, name)
    potential = within("potential", lambda: load_potential(file if file.is_file() else name))
    return potential, template_of(potential, file)


def split_parameters(
    potential: Potential, settings: Mapping[str, Any], fixed: Callable[[Potential], Sequence[str]]
) -> Model:
    """The potential with what `train`, `freeze` and `lora` leave to be trained.

    Args:
        fixed: names of what the model's own program does not train, which stay unless `train` names them.
    """
    chosen, freeze, lora = settings["train"], list(settings["freeze"]), settings["lora"]
    if chosen is None and not lora["layers"]:
        freeze += fixed(potential)
    default = [] if lora["layers"] else ["*"]
    train = default if chosen is None else chosen
    return Model(*adapt(potential, train, freeze, lora["layers"], lora["rank"], settings["seed"]))


def signature_of(settings: Mapping[str, Any], **arrays: Any) -> dict[str, Any]:
    """Settings by name without those that a continuation may change, and fingerprints of arrays.

    Names of files may change, their contents may not. The length of a run may, if rates do not depend on it.
    """
    free = {"potential", "output", "early_stopping.patience"}
    if not depends_on_steps(settings["optimizer"]):
        free |= {"epochs", "steps"}
    found = {k: v for k, v in flat(settings).items() if k not in free and not holds_file(k)}
    return found | {name.replace("_", " "): fingerprint(tree) for name, tree in arrays.items()}


def inputs_of(settings: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """The files that a configuration names."""
    found = []
    for key, value in flat(settings).items():
        if key == "potential" or holds_file(key):
            names = value if isinstance(value, list) else [value]
            found += [file_in(folder, name) for name in names if isinstance(name, str)]
    return tuple(path for path in found if path.is_file())


# --- the folder ------------------------------------------------------------------------------------------------------


@contextmanager
def open_folder(run: Run, restart: bool, more: Sequence[str] = ()) -> Iterator[None]:
    """Make the folder of a run, and keep other processes out of it for the time of the block.

    With `restart` an earlier run's checkpoint and history are removed; its model stays until there is a new one.

    Args:
        more: names of files in the folder that will be written, beside checkpoint, history and model.

    Raises:
        InputError: it cannot be written to; another process is at work there; it holds files of others in the places of
            those of a run; the disk has no room.
    """
    require_folder(run.folder)
    known = any((run.folder / name).is_file() for name in ("checkpoint.npz", LOCK))
    size = sum(np.size(x) for x in jax.tree.leaves((run.model.trained, run.model.frozen)))
    made = not run.folder.is_dir()
    run.folder.mkdir(parents=True, exist_ok=True)
    try:
        for name in ("checkpoint.npz", "history.csv", run.model_file.name, *more):
            if not (run.folder / name).parent.is_dir():
                continue
            check_output(
                run.folder / name, what="a file of a run", ours=lambda _: known, inputs=run.inputs, need=8 * NUMBERS * size,
                advice=ADVICE,
            )  # fmt: skip
    except InputError:
        if made:
            run.folder.rmdir()
        raise
    with locked(run.folder, ADVICE):
        if restart:
            run.checkpoint.unlink(missing_ok=True)
        if not run.checkpoint.exists():
            (run.folder / "history.csv").unlink(missing_ok=True)  # it belongs to a checkpoint
        yield


def require_folder(folder: Path) -> None:
    """InputError for something that is no folder, or that cannot be written to."""
    try:
        check_folder(folder, advice=ADVICE)
    except InputError as error:
        raise InputError(f"output: {error.found}", error.remedy) from None


def write_step(run: Run, state: TrainState) -> None:
    """history.csv with every checkpoint: a run that is killed in its first epoch has one too."""
    path = run.folder / "history.csv"
    if not path.exists():
        write_history(path, state.history)


def write_epoch(run: Run, state: TrainState) -> None:
    """history.csv, and the model if the last epoch is the best one or no model is there yet."""
    write_history(run.folder / "history.csv", state.history)
    if state.best_epoch == state.epoch - 1 or not run.model_file.exists():
        write_model(run, state.best)


def write_history(path: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """A table of the epochs; it appears complete or not at all. Before the first epoch is done it has a header alone."""
    columns = dict.fromkeys(key for row in history or [{"epoch": 0, "step": 0, "loss": 0.0}] for key in row)
    table = io.StringIO(newline="")
    writer: Any = csv.DictWriter(table, list(columns))
    writer.writeheader()
    writer.writerows(history)
    write_text(path, table.getvalue())


def write_model(run: Run, trained: Params) -> Potential:
    """Write the potential with these numbers in the place of those that were trained; returns it as written."""
    merge: Any = run.model.energy
    params = jax.tree.map(lambda x: np.asarray(x, float), merge.merge(trained, run.model.frozen))
    return save_potential(run.potential.with_params(params), run.model_file, run.template)


__all__ = [
    "Run",
    "fingerprint",
    "inputs_of",
    "open_folder",
    "read_potential",
    "require_folder",
    "signature_of",
    "split_parameters",
    "write_epoch",
    "write_history",
    "write_model",
    "write_step",
]
