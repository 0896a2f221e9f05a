"""``python -m wigner_jax``: the command line."""

from __future__ import annotations

import sys

from ._core.interrupts import take_over_signals

if __name__ == "__main__":
    take_over_signals()  # before anything else is loaded
    from .cli.app import main

    sys.exit(main())
