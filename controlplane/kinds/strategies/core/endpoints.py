"""Endpoints and EndpointSlice.

Source: Kubernetes documentation, "EndpointSlices"; API reference; KEP-752, KEP-3015.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import (
    label_key_problems,
    label_value_problems,
    range_problems,
    subdomain_problems,
)
from controlplane.api.metadata import (
    check_labels,
    duplicate,
    immutable,
    required,
    too_many,
    unsupported,
    wrong,
)
from controlplane.api.resource import Column, Context, Object, Strategy
from controlplane.kinds.strategies.core.addresses import (
    check_endpoint_ip,
    check_ip,
    ip_warnings,
    parse_ip,
)
from controlplane.kinds.strategies.core.ports import PROTOCOLS, check_label_name, check_node_name

_SHOWN: Final = 3
_TYPES: Final = ["FQDN", "IPv4", "IPv6"]
_MANAGED: Final = "endpointslice.kubernetes.io/managed-by"
_CONTROLLERS: Final = (
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
)


class EndpointsStrategy(Strategy):
    """See the module."""

    create_on_update = True
    generation = False
    has_status = False
    columns = (Column("Endpoints", description="Addresses and ports."),)

    def default(self, value: Object) -> None:
        """Put in the defaults."""
        for subset in value.get("subsets", []):
            for port in subset.get("ports", []):
                port["protocol"] = port.get("protocol") or "TCP"

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        if old is not None and value.get("subsets") == old.get("subsets"):
            return []
        causes: list[Cause] = []
        for index, subset in enumerate(value.get("subsets", [])):
            causes += _check_subset(subset, f"subsets[{index}]")
        return causes

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear."""
        return ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        found: list[str] = []
        for subset in value.get("subsets", []):
            ips = [address.get("ip", "") for address in subset.get("addresses", [])]
            if not subset.get("ports"):
                found += ips
            for port in subset.get("ports", []):
                found += [f"[{ip}]:{port['port']}" if ":" in ip else f"{ip}:{port['port']}"
                          for ip in ips]  # fmt: skip
        return [_some(found) if value.get("subsets") else "<none>"]


