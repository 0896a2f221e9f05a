"""Model cards: what is known of each model before it is loaded. Data, and the two questions that are asked of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from .base import Potential


Route = Literal["ad", "finite-displacement"]
MPTRJ = (*range(1, 84), *range(89, 95))  # H to Bi and Ac to Pu: the elements of the Materials Project's trajectories
ORGANIC = (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)


@dataclasses.dataclass(frozen=True)
class Card:
    """What a user should know of a model, and what the package decides by it."""

    name: str
    family: str
    elements: tuple[int, ...]  # atomic numbers
    cutoff: float | None  # Å, the longest edge; None where only the file says
    parameters: int | None  # trained numbers, as the authors count them; None where only the file says
    licence: str  # of the weights
    #: highest derivative of the energy that is continuous where a neighbour enters or leaves; None: all of them.
    #: "unknown" where nobody has measured it
    continuous: int | Literal["unknown"] | None
    smoothness: str  # in words, with the measurement where the model falls short of what Φ3 needs
    source: str
    route: Route = "ad"  # of force constants by default; the other can always be chosen

    @property
    def smooth(self) -> str:
        """The class of continuity, for a table."""
        if self.continuous is None:
            return "C∞"
        return "?" if self.continuous == "unknown" else "C" + "⁰¹²³⁴⁵"[self.continuous]


def card_of(model: str | Potential) -> Card | None:
    """The card of a model by its name, or of a potential that was loaded; None for one that is not published."""
    return CARDS.get(model if isinstance(model, str) else model.name)


def recommended_route(model: str | Potential) -> Route:
    """How force constants of a model are made unless the user says: by its card, by differentiation without one."""
    card = card_of(model)
    return card.route if card else "ad"


_TERSOFF_SMOOTH = (
    "E'' jumps where a pair crosses the ends R and S of the cutoff function (by ½π²/(S − R)² in f_C): a graph's margin"
    " says how near the nearest pair is; crystals near equilibrium are far from both"
)
_PHYS_REV_B = "J. Tersoff, Phys. Rev. B 39, 5566 (1989)"
_ANALYTIC = (
    Card("tersoff-1989", "Tersoff", (6, 14, 32), 3.1, 42, "none needed", 1, _TERSOFF_SMOOTH, _PHYS_REV_B),
    Card(
        "tersoff-1988-si", "Tersoff", (14,), 3.0, 12, "none needed", 1, _TERSOFF_SMOOTH,
        "J. Tersoff, Phys. Rev. B 38, 9902 (1988)",
    ),
    Card(
        "stillinger-weber-si", "Stillinger–Weber", (14,), 3.77118, 9, "none needed", None,
        "all derivatives vanish at the cutoff", "F. H. Stillinger and T. A. Weber, Phys. Rev. B 31, 5262 (1985)",
    ),
)  # fmt: skip
_SEVENNET = (
    Card(
        "sevennet-0", "SevenNet", MPTRJ, 5.0, 842_440, "MIT", 1,
        "the XPLOR cutoff from 4.5 to 5 Å has a second derivative that jumps by −21.5 Å⁻² at 4.5 Å and −26.6 Å⁻² at"
        " 5 Å, so that force constants change at once when a shell of neighbours crosses one of these distances (for a"
        " lone Na–Cl pair E'' jumps by 10.1 and 13.8 eV/Å²). Published conductivities are by displacements of 0.03 Å,"
        " which average over this; sevennet-l3i5 is smoother. Energies are invariant under rotations only, not mirrors"
        " (no parity): force constants are averages over mirror images",
        "Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024); weights of 11 July 2024",
        route="finite-displacement",
    ),
    Card(
        "sevennet-l3i5", "SevenNet", MPTRJ, 5.0, 1_171_144, "MIT", 2,
        "polynomial cutoff: E''' jumps where a pair crosses 5 Å, with (5 Å − r)³ in the energy",
        "Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024); weights of 12 December 2024",
    ),
)  # fmt: skip
_NEQUIX_SMOOTH = "Bessel functions and polynomial vanish at 6 Å together: the energy goes with (6 Å − r)⁴"
_NEQUIX_SOURCE = "T. Koker, M. Kotak and T. Smidt, arXiv:2508.16067"
_NEQUIX = tuple(
    Card(name, "Nequix", MPTRJ, 6.0, 707_658, "MIT", 3, _NEQUIX_SMOOTH, _NEQUIX_SOURCE + extra)
    for name, extra in (
        ("nequix-mp-1", ""),
        ("nequix-mp-1-pft", "; fine-tuned on phonons"),
        ("nequix-oam-1-pft", "; OMat24, sAlex and MPtrj, fine-tuned on phonons"),
    )
)
_BONDS = (
    Card(
        "chgnet-0.3.0", "CHGNet", MPTRJ, 6.0, 412_525, "BSD-3-Clause", 2,
        "cusps at straight angles, rounded over 1.4e-3 rad: in NaCl (5.69 Å) Φxx of an atom on itself is −0.22 eV/Å² by"
        " differentiation and at steps of 1e-4 Å, but 0.64, 1.15 and 1.35 at steps of 0.01, 0.03 and 0.06 Å. Derivatives"
        " describe the rounded tips; published conductivities are by displacements of 0.03 Å. E''' jumps where a bond"
        " crosses 3 or 6 Å",
        "B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
        route="finite-displacement",
    ),
    Card(
        "m3gnet-mp-2021.2.8", "M3GNet", MPTRJ, 5.0, 227_549, "BSD-3-Clause", 2,
        "E''' jumps where a pair crosses 4 Å (angles) or 5 Å (bonds; by −8.8 eV/Å³ for Na–Cl), E'' does not",
        "C. Chen and S. P. Ong, Nat. Comput. Sci. 2, 718 (2022); the TensorFlow weights",
    ),
    Card(
        "m3gnet-mp-2021.2.8-matgl", "M3GNet", MPTRJ, 5.0, 288_157, "BSD-3-Clause", 0,
        "E' itself jumps where a pair crosses 5 Å (by −0.87 eV/Å for Na–Cl, −0.49 for Mg–O), of which force constants by differentiation know nothing; published conductivities are by"
        " displacements of 0.03 Å. matgl 1.1.3 makes three-body sums of wrong edges; with those of the publication, as"
        " here, forces differ by up to 1.3e-3 eV/Å",
        "C. Chen and S. P. Ong, Nat. Comput. Sci. 2, 718 (2022); retrained by matgl",
        route="finite-displacement",
    ),
)  # fmt: skip
_MACE_SMOOTH = "Bessel functions and polynomial vanish at the cutoff together: the energy goes with (r_c − r)⁴"
_AGNESI_SMOOTH = "Bessel functions of a transformed distance: E''' jumps at the cutoff, with (r_c − r)³ in the energy"
_MACE_SOURCE = "I. Batatia et al., arXiv:2401.00096"
_ASL = "ASL (academic)"


def _mace(names: str, licence: str, continuous: Literal[2, 3, "unknown"], parameters: int | None = None) -> tuple:
    notes = {2: _AGNESI_SMOOTH, 3: _MACE_SMOOTH, "unknown": "not measured"}
    cutoff = None if continuous == "unknown" else 6.0
    return tuple(
        Card(f"mace-{n}", "MACE", MPTRJ, cutoff, parameters, licence, continuous, notes[continuous], _MACE_SOURCE)
        for n in names.split()
    )


_MACE = (
    *_mace("mp-0-small mp-0-large", "MIT", 3),
    *_mace("mp-0-medium", "MIT", 3, 4_688_656),
    *_mace("mp-0b-small mp-0b-medium mp-0b2-small mp-0b2-medium mp-0b2-large", "MIT", 2),
    *_mace("mp-0b3-medium mpa-0-medium", "MIT", 2, 9_063_204),
    *_mace("omat-0-small omat-0-medium matpes-pbe-0 matpes-r2scan-0", _ASL, 2),
    *_mace("mh-0 mh-1", _ASL, "unknown"),
    *(
        dataclasses.replace(card, elements=ORGANIC, source="D. P. Kovács et al., arXiv:2312.15211")
        for card in _mace("off23-small off23-medium off23-large", _ASL, "unknown")
    ),
)
_BUNDLED = (
    Card(
        "mace-bundled", "MACE", (3, 8, 11, 12, 13, 14, 17, 20, 31, 32, 33, 35), 6.0, 121_305, "MIT", 3,
        _MACE_SMOOTH + ". For Si, Ge, LiCl, LiBr, NaCl, NaBr, MgO, CaO, GaAs and AlAs near equilibrium, and nothing else"
        " of these elements: the file mace-bundled.md beside the model has its errors",
        "distilled from nequix-mp-1-pft by benchmarks/studies/train_bundled.py",
    ),
)  # fmt: skip
#: All cards by name, in the order of the table that the command line prints.
CARDS: dict[str, Card] = {card.name: card for card in (*_BUNDLED, *_ANALYTIC, *_SEVENNET, *_NEQUIX, *_BONDS, *_MACE)}
