"""The published MACE models, their official addresses, and what is known of them. Every model has a licence of its own: see its release page."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..downloads import Published
from ..family import MPTRJ, Card

_MP = "https://github.com/ACEsuit/mace-mp/releases/download"
_FOUNDATIONS = "https://github.com/ACEsuit/mace-foundations/releases/download"
_OFF = "https://raw.githubusercontent.com/ACEsuit/mace-off/main/mace_off23"
# the releases publish no checksums; those of the first download are recorded (`downloads.fetch`)
MODELS: dict[str, Published] = {
    "mace-mp-0-small": Published(f"{_MP}/mace_mp_0/2023-12-10-mace-128-L0_energy_epoch-249.model"),
    "mace-mp-0-medium": Published(f"{_MP}/mace_mp_0/2023-12-03-mace-128-L1_epoch-199.model"),
    "mace-mp-0-large": Published(f"{_MP}/mace_mp_0/MACE_MPtrj_2022.9.model"),
    "mace-mp-0b-small": Published(f"{_MP}/mace_mp_0b/mace_agnesi_small.model"),
    "mace-mp-0b-medium": Published(f"{_MP}/mace_mp_0b/mace_agnesi_medium.model"),
    "mace-mp-0b2-small": Published(f"{_MP}/mace_mp_0b2/mace-small-density-agnesi-stress.model"),
    "mace-mp-0b2-medium": Published(f"{_MP}/mace_mp_0b2/mace-medium-density-agnesi-stress.model"),
    "mace-mp-0b2-large": Published(f"{_MP}/mace_mp_0b2/mace-large-density-agnesi-stress.model"),
    "mace-mp-0b3-medium": Published(f"{_MP}/mace_mp_0b3/mace-mp-0b3-medium.model"),
    "mace-mpa-0-medium": Published(f"{_MP}/mace_mpa_0/mace-mpa-0-medium.model"),
    "mace-omat-0-small": Published(f"{_MP}/mace_omat_0/mace-omat-0-small.model"),
    "mace-omat-0-medium": Published(f"{_MP}/mace_omat_0/mace-omat-0-medium.model"),
    "mace-matpes-pbe-0": Published(f"{_FOUNDATIONS}/mace_matpes_0/MACE-matpes-pbe-omat-ft.model"),
    "mace-matpes-r2scan-0": Published(f"{_FOUNDATIONS}/mace_matpes_0/MACE-matpes-r2scan-omat-ft.model"),
    "mace-mh-0": Published(f"{_FOUNDATIONS}/mace_mh_1/mace-mh-0.model"),
    "mace-mh-1": Published(f"{_FOUNDATIONS}/mace_mh_1/mace-mh-1.model"),
    "mace-off23-small": Published(f"{_OFF}/MACE-OFF23_small.model"),
    "mace-off23-medium": Published(f"{_OFF}/MACE-OFF23_medium.model"),
    "mace-off23-large": Published(f"{_OFF}/MACE-OFF23_large.model"),
}
ALIASES = {"mace-mp-0": "mace-mp-0-medium", "mace-mp-0b3": "mace-mp-0b3-medium", "mace-mpa-0": "mace-mpa-0-medium"}
ORGANIC = (1, 6, 7, 8, 9, 15, 16, 17, 35, 53)
_SMOOTH = "Bessel functions and polynomial vanish at the cutoff together: the energy goes with (r_c − r)⁴"
_AGNESI_SMOOTH = "Bessel functions of a transformed distance: E''' jumps at the cutoff, with (r_c − r)³ in the energy"
_SOURCE = "I. Batatia et al., arXiv:2401.00096"
_ASL = "ASL (academic)"


def _mace(
    names: str, licence: str, continuous: Literal[2, 3, "unknown"], parameters: int | None = None
) -> tuple[Card, ...]:
    notes = {2: _AGNESI_SMOOTH, 3: _SMOOTH, "unknown": "not measured"}
    cutoff = None if continuous == "unknown" else 6.0
    return tuple(
        Card(f"mace-{n}", "MACE", MPTRJ, cutoff, parameters, licence, continuous, notes[continuous], _SOURCE)
        for n in names.split()
    )


_PUBLISHED = (
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
        _SMOOTH + ". For Si, Ge, LiCl, LiBr, NaCl, NaBr, MgO, CaO, GaAs and AlAs near equilibrium, and nothing else"
        " of these elements: the file mace-bundled.md beside the model has its errors",
        "distilled from nequix-mp-1-pft by benchmarks/studies/train_bundled.py",
    ),
)  # fmt: skip
CARDS: tuple[Card, ...] = (*_BUNDLED, *_PUBLISHED)
