"""Answers as a table, JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
import yaml
from google.protobuf import json_format
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

_Function = TypeVar("_Function", bound=Callable[..., Any])

_WIDE = 1000


def output_option(*formats: str) -> Callable[[_Function], _Function]:
    """Give a command ``-o``; the first of ``formats`` is its default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="How to show the answer.",
    )


def plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON has it, defaults included (as ``crictl`` prints it)."""
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)


def show(value: object, output: str) -> None:
    """Print a structure as JSON or YAML."""
    if output == "yaml":
        click.echo(yaml.safe_dump(value, sort_keys=False, allow_unicode=True), nl=False)
    else:
        click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; away from a terminal no cell is cut, so that programs can read it."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDE)
    shown = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        shown.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        # Names come from others: no markup, and nothing that steers the terminal.
        shown.add_row(*(Text(printable(cell)) for cell in row))
    console.print(shown)


def printable(text: str) -> str:
    """Return ``text`` with control characters replaced, which could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
