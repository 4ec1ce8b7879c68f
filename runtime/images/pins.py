"""Pinned images: those that a node must never lose to a cleaning, by names in its settings."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable

from runtime.images import reference as references
from runtime.images.errors import InvalidReference


class Pins:
    """Patterns of image names."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Read ``patterns``.

        Args:
            patterns: image names as people write them (``busybox`` is
                ``docker.io/library/busybox:latest``); or, with a ``*`` for any characters, what the
                whole normalised name must look like (``registry.k8s.io/pause:*``).

        Raises:
            InvalidReference: one without ``*`` is no image name.
        """
        self._names: set[str] = set()
        self._patterns: list[re.Pattern[str]] = []
        for pattern in patterns:
            if "*" in pattern:
                # Brackets and question marks have no meaning in names.
                safe = re.sub(r"([\[?])", r"[\1]", pattern)
                self._patterns.append(re.compile(fnmatch.translate(safe)))
            else:
                parsed = references.parse(pattern)
                self._names.add(parsed.tagged or parsed.with_digest(parsed.api_reference))

    def hold(self, names: Iterable[str]) -> bool:
        """Tell whether an image of these normalised names is pinned."""
        return any(
            name in self._names or any(pattern.match(name) for pattern in self._patterns)
            for name in names
        )


def check(patterns: Iterable[str]) -> str | None:
    """Return what is wrong with ``patterns``; None if nothing is."""
    try:
        Pins(patterns)
    except InvalidReference as error:
        return str(error)
    return None
