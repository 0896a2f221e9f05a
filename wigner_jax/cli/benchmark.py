"""``wigner-jax benchmark``: a potential on many crystals against a reference. See evaluation/records.py for what is kept."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._core.atomic_write import check_folder
from .._core.compile_cache import evict_compiled_programs
from .._core.progress import Progress, duration, progress_stream
from ..checks import temperatures_above_zero
from ..errors import InputError
from ..evaluation.contents import POTENTIAL, contents_of, potential_contents
from ..evaluation.gruneisen import read_gammas
from ..evaluation.material import run_material
from ..evaluation.records import missing_records, open_campaign, write_record
from ..evaluation.settings import DERIVATIVES, GRUNEISEN, PROTOCOLS, EvaluationSettings
from ..evaluation.tables import TYPES, details_of, write_matbench, write_tables
from ..evaluation.timings import write_times
from ..io.kappa_hdf5 import rough_size
from ..io.phonondb import read_phonondb, read_phonondb_structures
from ..pipeline import any_model, derivatives_of, model_of
from .checks import positive, writable
from .options import add_processes
from .report import times_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    import ase

    from ..evaluation.contents import Contents
    from ..reference import Reference


HELP = "a potential against reference conductivities"
DESCRIPTION = """\
How good a potential is at heat transport: every crystal of a structure file is relaxed, its force constants are made, and
its Wigner conductivity is compared mode by mode with a reference (κ_SRME, arXiv:2408.00755).

A campaign can be interrupted at any time and continued with the same command: finished materials are not done again, a
material that failed is recorded with its reason. Pieces made with --shard may share a folder, or be copied into one.
Records say what they were made from: if the potential, a structure, the reference or the settings have changed since, under
whatever name, the command refuses and says what; --restart makes such records again, and no others."""
ABBREVIATIONS = {"rs": "rocksalt", "zb": "zincblende", "wz": "wurtzite"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    parser.add_argument("--potential", required=True, metavar="NAME|FILE|ase:module:factory")
    parser.add_argument(
        "--structures", required=True, metavar="FILE.extxyz", help="with supercells and mesh in its info"
    )
    parser.add_argument("--reference", required=True, metavar="FILE.json[.gz]", help="mode-resolved conductivities")
    parser.add_argument(
        "-o", "--out", required=True, metavar="FOLDER", help="made if it is not there, continued if it is"
    )
    parser.add_argument(
        "--only", nargs="+", metavar="mp-…|NAME|rs|zb|wz", help="these materials, or types of structure, alone"
    )
    parser.add_argument("--shard", default="1/1", metavar="i/n", help="every n-th material, beginning with the i-th")
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="k_srme",
        help="of the relaxation (default: k_srme; newton: exact, with derivatives)",
    )
    parser.add_argument(
        "--fmax", type=float, default=1e-4, metavar="eV/Å", help="where k_srme and matbench stop (default: 1e-4)"
    )
    parser.add_argument(
        "--derivatives",
        choices=DERIVATIVES,
        help="force constants by automatic differentiation, or by displacements of 0.03 Å as published numbers were made"
        " (needs phono3py; default: as `wigner-jax models` says)",
    )
    parser.add_argument(
        "--distance", type=float, default=0.03, metavar="Å", help="of finite displacements (default: 0.03)"
    )
    parser.add_argument(
        "-T", "--temperatures", nargs="+", type=float, default=[300.0], metavar="K", help="default: 300"
    )
    parser.add_argument(
        "--broadening", choices=("tetrahedron", "adaptive"), default="tetrahedron",
        help="how energy conservation is integrated (default: tetrahedron)",
    )  # fmt: skip
    parser.add_argument(
        "--gruneisen",
        nargs="?",
        const="volumes",
        choices=GRUNEISEN,
        help="the mean Grüneisen parameter as well: from Φ2 at volumes of ±1 %% (default), its derivative by strain, or Φ3",
    )
    parser.add_argument(
        "--gruneisen-reference", metavar="FILE.csv[:COLUMN]", help="published γ at 300 K by mp_id (default: gamma_DFT)"
    )
    parser.add_argument("--matbench", metavar="FILE.json.gz", help="write the records for matbench-discovery as well")
    parser.add_argument(
        "--restart",
        action="store_true",
        help="make records again that were made with something else than is asked for now",
    )
    add_processes(parser)
    parser.add_argument("--threads", type=int, metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument("--quiet", action="store_true", help="print nothing but the summary")


def run(arguments: argparse.Namespace) -> int:
    """Run what is missing, then write and print the table."""
    index, pieces = shard_of(arguments.shard)
    temperatures = temperatures_above_zero(arguments.temperatures)
    positive(arguments.distance, "--distance")
    positive(arguments.processes, "--processes")
    reference = read_phonondb(arguments.reference)
    structures = _structures(arguments.structures, reference)
    for one in structures.values():
        for t in temperatures:
            reference[one.info["mp_id"]].at(t)
    chosen = choose(structures, reference, arguments.only)
    potential = any_model(arguments.potential, arguments.processes or 1)
    derivatives = derivatives_of(potential, arguments.derivatives)
    settings = EvaluationSettings(
        arguments.potential, arguments.protocol, derivatives, arguments.distance, temperatures, 1e6, arguments.broadening,
        arguments.gruneisen, arguments.gruneisen_reference, arguments.fmax,
    )  # fmt: skip
    if settings.gruneisen_reference is not None and settings.gruneisen is None:
        raise InputError("--gruneisen-reference needs --gruneisen")
    order = _contents(structures, reference, settings, potential)
    _check_outputs(arguments, [reference[m] for m in chosen[index - 1 :: pieces]])
    open_campaign(arguments.out, settings, next(iter(order.values()))[POTENTIAL], restart=arguments.restart)
    missing = set(missing_records(arguments.out, order, restart=arguments.restart))
    todo = [m for m in chosen[index - 1 :: pieces] if m in missing]
    for number, mp_id in enumerate(todo):
        stages = Progress(progress_stream(arguments.quiet))
        record, result = run_material(structures[mp_id], _for(potential, structures[mp_id]), reference[mp_id], settings,
                                      stages)  # fmt: skip
        write_record(arguments.out, record | {"contents": order[mp_id]}, stages.times, result)
        write_tables(arguments.out, order)
        if not arguments.quiet:
            print(line_of(record, stages.times, number + 1, len(todo)), flush=True)
        evict_compiled_programs()
    rows, summary = write_tables(arguments.out, order)
    if arguments.matbench:
        write_matbench(arguments.out, order, arguments.matbench)
    times = write_times(arguments.out, order)
    print(summary_table(summary))
    if times and not arguments.quiet:
        print(times_table(times))
    print(f"written: {Path(arguments.out) / 'table.csv'} ({len({r['mp_id'] for r in rows})} of {len(order)} materials)")
    return 0


def _contents(
    structures: dict[str, ase.Atoms], reference: dict[str, Reference], settings: EvaluationSettings, potential: Any
) -> dict[str, Contents]:
    """What the records are made from, by material, in the order of the structure file."""
    source = settings.gruneisen_reference
    gammas = {} if source is None else read_gammas(source)
    weights = potential_contents(settings.potential, potential)
    return {m: contents_of(weights, settings, a, reference[m], gammas.get(m)) for m, a in structures.items()}


def _check_outputs(arguments: argparse.Namespace, materials: Sequence[Reference]) -> None:
    """The places of all that will be written, and room for it."""
    inputs = (arguments.structures, arguments.reference, arguments.potential)
    writable(arguments.matbench, "a table for matbench-discovery", "--matbench", inputs=inputs)
    count = len(arguments.temperatures)
    need = sum(rough_size(len(r.weights), r.frequencies.shape[1], count) for r in materials)
    check_folder(arguments.out, need, "name another folder with -o")


def shard_of(text: str) -> tuple[int, int]:
    """(i, n) of "i/n"."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard is {text!r}", "write i/n with 1 ≤ i ≤ n, such as 2/8")
    return int(match[1]), int(match[2])


