"""What is wrong with objects, told once for each object and not again until it changes."""

from __future__ import annotations

import logging
from typing import Any

from kubeletpy_common import logs

_log = logging.getLogger(__name__)
_MOST = 10_000
"""Objects whose complaints are remembered; beyond that, old ones may be told again."""


class Complaints:
    """Remembers what was told of which object."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, Any], tuple[str, ...]] = {}

    def tell(self, kind: str, key: Any, problems: tuple[str, ...]) -> bool:
        """Log what is wrong with an object, unless exactly that was told before.

        Returns:
            Whether it was logged now.
        """
        if not problems:
            self.forget(kind, key)
            return False
        if self._told.get((kind, key)) == problems:
            return False
        if len(self._told) >= _MOST:
            self._told.clear()
        self._told[kind, key] = problems
        name = "/".join(key) if type(key) is tuple else str(key)
        for problem in problems:
            logs.event(
                _log, logging.WARNING, f"part of a {kind} is left out", object=name, problem=problem
            )
        return True

    def forget(self, kind: str, key: Any) -> None:
        """Forget an object that is gone, or fine."""
        if self._told:
            self._told.pop((kind, key), None)

    def __len__(self) -> int:
        return len(self._told)
