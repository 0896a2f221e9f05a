"""Does a potential keep the promises that the rest of the package relies on? The answer in words.

Invariance, extensivity, harmless padding, derivatives to third order, parameters that are really used, and an energy
that can key compilation: what a faulty potential violates shows only as wrong force constants much later.

The file is long because every check stands here once, and nothing else uses them.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import types
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from ase import Atoms

from .._core.programs import Effort, program
from ..checks import require_double_precision
from ..crystal.elements import SYMBOLS
from ..errors import InputError
from .base import Distances, Potential
from .neighbor_list import build_graph, padded_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.pytree import Array
    from .graph import Graph


# So that nothing is zero, and no two atoms are alike, by symmetry: a cell of two atoms hides half of all faults
RATTLE = 0.05  # Å
STRAIN = 0.02
ATOMS = 4  # at least
STEP = 1e-4  # Å, of the differences that derivatives are compared with
DIFFERENCE_TOLERANCE = 1e-5  # relative; the fourth-order formula errs by 1e-8, rounding by 1e-7
STEPS = (1e-3, 1e-4)  # Å, on either side of a distance where a derivative may jump
ORDERS = ("E", "E'", "E''", "E'''")
UNITS = ("eV", "eV/Å", "eV/Å²", "eV/Å³")
Verdict = Literal["ok", "note", "fault"]


@dataclasses.dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: its name.
        verdict: "ok"; "note", which a user should know but which may be as intended; or "fault".
        text: what was found, with the number, and what to do about it.
    """

    check: str
    verdict: Verdict
    text: str


