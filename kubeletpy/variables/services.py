"""Variables that tell containers where services are, as the Go kubelet makes them.

Of a service ``redis-primary`` on port 6379: ``REDIS_PRIMARY_SERVICE_HOST``, ``..._SERVICE_PORT``,
one ``..._SERVICE_PORT_<NAME>`` for each named port, and the older ``REDIS_PRIMARY_PORT``,
``..._PORT_6379_TCP``, ``..._PROTO``, ``..._PORT``, ``..._ADDR``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.reflector import Reflector, Synced

MASTER = ("default", "kubernetes")
"""The service of the API server, which all pods see."""
FIRST_LIST = 10.0
"""Seconds that a container waits for the first list of services."""


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a service."""

    number: int
    name: str = ""
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class Service:
    """What is kept of a service."""

    namespace: str
    name: str
    address: str
    ports: tuple[ServicePort, ...]


def service_of(found: dict[str, Any]) -> Service | None:
    """Return what counts of a service; None if it has no address of its own (pure)."""
    meta, spec = found["metadata"], found.get("spec", {})
    address = spec.get("clusterIP") or ""
    ports = tuple(
        ServicePort(port["port"], port.get("name") or "", port.get("protocol") or "TCP")
        for port in spec.get("ports") or []
    )
    if address in ("", "None") or not ports:
        return None
    return Service(meta["namespace"], meta["name"], address, ports)


def seen_by(services: Iterable[Service], namespace: str, *, links: bool) -> list[Service]:
    """Return the services that a pod sees, by name (pure).

    Args:
        services: all of them.
        namespace: the pod's.
        links: ``enableServiceLinks``; without it only the API server's.
    """
    found: dict[str, Service] = {}
    for service in services:
        if (service.namespace, service.name) == MASTER:
            found.setdefault(service.name, service)
        elif service.namespace == namespace and links:
            found[service.name] = service
    return [found[name] for name in sorted(found)]


def variables(services: Iterable[Service]) -> dict[str, str]:
    """Return the variables of services (pure)."""
    result: dict[str, str] = {}
    for service in services:
        name = _upper(service.name)
        address, first = service.address, service.ports[0]
        result[f"{name}_SERVICE_HOST"] = address
        result[f"{name}_SERVICE_PORT"] = str(first.number)
        for port in service.ports:
            if port.name:
                result[f"{name}_SERVICE_PORT_{_upper(port.name)}"] = str(port.number)
        shown = f"[{address}]" if ":" in address else address
        result[f"{name}_PORT"] = f"{first.protocol.lower()}://{shown}:{first.number}"
        for port in service.ports:
            protocol = port.protocol.lower()
            prefix = f"{name}_PORT_{port.number}_{port.protocol.upper()}"
            result[prefix] = f"{protocol}://{shown}:{port.number}"
            result[f"{prefix}_PROTO"] = protocol
            result[f"{prefix}_PORT"] = str(port.number)
            result[f"{prefix}_ADDR"] = address
    return result


def _upper(name: str) -> str:
    return name.replace("-", "_").upper()


class Services:
    """The services of the cluster, followed by watch.

    Args:
        client: of the API server; None: there are none.
    """

    def __init__(self, client: ApiClient | None) -> None:
        self._client = client
        self._known: dict[tuple[str, str], Service] = {}
        self._listed = asyncio.Event()

    async def run(self) -> None:
        """Follow the services until cancelled."""
        assert self._client is not None
        async for each in Reflector(self._client, "/api/v1/services"):
            if isinstance(each, Synced):
                self._known.clear()
                for found in each.items:
                    self._take(found)
                self._listed.set()
            elif each.kind == "DELETED":
                meta = each.object["metadata"]
                self._known.pop((meta["namespace"], meta["name"]), None)
            else:
                self._take(each.object)

    def _take(self, found: dict[str, Any]) -> None:
        meta = found["metadata"]
        service = service_of(found)
        if service is None:
            self._known.pop((meta["namespace"], meta["name"]), None)
        else:
            self._known[service.namespace, service.name] = service

    async def variables(self, namespace: str, *, links: bool, wait: bool = True) -> dict[str, str]:
        """Return the variables that containers of a namespace get.

        Args:
            namespace: the pod's.
            links: see `seen_by`.
            wait: for the first list; static pods start without it.

        Raises:
            TimeoutError: the services have not been listed yet.
        """
        if self._client is None:
            return {}
        if wait and not self._listed.is_set():
            async with asyncio.timeout(FIRST_LIST):
                await self._listed.wait()
        return variables(seen_by(self._known.values(), namespace, links=links))
