"""The result file: phono3py's kappa-mXXYYZZ.hdf5 schema with the Wigner terms, written atomically.

More than 350 lines: one name of the file after the other, each with what it means.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import spglib

from .._core.arrays_in import open_hdf5
from .._core.atomic_write import atomic_hdf5
from .._core.reading import reading
from .._core.version import __version__
from ..checks import require_finite
from ..crystal.low_dimensional import directions
from ..errors import InputError
from ..physics.conductivity import mode_kappa_total, star_average, velocity_squared
from ..physics.degeneracy import same_degenerate_set
from ..physics.spectra import bin_edges, coherence_map
from ..units import KAPPA

if TYPE_CHECKING:
    from collections.abc import Sequence

    import h5py

    from ..physics.bands import Bands
    from ..physics.boltzmann import FullSolution
    from ..physics.diagnostics import Diagnostics
    from ..physics.path_spectra import PathSpectra
    from ..types import Conductivity, Linewidths, Mesh, Phonons, Plan, Scattering


def default_filename(dims: Sequence[int]) -> str:
    """phono3py's name for a mesh: kappa-m191919.hdf5."""
    return f"kappa-m{''.join(str(int(d)) for d in dims)}.hdf5"


class Solved(Protocol):
    """What a kappa file is made from: a `Solution`."""

    @property
    def phonons(self) -> Phonons: ...
    @property
    def linewidths(self) -> Linewidths: ...
    @property
    def conductivity(self) -> Conductivity: ...
    @property
    def plan(self) -> Plan: ...
    @property
    def scattering(self) -> Scattering: ...
    @property
    def broadening(self) -> Any: ...
    @property
    def nac(self) -> Any: ...
    @property
    def report(self) -> Any: ...
    @property
    def precision(self) -> str: ...
    @property
    def full(self) -> FullSolution | None: ...
    def diagnostics(self) -> Diagnostics: ...


def write_kappa_hdf5(path: str | Path, solution: Solved, bands: Bands | None = None) -> None:
    """Write everything a solution holds at the irreducible points, so that phono3py's tools read it.

    Datasets (P irreducible points, m modes, T temperatures; THz, Å, eV, W/(m K)):
        phono3py's: version, mesh (3,), temperature (T,), frequency (P, m), group_velocity (P, m, 3) THz Å,
            gv_by_gv (P, m, 6) summed over the star and the degenerate block, heat_capacity (T, P, m) eV/K,
            gamma (T, P, m), gamma_isotope (P, m), kappa (T, 6), mode_kappa (T, P, m, 6), qpoint (P, 3), weight (P,),
            grid_point (P,) index in phono3py's BZ grid, kappa_unit_conversion, boundary_mfp (µm), sigma (THz).
        ours: kappa_P_RTA, kappa_C, kappa_TOT_RTA (T, 6), mode_kappa_P_RTA (T, P, m, 6), mode_kappa_C (T, P, m, m, 6),
            gamma_boundary (P, m), velocity_operator (P, m, m, 3) complex THz Å, and the group crystal;
            kappa_C_map (T, B, B), a third of the trace of κ_C by the frequencies of the two modes of a pair, and
            kappa_C_map_edges (B + 1,) THz of its bins: the sum over both is κ_C;
            with bands (`kappa_datasets`) the group bands: qpoint (K, 3), distance (K,) 1/Å, segment (K,), frequency (K, m), and label
            (segments, 2), the names of the ends of each segment.

    `kappa` and `mode_kappa` are populations, as phono3py's tools take them: beyond the relaxation-time approximation where that was
    asked for, with kappa_P_exact, kappa_TOT_exact, kappa_RTA and mode_kappa_RTA beside (phono3py's names) and the group lbte.
    The total is `kappa_TOT_RTA`; `mode_kappa_TOT` adds up to it (over modes, by the number of mesh points): populations plus each mode's share of its coherences,
    2 Σ_s' C_s/(C_s + C_s') κ_C(s, s'). The attribute `occupied` is the share of the cell that κ is normalised to.

    The file appears complete or not at all: it is written beside its destination and renamed.

    Raises:
        InputError: the folder cannot be written to.
    """
    write_datasets(path, kappa_datasets(solution, bands))


