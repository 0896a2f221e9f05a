"""What the package knows of one architecture: its files, its published models, how it is written, fine-tuned and judged.

Everything that depends on the architecture is in one record. `registry`, `saving`, `cards` and the training ask the
record; none of them names an architecture. Functions are given as text, "package.module:function", and imported when
they are first needed, so that a record costs nothing until one of its models is used.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from .base import Energy
    from .downloads import Published


Route = Literal["ad", "finite-displacement"]
#: A function or class: itself, or "package.module:name".
Reference = Any
#: H to Bi and Ac to Pu: the elements of the Materials Project's trajectories
MPTRJ = (*range(1, 84), *range(89, 95))


def resolve(reference: Reference) -> Callable[..., Any]:
    """What a reference means; text is imported."""
    if not isinstance(reference, str):
        return reference
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclasses.dataclass(frozen=True)
class Card:
    """What a user should know of a model, and what the package decides by it."""

    #: the name that `load_potential` takes
    name: str
    #: architecture, in words
    family: str
    #: atomic numbers
    elements: tuple[int, ...]
    #: Å, the longest edge; None where only the file says
    cutoff: float | None
    #: trained numbers, as the authors count them; None where only the file says
    parameters: int | None
    #: of the weights
    licence: str
    #: highest derivative of the energy that is continuous where a neighbour enters or leaves; None: all of them.
    #: "unknown" where nobody has measured it
    continuous: int | Literal["unknown"] | None
    #: in words, with the measurement where the model falls short of what Φ3 needs
    smoothness: str
    #: publication
    source: str
    #: of force constants by default; the other can always be chosen
    route: Route = "ad"

    @property
    def smooth(self) -> str:
        """The class of continuity, for a table."""
        if self.continuous is None:
            return "C∞"
        return "?" if self.continuous == "unknown" else "C" + "⁰¹²³⁴⁵"[self.continuous]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Family:
    """One architecture. `wigner_jax.potentials.register_family` makes it known to every command and function.

    Only the first four entries are needed; each of the others adds an ability.

    Attributes:
        name: what the architecture is called, "MACE".
        energies: the class of its energies, or the energy functions themselves: how a potential is recognised as one of
            this family.
        endings: what names of its files end in, ".nqx"; the first is what `save_potential` writes. An empty one stands
            for all files that belong to no other family.
        read: path → Potential. With `has_heads`: (path, head=None) → Potential.
        has_heads: whether a file may hold several models, one of which is chosen by name.
        holds_model: path → bool, for models that are folders: whether `read` would try to read this one.
        write: (potential, template, path) → the potential as written. Without it, its models cannot be saved.
        needs_template: whether `write` needs a file of the same architecture to copy from.
        built_in: models that come with the package, by name: the path of a file, or name → Potential.
        models: published models, by name.
        companions: further files of a published model, which must stand beside its own.
        aliases: other names of models.
        cards: one of each model in `built_in` and `models`.
        blocks: (potential, name of a parameter) → shapes (n, m) of the matrices that make up this flat parameter, one
            after the other, or None if it is none: what LoRA changes. Parameters with two axes need no entry.
        usually_fixed: potential → names of the parameters that training leaves alone unless told otherwise.
        restrict: (potential, atomic numbers) → the same model for fewer elements, where that saves work.
        initial: (potential, rng, atom_energies, force_scale) → the architecture with random weights. The energies are
            (species,) eV or None, the scale is the root mean square of the force components in eV/Å or None.
        atom_energies: name of the parameter with the energies of free atoms, (..., species) eV.
    """

    name: str
    energies: tuple[Reference, ...]
    endings: tuple[str, ...]
    read: Reference
    has_heads: bool = False
    holds_model: Reference | None = None
    write: Reference | None = None
    needs_template: bool = True
    built_in: Mapping[str, Path | Reference] = dataclasses.field(default_factory=dict)
    models: Mapping[str, Published] = dataclasses.field(default_factory=dict)
    companions: Mapping[str, tuple[Published, ...]] = dataclasses.field(default_factory=dict)
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cards: tuple[Card, ...] = ()
    blocks: Reference | None = None
    usually_fixed: Reference | None = None
    restrict: Reference | None = None
    initial: Reference | None = None
    atom_energies: str | None = None

    def has(self, energy: Energy) -> bool:
        """Whether an energy is one of this architecture. Nothing is imported to find out."""
        return any(_is(energy, reference) for reference in self.energies)


def _is(energy: Any, reference: Reference) -> bool:
    if isinstance(reference, str):
        module, _, name = reference.partition(":")
        if module not in sys.modules:
            return False  # an energy of a module that nobody has imported does not exist
        reference = getattr(sys.modules[module], name)
    return isinstance(energy, reference) if isinstance(reference, type) else energy is reference
