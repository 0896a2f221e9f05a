"""What the benchmarks share: input, worker processes, timing, and the facts about the machine that go with a number.

A measurement runs in a process of its own (`run_worker`), so that thread counts, cores and caches are set before any
library starts, and its peak memory is its own. The parent imports neither jax nor the peer.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

TEMPERATURE = 300.0  # K, of every comparison
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
SHARED = Path(os.environ.get("WIGNER_JAX_SHARED", Path(__file__).resolve().parents[2] / "shared"))
SCRATCH = Path(tempfile.gettempdir()) / "wigner-jax-benchmarks"
FOLDERS = {"si": "reference/Si-PBEsol", "nacl": "reference/NaCl-PBE"}
FORCES = {"libr": "mp-23259-LiBr-rs", "beo": "mp-2542-BeO-wz"}
MB = 2**20


class Case(NamedTuple):
    """A material and a mesh."""

    name: str  # as on the command line: si-11
    mesh: tuple[int, int, int]
    yaml: str  # phono3py.yaml with fc2.hdf5 and fc3.hdf5 beside it


def find_case(name: str) -> Case:
    """Case of a name such as ``nacl-19``; wurtzite BeO gets a third dimension in the ratio of 19 × 19 × 15.

    Exits with one line for an unknown name and where the input data are missing.
    """
    match = re.fullmatch(r"(si|nacl|libr|beo)-(\d+)", name)
    if match is None:
        raise SystemExit(f"unknown case {name!r}: give si-N, nacl-N, libr-N or beo-N, such as si-11")
    data = SHARED / "data"
    if not data.is_dir():
        raise SystemExit(f"no input data at {SHARED}: set WIGNER_JAX_SHARED to the folder that holds data/")
    material, n = match[1], int(match[2])
    if material in FORCES:
        mesh = (n, n, round(n * 15 / 19) if material == "beo" else n)
        return Case(name, mesh, str(constants_from_forces(FORCES[material])))
    return Case(name, (n, n, n), str(data / FOLDERS[material] / "phono3py.yaml"))


def constants_from_forces(stored: str) -> Path:
    """phono3py.yaml beside force constants made once by phono3py from stored forces (MACE-MP-0b, 0.03 Å)."""
    folder, data = SCRATCH / stored, SHARED / "data"
    if (folder / "phono3py.yaml").is_file():
        return folder / "phono3py.yaml"
    import ase.io
    import numpy as np
    from phono3py import Phono3py
    from phono3py.file_IO import write_fc2_to_hdf5, write_fc3_to_hdf5
    from phonopy.structure.atoms import PhonopyAtoms

    forces = np.load(data / f"mace-force-sets/{stored}.npz")
    structures = ase.io.iread(data / "phonondb/phononDB-PBE-structures.extxyz")
    atoms = next(a for a in structures if a.info["mp_id"] == str(forces["mp_id"]))
    ph3 = Phono3py(
        PhonopyAtoms(numbers=atoms.numbers, cell=np.asarray(atoms.cell), positions=atoms.positions),
        supercell_matrix=atoms.info["fc3_supercell"],
        phonon_supercell_matrix=atoms.info["fc2_supercell"],
        primitive_matrix=atoms.info.get("primitive_matrix", "auto"),
        log_level=0,
    )
    ph3.generate_displacements(distance=0.03)
    ph3.generate_fc2_displacements(distance=0.03)
    ph3.forces, ph3.phonon_forces = forces["fc3_forces"], forces["fc2_forces"]
    ph3.produce_fc3()
    ph3.produce_fc2()
    ph3.symmetrize_fc3(use_symfc_projector=True)
    ph3.symmetrize_fc2(use_symfc_projector=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_fc2_to_hdf5(ph3.fc2, filename=folder / "fc2.hdf5", p2s_map=ph3.phonon_primitive.p2s_map)
    write_fc3_to_hdf5(ph3.fc3, filename=folder / "fc3.hdf5", p2s_map=ph3.primitive.p2s_map)
    partial = folder / "partial.yaml"
    ph3.save(partial, settings={"force_sets": False, "displacements": False, "force_constants": False})
    return partial.rename(folder / "phono3py.yaml")  # last: its presence says that the folder is complete


# -- processes ---------------------------------------------------------------------------------------------------------


def run_worker(
    script: str,
    job: dict[str, Any],
    threads: int,
    python: str = sys.executable,
    variables: dict[str, str] | None = None,
) -> dict[str, Any]:
    """Run ``script --worker JOB RESULT`` in a fresh process pinned to `threads` cores, and return what it wrote.

    It runs in an empty folder, because phono3py reads the fc3.hdf5 of the current one.

    Returns:
        The worker's result, with ``process_s`` (start to exit of the whole process) added.
    """
    cores = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else None
    if cores is not None and len(cores) < threads:
        raise SystemExit(f"{threads} threads asked for, {len(cores)} cores here: give fewer --threads")

    def pin() -> None:
        if cores is not None:
            os.sched_setaffinity(0, cores)

    env = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), **(variables or {})}
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.json"
        order = Path(folder) / "job.json"
        order.write_text(json.dumps({**job, "threads": threads}))
        command = [python, str(Path(script).resolve()), "--worker", str(order), str(output)]
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=folder, env=env, preexec_fn=pin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            tail = done.stderr.decode(errors="replace").strip().splitlines()[-12:]
            raise SystemExit("\n".join([f"worker failed ({done.returncode}) on {job}:", *tail]))
        return {**json.loads(output.read_text()), "process_s": seconds}


def serve(worker: Callable[[dict[str, Any]], dict[str, Any]]) -> bool:
    """Act as a worker if the command line says so: the other end of `run_worker`. Returns whether it did."""
    if sys.argv[1:2] != ["--worker"]:
        return False
    Path(sys.argv[3]).write_text(json.dumps(worker(json.loads(Path(sys.argv[2]).read_text()))))
    return True


def configure_jax(threads: int) -> None:
    """Double precision and as many CPU devices as threads (the solver spreads its q-points over devices)."""
    import jax

    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_num_cpu_devices", threads)


def fresh_cache(folder: str) -> dict[str, str]:
    """Environment of a process that keeps compiled programs in `folder`, as the command line of the package does."""
    return {"JAX_COMPILATION_CACHE_DIR": folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3"}


# -- measuring ---------------------------------------------------------------------------------------------------------


def waited(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a function that runs on JAX, when it is there."""
    import jax

    return jax.block_until_ready(function(*arguments))


