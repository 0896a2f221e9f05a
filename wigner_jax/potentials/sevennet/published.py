"""The published SevenNet models, where their files are, and what is known of them."""

from __future__ import annotations

from ..downloads import Published
from ..family import MPTRJ, Card

# sevenn has no address for these two: its package comes with the files, from this folder of its repository
_URL = "https://github.com/MDIL-SNU/SevenNet/raw/main/sevenn/pretrained_potentials"
_PACKAGE = "sevenn/pretrained_potentials"
MODELS: dict[str, Published] = {
    "sevennet-0": Published(  # of 11 July 2024
        f"{_URL}/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
        "7052cb42b7b3be42b40b97fa0d21077a48c54b5548948fc4dcf346629f813c36",
        package=f"{_PACKAGE}/SevenNet_0__11Jul2024/checkpoint_sevennet_0.pth",
    ),
    "sevennet-l3i5": Published(
        f"{_URL}/SevenNet_l3i5/checkpoint_l3i5.pth",
        "a7ff190d41efe5b8317a03d20a468e4036a1a3e64e0b14fdbab64ac3f4bfc09d",
        names=("checkpoint_sevennet_l3i5.pth",),
        package=f"{_PACKAGE}/SevenNet_l3i5/checkpoint_l3i5.pth",
    ),
}
ALIASES = {"7net-0": "sevennet-0", "7net-l3i5": "sevennet-l3i5"}
CARDS = (
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
