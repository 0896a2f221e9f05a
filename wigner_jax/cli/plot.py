"""``wigner-jax plot``: figures of a kappa file, of a campaign's record, or of a whole campaign, from stored files alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.atomic_write import write_bytes
from .._core.own_files import OF_SCREENING, read_settings
from .._core.reading import reading
from ..checks import temperatures_above_zero
from ..errors import InputError
from ..evaluation.records import read_record
from ..io.kappa_hdf5 import read_kappa_hdf5
from ..io.phonondb import read_phonondb
from ..plot.figures import FIGURES, make_figure
from .checks import writable

if TYPE_CHECKING:
    import argparse

    from matplotlib.figure import Figure

    from ..reference import Reference


HELP = "figures of a kappa HDF5 file, or of a benchmark"
DESCRIPTION = f"""\
Figures from stored files. Of a benchmark's folder: κ against the reference, and SRME of every material. Of a kappa file
(wigner-jax kappa -o, phono3py, or FOLDER/records/mp-….hdf5 of a benchmark), by --figure:

{chr(10).join(f"  {name:<14} {text}" for name, text in FIGURES.items())}

--reference draws the mode-resolved reference of a benchmark beside: frequencies, C_V and κ."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the subcommand."""
    parser.add_argument("file", metavar="FILE.hdf5|FOLDER", help="a kappa file or a record; or a benchmark's folder")
    parser.add_argument("-o", "--out", metavar="FILE.png", help="default: FILE with the ending .png")
    parser.add_argument("--figure", choices=FIGURES, metavar="NAME", help="of a kappa file (default: summary)")
    parser.add_argument("--reference", metavar="FILE.json[.gz]", help="mode-resolved conductivities, on the same mesh")
    parser.add_argument(
        "--material", metavar="mp-…|NAME", help="row of the reference (default: what the record of a benchmark says)"
    )
    parser.add_argument(
        "-T",
        "--temperatures",
        dest="temperature",
        type=float,
        metavar="K",
        help="of what holds for one temperature (default: nearest to 300)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Make one figure."""
    if arguments.temperature is not None:
        temperatures_above_zero([arguments.temperature])
    given = _beside(arguments.file) if arguments.out is None else arguments.out
    output = writable(given, "a figure", inputs=(arguments.file, arguments.reference))
    assert output is not None
    _require_format(output)
    if Path(arguments.file).is_dir():
        from ..evaluation.figures import campaign_figure, read_table

        _refuse_screening(Path(arguments.file))
        for option in ("figure", "reference", "material"):
            if getattr(arguments, option) is not None:
                raise InputError(
                    f"--{option} belongs to one material", f"give a file, such as {arguments.file}/records/mp-661.hdf5"
                )
        with reading(arguments.file, "a campaign that can be drawn", folder=True):
            figure = campaign_figure(read_table(arguments.file), arguments.temperature)
    else:
        figure = _of_file(arguments)
    save(figure, output)
    print(f"written: {output}")
    return 0


def _beside(file: str) -> Path:
    """Where the figure of a file or a folder goes that has no other place."""
    path = Path(file)
    if path.name in ("", ".."):
        raise InputError(f"{file!r} gives the figure no name", "name it with -o")
    return path.with_suffix(".png")


def _refuse_screening(folder: Path) -> None:
    """InputError, with one of its files, if the folder is that of a screening."""
    if read_settings(folder / "settings.json", *OF_SCREENING) is None:
        return
    file = min((folder / "materials").glob("*.hdf5"), default=folder / "materials" / "NAME.hdf5")
    raise InputError(f"{folder} is the folder of a screening, which is drawn material by material", f"give {file}")


def _of_file(arguments: argparse.Namespace) -> Figure:
    record = read_record(arguments.file, complete=False)
    if record is not None and record.get("failure") and "kappa" not in record:
        raise InputError(f"{arguments.file}: {record.get('name')} has no conductivity ({record['failure']})")
    if arguments.material is not None and arguments.reference is None:
        raise InputError("--material is a row of --reference", "give both")
    reference = None
    if arguments.reference is not None:
        wanted = arguments.material or (record or {}).get("mp_id")
        if wanted is None:
            raise InputError(f"{arguments.file} does not say which material it is", "name it with --material mp-…")
        reference = choose(read_phonondb(arguments.reference), str(wanted))
    data = read_kappa_hdf5(arguments.file)
    with reading(arguments.file, "a kappa file that can be drawn"):
        return make_figure(arguments.figure or "summary", data, arguments.temperature, reference)


def choose(references: dict[str, Reference], wanted: str) -> Reference:
    """The row with that number, or that name if only one has it."""
    if wanted in references:
        return references[wanted]
    named = [r for r in references.values() if r.name == wanted]
    if len(named) == 1:
        return named[0]
    if named:
        raise InputError(f"--material {wanted} is ambiguous", f"choose from {', '.join(r.mp_id for r in named)}")
    raise InputError(f"the reference has no {wanted}", "name another --material")


def save(figure: Figure, output: Path) -> None:
    """Draw, then write; the file appears complete or not at all. InputError for an ending that matplotlib lacks."""
    image = io.BytesIO()
    try:
        figure.savefig(image, format=output.suffix.removeprefix(".") or "png", dpi=150)
    except ValueError as error:
        raise InputError(f"cannot write {output}: {' '.join(str(error).split())}") from None
    write_bytes(output, image.getvalue(), "choose another place with -o")


def _require_format(output: Path) -> None:
    """InputError for an ending that Matplotlib lacks."""
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    ending = output.suffix.removeprefix(".").lower()
    if ending and ending not in known:
        raise InputError(f"cannot write {output}: Matplotlib draws no .{ending}", f"choose from {', '.join(known)}")
