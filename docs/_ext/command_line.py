"""The directive ``command-line``: the reference of ``wigner-jax`` from its own parser, so that it cannot be out of date."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from wigner_jax.cli.app import build_parser

if TYPE_CHECKING:
    from sphinx.application import Sphinx


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parsers of all commands by name, in the order of --help."""
    (action,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def term(action: argparse.Action) -> list[nodes.Node]:
    """The spellings of an option, and what follows it."""
    metavar = action.metavar or (
        "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    value = " ".join(metavar) if isinstance(metavar, tuple) else str(metavar)
    if not action.option_strings:
        return [nodes.literal(text=value)]
    result: list[nodes.Node] = []
    for spelling in action.option_strings:
        result += [nodes.literal(text=spelling), nodes.Text(", ")]
    result.pop()
    if action.nargs != 0:
        several = " …" if action.nargs in ("+", "*") else ""
        result += [nodes.Text(" "), nodes.emphasis(text=f"[{value}]" if action.nargs == "?" else value + several)]
    return result


def meaning(action: argparse.Action) -> str:
    text = (action.help or "").replace("%%", "%")
    if action.choices and action.metavar:
        text += f" (one of {', '.join(map(str, action.choices))})"
    return text or "see above"


class CommandLine(SphinxDirective):
    """One section for every command: its description as it stands in --help, and its options."""

    has_content: ClassVar[bool] = False

    def run(self) -> list[nodes.Node]:
        sections: list[nodes.Node] = []
        for name, parser in commands().items():
            section = nodes.section(ids=[f"wigner-jax-{name}"], names=[f"wigner-jax {name}"])
            section += nodes.title(text=f"wigner-jax {name}")
            usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
            section += nodes.literal_block(usage, usage, language="none", classes=["wrapped"])
            text = (parser.description or "").strip()
            section += nodes.literal_block(text, text, language="none", classes=["wrapped"])
            for group in parser._action_groups:
                actions = [a for a in group._group_actions if a.help is not argparse.SUPPRESS]
                if not actions:
                    continue
                section += nodes.rubric(text=group.title or "options")
                rows = nodes.definition_list()
                for action in actions:
                    head = nodes.term("", "", *term(action))
                    rows += nodes.definition_list_item(
                        "", head, nodes.definition("", nodes.paragraph(text=meaning(action)))
                    )
                section += rows
            sections.append(section)
        return sections


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "version": "1"}
