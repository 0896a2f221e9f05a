"""Materials that get a κ per CPU-hour: `wigner-jax screen` against a loop over phono3py with the same potential's forces.

    python benchmarks/screening.py --potential nequix-mp-1 [--count 100] [--peers 10] [--out benchmarks/results/NAME.json]

The structures are prototypes with substituted elements (rocksalt, zincblende, wurtzite, antifluorite, half-Heusler, cubic
perovskite), their lattice constants from covalent or ionic radii, so that every one has to be relaxed and some turn out
unstable: the same list on every machine, and the first `--count` of it, types by turns. Supercells and mesh are the rules of
`screen` (19×19×19 points for two atoms, as many per atom for others).

*screen*: one process on one core from an empty cache of compiled programs to the written table, compilation included.

*peer*: for the first `--peers` structures that got a κ, relaxed by `screen` already (not counted for the peer): phono3py's
displacements of 0.03 Å in the same supercells, forces by the same potential (`WignerCalculator`, compiled programs kept;
compilation counted once for all, not per structure), phono3py 4.10's force constants (traditional solver), and its RTA with
isotopes by tetrahedra on the same mesh, on the same core. What it would take for all is these times over the number that
got a κ, which is an extrapolation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import add_output, environment, write_json

IONS = {"Li": 0.76, "Na": 1.02, "K": 1.38, "Mg": 0.72, "Ca": 1.00, "Sr": 1.18, "Ba": 1.35, "Cd": 0.95, "F": 1.33, "Cl": 1.81,
        "Br": 1.96, "O": 1.40, "S": 1.84, "Se": 1.98}  # fmt: skip
COVALENT = {"B": 0.84, "C": 0.76, "N": 0.71, "Al": 1.21, "Si": 1.11, "P": 1.07, "Ga": 1.22, "Ge": 1.20, "As": 1.19, "In": 1.42,
            "Sb": 1.39, "Zn": 1.22, "Cd": 1.44, "S": 1.05, "Se": 1.20, "Te": 1.38, "Be": 0.96}  # fmt: skip


def structures() -> list[Any]:
    """The list, types by turns."""
    from ase import Atoms
    from ase.build import bulk

    halides = [(a, b) for a in ("Li", "Na", "K") for b in ("F", "Cl", "Br")]
    chalcogenides = [(a, b) for a in ("Mg", "Ca", "Sr", "Ba", "Cd") for b in ("O", "S", "Se")]
    three_five = [(a, b) for a in ("Al", "Ga", "In", "B") for b in ("N", "P", "As", "Sb")]
    two_six = [(a, b) for a in ("Zn", "Cd", "Be") for b in ("S", "Se", "Te")]
    found: dict[str, list[Any]] = {name: [] for name in ("rs", "zb", "wz", "af", "hh", "pv")}
    for a, b in halides + chalcogenides:
        found["rs"].append((f"{a}{b}", bulk(f"{a}{b}", "rocksalt", a=2 * (IONS[a] + IONS[b]))))
    for a, b in three_five + two_six:
        d = COVALENT[a] + COVALENT[b]
        found["zb"].append((f"{a}{b}", bulk(f"{a}{b}", "zincblende", a=4 * d / 3**0.5)))
        found["wz"].append((f"{a}{b}", bulk(f"{a}{b}", "wurtzite", a=(8 / 3) ** 0.5 * d, c=8 / 3 * d)))
    for a, b in itertools.product(("Li", "Na", "K"), ("O", "S", "Se")):
        cell = 4 * (IONS[a] + IONS[b]) / 3**0.5
        atoms = bulk(f"{b}{a}2", "fluorite", a=cell)
        found["af"].append((f"{a}2{b}", atoms))
    for x, y, z in (("Ti", "Ni", "Sn"), ("Zr", "Ni", "Sn"), ("Hf", "Ni", "Sn"), ("Ti", "Co", "Sb"), ("Zr", "Co", "Sb"),
                    ("Nb", "Fe", "Sb"), ("V", "Fe", "Sb"), ("Hf", "Co", "Sb"), ("Nb", "Co", "Sn"), ("Ta", "Fe", "Sb")):  # fmt: skip
        cell = 5.95
        scaled = [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25], [0, 0, 0]]
        lattice = [[0, cell / 2, cell / 2], [cell / 2, 0, cell / 2], [cell / 2, cell / 2, 0]]
        found["hh"].append((f"{x}{y}{z}", Atoms([x, y, z], scaled_positions=scaled, cell=lattice, pbc=True)))
    for a, b, x in (("Sr", "Ti", "O"), ("Ba", "Zr", "O"), ("Ba", "Hf", "O"), ("K", "Ta", "O"), ("K", "Mg", "F"), ("Ba", "Li", "F"),
                    ("K", "Zn", "F"), ("Sr", "Hf", "O"), ("Rb", "Ca", "F"), ("Cs", "Cd", "F")):  # fmt: skip
        cell = 4.1
        scaled = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        found["pv"].append((f"{a}{b}{x}3", Atoms([a, b, x, x, x], scaled_positions=scaled, cell=[cell] * 3, pbc=True)))
    rows = []
    for group in itertools.zip_longest(*found.values()):
        for kind, entry in zip(found, group, strict=True):
            if entry is not None:
                entry[1].info = {"name": f"{entry[0]}-{kind}"}
                rows.append(entry[1])
    return rows


def pinned(core: int) -> Any:
    return lambda: os.sched_setaffinity(0, {core})


def screened(folder: Path, potential: str, count: int, core: int, mesh_points: int | None) -> dict[str, Any]:
    """CPU seconds of the whole command, and its records."""
    import resource

    import ase.io

    ase.io.write(folder / "structures.extxyz", structures()[:count])
    command: list[Any] = [sys.executable, "-m", "wigner_jax", "screen", folder / "structures.extxyz", "--potential", potential,
               "-o", folder / "out", "--threads", "1"]  # fmt: skip
    if mesh_points:
        command += ["--mesh-points", str(mesh_points)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        command,
        preexec_fn=pinned(core),
        env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")},
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    records = []
    for path in sorted((folder / "out" / "materials").glob("*.hdf5")):
        import h5py

        with h5py.File(path) as file:
            records.append(json.loads(file.attrs["record"]))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": cpu, "wall_s": time.perf_counter() - start, "records": records, "peak_GB": after.ru_maxrss / 2**20}


PEER = """
import json, sys, time
job = json.load(open(sys.argv[1]))
import jax
jax.config.update("jax_enable_x64", True)
import numpy as np
import wigner_jax as wj
wj.enable_compilation_cache()
import ase
from phono3py import Phono3py
from phonopy.structure.atoms import PhonopyAtoms
from wigner_jax.crystal.defaults import default_supercells
from wigner_jax.pipeline import model_of
results = []
for record in job["records"]:
    atoms = ase.Atoms(record["numbers"], scaled_positions=record["positions"], cell=record["lattice"], pbc=True)
    cells = default_supercells(atoms)
    second, third = (np.asarray(c.matrix).T for c in (cells.fc2_supercell, cells.fc3_supercell))
    calculator = wj.WignerCalculator(model_of(job["potential"], atoms))
    # compiled programs do not count: one call of each supercell first
    unit = PhonopyAtoms(numbers=atoms.numbers, cell=atoms.cell.array, scaled_positions=atoms.get_scaled_positions())
    ph3 = Phono3py(unit, supercell_matrix=third, phonon_supercell_matrix=second, primitive_matrix=np.eye(3), log_level=0)
    ph3.generate_displacements(distance=0.03)
    ph3.generate_fc2_displacements(distance=0.03)
    def forces(cell):
        found = ase.Atoms(cell.numbers, cell=cell.cell, positions=cell.positions, pbc=True)
        found.calc = calculator
        return found.get_forces()
    for cell in (ph3.supercell, ph3.phonon_supercell):
        forces(cell)
    start = time.process_time()
    ph3.generate_displacements(distance=0.03)
    ph3.generate_fc2_displacements(distance=0.03)
    ph3.forces = np.array([forces(c) for c in ph3.supercells_with_displacements])
    ph3.phonon_forces = np.array([forces(c) for c in ph3.phonon_supercells_with_displacements])
    forced = time.process_time()
    ph3.produce_fc3(is_compact_fc=True)
    ph3.produce_fc2(is_compact_fc=True)
    made = time.process_time()
    ph3.mesh_numbers = record["mesh"]
    ph3.init_phph_interaction()
    ph3.run_thermal_conductivity(temperatures=[300.0], is_isotope=True)
    done = time.process_time()
    kappa = float(np.mean(np.asarray(ph3.thermal_conductivity.kappa).ravel()[:3]))
    results.append({"name": record["name"], "kappa": kappa, "displacements": len(ph3.supercells_with_displacements),
                    "forces_s": forced - start, "constants_s": made - forced, "kappa_s": done - made})
    print(json.dumps(results[-1]), flush=True)
