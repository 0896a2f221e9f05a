"""Many crystals, one potential: κ of each, in a table. `screen` is the way in."""

from .estimate import Estimate, estimate
from .job import Screening
from .material import screen_material
from .run import screen
from .settings import ScreenSettings
from .sources import structures_from

__all__ = ["Estimate", "ScreenSettings", "Screening", "estimate", "screen", "screen_material", "structures_from"]
