"""What a pod sandbox request tells of the pod's network, in the network's terms (pure)."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import InvalidRequestError
from runtime.network.request import Bandwidth, Dns, PodFacts, PortMapping, Protocol, distinct

INGRESS_BANDWIDTH: Final = "kubernetes.io/ingress-bandwidth"
EGRESS_BANDWIDTH: Final = "kubernetes.io/egress-bandwidth"

_MAX_PORTS: Final = 1024
_PROTOCOLS: Final = {cri.TCP: Protocol.TCP, cri.UDP: Protocol.UDP, cri.SCTP: Protocol.SCTP}
_QUANTITY: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([kMGTP]|[KMGTP]i|)")
_UNITS: Final = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
    "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50,
}  # fmt: skip
# Kubernetes' own bounds of these annotations.
_LOWEST_BANDWIDTH: Final = 10**3
_HIGHEST_BANDWIDTH: Final = 10**15


def pod_facts(config: cri.PodSandboxConfig) -> PodFacts:
    """Return what the network is to know of a pod that has one of its own.

    Raises:
        InvalidRequestError: a port mapping, address or annotation is malformed.
    """
    return PodFacts(
        name=config.metadata.name,
        namespace=config.metadata.namespace,
        uid=config.metadata.uid,
        ports=port_mappings(config),
        bandwidth=Bandwidth(
            ingress=_bandwidth(config.annotations, INGRESS_BANDWIDTH),
            egress=_bandwidth(config.annotations, EGRESS_BANDWIDTH),
        ),
        dns=Dns(
            servers=tuple(config.dns_config.servers),
            searches=tuple(config.dns_config.searches),
            options=tuple(config.dns_config.options),
        ),
        cgroup=config.linux.cgroup_parent,
    )


def port_mappings(config: cri.PodSandboxConfig) -> tuple[PortMapping, ...]:
    """Return the ports that the node is to forward; a host port of 0 asks for nothing.

    Raises:
        InvalidRequestError: naming the mapping and the reason.
    """
    result: list[PortMapping] = []
    for number, mapping in enumerate(config.port_mappings):
        if not mapping.host_port:
            continue
        if mapping.protocol not in _PROTOCOLS:
            raise InvalidRequestError(f"port_mappings[{number}]: protocol {mapping.protocol}")
        try:
            result.append(
                PortMapping(
                    protocol=_PROTOCOLS[mapping.protocol],
                    host_port=mapping.host_port,
                    container_port=mapping.container_port,
                    host_ip=_address(mapping.host_ip),
                )
            )
        except ValueError as error:
            raise InvalidRequestError(f"port_mappings[{number}]: {error}") from error
    if len(result) > _MAX_PORTS:
        raise InvalidRequestError(f"port_mappings: more than {_MAX_PORTS} host ports")
    try:
        return distinct(result)
    except ValueError as error:
        raise InvalidRequestError(f"port_mappings: {error}") from error


def _address(text: str) -> str:
    """Return the canonical form, so that equal addresses are equal strings."""
    if not text:
        return ""
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _bandwidth(annotations: Mapping[str, str], name: str) -> int:
    text = annotations.get(name, "")
    if not text:
        return 0
    match = _QUANTITY.fullmatch(text)
    bits = int(Decimal(match[1]) * _UNITS[match[2]]) if match else 0
    if not _LOWEST_BANDWIDTH <= bits <= _HIGHEST_BANDWIDTH:
        raise InvalidRequestError(
            f"annotation {name}: {text!r} is no quantity within 1k and 1P (bits per second)"
        )
    return bits
