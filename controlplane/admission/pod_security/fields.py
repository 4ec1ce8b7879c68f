"""Fields of pods, and the words in which checks tell of them (pure)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from controlplane.api.resource import Object


def containers(spec: Object) -> list[Object]:
    """Return all containers of a pod, the first ones first."""
    keys = ("initContainers", "containers", "ephemeralContainers")
    return [container for key in keys for container in spec.get(key, [])]


def context_of(holder: Object) -> Object:
    """Return the security context of a pod's spec or of a container."""
    found: Object = holder.get("securityContext") or {}
    return found


def setters(
    spec: Object, bad: Callable[[Object], bool], value: Callable[[Object], Any] = lambda _: ""
) -> tuple[list[str], set[str]]:
    """Return who sets something bad, in words, and which values.

    Args:
        spec: of the pod.
        bad: says whether a security context is bad.
        value: returns what it sets.
    """
    who: list[str] = []
    values: set[str] = set()
    if bad(context_of(spec)):
        who.append("pod")
        values.add(value(context_of(spec)))
    found = [c for c in containers(spec) if bad(context_of(c))]
    if found:
        who.append(named([c["name"] for c in found]))
        values.update(value(context_of(c)) for c in found)
    return who, values


def joined(words: Sequence[str]) -> str:
    """Return words in quotes."""
    return ", ".join(f'"{word}"' for word in words)


def plural(word: str, count: int) -> str:
    """Return a word for one or for several."""
    return word if count == 1 else f"{word}s"


def named(names: Sequence[str], word: str = "container") -> str:
    """Return things with their names."""
    return f"{plural(word, len(names))} {joined(names)}"


def refused(reason: str, detail: str) -> str:
    """Return a reason with what in the pod it is."""
    return f"{reason} ({detail})" if detail else reason
