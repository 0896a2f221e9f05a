"""Processes that work on materials for a driver: on this machine, or actors of Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import worker
from .worker import Materials

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .dealing import Task

ANSWERS = 10.0  # s, until a Ray cluster answers


class LocalPool:
    """Processes of this machine, its cores dealt out to them."""

    def __init__(self, task: Task, count: int) -> None:
        self.task, self.count = task, count
        self.cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def start(self, number: int) -> LocalWorker:
        return LocalWorker(self.task, self.cores[number % self.count :: self.count])

    def wait(self, busy: Sequence[LocalWorker]) -> list[tuple[LocalWorker, dict[str, Any] | None]]:
        ready, _, _ = select.select([w.answers for w in busy], [], [])
        return [(w, w.result()) for w in busy if w.answers in ready]


class LocalWorker:
    def __init__(self, task: Task, cores: list[int]) -> None:
        command = [sys.executable, "-c", f"from {worker.__name__} import main; main()"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.answers = self.process.stdout
        self._send({"task": dataclasses.asdict(task), "cores": cores, "path": sys.path})

    def _send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died, which its result will say
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def begin(self, name: str, stage: str) -> None:
        self._send({"name": name, "stage": stage})

    def result(self) -> dict[str, Any] | None:
        line = self.answers.readline()
        return json.loads(line) if line.endswith("\n") else None

    def close(self) -> None:
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()  # which waits and closes the pipes


class RayPool:
    """Actors of a Ray cluster, which share the folder: on whatever machines it has."""

    def __init__(self, task: Task, count: int, cores: int) -> None:
        try:
            import ray
        except ImportError:
            raise InputError("Ray is not installed", "pip install 'wigner-jax[ray]'") from None
        self.ray, self.task, self.count = ray, task, count
        if not ray.is_initialized():
            _require_head(os.environ.get("RAY_ADDRESS", ""))
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        self.actor = ray.remote(num_cpus=cores, max_restarts=0)(Materials)
        self.cores = cores

    def start(self, number: int) -> RayWorker:
        return RayWorker(self.actor.remote(dataclasses.asdict(self.task), self.cores), self.ray)

    def wait(self, busy: Sequence[RayWorker]) -> list[tuple[RayWorker, dict[str, Any] | None]]:
        ready, _ = self.ray.wait([w.reference for w in busy], num_returns=1)
        return [(w, w.result()) for w in busy if w.reference in ready]


def _require_head(address: str) -> None:
    """Raises InputError unless somebody listens where a cluster is said to be: Ray itself waits for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return  # none, "auto" or "local"
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS).close()
    except (OSError, OverflowError) as error:
        advice = "start the cluster (ray start --head), or unset RAY_ADDRESS for one of this machine"
        raise InputError(f"no Ray cluster answers at RAY_ADDRESS={address} ({error})", advice) from error


class RayWorker:
    def __init__(self, handle: Any, ray: Any) -> None:
        self.handle, self.ray, self.reference = handle, ray, None

    def begin(self, name: str, stage: str) -> None:
        self.reference = self.handle.one.remote(name, stage)

    def result(self) -> dict[str, Any] | None:
        try:
            return self.ray.get(self.reference)
        except self.ray.exceptions.RayActorError:
            return None

    def close(self) -> None:
        self.ray.kill(self.handle)


__all__ = ["LocalPool", "RayPool"]
