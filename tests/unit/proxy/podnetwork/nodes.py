"""Nodes and a kernel's facts for tests."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from proxy.podnetwork.entries import Facts, Foreign, Link, Local
from proxy.podnetwork.objects import Announcement, Member
from proxy.podnetwork.settings import Mode, Settings

CLUSTER = ("10.244.0.0/16", "fd44::/32")
UPLINK, BRIDGE = 2, 5


def settings(mode: Mode = Mode.AUTO, **fields: object) -> Settings:
    """Return settings of a dual-stack cluster."""
    return Settings(tuple(ip_network(each) for each in CLUSTER), mode, **fields)  # type: ignore[arg-type]


def member(
    number: int,
    *,
    addresses: tuple[str, ...] | None = None,
    cidrs: tuple[str, ...] | None = None,
    born: str = "",
    announced: Announcement | None = None,
    problems: tuple[str, ...] = (),
) -> Member:
    """Return node ``n<number>`` on this node's network."""
    if addresses is None:
        addresses = (f"192.168.77.{number}", f"fd77::{number:x}")
    if cidrs is None:
        cidrs = (f"10.244.{number}.0/24", f"fd44:0:{number:x}::/64")
    return Member(
        f"n{number}", f"uid-{number}", born or f"2026-01-{number % 28 + 1:02}",
        tuple(ip_network(each) for each in cidrs), tuple(ip_address(each) for each in addresses),
        announced, problems,
    )  # fmt: skip


def facts(*routes: Foreign, mtu: int = 1500, number: int = 1) -> Facts:
    """Return a node with an uplink in both families, and a bridge of pods."""
    return Facts(
        {UPLINK: Link("eth0", mtu, True), BRIDGE: Link("kubeletpy0", 1450, True)},
        (
            Local(ip_address(f"192.168.77.{number}"), UPLINK),
            Local(ip_address(f"fd77::{number:x}"), UPLINK),
            Local(ip_address(f"10.244.{number}.1"), BRIDGE),
        ),
        (
            foreign("192.168.77.0/24"), foreign("fd77::/64"),
            foreign("0.0.0.0/0", direct=False), foreign("::/0", direct=False),
            foreign(f"10.244.{number}.0/24", link=BRIDGE), *routes,
        ),
    )  # fmt: skip


def foreign(network: str, *, direct: bool = True, link: int = UPLINK, protocol: int = 2) -> Foreign:
    """Return a route that is not ours."""
    return Foreign(ip_network(network), direct, link, protocol)
