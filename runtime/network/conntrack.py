"""Forgets UDP flows that a port mapping made wrong.

Netfilter asks the rules for the first packet of a flow only. A TCP connection ends when its pod
does; a UDP client that goes on sending keeps its flow alive, and would go on reaching the address
of a pod that is gone, or the node itself where a pod has come.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any, Final

from kubeletpy_common.lean import without_init
from kubeletpy_common.netlink import Netlink
from runtime.network import links
from runtime.network.port_rules import Forward

_GONE: Final = (errno.ENOENT,)
_IP: Final = {socket.AF_INET: "CTA_IP_V4", socket.AF_INET6: "CTA_IP_V6"}


def forget_flows(forwards: Iterable[Forward], *, arrived: bool) -> int:
    """Drop the flows to host ports that lead elsewhere by now; blocks, for a worker thread.

    Args:
        forwards: the host ports; those of other protocols than UDP are left out.
        arrived: the pods have come, so flows to the node itself are dropped. Otherwise they
            have gone, and flows to them are.

    Returns:
        How many flows were dropped.

    Raises:
        OSError: the kernel refused.
    """
    udp = [forward for forward in forwards if forward.protocol == "udp"]
    if not udp:
        return 0
    local = _local_addresses() if arrived else frozenset()
    dropped = 0
    for family in sorted({forward.family for forward in udp}):
        dropped += _forget(family, [f for f in udp if f.family == family], local)
    return dropped


def _forget(family: int, forwards: list[Forward], local: frozenset[str]) -> int:
    # The import takes longer than the work, and most nodes never need it.
    with without_init("pyroute2"):
        from pyroute2.netlink.exceptions import NetlinkError
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket

    dropped = 0
    tracker = NFCTSocket(nfgen_family=family)
    try:
        for forward in forwards:
            # The kernel filters (5.8), or else answers with everything.
            asked = NFCTAttrTuple(family=family, proto=socket.IPPROTO_UDP, dport=forward.host_port)
            for flow in list(tracker.dump(tuple_orig=asked)):
                if not _is_stale(flow, forward, local):
                    continue
                original = NFCTAttrTuple.from_netlink(family, flow.get_attr("CTA_TUPLE_ORIG"))
                try:
                    tracker.entry("del", tuple_orig=original)
                    dropped += 1
                except NetlinkError as error:
                    if error.code not in _GONE:
                        raise OSError(
                            error.code, f"forgetting UDP flow {original}: {error}"
                        ) from error
    finally:
        tracker.close()
    return dropped


def _is_stale(flow: Any, forward: Forward, local: frozenset[str]) -> bool:
    """Tell whether ``flow`` (decoded by pyroute2) is one to drop.

    A flow that was sent on to a pod is answered from the pod's address; one that was not, from
    the address it was sent to.
    """
    prefix = _IP[socket.AddressFamily(forward.family)]

    def end(direction: str, which: str) -> str | None:
        value = flow.get_nested(direction, "CTA_TUPLE_IP", f"{prefix}_{which}")
        return None if value is None else str(value)

    proto = ("CTA_TUPLE_ORIG", "CTA_TUPLE_PROTO")
    if flow.get_nested(*proto, "CTA_PROTO_NUM") != socket.IPPROTO_UDP:
        return False
    if flow.get_nested(*proto, "CTA_PROTO_DST_PORT") != forward.host_port:
        return False
    asked, answered = end("CTA_TUPLE_ORIG", "DST"), end("CTA_TUPLE_REPLY", "SRC")
    if not local:
        return answered == forward.pod_ip
    return asked == answered and asked in local and forward.host_ip in ("", asked)


def _local_addresses() -> frozenset[str]:
    with Netlink() as host:
        replies = host.dump(links.get_addresses())
    found = (r.text("IFA_LOCAL") or r.text("IFA_ADDRESS") for r in replies)
    return frozenset(address for address in found if address)
