"""Seconds to the first κ: whole processes, with nothing compiled and with everything cached, against another commit.

    python benchmarks/time_to_kappa.py --against 39e6af1 --repeats 3 --out benchmarks/results/NAME.json

Every measurement is a process of its own on one pinned core, ``wigner-jax kappa SOURCE --threads 1``, timed from start
to end: CPU seconds (user and system; the measure on a shared machine) and wall seconds. *cold*: its cache of compiled
programs is an empty folder. *cached*: the folder that the cold run left. The commits take turns, so that both see the
same machine; medians of the repeats are compared.

The other commit is checked out into a temporary folder (git worktree) and run with the packages of this environment.

The table also counts programs: those that JAX compiled or loaded one by one, and the large ones among them, which took
more than a second of CPU to compile.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import add_output, environment, median, number, table, write_json

ROOT = Path(__file__).resolve().parents[1]
LARGE = 1.0  # s
WORKER = """
import json, resource, sys, time
start = time.perf_counter()
compiled = []
import jax
def heard(event, duration_secs, **_):
    if event.endswith("backend_compile_duration"):
        compiled.append(duration_secs)
jax.monitoring.register_event_duration_secs_listener(heard)
try:
    from wigner_jax.cli.app import main
except ImportError:  # before 0.2
    from wigner_jax.cli import main
code = main(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_SELF)
facts = {"cpu_s": used.ru_utime + used.ru_stime, "wall_s": time.perf_counter() - start, "programs": len(compiled)}
facts |= {"large": sum(x > LARGE for x in compiled), "code": code}
open(sys.argv[1], "w").write(json.dumps(facts))
""".replace("LARGE", str(LARGE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", default=["Si"], metavar="SOURCE", help="of `kappa` (default: Si)")
    parser.add_argument("--against", metavar="COMMIT", help="another commit, by turns with this one")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="default: 3")
    parser.add_argument("--core", type=int, default=0, metavar="K", help="which core (default: 0)")
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="time-to-kappa-") as scratch:
        trees = {"here": ROOT}
        try:
            if arguments.against:
                trees[arguments.against] = Path(scratch) / "tree"
                git("worktree", "add", "--detach", str(trees[arguments.against]), arguments.against)
            rows = [measured(s, trees, arguments.repeats, arguments.core, Path(scratch)) for s in arguments.sources]
        finally:
            if arguments.against:
                git("worktree", "remove", "--force", str(trees[arguments.against]))
    lines = []
    for row in rows:
        for name, facts in row["commits"].items():
            for kind in ("cold", "cached"):
                one, ratio = facts[kind], facts[kind]["cpu_s"] / row["commits"]["here"][kind]["cpu_s"]
                counts = [str(one["programs"]), str(one["large"])]
                seconds = [number(one[key]) for key in ("cpu_s", "wall_s")]
                lines.append([row["source"], name, kind, *seconds, number(ratio), *counts])
    print(table(["source", "commit", "cache", "CPU s", "wall s", "CPU / here", "programs", "large"], lines))
    facts = environment(["jax", "jaxlib", "numpy"])
    write_json(arguments.out, {"environment": facts, "repeats": arguments.repeats, "rows": rows})


def measured(source: str, trees: dict[str, Path], repeats: int, core: int, scratch: Path) -> dict[str, Any]:
    """Medians of every commit, which take turns."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {name: {"cold": [], "cached": []} for name in trees}
    for _ in range(repeats):
        for name, tree in trees.items():
            cache = scratch / "cache"
            for kind in ("cold", "cached"):
                found[name][kind].append(one_run(source, tree, cache, core, scratch))
            shutil.rmtree(cache)
    medians = {
        name: {
            kind: {key: median([run[key] for run in runs]) for key in ("cpu_s", "wall_s", "programs", "large")}
            for kind, runs in kinds.items()
        }
        for name, kinds in found.items()
    }
    return {"source": source, "commits": medians, "runs": found}


def one_run(source: str, tree: Path, cache: Path, core: int, scratch: Path) -> dict[str, Any]:
    """One process from start to end."""
    # without bytecode every process would compile the package's sources again, which no installation does
    ignored = ("JAX_", "XLA_", "PYTHONDONTWRITEBYTECODE")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ignored)}
    variables = {"PYTHONPATH": str(tree), "XDG_CACHE_HOME": str(cache)}
    facts = scratch / "facts.json"
    command = [sys.executable, "-c", WORKER, str(facts), "kappa", source, "--threads", "1", "--quiet"]
    done = subprocess.run(
        command, env={**kept, **variables}, cwd=scratch, capture_output=True, text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )  # fmt: skip
    if done.returncode or not facts.exists():
        raise SystemExit(f"kappa {source} of {tree} failed: {done.stderr.strip()}")
    result = json.loads(facts.read_text())
    facts.unlink()
    if result["code"]:
        raise SystemExit(f"kappa {source} of {tree} ended with {result['code']}: {done.stderr.strip()}")
    return result


def git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()