def write_datasets(path: str | Path, data: dict[str, Any]) -> None:
    """Write the datasets of `kappa_datasets`; completely or not at all, InputError if the folder cannot be written to."""
    with atomic_hdf5(path) as file:
        put_datasets(file, data)


def rough_size(points: int, modes: int, temperatures: int) -> float:
    """Bytes that a kappa file will take at least, more or less: half of its arrays, which are compressed."""
    pairs = points * modes**2
    return 0.5 * 8 * (temperatures * (6 * pairs + 14 * points * modes) + 6 * pairs + 16 * points * modes)


#: units of the datasets, as attributes beside the numbers
UNITS = {
    "temperature": "K", "frequency": "THz", "group_velocity": "THz Å", "gv_by_gv": "(THz Å)^2", "heat_capacity": "eV/K",
    "gamma": "THz", "gamma_isotope": "THz", "gamma_boundary": "THz", "boundary_mfp": "µm", "sigma": "THz",
    "kappa": "W/(m K)", "mode_kappa": "W/(m K)", "kappa_P_RTA": "W/(m K)", "kappa_C": "W/(m K)",
    "kappa_TOT_RTA": "W/(m K)", "mode_kappa_P_RTA": "W/(m K)", "mode_kappa_TOT": "W/(m K)", "mode_kappa_C": "W/(m K)", "kappa_C_map": "W/(m K)",
    "kappa_C_map_edges": "THz", "velocity_operator": "THz Å", "qpoint": "reduced", "crystal/lattice": "Å",
    "crystal/positions": "reduced", "crystal/masses": "amu", "bands/qpoint": "reduced", "bands/distance": "1/Å",
    "bands/frequency": "THz", "spectra/frequencies": "THz", "spectra/temperatures": "K", "spectra/qpoints": "reduced",
    "spectra/distance": "1/Å", "spectra/ends": "1/Å", "spectra/modes": "THz", "spectra/imaginary": "THz", "spectra/real": "THz",
    "spectra/spectral_function": "1/THz", "spectra/absorption": "1/THz", "spectra/decay": "1/THz",
    "spectra/weighted_absorption": "1/THz", "spectra/weighted_decay": "1/THz", "gamma_N": "THz", "gamma_U": "THz",
    "kappa_P_exact": "W/(m K)", "kappa_TOT_exact": "W/(m K)", "mode_kappa_P_exact": "W/(m K)", "mode_kappa_TOT_exact": "W/(m K)", "kappa_RTA": "W/(m K)",
    "mode_kappa_RTA": "W/(m K)", "lbte/deviations": "(eV/K)^(1/2) Å", "ave_pp": "eV^2",
}  # fmt: skip


#: what phono3py's tools look for, and the name here
SAME = {"kappa": "kappa_P_RTA", "mode_kappa": "mode_kappa_P_RTA"}


def put_datasets(file: h5py.File, data: dict[str, Any]) -> None:
    """The datasets of `kappa_datasets` into an open file, arrays compressed, with their units as attributes."""
    for name, value in data.items():
        if name == "attributes":
            file.attrs.update(value)
            continue
        if value is data.get(SAME.get(name, "")):
            continue
        large = getattr(value, "size", 0) > 64
        dataset = file.create_dataset(name, data=value, compression="gzip" if large else None)
        if name in UNITS:
            dataset.attrs["unit"] = UNITS[name]
    for name, other in SAME.items():
        if other in file and name not in file:
            file[name] = file[other]  # the same dataset by a second name
    if "mode_kappa_TOT" in file:
        file["mode_kappa_TOT"].attrs["meaning"] = "populations + share of coherences; adds up to kappa_TOT_RTA"