json.dump(results, open(sys.argv[2], "w"))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--potential", default="nequix-mp-1", metavar="NAME|FILE")
    parser.add_argument("--count", type=int, default=100, metavar="N", help="structures (default: 100)")
    parser.add_argument(
        "--peers", type=int, default=10, metavar="N", help="of those with a κ, for the peer (default: 10)"
    )
    parser.add_argument("--mesh-points", type=int, metavar="N", help="other than the rule's")
    parser.add_argument("--core", type=int, default=0, metavar="K")
    add_output(parser)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wigner-jax-screening-"))
    try:
        ours = screened(folder, arguments.potential, arguments.count, arguments.core, arguments.mesh_points)
        done = [r for r in ours["records"] if r["status"] == "done"]
        order = [a.info["name"] for a in structures()]
        done.sort(key=lambda r: order.index(r["name"]))
        print(f"screen: {len(done)} of {len(ours['records'])} got a κ in {ours['cpu_s']:.0f} CPU s", flush=True)
        (folder / "job.json").write_text(
            json.dumps({"records": done[: arguments.peers], "potential": arguments.potential})
        )
        peers: list[Any] = []
        if arguments.peers:
            threads = dict.fromkeys(("OMP_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
            cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
            subprocess.run(
                [sys.executable, "-c", PEER, folder / "job.json", folder / "peer.json"], preexec_fn=pinned(arguments.core),
                env=os.environ | threads | cache, check=True,
            )  # fmt: skip
            peers = json.loads((folder / "peer.json").read_text())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    each = ours["cpu_s"] / max(1, len(done))
    rows = [
        {k: r.get(k) for k in ("name", "status", "reason", "kappa", "seconds", "atoms", "mesh", "lowest_frequency")}
        for r in ours["records"]
    ]
    result = {
        "potential": arguments.potential, "structures": len(rows), "done": len(done), "cpu_s": ours["cpu_s"],
        "wall_s": ours["wall_s"], "peak_GB": ours["peak_GB"], "materials_per_cpu_hour": 3600 / each, "peers": peers,
        "rows": rows,
    }  # fmt: skip
    print(f"{3600 / each:.0f} materials with a κ per CPU-hour, compilation included")
    if peers:
        theirs = sum(p["forces_s"] + p["constants_s"] + p["kappa_s"] for p in peers) / len(peers)
        same = [p["name"] for p in peers]
        own = sum(r["seconds"]["total"] for r in done if r["name"] in same) / len(same)
        result |= {"peer_s_each": theirs, "ratio": theirs / each, "own_s_of_the_same": own}
        print(
            f"peer: {theirs:.0f} CPU s each over {len(peers)}; ratio {theirs / each:.1f} (the same {len(peers)}: {own:.0f} s)"
        )
    write_json(
        arguments.out, {"benchmark": "screening", **environment(("wigner-jax", "jax", "jaxlib", "phono3py")), **result}
    )


if __name__ == "__main__":
    main()
