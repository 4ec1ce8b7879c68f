"""The VXLAN device: made, changed and read by pyroute2's forms."""

from __future__ import annotations

import errno
import socket
from ipaddress import ip_address
from typing import Any, Final

from kubeletpy_common import netlink
from kubeletpy_common.netlink import CHANGE, CREATE, Netlink, Request, nested

from .entries import Device

_UP: Final = 1
_NODAD: Final = 0x02


def make(name: str, device: Device) -> Request:
    """Make the device, down; it learns nothing: what it knows, it is told."""
    data: list[tuple[str, Any]] = [
        ("IFLA_VXLAN_ID", device.vni),
        ("IFLA_VXLAN_LEARNING", 0),
        ("IFLA_VXLAN_PORT", device.port),
    ]
    if device.local:
        data.append((_local(device), str(ip_address(device.local))))
    elif device.ipv6:
        # Which version carries packets is told by an address; this one is nobody's.
        data.append(("IFLA_VXLAN_LOCAL6", "::"))
    return Request(
        f"making device {name} (VXLAN {device.vni}, port {device.port})",
        netlink.RTM_NEWLINK,
        CREATE,
        attributes=[
            ("IFLA_IFNAME", name),
            ("IFLA_MTU", device.mtu),
            ("IFLA_ADDRESS", device.mac.hex(":")),
            (
                "IFLA_LINKINFO",
                nested(("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", nested(*data))),
            ),
        ],
    )


def _local(device: Device) -> str:
    return "IFLA_VXLAN_LOCAL6" if device.ipv6 else "IFLA_VXLAN_LOCAL"


def change(name: str, index: int, device: Device) -> list[Request]:
    """Change what can be changed of a device that is there: MTU, own address, being up."""
    made = [
        Request(
            f"setting device {name} up with MTU {device.mtu}",
            netlink.RTM_NEWLINK,
            CHANGE,
            header={"index": index, "flags": _UP, "change": _UP},
            attributes=[("IFLA_MTU", device.mtu)],
        )
    ]
    if device.local:
        local = (_local(device), str(ip_address(device.local)))
        made.append(
            Request(
                f"setting the address {local[1]} of device {name}",
                netlink.RTM_NEWLINK,
                CHANGE,
                header={"index": index},
                attributes=[
                    (
                        "IFLA_LINKINFO",
                        nested(("IFLA_INFO_KIND", "vxlan"), ("IFLA_INFO_DATA", nested(local))),
                    )
                ],
            )
        )
    return made


def remove(name: str) -> Request:
    """Remove the device, and with it what is on it; that it is gone is fine."""
    return Request(
        f"removing device {name}",
        netlink.RTM_DELLINK,
        CHANGE,
        attributes=[("IFLA_IFNAME", name)],
        tolerated=(errno.ENODEV,),
    )


def address(index: int, value: bytes, *, there: bool) -> Request:
    """Give the device an address with all bits, or take it away."""
    text = str(ip_address(value))
    ipv6 = len(value) == 16
    attributes: list[tuple[str, Any]] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    if ipv6 and there:
        attributes.append(("IFA_FLAGS", _NODAD))
    return Request(
        f"{'adding' if there else 'removing'} address {text}",
        netlink.RTM_NEWADDR if there else netlink.RTM_DELADDR,
        CREATE if there else CHANGE,
        header={
            "family": socket.AF_INET6 if ipv6 else socket.AF_INET,
            "prefixlen": 8 * len(value),
            "index": index,
        },
        attributes=attributes,
        tolerated=(errno.EEXIST,) if there else (errno.EADDRNOTAVAIL,),
    )


def read(kernel: Netlink, name: str, index: int) -> Device | None:
    """Return a device; None if it is no VXLAN that is up, so that it has to be made anew.

    Raises:
        OSError: the kernel refused.
    """
    request = Request(
        f"looking up device {name}", netlink.RTM_GETLINK, netlink.GET, header={"index": index},
        tolerated=(errno.ENODEV,),
    )  # fmt: skip
    [replies] = kernel.exchange(request)
    if not replies or replies[0].text("IFLA_LINKINFO", "IFLA_INFO_KIND") != "vxlan":
        return None
    reply = replies[0]
    data = ("IFLA_LINKINFO", "IFLA_INFO_DATA")
    local6 = reply.text(*data, "IFLA_VXLAN_LOCAL6")
    local = reply.text(*data, "IFLA_VXLAN_LOCAL") or local6
    raw = ip_address(local).packed if local else b""
    mac = reply.text("IFLA_ADDRESS") or ""
    return Device(
        vni=reply.number(*data, "IFLA_VXLAN_ID") or 0,
        port=reply.number(*data, "IFLA_VXLAN_PORT") or 0,
        local=b"" if not any(raw) else raw,
        mac=bytes.fromhex(mac.replace(":", "")),
        # One that is down is to be set up: no device that is wanted has this MTU.
        mtu=(reply.number("IFLA_MTU") or 0) if reply.header("flags") & _UP else 0,
        ipv6=local6 is not None,
    )
