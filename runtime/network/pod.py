"""Puts one pod on the bridge: all that the kernel is asked for, in one go of a worker thread."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy_common import netlink
from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_common.netlink import Netlink
from runtime.network import links, settings
from runtime.network.allocator import Address, Interface

_GONE: Final = (errno.ENODEV,)


@dataclass(frozen=True)
class Plan:
    """What a pod is to be given.

    Attributes:
        sandbox_id: the owner, written on the host's end of the link.
        netns: where its network namespace is pinned.
        host_interface: name of the host's end of the link.
        bridge: index of the bridge.
        mac: hardware address of the pod's end.
        mtu: bytes.
        addresses: with their gateways, IPv4 first.
    """

    sandbox_id: str
    netns: Path
    host_interface: str
    bridge: int
    mac: str
    mtu: int
    addresses: Sequence[tuple[Interface, Address]]


def connect(plan: Plan) -> list[tuple[Interface, Address]]:
    """Make the links, set both ends and the pod's loopback up, give addresses and routes.

    Returns:
        The addresses given: those of ``plan``, without IPv6 if the pod has that switched off
        (net.ipv6.conf.default.disable_ipv6).

    Raises:
        OSError: a step failed; the link is gone again, or the error's notes say why not.
    """
    with ExitStack() as held:
        descriptor = os.open(plan.netns, os.O_RDONLY | os.O_CLOEXEC)
        held.callback(os.close, descriptor)
        pod_socket, ipv6 = _enter(descriptor)
        pod = held.enter_context(Netlink(pod_socket))
        host = held.enter_context(Netlink())
        given = [pair for pair in plan.addresses if ipv6 or pair[0].version == 4]
        try:
            host.exchange(
                links.add_veth(plan.host_interface, plan.bridge, plan.mtu, plan.mac, descriptor),
                links.set_port(plan.host_interface, plan.sandbox_id),
            )
            [[eth0], _] = pod.exchange(
                links.get_link(links.POD_INTERFACE),
                links.set_up(links.LOOPBACK_INDEX, "setting the pod's loopback up"),
            )
            index = eth0.link_index
            pod.exchange(
                links.set_up(index, f"setting {links.POD_INTERFACE} of the pod up"),
                *(links.add_address(index, address) for address, _ in given),
                *(links.add_default_route(index, gateway) for _, gateway in given),
            )
        except BaseException as error:
            try:
                host.exchange(links.delete_link(plan.host_interface, tolerated=_GONE))
            except OSError as second:
                error.add_note(f"undoing it failed too: {second}")
            raise
    return given


def set_loopback_up(netns: Path) -> None:
    """Set the loopback of a network namespace up, and nothing else.

    Raises:
        OSError: there is no such namespace, or the kernel refused.
    """
    with in_namespace(netns):
        inside = netlink.open_socket()
    with Netlink(inside) as pod:
        pod.exchange(links.set_up(links.LOOPBACK_INDEX, "setting the pod's loopback up"))


def _enter(descriptor: int) -> tuple[socket.socket, bool]:
    """Open a socket in the pod's namespace, and make that deaf to router advertisements.

    Another pod on the bridge could otherwise become its router (CVE-2020-10749). The link that
    is made later inherits the default.

    Returns:
        The socket, and whether the pod can have IPv6.
    """
    with in_namespace(f"/proc/self/fd/{descriptor}"):
        ipv6 = settings.read("ipv6/conf/default/disable_ipv6") == "0"
        if ipv6:
            settings.write(settings.accept_ra("default"), "0")
        return netlink.open_socket(), ipv6
