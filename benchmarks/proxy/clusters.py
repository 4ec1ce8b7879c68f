"""Synthetic clusters: many Services of five endpoints; a few of them have endpoints that answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.support.proxylab.objects import LOCAL, PORT, REMOTE, Backend, Port, service, slices
from tests.support.proxylab.topology import service_address

Json = dict[str, Any]
ENDPOINTS: Final = 5
SAMPLES: Final = 20
"""Services whose endpoints are there, spread from the first to the last one."""
_FIRST_NUMBER: Final = 300  # of the cluster IPs: below are those of the lab
_PORT: Final = Port(80)


@dataclass(frozen=True)
class Cluster:
    """Services by number, from 0; each with one port and five endpoints, IPv4.

    Attributes:
        size: how many there are.
    """

    size: int

    @property
    def samples(self) -> list[int]:
        """Return the numbers of the Services that answer, the first and the last among them."""
        count = min(SAMPLES, self.size)
        return sorted({index * (self.size - 1) // max(1, count - 1) for index in range(count)})

    def objects(self) -> list[Json]:
        """Return all Services and slices."""
        answering = set(self.samples)
        made = []
        for number in range(self.size):
            made.append(self.service(number))
            if number in answering:
                made += self.slices(number, self.backends(number))
            else:
                made.append(_silent(number))
        return made

    def service(self, number: int) -> Json:
        """Return one Service."""
        return service(_name(number), [_PORT], number=_FIRST_NUMBER + number, families=(4,))

    def slices(self, number: int, backends: Sequence[Backend]) -> list[Json]:
        """Return the slice of a Service that answers."""
        return slices(_name(number), backends, [_PORT], families=(4,))

    def address(self, number: int) -> str:
        """Return the cluster IP of a Service."""
        return service_address(_FIRST_NUMBER + number, 4)

    def backends(self, number: int, shift: int = 0) -> list[Backend]:
        """Return the endpoints of a Service that answers; ``shift`` replaces as many of them."""
        local = [LOCAL[(number + at) % len(LOCAL)] for at in range(3)]
        remote = [REMOTE[(number + at + shift) % len(REMOTE)] for at in range(2)]
        return [*local, *remote]


def _name(number: int) -> str:
    return f"service-{number:05}"


def _silent(number: int) -> Json:
    """Return the slice of a Service whose endpoints are addresses and nothing more."""
    [made] = slices(_name(number), (), [_PORT], families=(4,))
    first = number * ENDPOINTS
    made["endpoints"] = [
        {
            "addresses": [f"10.{128 + (at >> 16)}.{at >> 8 & 255}.{at & 255}"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": "lab-neighbour",
        }
        for at in range(first, first + ENDPOINTS)
    ]
    return made


def answers(backends: Sequence[Backend]) -> set[str]:
    """Return what the endpoints say they are."""
    return {each.answers(4, PORT) for each in backends}
