"""networking.k8s.io/v1 NetworkPolicy."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, wrong
from controlplane.api.resource import Column, Object, Strategy
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    check_one_of,
    check_port,
    check_port_name,
    check_selector,
)

_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_TYPES: Final = ("Egress", "Ingress")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NetworkPolicy(Strategy):
    """Network policies."""

    has_status = False
    columns = (Column("Pod-Selector", description="Which pods it is for."),)

    def default(self, value: Object) -> None:
        """Put in protocols, and which directions are meant."""
        spec = value.setdefault("spec", {})
        spec.setdefault("podSelector", {})
        for direction in ("ingress", "egress"):
            for rule in spec.get(direction, ()):
                for port in rule.get("ports", ()):
                    port.setdefault("protocol", "TCP")
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with selectors, peers and ports."""
        spec = value["spec"]
        causes = check_selector(spec["podSelector"], "spec.podSelector")
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for index, rule in enumerate(spec.get(direction, ())):
                path = f"spec.{direction}[{index}]"
                for number, port in enumerate(rule.get("ports", ())):
                    causes += _check_port(port, f"{path}.ports[{number}]")
                for number, peer in enumerate(rule.get(peers, ())):
                    causes += _check_peer(peer, f"{path}.{peers}[{number}]")
        types = spec["policyTypes"]
        if len(types) > len(_TYPES):
            text = "may not specify more than two policyTypes"
            return [*causes, wrong("spec.policyTypes", types, text)]
        for index, kind in enumerate(types):
            causes += check_one_of(kind, f"spec.policyTypes[{index}]", _TYPES)
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [cells.selector(value["spec"].get("podSelector")) or cells.NONE]


def _check_port(rule: Object, path: str) -> list[Cause]:
    causes = check_one_of(rule["protocol"], f"{path}.protocol", _PROTOCOLS)
    port, end, here = rule.get("port"), rule.get("endPort"), f"{path}.endPort"
    if isinstance(port, int):
        causes += check_port(port, f"{path}.port")
        if end is not None:
            if end < port:
                text = "must be greater than or equal to `port`"
                causes.append(wrong(here, port, text))
            causes += check_port(end, here)
        return causes
    if end is not None:
        what = "not specified" if port is None else "non-numeric"
        causes.append(wrong(here, end, f"may not be specified when `port` is {what}"))
    return causes if port is None else causes + check_port_name(port, f"{path}.port")


def _check_peer(peer: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key in ("podSelector", "namespaceSelector"):
        causes += check_selector(peer.get(key), f"{path}.{key}")
    block = peer.get("ipBlock")
    if block is not None:
        causes += _check_block(block, f"{path}.ipBlock")
    given = sum(key in peer for key in ("podSelector", "namespaceSelector", "ipBlock"))
    if not given:
        causes.append(required(path, "must specify a peer"))
    elif given > 1 and block is not None:
        causes.append(forbidden(path, "may not specify both ipBlock and another peer"))
    return causes


def _check_block(block: Object, path: str) -> list[Cause]:
    if not block.get("cidr"):
        return [required(f"{path}.cidr")]
    network = _network(block["cidr"])
    if network is None:
        return [wrong(f"{path}.cidr", block["cidr"], "must be a valid CIDR value")]
    causes: list[Cause] = []
    for index, text in enumerate(block.get("except", ())):
        here, inner = f"{path}.except[{index}]", _network(text)
        if inner is None:
            causes.append(wrong(here, text, "must be a valid CIDR value"))
        elif not _is_within(inner, network):
            causes.append(wrong(here, text, "must be a strict subset of `cidr`"))
    return causes


def _network(text: str) -> Network | None:
    """Return a network whose address has no bits beyond its length, None if it is none."""
    if not re.fullmatch(r"[^/]+/(0|[1-9][0-9]*)", text, re.ASCII):
        return None
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


def _is_within(inner: Network, outer: Network) -> bool:
    if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network):
        return inner != outer and inner.subnet_of(outer)
    if isinstance(inner, ipaddress.IPv6Network) and isinstance(outer, ipaddress.IPv6Network):
        return inner != outer and inner.subnet_of(outer)
    return False