def choose(structures: Iterable[str], reference: dict[str, Reference], only: Sequence[str] | None) -> list[str]:
    """The materials to do, in the order of the structure file."""
    order = list(structures)
    if only is None:
        return order
    kept: set[str] = set()
    for word in only:
        kind = ABBREVIATIONS.get(word, word)
        found = [
            m for m in order if m == word or reference[m].name == word or TYPES.get(reference[m].space_group) == kind
        ]
        if not found:
            raise InputError(f"--only {word}: no such material or type (rs, zb, wz) in the structure file")
        kept.update(found)
    return [m for m in order if m in kept]


def _structures(path: str, reference: dict[str, Reference]) -> dict[str, ase.Atoms]:
    structures = read_phonondb_structures(path)
    for mp_id, atoms in structures.items():
        for name in ("fc2_supercell", "fc3_supercell", "q_mesh"):
            if name not in atoms.info:
                raise InputError(f"{path}: {mp_id} has no {name} in its info")
        if mp_id not in reference:
            raise InputError(f"{path}: the reference has no {mp_id}")
    return structures


def _for(model: Any, atoms: ase.Atoms) -> Any:
    """The model for these atoms; as it is if it does not know them, which the record says then."""
    try:
        return model_of(model, atoms)
    except ValueError:
        return model


def line_of(record: dict[str, Any], times: dict[str, float], number: int, total: int) -> str:
    """One line of progress for a finished material."""
    name = f"[{number}/{total}] {record['mp_id']:>10} {record['name']:<6}"
    took = duration(sum(times.values()))
    if record.get("gamma") and record["gamma"][0] is not None:
        name += f" γ {record['gamma'][0]:7.3f}"
    if "kappa" not in record:
        return f"{name} failed after {took}: {record['failure']}"
    return (
        f"{name} κ {record['kappa'][0]:9.3f}  DFT {record['kappa_DFT'][0]:9.3f}  SRME {record['SRME'][0]:.3f}  ({took})"
    )


def summary_table(summary: dict[str, Any]) -> str:
    """The summary as text."""
    lines = []
    for temperature, groups in summary.items():
        lines.append(f"{temperature:<12}{'materials':>10}{'SRME':>8}{'SRE':>8}{'within ×2':>11}{'failed':>8}")
        for name, s in groups.items():
            lines.append(
                f"  {name:<10}{s['materials']:>10}{s['SRME']:>8.3f}{s['SRE']:>8.3f}"
                f"{100 * s['within_factor_two']:>10.0f}%{len(s['failed']):>8}"
                + (f"   γ: mean SRE {s['gamma_SRE']:.3f} of {s['gamma_materials']}" if "gamma_SRE" in s else "")
            )
        lines += [f"  {line}" for line in details_of(groups["all"])]
    return "\n".join(lines) if lines else "no records yet"
