"""``wigner-jax cache``: the compiled programs that are kept between runs."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

import jax

from .._core.compile_cache import enable_compilation_cache
from .._core.program_files import FOLDER
from ..crystal.prototypes import STRUCTURES, prototype
from ..errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Hashable
    from pathlib import Path

    import ase

    from ..potentials.base import Potential

HELP = "show, clear or warm the cache of compiled programs"
DESCRIPTION = """\
Programs are compiled for a potential, the shapes of a crystal's supercells, and a mesh, and are kept in the user's cache
folder (or where JAX_COMPILATION_CACHE_DIR says) for later runs.

  wigner-jax cache                                                   where they are and how much there is
  wigner-jax cache clear                                             remove them
  wigner-jax cache warm --potential nequix-mp-1 --prototypes rs zb   compile what typical crystals need"""
NAMES = {"rs": "rocksalt", "zb": "zincblende", "wz": "wurtzite", "diamond": "diamond"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("show", "clear", "warm"), default="show")
    parser.add_argument("--potential", metavar="NAME|FILE", help="of warm: whose programs")
    parser.add_argument(
        "--prototypes", nargs="+", choices=list(dict.fromkeys([*NAMES, *NAMES.values()])), metavar="TYPE",
        help="of warm: rs (rocksalt), zb (zincblende), wz (wurtzite), diamond",
    )  # fmt: skip
    parser.add_argument(
        "--mesh", nargs=3, metavar=("a", "b", "c"), help="of warm: whose solver is compiled (default: that of κ)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of warm: CPU cores to use (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Do what is asked for."""
    given = [
        f"--{name}" for name in ("potential", "prototypes", "mesh", "threads") if getattr(arguments, name) is not None
    ]
    if arguments.action != "warm" and given:
        raise InputError(f"{given[0]} belongs to wigner-jax cache warm", "leave it out, or say warm")
    folder = enable_compilation_cache()
    if folder is None:
        raise InputError(
            "there is no folder for compiled programs that can be written to", "name one with JAX_COMPILATION_CACHE_DIR"
        )
    if arguments.action == "warm":
        return _warm(arguments)
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise InputError(f"{folder} is not a folder", "name one with JAX_COMPILATION_CACHE_DIR")
        print(f"{folder}: not there yet, nothing is kept")
        return 0
    files = _files(folder)
    size = sum(path.stat().st_size for path in files)
    if arguments.action == "show":
        ours = sum(path.parent.name == FOLDER for path in files)
        print(f"{folder}: {ours} whole programs, {len(files) - ours} files of JAX's cache, {size / 1e6:.1f} MB")
        return 0
    for number, path in enumerate(files):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot remove {path} ({error.strerror or error}); {number} of {len(files)} files are removed",
                "make the folder writable, or name another one with JAX_COMPILATION_CACHE_DIR",
            ) from None
    with contextlib.suppress(OSError):  # somebody's folder in it, or not there
        (folder / FOLDER).rmdir()
    print(f"{folder}: {len(files)} files removed, {size / 1e6:.1f} MB")
    return 0


def _files(folder: Path) -> list[Path]:
    """What JAX and this package keep there; nothing else that a user may have put beside it."""
    kept = [path for ending in ("-cache", "-atime") for path in folder.glob(f"*{ending}")]
    return [path for path in [*kept, *(folder / FOLDER).glob("*")] if path.is_file()]


def _warm(arguments: argparse.Namespace) -> int:
    """κ of as few crystals as need different programs."""
    from .._solve import make_plan, solve
    from ..checks import positive_integers
    from ..crystal.defaults import default_mesh
    from ..pipeline import any_model, prepare
    from ..potentials.base import Potential
    from ..potentials.registry import restrict

    if arguments.potential is None:
        raise InputError("no potential is named", "give --potential")
    mesh = None if arguments.mesh is None else positive_integers(arguments.mesh, "--mesh")
    potential = any_model(arguments.potential)
    if not isinstance(potential, Potential):
        raise InputError(f"{arguments.potential} has nothing to compile", "name a potential of JAX")
    known, seen = set(potential.species), set()
    for kind in arguments.prototypes or list(NAMES):
        structure = NAMES.get(kind, kind)
        names = [name for name in STRUCTURES[structure] if set(prototype(name).numbers.tolist()) <= known]
        if not names:
            print(f"{structure}: {potential.name} knows none of its crystals", file=sys.stderr)
        for name in names:
            atoms = prototype(name)
            small = restrict(potential, atoms.numbers)
            shapes = _shapes(atoms, small)
            if shapes in seen:
                continue
            seen.add(shapes)
            print(f"{name} ...", file=sys.stderr, flush=True)
            problem = prepare(atoms, small)
            plan = make_plan(problem.supercells, mesh or default_mesh(problem.supercells.crystal))
            # with progress, as `kappa` does it: its pieces of work have other shapes
            solve(plan, problem.force_constants, allow_imaginary=True, progress=lambda *_: None)
    print(f"{potential.name}: programs of {len(seen)} kinds of crystals are ready")
    return 0


def _shapes(atoms: ase.Atoms, potential: Potential) -> Hashable:
    """What decides which programs a crystal needs."""
    import numpy as np

    from ..crystal.defaults import default_supercells
    from ..potentials.neighbor_list import Room, build_graph, supercell_graph
    from ..relaxation.newton import ROOM_TO_MOVE

    cells = default_supercells(atoms)
    graphs = [Room(ROOM_TO_MOVE, potential).filled(build_graph(atoms, potential)[0])]
    for cell in (cells.fc2_supercell, cells.fc3_supercell):
        graphs.append(supercell_graph(cells.crystal, cell, potential)[0])
    return potential.energy, tuple(tuple(map(np.shape, jax.tree.leaves(graph))) for graph in graphs)