@dataclasses.dataclass(frozen=True)
class PotentialReport:
    """What `check_potential` found. Printed, it is a list in words.

    Attributes:
        potential: name of the potential.
        findings: one or more of every check that could be made.
    """

    potential: str
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether there is no fault; notes are allowed."""
        return not self.faults

    @property
    def faults(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.verdict == "fault")

    @property
    def notes(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.verdict == "note")

    def __str__(self) -> str:
        end = "no fault found" if self.passed else f"{len(self.faults)} fault{'s' * (len(self.faults) > 1)}"
        lines = [f"  {f.verdict:5}  {f.check}: {f.text}" for f in self.findings]
        return "\n".join([f"{self.potential}: {end}", *lines])


def check_potential(potential: Potential, atoms: Atoms, *, tolerance: float = 1e-7) -> PotentialReport:
    """Test a potential on a crystal: everything that force constants, training and compilation rely on.

    The checks, in order: static fields and jit key; shape and precision of the energy; use of the parameters;
    finite derivatives to third order, also for an isolated atom; derivatives against differences; translation, rotation,
    permutation and (with `potential.parity`) mirror images; a supercell; padding; smoothness where a pair crosses the
    cutoff, the bond cutoff and each of `nonsmooth_distances`. Checks that a fault makes impossible are left out.

    Args:
        atoms: a periodic crystal of elements that the potential knows, with a few atoms. It is not modified; most
            checks are made on a copy, strained by 2 % and with random displacements of 0.05 Å.
        tolerance: relative to the energy per atom (or 1 eV) and to the largest force component (or 1 eV/Å). Models in
            files of single precision keep symmetries to 1e-8.

    Returns:
        the report; a faulty potential never raises.

    Raises:
        ValueError: only for misuse: double precision is off, no `Potential`, a structure that is not periodic, holds
            elements that the potential does not know, or has no neighbours within the cutoff.
    """
    require_double_precision()
    if not isinstance(potential, Potential):
        raise InputError(
            f"check_potential tests a Potential, not {type(potential).__name__}: make one, or load it by name"
        )
    if not tolerance > 0:
        raise InputError(f"the tolerance must be positive, got {tolerance:g}: leave it out for 1e-7")
    findings = [*_fields(potential)]
    if not any(f.verdict == "fault" for f in findings):
        graph, _ = build_graph(atoms, potential)
        if not np.any(graph.edge_mask):
            raise InputError(f"no two atoms are within the cutoff of {potential.cutoff:g} Å: give a denser crystal")
        findings += _key(potential) + _signature(potential, graph)
    if not any(f.verdict == "fault" for f in findings):
        findings += _numbers(potential, atoms, tolerance)
    return PotentialReport(potential.name, tuple(findings))


# --- what is static --------------------------------------------------------------------------------------------------


def _fields(potential: Potential) -> list[Finding]:
    name, size, wrong = "static fields", len(potential.species), []
    if potential.pair_cutoffs is not None:
        table = np.asarray(potential.pair_cutoffs, float)
        if table.shape != (size, size):
            wrong.append(f"pair_cutoffs has shape {table.shape} for {size} species: give one row and column for each")
        elif not np.array_equal(table, table.T):
            wrong.append("pair_cutoffs is not symmetric: an edge would be listed in one direction only")
        elif table.max() > potential.cutoff:
            wrong.append(
                f"pair_cutoffs reaches {table.max():g} Å, beyond cutoff = {potential.cutoff:g} Å: longer edges would be"
                " missing, raise cutoff"
            )
    for s, t, distance in potential.nonsmooth_distances:
        if not (0 <= s < size and 0 <= t < size):
            wrong.append(f"nonsmooth_distances names species {max(s, t)}, but they are numbered 0 to {size - 1}")
        elif distance > potential.cutoff:
            wrong.append(f"nonsmooth_distances names {distance:g} Å, beyond the cutoff: no edge is so long")
    if potential.distances is not None:
        mine = Distances(potential.cutoff, potential.pair_cutoffs, potential.nonsmooth_distances)
        if (found := potential.distances(potential.params)) != mine:
            wrong.append(f"distances(params) gives {found}, but the potential's own are {mine}")
    if unknown := [z for z in potential.species if z not in SYMBOLS]:
        wrong.append(f"species holds {unknown[0]}, which is no atomic number")
    if wrong:
        return [Finding(name, "fault", text) for text in wrong]
    return [Finding(name, "ok", "cutoffs and species fit together")]


def _key(potential: Potential) -> list[Finding]:
    """The energy and the other static fields key compilation: hashable, and equal by value."""
    name, energy = "jit key", potential.energy
    module_level = "make it a module-level function, or a frozen dataclass whose fields are hashable"
    try:
        hash(energy), hash(jax.tree.structure(potential))
    except TypeError as error:
        return [Finding(name, "fault", f"energy or a static field cannot be hashed ({error}): {module_level}")]
    if isinstance(energy, partial | types.MethodType):
        return [
            Finding(name, "fault", f"energy is a {type(energy).__name__}, each new one compiles anew: {module_level}")
        ]
    if isinstance(energy, types.FunctionType):
        if energy.__closure__:
            captured = ", ".join(energy.__code__.co_freevars)
            text = f"energy is a closure over {captured}: its numbers would be folded into the program as constants;"
            return [Finding(name, "fault", f"{text} pass them in params, and {module_level}")]
        if "<" in energy.__qualname__:
            text = f"energy is {energy.__qualname__}, each new one compiles anew"
            return [Finding(name, "fault", f"{text}: {module_level}")]
        return [Finding(name, "ok", "a module-level function")]
    try:
        twin = copy.deepcopy(energy)
        same = twin == energy and hash(twin) == hash(energy)
    except Exception as error:
        return [Finding(name, "fault", f"energy cannot be copied ({error}): {module_level}")]
    if not same:
        text = "a copy of energy is not equal to it, so that every copy compiles anew"
        return [Finding(name, "fault", f"{text}: {module_level}")]
    return [Finding(name, "ok", "hashable, compares by value")]


def _signature(potential: Potential, graph: Graph) -> list[Finding]:
    """Shape and precision of the energy; nothing is computed."""
    try:
        traced = jax.make_jaxpr(potential.energy)(potential.params, graph)
    except Exception as error:
        text = f"energy(params, graph) cannot be traced: {type(error).__name__}: {str(error).splitlines()[0]}"
        return [Finding("shape", "fault", f"{text}; write it with jax.numpy, without Python's if on values")]
    if len(traced.out_avals) != 1 or traced.out_avals[0].shape != ():
        shapes = ", ".join(str(a.shape) for a in traced.out_avals)
        text = f"energy returns shape {shapes}, not one number (): return the sum over atoms"
        return [Finding("shape", "fault", text)]
    findings = [Finding("shape", "ok", "one number")]
    low = sorted({str(x.dtype) for x in jax.tree.leaves(potential.params) if np.asarray(x).dtype != np.float64})
    if low:
        text = f"parameters are {', '.join(low)}, not float64: convert them, else force constants have 7 digits"
        return [*findings, Finding("precision", "fault", text)]
    out = traced.out_avals[0].dtype
    if out != np.float64 or "f32[" in str(traced):
        where = f"the energy is {out}" if out != np.float64 else "numbers inside the energy are float32"
        text = f"{where} although positions and parameters are float64: remove casts and float32 constants"
        return [*findings, Finding("precision", "fault", text)]
    return [*findings, Finding("precision", "ok", "float64 throughout")]


# --- what is computed ------------------------------------------------------------------------------------------------


# correctness does not need optimised machine code, whose compilation is most of the time
_jit = program(effort=Effort.ONCE)


@_jit
def _derivatives(potential: Potential, graph: Graph, u: Array) -> tuple[Array, Array, Array, Array]:
    """E, ∂E/∂x, (∂²E/∂x²) u and (∂³E/∂x³) u u; () and (N, 3) each."""

    def first(x: Array) -> Array:
        return jax.grad(lambda y: potential.energy(potential.params, graph.at(y)))(x)

    def second(x: Array) -> tuple[Array, Array]:
        return jax.jvp(first, (x,), (u,))

    x = jnp.asarray(graph.positions)
    (slope, curvature), (_, third) = jax.jvp(second, (x,), (u,))
    return potential.energy(potential.params, graph), slope, curvature, third


@_jit
def _energy_and_slope(potential: Potential, graph: Graph, _: Array) -> tuple[Array, Array]:
    """The first two of `_derivatives`, which compile in a fraction of the time."""
    return jax.value_and_grad(lambda y: potential.energy(potential.params, graph.at(y)))(jnp.asarray(graph.positions))


@_jit
def _by_parameters(potential: Potential, graph: Graph) -> Any:
    return jax.grad(potential.energy)(potential.params, graph)


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """A displaced crystal, room for its lists, and what the potential says of it."""

    potential: Potential
    atoms: Atoms
    u: np.ndarray
    room: tuple[int, int]
    values: list[np.ndarray]
    tolerance: float

    def of(self, atoms: Atoms, u: np.ndarray) -> list[np.ndarray]:
        return _values(self.potential, atoms, u, self.room)

    def changes(self, found: list[np.ndarray], expected: list[np.ndarray]) -> str:
        """How far two results are apart, in words; nothing if they are not."""
        N = len(expected[1])
        energy = float(abs(found[0] - expected[0])) / N
        force = float(np.max(np.abs(found[1] - expected[1])))
        parts = []
        # written so that NaN counts as a change
        if not energy <= self.tolerance * max(1.0, float(abs(expected[0])) / N):
            parts.append(f"the energy by {energy:.1e} eV/atom")
        if not force <= self.tolerance * max(1.0, float(np.max(np.abs(expected[1])))):
            parts.append(f"forces by {force:.1e} eV/Å")
        return " and ".join(parts)


def _values(
    potential: Potential,
    atoms: Atoms,
    u: np.ndarray,
    room: tuple[int, int],
    function: Callable[..., Any] = _derivatives,
) -> list[np.ndarray]:
    graph, _ = build_graph(atoms, potential)
    return [np.asarray(v) for v in function(potential, graph.padded(*room), jnp.asarray(u))]


def _numbers(potential: Potential, atoms: Atoms, tolerance: float) -> list[Finding]:
    sample, graph = _sample(potential, atoms, tolerance)
    findings = [_parameters_used(potential, graph), _finite(sample, atoms)]
    if findings[-1].verdict == "fault":
        return findings
    findings += [_differences(sample), *_invariances(sample), _supercell(sample), _padding(sample)]
    return [*findings, *_smoothness(sample)]


def _sample(potential: Potential, atoms: Atoms, tolerance: float) -> tuple[_Sample, Graph]:
    """Displaced so that no pair is within 2e-3 Å of a distance where a derivative may jump, if that can be had."""
    plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        moved = plain.repeat((1, 1, -(-ATOMS // len(plain))))
        moved.set_cell(moved.cell @ (np.eye(3) + STRAIN * rng.uniform(-1, 1, (3, 3))), scale_atoms=True)
        moved.positions += RATTLE * rng.standard_normal(moved.positions.shape)
        graph, margin = build_graph(moved, potential)
        if margin > 2e-3:
            break
    u = rng.standard_normal(moved.positions.shape)
    angles = len(graph.angles)
    room = padded_size(len(graph.senders) + 4), padded_size(angles + 8) if angles else 0
    values = _values(potential, moved, u, room)
    return _Sample(potential, moved, u, room, values, tolerance), graph


def _parameters_used(potential: Potential, graph: Graph) -> Finding:
    name = "parameters"
    leaves = jax.tree_util.tree_leaves_with_path(potential.params)
    if not leaves:
        text = "there are none: numbers inside the energy cannot be trained and are compiled in; pass them in params"
        return Finding(name, "fault", text)
    slopes = jax.tree.leaves(_by_parameters(potential, graph))
    silent = [
        jax.tree_util.keystr(path).strip("[]'") for (path, _), g in zip(leaves, slopes, strict=True) if not np.any(g)
    ]
    if len(silent) == len(leaves):
        text = "the energy depends on none of them: weights that it uses must come through params, not from elsewhere"
        return Finding(name, "fault", text)
    if silent:
        some = ", ".join(silent[:4]) + (f", … ({len(silent)} of {len(leaves)})" if len(silent) > 4 else "")
        return Finding(
            name, "note", f"this crystal's energy does not depend on {some}: right for what it does not have"
        )
    return Finding(name, "ok", f"the energy depends on all {len(leaves)}")


def _finite(sample: _Sample, atoms: Atoms) -> Finding:
    """In the crystal as it is (straight angles), displaced, and for single atoms (nothing but padding)."""
    potential = sample.potential
    given = atoms.repeat((1, 1, len(sample.atoms) // len(atoms)))
    cases = {"the displaced crystal": sample.values, "the crystal as given": sample.of(given, sample.u)}
    far = (potential.cutoff + 1) * np.eye(3)
    for z in sorted(set(atoms.numbers.tolist())):
        lonely = Atoms([z] * 3, positions=far, cell=3 * far, pbc=True)
        cases[f"isolated atoms of {SYMBOLS[z]}"] = _values(potential, lonely, np.ones((3, 3)), _few(potential))
    kinds = ("energy", "forces", "second derivatives", "third derivatives")
    for case, values in cases.items():
        for kind, value in zip(kinds, values, strict=True):
            if not np.isfinite(value).all():
                text = f"not finite: {kind} of {case}; guard the input of singular functions (roots, powers, divisions)"
                return Finding("finite", "fault", f"{text} with a double jnp.where, not their output")
    return Finding("finite", "ok", "energy and three derivatives, also of isolated atoms and padding")


def _differences(sample: _Sample) -> Finding:
    """Each derivative against fourth-order differences of the one before, on a fixed list of edges."""
    graph, _ = build_graph(sample.atoms, sample.potential)
    graph, u = graph.padded(*sample.room), sample.u
    h = STEP / np.abs(u).max()
    at = [_derivatives(sample.potential, graph.at(graph.positions + k * h * u), jnp.asarray(u)) for k in (-2, -1, 1, 2)]
    for order in range(3):
        lower = [np.asarray(values[order]) for values in at]
        difference = (lower[0] - 8 * lower[1] + 8 * lower[2] - lower[3]) / (12 * h)
        found = sample.values[order + 1] if order else np.sum(sample.values[1] * u)
        scale = max(float(np.abs(found).max()), 1.0)
        off = float(np.abs(found - difference).max()) / scale
        if not off <= DIFFERENCE_TOLERANCE:
            what = ("forces are not the derivative of the energy", "second derivatives are not those of the forces",
                    "third derivatives are not those of the second")[order]  # fmt: skip
            text = f"{what}: off by {off:.1e} of the largest; look for stop_gradient, rounding and custom rules"
            return Finding("derivatives", "fault", text)
    return Finding("derivatives", "ok", "first, second and third agree with differences")


def _invariances(sample: _Sample) -> Iterator[Finding]:
    atoms, u, values = sample.atoms, sample.u, sample.values
    rng = np.random.default_rng(1)
    cell = np.asarray(atoms.cell)

    def finding(name: str, found: list[np.ndarray], expected: list[np.ndarray], cause: str) -> Finding:
        changed = sample.changes(found, expected)
        return (
            Finding(name, "fault", f"changes {changed}: {cause}") if changed else Finding(name, "ok", "changes nothing")
        )

    shifted = atoms.copy()
    shifted.positions += np.array([0.31, -1.7, 0.83]) + rng.integers(-1, 2, (len(atoms), 3)) @ cell
    cause = "let the energy depend on graph.vectors() alone, not on positions"
    yield finding("translation", sample.of(shifted, u), values, cause)

    rotation, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))

    def turned(R: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
        other = atoms.copy()
        other.set_cell(cell @ R.T)
        other.positions[:] = atoms.positions @ R.T
        return sample.of(other, u @ R.T), [values[0], *(v @ R.T for v in values[1:])]

    cause = "build it from distances, angles and coupled spherical harmonics"
    yield finding("rotation", *turned(rotation), cause)

    order = rng.permutation(len(atoms))
    cause = "let it depend on an atom's species and neighbours, not on its number"
    expected = [values[0], *(v[order] for v in values[1:])]
    yield finding("permutation", sample.of(atoms[order], u[order]), expected, cause)

    if sample.potential.parity:
        cause = "set parity=False, and force constants become averages over both images"
        yield finding("mirror image", *turned(rotation @ np.diag([-1.0, 1.0, 1.0])), cause)
    else:
        yield Finding("mirror image", "ok", "parity is False: force constants are averages over both images")


def _supercell(sample: _Sample) -> Finding:
    room = 2 * sample.room[0], 2 * sample.room[1]
    found = _values(sample.potential, sample.atoms.repeat((1, 1, 2)), sample.u, room, _energy_and_slope)
    expected = [2 * sample.values[0], np.tile(sample.values[1], (2, 1))]
    if changed := sample.changes(found, expected):
        text = f"two cells differ from twice one cell: {changed}; the energy must be a sum over atoms, without means"
        return Finding("extensivity", "fault", text)
    return Finding("extensivity", "ok", "two cells have twice the energy of one")


def _padding(sample: _Sample) -> Finding:
    more = sample.room[0] + 37, sample.room[1] + 29 if sample.room[1] else 0
    found = _values(sample.potential, sample.atoms, sample.u, more, _energy_and_slope)
    if changed := sample.changes(found, sample.values):
        text = f"more padding changes {changed}: terms of edges with edge_mask False (angle_mask, bonds.mask) must be 0"
        return Finding("padding", "fault", text)
    return Finding("padding", "ok", "more padding changes nothing")


# --- where a pair enters or leaves -----------------------------------------------------------------------------------


def _smoothness(sample: _Sample) -> list[Finding]:
    """E and three derivatives along a pair, on either side of each distance where the graph or the potential switches.

    A third atom near the first one gives many-body potentials something to feel. The difference of a continuous function
    over ±h falls with h; that of a jump stays.
    """
    findings = []
    for s, t, distance, declared in _special_distances(sample.potential, sample.atoms):
        jump = _first_jump(sample, s, t, distance)
        if jump is None:
            continue
        order, size = jump
        pair = "–".join(SYMBOLS[sample.potential.species[k]] for k in (s, t))
        text = f"{ORDERS[order]} jumps by {size:.2g} {UNITS[order]} where a pair {pair} crosses {distance:.6g} Å"
        if order < 2:
            remedy = "multiply by a function that vanishes there with its first three derivatives"
            findings.append(Finding("smoothness", "fault", f"{text}: {remedy}"))
        else:
            known = " (as nonsmooth_distances says)" if declared else ""
            what = "force constants jump" if order == 2 else "third-order force constants jump"
            findings.append(
                Finding("smoothness", "note", f"{text}{known}: {what} there; a graph's margin says how near pairs are")
            )
    return findings or [
        Finding("smoothness", "ok", "E and three derivatives are continuous where a pair enters or leaves")
    ]


def _special_distances(potential: Potential, atoms: Atoms) -> list[tuple[int, int, float, bool]]:
    """(species, species, Å, whether it is one of `nonsmooth_distances`) of all pairs of the crystal's elements."""
    found: dict[tuple[int, int, float], bool] = {}
    for s, t in itertools.combinations_with_replacement(sorted(set(potential.species_of(atoms.numbers))), 2):
        cutoff = potential.pair_cutoff(s, t)
        found[s, t, cutoff] = False
        if potential.bond_cutoff is not None and potential.bond_cutoff < cutoff:
            found[s, t, potential.bond_cutoff] = False
        for a, b, distance in potential.nonsmooth_distances:
            if {a, b} == {s, t} and distance <= cutoff:
                found[s, t, distance] = True
    return [(*key, declared) for key, declared in found.items()]


