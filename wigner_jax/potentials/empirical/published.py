"""The potentials in closed form, and what is known of them."""

from __future__ import annotations

from ..family import Card

_TERSOFF_SMOOTH = (
    "E'' jumps where a pair crosses the ends R and S of the cutoff function (by ½π²/(S − R)² in f_C): a graph's margin"
    " says how near the nearest pair is; crystals near equilibrium are far from both"
)
_PHYS_REV_B = "J. Tersoff, Phys. Rev. B 39, 5566 (1989)"
CARDS = (
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
