"""For programs that are there to be run once: less work by XLA, the same numbers to rounding."""

from __future__ import annotations

from wigner_jax._core.programs import Effort, compiler_options

#: variables of a process; empty where this version of XLA does not know the options
COMPILED_QUICKLY = {
    "XLA_FLAGS": " ".join(f"--{name}={value}" for name, value in compiler_options(Effort.COLD, "cpu").items()).lower()
}
