"""The published CHGNet model, where its file is, and what is known of it."""

from __future__ import annotations

from ..downloads import Published
from ..family import MPTRJ, Card

_PLACE = "pretrained/0.3.0/chgnet_0.3.0_e29f68s314m37.pth.tar"
MODELS: dict[str, Published] = {
    "chgnet-0.3.0": Published(
        f"https://github.com/CederGroupHub/chgnet/raw/main/chgnet/{_PLACE}",
        "d14ab7c0f093efe64b60a7bcd540bca10e74fb7f46c86108a079af60524659d1",
        package=f"chgnet/{_PLACE}",
    )
}
CARDS = (
    Card(
        "chgnet-0.3.0", "CHGNet", MPTRJ, 6.0, 412_525, "BSD-3-Clause", 2,
        "cusps at straight angles, rounded over 1.4e-3 rad: in NaCl (5.69 Å) Φxx of an atom on itself is −0.22 eV/Å² by"
        " differentiation and at steps of 1e-4 Å, but 0.64, 1.15 and 1.35 at steps of 0.01, 0.03 and 0.06 Å. Derivatives"
        " describe the rounded tips; published conductivities are by displacements of 0.03 Å. E''' jumps where a bond"
        " crosses 3 or 6 Å",
        "B. Deng et al., Nat. Mach. Intell. 5, 1031 (2023)",
        route="finite-displacement",
    ),
)  # fmt: skip
