"""What NetworkPolicies mean, written down once more and as plainly as can be: the reference.

Nothing here knows rules, sets or selectors of ours. https://kubernetes.io/docs/concepts/
services-networking/network-policies/ and the API's own words are the source.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Traffic:
    """The first packet of a connection: from where to where, translated already."""

    source: str
    destination: str
    protocol: str
    port: int


@dataclass
class World:
    """All objects that count, as the API has them.

    Attributes:
        node: whose rules are asked for; what concerns pods elsewhere is enforced there.
    """

    pods: list[Json] = field(default_factory=list)
    namespaces: list[Json] = field(default_factory=list)
    policies: list[Json] = field(default_factory=list)
    node: str = ""

    def allows(self, traffic: Traffic) -> bool:
        """Say whether this node lets the traffic pass between two others."""
        source, destination = (self._pod(each) for each in (traffic.source, traffic.destination))
        if traffic.source == traffic.destination:
            return True
        leaves = source is None or self._allows(source, traffic, "Egress", destination)
        enters = destination is None or self._allows(destination, traffic, "Ingress", source)
        return leaves and enters

    def _pod(self, address: str) -> Json | None:
        """The newest pod that has an address now."""
        found = [
            pod
            for pod in self.pods
            if not pod["spec"].get("hostNetwork")
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
            and address in [each["ip"] for each in pod["status"].get("podIPs", [])]
        ]
        return max(found, key=lambda pod: str(pod["metadata"].get("creationTimestamp", "")),
                   default=None)  # fmt: skip

    def _allows(self, pod: Json, traffic: Traffic, way: str, other: Json | None) -> bool:
        if pod["spec"].get("nodeName") != self.node:
            return True
        about = [
            policy
            for policy in self.policies
            if policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
            and way in _types(policy["spec"])
            and _selects(policy["spec"].get("podSelector", {}), _labels(pod))
        ]
        if not about:
            return True
        target = self._pod(traffic.destination)
        return any(
            self._peers(rule.get("from" if way == "Ingress" else "to"), policy, traffic, way, other)
            and _ports(rule.get("ports"), traffic, target)
            for policy in about
            for rule in policy["spec"].get(way.lower()) or []
        )

    def _peers(
        self, peers: Sequence[Json] | None, policy: Json, traffic: Traffic, way: str,
        other: Json | None,
    ) -> bool:  # fmt: skip
        address = traffic.source if way == "Ingress" else traffic.destination
        return not peers or any(
            self._peer(each, policy["metadata"]["namespace"], address, other) for each in peers
        )

    def _peer(self, peer: Json, namespace: str, address: str, other: Json | None) -> bool:
        if "ipBlock" in peer:
            block = peer["ipBlock"]
            return _in(address, block["cidr"]) and not any(
                _in(address, each) for each in block.get("except", [])
            )
        if other is None:
            return False
        if "namespaceSelector" in peer:
            labels = [
                _labels(each)
                for each in self.namespaces
                if each["metadata"]["name"] == other["metadata"]["namespace"]
            ]
            there = bool(labels) and _selects(peer["namespaceSelector"], labels[0])
        else:
            there = other["metadata"]["namespace"] == namespace
        return there and _selects(peer.get("podSelector", {}), _labels(other))


def _types(spec: Json) -> list[str]:
    given = spec.get("policyTypes")
    if given:
        return list(given)
    return ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]


def _ports(ports: Sequence[Json] | None, traffic: Traffic, target: Json | None) -> bool:
    return not ports or any(_port(each, traffic, target) for each in ports)


def _port(port: Json, traffic: Traffic, target: Json | None) -> bool:
    if port.get("protocol", "TCP") != traffic.protocol:
        return False
    wanted = port.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        if target is None:
            return False
        for container in target["spec"].get("containers", []):
            for each in container.get("ports", []):
                if (each.get("name"), each.get("protocol", "TCP")) == (wanted, traffic.protocol):
                    return bool(each["containerPort"] == traffic.port)
        return False
    last: int = port.get("endPort") or wanted
    return bool(wanted <= traffic.port <= last)


def _selects(selector: Json, labels: Mapping[str, str]) -> bool:
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for each in selector.get("matchExpressions", []):
        has, value = each["key"] in labels, labels.get(each["key"])
        fits = {
            "In": has and value in each.get("values", []),
            "NotIn": not has or value not in each.get("values", []),
            "Exists": has,
            "DoesNotExist": not has,
        }[each["operator"]]
        if not fits:
            return False
    return True


def _labels(thing: Json) -> dict[str, str]:
    return dict(thing["metadata"].get("labels") or {})


def _in(address: str, cidr: str) -> bool:
    one, network = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    return one.version == network.version and one in network


def namespace(name: str, **labels: str) -> Json:
    """Make a namespace."""
    return {
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name, **labels}},
    }  # fmt: skip


def pod(
    key: str, addresses: Sequence[str], *, node: str = "", labels: Mapping[str, str] | None = None,
    ports: Sequence[tuple[str, str, int]] = (), phase: str = "Running", host_network: bool = False,
    born: str = "2026-01-01T00:00:00Z",
) -> Json:  # fmt: skip
    """Make a pod of the name ``namespace/name``; ``ports`` are name, protocol and number."""
    space, _, name = key.partition("/")
    declared = [
        {"name": name, "protocol": protocol, "containerPort": number}
        for name, protocol, number in ports
    ]
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": space, "name": name, "labels": dict(labels or {}),
                     "creationTimestamp": born, "uid": key},
        "spec": {"nodeName": node, "hostNetwork": host_network,
                 "containers": [{"name": "main", "ports": declared}]},
        "status": {"phase": phase, "podIPs": [{"ip": each} for each in addresses]},
    }  # fmt: skip


def policy(key: str, selector: Json, **spec: Any) -> Json:
    """Make a policy of the name ``namespace/name`` for the pods that ``selector`` selects."""
    space, _, name = key.partition("/")
    return {
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"namespace": space, "name": name, "uid": key},
        "spec": {"podSelector": selector, **spec},
    }  # fmt: skip
