"""The published MACE models and their official addresses. Every model has a licence of its own: see its release page."""

from __future__ import annotations

from ..downloads import Published

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
