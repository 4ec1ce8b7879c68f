"""Who is answered: loopback, networks that are named, and nodes and pods of the cluster.

Who asks the DNS Service from another node is seen here with an address of that node: pods' packets
to what is not a pod are translated there. Pods of this node, and those of clusters that do not
translate, are seen with their own. Both are in the Nodes: ``status.addresses``, ``spec.podCIDRs``.
A node writes its own addresses itself, so one that was taken over can have single addresses let in;
its network is written by the cluster alone.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from controlplane.engine.resources import Object
from kubeletpy_common import logs

_log = logging.getLogger(__name__)

ANYBODY: Final = "any"
CLUSTER: Final = "cluster"
LOOPBACK: Final = ("127.0.0.0/8", "::1/128")
_REMEMBERED: Final = 8192
"""Addresses whose verdict is remembered; then all are forgotten."""
_QUIET_SECONDS: Final = 60.0
"""Between two lines of the log about who is refused."""

Network = IPv4Network | IPv6Network


def read_source(text: str) -> str:
    """Return whom ``--allow-from`` names: ``any``, ``cluster``, or a network (pure).

    Raises:
        ValueError: it is none of them.
    """
    if text in (ANYBODY, CLUSTER):
        return text
    try:
        return str(ip_network(text))
    except ValueError as error:
        raise ValueError(
            f"{error}: give '{CLUSTER}', '{ANYBODY}', or a network such as 192.0.2.0/24"
        ) from None


def networks_of_node(node: Object) -> frozenset[Network]:
    """Return what a Node says of its addresses and its pods'; what is none of them is left out."""
    spec, status = node.get("spec") or {}, node.get("status") or {}
    texts = [*(spec.get("podCIDRs") or [spec.get("podCIDR") or ""])]
    for one in status.get("addresses") or ():
        # A network is no address: who writes one here wants more let in than a node.
        if "/" not in (address := one.get("address") or ""):
            texts.append(address)
    return frozenset(found for text in texts if (found := _network(text)) is not None)


def _network(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        # Names of hosts are addresses of a Node, too.
        return None


class Clients:
    """Those who are answered.

    Args:
        networks: that are always.
        anybody: all are.
    """

    def __init__(self, networks: Iterable[str] = (), *, anybody: bool = False) -> None:
        self._anybody = anybody
        self._count: Counter[Network] = Counter()
        # (IP version, bits that are not of the network): first bits of networks.
        self._by_length: dict[tuple[int, int], set[int]] = {}
        self._known: dict[str, bool] = {}
        self._refused = 0
        self._told = float("-inf")
        self.add(ip_network(text) for text in (*LOOPBACK, *networks))

    def add(self, networks: Iterable[Network]) -> None:
        """Answer these, too, until they are taken away as often as they were added."""
        for one in networks:
            self._count[one] += 1
            key, bits = _place(one)
            self._by_length.setdefault(key, set()).add(bits)
        self._known.clear()

    def remove(self, networks: Iterable[Network]) -> None:
        """Answer these no more."""
        for one in networks:
            self._count[one] -= 1
            if self._count[one] > 0:
                continue
            del self._count[one]
            key, bits = _place(one)
            self._by_length[key].discard(bits)
            if not self._by_length[key]:
                del self._by_length[key]
        self._known.clear()

    def allows(self, address: str) -> bool:
        """Tell whether an address is answered."""
        if self._anybody:
            return True
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[address] = self._find(address)
        if not known:
            self._tell(address)
        return known

    def _find(self, text: str) -> bool:
        # The kernel names a link beside an address that is good on it alone.
        address = ip_address(text.partition("%")[0])
        number = int(address)
        return any(
            number >> rest in bits
            for (version, rest), bits in self._by_length.items() if version == address.version
        )  # fmt: skip

    def _tell(self, address: str) -> None:
        self._refused += 1
        now = time.monotonic()
        if now - self._told < _QUIET_SECONDS:
            return
        self._told = now
        logs.event(
            _log, logging.WARNING, "queries are refused: they come from no node and no pod of the "
            "cluster; allow others with --allow-from", address=address, count=self._refused,
        )  # fmt: skip
        self._refused = 0


def _place(network: Network) -> tuple[tuple[int, int], int]:
    rest = network.max_prefixlen - network.prefixlen
    return (network.version, rest), int(network.network_address) >> rest


def follower(clients: Clients) -> Callable[[Object | None, Object | None], None]:
    """Return what takes changes of Nodes to ``clients``."""

    def changed(before: Object | None, now: Object | None) -> None:
        old = networks_of_node(before) if before is not None else frozenset()
        new = networks_of_node(now) if now is not None else frozenset()
        # Nodes change all the time, their addresses hardly ever.
        if old != new:
            clients.add(new - old)
            clients.remove(old - new)

    return changed


def trim_node(node: Object) -> None:
    """Leave of a Node what is asked of it."""
    meta, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    node["metadata"] = {
        name: meta[name] for name in ("name", "uid", "resourceVersion") if name in meta
    }
    node["spec"] = {name: spec[name] for name in ("podCIDR", "podCIDRs") if name in spec}
    node["status"] = {"addresses": status.get("addresses") or []}