def read_kappa_hdf5(path: str | Path) -> dict[str, Any]:
    """Every dataset of a kappa HDF5 file, ours or phono3py's, by name; groups become nested dicts.

    The attributes of the file (structure, model, method; not in phono3py's) are a dict by the name ``attributes``.

    What a file has of `SHAPES` belongs to one mesh and is finite, weights are above zero. phono3py
    writes less or more by its options: only frequencies, weights and temperatures are always there.

    Raises:
        InputError: unreadable, truncated, without frequency, weight and temperature, or numbers that do not fit together.
    """
    if not Path(path).exists():
        raise InputError(f"no file {path}", "check the name")
    with reading(path, "a complete HDF5 file", "give a kappa file written by wigner-jax or phono3py"):
        with open_hdf5(path) as file:
            result = file.tree()
            if attributes := file.attributes():
                result["attributes"] = attributes
        if missing := [name for name in ("temperature", "frequency", "weight") if name not in result]:
            raise InputError(
                f"{path} is not a kappa file (no {', '.join(missing)})", "give one written by wigner-jax or phono3py"
            )
        _require_sense(result)
    return result


#: Axes of the datasets that are drawn or compared: T temperatures, P points, m modes, B bins, E their edges
SHAPES = {
    "temperature": "T", "frequency": "Pm", "weight": "P", "mesh": "3", "qpoint": "P3", "gamma": "TPm", "gamma_isotope": "Pm",
    "gamma_boundary": "Pm", "gv_by_gv": "Pm6", "kappa": "T6", "kappa_P_RTA": "T6", "kappa_C": "T6", "kappa_TOT_RTA": "T6",
    "mode_kappa": "TPm6", "mode_kappa_TOT": "TPm6", "mode_kappa_P_RTA": "TPm6", "mode_kappa_C": "TPmm6", "kappa_C_map": "TBB",
    "kappa_C_map_edges": "E", "heat_capacity": "TPm",
}  # fmt: skip
HIGHEST = 1e4  # THz; the highest of any crystal are near 100


def _require_sense(data: dict[str, Any]) -> None:
    sizes = {"3": 3, "6": 6}
    for name, axes in SHAPES.items():
        if name not in data:
            continue
        array = np.asarray(data[name]) if not isinstance(data[name], dict) else np.empty(0, "S1")
        fits = array.ndim == len(axes) and array.dtype.kind in "biuf" and array.size > 0
        fits = fits and all(sizes.setdefault(a, n) == n for a, n in zip(axes, array.shape, strict=True))
        if not fits:
            raise InputError(
                f"{name} of shape {array.shape} does not fit the other datasets", "it is no kappa file of a mesh"
            )
        require_finite(array, name)
    if sizes.get("E", sizes.get("B", 0) + 1) != sizes.get("B", sizes.get("E", 1) - 1) + 1:
        raise InputError("kappa_C_map does not fit kappa_C_map_edges", "make the file anew")
    if "kappa_C_map_edges" in data and not np.all(np.diff(data["kappa_C_map_edges"]) > 0):
        raise InputError("kappa_C_map_edges do not rise", "make the file anew")
    frequency, weight, temperature = (np.asarray(data[n]) for n in ("frequency", "weight", "temperature"))
    for fine, what in (
        (np.all(weight > 0), "weights"), (np.all((temperature >= 0) & (temperature < 1e6)), "temperatures"),
        (np.all(np.abs(frequency) < HIGHEST) and frequency.max() > 0, "frequencies"),
        (np.all(np.asarray(data.get("mesh", 1)) > 0), "dimensions of the mesh"),
    ):  # fmt: skip
        if not fine:
            raise InputError(f"its {what} are out of all bounds", "make it anew")