def _few(potential: Potential) -> tuple[int, int]:
    """Room for the edges and angles of three atoms."""
    return 8, 16 if potential.needs_angles else 0


def _first_jump(sample: _Sample, s: int, t: int, distance: float) -> tuple[int, float] | None:
    """The lowest derivative that jumps, and by how much (beyond minus within)."""
    potential = sample.potential
    axis = np.array([0.6, 0.48, 0.64])
    graph, _ = build_graph(sample.atoms, potential)
    edges = np.linalg.norm(np.asarray(graph.vectors()), axis=1)[graph.edge_mask]
    bond = min(float(edges.min()), 0.8 * distance)
    third = bond * np.array([-0.8, 0.36, 0.48])  # 77° from the axis
    size = 3 * potential.cutoff + 3
    u = np.zeros((3, 3))
    u[1] = axis

    def at(r: float) -> np.ndarray:
        numbers = [potential.species[k] for k in (s, t, s)]
        atoms = Atoms(numbers, positions=[np.zeros(3), r * axis, third], cell=[size] * 3, pbc=True)
        E, *vectors = _values(potential, atoms, u, _few(potential))
        return np.array([float(E), *(float(v[1] @ axis) for v in vectors)])

    inside, outside = ([at(distance + sign * h) for h in STEPS] for sign in (-1, 1))
    wide, narrow = (np.abs(b - a) for a, b in zip(inside, outside, strict=True))
    floor = sample.tolerance * np.maximum(1.0, np.abs(inside[1]))
    for order in range(4):
        if not (narrow[order] <= floor[order] or narrow[order] < 0.5 * wide[order]):
            return order, float(outside[1][order] - inside[1][order])
    return None


__all__ = [
    "Finding",
    "PotentialReport",
    "check_potential",
]