class EndpointSliceStrategy(Strategy):
    """See the module."""

    has_status = False
    columns = (
        Column("AddressType", description="IPv4, IPv6 or FQDN."),
        Column("Ports", description="Of every endpoint."),
        Column("Endpoints", description="Their addresses."),
    )

    def default(self, value: Object) -> None:
        """Put in the defaults."""
        for port in value.get("ports", []):
            port.setdefault("name", "")
            port.setdefault("protocol", "TCP")
        for endpoint in value.setdefault("endpoints", []):
            endpoint.setdefault("conditions", {})

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop what this version does not take."""
        for endpoint in value["endpoints"]:
            endpoint.pop("deprecatedTopology", None)

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Likewise, where endpoints change."""
        if value["endpoints"] != old.get("endpoints"):
            self.prepare_create(value, context)

    def is_new_generation(self, value: Object, old: Object) -> bool:
        """Labels are part of what is meant: they name the service."""
        labels = [one["metadata"].get("labels", {}) for one in (value, old)]
        return labels[0] != labels[1] or super().is_new_generation(value, old)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        kind = value.get("addressType", "")
        causes: list[Cause] = []
        if not kind:
            causes.append(required("addressType"))
        elif kind not in _TYPES:
            causes.append(unsupported("addressType", kind, _TYPES))
        causes += _check_ports(value.get("ports", []))
        if old is None or value["endpoints"] != old.get("endpoints"):
            causes += _check_endpoints(value["endpoints"], kind)
        if old is not None and kind != old.get("addressType"):
            causes.append(immutable("addressType", kind))
        return causes

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear."""
        found: list[str] = []
        if value.get("addressType") == "FQDN":
            return ["spec.addressType: FQDN endpoints are deprecated"]
        if value["metadata"].get("labels", {}).get(_MANAGED) in _CONTROLLERS:
            return found
        for index, endpoint in enumerate(value["endpoints"]):
            for place, address in enumerate(endpoint.get("addresses", [])):
                found += ip_warnings(address, f"endpoints[{index}].addresses[{place}]")
        return found

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        ports = [str(port.get("port", port.get("name", "*"))) for port in value.get("ports", [])]
        addresses = [a for e in value.get("endpoints", []) for a in e.get("addresses", [])]
        kind = value.get("addressType", "")
        return [kind, _some(ports) or "<unset>", _some(addresses) or "<unset>"]


def _some(found: list[str]) -> str:
    text = ",".join(found[:_SHOWN])
    return f"{text} + {len(found) - _SHOWN} more..." if len(found) > _SHOWN else text


def _check_subset(subset: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        causes.append(required(path, "must specify `addresses` or `notReadyAddresses`"))
    for key in ("addresses", "notReadyAddresses"):
        for index, address in enumerate(subset.get(key, [])):
            at = f"{path}.{key}[{index}]"
            ip = address.get("ip", "")
            causes += check_ip(ip, f"{at}.ip")
            if address.get("hostname"):
                causes += check_label_name(address["hostname"], f"{at}.hostname")
            if "nodeName" in address:
                causes += check_node_name(address["nodeName"], f"{at}.nodeName")
            causes += check_endpoint_ip(ip, f"{at}.ip")
    ports = subset.get("ports", [])
    for index, port in enumerate(ports):
        at, name, number = f"{path}.ports[{index}]", port.get("name", ""), port.get("port", 0)
        if name:
            causes += check_label_name(name, f"{at}.name")
        elif len(ports) > 1:
            causes.append(required(f"{at}.name"))
        causes += [wrong(f"{at}.port", number, why) for why in range_problems(number, 1, 65535)]
        causes += _check_protocol(port, at)
    return causes


def _check_protocol(port: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if port.get("protocol", "") not in PROTOCOLS:
        causes.append(unsupported(f"{path}.protocol", port.get("protocol", ""), list(PROTOCOLS)))
    if "appProtocol" in port:
        name = port["appProtocol"]
        causes += [wrong(f"{path}.appProtocol", name, why) for why in label_key_problems(name)]
    return causes


def _check_ports(ports: list[Object]) -> list[Cause]:
    if len(ports) > 20_000:
        return [too_many("ports", len(ports), 20_000)]
    causes: list[Cause] = []
    names: set[str] = set()
    for index, port in enumerate(ports):
        path, name = f"ports[{index}]", port["name"]
        if name:
            causes += check_label_name(name, f"{path}.name")
        if name in names:
            causes.append(duplicate(f"{path}.name", name))
        names.add(name)
        causes += _check_protocol(port, path)
    return causes


def _check_endpoints(endpoints: list[Object], kind: str) -> list[Cause]:
    if len(endpoints) > 1000:
        return [too_many("endpoints", len(endpoints), 1000)]
    causes: list[Cause] = []
    for index, endpoint in enumerate(endpoints):
        path = f"endpoints[{index}]"
        addresses = endpoint.get("addresses", [])
        if not addresses:
            text = "must contain at least 1 address"
            causes.append(required(f"{path}.addresses", text))
        elif len(addresses) > 100:
            causes.append(too_many(f"{path}.addresses", len(addresses), 100))
        for place, address in enumerate(addresses):
            causes += _check_address(address, kind, f"{path}.addresses", place)
        if "nodeName" in endpoint:
            causes += check_node_name(endpoint["nodeName"], f"{path}.nodeName")
        topology = endpoint.get("deprecatedTopology", {})
        if len(topology) > 16:
            causes.append(too_many(f"{path}.deprecatedTopology", len(topology), 16))
        causes += check_labels(topology, f"{path}.deprecatedTopology")
        if "hostname" in endpoint:
            causes += check_label_name(endpoint["hostname"], f"{path}.hostname")
        causes += _check_hints(endpoint.get("hints", {}), f"{path}.hints")
    return causes


def _check_address(text: str, kind: str, path: str, place: int) -> list[Cause]:
    at = f"{path}[{place}]"
    if kind == "FQDN":
        return _check_domain(text, at)
    if kind not in _TYPES:
        return []
    causes = check_ip(text, at)
    address = parse_ip(text)
    if causes or address is None:
        return causes
    if kind == "IPv6" and str(address) != text:
        return [wrong(at, text, f'must be in canonical form ("{address}")')]
    if f"IPv{address.version}" != kind:
        causes.append(wrong(path, text, f"must be an {kind} address"))
    return causes + check_endpoint_ip(text, at)


def _check_domain(text: str, path: str) -> list[Cause]:
    name = text.removesuffix(".")
    if not text:
        return [required(path)]
    problems = subdomain_problems(name)
    if problems:
        return [wrong(path, name, ",".join(problems))]
    if "." not in name:
        why = "should be a domain with at least two segments separated by dots"
        return [wrong(path, name, why)]
    return []


def _check_hints(hints: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, problems in (("forZones", label_value_problems), ("forNodes", subdomain_problems)):
        found = hints.get(key, [])
        if len(found) > 8:
            return [*causes, too_many(f"{path}.{key}", len(found), 8)]
        names: set[str] = set()
        for index, one in enumerate(found):
            at, name = f"{path}.{key}[{index}].name", one.get("name", "")
            if name in names:
                causes.append(duplicate(at, name))
            names.add(name)
            causes += [wrong(at, name, why) for why in problems(name)]
    return causes