def kappa_datasets(solution: Solved, bands: Bands | None = None, spectra: PathSpectra | None = None) -> dict[str, Any]:
    """The datasets of `write_kappa_hdf5` by name, as plot/ and other readers use them.

    Args:
        bands: of `phonon_bands`, to be kept beside.
        spectra: of `path_spectra`, likewise: the group spectra, its names those of `PathSpectra`.
    """
    conductivity, linewidths, phonons = solution.conductivity, solution.linewidths, solution.phonons
    crystal, mesh = solution.plan.crystal, solution.plan.mesh
    at = np.asarray(mesh.irreducible)
    frequency = np.asarray(phonons.frequencies)[at]
    V = np.asarray(phonons.velocity_operator)
    volume = abs(np.linalg.det(np.asarray(crystal.lattice))) * (1.0 if crystal.occupied is None else crystal.occupied)
    edges = np.asarray(bin_edges(frequency))
    pairs = np.asarray(conductivity.mode_kappa_C)[..., :3].mean(axis=-1)
    populations, by_mode = np.asarray(conductivity.kappa_P), np.asarray(conductivity.mode_kappa_P)
    data: dict[str, Any] = {
        "attributes": _attributes(solution),
        "version": np.bytes_(f"wigner-jax {__version__}"),
        "mesh": np.array(mesh.dims, dtype="int64"),
        "temperature": np.asarray(conductivity.temperatures, dtype=float),
        "frequency": frequency,
        "group_velocity": np.einsum("pssa->psa", V).real,
        "gv_by_gv": _gv_by_gv(frequency, V, mesh),
        "heat_capacity": np.asarray(conductivity.heat_capacity),
        "gamma": np.asarray(linewidths.three_phonon),
        "gamma_isotope": np.asarray(linewidths.isotope),
        "gamma_boundary": np.asarray(linewidths.boundary),
        "kappa": populations,  # as phono3py's tools take these two
        "mode_kappa": by_mode,
        "mode_kappa_TOT": np.asarray(mode_kappa_total(conductivity)),
        "kappa_P_RTA": populations,
        "kappa_C": np.asarray(conductivity.kappa_C),
        "kappa_TOT_RTA": np.asarray(conductivity.kappa_TOT),
        "mode_kappa_P_RTA": by_mode,
        "mode_kappa_C": np.asarray(conductivity.mode_kappa_C),
        "kappa_C_map": np.asarray(coherence_map(frequency, pairs, len(mesh.qpoints), edges)),
        "kappa_C_map_edges": edges,
        "velocity_operator": V,
        "qpoint": np.asarray(mesh.qpoints)[at],
        "weight": np.asarray(mesh.weights, dtype="int64"),
        "grid_point": bz_grid_index(np.asarray(crystal.lattice), mesh.dims)[at],
        "kappa_unit_conversion": KAPPA / volume,
        "crystal/lattice": np.asarray(crystal.lattice),
        "crystal/positions": np.asarray(crystal.positions),
        "crystal/numbers": np.array(crystal.numbers),
        "crystal/masses": np.asarray(crystal.masses),
    }
    if (full := solution.full) is not None:
        data |= {
            "kappa": full.kappa_P, "mode_kappa": full.mode_kappa_P, "kappa_P_exact": full.kappa_P,
            "kappa_TOT_exact": full.kappa_P + np.asarray(conductivity.kappa_C), "mode_kappa_P_exact": full.mode_kappa_P,
            "mode_kappa_TOT_exact": np.asarray(mode_kappa_total(conductivity)) - by_mode + full.mode_kappa_P,
            "kappa_RTA": populations, "mode_kappa_RTA": by_mode,
            "lbte/residual": full.residual, "lbte/iterations": full.iterations, "lbte/asymmetry": full.asymmetry,
            "lbte/lowest": full.lowest, "lbte/deviations": full.deviations, "lbte/status": np.array(full.status, dtype=bytes),
        }  # fmt: skip
    if solution.scattering.boundary_mfp is not None:
        data["boundary_mfp"] = float(solution.scattering.boundary_mfp)
    if (sigma := getattr(solution.broadening, "sigma", None)) is not None:
        data["sigma"] = float(sigma)
    if bands is not None:
        data |= {
            "bands/qpoint": bands.path.qpoints,
            "bands/distance": bands.path.distance,
            "bands/segment": bands.path.segment,
            "bands/frequency": bands.frequencies,
            "bands/label": np.array(bands.path.labels, dtype=bytes),
        }
    if spectra is not None:
        fields = {k: v for k, v in spectra.__dict__.items() if k != "labels"}
        data |= {f"spectra/{name}": np.asarray(value) for name, value in fields.items()}
        data["spectra/label"] = np.array(spectra.labels, dtype=bytes)
    return data


