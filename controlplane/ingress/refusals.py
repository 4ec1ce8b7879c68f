"""Which Ingresses nginx refuses, so that one of them keeps no other from being served.

What comes from users is checked before; this is for what nginx, or the TLS library that it uses,
finds wrong beyond that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from controlplane.engine.resources import key_of

from .backends import World
from .merging import age, merged
from .model import Problem, Site

Ingress = Mapping[str, Any]
MOST_TRIALS: Final = 64
"""Configurations that are tried to find the refused ones: each takes some tens of milliseconds."""


@dataclass
class Refusals:
    """What was refused; an Ingress is tried again when what it gives is another.

    Attributes:
        refusal: returns what nginx has against a site, "" if nothing.
    """

    refusal: Callable[[Site], Awaitable[str]]
    _known: dict[str, tuple[Site, str]] = field(default_factory=dict)

    def without(self, ingresses: Sequence[Ingress], world: World) -> list[Ingress]:
        """Return those that were not refused as they are now."""
        found = {key_of(dict(one)): one for one in ingresses}
        for key, (site, _) in tuple(self._known.items()):
            if key not in found or merged([found[key]], world)[0] != site:
                del self._known[key]
        return [one for key, one in found.items() if key not in self._known]

    def problems(self) -> list[Problem]:
        """Return what there is to tell."""
        return [Problem(key, "Rejected", text) for key, (_, text) in sorted(self._known.items())]

    async def find(self, ingresses: Sequence[Ingress], world: World) -> None:
        """Find those that are refused: halves are tried, the older ones first."""
        await self._find([], sorted(ingresses, key=age), world, [MOST_TRIALS])

    async def _find(
        self, taken: list[Ingress], left: Sequence[Ingress], world: World, trials: list[int]
    ) -> None:
        if not left:
            return
        trials[0] -= 1
        text = "too many are refused; it was not tried"
        if trials[0] >= 0:
            text = await self.refusal(merged([*taken, *left], world)[0])
            if not text:
                taken += left
                return
        if len(left) == 1 or trials[0] < 0:
            for one in left:
                self._known[key_of(dict(one))] = (merged([one], world)[0], text)
            return
        half = len(left) // 2
        await self._find(taken, left[:half], world, trials)
        await self._find(taken, left[half:], world, trials)
