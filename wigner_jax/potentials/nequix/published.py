"""The published Nequix models, where their files are, and what is known of them."""

from __future__ import annotations

from ..downloads import Published
from ..family import MPTRJ, Card

# addresses are those of nequix's own calculator, pinned to commits
_MP = "https://github.com/atomicarchitects/nequix/raw/7c2854de8e754b1a60274c7d9d2e014989ed632e/models"
_OAM = "https://github.com/atomicarchitects/nequix/raw/9c852a9c4cce69ae5e75bc5a2cf670be21ff8c28/models"
MODELS: dict[str, Published] = {
    name: Published(f"{folder}/{name}.nqx", sha256, cache=f"~/.cache/nequix/models/{name}.nqx")
    for name, folder, sha256 in (
        ("nequix-mp-1", _MP, "1647af8e627e1afa11e2bfadeab0797326513a521afd7dd01606a96f56783eee"),
        ("nequix-mp-1-pft", _MP, "a88aeaed71fd447572dc57af21d469207d7737b85a6dbb66f8c38156f175c5f1"),
        ("nequix-oam-1-pft", _OAM, "4ce693d68886512aab50c84ea2400efd68163e11155f7c7babe98e695177e809"),
    )
}
_SMOOTH = "Bessel functions and polynomial vanish at 6 Å together: the energy goes with (6 Å − r)⁴"
_SOURCE = "T. Koker, M. Kotak and T. Smidt, arXiv:2508.16067"
CARDS = tuple(
    Card(name, "Nequix", MPTRJ, 6.0, 707_658, "MIT", 3, _SMOOTH, _SOURCE + extra)
    for name, extra in (
        ("nequix-mp-1", ""),
        ("nequix-mp-1-pft", "; fine-tuned on phonons"),
        ("nequix-oam-1-pft", "; OMat24, sAlex and MPtrj, fine-tuned on phonons"),
    )
)
