"""κ in the relaxation-time approximation and beyond it against kaldo's `rta` and `inverse`, at one fixed Gaussian width.

    python benchmarks/kaldo_inverse.py --python kaldo-env/bin/python --strained --out benchmarks/results/NAME.json

Silicon by Stillinger and Weber at its minimum, Φ2 and Φ3 in 3×3×3 primitive cells, handed over as ShengBTE's files; 300 K, no
isotopes. kaldo (2.3, in an environment of its own: it brings tensorflow) takes
δ(Δ) = exp(−Δ²/σ²)/(√π σ), of standard deviation σ/√2, which is what ours is given, and cuts it off at 2σ, which takes 1 − erf(2) =
0.5 % of it (`--whole`: at 6σ); ours has no cut-off. Its κ has the diagonal of the velocity operator alone; of degenerate modes that
depends on the eigenvectors, and ours has the whole blocks ("rta"; "rta_diagonal" is the diagonal with our eigenvectors). kaldo's
inverse is of the whole mesh, without symmetry.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from typing import Any

from common import add_output, configure_jax, environment, number, run_worker, seconds_of, serve, table, write_json

PACKAGES = ("wigner-jax", "jax", "jaxlib", "numpy", "ase")
TEMPERATURE = 300.0
STRAIN = ((0.02, 0.01, 0.004), (0.01, -0.015, 0.006), (0.004, 0.006, 0.005))  # which leaves no degenerate modes


def our_worker(job: dict[str, Any]) -> dict[str, Any]:
    configure_jax(job["threads"])
    import numpy as np
    from ase.build import bulk

    import wigner_jax as wj
    from wigner_jax.units import KAPPA

    potential = wj.load_potential("stillinger-weber-si")
    relaxed, _ = wj.relax(bulk("Si", a=5.431), potential)
    if job["strained"]:
        relaxed.set_cell(relaxed.cell @ (np.eye(3) + np.array(STRAIN)), scale_atoms=True)
    cells = wj.supercells_from_atoms(relaxed, (3, 3, 3), (3, 3, 3))
    fc, _ = wj.force_constants(cells, potential)
    wj.write_force_constants(job["folder"], wj.GivenConstants(cells, fc), "shengbte")
    plan = wj.make_plan(cells, job["mesh"])
    seconds, solution = seconds_of(
        lambda: wj.solve(
            plan,
            fc,
            (TEMPERATURE,),
            broadening=wj.Gaussian(job["sigma"] / 2**0.5),
            scattering=wj.Scattering(None),
            transport="lbte",
        )
    )
    velocities = np.einsum("pssa->psa", np.asarray(solution.phonons.velocity_operator)).real
    gamma, capacity = (np.asarray(x)[0] for x in (solution.linewidths.total, solution.conductivity.heat_capacity))
    rates = np.where(gamma > 0, 4 * np.pi * gamma, 0.0)
    weights = np.asarray(plan.mesh.weights)[:, None]
    volume = abs(np.linalg.det(plan.crystal.lattice))
    mean = np.divide(capacity, 2 * gamma, out=np.zeros_like(gamma), where=gamma > 0)
    diagonal = (weights * mean * (velocities**2).mean(axis=-1)).sum() * KAPPA / volume / weights.sum()
    return {
        "seconds": seconds, "rta_diagonal": float(diagonal), "rta": float(solution.conductivity.kappa_P[0, :3].mean()),
        "full": float(solution.full.kappa_P[0, :3].mean()), "mean_rate": float((weights * rates).sum() / (weights.sum() * rates.shape[1])),
        "frequency": float(np.max(solution.phonons.frequencies)), "speed": float(np.abs(velocities).max()),
        "capacity": float(capacity.max()),
    }  # fmt: skip


def their_worker(job: dict[str, Any]) -> dict[str, Any]:
    import numpy as np
    from kaldo.conductivity import Conductivity
    from kaldo.forceconstants import ForceConstants
    from kaldo.phonons import Phonons

    if job["whole"]:
        from kaldo.controllers import anharmonic

        anharmonic.calculate_dirac_delta_crystal.__defaults__ = (6,)
    cells = [3, 3, 3]
    constants = ForceConstants.from_folder(
        folder=job["folder"], supercell=cells, third_supercell=cells, format="shengbte"
    )
    phonons = Phonons(
        forceconstants=constants, kpts=job["mesh"], is_classic=False, temperature=TEMPERATURE, folder=job["folder"] + "/kaldo",
        storage="memory", third_bandwidth=job["sigma"], broadening_shape="gauss",
    )  # fmt: skip
    found: dict[str, Any] = {}

    def tensor(method: str) -> Any:
        return Conductivity(phonons=phonons, method=method, storage="memory").conductivity.sum(axis=0)

    for name, method in (("rta", "rta"), ("full", "inverse")):
        seconds, kappa = seconds_of(partial(tensor, method))
        found |= {name: float(np.trace(kappa) / 3), f"seconds_{name}": seconds}
    return found | {"mean_rate": float(np.mean(phonons.bandwidth)), "frequency": float(phonons.frequency.max())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="of the environment with kaldo")
    parser.add_argument("--mesh", type=int, nargs=3, default=[4, 4, 4])
    parser.add_argument("--sigma", type=float, default=1.0, help="kaldo's third_bandwidth, THz")
    parser.add_argument("--strained", action="store_true", help="a crystal without degenerate modes")
    parser.add_argument("--whole", action="store_true", help="let kaldo's Gaussian reach to 6σ instead of 2σ")
    parser.add_argument("--threads", type=int, default=1)
    add_output(parser)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "mesh": arguments.mesh,
            "sigma": arguments.sigma,
            "strained": arguments.strained,
            "whole": arguments.whole,
            "folder": f"{folder}/constants",
        }
        ours = run_worker(__file__, {**job, "code": "ours"}, arguments.threads)
        theirs = run_worker(__file__, {**job, "code": "kaldo"}, arguments.threads, python=arguments.python)
    theirs["rta_diagonal"] = theirs["rta"]
    rows = [[name, number(ours[name], 5), number(theirs[name], 5), f"{100 * (theirs[name] / ours[name] - 1):+.2f} %"]
            for name in ("frequency", "mean_rate", "rta_diagonal", "rta", "full")]  # fmt: skip
    print(table(("", "ours", "kaldo", "difference"), rows))
    record = {"benchmark": "kaldo_inverse", **environment(PACKAGES), "mesh": arguments.mesh, "sigma": arguments.sigma}
    record |= {"strained": arguments.strained, "whole": arguments.whole}
    write_json(arguments.out, record | {"ours": ours, "kaldo": theirs})


if __name__ == "__main__" and not serve(lambda job: {"ours": our_worker, "kaldo": their_worker}[job["code"]](job)):
    main()
