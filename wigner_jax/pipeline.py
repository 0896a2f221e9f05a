"""From a structure and a model to the Wigner conductivity, in one call or as one differentiable function.

More than 350 lines, half of them what arguments mean: the one way from a structure to force constants, for all who need it.

structure, model ─prepare─► supercells, Φ2, Φ3 ─solve─► Solution          `conductivity`: numbers
params ─relaxation─► geometry ─► Φ2, Φ3 ─kappa─► κ                          `kappa_fn`: a pure function, for jax.grad
"""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import jax

from ._core.progress import Progress
from ._solve import SCATTERING, make_plan, solve
from .checks import check_precision, check_transport, positive_integers, require_double_precision
from .crystal.defaults import MESH_LENGTH, default_mesh, default_supercells
from .crystal.from_ase import in_units_of
from .crystal.low_dimensional import as_layer, as_wire, flat_mesh, say_vacuum
from .crystal.snapping import snapped
from .errors import InputError
from .ifc.autodiff import force_constants
from .ifc.batched_forces import calculator_for, name_of_calculator, own_processes_end
from .ifc.calculator_factory import ASE
from .ifc.calculator_pool import require_processes
from .ifc.finite_displacement import DISTANCE, finite_displacements
from .ifc.interaction import require_interaction, say_unusual
from .ifc.residuals import check_force_constants
from .ifc.symmetry_basis import require_parameters, work_ahead
from .io.born import born_tensors, read_born
from .io.constants.formats import has_constants, read_force_constants
from .io.constants.given import GivenConstants
from .io.structures import structure_of
from .physics.boltzmann import LIMIT
from .physics.domain import check_options, temperature_array
from .physics.nac import make_nac
from .plan.mesh import mesh_dims
from .potentials.base import Potential
from .types import BornCharges

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import ase
    from ase.calculators.calculator import Calculator

    from ._core.pytree import Array
    from .ifc.autodiff import ForceConstantsReport
    from .ifc.finite_displacement import DisplacementReport
    from .physics.pairs import Broadening
    from .physics.phonons import LongRange
    from .relaxation.ase_protocols import ProtocolReport
    from .relaxation.newton import RelaxReport
    from .solution import Solution
    from .types import Crystal, ForceConstants, Precision, Scattering, Supercells, Transport

    Derivatives = Literal["ad", "finite-displacement"]
    Model = str | Path | Potential | Calculator | Callable[[], Any]

COMPILED = "derivatives for {} are compiled, or loaded"


