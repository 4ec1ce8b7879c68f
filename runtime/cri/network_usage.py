"""What pods have received and sent, without a process and without entering their namespaces.

A veth counts on both ends: what the host's end sends is what the pod's end receives (kernel:
drivers/net/veth.c). One dump of the daemon's own links thus serves all pods of the bridge network.
Of a pod that is attached otherwise, ``/proc/<pid>/net/dev`` of one of its containers tells.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy_common import netlink
from kubeletpy_common.netlink import DUMP, Netlink, Request
from runtime.network.links import POD_INTERFACE, host_link_name

# A container with CAP_NET_ADMIN may make links by the thousand.
_MAX_INTERFACES: Final = 32
_MAX_BYTES: Final = 64 << 10
# proc(5): the columns of receive and transmit.
_COLUMNS: Final = 16


@dataclass(frozen=True)
class InterfaceUsage:
    """Counters of an interface as the pod sees it."""

    name: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


@dataclass(frozen=True)
class Networked:
    """A pod with a network of its own.

    Attributes:
        sandbox_id: its id.
        namespace: where its network namespace is pinned.
        pid: of a process in it, 0 if there is none.
    """

    sandbox_id: str
    namespace: str
    pid: int


def network_usage(bridge: str, pods: Iterable[Networked]) -> dict[str, list[InterfaceUsage]]:
    """Return the interfaces of each pod but loopback, the default one first; blocks shortly.

    Args:
        bridge: name of the pods' bridge.
        pods: of which pods.

    Raises:
        OSError: the kernel refused to list the links.
    """
    wanted = list(pods)
    if not wanted:
        return {}
    request = Request("listing links with counters", netlink.RTM_GETLINK, DUMP)
    with Netlink() as host:
        replies = host.dump(request)
    counters = {reply.text("IFLA_IFNAME") or "": reply for reply in replies}
    found: dict[str, list[InterfaceUsage]] = {}
    for pod in wanted:
        reply = counters.get(host_link_name(bridge, pod.sandbox_id))
        if reply is not None:
            found[pod.sandbox_id] = [mirrored(reply.fields("IFLA_STATS64"))]
        elif pod.pid and (seen := _through_process(pod)):
            found[pod.sandbox_id] = seen
    return found


def mirrored(host: Mapping[str, int]) -> InterfaceUsage:
    """Return the counters of the pod's end from those of the host's (pure)."""
    return InterfaceUsage(
        name=POD_INTERFACE,
        rx_bytes=host.get("tx_bytes", 0),
        rx_packets=host.get("tx_packets", 0),
        rx_errors=host.get("tx_errors", 0),
        rx_dropped=host.get("tx_dropped", 0),
        tx_bytes=host.get("rx_bytes", 0),
        tx_packets=host.get("rx_packets", 0),
        tx_errors=host.get("rx_errors", 0),
        tx_dropped=host.get("rx_dropped", 0),
    )


def _through_process(pod: Networked) -> list[InterfaceUsage]:
    try:
        # The pid may be another process's by now: its namespace tells.
        if not os.path.samestat(os.stat(f"/proc/{pod.pid}/ns/net"), os.stat(pod.namespace)):
            return []
        with open(Path(f"/proc/{pod.pid}/net/dev"), encoding="utf-8", errors="replace") as file:
            return parse_net_dev(file.read(_MAX_BYTES))
    except OSError:
        return []


def parse_net_dev(text: str) -> list[InterfaceUsage]:
    """Parse ``/proc/net/dev`` (pure): the pod's interface first, no loopback, a bounded number."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.rpartition(":")
        words = rest.split()
        if name.strip() in ("", "lo") or len(words) != _COLUMNS:
            continue
        rx, tx = [int(word) for word in words[:4]], [int(word) for word in words[8:12]]
        found.append(
            InterfaceUsage(name.strip(), rx[0], rx[1], rx[2], rx[3], tx[0], tx[1], tx[2], tx[3])
        )
    found.sort(key=lambda interface: interface.name != POD_INTERFACE)
    return found[:_MAX_INTERFACES]
