"""Subsets of Endpoints in one form, so that they can be compared (pure).

Source: Kubernetes 1.36, ``RepackSubsets``: each set of addresses once, with all ports that it has.
The order is by text here, not by hash.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Address = dict[str, Any]
Port = dict[str, Any]
Subset = dict[str, Any]
_PortKey = tuple[str, str, int, str]
_AddressKey = tuple[str, str]
_NO_PORT: _PortKey = ("", "", -1, "")


def address_key(address: Address) -> _AddressKey:
    """Return what tells an address from another: two pods may have the same one."""
    return str(address["ip"]), str((address.get("targetRef") or {}).get("uid") or "")


def port_key(port: Port) -> _PortKey:
    """Return what tells a port from another."""
    return (
        port.get("name") or "", port.get("protocol") or "TCP", int(port["port"]),
        port.get("appProtocol") or "",
    )  # fmt: skip


def repack(subsets: Iterable[Subset]) -> list[Subset]:
    """Return the subsets in their usual form.

    An address that is both ready and not ready at one port is not ready.
    """
    addresses: dict[_AddressKey, Address] = {}
    ports: dict[_PortKey, Port | None] = {}
    ready: dict[_PortKey, dict[_AddressKey, bool]] = {}
    for subset in subsets:
        states = [(one, True) for one in subset.get("addresses") or ()]
        states += [(one, False) for one in subset.get("notReadyAddresses") or ()]
        for port in subset.get("ports") or (None,):
            number = _NO_PORT if port is None else port_key(port)
            ports.setdefault(number, port)
            group = ready.setdefault(number, {})
            for address, is_ready in states:
                key = address_key(address)
                addresses.setdefault(key, address)
                group[key] = is_ready and group.get(key, True)
    joined: dict[tuple[tuple[_AddressKey, bool], ...], list[_PortKey]] = {}
    for number, group in ready.items():
        if group:
            joined.setdefault(tuple(sorted(group.items())), []).append(number)
    made = [
        (sorted(numbers), _subset(states, addresses, [ports[one] for one in sorted(numbers)]))
        for states, numbers in joined.items()
    ]
    return [subset for _, subset in sorted(made, key=lambda item: item[0])]


def _subset(
    states: tuple[tuple[_AddressKey, bool], ...], addresses: dict[_AddressKey, Address],
    ports: list[Port | None],
) -> Subset:  # fmt: skip
    made: Subset = {}
    for name, wanted in (("addresses", True), ("notReadyAddresses", False)):
        found = [addresses[key] for key, is_ready in states if is_ready == wanted]
        if found:
            made[name] = found
    found_ports = [port for port in ports if port is not None]
    if found_ports:
        made["ports"] = found_ports
    return made


def are_same(one: Iterable[Subset], other: Iterable[Subset]) -> bool:
    """Whether subsets say the same; the versions of the pods that they name do not count."""
    return [_comparable(each) for each in repack(one)] == [
        _comparable(each) for each in repack(other)
    ]


def _comparable(subset: Subset) -> object:
    ready, waiting = subset.get("addresses") or (), subset.get("notReadyAddresses") or ()
    lists = [_bare(one) for one in ready], [_bare(one) for one in waiting]
    return lists, [port_key(one) for one in subset.get("ports") or ()]


def _bare(address: Address) -> Address:
    target = address.get("targetRef")
    if not target or "resourceVersion" not in target:
        return address
    return {**address, "targetRef": {k: v for k, v in target.items() if k != "resourceVersion"}}
