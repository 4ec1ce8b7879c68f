"""Reads and clears a host's tracked connections, by netlink."""

from __future__ import annotations

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from kubeletpy_common.linux.namespaces import in_namespace

from .topology import Namespace

Result = TypeVar("Result")
_PROTOCOLS = {6: "TCP", 17: "UDP", 132: "SCTP"}


@dataclass(frozen=True)
class Flow:
    """One tracked connection.

    Attributes:
        number: the kernel's, another for each connection.
        protocol: TCP, UDP or SCTP.
        source, destination: as its first packet had them, ``address:port``.
        answers: who answers, ``address:port``: the endpoint.
    """

    number: int
    protocol: str
    source: str
    destination: str
    answers: str


def flows(host: Namespace) -> set[Flow]:
    """Return all flows of a host, in both families."""
    read = _each_family(host, lambda netlink: [_flow(entry) for entry in netlink.dump()])
    return {flow for found in read for flow in found}


def forget(host: Namespace) -> None:
    """Remove all flows of a host."""
    _each_family(host, lambda netlink: netlink.flush())


def _each_family(host: Namespace, function: Callable[[Any], Result]) -> list[Result]:
    def call() -> list[Result]:
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

        results = []
        for family in (socket.AF_INET, socket.AF_INET6):
            with in_namespace(host.path), NFCTSocket(nfgen_family=family) as netlink:
                results.append(function(netlink))
        return results

    # pyroute2's calls run an event loop of their own; a new thread has none yet.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def _flow(entry: Any) -> Flow:
    origin, reply = entry.get_attr("CTA_TUPLE_ORIG"), entry.get_attr("CTA_TUPLE_REPLY")
    protocol = origin.get_attr("CTA_TUPLE_PROTO").get_attr("CTA_PROTO_NUM")
    return Flow(
        entry.get_attr("CTA_ID"),
        _PROTOCOLS.get(protocol, str(protocol)),
        _end(origin, "SRC"),
        _end(origin, "DST"),
        _end(reply, "SRC"),
    )


def _end(side: Any, which: str) -> str:
    addresses, ports = side.get_attr("CTA_TUPLE_IP"), side.get_attr("CTA_TUPLE_PROTO")
    address = addresses.get_attr(f"CTA_IP_V4_{which}") or addresses.get_attr(f"CTA_IP_V6_{which}")
    return f"{address}:{ports.get_attr(f'CTA_PROTO_{which}_PORT')}"
