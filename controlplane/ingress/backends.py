"""Where the requests for a Service go (pure)."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .model import Upstream


class BackendError(ValueError):
    """A backend that cannot be served; the message says why."""


@dataclass(frozen=True, slots=True)
class World:
    """What the API server has, as far as an Ingress can name it; all by namespace and name.

    Attributes:
        service: returns a Service; None: there is none.
        slices: returns the EndpointSlices of a Service.
        secret: returns the data of a Secret; None: there is none.
    """

    service: Callable[[str, str], Mapping[str, Any] | None]
    slices: Callable[[str, str], Sequence[Mapping[str, Any]]]
    secret: Callable[[str, str], Mapping[str, bytes] | None]


def upstream_of(
    namespace: str, backend: Mapping[str, Any], world: World, *, direct: bool
) -> Upstream:
    """Return where the requests for a backend of an Ingress go.

    That is the address of its Service, so that nothing is configured anew when endpoints change;
    with ``direct``, or where the Service has no address, the ready endpoints.

    Raises:
        BackendError: there is no such Service or port.
    """
    named = backend.get("service")
    if not named:
        raise BackendError("backends other than Services are not supported")
    name, wanted = named["name"], named.get("port") or {}
    service = world.service(namespace, name)
    if service is None:
        raise BackendError(f"there is no Service {namespace}/{name}")
    port = _port_of(service, wanted)
    if port is None:
        raise BackendError(f"Service {namespace}/{name} has no port {_port_text(wanted)}")
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        raise BackendError(f"Service {namespace}/{name} is an ExternalName, which is not served")
    address = spec.get("clusterIP") or "None"
    if address != "None" and not direct:
        servers = [_joined(address, port["port"])]
    else:
        servers = _endpoints(world.slices(namespace, name), port.get("name", ""))
    text = f"{namespace}/{name}:{port['port']}:{direct}"
    return Upstream(f"u{hashlib.sha256(text.encode()).hexdigest()[:16]}", tuple(sorted(servers)))


def _port_of(service: Mapping[str, Any], wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    for port in service["spec"].get("ports") or ():
        if port.get("protocol", "TCP") != "TCP":
            continue
        if wanted.get("name"):
            if port.get("name") == wanted["name"]:
                return dict(port)
        elif port["port"] == wanted.get("number"):
            return dict(port)
    return None


def _port_text(wanted: Mapping[str, Any]) -> str:
    return repr(wanted.get("name")) if wanted.get("name") else str(wanted.get("number"))


def _endpoints(slices: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    found: set[str] = set()
    for one in slices:
        ports = [
            port["port"] for port in one.get("ports") or ()
            if (port.get("name") or "") == name and port.get("port")
        ]  # fmt: skip
        for endpoint in one.get("endpoints") or ():
            # Not said means ready.
            if (endpoint.get("conditions") or {}).get("ready") is not False and ports:
                found.add(_joined(endpoint["addresses"][0], ports[0]))
    return list(found)


def _joined(address: str, port: int) -> str:
    """Return ``address:port``; an address from the API that is none cannot get any further.

    Raises:
        BackendError: it is no address.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError as error:
        raise BackendError(str(error)) from None
    return f"[{ip}]:{int(port)}" if ip.version == 6 else f"{ip}:{int(port)}"
