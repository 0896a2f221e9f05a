"""For programs that are there to be run once: hardly any work by XLA, the same numbers to rounding.

Without LLVM's optimisation the slowest test files take 30 % less time than with a little of it, the programs' run time included.
"""

from __future__ import annotations

from wigner_jax._core.programs import OPTIONS, Effort, _known


def _flags(effort: Effort) -> dict[str, str]:
    if not _known(effort):
        return {}
    return {"XLA_FLAGS": " ".join(f"--{name}={value}" for name, value in OPTIONS[effort].items()).lower()}


#: variables of a process, which its programs' own options yield to; empty where this version of XLA does not know them
COMPILED_QUICKLY = _flags(Effort.ONCE)
#: for what evaluates a neural network many times
COMPILED_LIGHTLY = _flags(Effort.COLD)
