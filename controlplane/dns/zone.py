"""What a name of the cluster means (pure, of a ``Directory``).

Source: Kubernetes DNS-Based Service Discovery, specification 1.1.0; the numbers in brackets are
its sections. What it leaves open (identifiers of endpoints without hostname, SOA, names between)
is as CoreDNS has it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final, Protocol

from . import wire
from .wire import Answer

SCHEMA: Final = "1.1.0"
_PRIORITY, _WEIGHT = 0, 100
_SOA_TIMES: Final = (7200, 1800, 86400)
_FAMILIES: Final = {wire.A: 4, wire.AAAA: 6}


@dataclass(frozen=True, slots=True)
class Port:
    """A port that has a name."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint that is ready.

    Attributes:
        hostname: below its Service; of its address, where it has none.
        addresses: of it.
        ports: that it has.
    """

    hostname: str
    addresses: tuple[str, ...]
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Service:
    """A Service as DNS sees it.

    Attributes:
        namespace, name: of it.
        addresses: of the cluster; empty: headless.
        external: name that it stands for; "": none.
        ports: that have names.
    """

    namespace: str
    name: str
    addresses: tuple[str, ...] = ()
    external: str = ""
    ports: tuple[Port, ...] = ()

    @property
    def headless(self) -> bool:
        """Whether its names lead to its endpoints."""
        return not self.addresses and not self.external


class Directory(Protocol):
    """What is known of the cluster."""

    def has_namespace(self, name: str) -> bool:
        """Whether there is a namespace."""

    def service(self, namespace: str, name: str) -> Service | None:
        """Return a Service."""

    def endpoints(self, service: Service) -> list[Endpoint]:
        """Return the ready endpoints of a Service."""

    def names_of(self, address: str) -> list[tuple[str, Service]]:
        """Return the Services that an address is of, and its hostname there ("": the Service)."""

    def has_pod(self, namespace: str, address: str) -> bool:
        """Whether a pod has an address, or may have it, as far as is known."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A name that stands for another one, whose records are to be found.

    Attributes:
        target: the other name.
        record: that says so.
    """

    target: str
    record: bytes


class Zone:
    """The names of a cluster.

    Args:
        domain: of the cluster, as ``cluster.local``.
        directory: knows what there is.
        ttl: seconds for which answers are good.
        negative_ttl: seconds for which it is good that there is no such name.
    """

    def __init__(
        self, domain: str, directory: Directory, *, ttl: int = 30, negative_ttl: int = 5
    ) -> None:
        self.labels = domain.strip(".").lower().split(".")
        self.serial = 1
        self._directory = directory
        self._ttl = ttl
        self._negative = negative_ttl

    def answer(self, name: list[str], kind: int) -> Answer | Alias | None:
        """Return what is said of a name; None: it is no name of the cluster.

        Args:
            name: its labels in lower case.
            kind: the type that is asked for.
        """
        count = len(self.labels)
        if name[-count:] == self.labels:
            return self._inside(name[:-count], kind)
        if name[-1:] == ["arpa"]:
            return self._reverse(name, kind)
        return None

    def _inside(self, rest: list[str], kind: int) -> Answer | Alias:
        match rest:
            case []:
                return self._apex(kind)
            case ["dns-version"]:  # 2.2
                text = SCHEMA.encode()
                return self._only(kind, wire.TXT, [bytes((len(text),)) + text])
            case ["ns", "dns"]:
                service = self._directory.service("kube-system", "kube-dns")
                return self._addresses(kind, service.addresses if service is not None else ())
            case ["dns"] | ["svc"] | ["pod"]:
                return self._nothing()
            case [*before, "svc"]:
                return self._below_services(before, kind)
            case [namespace, "pod"]:
                return self._namespace(namespace)
            case [address, namespace, "pod"]:
                return self._pod(address, namespace, kind)
        return self._no_name()

    def _below_services(self, rest: list[str], kind: int) -> Answer | Alias:
        if len(rest) == 1:
            return self._namespace(rest[0])
        service = self._directory.service(rest[-1], rest[-2])
        if service is None or len(rest) > 4:
            return self._no_name()
        if len(rest) == 2:
            return self._service(service, kind)
        if service.external:
            return self._no_name()
        if len(rest) == 4:
            return self._ports(service, rest[0], rest[1], kind)
        if rest[0] in ("_tcp", "_udp", "_sctp"):
            there = any(f"_{port.protocol}" == rest[0] for _, port in self._all_ports(service))
            return self._nothing() if there else self._no_name()
        return self._host(service, rest[0], kind)

    def _service(self, service: Service, kind: int) -> Answer | Alias:
        if service.external:  # 2.5
            try:
                target = wire.name_wire(*service.external.rstrip(".").split("."))
            except ValueError:
                return Answer(wire.SERVFAIL)
            record = wire.record(wire.SELF, wire.CNAME, self._ttl, target)
            return Answer(records=(record,)) if kind == wire.CNAME else Alias(
                service.external, record
            )  # fmt: skip
        if not service.headless:  # 2.3.1
            return self._addresses(kind, service.addresses)
        endpoints = self._directory.endpoints(service)  # 2.4.1
        if not endpoints:
            return self._no_name()
        return self._addresses(kind, [ip for one in endpoints for ip in one.addresses])

    def _host(self, service: Service, hostname: str, kind: int) -> Answer:
        endpoints = self._directory.endpoints(service)
        found = [ip for one in endpoints if one.hostname == hostname for ip in one.addresses]
        return self._addresses(kind, found) if found else self._no_name()

    def _all_ports(self, service: Service) -> Iterable[tuple[Endpoint | None, Port]]:
        if not service.headless:
            return [(None, port) for port in service.ports]
        endpoints = self._directory.endpoints(service)
        return [(one, port) for one in endpoints for port in one.ports]

    def _ports(self, service: Service, name: str, protocol: str, kind: int) -> Answer:
        """Return the SRV records of a port (2.3.2, 2.4.2)."""
        found = [
            (endpoint, port) for endpoint, port in self._all_ports(service)
            if name == f"_{port.name}" and protocol == f"_{port.protocol}"
        ]  # fmt: skip
        if not found:
            return self._no_name()
        if kind not in (wire.SRV, wire.ANY):
            return self._nothing()
        own = (service.name, service.namespace, "svc", *self.labels)
        records, additional = [], []
        for endpoint, port in found:
            target = wire.name_wire(*((endpoint.hostname,) if endpoint else ()), *own)
            data = b"".join(n.to_bytes(2, "big") for n in (_PRIORITY, _WEIGHT, port.number))
            records.append(wire.record(wire.SELF, wire.SRV, self._ttl, data + target))
            for ip in endpoint.addresses if endpoint else service.addresses:
                packed, family = _packed(ip)
                additional.append(wire.record(target, family, self._ttl, packed))
        return Answer(records=_once(records), additional=_once(additional))

    def _pod(self, dashed: str, namespace: str, kind: int) -> Answer:
        """Return the address that is in the name (2.6 of version 1.0)."""
        address = _undashed(dashed)
        if address is None or not self._directory.has_pod(namespace, address):
            return self._no_name()
        return self._addresses(kind, [address])

    def _reverse(self, name: list[str], kind: int) -> Answer | None:
        """Return the names of an address (2.3.3, 2.4.3); None: others may know."""
        address = address_of(name)
        found = self._directory.names_of(address) if address else []
        if not found:
            return None
        names = [
            wire.name_wire(*((hostname,) if hostname else ()), service.name, service.namespace,
                           "svc", *self.labels)
            for hostname, service in found
        ]  # fmt: skip
        return self._only(kind, wire.PTR, names)

    def _namespace(self, name: str) -> Answer:
        return self._nothing() if self._directory.has_namespace(name) else self._no_name()

    def _apex(self, kind: int) -> Answer:
        if kind == wire.NS:
            return self._only(kind, wire.NS, [wire.name_wire("ns", "dns", *self.labels)])
        if kind in (wire.SOA, wire.ANY):
            return Answer(records=(self._soa(wire.SELF),))
        return self._nothing()

    def _addresses(self, kind: int, addresses: Iterable[str]) -> Answer:
        wanted = [packed for packed, family in map(_packed, addresses) if family == kind]
        return self._only(kind, kind if kind in _FAMILIES else -1, wanted)

    def _only(self, kind: int, has: int, data: list[bytes]) -> Answer:
        """Return the records of the one type that a name has, if it is asked for."""
        if kind == wire.ANY:
            # RFC 8482, 4.2: who asks for all gets one record that says no.
            says = wire.record(wire.SELF, wire.HINFO, self._ttl, b"\x07RFC8482\x00")
            return Answer(records=(says,))
        if kind != has or not data:
            return self._nothing()
        made = [wire.record(wire.SELF, kind, self._ttl, one) for one in data]
        return Answer(records=_once(made))

    def _nothing(self) -> Answer:
        """Return that the name is there, without records of this type."""
        return Answer(authority=(self._soa(),))

    def _no_name(self) -> Answer:
        return Answer(wire.NXDOMAIN, authority=(self._soa(),))

    def _soa(self, owner: bytes = b"") -> bytes:
        data = b"".join((
            wire.name_wire("ns", "dns", *self.labels),
            wire.name_wire("hostmaster", *self.labels),
            *(n.to_bytes(4, "big") for n in (self.serial, *_SOA_TIMES, self._negative)),
        ))  # fmt: skip
        return wire.record(owner or wire.name_wire(*self.labels), wire.SOA, self._negative, data)


def dashed(address: str) -> str:
    """Return an address as a label: the identifier of an endpoint that has no hostname."""
    return address.replace(".", "-").replace(":", "-")


def _undashed(label: str) -> str | None:
    for mark in (".", ":"):
        try:
            return str(ip_address(label.replace("-", mark)))
        except ValueError:
            continue
    return None


def address_of(name: list[str]) -> str:
    """Return the address that a name for reverse look-ups is of; "": none."""
    match name:
        case [*parts, "in-addr", "arpa"] if len(parts) == 4:
            text = ".".join(reversed(parts))
        case [*parts, "ip6", "arpa"] if len(parts) == 32:
            digits = "".join(reversed(parts))
            text = ":".join(digits[at : at + 4] for at in range(0, 32, 4))
        case _:
            return ""
    try:
        return str(ip_address(text))
    except ValueError:
        return ""


def _packed(address: str) -> tuple[bytes, int]:
    """Return the bytes of an address and its type of record."""
    found = ip_address(address)
    return found.packed, wire.AAAA if isinstance(found, IPv6Address) else wire.A


def _once(records: list[bytes]) -> tuple[bytes, ...]:
    return tuple(dict.fromkeys(records))
