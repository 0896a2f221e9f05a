"""κ by differentiation and by finite displacements of the same MACE: the same number, as the displacements shrink.

    python benchmarks/kappa_displacements.py [Si LiBr MgO] [--out benchmarks/results/NAME.json]

The potential is mace-bundled. Each crystal is relaxed; Φ2 and Φ3 come from automatic differentiation and from phono3py's
displacements of 0.03, 0.01 and 0.003 Å in the same cells of 64 atoms; κ is at 300 K on 11 × 11 × 11 points, tetrahedra and
isotopes included. The error of a displacement h falls as h², until rounding in the forces (1e-15/h in Φ2, /h² in Φ3) takes
over.
"""

from __future__ import annotations

import argparse
from typing import Any

from common import TEMPERATURE, add_output, configure_jax, cores_here, environment, write_json

DISTANCES = (0.03, 0.01, 0.003)  # Å
MESH, SUPERCELL = (11, 11, 11), (2, 2, 2)


def compare(name: str) -> dict[str, Any]:
    """κ_TOT (trace over three) of one compound: by differentiation, and for every displacement."""
    import numpy as np

    import wigner_jax as wj
    from wigner_jax.ifc.finite_displacement import finite_displacements

    def trace(cells: Any, fc: Any) -> float:
        total = wj.solve(wj.make_plan(cells, mesh=MESH), fc, (TEMPERATURE,)).conductivity.kappa_TOT
        return float(np.mean(np.asarray(total)[0, :3]))

    potential = wj.load_potential("mace-bundled")
    atoms, _ = wj.relax(wj.prototype(name), potential)
    cells = wj.supercells_from_atoms(atoms, SUPERCELL, SUPERCELL)
    row: dict[str, Any] = {"compound": name, "kappa": trace(cells, wj.force_constants(cells, potential)[0]), "by": []}
    for distance in DISTANCES:
        (cells, fc), _ = finite_displacements(
            atoms, wj.WignerCalculator(potential), fc2_supercell=SUPERCELL, fc3_supercell=SUPERCELL, distance=distance
        )
        kappa = trace(cells, fc)
        row["by"].append({"distance": distance, "kappa": kappa, "difference": kappa / row["kappa"] - 1})
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compounds", nargs="*", default=["Si", "LiBr", "MgO"], metavar="COMPOUND")
    add_output(parser)
    arguments = parser.parse_args()
    configure_jax(cores_here())
    print("compound   differentiation | displacements: " + ", ".join(f"{h:g} Å" for h in DISTANCES), flush=True)
    rows = []
    for name in arguments.compounds:
        rows.append(compare(name))
        parts = [f"{x['kappa']:.5f} ({x['difference']:+.0e})" for x in rows[-1]["by"]]
        print(f"{name:8} {rows[-1]['kappa']:17.5f} | " + "   ".join(parts), flush=True)
    facts = environment(("wigner-jax", "jax", "jaxlib", "numpy", "phono3py"))
    write_json(arguments.out, {"benchmark": "kappa_displacements", **facts, "rows": rows})


if __name__ == "__main__":
    main()
