"""Kills at random moments, SIGKILL, SIGTERM and SIGINT: whoever gives the same command again gets the same bytes.

Equal are all files of the folder: records, tables, models, history, README, structures, and what the checkpoint holds. Not
compared are wall times (``times/``, ``times.csv``), dates inside the checkpoint's zip file, and the lock.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import pytest
from killed_runs import (
    Case,
    campaign_options,
    kill_and_compare,
    write_campaign,
    write_finetune,
    write_training,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")

MANY = 20


def case_of(name: str, folder: Path, cache: Path) -> Case:
    if name == "benchmark":
        write_campaign(folder)
        commands = [campaign_options("out", "--shard", f"{i}/2") for i in (1, 2)]
        return Case(commands, "out", folder, cache)
    {"finetune": write_finetune, "train": write_training}[name](folder)
    return Case([[name, "config.yaml", "--quiet", "--threads", "1"]], "run", folder, cache)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["benchmark", "finetune", "train"])
def test_many_kills(name, tmp_path, record_property):
    count = kill_and_compare(case_of(name, tmp_path, tmp_path / "cache"), MANY, seed=len(name))
    print(f"{name}: {count}")
    assert count.kills >= MANY


def test_few_kills(tmp_path):
    """The cheapest of them, in every run of the tests."""
    case = case_of("train", tmp_path, tmp_path / "cache")
    count = kill_and_compare(case, 2, seed=0, signals=(signal.SIGKILL, signal.SIGTERM), longest=4.0)
    assert count.kills >= 2
