"""What a package has beside the program: manual page, completion, changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

_MANUAL: Final = "usr/share/man/man8/kubeletpy.8.gz"
_COMPLETION: Final = "usr/share/bash-completion/completions/kubeletpy"
_CHANGES: Final = "usr/share/doc/kubeletpy/changelog.gz"


def documents(checkout: Path) -> dict[str, str]:
    """Return the files, by their path on the machine."""
    from kubeletpy.cli import main

    return {
        _MANUAL: manual(main),
        _COMPLETION: completion(main),
        _CHANGES: (checkout / "CHANGELOG.md").read_text(),
    }


def completion(command: click.Command) -> str:
    """Return the script that completes for bash."""
    kind = get_completion_class("bash")
    assert kind is not None, "click completes for bash"
    return kind(command, {}, "kubeletpy", "_KUBELETPY_COMPLETE").source() + "\n"


def manual(command: click.Group) -> str:
    """Return the manual page, in the language of man(7), made of what ``--help`` says."""
    context = click.Context(command, info_name="kubeletpy")
    lines = [
        ".TH KUBELETPY 8",
        ".SH NAME",
        "kubeletpy \\- Kubernetes node: kubelet, container runtime and service proxy",
        ".SH SYNOPSIS",
        ".B kubeletpy",
        "COMMAND [OPTION ...]",
        ".SH DESCRIPTION",
        *_paragraphs(command.help or ""),
        ".SH COMMANDS",
        "Each has its own \\-\\-help.",
    ]
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        if found is not None and not found.hidden:
            lines += [".TP", f".B {_escaped(name)}", _escaped(found.get_short_help_str(200))]
    return "\n".join(lines) + "\n"


def _paragraphs(text: str) -> list[str]:
    lines: list[str] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        # What click is told to leave as it is stands after a backspace.
        as_it_is = block.lstrip().startswith("\b")
        rows = [_escaped(row.strip()) for row in block.replace("\b", "").strip().splitlines()]
        lines += [".PP", *([".nf", *rows, ".fi"] if as_it_is else rows)]
    return lines


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
