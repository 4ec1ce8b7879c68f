"""From what there is to what is to be (pure), in the order that never leaves a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from .entries import Device, Entries, Hop, RouteKey

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class Difference:
    """What is to be done.

    Attributes:
        device: to be made or changed; None: it is as it is to be, or not to be.
        anew: the device has to be removed first: what differs cannot be changed.
        addresses, neighbours, forwarding, routes: to be made, or made otherwise.
        old_*: to be removed, after that.
        old_device: the device is to be removed.
    """

    device: Device | None = None
    anew: bool = False
    addresses: list[bytes] = field(default_factory=list)
    neighbours: dict[bytes, bytes] = field(default_factory=dict)
    forwarding: dict[bytes, bytes] = field(default_factory=dict)
    routes: dict[RouteKey, Hop] = field(default_factory=dict)
    old_routes: dict[RouteKey, Hop] = field(default_factory=dict)
    old_neighbours: list[bytes] = field(default_factory=list)
    old_forwarding: dict[bytes, bytes] = field(default_factory=dict)
    old_addresses: list[bytes] = field(default_factory=list)
    old_device: bool = False

    def __bool__(self) -> bool:
        return any(
            (
                self.device, self.addresses, self.neighbours, self.forwarding, self.routes,
                self.old_routes, self.old_neighbours, self.old_forwarding, self.old_addresses,
                self.old_device,
            )
        )  # fmt: skip

    def summary(self) -> dict[str, int]:
        """Return how much is done, for the log."""
        return {
            "routes": len(self.routes), "removed_routes": len(self.old_routes),
            "neighbours": len(self.neighbours), "forwarding": len(self.forwarding),
        }  # fmt: skip


def replaceable(old: Device, new: Device) -> bool:
    """Tell whether the kernel can change a device into another (drivers/net/vxlan: changelink)."""
    same = (old.vni, old.port, old.ipv6, bool(old.local)) == (
        new.vni, new.port, new.ipv6, bool(new.local),
    )  # fmt: skip
    # The remote nodes' entries have the old hardware address too: all is to be made anew.
    return same and old.mac == new.mac


def difference(wanted: Entries, there: Entries) -> Difference:
    """Return what leads from one to the other."""
    made = Difference()
    if wanted.device != there.device:
        made.device = wanted.device
        made.old_device = wanted.device is None
        made.anew = bool(
            wanted.device and there.device and not replaceable(there.device, wanted.device)
        )
    # With the device goes what is on it.
    gone = made.anew or made.old_device
    base = Entries(routes=there.routes) if gone else there
    made.addresses = sorted(wanted.addresses - base.addresses)
    made.old_addresses = sorted(base.addresses - wanted.addresses)
    made.neighbours = _new(wanted.neighbours, base.neighbours)
    made.old_neighbours = [each for each in base.neighbours if each not in wanted.neighbours]
    made.forwarding = _new(wanted.forwarding, base.forwarding)
    made.old_forwarding = _old(wanted.forwarding, base.forwarding)
    made.routes = {
        key: hop
        for key, hop in wanted.routes.items()
        if base.routes.get(key) != hop or (made.anew and hop.link == 0)
    }
    made.old_routes = _old(wanted.routes, base.routes)
    if gone:
        made.old_routes = {key: hop for key, hop in made.old_routes.items() if hop.link}
    return made


def _new(wanted: dict[K, V], there: dict[K, V]) -> dict[K, V]:
    return {key: value for key, value in wanted.items() if there.get(key) != value}


def _old(wanted: dict[K, V], there: dict[K, V]) -> dict[K, V]:
    return {key: value for key, value in there.items() if key not in wanted}
