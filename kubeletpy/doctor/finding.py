"""What a look at the machine gives: one finding for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: what it is, in a few words; unique among the findings of one look, so that programs
            can ask for it.
        verdict: ``error``: what needs it does not work; ``warning``: a part is lost, or it works
            only for now.
        found: what was seen.
        needed_by: what needs it, such as ``runtime`` or ``pods``.
        remedy: what to do, as commands that can be copied where there are such; "" if nothing.
    """

    name: str
    verdict: Verdict
    found: str
    needed_by: str
    remedy: str = ""


def fine(name: str, found: str, needed_by: str) -> Finding:
    """Return a finding with which nothing is wrong."""
    return Finding(name, "ok", found, needed_by)


def warning(name: str, found: str, needed_by: str, remedy: str) -> Finding:
    """Return a finding by which a part is lost."""
    return Finding(name, "warning", found, needed_by, remedy)


def error(name: str, found: str, needed_by: str, remedy: str) -> Finding:
    """Return a finding that keeps what needs it from working."""
    return Finding(name, "error", found, needed_by, remedy)


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Return those that keep something from working."""
    return [finding for finding in findings if finding.verdict == "error"]


def warnings(findings: Iterable[Finding]) -> list[Finding]:
    """Return those by which a part is lost."""
    return [finding for finding in findings if finding.verdict == "warning"]
