"""The documents of the repository, and their blocks of code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
GENERATED = ("_build", "jupyter_execute", "api", "api.md")
#: pages with code or commands: README, the guides, all of docs/ that is written by hand
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md")),
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if not set(p.relative_to(ROOT / "docs").parts) & set(GENERATED)),
]
FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+?) -->\n+)?^(?P<mark>```+|:::+)(?P<head>[^\n]*)\n(?P<body>.*?)^(?P=mark)[ \t]*$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int  # of its first line, from 1
    language: str
    body: str
    reason: str | None  # why it is not run


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in some languages; ``{code-block} python`` counts as python."""
    text = page.read_text()
    result = []
    for found in FENCE.finditer(text):
        head = found["head"].strip().removeprefix("{code-block}").removeprefix("{code-cell}").strip()
        if head in languages:
            line = text.count("\n", 0, found.start("body")) + 1
            result.append(Block(page, line, head, found["body"], found["reason"]))
    return result


def without_blocks(page: Path) -> str:
    """The prose of a page, inline code included."""
    return FENCE.sub("", page.read_text())


def shell_lines(page: Path) -> list[str]:
    """Commands of the shell blocks and of indented ones, continuation lines joined, prompts removed."""
    text = "\n".join(b.body for b in blocks(page, "bash", "console", "shell", "sh"))
    prose = without_blocks(page)
    text += "\n" + "\n".join(line[4:] for line in prose.splitlines() if re.match(r" {4}(\$ )?\w", line))
    text = re.sub(r"\\\n\s*", " ", text)
    commands = [part.strip().removeprefix("$ ") for line in text.splitlines() for part in line.split("&&")]
    return [c for c in commands if c]


def inline_commands(page: Path) -> list[str]:
    """Commands that stand in a sentence: `wigner-jax ...` with arguments."""
    return [" ".join(c.split()) for c in re.findall(r"`(wigner-jax [^`]+)`", without_blocks(page))]


def commands(page: Path) -> list[list[str]]:
    """Arguments of every wigner-jax that a page shows; without those that leave something out."""
    found = [c for c in [*shell_lines(page), *inline_commands(page)] if c.startswith("wigner-jax")]
    return [shlex.split(c)[1:] for c in found if not re.search(r"…|\.\.\.|COMMAND", c)]
