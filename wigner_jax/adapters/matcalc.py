"""MatCalc's `Phonon3Calc` with this solver: the same arguments, the same keys of the result.

    from wigner_jax.adapters.matcalc import Phonon3Calc

    calculator = Phonon3Calc("TensorNet-PES-MatPES-PBE-2025.2", fc2_supercell=(2, 2, 2), fc3_supercell=(2, 2, 2), t_min=300, t_max=300)
    calculator.calc(structure)["thermal_conductivity"]

What is another: κ is that of the Wigner equation, populations and coherences (both are in the result too), displacements of ASE
calculators go through this package (in batches, where a model takes them), and one of our potentials, by `WignerCalculator`, is
differentiated instead. Needs matcalc.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..errors import InputError
from ..io.constants.given import GivenConstants
from ..io.constants.peer import to_phono3py
from ..pipeline import conductivity
from ..potentials.calculator import WignerCalculator
from ..types import Scattering, Transport

KAPPA = ("thermal_conductivity", "thermal_conductivity_populations", "thermal_conductivity_coherences")


@functools.cache
def _phonon3_calc() -> type:
    try:
        from matcalc import Phonon3Calc as Theirs
        from matcalc.utils import to_ase_atoms
    except ImportError as error:
        raise ImportError(f"MatCalc cannot be imported ({error}): python -m pip install matcalc") from error

    class Phonon3Calc(Theirs):
        """See the module's docstring. Arguments are MatCalc's; `disp_kwargs` must be empty: displacements are phono3py's 0.03 Å.

        `thermal_conductivity_kwargs` may hold ``is_isotope``, ``is_LBTE`` (both False, as in phono3py) and ``boundary_mfp`` (µm);
        other names are refused.
        At 0 K, where phono3py says 0, κ is NaN.
        """

        def calc(self, structure: Any) -> dict[str, Any]:
            """κ of a structure.

            Args:
                structure: pymatgen's, ASE's, or a dictionary with one under ``final_structure`` or ``structure``.

            Returns:
                MatCalc's keys: ``temperatures`` (K), ``thermal_conductivity`` (W/(m K), a third of the trace, squeezed), ``phonon3`` (a
                Phono3py object with the force constants), ``_units``, and those of the relaxation; besides them
                ``thermal_conductivity_populations``, ``thermal_conductivity_coherences`` and ``solution``.

            Raises:
                InputError: options that have no meaning here, and whatever `conductivity` refuses.
            """
            options = dict(self.thermal_conductivity_kwargs)
            transport: Transport = "lbte" if options.pop("is_LBTE", False) else "rta"
            isotope, mfp = options.pop("is_isotope", False), options.pop("boundary_mfp", None)
            if options or self.disp_kwargs:
                name = next(iter({**options, **self.disp_kwargs}))
                raise InputError(f"{name} has no meaning here", "leave it out, or use MatCalc's own Phonon3Calc")
            if self.write_kappa:
                raise InputError("write_kappa has no meaning here", 'save the result\'s "solution" instead')
            result = super(Theirs, self).calc(structure)
            result, relaxed = self._check_and_prelax(
                result["final_structure"], result, fmax=self.fmax, optimizer=self.optimizer
            )
            temperatures = np.arange(self.t_min, self.t_max + self.t_step, self.t_step)
            warm = temperatures > 0
            if not warm.any():
                raise InputError("no temperature is above 0 K", "give t_max above 0")
            model = self.calculator.potential if isinstance(self.calculator, WignerCalculator) else self.calculator
            solution = conductivity(
                to_ase_atoms(relaxed), model, mesh=self.mesh_numbers, temperatures=temperatures[warm].tolist(), relax=False,
                fc2_supercell=_flat(self.fc2_supercell), fc3_supercell=_flat(self.fc3_supercell),
                scattering=Scattering("natural" if isotope else None, mfp), transport=transport,
            )  # fmt: skip
            coherences = np.asarray(solution.conductivity.kappa_C)
            kappa = {}
            for name, tensor in zip(KAPPA, (solution.kappa, solution.kappa - coherences, coherences), strict=True):
                values = np.full(len(temperatures), np.nan)
                values[warm] = np.asarray(tensor)[:, :3].mean(axis=1)
                kappa[name] = np.squeeze(values)
            supercells = solution.plan.supercells
            assert supercells is not None
            peer = to_phono3py(GivenConstants(supercells, solution.force_constants))
            peer.mesh_numbers = solution.mesh.dims
            if self.write_phonon3:
                peer.save(filename=self.write_phonon3)
            units = {"temperatures": "K", **dict.fromkeys(KAPPA, "W/(m*K)")}
            extra = {"phonon3": peer, "solution": solution, "temperatures": temperatures, **kappa}
            return result | extra | {"_units": self._merge_units(result, units)}

    return Phonon3Calc


def __getattr__(name: str) -> Any:
    """`Phonon3Calc` is a subclass of MatCalc's, made when it is asked for."""
    if name == "Phonon3Calc":
        return _phonon3_calc()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _flat(matrix: Any) -> list[int]:
    """A supercell as 3 or 9 integers, in phono3py's order."""
    return [int(x) for x in np.ravel(np.asarray(matrix))]


__all__ = ["Phonon3Calc"]  # noqa: F822 - see __getattr__
