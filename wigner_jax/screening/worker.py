"""A worker of a screening: one material after the other, with the compiled programs of those before."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import jax

from .._core.compile_cache import enable_compilation_cache
from .dealing import Task
from .job import job_of


class Materials:
    """What a worker does: one material after the other, with the programs of those before."""

    def __init__(self, task: dict[str, Any], cores: int) -> None:
        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_num_cpu_devices", cores)
        enable_compilation_cache()
        self.job = job_of(Task(**task))

    def one(self, name: str, stage: str) -> dict[str, Any]:
        return self.job.one(name, stage)


def main() -> None:
    """A local worker: a task, then materials, in lines of JSON; records come back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's, which ends its workers
    messages = sys.stdin
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints does not disturb
    first = json.loads(messages.readline())
    sys.path[:] = first["path"]
    if first["cores"]:
        os.sched_setaffinity(0, first["cores"])
    materials = Materials(first["task"], max(1, len(first["cores"])))
    for line in messages:
        message = json.loads(line)
        try:
            answers.write(json.dumps(materials.one(message["name"], message["stage"])) + "\n")
            answers.flush()
        except BrokenPipeError:  # the driver is gone, and the material is in the folder
            os._exit(0)


__all__ = ["Materials", "main"]
