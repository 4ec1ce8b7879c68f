"""What the proxy wants of a rule set: the seam between the model and iptables or nftables."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from .model.portal import Family, Portal, PortalName


class LocalTraffic(enum.Enum):
    """How traffic of pods of this node is told from traffic of others (``detectLocalMode``)."""

    NONE = "None"
    CLUSTER_CIDR = "ClusterCIDR"
    NODE_CIDR = "NodeCIDR"
    BRIDGE_INTERFACE = "BridgeInterface"
    INTERFACE_NAME_PREFIX = "InterfaceNamePrefix"


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """A way to tell local traffic, and its argument: a CIDR, an interface, or a name's prefix."""

    kind: LocalTraffic = LocalTraffic.NONE
    argument: str = ""


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What is the same for all portals of a family.

    Attributes:
        family: whose rules.
        local: how local traffic is told.
        masquerade_all: source NAT for everything that goes through a cluster IP.
        masquerade_bit: of the packet mark (0 to 31).
        localhost_node_ports: node ports answer on 127.0.0.1 too, where that is one of their
            addresses; in iptables mode, for IPv4.
        node_port_addresses: CIDRs; node ports answer on the node's addresses in them; empty: on
            all. "primary" was turned into the node's addresses before.
        service_cidrs: networks of cluster IPs, where they are known; what goes to an address in
            them that is no Service's is dropped (nftables mode only).
        node_ip: the node's own address, "" if it is not known: where source ranges of a load
            balancer contain it, what comes from the load balancer's own address may pass too.
    """

    family: Family
    local: LocalDetector = LocalDetector()
    masquerade_all: bool = False
    masquerade_bit: int = 14
    localhost_node_ports: bool = True
    node_port_addresses: tuple[str, ...] = ()
    service_cidrs: tuple[str, ...] = ()
    node_ip: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be on the machine.

    Attributes:
        portals: all of the family.
        changed: names whose portal is new, other, or gone since the last sync that succeeded.
        full: make everything anew, whatever was believed to be there.
    """

    portals: Mapping[PortalName, Portal]
    changed: Set[PortalName]
    full: bool


@dataclass(frozen=True, slots=True)
class Synced:
    """What a sync did: numbers for metrics and the log; ``tables`` is rules in each table."""

    full: bool
    portals_written: int
    bytes_or_messages: int
    rules: Mapping[str, int] = field(default_factory=dict)


class SyncError(Exception):
    """Rules could not be written; the last good ones are in force; the message names the rule."""


class Backend(Protocol):
    """The rules of one family in one mode. Its methods block; one thread at a time calls them."""

    def sync(self, wanted: Wanted) -> Synced:
        """Make the machine's rules those of ``wanted``, in one transaction where that is possible.

        Raises:
            SyncError: it was refused or failed; the caller asks for a full sync next.
        """

    def plan(self, wanted: Wanted) -> str:
        """Return as text what a full `sync` would write, for ``--dry-run``; changes nothing."""

    def intact(self) -> bool:
        """Whether what the last sync wrote is still there, as far as can be told cheaply."""

    def watch(self, doubt: Callable[[str], None]) -> Callable[[], None] | None:
        """Start to call ``doubt(reason)`` (from any thread) when others change our rules.

        Returns a function that ends it, or None if the kernel tells nobody: then the caller asks
        `intact` now and then.
        """

    def cleanup(self) -> None:
        """Remove everything of ours from the machine, whoever of our versions made it.

        Raises:
            SyncError: something could not be removed; it says what.
        """

    def close(self) -> None:
        """Give back sockets and processes; rules stay."""
