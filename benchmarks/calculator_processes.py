"""Forces of displaced supercells by a slow ASE calculator: one after the other, and shared by processes.

    python benchmarks/calculator_processes.py [--processes 2] [--out benchmarks/results/NAME.json]

24 supercells of 64 silicon atoms, one atom of each displaced by 0.03 Å; the calculator is ASE's Tersoff potential in pure
Python. By turns, three times: this process; new processes, their start included; the same processes once more. The forces
must be the same bit for bit.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from common import add_output, environment, median, seconds_of, write_json

SUPERCELLS, ROUNDS = 24, 3


def tersoff() -> Any:
    """Silicon, Phys. Rev. B 39, 5566 (1989)."""
    from ase.calculators.tersoff import Tersoff, TersoffParameters

    silicon = TersoffParameters(
        m=3, gamma=1.0, lambda3=0.0, c=1.0039e5, d=16.217, h=-0.59825, n=0.78734, beta=1.1e-6, lambda2=1.7322, B=471.18,
        R=2.85, D=0.15, lambda1=2.4799, A=1830.8,
    )  # fmt: skip
    return Tersoff({("Si", "Si", "Si"): silicon})


def structures() -> list[Any]:
    from ase.build import bulk

    perfect, found = bulk("Si", cubic=True).repeat(2), []
    for number in range(SUPERCELLS):
        found.append(perfect.copy())
        found[-1].positions[number, number % 3] += 0.03
    return found


def measured(processes: int) -> dict[str, list[float]]:
    """Seconds of every round."""
    import numpy as np

    import wigner_jax as wj
    from wigner_jax.ifc.batched_forces import one_by_one

    seconds: dict[str, list[float]] = {"one process": [], "with their start": [], "warm": []}
    for _ in range(ROUNDS):
        spent, expected = seconds_of(lambda: dict(one_by_one(tersoff(), structures())))
        seconds["one process"].append(spent)
        with wj.CalculatorPool("ase:calculator_processes:tersoff", processes) as pool:
            for name in ("with their start", "warm"):
                spent, found = seconds_of(lambda pool=pool: dict(pool.batched_forces(structures())))  # type: ignore[misc]
                seconds[name].append(spent)
                assert all(np.array_equal(found[k], expected[k]) for k in range(SUPERCELLS))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, metavar="n")
    add_output(parser)
    arguments = parser.parse_args()
    seconds = measured(arguments.processes)
    for name, times in seconds.items():
        print(f"{name:18} {median(times):7.2f} s   ({', '.join(f'{t:.2f}' for t in times)})", flush=True)
    facts = environment(("wigner-jax", "ase", "numpy"))
    record = {"processes": arguments.processes, "load_average": os.getloadavg()[0], "seconds": seconds}
    write_json(arguments.out, {"benchmark": "calculator_processes", **facts, **record})


if __name__ == "__main__":
    main()