def seconds_of(function: Callable[[], Any]) -> tuple[float, Any]:
    """Wall time of one call, and its result."""
    started = time.perf_counter()
    result = function()
    return time.perf_counter() - started, result


def times_of(function: Callable[[], Any], repeats: int) -> list[float]:
    """Wall times of several calls of a function that waits for its result."""
    return [seconds_of(function)[0] for _ in range(repeats)]


def median(values: Sequence[float]) -> float:
    return float(statistics.median(values))


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, MB (2^20 bytes).

    VmHWM starts anew with the program; ru_maxrss, the fallback, may include the parent's from before.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (match := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(match[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / MB if sys.platform == "darwin" else peak / 1024


def temporary_mb(compiled: Any) -> float:
    """Temporary memory of a compiled program as XLA plans it, MB (2^20 bytes)."""
    return compiled.memory_analysis().temp_size_in_bytes / MB


class Compilations:
    """Seconds that XLA has spent on compiling, from JAX's own events: tracing and lowering come on top."""

    def __init__(self) -> None:
        import jax

        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: Any) -> None:
        if event.endswith("backend_compile_duration"):
            self.seconds += duration_secs


def device_facts() -> dict[str, Any]:
    """JAX's devices, and the peak memory of the first one where it keeps count (not on a CPU)."""
    import jax

    devices = jax.devices()
    peak = (devices[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "device": f"{devices[0].platform}: {devices[0].device_kind}",
        "devices": len(devices),
        "device_peak_mb": None if peak is None else peak / MB,
    }


def environment(packages: Sequence[str]) -> dict[str, Any]:
    """Date, processor, and versions: what a number needs beside it. No host names, no paths."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": processor(),
        "cores": cores_here(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def cores_here() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_rows(path: Path | None, keys: Sequence[str] = ("model", "compound")) -> dict[str, dict[str, Any]]:
    """Rows of a record by their `keys`, for a benchmark that goes on where it stopped; none without a file."""
    if path is None or not path.is_file():
        return {}
    return {" ".join(row[k] for k in keys): row for row in json.loads(path.read_text())["rows"]}


def save_rows(path: Path | None, facts: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The record so far, whole or not at all; nothing without a path."""
    if path is not None:
        part = path.with_suffix(".part")
        part.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")
        part.replace(path)


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """The processor's name as the system gives it; its architecture where it gives none."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else None
    return match[1] if match else platform.processor() or platform.machine()


def addresses(qpoints: Any, mesh: Sequence[int]) -> list[list[int]]:
    """Integer coordinates of q-points on their mesh, from 0."""
    import numpy as np

    return (np.rint(np.asarray(qpoints) * mesh).astype(int) % np.asarray(mesh)).tolist()


def join(ours: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]]) -> list[int]:
    """For each of our irreducible points, by address, the row of theirs."""
    row = {tuple(a): i for i, a in enumerate(theirs)}
    missing = sum(tuple(a) not in row for a in ours)
    if missing or len(row) != len(ours):
        raise SystemExit(f"the two codes chose different irreducible points ({missing} of ours are not theirs)")
    return [row[tuple(a)] for a in ours]


# -- reporting ---------------------------------------------------------------------------------------------------------


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns wide enough for their content; the first is aligned to the left."""
    lines = [list(header), *[list(r) for r in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = []
    for first, *rest in lines:
        text.append("  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))]))
    return "\n".join(text)


def number(value: float | None, digits: int = 3, unit: str = "") -> str:
    """A number with that many significant digits, a dash for none."""
    if value is None:
        return "-"
    text = f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"
    return text + unit


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, help="JSON file to write, such as benchmarks/results/NAME.json")


def write_json(path: Path | None, data: dict[str, Any]) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n")
    print(f"\nwritten to {path}")