def _attributes(solution: Solved) -> dict[str, Any]:
    """What the numbers rest on, as attributes of the file."""
    broadening, scattering = solution.broadening, solution.scattering
    isotope = (
        scattering.isotope if isinstance(scattering.isotope, str) else "none" if scattering.isotope is None else "given"
    )
    found: dict[str, Any] = {
        "program": "wigner-jax",
        "program_version": __version__,
        "theory": "Wigner transport equation, "
        + (
            "relaxation-time approximation"
            if solution.full is None
            else "populations by the linearised Boltzmann equation"
        ),
        "broadening": type(broadening).__name__,
        "isotope_scattering": isotope,
        "precision": solution.precision,
        "occupied": 1.0 if solution.plan.crystal.occupied is None else float(solution.plan.crystal.occupied),
        "directions": directions(solution.plan.crystal),
        "non_analytic_correction": "none" if solution.nac is None else type(solution.nac).__name__,
    }
    if solution.report is not None:
        report = solution.report
        found |= {
            "structure": report.structure,
            "model": report.model,
            "derivatives": report.derivatives,
            "relaxed": report.relaxation is not None,
        }
    rests_on = solution.diagnostics()
    found |= {
        "sum_rule_residual_fc2": rests_on.residuals.sum_rules[0],
        "sum_rule_residual_fc3": rests_on.residuals.sum_rules[1],
        "symmetry_residual_fc2": rests_on.residuals.symmetry[0],
        "symmetry_residual_fc3": rests_on.residuals.symmetry[1],
        "star_residual": rests_on.residuals.stars,
        "kappa_share_next_to_gamma": float(np.max(rests_on.next_to_gamma)),
        "modes_imaginary": rests_on.imaginary,
        "modes_without_linewidth": rests_on.without_linewidth,
        "half_width_fc2_supercell": rests_on.half_widths[0],
        "half_width_fc3_supercell": rests_on.half_widths[1],
        "model_reach": rests_on.reach,
    }
    return found


def _gv_by_gv(frequency: np.ndarray, V: np.ndarray, mesh: Mesh) -> np.ndarray:
    """Σ over the star and the degenerate partners s' of Re(V_ss' ⊗ V_ss'*), Voigt. (P, m, 6)"""
    squares = np.where(np.asarray(same_degenerate_set(frequency))[..., None], np.asarray(velocity_squared(V)), 0).sum(
        axis=2
    )
    return squares @ np.asarray(star_average(mesh.rotations)).T * np.asarray(mesh.weights)[:, None, None]


def bz_grid_index(lattice: np.ndarray, dims: Sequence[int]) -> np.ndarray:
    """Index of every mesh point in phono3py's BZ grid, (Q,).

    That grid lists the points in our order, each followed by its equals on the zone surface; so the index is the
    number of images (equally short q + G, with phonopy's tolerance) of all points before.
    """
    from ..plan.mesh import addresses

    reciprocal = np.linalg.inv(lattice)  # columns b_μ
    basis = np.rint(spglib.niggli_reduce(reciprocal.T.copy()) @ lattice.T).astype(int)
    q = addresses(dims) / np.asarray(dims)
    q = q - np.rint(q @ np.linalg.inv(basis)) @ basis
    steps = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3, indexing="ij"), -1).reshape(-1, 3) @ basis
    tolerance = 0.01 * float(np.max(np.sum((reciprocal / np.asarray(dims)) ** 2, axis=0)))
    counts = np.empty(len(q), int)
    for start in range(0, len(q), 4096):  # 125 images of every point at once would be large
        length = np.sum(((q[start : start + 4096, None] + steps) @ reciprocal.T) ** 2, axis=-1)
        counts[start : start + 4096] = np.sum(length < length.min(axis=1, keepdims=True) + tolerance, axis=1)
    return np.concatenate([[0], np.cumsum(counts)[:-1]])
