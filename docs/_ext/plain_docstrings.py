"""Docstrings of this package as reStructuredText.

They are written to be read in the source and in ``help()``: formulas such as ``|V|²`` and ``e*`` stand in them as they
are, and single backticks mean code. This extension quotes what reStructuredText would take for markup, keeps indented
formulas as they are laid out, and turns ``Args:``, ``Returns:``, ``Attributes:`` and the like into lists.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sphinx.application import Sphinx

SECTIONS = {
    "Args": "Arguments",
    "Arguments": "Arguments",
    "Returns": "Returns",
    "Raises": "Raises",
    "Yields": "Yields",
    "Warns": "Warns",
    "Attributes": "Attributes",
}
HEAD = re.compile(rf"^({'|'.join(SECTIONS)}):\s*(.*)$")
CODE = re.compile(r"(``.+?``|`[^`]+`)")
ITEM = re.compile(r"^(\*{0,2}[A-Za-z_][\w.]*(?:, \*{0,2}[A-Za-z_][\w.]*)*)\s*: (.*)$")


def quoted(text: str) -> str:
    """Prose with its code spans as literals, and every character that means markup escaped."""
    parts = CODE.split(text)
    for k, part in enumerate(parts):
        if k % 2:
            parts[k] = f"``{part.strip('`')}``\\ " if parts[k + 1][:1].isalnum() else f"``{part.strip('`')}``"
        else:
            parts[k] = re.sub(r"([\\*|_`])", r"\\\1", part)
    return "".join(parts)


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def paragraphs(lines: Iterable[str]) -> list[list[str]]:
    """Groups of lines between empty ones."""
    groups: list[list[str]] = [[]]
    for line in lines:
        if line.strip():
            groups[-1].append(line.rstrip())
        elif groups[-1]:
            groups.append([])
    return [g for g in groups if g]


def items(body: list[str]) -> list[str]:
    """A definition list of ``name: meaning`` entries; other lines are plain paragraphs."""
    body = [line for line in body if line.strip()]
    least = min(map(indent_of, body), default=0)
    result: list[str] = []
    for line in body:
        found = ITEM.match(line[least:]) if indent_of(line) == least else None
        if found:
            names = ", ".join(f"``{name}``" for name in found[1].split(", "))
            result += ["", names, f"    {quoted(found[2])}"]
        elif result and result[-1].startswith("    "):
            result.append(f"    {quoted(line.strip())}")
        else:
            result.append(quoted(line.strip()))
    return result


def converted(lines: list[str]) -> list[str]:
    """A whole docstring."""
    result: list[str] = []
    section: list[str] | None = None

    def close() -> None:
        nonlocal section
        if section is not None:
            result.extend([*items(section), ""])
        section = None

    for group in paragraphs(lines):
        rest = list(group)
        while rest:
            if section is not None and indent_of(rest[0]) > 0:
                section.append(rest.pop(0))
                continue
            head = HEAD.match(rest[0])
            if head:
                close()
                result.extend(["", f".. rubric:: {SECTIONS[head[1]]}", ""])
                section = [f"    {head[2]}"] if head[2] else []
                rest.pop(0)
                continue
            close()
            if indent_of(rest[0]) > 0:
                block = []
                while rest and indent_of(rest[0]) > 0:
                    block.append(rest.pop(0))
                least = min(map(indent_of, block))
                result.extend(["", "::", "", *(f"    {line[least:]}" for line in block), ""])
                continue
            while rest and indent_of(rest[0]) == 0 and not HEAD.match(rest[0]):
                result.append(quoted(rest.pop(0)))
        if section is None:
            result.append("")
    close()
    return result


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = converted(list(lines))


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "version": "1"}