@dataclasses.dataclass(frozen=True)
class Report:
    """How structure and force constants of a solution came about.

    Attributes:
        structure: what was given, in words.
        model: the name of the potential or calculator; empty where force constants were given.
        derivatives: "ad" (automatic differentiation), "finite-displacement", or "given".
        relaxation: how the relaxation ended; None without one.
        force_constants: what they took, and the checks that come for free; None where they were given.
        reach: how far the energy of an atom sees, Å (`Potential.reach`); NaN where unknown.
        left: of a structure that was not relaxed, the largest components of forces (eV/Å) and stress (GPa).
        constraints: what was imposed on the force constants, in words: a cutoff, rotational sum rules.
        seconds: wall times of the stages.
    """

    structure: str
    model: str
    derivatives: str
    relaxation: RelaxReport | ProtocolReport | None = None
    force_constants: ForceConstantsReport | DisplacementReport | None = None
    reach: float = float("nan")
    left: tuple[float, float] | None = None
    constraints: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Where the force constants come from, in a line."""
        imposed = f"; {self.constraints}" if self.constraints else ""
        if self.derivatives == "given":
            return f"{self.structure}{imposed}"
        how = f", finite displacements of {DISTANCE:g} Å" if self.derivatives == "finite-displacement" else ""
        return f"{self.model}, {self._rest}{how}{imposed}"

    @property
    def _rest(self) -> str:
        if self.relaxation is not None:
            return "relaxed"
        units = zip(self.left or (), ("forces up to {:.2g} eV/Å", "stress up to {:.2g} GPa"), strict=False)
        said = ", ".join(words.format(x) for x, words in units if x == x)  # NaN where the model does not say
        return f"not relaxed ({said})" if said else "not relaxed"


class Problem(NamedTuple):
    """Everything that the solver needs of a structure and a model.

    Attributes:
        supercells: the crystal and the supercells of its force constants.
        force_constants: Φ2 and Φ3.
        born: charges for a non-analytic correction, where the source has them.
        mesh: the q-mesh that the structure names, or None.
        report: how all this came about.
    """

    supercells: Supercells
    force_constants: ForceConstants
    born: BornCharges | None
    mesh: tuple[int, ...] | None
    report: Report

    @property
    def given(self) -> GivenConstants:
        """For `write_force_constants`: the force constants, with where they come from in words."""
        report = self.report
        origin = report.origin if report.derivatives == "given" else f"{report.structure}, {report.origin}"
        return GivenConstants(self.supercells, self.force_constants, self.born, self.mesh, origin, report.reach)


def conductivity(
    structure: str | Path | ase.Atoms,
    model: Model | None = None,
    *,
    mesh: Sequence[int] | None = None,
    temperatures: Sequence[float] = (300.0,),
    fc2_supercell: Sequence[int] | None = None,
    fc3_supercell: Sequence[int] | None = None,
    relax: bool = True,
    derivatives: Derivatives | None = None,
    fc3_cutoff: float | None = None,
    pair_cutoff: float | None = None,
    rotational: bool = False,
    layer: float | bool | None = None,
    wire: float | None = None,
    broadening: Broadening | None = None,
    scattering: Scattering = SCATTERING,
    nac: LongRange | BornCharges | Literal["source"] | None = "source",
    allow_imaginary: bool = False,
    symprec: float | None = None,
    processes: int = 1,
    precision: Precision = "double",
    transport: Transport = "rta",
    memory: float = LIMIT,
    progress: Progress | None = None,
) -> Solution:
    """The Wigner conductivity of a crystal: relaxation, force constants, phonons, linewidths, κ.

        solution = conductivity("Si", "tersoff-1989", mesh=(11, 11, 11), temperatures=(100, 300, 600))
        solution.conductivity.kappa_TOT       (T, 6) W/(m K)
        solution.save("si.hdf5")

    Args:
        structure: an ASE structure, the name of a prototype (`available_prototypes`), a structure file that ASE reads, or
            force constants in any way that `read_force_constants` knows, in which case there is no model.
        model: a `Potential`, the name or file of one (`load_potential`), any ASE calculator, a torch-sim model, or a factory
            of either: "ase:module:factory", or a function or class without arguments. None takes a built-in potential that
            is meant for the compound.
        mesh: of the primitive cell; by default what the structure's info names (``q_mesh``), else one 35 Å long.
        temperatures: K, one number or several.
        fc2_supercell, fc3_supercell: 1, 3 or 9 integers in units of the given cell; see `default_supercells`.
        relax: cell and atoms within the symmetry first, by Newton's method (calculators: the k_SRME protocol).
        derivatives: "ad", or "finite-displacement" of 0.03 Å; by default what the potential's card says.
        fc3_cutoff: Å, leaves out what Φ3 has beyond (`with_cutoff`).
        pair_cutoff: Å, of the atoms that finite displacements move together (`finite_displacements`).
        rotational: impose the rotational and Huang sum rules on Φ2 (`with_rotational_invariance`).
        layer: the crystal is a layer in a cell with vacuum, κ that of its thickness in Å; True: of its atoms with their van
            der Waals radii (`as_layer`). The default mesh has one point along the vacuum.
        wire: Å², cross-section of a wire in a cell with vacuum (`as_wire`).
        broadening: the linear tetrahedron method unless given.
        scattering: three phonons and isotopes at natural abundance unless given.
        nac: "source" corrects if the source has Born charges (Gonze and Lee's way); charges, a correction, or None.
        allow_imaginary: go on with imaginary modes, which contribute nothing.
        symprec: Å, snaps the structure onto the space group that it has within this tolerance; 1e-5 where it is exact.
        processes: that share the displaced supercells of an ASE calculator, which is given by its factory then.
        precision: "mixed" has third derivatives of the potential and matrix elements in single precision; see `solve`.
        transport, memory: "lbte" for populations beyond the relaxation-time approximation; see `solve`.
        progress: shows what is being done; see `Progress`.

    Returns:
        the solution, with crystal, mesh, force constants, and in `Solution.report` how they came about.

    Raises:
        InputError: bad input, or imaginary modes (`ImaginaryModes`); ValueError: double precision is off.
    """
    require_double_precision()
    check_precision(precision)
    check_transport(transport, memory)
    temperature_array(temperatures)
    check_options(broadening, scattering, nac, charges=True)
    mesh = None if mesh is None else mesh_dims(mesh)
    stages = Progress(None) if progress is None else progress
    problem = prepare(
        structure, model, fc2_supercell=fc2_supercell, fc3_supercell=fc3_supercell, relax=relax,
        derivatives=derivatives, fc3_cutoff=fc3_cutoff, pair_cutoff=pair_cutoff, rotational=rotational, layer=layer, wire=wire,
        symprec=symprec, processes=processes, precision=precision, progress=stages,
    )  # fmt: skip
    with stages("plan"):
        plan = make_plan(problem.supercells, mesh or problem.mesh or mesh_for(problem.supercells.crystal))
        if isinstance(nac, str):
            nac = problem.born
        if isinstance(nac, BornCharges):
            nac = make_nac(problem.supercells, nac)
    with stages("conductivity"):
        solution = solve(
            plan, problem.force_constants, temperatures, broadening=broadening, scattering=scattering, nac=nac,
            allow_imaginary=allow_imaginary, progress=stages.progress if stages.stream else None, precision=precision,
            transport=transport, memory=memory,
        )  # fmt: skip
        jax.block_until_ready(solution.conductivity.kappa_P)
    report = dataclasses.replace(problem.report, seconds=dict(stages.times))
    return dataclasses.replace(solution, report=report)


def prepare(
    structure: str | Path | ase.Atoms,
    model: Model | None = None,
    *,
    fc2_supercell: Sequence[int] | None = None,
    fc3_supercell: Sequence[int] | None = None,
    relax: bool = True,
    derivatives: Derivatives | None = None,
    fc3_cutoff: float | None = None,
    pair_cutoff: float | None = None,
    rotational: bool = False,
    layer: float | bool | None = None,
    wire: float | None = None,
    symprec: float | None = None,
    processes: int = 1,
    born: str | Path | None = None,
    precision: Precision = "double",
    progress: Progress | None = None,
    after_fc2: Callable[[Supercells, Array], None] | None = None,
) -> Problem:
    """Supercells and force constants of a structure and a model. Arguments and errors are those of `conductivity`.

    Args:
        after_fc2: called with Φ2 before the work for Φ3 by differentiation; it may raise.
        born: a BORN file, whose unit factor is in the units of a yaml's calculator; instead of what the source has.
    """
    stages = Progress(None) if progress is None else progress
    if born is not None:
        born_tensors(born)  # refused before the work
    if has_constants(structure, model):
        for value, name in ((model, "model"), (fc2_supercell, "fc2_supercell"), (fc3_supercell, "fc3_supercell"),
                            (derivatives, "derivatives"), (pair_cutoff, "pair_cutoff"), (None if processes == 1 else processes, "processes")):  # fmt: skip
            if value is not None:
                raise InputError(f"{name} does not go with {structure}, which has force constants", "leave it out")
        with stages("read"):
            data = read_force_constants(cast("str | Path", structure), born=born, symprec=symprec)
        constants, imposed = constrained(data.supercells, data.force_constants, fc3_cutoff, rotational)
        report = Report(data.origin, "", "given", reach=data.reach, constraints=imposed)
        cells = low_dimensional(data.supercells, layer, wire)
        say_vacuum(cells.crystal)
        return Problem(cells, constants, data.born, data.mesh, report)
    atoms = snapped(structure_of(structure), symprec)
    found = model_of(model, atoms, processes)
    route = derivatives_of(found, derivatives)
    if pair_cutoff is not None and route == "ad":
        raise InputError("pair_cutoff belongs to finite displacements", 'leave it out, or give "finite-displacement"')
    mesh = positive_integers(atoms.info["q_mesh"], "q_mesh") if "q_mesh" in atoms.info else None
    planned = default_supercells(atoms, fc2_supercell, fc3_supercell)
    say_vacuum(low_dimensional(planned, layer, wire).crystal)
    require_parameters(planned)
    if route == "ad" and (work := work_ahead(planned)):
        stages.say(work)
    relaxation = left = None
    if relax:
        with stages("relax"):
            given = atoms
            atoms, relaxation = relax_with(given, found)
        say_unusual(atoms, given)
    else:
        from .relaxation.at_rest import forces_left

        say_unusual(atoms)
        left = forces_left(atoms, found)
    with (
        stages("force constants", COMPILED.format("Φ2") if route == "ad" else ""),
        own_processes_end(found, model),
    ):
        (supercells, fc), how = make_force_constants(
            atoms,
            found,
            route,
            fc2_supercell=fc2_supercell,
            fc3_supercell=fc3_supercell,
            pair_cutoff=pair_cutoff,
            progress=stages,
            after_fc2=after_fc2,
            precision=precision,
        )
    require_interaction(supercells.crystal, fc, found)
    check_force_constants(supercells, fc)
    fc, imposed = constrained(supercells, fc, fc3_cutoff, rotational)
    charges = None if born is None else read_born(born, supercells.crystal)
    name = found.name if isinstance(found, Potential) else name_of_calculator(model)
    reach = found.reach if isinstance(found, Potential) else float("nan")
    report = Report(
        atoms.get_chemical_formula("metal", empirical=True), name, route, relaxation, how, reach, left, imposed
    )
    return Problem(low_dimensional(supercells, layer, wire), fc, charges, mesh, report)


def low_dimensional(supercells: Supercells, layer: float | bool | None, wire: float | None) -> Supercells:
    """Supercells of what they are said to be: see `conductivity`. Those of a file may say so themselves."""
    if wire is not None:
        if layer is not None and layer is not False:
            raise InputError("layer and wire", "give one of them")
        return as_wire(supercells, wire)
    if layer is None or layer is False:
        return supercells
    return as_layer(supercells, None if layer is True else layer)


def mesh_for(crystal: Crystal, length: float = MESH_LENGTH) -> tuple[int, int, int]:
    """`default_mesh`, with one point along the vacuum of a layer or wire."""
    return flat_mesh(crystal, default_mesh(crystal, length))


def constrained(
    supercells: Supercells, fc: ForceConstants, fc3_cutoff: float | None = None, rotational: bool = False
) -> tuple[ForceConstants, str]:
    """Force constants with what is asked for imposed on them, and a line that says so; see `conductivity`."""
    from .ifc.constraints import with_cutoff, with_rotational_invariance

    words = []
    if fc3_cutoff is not None:
        fc, change = with_cutoff(supercells, fc, fc3_cutoff)
        words.append(f"Φ3 within {fc3_cutoff:g} Å ({100 * change.fc3:.2g} % left out)")
    if rotational:
        fc, change = with_rotational_invariance(supercells, fc)
        words.append(f"rotational sum rules (Φ2 changed by {100 * change.fc2:.2g} %)")
    return fc, ", ".join(words)


def any_model(model: Model, processes: int = 1) -> Potential | Calculator:
    """A potential by its name or file (`load_potential`), or an ASE calculator by whatever stands for one (`calculator_for`).

    Raises:
        InputError: processes for a potential, whose force constants need none.
    """
    from .potentials.registry import load_potential

    if not isinstance(model, (str, Path, Potential)) or str(model).startswith(ASE):
        return calculator_for(model, processes)
    found = model if isinstance(model, Potential) else load_potential(model)
    _no_processes(found, processes)
    return found


def _no_processes(potential: Potential, processes: int) -> None:
    require_processes(processes)
    if processes > 1:
        raise InputError(
            f"processes are for ASE calculators, and {potential.name} is a potential in JAX", "leave them out"
        )


def model_of(model: Model | None, atoms: ase.Atoms, processes: int = 1) -> Potential | Calculator:
    """A potential, restricted to the elements of `atoms`, or an ASE calculator. See `conductivity`.

    Raises:
        InputError: no built-in potential is meant for these atoms, or see `any_model`.
    """
    from .potentials.registry import available_potentials, default_potential, restrict

    if model is not None:
        found = any_model(model, processes)
        return restrict(found, atoms.numbers) if isinstance(found, Potential) else found
    if (built_in := default_potential(atoms.numbers)) is not None:
        _no_processes(built_in, processes)
        return built_in
    raise InputError(
        f"no built-in potential is meant for {atoms.get_chemical_formula('reduce')}",
        f"name one (built in: {', '.join(available_potentials())}; all: wigner-jax models)",
    )


def derivatives_of(model: Potential | Calculator, derivatives: Derivatives | None = None) -> Derivatives:
    """How force constants are made: as asked for, else as the model's card recommends.

    Raises:
        InputError: an unknown way, or automatic differentiation of an ASE calculator.
    """
    from .potentials.cards import recommended_route

    if derivatives not in (None, "ad", "finite-displacement"):
        raise InputError(f"derivatives is {derivatives!r}", 'give "ad", "finite-displacement" or None')
    if not isinstance(model, Potential):
        if derivatives == "ad":
            raise InputError(
                "automatic differentiation needs a JAX potential", "an ASE calculator has finite displacements only"
            )
        return "finite-displacement"
    return derivatives or recommended_route(model)


def relax_with(atoms: ase.Atoms, model: Potential | Calculator) -> tuple[ase.Atoms, RelaxReport | ProtocolReport]:
    """Relaxed within the symmetry: by Newton's method where there are derivatives, else by the k_SRME protocol."""
    if isinstance(model, Potential):
        from .relaxation.newton import relax

        return relax(atoms, model)
    from .relaxation.ase_protocols import relax_k_srme

    relaxed, report = relax_k_srme(atoms, model)
    relaxed.info = dict(atoms.info)
    return relaxed, report


def make_force_constants(
    atoms: ase.Atoms,
    model: Potential | Calculator,
    derivatives: Derivatives | None = None,
    *,
    fc2_supercell: Sequence[int] | None = None,
    fc3_supercell: Sequence[int] | None = None,
    distance: float = DISTANCE,
    pair_cutoff: float | None = None,
    progress: Progress | None = None,
    after_fc2: Callable[[Supercells, Array], None] | None = None,
    precision: Precision = "double",
) -> tuple[tuple[Supercells, ForceConstants], ForceConstantsReport | DisplacementReport]:
    """Φ2 and Φ3 of a structure in its supercells, by automatic differentiation or finite displacements.

    Args:
        atoms: at a minimum of the model's energy.
        distance, pair_cutoff: of finite displacements, Å.
        after_fc2: see `prepare`.
        precision: of third derivatives by differentiation; see `conductivity`.

    Returns:
        (supercells, force constants), report.
    """
    route = derivatives_of(model, derivatives)
    supercells = default_supercells(atoms, fc2_supercell, fc3_supercell)

    def show(part: str, done: int, total: int) -> None:
        if progress is not None:
            then = COMPILED.format("Φ3") if route == "ad" and part == "fc2" else ""
            progress.progress(done, total, {"fc2": "Φ2", "fc3": "Φ3"}.get(part, part), then)

    listener = None if progress is None or progress.stream is None else show
    if route == "ad":
        assert isinstance(model, Potential)
        gate = None if after_fc2 is None else partial(after_fc2, supercells)
        fc, report = force_constants(supercells, model, progress=listener, after_fc2=gate, precision=precision)
        return (supercells, fc), report
    from .potentials.calculator import WignerCalculator

    calculator = WignerCalculator(model) if isinstance(model, Potential) else model
    second, third = in_units_of(atoms, supercells)
    return finite_displacements(
        atoms, calculator, fc2_supercell=second, fc3_supercell=third, distance=distance, pair_cutoff=pair_cutoff,
        progress=listener,
    )  # fmt: skip


__all__ = [
    "Problem",
    "Report",
    "any_model",
    "conductivity",
    "derivatives_of",
    "make_force_constants",
    "model_of",
    "prepare",
    "relax_with",
    "structure_of",
]
