"""The places that may have an image, tried one after the other."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from kubeletpy_common.logs import event
from runtime.images.errors import (
    ImageError,
    NoSpace,
    RegistryRefused,
    StoreError,
)
from runtime.images.registry import Repository

log = logging.getLogger(__name__)

T = TypeVar("T")

_OURS = (NoSpace, StoreError)
"""Failures of this node, which no other place could mend."""


class Places:
    """The repositories for one pull: mirrors in order, the registry itself last.

    A place that failed once, or had not what it was asked for, comes after all others from then on.
    """

    def __init__(self, repositories: Sequence[Repository], image: str) -> None:
        """Prepare; ``image`` is named in the log and in errors."""
        self._all = tuple(repositories)
        self._image = image
        self._failed: set[Repository] = set()

    def _ordered(self, places: Sequence[Repository]) -> list[Repository]:
        return sorted(places, key=lambda place: place in self._failed)

    @property
    def pulling(self) -> list[Repository]:
        """Those to be asked for content by its digest, in order."""
        return self._ordered([place for place in self._all if place.endpoint.pull])

    @property
    def resolving(self) -> list[Repository]:
        """Those to be asked what a tag stands for, in order."""
        return self._ordered([place for place in self._all if place.endpoint.resolve])

    def others_first(self, place: Repository) -> bool:
        """Tell whether content should be asked for elsewhere before it is at ``place``.

        That is so where ``place`` may only resolve, or where a mirror before it may only pull.
        """
        earlier = self._all[: self._all.index(place)]
        return not place.endpoint.pull or any(
            mirror.endpoint.pull and not mirror.endpoint.resolve and mirror not in self._failed
            for mirror in earlier
        )

    async def first(
        self, places: Sequence[Repository], ask: Callable[[Repository], Awaitable[T]], what: str
    ) -> T:
        """Return what the first of ``places`` answers that does not fail.

        Args:
            places: in order.
            ask: done at each of them.
            what: is asked for; named in the log and in errors.

        Raises:
            ImageError: that of the last place, with those of the others in its text.
        """
        failures: list[tuple[Repository, ImageError]] = []
        for place in places:
            try:
                return await ask(place)
            except ImageError as error:
                if isinstance(error, _OURS):
                    raise
                failures.append((place, error))
                self._failed.add(place)
            if len(failures) < len(places):
                event(log, logging.WARNING, "mirror failed, asking the next", image=self._image,
                      what=what, mirror=place.endpoint.root, why=str(failures[-1][1]))  # fmt: skip
        raise self._failure(failures, what)

    def _failure(self, failures: list[tuple[Repository, ImageError]], what: str) -> ImageError:
        if not failures:
            return RegistryRefused(
                f"{what} of {self._image}: no host in the registry's hosts.toml has the capability "
                "for it; add pull or resolve to the capabilities of one"
            )
        # The word of the registry itself counts, even where it was asked before a mirror.
        failures.sort(key=lambda failure: self._all.index(failure[0]))
        last = failures[-1][1]
        if len(failures) == 1:
            return last
        others = "; ".join(f"{place.endpoint.host}: {error}" for place, error in failures[:-1])
        return type(last)(f"{last} (mirrors failed before: {others})")
